//! Greylisting: who waits, who passes, what is still known after a restart, and what it all cost. First on a real store, by direct
//! questions; then at the door of the whole gateway.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use feedgate::checks::{Greylist, GreylistAnswer, Identity, LOST_MAX, Newcomer, Passed, SpfProof, WhichLost};
use feedgate::config::{self, Greylisting};
use feedgate::mail::{Address, Client, Domain, Protocol, ReversePath, Timestamp};
use feedgate::store::{RealDisk, Store, StoreSettings};

use crate::world::{DAY, MINUTE, World, domain, ip};

const START: Timestamp = Timestamp(1_795_214_160_000);

/// A greylist with its store.
struct House {
    greylist: Greylist,
    store: Store,
    settings: config::Greylist,
}

/// Who knocks.
#[derive(Clone)]
struct Guest {
    client: &'static str,
    /// Of its confirmed reverse name.
    organisation: Option<&'static str>,
    spf: SpfProof,
    suspicious: bool,
    vouched: bool,
    how: Greylisting,
}

/// From a network, with nothing proven.
fn stranger(client: &'static str) -> Guest {
    Guest { client, organisation: None, spf: SpfProof::Unknown, suspicious: false, vouched: false, how: Greylisting::Always }
}

/// A host of an organisation.
fn host(client: &'static str, organisation: &'static str) -> Guest {
    Guest { organisation: Some(organisation), ..stranger(client) }
}

/// Named by the SPF record of the sender's domain.
fn authorised(client: &'static str) -> Guest {
    Guest { spf: SpfProof::Pass, ..stranger(client) }
}

impl House {
    fn open(directory: &Path) -> House {
        let (store, _) = Store::open(directory, Arc::new(RealDisk), StoreSettings::default()).unwrap();
        let settings = config::Greylist { delay: 5 * MINUTE, window: 2 * DAY, remember: 36 * DAY };
        House { greylist: Greylist::new(store.memory("greylist")), store, settings }
    }

    async fn ask(&self, guest: &Guest, sender: &str, recipient: &str, after: Duration) -> GreylistAnswer {
        let sender: ReversePath = sender.parse().unwrap();
        let recipient = Address::parse(recipient).unwrap();
        let name = guest.organisation.map(|organisation| Domain::parse(&format!("mx1.{organisation}")).unwrap());
        let newcomer = Newcomer {
            client: ip(guest.client),
            reverse_name: name.as_ref(),
            reverse_organisation: guest.organisation.map(|organisation| Domain::parse(organisation).unwrap()),
            sender: &sender,
            recipient: &recipient,
            is_suspicious: guest.suspicious,
            is_vouched: guest.vouched,
            how: guest.how,
        };
        self.greylist.check(&self.settings, &newcomer, async { guest.spf }, START + after).await
    }

    /// Seconds to wait, 0 for pass, when this one knocks so long after the start.
    async fn visit(&self, guest: &Guest, sender: &str, recipient: &str, after: Duration) -> u64 {
        match self.ask(guest, sender, recipient, after).await {
            GreylistAnswer::Pass(_) => 0,
            GreylistAnswer::Wait { seconds, .. } => seconds,
        }
    }

    async fn knock(&self, client: &'static str, sender: &str, recipient: &str, after: Duration) -> u64 {
        self.visit(&stranger(client), sender, recipient, after).await
    }

    /// `state network attempts` of all records.
    async fn list(&self, after: Duration) -> Vec<String> {
        let records = self.greylist.list(START + after, 100).await;
        records.iter().map(|record| format!("{} {} {}", record.state, record.network, record.attempts)).collect()
    }

    async fn reopen(self, directory: &Path) -> House {
        let House { greylist, store, .. } = self;
        greylist.save(START).await;
        drop(greylist);
        tokio::task::spawn_blocking(move || store.close()).await.unwrap();
        House::open(directory)
    }
}

fn network(address: &str) -> Identity {
    Identity::of_address(ip(address))
}

fn organisation(domain: &str) -> Identity {
    Identity::of_domain(&Domain::parse(domain).unwrap())
}

const JOE: &str = "joe@sender.example";
const ANN: &str = "ann@customer.example";
const BOB: &str = "bob@customer.example";

