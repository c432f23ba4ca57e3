//! How often one visitor may come: counted by the minute, bounded in memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::mail::Timestamp;

const MINUTE: Duration = Duration::from_secs(60);
/// In a minute, of one visitor.
const PAGES_MAX: u32 = 60;
/// Of these, pages for which DNS is asked.
const QUESTIONS_MAX: u32 = 10;
/// The same of all visitors together.
const QUESTIONS_OF_ALL_MAX: u32 = 300;
/// Visitors in a minute; more have to wait for the next.
const VISITORS_MAX: usize = 10_000;

/// Counts visits.
#[derive(Default)]
pub struct Visits {
    minute: Timestamp,
    visitors: HashMap<IpAddr, Visitor>,
    questions: u32,
}

#[derive(Default)]
struct Visitor {
    pages: u32,
    questions: u32,
}

/// It was too much.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMany;

impl Visits {
    /// One more page.
    pub fn page(&mut self, address: IpAddr, now: Timestamp) -> Result<(), TooMany> {
        let visitor = self.visitor(address, now)?;
        visitor.pages += 1;
        if visitor.pages <= PAGES_MAX { Ok(()) } else { Err(TooMany) }
    }

    /// One for which DNS is asked.
    pub fn question(&mut self, address: IpAddr, now: Timestamp) -> Result<(), TooMany> {
        let visitor = self.visitor(address, now)?;
        visitor.questions += 1;
        if visitor.questions > QUESTIONS_MAX {
            return Err(TooMany);
        }
        self.questions += 1;
        if self.questions <= QUESTIONS_OF_ALL_MAX { Ok(()) } else { Err(TooMany) }
    }

    fn visitor(&mut self, address: IpAddr, now: Timestamp) -> Result<&mut Visitor, TooMany> {
        if now.since(self.minute) >= MINUTE || now < self.minute {
            *self = Visits { minute: now, ..Visits::default() };
        }
        let address = one_household(address);
        if self.visitors.len() >= VISITORS_MAX && !self.visitors.contains_key(&address) {
            return Err(TooMany);
        }
        Ok(self.visitors.entry(address).or_default())
    }
}

/// An IPv4 address, or a /64: everybody has 2^64 addresses there.
fn one_household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_visitor_has_its_share_of_each_minute() {
        let mut visits = Visits::default();
        for _ in 0..QUESTIONS_MAX {
            assert_eq!(visits.question(ip("2001:db8::1"), NOW), Ok(()));
        }
        assert_eq!(visits.question(ip("2001:db8::2"), NOW), Err(TooMany), "the same household");
        assert_eq!(visits.page(ip("2001:db8::2"), NOW), Ok(()), "pages that ask nothing are another matter");
        assert_eq!(visits.question(ip("2001:db8:0:1::"), NOW), Ok(()));
        assert_eq!(visits.question(ip("2001:db8::2"), NOW + MINUTE), Ok(()));
        for _ in 0..PAGES_MAX {
            assert_eq!(visits.page(ip("192.0.2.4"), NOW + MINUTE), Ok(()));
        }
        assert_eq!(visits.page(ip("::ffff:192.0.2.4"), NOW + MINUTE), Err(TooMany));
        assert_eq!(visits.page(ip("192.0.2.4"), NOW), Ok(()), "a clock that was set back keeps nobody out");
    }

    #[test]
    fn visitors_from_everywhere_are_bounded() {
        let mut visits = Visits::default();
        let mut asked = 0;
        for number in 0..20_000u32 {
            let [_, a, b, c] = number.to_be_bytes();
            asked += u32::from(visits.question(ip(&format!("10.{a}.{b}.{c}")), NOW).is_ok());
        }
        assert_eq!((asked, visits.visitors.len()), (QUESTIONS_OF_ALL_MAX, VISITORS_MAX));
    }
}
