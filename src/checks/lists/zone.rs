//! What is known about one DNS list, of clients or of hosts in links: whether it is proved, what it answered, and whether it
//! suddenly lists most of what it is asked about. Pure.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::ListAnswer;
use crate::mail::Domain;

/// What the last proof said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::checks) enum Proof {
    Passed,
    /// Why.
    Failed(String),
    /// DNS did not answer: the list is what it was.
    Unanswered(String),
}

/// A list has lost its effect, or got it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::checks) enum Change {
    /// Why.
    ToShadow(String),
    Back,
}

/// How a list is doing, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListStatus {
    pub zone: Domain,
    pub points: f32,
    /// Why it has no effect now; `None`: it counts.
    pub shadow: Option<String>,
    /// Clients, or hosts, since the start, by what the list said.
    pub listed: u64,
    pub not_listed: u64,
    /// Answers that are no listing.
    pub errors: u64,
    /// DNS did not answer.
    pub unanswered: u64,
    /// Of the last ones, how many it listed, in per cent.
    pub recent_percent: u32,
}

/// `K`: what it is asked about.
pub(in crate::checks) struct Zone<K> {
    /// The last that was answered; `None`: there was none.
    proof: Option<Result<(), String>>,
    /// It suddenly listed most clients.
    flooded: bool,
    recent: VecDeque<(K, bool)>,
    /// Those that were recent once; not while it is flooded.
    earlier: Share,
    listed: u64,
    not_listed: u64,
    errors: u64,
    unanswered: u64,
}