#[tokio::test]
async fn a_stranger_waits_once_and_its_network_is_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    assert_eq!(house.knock("192.0.2.1", JOE, ANN, Duration::ZERO).await, 300);
    assert_eq!(house.knock("192.0.2.9", JOE, ANN, 2 * MINUTE).await, 180, "another host of the network");
    assert_eq!(house.knock("192.0.2.1", JOE, BOB, 2 * MINUTE).await, 300, "another recipient");
    assert_eq!(house.list(2 * MINUTE).await, ["waiting 192.0.2.0/24 2", "waiting 192.0.2.0/24 1"]);
    assert_eq!(house.knock("192.0.2.1", JOE, ANN, 5 * MINUTE).await, 0);
    assert_eq!(house.knock("192.0.2.77", "other@sender.example", BOB, 5 * MINUTE).await, 0, "all of the network passes");
    assert_eq!(house.knock("192.0.3.1", JOE, ANN, 6 * MINUTE).await, 300, "not the next one");
    assert_eq!(house.list(6 * MINUTE).await, ["waiting 192.0.2.0/24 1", "passed 192.0.2.0/24 1", "waiting 192.0.3.0/24 1"]);
}

#[tokio::test]
async fn callouts_bounces_and_postmasters_do_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    assert_eq!(house.knock("192.0.2.1", "", ANN, Duration::ZERO).await, 0);
    assert_eq!(house.knock("192.0.2.1", JOE, "Postmaster@customer.example", Duration::ZERO).await, 0);
    assert_eq!(house.knock("192.0.2.1", JOE, "abuse@customer.example", Duration::ZERO).await, 0);
    assert_eq!(house.list(Duration::ZERO).await, Vec::<String>::new(), "and open no door for the rest");
    assert_eq!(house.knock("192.0.2.1", JOE, ANN, Duration::ZERO).await, 300);
}

#[tokio::test]
async fn a_pool_with_hosts_everywhere_waits_once_for_all_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    let pool = |client| host(client, "pool.example");
    assert_eq!(house.visit(&pool("192.0.2.1"), JOE, ANN, Duration::ZERO).await, 300);
    assert_eq!(house.visit(&pool("198.51.100.1"), JOE, ANN, MINUTE).await, 240, "a retry from another network");
    assert_eq!(house.visit(&pool("2001:db8::1"), JOE, ANN, 5 * MINUTE).await, 0, "and from another family");
    for (client, sender) in [("203.0.113.1", "new@other.example"), ("2001:db8:9::1", "x@third.example")] {
        assert_eq!(house.visit(&pool(client), sender, BOB, 6 * MINUTE).await, 0, "all of the pool is known: {client}");
    }
    assert_eq!(house.visit(&host("203.0.113.1", "other.example"), JOE, ANN, 6 * MINUTE).await, 300);
    assert_eq!(house.knock("192.0.2.99", JOE, BOB, 6 * MINUTE).await, 300, "neighbours of a pool's host have proven nothing");
    assert_eq!(
        house.knock("2001:db8::1", "y@fourth.example", BOB, 6 * MINUTE).await,
        0,
        "the host that came back is known itself"
    );
}

#[tokio::test]
async fn spf_makes_one_sender_of_all_its_hosts() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    assert_eq!(house.visit(&authorised("192.0.2.1"), "joe@mail.sender.example", ANN, Duration::ZERO).await, 300);
    assert_eq!(house.list(Duration::ZERO).await, ["waiting sender.example 1"]);
    assert_eq!(house.visit(&authorised("198.51.100.1"), "joe@mail.sender.example", ANN, 5 * MINUTE).await, 0);
    assert_eq!(house.visit(&authorised("203.0.113.1"), "jim@list.sender.example", BOB, 6 * MINUTE).await, 0);
    let forged = Guest { spf: SpfProof::Blemish, ..stranger("203.0.113.77") };
    assert_eq!(house.visit(&forged, JOE, BOB, 6 * MINUTE).await, 300, "the name alone opens nothing");
    assert_eq!(house.visit(&authorised("203.0.113.77"), "joe@other.example", BOB, 6 * MINUTE).await, 300);
}

#[tokio::test]
async fn a_proof_that_dns_withholds_at_the_retry_does_not_start_the_wait_anew() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    let both = Guest { spf: SpfProof::Pass, ..host("192.0.2.1", "pool.example") };
    assert_eq!(house.visit(&both, JOE, ANN, Duration::ZERO).await, 300);
    assert_eq!(house.visit(&host("198.51.100.1", "pool.example"), JOE, ANN, MINUTE).await, 240, "SPF is not known now");
    assert_eq!(house.visit(&authorised("203.0.113.1"), JOE, ANN, 2 * MINUTE).await, 180, "the reverse name is not known now");
    assert_eq!(house.knock("192.0.2.9", JOE, ANN, 3 * MINUTE).await, 120, "neither of them");
    assert_eq!(house.list(3 * MINUTE).await, ["waiting sender.example 4"]);
    assert_eq!(house.visit(&both, JOE, ANN, 5 * MINUTE).await, 0);
}

