//! Greylisting: whoever is new is asked once to come back. Most spam software does not; every mail server does.
//!
//! - The clock of a first try is not set back by early retries.
//! - Networks are /24 and /64: large senders retry from another host.
//! - Sender and recipient are compared in lower case, and runs of digits in the sender's local part count as one `#`: mailing
//!   lists and newsletters number the sender of every message (VERP, `bounce-4711-joe=customer.example@list.example`).
//! - **The null sender is never asked to wait.** Callouts, by which other servers ask whether an address of ours exists before
//!   they take our customers' mail, come with it and do not come back; and a bounce that is delayed looks like mail that was
//!   lost. Spam that uses the null sender is judged by its content like all other.
//! - `postmaster@` and `abuse@` are never asked to wait: they are where people turn who have trouble with us (RFC 2142).
//!
//! The domains that want it and the networks of `limits.allow` are the caller's to know. State lives in the store's memory,
//! which may be lost: then everybody is new again. A memory that does not work lets everybody pass, since asking again forever
//! would lose mail.

mod record;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use self::record::{NETWORK, Record, WAITING, lives, network_key, show, waiting_key, waiting_of};
use super::network::neighbourhood;
use crate::config;
use crate::mail::{Address, ReversePath, Timestamp};
use crate::store::Memory;
use ipnet::IpNet;

/// Greylisting: network of the client (/24, /64), sender and recipient must come back once. State in the store's memory.
#[derive(Clone)]
pub struct Greylist {
    memory: Memory,
    /// First tries in memory: counted up and down here, and anew by each sweep.
    waiting: Arc<AtomicUsize>,
}

/// The answer for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GreylistAnswer {
    Pass,
    /// Ask again in so many seconds.
    Wait {
        seconds: u64,
    },
}

/// One record as `greylist list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GreylistRecord {
    /// `waiting`, `passed` or `allowed`.
    pub state: String,
    /// 192.0.2.0/24
    pub network: String,
    /// As it is compared, with `#` for digits. Empty for what holds for the whole network.
    pub sender: String,
    pub recipient: String,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// Tries; for a network that passed, its messages, of which at most one a minute is counted.
    pub attempts: u32,
    pub expires: Timestamp,
}

/// More first tries than this are not remembered but pass: a flood of invented senders must not fill the disk.
const WAITING_MAX: usize = 1_000_000;

/// A busy network's record is not written more often.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// Records read at a time.
const PAGE: usize = 1000;

impl Greylist {
    pub fn new(memory: Memory) -> Greylist {
        Greylist { memory, waiting: Arc::default() }
    }

    /// Asks and remembers.
    pub async fn check(
        &self,
        settings: &config::Greylist,
        client: IpAddr,
        sender: &ReversePath,
        recipient: &Address,
        now: Timestamp,
    ) -> GreylistAnswer {
        let Some(sender) = sender.address().filter(|_| !is_role(recipient)) else {
            return GreylistAnswer::Pass;
        };
        let network = neighbourhood(client);
        if self.is_known(settings, network, now).await {
            return GreylistAnswer::Pass;
        }
        let key = waiting_key(network, sender, recipient);
        // None: full, or the memory does not work.
        let Some(record) = self.knock(settings, key.clone(), now).await else {
            return GreylistAnswer::Pass;
        };
        let answer = record.answer(settings.delay, now);
        if answer == GreylistAnswer::Pass {
            // The network first: between the two writes it is known twice, never not at all.
            self.memory.put(network_key(network), Record::first(now, settings.remember).encode()).await;
            if self.memory.remove(key).await {
                count_down(&self.waiting);
            }
        }
        answer
    }

    /// A network that passed or is allowed; each of its messages renews it.
    async fn is_known(&self, settings: &config::Greylist, network: IpNet, now: Timestamp) -> bool {
        let key = network_key(network);
        let known = self.memory.get(key.clone()).await;
        let Some(known) = known.as_deref().and_then(Record::decode).filter(|known| known.lives(now)) else {
            return false;
        };
        if now.since(known.last) >= RENEW_EVERY {
            let remember = settings.remember;
            let renew = move |known: Option<&[u8]>| Some(Record::decode(known?)?.again(now, Some(remember)).encode());
            self.memory.update(key, renew).await;
        }
        true
    }

