//! Cases: what was seen when somebody was turned away, kept for the page that explains it to them, under a signed link.
//!
//! A case is kept for 30 days in the store's memory, which may be forgotten: then the link leads to a page that says so. Links
//! are signed ([`token`]), so that nobody can look at what others did by counting.
//!
//! **Nothing that strangers send can fill the disk.** A case is under 4 KiB. The same client turned away again within ten
//! minutes for the same reason gets the link it has ([`recent`]); a network gets a few links in that time for each domain it
//! writes to and each reason; all together get a thousand in a minute; and [`CASES_MAX`] cases are kept, of which the oldest go
//! first. Whoever gets no link gets the same reply without one.
//!
//! On failure (no key, no room): a reply without a link. Refusals never wait for it, and mail never depends on it.

mod advice;
mod case;
mod now;
mod recent;
mod token;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::OnceCell;

pub use advice::{Advice, SpfChange, advice};
pub use case::{Case, Kind};
pub use now::{Answer, DnsNow, Named, Sender};
use recent::{Place, Recent};
use token::{CaseId, KEY_LENGTH, Key};

use crate::mail::Timestamp;
use crate::outside::{Clock, Resolver};
use crate::store::{Memory, Store, StoreError};

/// How long a case is kept.
pub const KEEP: Duration = Duration::from_secs(30 * 86_400);
/// Cases kept at a time: at most 200 MB, usually a quarter of that.
const CASES_MAX: usize = 50_000;
/// That many of the oldest go at a time when there are too many.
const ROOM_MADE: usize = 100;
/// Cases read at a time.
const PAGE: usize = 1000;
/// Before the id in a case's key.
const PREFIX: &[u8] = b"c";
/// Where the key to the signatures is kept.
const KEY_NOTE: &str = "why";
/// What a reply line has room for (RFC 5321 §4.5.3.1.5, with code and line end); a link that does not fit is left out, never cut.
const LINK_MAX: usize = 470;

/// Keeps cases. Cloning shares it.
#[derive(Clone)]
pub struct Cases {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    memory: Memory,
    clock: Arc<dyn Clock>,
    /// `None` inside: it could not be read or made.
    key: OnceCell<Option<Key>>,
    recent: Mutex<Recent>,
    /// Counted up here, and anew by each sweep.
    kept: AtomicUsize,
}

/// What a link leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Case(Box<Case>),
    /// Ours, but its case is no longer kept.
    Gone,
    /// Not a link of ours.
    Forged,
}

impl Cases {
    pub fn new(store: &Store, clock: Arc<dyn Clock>) -> Cases {
        let shared = Shared {
            store: store.clone(),
            memory: store.memory("cases"),
            clock,
            key: OnceCell::new(),
            recent: Mutex::default(),
            kept: AtomicUsize::new(0),
        };
        Cases { shared: Arc::new(shared) }
    }