#[tokio::test]
async fn strangers_who_take_a_senders_name_neither_help_nor_hinder_it() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    assert_eq!(house.knock("192.0.2.1", JOE, ANN, Duration::ZERO).await, 300);
    assert_eq!(house.knock("198.51.100.1", JOE, ANN, 5 * MINUTE).await, 300, "another network has a clock of its own");
    for number in 0..100_u8 {
        let client = IpAddr::from([10, 0, number, 1]);
        let client: &'static str = client.to_string().leak();
        assert_eq!(house.knock(client, JOE, ANN, 5 * MINUTE).await, 300);
    }
    assert_eq!(house.knock("192.0.2.1", JOE, ANN, 6 * MINUTE).await, 0);
}

#[tokio::test]
async fn mail_signed_before_proves_the_organisation() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    house.greylist.allow(&house.settings, &organisation("sender.example"), START).await;
    assert_eq!(house.knock("192.0.2.1", JOE, ANN, Duration::ZERO).await, 300, "nothing proves that it is they");
    let client = Client {
        address: ip("198.51.100.1"),
        reverse_name: None,
        reverse_confirmed: false,
        helo: String::new(),
        protocol: Protocol::Esmtp,
        tls: None,
        findings: Vec::new(),
    };
    let signed = async |by: &str, sender: &str| {
        let (signer, sender) = (Domain::parse(by).unwrap(), sender.parse().unwrap());
        house.greylist.signed(&house.settings, &client, &sender, &signer, START).await;
    };
    signed("list.example", JOE).await;
    assert_eq!(house.knock("198.51.100.2", "x@list.example", ANN, MINUTE).await, 300, "a signature for others proves nothing");
    signed("mail.sender.example", JOE).await;
    assert_eq!(house.knock("198.51.100.2", "jim@sender.example", ANN, MINUTE).await, 0);
    assert_eq!(house.knock("198.51.100.2", "jim@other.example", ANN, MINUTE).await, 300);
    assert_eq!(house.knock("198.51.100.2", "jim@sender.example", BOB, 37 * DAY).await, 300, "it is forgotten in time");
}

#[tokio::test]
async fn only_the_suspicious_wait_where_the_domain_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    let neat = Guest { how: Greylisting::Suspicious, ..host("192.0.2.1", "sender.example") };
    assert_eq!(house.ask(&neat, JOE, ANN, Duration::ZERO).await, GreylistAnswer::Pass(Passed::Excused));
    let blemished = Guest { suspicious: true, ..neat.clone() };
    assert_eq!(house.visit(&blemished, JOE, ANN, Duration::ZERO).await, 300);
    let forged = Guest { spf: SpfProof::Blemish, client: "198.51.100.1", organisation: Some("other.example"), ..neat.clone() };
    assert_eq!(house.visit(&forged, JOE, BOB, Duration::ZERO).await, 300);
    assert_eq!(house.visit(&blemished, JOE, ANN, 5 * MINUTE).await, 0, "and pass when they come back");
    assert_eq!(house.visit(&Guest { how: Greylisting::Always, ..neat }, "x@third.example", BOB, 5 * MINUTE).await, 0);
}

#[tokio::test]
async fn whom_lists_vouch_for_and_whom_the_customer_wrote_to_does_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    let vouched = Guest { vouched: true, suspicious: true, ..stranger("192.0.2.1") };
    assert_eq!(house.ask(&vouched, JOE, ANN, Duration::ZERO).await, GreylistAnswer::Pass(Passed::Excused));
    assert_eq!(house.knock("192.0.2.1", JOE, ANN, Duration::ZERO).await, 300, "only while they do");

    let customer = Domain::parse("customer.example").unwrap();
    let jim = Address::parse("Jim@Friend.example").unwrap();
    house.greylist.correspondents.wrote(&customer, &jim, START).await;
    assert_eq!(house.knock("198.51.100.1", "jim@friend.example", BOB, Duration::ZERO).await, 0);
    assert_eq!(house.knock("198.51.100.1", "tim@friend.example", BOB, Duration::ZERO).await, 300);
    assert_eq!(house.knock("198.51.100.1", "jim@friend.example", "max@other.example", Duration::ZERO).await, 300);
    let house = house.reopen(directory.path()).await;
    assert_eq!(house.knock("203.0.113.1", "jim@friend.example", BOB, 179 * DAY).await, 0);
    assert_eq!(house.knock("203.0.113.1", "jim@friend.example", BOB, 181 * DAY).await, 300, "not heard of for half a year");
}

