//! Durations and sizes as people write them: `"10m"`, `"1h 30m"`, `"50MiB"`, `"10MB"`. A number without a unit is an error,
//! never a guess. Used by the settings and by the commands that take a duration (`queue extend … 5d`).

use std::time::Duration;

/// Why a text is no duration or size; reads on after "which".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("is empty")]
    Empty,
    #[error("has no unit")]
    NoUnit,
    #[error("has the unknown unit `{0}`")]
    UnknownUnit(String),
    /// humantime reads `M` as months; whoever writes `5M` for five minutes would get five months.
    #[error("has the unit `M`: a minute is `m`, and months are written in days")]
    Month,
    #[error("is not a number with a unit")]
    NotANumber,
    #[error("is not a whole number with a unit")]
    NotWhole,
    #[error("is too large")]
    TooLarge,
}

/// `"10s"`, `"5m"`, `"1h 30m"`, `"2d"`, `"1.5h"`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    if text.split(|letter: char| !letter.is_ascii_alphabetic()).any(|word| word == "M") {
        return Err(UnitError::Month);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UnitError::NoUnit);
    }
    humantime::parse_duration(text).map_err(|error| match error {
        humantime::DurationError::Empty => UnitError::Empty,
        humantime::DurationError::UnknownUnit { unit, .. } if unit.is_empty() => UnitError::NoUnit,
        humantime::DurationError::UnknownUnit { unit, .. } => UnitError::UnknownUnit(unit),
        humantime::DurationError::NumberOverflow => UnitError::TooLarge,
        humantime::DurationError::InvalidCharacter(_) | humantime::DurationError::NumberExpected(_) => UnitError::NotANumber,
    })
}

/// As it is written in the settings: `2d`, `1h 30m`, `500ms`, `0s`. Less than a millisecond is not shown.
pub fn show_duration(duration: Duration) -> String {
    const DAY: u128 = 24 * 60 * 60 * 1000;
    const UNITS: [(&str, u128); 5] = [("d", DAY), ("h", 60 * 60 * 1000), ("m", 60 * 1000), ("s", 1000), ("ms", 1)];
    let mut rest = duration.as_millis();
    let mut shown = Vec::new();
    for (name, length) in UNITS {
        if rest >= length {
            shown.push(format!("{}{name}", rest / length));
        }
        rest %= length;
    }
    if shown.is_empty() { "0s".to_owned() } else { shown.join(" ") }
}

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// `"512KiB"`, `"50 MiB"`, `"10MB"`: a whole number of bytes with a unit, in any case.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = (&text[..digits], text[digits..].trim_start());
    if text.is_empty() {
        return Err(UnitError::Empty);
    }
    if number.is_empty() || unit.starts_with(|letter: char| !letter.is_alphabetic()) {
        return Err(UnitError::NotWhole);
    }
    if unit.is_empty() {
        return Err(UnitError::NoUnit);
    }
    let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let (_, factor) = known.ok_or_else(|| UnitError::UnknownUnit(unit.to_owned()))?;
    // Digits alone: only a number past 64 bits can fail.
    let number: u64 = number.parse().map_err(|_| UnitError::TooLarge)?;
    number.checked_mul(*factor).ok_or(UnitError::TooLarge)
}

/// In the largest binary unit that leaves no rest: `50MiB`, `1500B`.
pub fn show_size(bytes: u64) -> String {
    let exact =
        UNITS.iter().rev().find(|(name, factor)| name.ends_with("iB") && bytes >= *factor && bytes.is_multiple_of(*factor));
    exact.map_or_else(|| format!("{bytes}B"), |(name, factor)| format!("{}{name}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_a_unit() {
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration(""), Err(UnitError::Empty));
        for text in ["90", "0", "00"] {
            assert_eq!(parse_duration(text), Err(UnitError::NoUnit), "{text}");
        }
        assert_eq!(parse_duration("5M"), Err(UnitError::Month));
        assert_eq!(parse_duration("2 parsecs"), Err(UnitError::UnknownUnit("parsecs".into())));
        for text in ["-5m", "ten minutes", "m"] {
            assert_eq!(parse_duration(text), Err(UnitError::NotANumber), "{text}");
        }
        assert_eq!(parse_duration("99999999999999999999d"), Err(UnitError::TooLarge));
    }

    #[test]
    fn sizes_carry_a_unit() {
        assert_eq!(parse_size("50MiB"), Ok(50 << 20));
        assert_eq!(parse_size("10MB"), Ok(10_000_000));
        assert_eq!(parse_size("512 kib"), Ok(512 << 10));
        assert_eq!(parse_size("0B"), Ok(0));
        assert_eq!(parse_size(" "), Err(UnitError::Empty));
        assert_eq!(parse_size("90"), Err(UnitError::NoUnit));
        assert_eq!(parse_size("50M"), Err(UnitError::UnknownUnit("M".into())));
        for text in ["-1MiB", "1.5MiB", "MiB", "1_000B"] {
            assert_eq!(parse_size(text), Err(UnitError::NotWhole), "{text}");
        }
        for text in ["99999999999999999999B", "18446744073709551615KB"] {
            assert_eq!(parse_size(text), Err(UnitError::TooLarge), "{text}");
        }
    }

    #[test]
    fn sizes_and_durations_are_shown_as_they_are_written() {
        for text in ["50MiB", "2GiB", "512KiB", "1500B", "0B", "1025KiB"] {
            assert_eq!(show_size(parse_size(text).unwrap()), text);
        }
        for text in ["2d", "365d", "1h 30m", "61d 1s", "10s", "1s 500ms", "0s"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
    }
}