    /// Keeps the case and returns the link to it, under the address where strangers reach the pages. `None`: there is no link
    /// this time.
    pub async fn record(&self, public_url: &str, case: &Case) -> Option<String> {
        let key = self.key().await?;
        let place = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner).place(case);
        let id = match place {
            Place::Known(id) => id,
            Place::New(id) => {
                self.keep(id, case).await?;
                id
            }
            Place::Full => return None,
        };
        let link = format!("{public_url}/why/{}", key.sign(id));
        (link.len() <= LINK_MAX && link.bytes().all(|byte| byte.is_ascii_graphic())).then_some(link)
    }

    /// What this token, the end of a link, leads to.
    pub async fn find(&self, token: &str) -> Found {
        let Some(id) = self.key().await.and_then(|key| key.read(token)) else { return Found::Forged };
        if is_over(id, self.shared.clock.now()) {
            return Found::Gone;
        }
        let value = self.shared.memory.get(memory_key(id)).await;
        match value.as_deref().and_then(Case::decode) {
            Some(case) => Found::Case(Box::new(case)),
            None => Found::Gone,
        }
    }

    /// What DNS says about the sender of a case now.
    pub async fn ask(&self, resolver: &dyn Resolver, sender: &Sender<'_>) -> DnsNow {
        DnsNow::ask(resolver, &*self.shared.clock, sender).await
    }

    /// Forgets what is over; how many that were.
    pub async fn sweep(&self, now: Timestamp) -> usize {
        let (mut removed, mut kept, mut after) = (0, 0, None);
        loop {
            let page = self.shared.memory.scan(PREFIX.to_vec(), after.take(), PAGE).await;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in page {
                if case_id(&key).is_some_and(|id| !is_over(id, now)) && Case::decode(&value).is_some() {
                    kept += 1;
                } else {
                    removed += usize::from(self.shared.memory.remove(key).await);
                }
            }
        }
        self.shared.kept.store(kept, Ordering::Relaxed);
        removed
    }

    async fn keep(&self, id: CaseId, case: &Case) -> Option<()> {
        let value = case.encode()?;
        if self.shared.kept.fetch_add(1, Ordering::Relaxed) >= CASES_MAX {
            for (oldest, _) in self.shared.memory.scan(PREFIX.to_vec(), None, ROOM_MADE).await {
                if self.shared.memory.remove(oldest).await {
                    self.shared.kept.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
        self.shared.memory.put(memory_key(id), value).await;
        Some(())
    }

    /// Read, or made, when the first link is asked for. It must outlive restarts, or all links that are out would be forged ones.
    async fn key(&self) -> Option<&Key> {
        let read_or_make = async || {
            let store = self.shared.store.clone();
            let key = tokio::task::spawn_blocking(move || read_or_make_key(&store)).await;
            // How many there are must be known before there can be too many.
            let cases = self.clone();
            tokio::spawn(async move { cases.sweep(cases.shared.clock.now()).await });
            match key {
                Ok(Ok(key)) => Some(key),
                Ok(Err(why)) => {
                    tracing::error!(%why, "the key to the explanation pages cannot be had: refusals carry no links until a restart");
                    None
                }
                Err(_) => None,
            }
        };
        self.shared.key.get_or_init(read_or_make).await.as_ref()
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
enum NoKey {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the system gives no random numbers")]
    NoRandom,
}

/// Blocks. Power fails before the key is durable: no link was given out yet, and the next start makes another one.
fn read_or_make_key(store: &Store) -> Result<Key, NoKey> {
    if let Some(key) = store.note(KEY_NOTE)?.filter(|key| key.len() == KEY_LENGTH) {
        return Ok(Key::new(&key));
    }
    let mut key = [0; KEY_LENGTH];
    SystemRandom::new().fill(&mut key).map_err(|_| NoKey::NoRandom)?;
    store.keep_note(KEY_NOTE, &key)?;
    Ok(Key::new(&key))
}

fn memory_key(id: CaseId) -> Vec<u8> {
    [PREFIX, &id.0].concat()
}

fn case_id(key: &[u8]) -> Option<CaseId> {
    key.strip_prefix(PREFIX)?.try_into().ok().map(CaseId)
}

fn is_over(id: CaseId, now: Timestamp) -> bool {
    now.since(id.at()) >= KEEP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Client, Protocol, Reply, ReversePath};
    use crate::sim;
    use crate::store::{RealDisk, StoreSettings};

    struct House {
        cases: Cases,
        clock: Arc<sim::Clock>,
        store: Store,
    }

    fn open(directory: &std::path::Path) -> House {
        let settings = StoreSettings { reserve: 0, ..StoreSettings::default() };
        let (store, _) = Store::open(directory, Arc::new(RealDisk), settings).unwrap();
        let clock = Arc::new(sim::Clock::new());
        House { cases: Cases::new(&store, Arc::clone(&clock) as Arc<dyn Clock>), clock, store }
    }

    impl House {
        fn case(&self, client: &str, sender: &str, domain: &str) -> Case {
            let client = Client {
                address: client.parse().unwrap(),
                reverse_name: None,
                reverse_confirmed: false,
                helo: "mail.sender.example".to_owned(),
                protocol: Protocol::Esmtp,
                tls: None,
                findings: Vec::new(),
            };
            let sender: ReversePath = sender.parse().unwrap();
            let domain = domain.parse().unwrap();
            Case::new(self.clock.now(), &client, &sender, Some(domain), &Reply::no_reverse_name()).unwrap()
        }

        async fn link(&self, client: &str, sender: &str, domain: &str) -> Option<String> {
            self.cases.record("https://mail.isp.example", &self.case(client, sender, domain)).await
        }
    }

    fn token(link: &str) -> &str {
        link.strip_prefix("https://mail.isp.example/why/").unwrap()
    }

    const JOE: &str = "joe@sender.example";

    #[tokio::test]
    async fn a_link_leads_to_its_case_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let house = open(directory.path());
        let link = house.link("192.0.2.4", JOE, "customer.example").await.unwrap();
        let Found::Case(case) = house.cases.find(token(&link)).await else { panic!("it is kept") };
        assert_eq!(*case, house.case("192.0.2.4", JOE, "customer.example"));
        house.store.close();
        while Arc::strong_count(&house.cases.shared) > 1 {
            // It still counts what there is.
            tokio::task::yield_now().await;
        }
        drop(house);
        let house = open(directory.path());
        assert!(matches!(house.cases.find(token(&link)).await, Found::Case(_)));
        house.store.close();
    }

    #[tokio::test]
    async fn forged_links_are_told_from_those_that_are_over() {
        let directory = tempfile::tempdir().unwrap();
        let house = open(directory.path());
        let link = house.link("192.0.2.4", JOE, "customer.example").await.unwrap();
        let token = token(&link).to_owned();
        for place in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[place] = if forged[place] == b'0' { b'1' } else { b'0' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(house.cases.find(&forged).await, Found::Forged, "{forged}");
        }
        for nonsense in ["", "x", "%00", &token[1..], &format!("{token}0"), &"ü".repeat(12), &"0".repeat(100_000)] {
            assert_eq!(house.cases.find(nonsense).await, Found::Forged, "{nonsense}");
        }
        house.clock.advance(KEEP);
        assert_eq!(house.cases.find(&token).await, Found::Gone);
        assert_eq!(house.cases.sweep(house.clock.now()).await, 1);
        assert_eq!(house.cases.sweep(house.clock.now()).await, 0);
    }

    #[tokio::test]
    async fn whoever_comes_again_gets_the_link_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let house = open(directory.path());
        let link = house.link("192.0.2.4", JOE, "customer.example").await.unwrap();
        assert_eq!(house.link("192.0.2.4", "ann@sender.example", "customer.example").await, Some(link.clone()));
        let others = [
            house.link("192.0.2.5", JOE, "customer.example").await,
            house.link("192.0.2.4", "joe@other.example", "customer.example").await,
            house.link("192.0.2.4", JOE, "plain.example").await,
        ];
        assert!(others.iter().all(|other| other.is_some() && *other != Some(link.clone())), "{others:?}");
        house.clock.advance(Duration::from_secs(601));
        let later = house.link("192.0.2.4", JOE, "customer.example").await;
        assert!(later.is_some() && later != Some(link));
    }

    #[tokio::test]
    async fn a_flood_is_kept_small_and_the_oldest_go_first() {
        let directory = tempfile::tempdir().unwrap();
        let house = open(directory.path());
        let first = house.link("192.0.2.4", JOE, "customer.example").await.unwrap();
        house.cases.shared.kept.store(CASES_MAX, Ordering::Relaxed);
        house.clock.advance(Duration::from_secs(1));
        let second = house.link("198.51.100.4", JOE, "customer.example").await.unwrap();
        assert_eq!(house.cases.find(token(&first)).await, Found::Gone);
        assert!(matches!(house.cases.find(token(&second)).await, Found::Case(_)));
    }

    #[tokio::test]
    async fn an_address_that_leaves_no_room_for_the_token_makes_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let house = open(directory.path());
        let case = house.case("192.0.2.4", JOE, "customer.example");
        let long = format!("https://{}.example", "x".repeat(460));
        assert_eq!(house.cases.record(&long, &case).await, None);
        assert_eq!(house.cases.record("https://a b", &case).await, None);
    }
}
