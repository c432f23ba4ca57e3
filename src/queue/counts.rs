//! Numbers for `status`, from what the ledger keeps up: nothing is counted when they are asked for.

use super::Queue;
use crate::mail::Timestamp;
use crate::store::{DomainStock, StoreError};

/// Numbers for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    pub messages: u64,
    /// Messages without a verdict.
    pub awaiting_scan: u64,
    /// Recipients, those of messages without a verdict included.
    pub waiting: u64,
    pub held: u64,
    pub quarantined: u64,
    /// Most waiting first.
    pub per_domain: Vec<DomainCounts>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DomainCounts {
    pub domain: String,
    pub waiting: u64,
    pub held: u64,
    pub quarantined: u64,
    /// When the oldest message that waits or is held came in.
    pub oldest: Option<Timestamp>,
    /// What the next hop said last, while something waits.
    pub last_reply: String,
}

impl Queue {
    /// Nothing is counted for this: the numbers are kept up with each change. One message a domain is read for its time.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let store = &self.shared.store;
        let stock = store.stock();
        let mut counts = Counts { messages: stock.messages, awaiting_scan: stock.awaiting_scan, ..Counts::default() };
        for domain in stock.domains {
            let DomainStock { domain, waiting, held, quarantined, oldest, last_reply } = domain;
            counts.waiting += waiting;
            counts.held += held;
            counts.quarantined += quarantined;
            let oldest = match oldest {
                // Damaged, or gone this moment: it does not keep the numbers from being shown.
                Some(id) => store.entry(id).await.ok().map(|entry| entry.envelope.received_at),
                None => None,
            };
            counts.per_domain.push(DomainCounts { domain, waiting, held, quarantined, oldest, last_reply });
        }
        counts.per_domain.sort_by(|a, b| b.waiting.cmp(&a.waiting).then_with(|| a.domain.cmp(&b.domain)));
        Ok(counts)
    }
}
