//! What callouts and deliveries taught about addresses, in the memory that may be forgotten.
//!
//! | key | value |
//! |---|---|
//! | `a/DOMAIN/LOCAL` | [`Known`]: one address |
//! | `t/DOMAIN` | [`Trust`]: whether the domain's server tells addresses apart at all |
//!
//! What has expired is kept for a while longer: when the customer's server is down it is better than nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::replies::Reading;
use crate::mail::{Address, Domain, Timestamp};
use crate::store::Memory;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// An address that exists stays for long.
const EXISTS_FOR: Duration = Duration::from_secs(7 * 86_400);
/// When it is asked for again after so long, the server is asked again too; nobody waits for that.
const REFRESH_AFTER: Duration = DAY;
/// A mailbox may be made at any time.
const UNKNOWN_FOR: Duration = Duration::from_secs(2 * 3600);
/// A refusal that says nothing spares the server this long.
const UNCLEAR_FOR: Duration = Duration::from_secs(10 * 60);
/// What has expired is kept for an outage of the customer's.
const KEPT_FOR_OUTAGES: Duration = Duration::from_secs(30 * 86_400);
/// A server that takes everything is asked again after so long, whether it still does.
const TAKES_EVERYTHING_FOR: Duration = Duration::from_secs(6 * 3600);
/// And one that does not.
const TRUSTED_FOR: Duration = DAY;
const UNTESTED_FOR: Duration = Duration::from_secs(10 * 60);
/// Addresses remembered, of all domains.
const ADDRESSES_MAX: usize = 1_000_000;
/// Of a server's words, in bytes.
const REPLY_MAX: usize = 200;
/// Records read at a time by a sweep.
const PAGE: usize = 1_000;

/// One address, as far as its server has told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub state: KnownState,
    /// Who told: a callout, or the end of a delivery.
    pub by: Teacher,
    pub at: Timestamp,
    pub expires: Timestamp,
    /// The server's words.
    pub reply: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KnownState {
    Exists,
    Unknown,
    /// The server refuses it for a reason that is not the address.
    Unclear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Teacher {
    Callout,
    Delivery,
}

impl Known {
    /// `None`: the reply teaches nothing.
    pub fn new(reading: Reading, by: Teacher, reply: &str, now: Timestamp) -> Option<Known> {
        let (state, lasts) = match reading {
            Reading::Exists => (KnownState::Exists, EXISTS_FOR),
            Reading::Unknown => (KnownState::Unknown, UNKNOWN_FOR),
            Reading::Unclear => (KnownState::Unclear, UNCLEAR_FOR),
            Reading::Later => return None,
        };
        let end = (0..=REPLY_MAX.min(reply.len())).rev().find(|end| reply.is_char_boundary(*end)).unwrap_or_default();
        Some(Known { state, by, at: now, expires: now + lasts, reply: reply[..end].to_owned() })
    }

    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.expires > now
    }

    pub fn wants_refresh(&self, now: Timestamp) -> bool {
        self.state == KnownState::Exists && now >= self.at + REFRESH_AFTER
    }
}

/// Whether a server's callouts are worth anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// It took an address that nobody can have.
    pub takes_everything: bool,
    pub until: Timestamp,
}

impl Trust {
    /// By its answer for an address that nobody can have.
    pub fn new(reading: Reading, now: Timestamp) -> Trust {
        let (takes_everything, lasts) = match reading {
            Reading::Exists => (true, TAKES_EVERYTHING_FOR),
            Reading::Unknown => (false, TRUSTED_FOR),
            Reading::Unclear | Reading::Later => (false, UNTESTED_FOR),
        };
        Trust { takes_everything, until: now + lasts }
    }
}

/// The memory with its keys.
#[derive(Clone)]
pub struct Knowledge {
    memory: Memory,
    /// About how many addresses there are; exact after a sweep.
    addresses: Arc<AtomicUsize>,
}

impl Knowledge {
    pub fn new(memory: Memory) -> Knowledge {
        Knowledge { memory, addresses: Arc::default() }
    }

    pub async fn of(&self, address: &Address) -> Option<Known> {
        serde_json::from_slice(&self.memory.get(key(address)?).await?).ok()
    }

    /// Says what was known before. When there is no room for more, nothing new is remembered until the next sweep.
    pub async fn learn(&self, address: &Address, known: Known) -> Option<Known> {
        let before = self.of(address).await;
        let is_new = before.is_none();
        if is_new && self.addresses.load(Ordering::Relaxed) >= ADDRESSES_MAX {
            return None;
        }
        if let Some(key) = key(address) {
            self.addresses.fetch_add(usize::from(is_new), Ordering::Relaxed);
            self.memory.put(key, json(&known)).await;
        }
        before
    }

    /// Whether there was something.
    pub async fn forget(&self, address: &Address) -> bool {
        match key(address) {
            Some(key) => self.memory.remove(key).await,
            None => false,
        }
    }

    pub async fn trust(&self, domain: &Domain) -> Option<Trust> {
        serde_json::from_slice(&self.memory.get(trust_key(domain)).await?).ok()
    }

    /// `None`: it is to be found out anew.
    pub async fn set_trust(&self, domain: &Domain, trust: Option<Trust>) {
        self.memory.change(vec![(trust_key(domain), trust.map(|trust| json(&trust)))]).await;
    }

    /// The first addresses of a domain, by their letters.
    pub async fn list(&self, domain: &Domain, most: usize) -> Vec<(String, Known)> {
        let prefix = format!("a/{domain}/").into_bytes();
        let found = self.memory.scan(prefix.clone(), None, most).await;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let local = String::from_utf8(key.get(prefix.len()..)?.to_vec()).ok()?;
            Some((local, serde_json::from_slice(&value).ok()?))
        };
        found.into_iter().filter_map(read).collect()
    }

    /// Throws away what has expired, but nothing of a domain whose server is away. Says how many.
    pub async fn sweep(&self, now: Timestamp, is_away: impl Fn(&Domain) -> bool) -> usize {
        let (mut swept, mut kept, mut after) = (0, 0, None);
        loop {
            let page = self.memory.scan(b"a/".to_vec(), after, PAGE).await;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let is_over = |(key, value): &(Vec<u8>, Vec<u8>)| {
                let domain = std::str::from_utf8(key).ok().and_then(|key| key.split('/').nth(1)?.parse::<Domain>().ok());
                match (domain, serde_json::from_slice::<Known>(value)) {
                    (Some(domain), Ok(known)) => {
                        let grace = if known.state == KnownState::Exists { KEPT_FOR_OUTAGES } else { MINUTE };
                        known.expires + grace <= now && !is_away(&domain)
                    }
                    _ => true,
                }
            };
            let (over, good): (Vec<_>, Vec<_>) = page.into_iter().partition(is_over);
            (swept, kept) = (swept + over.len(), kept + good.len());
            self.memory.change(over.into_iter().map(|(key, _)| (key, None)).collect()).await;
        }
        self.addresses.store(kept, Ordering::Relaxed);
        swept
    }
}

/// `None` for an address literal, which nobody asks for.
fn key(address: &Address) -> Option<Vec<u8>> {
    Some(format!("a/{}/{}", address.domain()?, address.local().to_lowercase()).into_bytes())
}

fn trust_key(domain: &Domain) -> Vec<u8> {
    format!("t/{domain}").into_bytes()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain values can be written as JSON")
}