#[tokio::test]
async fn each_message_renews_what_is_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    house.knock("2001:db8::1", JOE, ANN, Duration::ZERO).await;
    assert_eq!(house.knock("2001:db8::2", JOE, ANN, 10 * MINUTE).await, 0);
    assert_eq!(house.knock("2001:db8::3", JOE, ANN, 30 * DAY).await, 0);
    assert_eq!(house.knock("2001:db8::4", JOE, ANN, 60 * DAY).await, 0);
    assert_eq!(house.list(60 * DAY).await, ["passed 2001:db8::/64 3"]);
    assert_eq!(house.knock("2001:db8::4", JOE, ANN, 97 * DAY).await, 300, "36 days without mail");
}

#[tokio::test]
async fn operators_allow_and_forget() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    house.greylist.allow(&house.settings, &network("192.0.2.1"), START).await;
    assert_eq!(house.knock("192.0.2.200", JOE, ANN, Duration::ZERO).await, 0);
    assert_eq!(house.list(Duration::ZERO).await, ["allowed 192.0.2.0/24 1"]);
    assert_eq!(house.knock("192.0.3.1", JOE, ANN, Duration::ZERO).await, 300);
    assert_eq!(house.knock("192.0.3.1", JOE, BOB, Duration::ZERO).await, 300);
    assert_eq!(house.greylist.forget(&network("192.0.2.7")).await, 1);
    assert_eq!(house.greylist.forget(&network("192.0.2.7")).await, 0);
    assert_eq!(house.greylist.forget(&network("192.0.3.7")).await, 2);
    assert_eq!(house.knock("192.0.2.1", JOE, ANN, MINUTE).await, 300);

    let pool = |client| host(client, "pool.example");
    house.greylist.allow(&house.settings, &organisation("mx1.pool.example"), START).await;
    assert_eq!(house.visit(&pool("198.51.100.1"), JOE, ANN, Duration::ZERO).await, 0);
    assert_eq!(house.visit(&authorised("203.0.113.1"), "joe@pool.example", ANN, Duration::ZERO).await, 0);
    assert_eq!(house.greylist.forget(&organisation("pool.example")).await, 1);
    assert_eq!(house.visit(&pool("198.51.100.1"), JOE, ANN, Duration::ZERO).await, 300);
    assert_eq!(house.visit(&pool("198.51.100.2"), JOE, ANN, 5 * MINUTE).await, 0);
    assert_eq!(house.greylist.forget(&network("198.51.100.0")).await, 1, "the host in it that came back");
    assert_eq!(house.greylist.forget(&organisation("pool.example")).await, 1);
}

#[tokio::test]
async fn what_has_expired_is_swept_out() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    house.knock("192.0.2.1", JOE, ANN, Duration::ZERO).await;
    house.knock("192.0.3.1", JOE, ANN, DAY).await;
    house.greylist.allow(&house.settings, &network("192.0.4.1"), START).await;
    assert_eq!(house.list(2 * DAY).await.len(), 2, "what has expired is not shown");
    assert_eq!(house.greylist.sweep(START + 2 * DAY).await, 1);
    assert_eq!(house.greylist.sweep(START + 2 * DAY).await, 0);
    assert_eq!(house.greylist.sweep(START + 36 * DAY).await, 4, "a first try, a network, and what was lost long ago");
    assert_eq!(house.greylist.sweep(START + 36 * DAY).await, 0);
    assert_eq!(house.list(Duration::ZERO).await, Vec::<String>::new());
}

#[tokio::test]
async fn records_of_an_older_version_are_understood_or_expire() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    let memory = house.store.memory("greylist");
    let former = |expires: Timestamp| format!("{{\"f\":{0},\"l\":{0},\"n\":1,\"e\":{1}}}", START.0, expires.0).into_bytes();
    memory.put(b"n192.0.2.0/24".to_vec(), former(START + DAY)).await;
    memory.put(b"w192.0.3.0/24\0joe@sender.example\0ann@customer.example".to_vec(), former(START + 2 * DAY)).await;
    assert_eq!(house.knock("192.0.2.7", JOE, ANN, Duration::ZERO).await, 0);
    assert_eq!(house.knock("192.0.3.7", JOE, ANN, 5 * MINUTE).await, 300, "it waits once more");
    assert_eq!(house.greylist.sweep(START + DAY).await, 1);
    assert_eq!(memory.scan(b"w".to_vec(), None, 10).await.len(), 1, "it may be of use to the version that wrote it");
    assert_eq!(house.greylist.sweep(START + 2 * DAY).await, 1);
    assert!(memory.scan(b"w".to_vec(), None, 10).await.is_empty());
}

