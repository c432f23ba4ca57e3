//! The way a message came, as its Received fields tell it, and what is wrong with its Date.
//!
//! Both are read leniently and by shape alone. Nothing here is proof: below the client that was seen at the door, a sender
//! writes what it likes. What cannot be read is left out.

use mail_parser::DateTime;

/// Fields that are read; the others are counted elsewhere.
pub(super) const HOPS_MAX: usize = 30;

/// One Received field, in lower case.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::spam) struct Hop {
    /// The name after `from`, as the client gave it.
    pub from: String,
    /// What the server wrote about the client in brackets behind it.
    pub client: String,
    pub by: String,
    /// Seconds since 1970.
    pub at: Option<i64>,
}

impl Hop {
    /// `line`: the field on one line.
    pub fn read(line: &str) -> Hop {
        let at = line.rsplit_once(';').and_then(|(_, date)| moment(date.trim()));
        let line = line.to_lowercase();
        let (mut hop, rest) = match line.strip_prefix("from ") {
            Some(rest) => {
                let (from, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let client = rest.trim_start().strip_prefix('(').and_then(|comment| comment.split_once(')'));
                let (client, rest) = client.unwrap_or(("", rest));
                (Hop { from: from.to_owned(), client: client.to_owned(), ..Hop::default() }, rest)
            }
            None => (Hop::default(), line.as_str()),
        };
        let after_by = rest.strip_prefix("by ").or_else(|| rest.split_once(" by ").map(|(_, after)| after));
        hop.by = after_by.and_then(|after| after.split([' ', ';']).next()).unwrap_or_default().to_owned();
        hop.at = at;
        hop
    }
}

/// Seconds since 1970 of a date as mail writes it.
pub(super) fn moment(date: &str) -> Option<i64> {
    let read = DateTime::parse_rfc822(&format!("{date}\n")).filter(DateTime::is_valid)?;
    Some(read.to_timestamp())
}

/// What no clock shows, in a Date that has the shape of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::spam) enum DateFlaw {
    /// A day, hour, minute or second that does not exist, or a year without mail.
    Range,
    /// `Mon` on a Friday.
    Weekday,
    /// `+2500`, `-0790`: no place has this zone.
    Zone,
}

impl DateFlaw {
    pub fn of(date: &str) -> Option<DateFlaw> {
        const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
        let date = date.split('(').next().unwrap_or_default().to_lowercase();
        let mut words = date.split([' ', ',']).filter(|word| !word.is_empty());
        let place = |of: &[&str], word: &str| word.get(..3).and_then(|short| of.iter().position(|name| *name == short));
        let mut word = words.next()?;
        let weekday = place(&DAYS, word);
        if weekday.is_some() {
            word = words.next()?;
        }
        let day: i64 = number(word)?;
        let month = i64::try_from(place(&MONTHS, words.next()?)?).ok()? + 1;
        let year_word = words.next()?;
        let year: i64 = number(year_word)?;
        if year_word.len() == 4 && !(1970..=2200).contains(&year) {
            return Some(DateFlaw::Range);
        }
        // Two digits were allowed once, and say little about the century.
        if year_word.len() != 4 {
            return None;
        }
        let mut clock = words.next()?.split(':').map(number);
        let (hour, minute) = (clock.next()??, clock.next()??);
        let second = clock.next().flatten().unwrap_or(0);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month {
            2 => 28 + i64::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return Some(DateFlaw::Range);
        }
        if words.next().is_some_and(is_no_zone) {
            return Some(DateFlaw::Zone);
        }
        weekday.filter(|weekday| i64::try_from(*weekday).ok() != Some(weekday_of(year, month, day))).map(|_| DateFlaw::Weekday)
    }
}

fn number(word: &str) -> Option<i64> {
    (word.len() <= 4 && word.bytes().all(|byte| byte.is_ascii_digit())).then(|| word.parse().ok())?
}

/// Zones are between -1200 and +1400, at full and quarter hours.
fn is_no_zone(zone: &str) -> bool {
    let Some((east, digits)) = zone.strip_prefix('+').map(|d| (true, d)).or(zone.strip_prefix('-').map(|d| (false, d))) else {
        return false;
    };
    let Some(value) = number(digits).filter(|_| digits.len() == 4) else { return true };
    let minutes = value % 100;
    value > if east { 1400 } else { 1200 } || !matches!(minutes, 0 | 15 | 30 | 45)
}

/// 0 is Monday. By the days since the 1st of March of year 0.
fn weekday_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    (days + 2) % 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_read_as_servers_write_them() {
        let hop = Hop::read(
            "from PC7 (mail.example.com [192.0.2.1]) by MX.example.net (Postfix) with ESMTP id 1 for <a@b>; Fri, 20 Nov 2026 22:36:00 +0000",
        );
        let expected = Hop {
            from: "pc7".into(),
            client: "mail.example.com [192.0.2.1]".into(),
            by: "mx.example.net".into(),
            at: Some(1_795_214_160),
        };
        assert_eq!(hop, expected);
        assert_eq!(Hop::read("by mx.example.net with SMTP id x; nonsense").by, "mx.example.net");
        assert_eq!(Hop::read("(qmail 2 invoked by uid 89); 20 Nov 2026 22:36:00 -0000").at, Some(1_795_214_160));
        assert_eq!(Hop::read("from"), Hop::default());
        assert_eq!(Hop::read(""), Hop::default());
    }

    #[track_caller]
    fn flaw(date: &str, expected: Option<DateFlaw>) {
        assert_eq!(DateFlaw::of(date), expected, "{date}");
    }

    #[test]
    fn dates_may_be_impossible() {
        for honest in [
            "Fri, 20 Nov 2026 22:36:00 +0000",
            "20 Nov 2026 22:36 GMT",
            "Thu, 29 Feb 2024 23:59:60 +1245 (NZDT)",
            "Tue, 1 Jan 2002 00:00:00 -0330",
            "Sat,  1 Mar 2003 1:02:03 EST",
            "yesterday",
            "",
        ] {
            flaw(honest, None);
        }
        flaw("Fri, 31 Nov 2026 22:36:00 +0000", Some(DateFlaw::Range));
        flaw("Fri, 20 Nov 0102 22:36:00 +0000", Some(DateFlaw::Range));
        flaw("Fri, 20 Nov 2026 25:36:00 +0000", Some(DateFlaw::Range));
        flaw("Mon, 20 Nov 2026 22:36:00 +0000", Some(DateFlaw::Weekday));
        flaw("Fri, 20 Nov 2026 22:36:00 +1900", Some(DateFlaw::Zone));
        flaw("Fri, 20 Nov 2026 22:36:00 -0790", Some(DateFlaw::Zone));
        flaw("Fri, 20 Nov 2026 22:36:00 +00", Some(DateFlaw::Zone));
    }
}
