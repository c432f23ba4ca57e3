//! One kind of value each: a TOML value in, what is used inside out, or the fault in words.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

use super::Rate;
use super::reader::Fault;
use super::units::{self, UnitError};
use crate::mail::{Domain, closest};

const DURATION_HELP: &str = "durations need a unit, like \"10m\": s, m, h or d";
const RATE_HELP: &str = "so many in a while, like \"50/1h\"";
const SIZE_HELP: &str = "sizes need a unit, like \"50MiB\": B, KiB, MiB, GiB, KB, MB or GB";

pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Fault> {
    match value {
        DeValue::String(text) => Ok(text),
        list @ (DeValue::Array(_) | DeValue::Table(_)) => Err(Fault::kind("text", list)),
        other => Err(Fault::kind("text", other).help("text stands in quotes")),
    }
}

pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, Fault> {
    match value {
        DeValue::Boolean(flag) => Ok(*flag),
        other => Err(Fault::kind("true or false", other).help("without quotes: true or false")),
    }
}

pub(super) fn count(value: &DeValue<'_>, range: RangeInclusive<usize>) -> Result<usize, Fault> {
    let DeValue::Integer(number) = value else {
        return Err(Fault::kind("a whole number", value).help("without quotes, fraction and unit"));
    };
    let bounds = || Fault::new(format!("is {number}; it must be from {} to {}", range.start(), range.end()));
    let count = usize::from_str_radix(number.as_str(), number.radix()).map_err(|_| bounds())?;
    if range.contains(&count) { Ok(count) } else { Err(bounds()) }
}

/// Longer than nothing, at most `max`.
pub(super) fn duration(value: &DeValue<'_>, max: Duration) -> Result<Duration, Fault> {
    match duration_or_zero(value, max)? {
        Duration::ZERO => Err(Fault::new("is nothing; it must be longer")),
        duration => Ok(duration),
    }
}

pub(super) fn duration_or_zero(value: &DeValue<'_>, max: Duration) -> Result<Duration, Fault> {
    let duration = quantity(value, units::parse_duration, DURATION_HELP)?;
    if duration > max {
        let (duration, max) = (units::show_duration(duration), units::show_duration(max));
        return Err(Fault::new(format!("is {duration}; the most is {max}")));
    }
    Ok(duration)
}

pub(super) fn size(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Result<u64, Fault> {
    let size = quantity(value, units::parse_size, SIZE_HELP)?;
    if !range.contains(&size) {
        let [size, min, max] = [size, *range.start(), *range.end()].map(units::show_size);
        return Err(Fault::new(format!("is {size}; it must be from {min} to {max}")));
    }
    Ok(size)
}

fn quantity<T>(value: &DeValue<'_>, parse: impl Fn(&str) -> Result<T, UnitError>, help: &str) -> Result<T, Fault> {
    match value {
        DeValue::String(text) => parse(text).map_err(|error| {
            let fault = Fault::new(format!("is {text:?}, which {error}"));
            if error == UnitError::TooLarge { fault } else { fault.help(help) }
        }),
        DeValue::Integer(number) => Err(Fault::new(format!("is {number}, which has no unit")).help(help)),
        other => Err(Fault::kind("text", other).help(help)),
    }
}

/// `10/1h`: so many in a while, which is longer than nothing and at most `per_max`.
pub(super) fn rate(value: &DeValue<'_>, range: RangeInclusive<u32>, per_max: Duration) -> Result<Rate, Fault> {
    let written = text(value)?;
    let wrong = |why: String| Fault::new(format!("is {written:?}, which {why}")).help(RATE_HELP);
    let (count, per) = written.split_once('/').ok_or_else(|| wrong("has no slash".to_owned()))?;
    let count: u32 = count.trim().parse().map_err(|_| wrong("does not begin with a whole number".to_owned()))?;
    let per = units::parse_duration(per.trim()).map_err(|error| wrong(error.to_string()))?;
    if !range.contains(&count) {
        return Err(Fault::new(format!("is {written:?}; the number must be from {} to {}", range.start(), range.end())));
    }
    if per == Duration::ZERO || per > per_max {
        let max = units::show_duration(per_max);
        return Err(Fault::new(format!("is {written:?}; the time must be longer than nothing and at most {max}")));
    }
    Ok(Rate { count, per })
}

/// One of a few words.
pub(super) fn choice<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Result<T, Fault> {
    let written = text(value)?;
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == written) {
        return Ok(*meaning);
    }
    let names = || words.iter().map(|(word, _)| *word);
    let all: Vec<String> = names().map(|word| format!("{word:?}")).collect();
    let fault = Fault::new(match all.len() {
        0..=2 => format!("is {written:?}; it must be {}", all.join(" or ")),
        _ => format!("is {written:?}; it must be one of {}", all.join(", ")),
    });
    Err(match closest(written, names()) {
        Some(meant) => fault.help(format!("did you mean {meant:?}?")),
        None => fault,
    })
}