impl<K> Default for Zone<K> {
    fn default() -> Zone<K> {
        Zone {
            proof: None,
            flooded: false,
            recent: VecDeque::new(),
            earlier: Share::default(),
            listed: 0,
            not_listed: 0,
            errors: 0,
            unanswered: 0,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Share {
    listed: u32,
    all: u32,
}

/// Different clients or hosts by which "most" is measured.
const RECENT: usize = 100;
/// Earlier ones that are needed to know what is usual.
const EARLIER_MIN: u32 = 100;
/// When there are more, the old ones count half.
const EARLIER_MAX: u32 = 2_000;
/// Above this share of the recent clients it lists most.
const MOST_PERCENT: u32 = 50;
/// Below this share of the earlier ones it used to list few. On a gateway that spammers love, a good list lists most.
const FEW_PERCENT: u32 = 20;

impl<K: PartialEq> Zone<K> {
    /// One client or host was looked up.
    pub fn answered(&mut self, client: K, answer: ListAnswer) -> Option<Change> {
        let listed = match answer {
            ListAnswer::Listed(_) => true,
            ListAnswer::NotListed => false,
            ListAnswer::Error(_) => {
                self.errors += 1;
                return None;
            }
            ListAnswer::Unanswered => {
                self.unanswered += 1;
                return None;
            }
        };
        *(if listed { &mut self.listed } else { &mut self.not_listed }) += 1;
        if self.recent.iter().any(|(known, _)| *known == client) {
            return None;
        }
        self.recent.push_back((client, listed));
        if self.recent.len() > RECENT {
            let left = self.recent.pop_front().is_some_and(|(_, listed)| listed);
            if !self.flooded {
                self.earlier.add(left);
            }
        }
        let suddenly = self.recent.len() >= RECENT
            && self.earlier.all >= EARLIER_MIN
            && self.recently().percent() > MOST_PERCENT
            && self.earlier.percent() < FEW_PERCENT;
        if !suddenly || self.flooded {
            return None;
        }
        self.flooded = true;
        self.is_proved().then(|| Change::ToShadow(self.flood()))
    }

    pub fn proved(&mut self, proof: &Proof) -> Option<Change> {
        let was = self.counts();
        let was_new = self.proof.is_none();
        match proof {
            Proof::Passed => {
                self.proof = Some(Ok(()));
                self.flooded &= self.recently().percent() > MOST_PERCENT;
            }
            Proof::Failed(why) => self.proof = Some(Err(why.clone())),
            Proof::Unanswered(_) => {}
        }
        match (was, self.trouble()) {
            (true, Some(why)) => Some(Change::ToShadow(why)),
            (false, Some(why)) if was_new && self.proof.is_some() => Some(Change::ToShadow(why)),
            (false, None) => Some(Change::Back),
            _ => None,
        }
    }

    pub fn is_proved(&self) -> bool {
        self.proof == Some(Ok(()))
    }

    /// Why it has no effect, by itself or because the settings say so.
    pub fn shadow(&self, wanted: bool) -> Option<String> {
        self.trouble().or_else(|| wanted.then(|| "the settings say so".to_owned()))
    }

    pub fn status(&self, zone: &Domain, points: f32, shadow_wanted: bool) -> ListStatus {
        ListStatus {
            zone: zone.clone(),
            points,
            shadow: self.shadow(shadow_wanted),
            listed: self.listed,
            not_listed: self.not_listed,
            errors: self.errors,
            unanswered: self.unanswered,
            recent_percent: self.recently().percent(),
        }
    }

    fn counts(&self) -> bool {
        self.trouble().is_none()
    }

    fn trouble(&self) -> Option<String> {
        match &self.proof {
            None => Some("not proved yet".to_owned()),
            Some(Err(why)) => Some(why.clone()),
            Some(Ok(())) => self.flooded.then(|| self.flood()),
        }
    }

    fn flood(&self) -> String {
        let (now, before) = (self.recently().percent(), self.earlier.percent());
        format!("it suddenly lists {now} % of the last {RECENT} it was asked about, and {before} % before")
    }

    fn recently(&self) -> Share {
        let mut share = Share::default();
        self.recent.iter().for_each(|(_, listed)| share.add(*listed));
        share
    }
}

impl Share {
    fn add(&mut self, listed: bool) {
        if self.all >= EARLIER_MAX {
            self.all /= 2;
            self.listed /= 2;
        }
        self.all += 1;
        self.listed += u32::from(listed);
    }

    fn percent(self) -> u32 {
        (self.listed * 100).checked_div(self.all).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const LISTED: ListAnswer = ListAnswer::Listed(Ipv4Addr::new(127, 0, 0, 2));

    /// A proved list after so many clients, of which each `every`th was listed, and what happened last.
    fn after(zone: &mut Zone<IpAddr>, from: u32, clients: u32, every: u32) -> Option<Change> {
        let mut last = None;
        for number in from..from + clients {
            let answer = if number % every == 0 { LISTED } else { ListAnswer::NotListed };
            last = zone.answered(IpAddr::V4(Ipv4Addr::from_bits(number)), answer).or(last);
        }
        last
    }

    fn proved() -> Zone<IpAddr> {
        let mut zone = Zone::<IpAddr>::default();
        assert_eq!(zone.proved(&Proof::Passed), Some(Change::Back));
        zone
    }

    #[test]
    fn a_list_counts_while_it_is_proved() {
        let mut zone = Zone::<IpAddr>::default();
        assert_eq!(zone.shadow(false).unwrap(), "not proved yet");
        assert_eq!(zone.proved(&Proof::Unanswered("timeout".into())), None);
        assert!(!zone.is_proved());
        assert_eq!(zone.proved(&Proof::Passed), Some(Change::Back));
        assert_eq!(zone.shadow(false), None);
        assert_eq!(zone.shadow(true).unwrap(), "the settings say so");
        assert_eq!(zone.proved(&Proof::Passed), None);
        assert_eq!(zone.proved(&Proof::Unanswered("timeout".into())), None, "DNS that fails is not the list's fault");
        assert!(zone.is_proved());
        assert_eq!(zone.proved(&Proof::Failed("dead".into())), Some(Change::ToShadow("dead".into())));
        assert_eq!(zone.proved(&Proof::Failed("dead".into())), None);
        assert_eq!(zone.proved(&Proof::Unanswered("timeout".into())), None);
        assert_eq!(zone.shadow(false).unwrap(), "dead");
        assert_eq!(zone.proved(&Proof::Passed), Some(Change::Back));
        assert_eq!(Zone::<IpAddr>::default().proved(&Proof::Failed("dead".into())), Some(Change::ToShadow("dead".into())));
    }

    #[test]
    fn a_list_that_suddenly_lists_most_goes_to_shadow() {
        let mut zone = proved();
        assert_eq!(after(&mut zone, 0, 300, 10), None);
        let change = after(&mut zone, 300, 100, 1);
        assert!(matches!(&change, Some(Change::ToShadow(why)) if why.starts_with("it suddenly lists 5")), "{change:?}");
        assert!(zone.shadow(false).is_some());
        assert_eq!(zone.proved(&Proof::Passed), None, "it still lists most");
        assert_eq!(after(&mut zone, 400, 500, 1), None);
        assert_eq!(zone.proved(&Proof::Passed), None, "and that does not become usual");
        after(&mut zone, 900, 100, 10);
        assert_eq!(zone.proved(&Proof::Passed), Some(Change::Back));
        assert_eq!(zone.status(&"bl.example".parse().unwrap(), 5.0, false).recent_percent, 10);
    }

    #[test]
    fn a_list_that_always_listed_most_is_trusted() {
        let mut zone = proved();
        assert_eq!(after(&mut zone, 0, 2000, 1), None);
        assert_eq!(zone.shadow(false), None);
        let mut new = proved();
        assert_eq!(after(&mut new, 0, 199, 1), None, "nobody knows what is usual");
    }

    #[test]
    fn one_client_is_counted_once_and_errors_not_at_all() {
        let mut zone = proved();
        after(&mut zone, 0, 300, 10);
        for _ in 0..1000 {
            assert_eq!(zone.answered("192.0.2.1".parse().unwrap(), LISTED), None);
        }
        for number in 0..1000_u32 {
            let client = IpAddr::V4(Ipv4Addr::from_bits(number));
            assert_eq!(zone.answered(client, ListAnswer::Error(Ipv4Addr::UNSPECIFIED)), None);
            assert_eq!(zone.answered(client, ListAnswer::Unanswered), None);
        }
        let status = zone.status(&"bl.example".parse().unwrap(), 5.0, false);
        assert_eq!((status.errors, status.unanswered, status.shadow), (1000, 1000, None));
    }
}