    /// A first try, or one more.
    async fn knock(&self, settings: &config::Greylist, key: Vec<u8>, now: Timestamp) -> Option<Record> {
        let is_full = self.waiting.load(Ordering::Relaxed) >= WAITING_MAX;
        let window = settings.window;
        let knock = move |known: Option<&[u8]>| match known.and_then(Record::decode) {
            None if is_full => None,
            known => Some(Record::knock(known, window, now).encode()),
        };
        let record = Record::decode(&self.memory.update(key, knock).await?)?;
        if record.attempts == 1 {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        Some(record)
    }

    /// Newest last; without what has expired.
    pub async fn list(&self, now: Timestamp, most: usize) -> Vec<GreylistRecord> {
        let mut newest = Vec::new();
        for prefix in [WAITING, NETWORK] {
            let mut after = None;
            while let Some(page) = self.page(prefix, &mut after).await {
                let shown = page.iter().filter_map(|(key, value)| show(key, value));
                newest.extend(shown.filter(|record| record.expires > now));
                keep_newest(&mut newest, most);
            }
        }
        newest
    }

    /// Lets everything from this network pass, for `remember` from now and renewed by each message.
    pub async fn allow(&self, settings: &config::Greylist, network: IpAddr, now: Timestamp) {
        let record = Record { allowed: true, ..Record::first(now, settings.remember) };
        self.memory.put(network_key(neighbourhood(network)), record.encode()).await;
    }

    /// Forgets all records of this network; how many there were.
    pub async fn forget(&self, network: IpAddr) -> usize {
        let network = neighbourhood(network);
        let mut forgotten = usize::from(self.memory.remove(network_key(network)).await);
        let mut after = None;
        while let Some(page) = self.page(&waiting_of(network), &mut after).await {
            for (key, _) in page {
                if self.memory.remove(key).await {
                    forgotten += 1;
                    count_down(&self.waiting);
                }
            }
        }
        forgotten
    }

    /// Removes what has expired; how many. Called hourly.
    pub async fn sweep(&self, now: Timestamp) -> usize {
        let mut removed = 0;
        let mut waiting = 0;
        for prefix in [WAITING, NETWORK] {
            let mut after = None;
            while let Some(page) = self.page(prefix, &mut after).await {
                for (key, value) in page {
                    if lives(&value, now) {
                        waiting += usize::from(prefix == WAITING);
                        continue;
                    }
                    // It may have been renewed since the page was read.
                    let keep = move |value: Option<&[u8]>| value.filter(|value| lives(value, now)).map(<[u8]>::to_vec);
                    removed += usize::from(self.memory.update(key, keep).await.is_none());
                }
            }
        }
        self.waiting.store(waiting, Ordering::Relaxed);
        if waiting >= WAITING_MAX {
            tracing::warn!(target: "feedgate", waiting, "greylist is full: new senders pass until some have expired");
        }
        removed
    }

    /// The next records with this prefix; `None` at the end.
    async fn page(&self, prefix: &[u8], after: &mut Option<Vec<u8>>) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let page = self.memory.scan(prefix.to_vec(), after.take(), PAGE).await;
        *after = Some(page.last()?.0.clone());
        Some(page)
    }
}

/// Where people turn who have trouble with us.
fn is_role(recipient: &Address) -> bool {
    recipient.is_postmaster() || recipient.local().eq_ignore_ascii_case("abuse")
}

/// A flood must not make it wrap around.
fn count_down(count: &AtomicUsize) {
    // Err: it was zero.
    let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
}

/// Keeps those seen last, in the order in which they were seen.
fn keep_newest(records: &mut Vec<GreylistRecord>, most: usize) {
    records.sort_by_key(|record| record.last_seen);
    records.drain(..records.len().saturating_sub(most));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_reached_at_once() {
        let is_role = |local: &str| is_role(&Address::parse(&format!("{local}@customer.example")).unwrap());
        assert!(["postmaster", "PostMaster", "Abuse"].into_iter().all(is_role));
        assert!(!["postmaster.x", "abuses", "ann"].into_iter().any(is_role));
    }

    #[test]
    fn a_list_keeps_the_newest() {
        let at = |moment| GreylistRecord {
            last_seen: Timestamp(moment),
            ..show(b"n192.0.2.0/24", &Record::first(Timestamp(0), Duration::ZERO).encode()).unwrap()
        };
        let mut records = [5, 1, 4, 2, 3].map(at).to_vec();
        keep_newest(&mut records, 3);
        assert_eq!(records, [3, 4, 5].map(at));
    }

    #[test]
    fn the_count_stops_at_zero() {
        let count = AtomicUsize::new(1);
        count_down(&count);
        count_down(&count);
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}
