//! Who is banned: networks, each with its reason and its end.
//!
//! The gateway bans clients (an IPv4 address, an IPv6 /64), operators any network. A ban that is over is remembered for a while:
//! whoever is banned again by then is banned for twice as long.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::Limits;
use crate::mail::Timestamp;

/// One ban, as `feedgate ban list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    pub network: IpNet,
    /// What it was banned for, in words; may hold what a peer said.
    pub why: String,
    /// An operator; empty when the gateway did it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    pub since: Timestamp,
    pub until: Timestamp,
    /// Bans in a row, with this one.
    pub times: u32,
    /// Sessions turned away by this one, since the last start.
    #[serde(default)]
    pub turned_away: u64,
}

/// The longest reason, in bytes: a record has to fit into the memory.
const WHY_MAX: usize = 300;

/// All of them. Bounded: when there is no room, those that end first are forgotten.
pub(super) struct Bans {
    by_network: HashMap<IpNet, Ban>,
    /// How many there are of each family and prefix length: a lookup tries each of these.
    lengths: BTreeMap<(bool, u8), usize>,
    most: usize,
}

impl Bans {
    pub(super) fn new(most: usize) -> Bans {
        Bans { by_network: HashMap::new(), lengths: BTreeMap::new(), most }
    }

    /// The ban that holds for an address now.
    pub(super) fn of(&mut self, address: IpAddr, now: Timestamp) -> Option<&mut Ban> {
        let covering = self.networks_of(address).find(|network| self.is_banned(network, now))?;
        self.by_network.get_mut(&covering)
    }

    /// The networks around an address that somebody is or was banned by.
    fn networks_of(&self, address: IpAddr) -> impl Iterator<Item = IpNet> {
        let lengths = self.lengths.keys().filter(move |(is_v4, _)| *is_v4 == address.is_ipv4());
        lengths.filter_map(move |(_, length)| IpNet::new(address, *length).ok()).map(|network| network.trunc())
    }

    fn is_banned(&self, network: &IpNet, now: Timestamp) -> bool {
        self.by_network.get(network).is_some_and(|ban| ban.until > now)
    }

    /// Bans a client for its errors; longer each time. One that is banned already stays so.
    pub(super) fn punish(&mut self, client: IpNet, why: &str, limits: &Limits, now: Timestamp) -> Ban {
        let before = self.by_network.get(&client).filter(|ban| !is_forgotten(ban, limits.ban_max, now));
        let times = match before {
            Some(ban) if ban.until > now => return ban.clone(),
            Some(ban) => ban.times.saturating_add(1),
            None => 1,
        };
        let length = limits.ban.saturating_mul(1 << (times - 1).min(30)).min(limits.ban_max);
        let ban =
            Ban { network: client, why: cut(why), by: String::new(), since: now, until: now + length, times, turned_away: 0 };
        self.insert(ban.clone(), now);
        ban
    }

    /// Replaces one of the same network.
    pub(super) fn insert(&mut self, ban: Ban, now: Timestamp) {
        if self.by_network.len() >= self.most && !self.by_network.contains_key(&ban.network) {
            self.make_room(now);
        }
        let length = length_of(&ban.network);
        if self.by_network.insert(ban.network, Ban { why: cut(&ban.why), ..ban }).is_none() {
            *self.lengths.entry(length).or_default() += 1;
        }
    }

    /// Ends the bans of networks inside this one, and forgets them; which.
    pub(super) fn lift(&mut self, network: Option<IpNet>) -> Vec<IpNet> {
        let is_meant = |banned: &IpNet| network.is_none_or(|network| network.contains(banned));
        let lifted: Vec<_> = self.by_network.keys().filter(|banned| is_meant(banned)).copied().collect();
        lifted.iter().for_each(|network| self.forget(network));
        lifted
    }

    /// What was forgotten of those that ended long ago.
    pub(super) fn sweep(&mut self, quiet: Duration, now: Timestamp) {
        let over = self.by_network.values().filter(|ban| is_forgotten(ban, quiet, now));
        let over: Vec<_> = over.map(|ban| ban.network).collect();
        over.iter().for_each(|network| self.forget(network));
    }

    pub(super) fn contains(&self, network: &IpNet) -> bool {
        self.by_network.contains_key(network)
    }

