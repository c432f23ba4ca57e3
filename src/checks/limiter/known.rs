//! Clients from which mail was taken that was not refused as spam: they need not prove themselves again for a while.

use std::collections::HashMap;
use std::time::Duration;

use ipnet::IpNet;

use crate::mail::Timestamp;

/// From the last message of a client until it is forgotten.
const KNOWN_FOR: Duration = Duration::from_secs(36 * 86_400);
/// A client that is known is not noted more often.
const RENEW_EVERY: Duration = Duration::from_secs(86_400);

/// All of them, with their last messages. Bounded: when there is no room, the oldest are forgotten.
pub(super) struct Known {
    last: HashMap<IpNet, Timestamp>,
    most: usize,
}

impl Known {
    pub(super) fn new(most: usize) -> Known {
        Known { last: HashMap::new(), most }
    }

    pub(super) fn knows(&self, client: &IpNet, now: Timestamp) -> bool {
        self.last.get(client).is_some_and(|last| lives(*last, now))
    }

    /// Whether this is to be written down.
    pub(super) fn note(&mut self, client: IpNet, now: Timestamp) -> bool {
        if self.last.get(&client).is_some_and(|last| now.since(*last) < RENEW_EVERY) {
            return false;
        }
        if self.last.len() >= self.most && !self.last.contains_key(&client) {
            self.make_room(now);
        }
        self.last.insert(client, now);
        true
    }

    /// As it was written down before.
    pub(super) fn restore(&mut self, client: IpNet, last: Timestamp, now: Timestamp) {
        if lives(last, now) && self.last.len() < self.most {
            self.last.insert(client, last);
        }
    }

    pub(super) fn sweep(&mut self, now: Timestamp) {
        self.last.retain(|_, last| lives(*last, now));
    }

    pub(super) fn contains(&self, client: &IpNet) -> bool {
        self.last.contains_key(client)
    }

    /// A tenth of the room, so that the work for one client stays small on average.
    fn make_room(&mut self, now: Timestamp) {
        self.sweep(now);
        let keep = self.most - self.most.div_ceil(10);
        let mut oldest: Vec<_> = self.last.iter().map(|(client, last)| (*last, *client)).collect();
        oldest.sort_unstable();
        let surplus = oldest.len().saturating_sub(keep);
        for (_, client) in oldest.iter().take(surplus) {
            self.last.remove(client);
        }
    }
}

fn lives(last: Timestamp, now: Timestamp) -> bool {
    last + KNOWN_FOR > now
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    #[test]
    fn who_sends_mail_is_known_and_who_stays_away_is_forgotten() {
        let mut known = Known::new(100);
        let client: IpNet = "192.0.2.1/32".parse().unwrap();
        assert!(!known.knows(&client, NOW));
        assert!(known.note(client, NOW));
        assert!(!known.note(client, NOW + Duration::from_secs(3600)), "not written with every message");
        assert!(known.note(client, NOW + RENEW_EVERY));
        assert!(known.knows(&client, NOW + KNOWN_FOR));
        assert!(!known.knows(&client, NOW + KNOWN_FOR + RENEW_EVERY));
        known.sweep(NOW + KNOWN_FOR + RENEW_EVERY);
        assert!(!known.contains(&client));
    }

    #[test]
    fn there_are_never_too_many_and_the_newest_stay() {
        let mut known = Known::new(100);
        let client = |number: u32| IpNet::from(std::net::IpAddr::from(number.to_be_bytes()));
        for number in 0..1000 {
            known.note(client(number), NOW + Duration::from_secs(number.into()));
            assert!(known.last.len() <= 100);
        }
        assert!((950..1000).all(|number| known.contains(&client(number))));
    }
}