/// Anything that parses from text; the error says why not, after "which".
pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(value: &DeValue<'_>, help: &str) -> Result<T, Fault> {
    let text = text(value)?;
    text.parse().map_err(|error| Fault::new(format!("is {text:?}: {error}")).help(help))
}

/// A name with a dot in it; the error says what is wrong.
pub(super) fn full_domain(text: &str) -> Result<Domain, &'static str> {
    match Domain::parse(text) {
        Ok(domain) if domain.as_str().contains('.') => Ok(domain),
        Ok(_) => Err("is not a full domain name"),
        Err(_) => Err("is not a domain name"),
    }
}

/// Relative ones start at the directory of the settings.
pub(super) fn path(value: &DeValue<'_>, base: &Path) -> Result<PathBuf, Fault> {
    match text(value)? {
        "" => Err(Fault::new("is empty")),
        text if text.contains('\0') => Err(Fault::new("holds a NUL, which no path can")),
        text => Ok(base.join(text)),
    }
}

/// To listen on. Port 0 lets the system choose a free one, which tests and trials want.
pub(super) fn socket(value: &DeValue<'_>) -> Result<SocketAddr, Fault> {
    let text = text(value)?;
    let fault = match (text.parse(), text.parse()) {
        (Ok(address), _) => return Ok(address),
        (_, Ok(address)) => {
            let help = format!("write {:?}", SocketAddr::new(address, 25).to_string());
            return Err(Fault::new(format!("is {text:?}, which has no port")).help(help));
        }
        (Err(_), Err(_)) => Fault::new(format!("is {text:?}, which is not an IP address with a port")),
    };
    Err(fault.help("like \"0.0.0.0:25\" or \"[::]:25\""))
}

/// Of a server that is asked, with the port it has when none is written.
pub(super) fn server(value: &DeValue<'_>, port: u16) -> Result<SocketAddr, Fault> {
    let text = text(value)?;
    let alone = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, port));
    match text.parse().or_else(|_| alone()) {
        Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => Ok(address),
        _ => Err(Fault::new(format!("is {text:?}, which is not a server's IP address"))
            .help(format!("like \"127.0.0.1\" or \"[2001:db8::53]:{port}\""))),
    }
}

/// `192.0.2.0/24`, or one address.
pub(super) fn network(value: &DeValue<'_>) -> Result<IpNet, Fault> {
    network_text(text(value)?)
}

pub(super) fn network_text(text: &str) -> Result<IpNet, Fault> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    match network {
        Ok(network) if network.trunc() != network => Err(Fault::new(format!("is {text:?}, an address inside of a network"))
            .help(format!("the network is {:?}", network.trunc().to_string()))),
        Ok(network) => Ok(network),
        Err(_) => {
            Err(Fault::new(format!("is {text:?}, which is not a network")).help("like \"192.0.2.0/24\" or \"2001:db8::/32\""))
        }
    }
}

/// In the subject of delivered mail: one line that a reader can see.
pub(super) fn subject_text(value: &DeValue<'_>) -> Result<String, Fault> {
    const LETTERS_MAX: usize = 64;
    let text = text(value)?;
    // Line ends would start another header field.
    if text.chars().any(|letter| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}')) {
        return Err(Fault::new("must not hold line ends or other control characters"));
    }
    match text.chars().count() {
        0 => Err(Fault::new("is empty").help("to leave the subject alone, set the level to \"none\" or \"header\"")),
        1..=LETTERS_MAX => Ok(text.to_owned()),
        length => Err(Fault::new(format!("is {length} letters long; the most is {LETTERS_MAX}"))),
    }
}