    /// Those that hold now, the newest last.
    pub(super) fn list(&self, now: Timestamp) -> Vec<Ban> {
        let mut bans: Vec<_> = self.by_network.values().filter(|ban| ban.until > now).cloned().collect();
        bans.sort_by_key(|ban| (ban.since, ban.network));
        bans
    }

    /// A tenth of the room, so that the work for one ban stays small on average.
    fn make_room(&mut self, now: Timestamp) {
        self.sweep(Duration::ZERO, now);
        let keep = self.most - self.most.div_ceil(10);
        let surplus = self.by_network.len().saturating_sub(keep);
        let mut ends: Vec<_> = self.by_network.values().map(|ban| (ban.until, ban.network)).collect();
        ends.sort_unstable();
        ends.iter().take(surplus).for_each(|(_, network)| self.forget(network));
    }

    fn forget(&mut self, network: &IpNet) {
        if self.by_network.remove(network).is_none() {
            return;
        }
        let length = length_of(network);
        match self.lengths.get_mut(&length) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.lengths.remove(&length)),
        }
    }
}

fn length_of(network: &IpNet) -> (bool, u8) {
    (network.addr().is_ipv4(), network.prefix_len())
}

fn is_forgotten(ban: &Ban, quiet: Duration, now: Timestamp) -> bool {
    ban.until + quiet <= now
}

fn cut(why: &str) -> String {
    let end = (0..=WHY_MAX.min(why.len())).rev().find(|end| why.is_char_boundary(*end)).unwrap_or_default();
    why[..end].replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn limits() -> Limits {
        Limits { ban: 10 * MINUTE, ban_max: 60 * MINUTE, ..Limits::default() }
    }

    #[test]
    fn bans_grow_up_to_the_longest_and_begin_anew_after_a_quiet_while() {
        let mut bans = Bans::new(10);
        let mut now = NOW;
        for (times, minutes) in [(1, 10), (2, 20), (3, 40), (4, 60), (5, 60)] {
            let ban = bans.punish(net("192.0.2.1/32"), "errors", &limits(), now);
            assert_eq!((ban.times, ban.until.since(ban.since)), (times, minutes * MINUTE));
            assert_eq!(bans.punish(net("192.0.2.1/32"), "more", &limits(), now + MINUTE), ban, "a ban that holds stays as it is");
            assert!(bans.of(ip("192.0.2.1"), ban.until - MINUTE).is_some());
            assert!(bans.of(ip("192.0.2.1"), ban.until).is_none());
            assert!(bans.of(ip("192.0.2.2"), now).is_none());
            now = ban.until + MINUTE;
        }
        let ban = bans.punish(net("192.0.2.1/32"), "errors", &limits(), now + 60 * MINUTE);
        assert_eq!(ban.times, 1);
    }

    #[test]
    fn networks_of_any_length_are_found_by_their_addresses() {
        let mut bans = Bans::new(10);
        for network in ["192.0.0.0/16", "192.0.2.7/32", "2001:db8::/32"] {
            let until = NOW + MINUTE;
            let network = net(network);
            let ban = Ban { network, why: String::new(), by: String::new(), since: NOW, until, times: 1, turned_away: 0 };
            bans.insert(ban, NOW);
        }
        assert!(bans.of(ip("192.0.77.1"), NOW).is_some());
        assert!(bans.of(ip("192.1.0.1"), NOW).is_none());
        assert!(bans.of(ip("2001:db8:ffff::1"), NOW).is_some());
        assert_eq!(bans.lift(Some(net("192.0.2.0/24"))), [net("192.0.2.7/32")]);
        assert!(bans.of(ip("192.0.2.7"), NOW).is_some(), "its neighbourhood is still banned");
        assert_eq!(bans.lift(None).len(), 2);
        assert!(bans.of(ip("192.0.2.7"), NOW).is_none() && bans.lengths.is_empty());
    }

    #[test]
    fn there_are_never_too_many_and_the_longest_stay() {
        let mut bans = Bans::new(100);
        for number in 0..1000_u32 {
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            let ban = limits();
            let ban = Limits { ban: ban.ban + MINUTE * (number % 40), ..ban };
            bans.punish(IpNet::from(address), &"ä".repeat(1000), &ban, NOW);
            assert!(bans.by_network.len() <= 100);
        }
        assert!(bans.list(NOW).iter().all(|ban| ban.why.len() <= WHY_MAX));
        let shortest = bans.list(NOW).iter().map(|ban| ban.until).min().unwrap();
        assert!(shortest > NOW + 20 * MINUTE);
    }
}
