use tempfile::TempDir;

use super::*;
use crate::store::{RealDisk, Store, StoreSettings};

const NOW: Timestamp = Timestamp(1_795_214_160_000);
const MINUTE: Duration = Duration::from_secs(60);

/// The store goes before its directory does.
struct House {
    limiter: Limiter,
    store: Store,
    directory: TempDir,
}

impl House {
    fn new() -> House {
        House::in_directory(tempfile::tempdir().unwrap())
    }

    fn in_directory(directory: TempDir) -> House {
        let settings = StoreSettings { reserve: 0, ..StoreSettings::default() };
        let (store, _) = Store::open(directory.path(), Arc::new(RealDisk), settings).unwrap();
        House { limiter: Limiter::new(store.memory("bans")), store, directory }
    }

    async fn restart(self) -> House {
        let House { limiter, store, directory } = self;
        store.close();
        drop((limiter, store));
        let house = House::in_directory(directory);
        house.limiter.load(NOW).await;
        house
    }
}

impl std::ops::Deref for House {
    type Target = Limiter;
    fn deref(&self) -> &Limiter {
        &self.limiter
    }
}

fn limiter() -> House {
    House::new()
}

fn per_minute(count: u32) -> Rate {
    Rate { count, per: MINUTE }
}

fn limits() -> Limits {
    Limits {
        sessions_per_client: per_minute(5),
        messages_per_client: per_minute(5),
        recipients_per_client: per_minute(5),
        errors_per_client: per_minute(6),
        messages_per_sender_domain: per_minute(7),
        network_factor: 2,
        ..Limits::default()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn a_client_has_its_share_and_its_network_a_multiple() {
    let limiter = limiter();
    let taken = |address: &str| (0..20).filter(|_| limiter.session(&limits(), ip(address), NOW).is_ok()).count();
    assert_eq!([taken("192.0.2.1"), taken("192.0.2.2"), taken("192.0.2.3")], [5, 5, 0]);
    assert_eq!(limiter.session(&limits(), ip("192.0.2.1"), NOW), Err(OverLimit::Client));
    assert_eq!(limiter.session(&limits(), ip("::ffff:192.0.2.3"), NOW), Err(OverLimit::Network));
    assert_eq!(taken("198.51.100.1"), 5);
    assert_eq!([taken("2001:db8::1"), taken("2001:db8::2"), taken("2001:db8:0:1::1"), taken("2001:db8:0:2::1")], [5, 0, 5, 0]);
    assert_eq!(limiter.recipient(&limits(), ip("192.0.2.1"), NOW), Ok(()), "each resource has its own bucket");
    assert_eq!(limiter.session(&limits(), ip("192.0.2.1"), NOW + MINUTE), Ok(()));
}

#[test]
fn a_sender_domain_has_its_share_however_many_clients_send_for_it() {
    let limiter = limiter();
    let from: ReversePath = "joe@Sender.example".parse().unwrap();
    let send = |number: u8, from: &ReversePath| limiter.message(&limits(), [198, 51, number, 1].into(), from, NOW);
    assert_eq!((0..10).filter(|number| send(*number, &from).is_ok()).count(), 7);
    assert_eq!(send(20, &"x@sender.EXAMPLE".parse().unwrap()), Err(OverLimit::SenderDomain));
    assert_eq!(send(20, &"x@other.example".parse().unwrap()), Ok(()));
    assert!((0..10).all(|number| send(30 + number, &ReversePath::Null).is_ok()), "the null sender is everybody");
}

#[tokio::test]
async fn errors_lead_to_the_tarpit_and_then_to_a_ban() {
    let limiter = limiter();
    let client = ip("192.0.2.1");
    let mut standings = Vec::new();
    for _ in 0..7 {
        standings.push(limiter.error(&limits(), client, "550 5.1.1 No such user here", NOW).await);
    }
    let tarpit = Standing::Tarpit(limits().tarpit);
    assert!(standings[..2].iter().all(|standing| *standing == Standing::Fine), "{standings:?}");
    assert!(standings[3..6].iter().all(|standing| *standing == tarpit), "{standings:?}");
    let Standing::Banned(ban) = &standings[6] else { panic!("{standings:?}") };
    assert_eq!((ban.network, ban.times, ban.until), (net("192.0.2.1/32"), 1, NOW + limits().ban));
    assert_eq!(ban.why, "more than 6 errors in 1m, at last: 550 5.1.1 No such user here");
    assert!(limiter.turns_away(client, NOW) && limiter.turns_away(client, NOW));
    assert!(!limiter.turns_away(ip("192.0.2.2"), NOW));
    assert_eq!(limiter.bans(NOW)[0].turned_away, 2);
    assert!(!limiter.is_banned(client, NOW + limits().ban));
}

#[tokio::test]
async fn a_network_full_of_errors_is_slow_and_nobody_in_it_is_banned_for_others() {
    let limiter = limiter();
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        for _ in 0..4 {
            limiter.error(&limits(), ip(client), "", NOW).await;
        }
    }
    let standing = limiter.error(&limits(), ip("192.0.2.4"), "", NOW).await;
    assert_eq!(standing, Standing::Tarpit(limits().tarpit));
    assert!(limiter.bans(NOW).is_empty());
    let never = Limits { ban: Duration::ZERO, ..limits() };
    for _ in 0..20 {
        assert!(!matches!(limiter.error(&never, ip("198.51.100.1"), "", NOW).await, Standing::Banned(_)));
    }
}

#[tokio::test]
async fn mail_that_is_taken_outweighs_errors() {
    let limiter = limiter();
    let client = ip("192.0.2.1");
    assert!(!limiter.knows(client, NOW));
    for _ in 0..100 {
        assert_eq!(limiter.error(&limits(), client, "", NOW).await, Standing::Fine);
        limiter.passed(&limits(), client, NOW).await;
    }
    assert!(limiter.knows(client, NOW) && !limiter.knows(ip("192.0.2.2"), NOW));
}

#[tokio::test]
async fn bans_and_known_clients_outlive_a_restart() {
    let (banned, good) = (ip("192.0.2.1"), ip("2001:db8::1"));
    let limiter = limiter();
    for _ in 0..7 {
        limiter.error(&limits(), banned, "x", NOW).await;
    }
    limiter.ban(net("198.51.0.0/16"), MINUTE, "spam", "alice", NOW).await;
    limiter.passed(&limits(), good, NOW).await;
    let before = limiter.bans(NOW);
    let limiter = limiter.restart().await;
    assert_eq!(limiter.bans(NOW), before);
    assert!(limiter.is_banned(banned, NOW) && limiter.is_banned(ip("198.51.77.1"), NOW) && limiter.knows(good, NOW));
    assert_eq!(limiter.lift(Some(net("192.0.2.0/24"))).await, [net("192.0.2.1/32")]);
    assert_eq!(limiter.sweep(&limits(), NOW + MINUTE + limits().ban_max).await, 1, "the ban that has ended");
    assert!(limiter.bans(NOW).is_empty() && limiter.knows(good, NOW));
    let limiter = limiter.restart().await;
    assert!(limiter.bans(NOW).is_empty() && limiter.knows(good, NOW));
}

#[tokio::test]
async fn one_ipv6_address_means_its_network() {
    let limiter = limiter();
    let ban = limiter.ban(net("2001:db8::5/128"), MINUTE, "", "alice", NOW).await;
    assert_eq!(ban.network, net("2001:db8::/64"));
    assert!(limiter.is_banned(ip("2001:db8::6"), NOW));
    assert_eq!(limiter.lift(Some(net("2001:db8::7/128"))).await.len(), 1);
    assert_eq!(limiter.ban(net("::ffff:192.0.2.7/128"), MINUTE, "", "alice", NOW).await.network, net("192.0.2.7/32"));
}

#[test]
fn memory_is_bounded_whoever_comes() {
    let limiter = limiter();
    for number in 0..120_000_u32 {
        let address = IpAddr::from((0x0a00_0000_u32 + number * 256).to_be_bytes());
        let from: ReversePath = format!("x@d{number}.example").parse().unwrap();
        assert_eq!(limiter.session(&limits(), address, NOW), Ok(()));
        assert_eq!(limiter.message(&limits(), address, &from, NOW), Ok(()));
    }
    let state = limiter.state();
    assert!(state.clients.len() <= COUNTED_MAX && state.networks.len() <= COUNTED_MAX);
    assert!(state.sender_domains.len() <= COUNTED_MAX);
}