#[tokio::test]
async fn a_thousand_strangers_are_listed_and_swept_in_pages() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    for number in 0..2100_u32 {
        let client: &'static str = format!("192.{}.{}.1", number / 200, number % 200).leak();
        house.knock(client, JOE, &format!("r{number}@customer.example"), Duration::from_secs(u64::from(number))).await;
    }
    let newest = house.greylist.list(START, 3).await;
    let networks: Vec<_> = newest.iter().map(|record| record.network.as_str()).collect();
    assert_eq!(networks, ["192.10.97.0/24", "192.10.98.0/24", "192.10.99.0/24"]);
    assert_eq!(house.greylist.waiting(), 2100);
    assert_eq!(house.greylist.sweep(START + 3 * DAY).await, 2100);
    assert_eq!((house.greylist.waiting(), house.greylist.lost_since_start()), (0, 2100));
    assert_eq!(house.greylist.lost(START + 3 * DAY, 1000, WhichLost::Plausible).await.len(), 1000);
}

#[tokio::test]
async fn a_restart_forgets_nothing_and_a_lost_memory_makes_everybody_new() {
    let directory = tempfile::tempdir().unwrap();
    let before = House::open(directory.path());
    before.knock("192.0.2.1", JOE, ANN, Duration::ZERO).await;
    before.visit(&host("192.0.9.1", "pool.example"), JOE, ANN, Duration::ZERO).await;
    before.greylist.allow(&before.settings, &network("192.0.3.1"), START).await;
    let after = before.reopen(directory.path()).await;
    assert_eq!(after.knock("192.0.2.1", JOE, ANN, 4 * MINUTE).await, 60);
    assert_eq!(after.visit(&host("198.51.100.1", "pool.example"), JOE, ANN, 4 * MINUTE).await, 60);
    assert_eq!(after.knock("192.0.3.1", JOE, ANN, 4 * MINUTE).await, 0);
    assert_eq!(after.greylist.statistics(30, START + 4 * MINUTE).await.total.delayed, 2);

    let House { greylist, store, .. } = after;
    drop(greylist);
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    std::fs::remove_dir_all(directory.path().join("memory")).unwrap();
    let forgetful = House::open(directory.path());
    assert_eq!(forgetful.knock("192.0.2.1", JOE, ANN, 5 * MINUTE).await, 300);
    assert_eq!(forgetful.knock("192.0.3.1", JOE, ANN, 5 * MINUTE).await, 300);
    assert_eq!(forgetful.greylist.statistics(30, START + 5 * MINUTE).await.total.delayed, 2);
}

#[tokio::test]
async fn statistics_tell_what_waiting_cost() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    // Twenty senders come back after their five minutes, one after three hours, four never.
    for number in 0..25_u8 {
        let client: &'static str = format!("198.51.{number}.1").leak();
        assert_eq!(house.knock(client, JOE, ANN, Duration::ZERO).await, 300);
        let back = match number {
            0..20 => 5 * MINUTE,
            20 => 180 * MINUTE,
            _ => continue,
        };
        house.knock(client, JOE, ANN, MINUTE).await;
        assert_eq!(house.knock(client, JOE, ANN, back).await, 0);
        assert_eq!(house.knock(client, JOE, BOB, back).await, 0, "taken at once from now on");
    }
    let report = house.greylist.statistics(30, START + DAY).await;
    let total = &report.total;
    assert_eq!((total.mail, total.delayed, total.came_back, total.lost), (46, 25, 21, 0));
    assert_eq!(total.median_delay_seconds, Some(304));
    assert_eq!(total.p95_delay_seconds, Some(304));
    house.greylist.sweep(START + 2 * DAY).await;
    let report = house.greylist.statistics(30, START + 2 * DAY).await;
    assert_eq!(report.total.lost, 4);
    assert_eq!(report.days[0].day, "2026-11-20", "all of it counts for the day of the first try");
    assert_eq!(report.days.iter().map(|day| day.delayed).collect::<Vec<_>>(), [25, 0], "the last one was taken after midnight");
}

