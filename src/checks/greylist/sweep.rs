//! What ends by time, and what operators take back: first tries that never came back, and whoever has not been seen for long.

use std::sync::atomic::{AtomicBool, Ordering};

use super::lost::Lost;
use super::newcomer::Identity;
use super::record::{FORMER_TRY, KNOWN, Knock, Parts, SIGNER, TRY, lives};
use super::{Greylist, WAITING_MAX, count_down};
use crate::mail::Timestamp;

/// Says so when a sweep is over, also one that is broken off.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Greylist {
    /// Removes what has expired; how much. Called hourly. A second one at the same time does nothing: what is lost is counted once.
    pub async fn sweep(&self, now: Timestamp) -> usize {
        if self.sweeping.swap(true, Ordering::Relaxed) {
            return 0;
        }
        let _over = Over(&self.sweeping);
        let mut removed = self.sweep_tries(now).await;
        removed += self.sweep_records(FORMER_TRY, now).await.1;
        removed += self.sweep_records(KNOWN, now).await.1;
        let (signers, forgotten) = self.sweep_records(SIGNER, now).await;
        self.signers.store(signers, Ordering::Relaxed);
        removed += forgotten + self.sweep_lost(now).await + self.correspondents.sweep(now).await;
        self.statistics.sweep(now).await;
        removed
    }

    async fn sweep_tries(&self, now: Timestamp) -> usize {
        let (mut waiting, mut removed, mut lost) = (0, 0, Lost::default());
        let mut after = None;
        while let Some(page) = self.page(TRY, &mut after).await {
            for (key, value) in page {
                if lives(&value, now) {
                    waiting += 1;
                    continue;
                }
                if !self.remove_expired(key.clone(), now).await {
                    continue;
                }
                removed += 1;
                if let Some(knock) = Knock::decode(&value) {
                    self.was_lost(&knock, now).await;
                    lost.add(&key, &knock);
                }
            }
        }
        self.keep_lost(lost).await;
        self.waiting.store(waiting, Ordering::Relaxed);
        if waiting >= WAITING_MAX {
            tracing::warn!(target: "feedgate", waiting, "greylist is full: new senders pass until some have expired");
        }
        removed
    }

    /// How many are left, and how many were removed.
    async fn sweep_records(&self, prefix: &[u8], now: Timestamp) -> (usize, usize) {
        let (mut living, mut removed) = (0, 0);
        let mut after = None;
        while let Some(page) = self.page(prefix, &mut after).await {
            for (key, value) in page {
                if lives(&value, now) {
                    living += 1;
                } else if self.remove_expired(key, now).await {
                    removed += 1;
                }
            }
        }
        (living, removed)
    }

    /// It may have been renewed since the page was read.
    async fn remove_expired(&self, key: Vec<u8>, now: Timestamp) -> bool {
        let keep = move |value: Option<&[u8]>| value.filter(|value| lives(value, now)).map(<[u8]>::to_vec);
        self.memory.update(key, keep).await.is_none()
    }

    /// Forgets all records of this network or organisation; how many there were.
    pub async fn forget(&self, identity: &Identity) -> usize {
        let mut forgotten = 0;
        for prefix in [KNOWN, SIGNER, FORMER_TRY, TRY] {
            let mut after = None;
            while let Some(page) = self.page(prefix, &mut after).await {
                for (key, value) in page {
                    let is_its = match prefix {
                        TRY => is_try_of(&key, &value, identity),
                        _ => stands_under(&key, identity),
                    };
                    if is_its && self.memory.remove(key).await {
                        forgotten += 1;
                        if prefix == TRY {
                            count_down(&self.waiting);
                        }
                    }
                }
            }
        }
        forgotten
    }
}

fn is_try_of(key: &[u8], value: &[u8], identity: &Identity) -> bool {
    let Some(knock) = Knock::decode(value) else { return false };
    match identity {
        Identity::Organisation(organisation) => knock.is_of(organisation),
        Identity::Network(network) => {
            network.contains(&knock.client)
                || key.get(1..).and_then(Parts::of).is_some_and(|parts| parts.identity == network.to_string())
        }
    }
}

/// A key whose first or last name is this identity, or a host in it.
fn stands_under(key: &[u8], identity: &Identity) -> bool {
    let Some(rest) = key.get(1..).and_then(|rest| std::str::from_utf8(rest).ok()) else { return false };
    let mut names = rest.split('\0').filter_map(|name| name.parse::<Identity>().ok());
    names.any(|name| match (&name, identity) {
        (Identity::Network(inner), Identity::Network(outer)) => outer.contains(inner),
        _ => name == *identity,
    })
}
