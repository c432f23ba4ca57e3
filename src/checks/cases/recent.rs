//! Who was given a link a short while ago: the same again gets the same link, and nobody gets many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use ring::rand::{SecureRandom, SystemRandom};

use super::case::{Case, Kind};
use super::token::CaseId;
use crate::checks::network::neighbourhood;
use crate::mail::{Domain, Timestamp};

/// So long the same refusal has the same link.
const SAME_FOR: Duration = Duration::from_secs(600);
/// Links for one network (/24, /64), recipient's domain and kind of refusal in that time: clients there, and senders' domains.
const PER_NETWORK: usize = 8;
/// New cases in a minute, of everybody together.
const PER_MINUTE: u32 = 1000;
const MINUTE: Duration = Duration::from_secs(60);

/// Bounded by [`PER_MINUTE`] and [`SAME_FOR`]: ten thousand cases.
pub struct Recent {
    given: HashMap<(IpNet, Option<Domain>, Kind), Vec<Given>>,
    minute: Timestamp,
    in_minute: u32,
    number: u32,
}

struct Given {
    id: CaseId,
    at: Timestamp,
    client: IpAddr,
    sender: Option<Domain>,
}

/// What becomes of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// There is one already that says the same.
    Known(CaseId),
    New(CaseId),
    Full,
}

impl Default for Recent {
    fn default() -> Recent {
        // Not from zero: a start within the second of the last case must not give its id again.
        let mut number = [0; 4];
        let _ = SystemRandom::new().fill(&mut number);
        Recent { given: HashMap::new(), minute: Timestamp(0), in_minute: 0, number: u32::from_ne_bytes(number) }
    }
}

impl Recent {
    pub fn place(&mut self, case: &Case) -> Place {
        let now = case.at;
        if now.since(self.minute) >= MINUTE || now < self.minute {
            (self.minute, self.in_minute) = (now, 0);
            self.given.retain(|_, given| given.iter().any(|given| given.is_fresh(now)));
        }
        // Who writes to domains that are not ours may name any: the name makes no difference.
        let domain = case.domain.clone().filter(|_| case.kind != Kind::Relay);
        let group = (neighbourhood(case.client), domain, case.kind);
        if let Some(given) = self.given.get_mut(&group) {
            given.retain(|given| given.is_fresh(now));
            if let Some(same) = given.iter().find(|given| given.client == case.client && given.sender == case.sender) {
                return Place::Known(same.id);
            }
            if given.len() >= PER_NETWORK {
                return Place::Full;
            }
        }
        // Before anything is remembered: a flood is not.
        if self.in_minute >= PER_MINUTE {
            return Place::Full;
        }
        self.in_minute += 1;
        self.number = self.number.wrapping_add(1);
        let id = CaseId::new(now, self.number);
        let given = Given { id, at: now, client: case.client, sender: case.sender.clone() };
        self.given.entry(group).or_default().push(given);
        Place::New(id)
    }
}

impl Given {
    fn is_fresh(&self, now: Timestamp) -> bool {
        now >= self.at && now.since(self.at) < SAME_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Reply;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    fn case(client: &str, sender: &str, at: Timestamp) -> Case {
        Case { sender: Some(sender.parse().unwrap()), ..Case::sample(client, at, &Reply::greylisted(300)) }
    }

    #[test]
    fn a_network_gets_few_links_and_its_neighbours_theirs() {
        let mut recent = Recent::default();
        let mut place = |client: String, sender: &str, at| recent.place(&case(&client, sender, at));
        let first = place("192.0.2.0".into(), "a.example", NOW);
        for host in 1..8 {
            assert!(matches!(place(format!("192.0.2.{host}"), "a.example", NOW), Place::New(_)));
        }
        assert_eq!(place("192.0.2.9".into(), "a.example", NOW), Place::Full);
        assert_eq!(place("192.0.2.1".into(), "b.example", NOW), Place::Full);
        let Place::New(id) = first else { panic!("{first:?}") };
        assert_eq!(place("192.0.2.0".into(), "a.example", NOW), Place::Known(id));
        assert!(matches!(place("198.51.100.9".into(), "a.example", NOW), Place::New(_)));
        assert!(matches!(place("192.0.2.9".into(), "a.example", NOW + SAME_FOR), Place::New(_)));
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded_and_forgotten() {
        let mut recent = Recent::default();
        let mut new = 0;
        for number in 0..PER_MINUTE * 30 {
            let [_, a, b, c] = number.to_be_bytes();
            let at = NOW + MINUTE * (number / (PER_MINUTE * 2));
            new += u32::from(matches!(recent.place(&case(&format!("10.{a}.{b}.{c}"), "a.example", at)), Place::New(_)));
        }
        assert!(new <= PER_MINUTE * 15, "{new}");
        assert!(recent.given.len() <= (PER_MINUTE * 11) as usize, "{}", recent.given.len());
        // The clock was set back: nobody is kept waiting by what seems to come from the future.
        assert!(matches!(recent.place(&case("10.0.0.1", "a.example", NOW - MINUTE)), Place::New(_)));
    }
}