#[tokio::test]
async fn who_passes_for_another_reason_has_come_back_too() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    house.knock("192.0.2.1", JOE, ANN, Duration::ZERO).await;
    house.knock("192.0.2.1", JOE, BOB, Duration::ZERO).await;
    assert_eq!(house.knock("192.0.2.1", JOE, ANN, 5 * MINUTE).await, 0);
    let second = house.ask(&stranger("192.0.2.1"), JOE, BOB, 6 * MINUTE).await;
    assert_eq!(second, GreylistAnswer::Pass(Passed::CameBack { after: 6 * MINUTE }));
    assert_eq!(house.ask(&stranger("192.0.2.1"), JOE, BOB, 6 * MINUTE).await, GreylistAnswer::Pass(Passed::Known));
    house.greylist.sweep(START + 2 * DAY).await;
    let total = house.greylist.statistics(30, START + 2 * DAY).await.total;
    assert_eq!((total.mail, total.delayed, total.came_back, total.lost), (3, 2, 2, 0));
}

#[tokio::test]
async fn strangers_do_not_come_back_when_the_real_sender_does() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    house.greylist.allow(&house.settings, &network("192.0.2.1"), START).await;
    let forged = Guest { spf: SpfProof::Blemish, ..stranger("198.51.100.1") };
    assert_eq!(house.visit(&forged, JOE, ANN, Duration::ZERO).await, 300);
    assert_eq!(house.ask(&stranger("192.0.2.1"), JOE, ANN, MINUTE).await, GreylistAnswer::Pass(Passed::Known));
    house.greylist.sweep(START + 2 * DAY).await;
    assert_eq!(house.greylist.statistics(30, START + 2 * DAY).await.total.lost, 1);
    assert_eq!(house.greylist.lost(START + 2 * DAY, 10, WhichLost::Plausible).await, [], "SPF denies it: it is suspicious");
    assert_eq!(house.greylist.lost(START + 2 * DAY, 10, WhichLost::All).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: a million first tries take minutes"]
async fn a_million_invented_senders_stay_within_bounds() {
    const SENDERS: usize = 1_050_000;
    const AT_A_TIME: usize = 50;
    let directory = tempfile::tempdir().unwrap();
    let house = Arc::new(House::open(directory.path()));
    let started = std::time::Instant::now();
    let mut floods = tokio::task::JoinSet::new();
    for lane in 0..AT_A_TIME {
        let house = Arc::clone(&house);
        floods.spawn(async move {
            let mut passed = 0;
            let letters = |number: usize| format!("{number:x}").replace(|digit: char| digit.is_ascii_digit(), "z");
            for number in (lane..SENDERS).step_by(AT_A_TIME) {
                let sender = format!("{}{}@{number}.invented.example", letters(number), letters(lane));
                passed += usize::from(house.knock("192.0.2.1", &sender, ANN, Duration::ZERO).await == 0);
            }
            passed
        });
    }
    let passed: usize = floods.join_all().await.into_iter().sum();
    let waiting = house.greylist.waiting();
    println!("{waiting} first tries in {:?}, {passed} passed", started.elapsed());
    assert!((1_000_000..=1_000_000 + AT_A_TIME).contains(&waiting) && waiting + passed == SENDERS, "{waiting} {passed}");
    let started = std::time::Instant::now();
    assert_eq!(house.greylist.sweep(START + 2 * DAY).await, waiting);
    println!("swept in {:?}", started.elapsed());
    let lost = house.greylist.lost(START + 2 * DAY, usize::MAX, WhichLost::Plausible).await;
    assert_eq!(lost.len(), LOST_MAX);
    let files = std::fs::read_dir(directory.path().join("memory")).unwrap().flatten();
    let bytes: u64 = files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
    println!("{} MiB on disk", bytes >> 20);
}

#[tokio::test]
async fn what_never_came_back_is_listed_until_it_would_pass() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    house.visit(&host("192.0.2.1", "pool.example"), "bounce-42@pool.example", ANN, Duration::ZERO).await;
    house.visit(&host("192.0.2.1", "pool.example"), "bounce-42@pool.example", ANN, MINUTE).await;
    house.knock("198.51.100.1", JOE, BOB, 2 * MINUTE).await;
    house.visit(&Guest { suspicious: true, ..stranger("203.0.113.1") }, JOE, ANN, 3 * MINUTE).await;
    let lost = async |after, which| {
        house.greylist.sweep(START + after).await;
        house.greylist.lost(START + after, 10, which).await
    };
    assert_eq!(lost(DAY, WhichLost::All).await, [], "they may still come");
    let found = lost(3 * DAY, WhichLost::Plausible).await;
    let told: Vec<_> = found.iter().map(|lost| (lost.sender.as_str(), lost.recipient.as_str(), lost.allow.as_str())).collect();
    assert_eq!(told, [(JOE, BOB, "198.51.100.0/24"), ("bounce-42@pool.example", ANN, "pool.example")]);
    assert_eq!((found[1].attempts, found[1].first_try, found[1].last_try), (2, START, START + MINUTE));
    assert_eq!((found[1].client, found[1].reverse_name.as_deref()), (ip("192.0.2.1"), Some("mx1.pool.example")));
    assert_eq!(lost(3 * DAY, WhichLost::All).await.len(), 3);
    for whom in [organisation("pool.example"), network("198.51.100.77")] {
        house.greylist.allow(&house.settings, &whom, START + 3 * DAY).await;
    }
    assert_eq!(lost(3 * DAY, WhichLost::Plausible).await, []);
    assert_eq!(house.visit(&host("203.0.113.99", "pool.example"), JOE, ANN, 3 * DAY).await, 0);
    assert_eq!(lost(40 * DAY, WhichLost::All).await, [], "a month is enough");
}

