//! Greylisting on a real store: who waits, who passes, and what is still known after a restart.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use feedgate::checks::{Greylist, GreylistAnswer};
use feedgate::config;
use feedgate::mail::{Address, ReversePath, Timestamp};
use feedgate::store::{RealDisk, Store, StoreSettings};

const START: Timestamp = Timestamp(1_795_214_160_000);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A greylist with its store.
struct House {
    greylist: Greylist,
    store: Store,
    settings: config::Greylist,
}

impl House {
    fn open(directory: &Path) -> House {
        let (store, _) = Store::open(directory, Arc::new(RealDisk), StoreSettings::default()).unwrap();
        let settings = config::Greylist { delay: 5 * MINUTE, window: 2 * DAY, remember: 36 * DAY };
        House { greylist: Greylist::new(store.memory("greylist")), store, settings }
    }

    /// Seconds to wait, 0 for pass, when this client knocks so long after the start.
    async fn knock(&self, client: &str, sender: &str, recipient: &str, after: Duration) -> u64 {
        let sender: ReversePath = sender.parse().unwrap();
        let recipient = Address::parse(recipient).unwrap();
        match self.greylist.check(&self.settings, ip(client), &sender, &recipient, START + after).await {
            GreylistAnswer::Pass => 0,
            GreylistAnswer::Wait { seconds } => seconds,
        }
    }

    /// `state network attempts` of all records.
    async fn list(&self, after: Duration) -> Vec<String> {
        let records = self.greylist.list(START + after, 100).await;
        records.iter().map(|record| format!("{} {} {}", record.state, record.network, record.attempts)).collect()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
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
    house.greylist.allow(&house.settings, ip("192.0.2.1"), START).await;
    assert_eq!(house.knock("192.0.2.200", JOE, ANN, Duration::ZERO).await, 0);
    assert_eq!(house.list(Duration::ZERO).await, ["allowed 192.0.2.0/24 1"]);
    assert_eq!(house.knock("192.0.3.1", JOE, ANN, Duration::ZERO).await, 300);
    assert_eq!(house.knock("192.0.3.1", JOE, BOB, Duration::ZERO).await, 300);
    assert_eq!(house.greylist.forget(ip("192.0.2.7")).await, 1);
    assert_eq!(house.greylist.forget(ip("192.0.2.7")).await, 0);
    assert_eq!(house.greylist.forget(ip("192.0.3.7")).await, 2);
    assert_eq!(house.knock("192.0.2.1", JOE, ANN, MINUTE).await, 300);
}

#[tokio::test]
async fn what_has_expired_is_swept_out() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    house.knock("192.0.2.1", JOE, ANN, Duration::ZERO).await;
    house.knock("192.0.3.1", JOE, ANN, DAY).await;
    house.greylist.allow(&house.settings, ip("192.0.4.1"), START).await;
    assert_eq!(house.list(2 * DAY).await.len(), 2, "what has expired is not shown");
    assert_eq!(house.greylist.sweep(START + 2 * DAY).await, 1);
    assert_eq!(house.greylist.sweep(START + 2 * DAY).await, 0);
    assert_eq!(house.greylist.sweep(START + 36 * DAY).await, 2);
    assert_eq!(house.list(Duration::ZERO).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_thousand_strangers_are_listed_and_swept_in_pages() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::open(directory.path());
    for number in 0..2100_u32 {
        let client = format!("192.{}.{}.1", number / 200, number % 200);
        house.knock(&client, JOE, ANN, Duration::from_secs(u64::from(number))).await;
    }
    let newest = house.greylist.list(START, 3).await;
    let networks: Vec<_> = newest.iter().map(|record| record.network.as_str()).collect();
    assert_eq!(networks, ["192.10.97.0/24", "192.10.98.0/24", "192.10.99.0/24"]);
    assert_eq!(house.greylist.sweep(START + 3 * DAY).await, 2100);
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let before = House::open(directory.path());
    before.knock("192.0.2.1", JOE, ANN, Duration::ZERO).await;
    before.greylist.allow(&before.settings, ip("192.0.3.1"), START).await;
    let House { greylist, store, .. } = before;
    drop(greylist);
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();

    let after = House::open(directory.path());
    assert_eq!(after.knock("192.0.2.1", JOE, ANN, 4 * MINUTE).await, 60);
    assert_eq!(after.knock("192.0.3.1", JOE, ANN, 4 * MINUTE).await, 0);
}
