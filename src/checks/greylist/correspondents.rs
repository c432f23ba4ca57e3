//! People to whom a customer's domain wrote through us: their answers need not wait.
//!
//! Known by the whole address, in lower case. A stranger who takes such a sender's name passes greylisting too, and is judged like
//! everybody else. Forgotten half a year after the last mail to them, or with the memory; then they are asked to come back once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::record::{Record, address_key};
use super::{PAGE, count_down};
use crate::mail::{Address, Domain, Timestamp};
use crate::store::Memory;

/// Who was written to. Cloning shares it.
#[derive(Clone)]
pub struct Correspondents {
    memory: Memory,
    count: Arc<AtomicUsize>,
}

/// More are not remembered until some have expired.
const CORRESPONDENTS_MAX: usize = 1_000_000;
const REMEMBER: Duration = Duration::from_secs(180 * 86_400);
/// One that is written to all day is not written down each time.
const RENEW_EVERY: Duration = Duration::from_secs(86_400);

const PREFIX: &[u8] = b"c";

impl Correspondents {
    pub(super) fn new(memory: Memory) -> Correspondents {
        Correspondents { memory, count: Arc::default() }
    }

    /// Somebody in `domain` wrote to this recipient.
    pub async fn wrote(&self, domain: &Domain, recipient: &Address, now: Timestamp) {
        let is_full = self.count.load(Ordering::Relaxed) >= CORRESPONDENTS_MAX;
        let key = key(domain, recipient);
        let known = self.memory.get(key.clone()).await;
        let known = known.as_deref().and_then(Record::decode).filter(|known| known.lives(now));
        if known.as_ref().map_or(is_full, |known| now.since(known.last) < RENEW_EVERY) {
            return;
        }
        if known.is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        let record = known.unwrap_or_else(|| Record::first(now, REMEMBER)).again(now, Some(REMEMBER));
        self.memory.put(key, record.encode()).await;
    }

    /// Whether somebody in `domain` wrote to this sender.
    pub async fn is_correspondent(&self, domain: &Domain, sender: &Address, now: Timestamp) -> bool {
        let known = self.memory.get(key(domain, sender)).await;
        known.as_deref().and_then(Record::decode).is_some_and(|known| known.lives(now))
    }

    /// Removes who has expired; how many.
    pub(super) async fn sweep(&self, now: Timestamp) -> usize {
        let (mut after, mut removed, mut living) = (None, 0, 0);
        loop {
            let page = self.memory.scan(PREFIX.to_vec(), after.take(), PAGE).await;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in page {
                if Record::decode(&value).is_some_and(|record| record.lives(now)) {
                    living += 1;
                } else if self.memory.remove(key).await {
                    removed += 1;
                    count_down(&self.count);
                }
            }
        }
        self.count.store(living, Ordering::Relaxed);
        removed
    }
}

/// NUL stands in no domain.
fn key(domain: &Domain, person: &Address) -> Vec<u8> {
    [PREFIX, domain.as_str().as_bytes(), b"\0", address_key(person).as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::greylist::testing::Scratch;

    #[tokio::test]
    async fn who_was_written_to_is_known_to_that_customer_for_half_a_year() {
        let scratch = Scratch::new();
        let correspondents = Correspondents::new(scratch.memory());
        let (ann, other) = (Domain::parse("customer.example").unwrap(), Domain::parse("other.example").unwrap());
        let joe = Address::parse("Joe.4@Sender.example").unwrap();
        let now = Timestamp(1_795_214_160_000);
        correspondents.wrote(&ann, &joe, now).await;
        let knows = async |domain, person: &str, after| {
            correspondents.is_correspondent(domain, &Address::parse(person).unwrap(), now + after).await
        };
        assert!(knows(&ann, "joe.4@sender.example", Duration::ZERO).await);
        assert!(!knows(&ann, "joe.5@sender.example", Duration::ZERO).await);
        assert!(!knows(&other, "joe.4@sender.example", Duration::ZERO).await);
        assert!(!knows(&ann, "joe.4@sender.example", REMEMBER).await);
        correspondents.wrote(&ann, &joe, now + 2 * RENEW_EVERY).await;
        assert!(knows(&ann, "joe.4@sender.example", REMEMBER).await, "written to again");
        assert_eq!(correspondents.sweep(now + REMEMBER).await, 0);
        assert_eq!(correspondents.sweep(now + REMEMBER + 2 * RENEW_EVERY).await, 1);
    }

    #[tokio::test]
    async fn more_than_can_be_kept_are_not_remembered() {
        let scratch = Scratch::new();
        let correspondents = Correspondents::new(scratch.memory());
        correspondents.count.store(CORRESPONDENTS_MAX, Ordering::Relaxed);
        let domain = Domain::parse("customer.example").unwrap();
        let joe = Address::parse("joe@sender.example").unwrap();
        correspondents.wrote(&domain, &joe, Timestamp(0)).await;
        assert!(!correspondents.is_correspondent(&domain, &joe, Timestamp(0)).await);
        correspondents.sweep(Timestamp(0)).await;
        correspondents.wrote(&domain, &joe, Timestamp(0)).await;
        assert!(correspondents.is_correspondent(&domain, &joe, Timestamp(0)).await);
    }
}