#[tokio::test]
async fn a_retry_after_the_window_is_a_first_try_and_the_one_before_was_lost() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    house.knock("192.0.2.1", JOE, ANN, Duration::ZERO).await;
    assert_eq!(house.knock("192.0.2.1", JOE, ANN, 2 * DAY).await, 300);
    let total = house.greylist.statistics(30, START + 2 * DAY).await.total;
    assert_eq!((total.delayed, total.came_back, total.lost), (2, 0, 1));
    assert_eq!(house.greylist.lost(START + 2 * DAY, 10, WhichLost::All).await.len(), 1);
    assert_eq!(house.knock("192.0.2.1", JOE, ANN, 2 * DAY + 5 * MINUTE).await, 0);
    assert_eq!(house.greylist.lost(START + 3 * DAY, 10, WhichLost::All).await, [], "it passes by now");
}

// ------------------------------------------------------------------------------------------------------ the whole gateway

/// The client's name is asked for, and nobody is refused for it.
const CHECKED: &str = "[checks]\nreverse_dns = \"score\"\ndmarc = \"off\"\nearly_talker_wait = \"0s\"\n";

/// A customer with greylisting, and one without.
fn customers(greylist: &str) -> String {
    domain("customer.example", &["203.0.113.5"], &format!("greylist = \"{greylist}\"\nrelay_from = [\"10.0.0.0/8\"]"))
        + &domain("other.example", &["203.0.113.6"], "")
}

/// Gives a host its name; confirmed: the name leads back to it.
fn named(world: &World, address: &str, name: &str, confirmed: bool) {
    world.dns.change(|zone| {
        let name: Domain = name.parse().unwrap();
        zone.names.insert(ip(address), vec![name.clone()]);
        zone.addresses.insert(name, vec![if confirmed { ip(address) } else { ip("192.0.2.254") }]);
    });
}

/// The first words of the reply to a recipient.
async fn rcpt(world: &World, client: &str, sender: &str, recipient: &str) -> String {
    let mut peer = world.client_at(client).await;
    assert!(peer.say(&format!("MAIL FROM:<{sender}>")).await.starts_with("250 "));
    let reply = peer.say(&format!("RCPT TO:<{recipient}>")).await;
    reply.split_at_checked(9).map_or(reply.clone(), |(code, _)| code.to_owned())
}

const TAKEN: &str = "250 2.1.5";
const LATER: &str = "451 4.7.1";

#[tokio::test]
async fn a_pool_passes_the_door_after_one_delay() {
    let mut world = World::new(&customers("always")).await;
    for (address, name) in
        [("192.0.2.1", "a.pool.example"), ("198.51.100.1", "b.pool.example"), ("203.0.113.77", "c.pool.example")]
    {
        named(&world, address, name, true);
    }
    named(&world, "192.0.99.1", "d.pool.example", false);
    named(&world, "192.0.98.27", "static.27.98.0.192.pool.example", true);
    assert_eq!(rcpt(&world, "192.0.2.1", JOE, ANN).await, LATER);
    world.restart().await;
    world.pass(5 * MINUTE);
    assert_eq!(rcpt(&world, "198.51.100.1", JOE, ANN).await, TAKEN);
    assert_eq!(rcpt(&world, "203.0.113.77", "jim@third.example", BOB).await, TAKEN);
    assert_eq!(rcpt(&world, "192.0.99.1", JOE, BOB).await, LATER, "a name that it only claims");
    assert_eq!(rcpt(&world, "192.0.98.27", JOE, BOB).await, LATER, "a name that its provider gave it");
    let lines = world.lines();
    let back = lines.iter().find(|line| line.what == "came-back").expect("the mail log says so");
    assert_eq!((back.text.as_str(), back.from.as_deref()), ("300 s after its first try", Some(JOE)));
    let metrics = world.flow().maillog.metrics().render();
    for count in ["feedgate_greylist_passed_total{why=\"came-back\"} 1", "feedgate_greylist_passed_total{why=\"known\"} 1"] {
        assert!(metrics.contains(count), "{metrics}");
    }
    assert!(metrics.contains("feedgate_greylist_delay_seconds_sum 300"), "{metrics}");
}

#[tokio::test]
async fn hosts_that_spf_names_are_one_at_the_door() {
    let world = World::new(&customers("always")).await;
    world.dns.change(|zone| {
        let record = b"v=spf1 ip4:192.0.2.0/24 ip4:198.51.100.0/24 -all".to_vec();
        zone.texts.insert("sender.example".parse().unwrap(), vec![record]);
    });
    assert_eq!(rcpt(&world, "192.0.2.1", "joe@sender.example", ANN).await, LATER);
    world.pass(5 * MINUTE);
    assert_eq!(rcpt(&world, "203.0.113.77", "joe@sender.example", ANN).await, LATER, "SPF does not name it");
    assert_eq!(rcpt(&world, "198.51.100.1", "joe@sender.example", ANN).await, TAKEN, "another network of the same sender");
    assert_eq!(rcpt(&world, "192.0.2.77", "jim@sender.example", BOB).await, TAKEN, "known by now");
}

#[tokio::test]
async fn a_dns_list_that_speaks_for_a_client_spares_it_the_wait() {
    let list = "[checks.lists.\"wl.example\"]\npoints = -1\n";
    let world = World::new(&(CHECKED.to_owned() + list + &customers("always"))).await;
    world.dns.change(|zone| {
        for name in ["2.0.0.127.wl.example", "1.2.0.192.wl.example"] {
            zone.addresses.insert(name.parse().unwrap(), vec![ip("127.0.0.2")]);
        }
    });
    assert_eq!(rcpt(&world, "192.0.2.1", JOE, ANN).await, TAKEN);
    assert_eq!(rcpt(&world, "198.51.100.1", JOE, ANN).await, LATER, "not on it");
}

#[tokio::test]
async fn neat_hosts_pass_the_door_where_only_the_suspicious_wait() {
    let checks = "[checks]\nreverse_dns = \"score\"\nforward_confirmed = \"score\"\nhelo = \"off\"\nearly_talker_wait = \"0s\"\n";
    let world = World::new(&(customers("suspicious") + checks)).await;
    named(&world, "192.0.2.1", "out.sender.example", true);
    assert_eq!(rcpt(&world, "192.0.2.1", JOE, ANN).await, TAKEN);
    assert_eq!(rcpt(&world, "198.51.100.1", JOE, ANN).await, LATER, "without a name");
    world.pass(5 * MINUTE);
    assert_eq!(rcpt(&world, "198.51.100.1", JOE, ANN).await, TAKEN);
}

#[tokio::test]
async fn whoever_a_customer_wrote_to_may_answer_at_once() {
    let world = World::new(&customers("always")).await;
    let reply = world.client_at("10.1.2.3").await.send(ANN, &["Friend@other.example"], "Subject: hello\r\n\r\nhello\r\n").await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(rcpt(&world, "192.0.2.1", "friend@other.example", BOB).await, TAKEN);
    assert_eq!(rcpt(&world, "192.0.2.1", "foe@other.example", BOB).await, LATER);
    let reply =
        world.client_at("192.0.2.9").await.send("bob@customer.example", &["foe@other.example"], "Subject: x\r\n\r\nx\r\n").await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(
        rcpt(&world, "192.0.2.1", "foe@other.example", BOB).await,
        LATER,
        "a stranger with the customer's name proves nothing"
    );
}

#[tokio::test]
async fn what_never_came_back_to_the_door_is_counted_and_listed() {
    let world = World::new(&(CHECKED.to_owned() + &customers("always"))).await;
    named(&world, "192.0.2.1", "out.sender.example", true);
    assert_eq!(rcpt(&world, "192.0.2.1", JOE, ANN).await, LATER);
    assert_eq!(rcpt(&world, "198.51.100.1", "spam@spam.example", ANN).await, LATER);
    world.pass(2 * DAY);
    let greylist = &world.flow().checks.greylist;
    greylist.sweep(world.now()).await;
    let lost = greylist.lost(world.now(), 10, WhichLost::Plausible).await;
    assert_eq!(lost.iter().map(|lost| lost.allow.as_str()).collect::<Vec<_>>(), ["sender.example"]);
    assert_eq!(greylist.lost(world.now(), 10, WhichLost::All).await.len(), 2);
    assert_eq!(greylist.statistics(30, world.now()).await.total.lost, 2);
}
