//! The queue: what is due when, for whom, how many at a time; how an attempt's end is settled; steering; bounces.
//!
//! The state of each message is the store's; this module decides how it changes. It knows nothing of SMTP sessions, sockets
//! or scanners: `flow` takes a [`Job`] here, does the work, and says how it ended.

// (skeleton: types and signatures)

use std::sync::Arc;
use std::time::Duration;

use crate::config::Current;
use crate::mail::{Address, Decision, Domain, Envelope, Host, Judgement, Outcome, Progress, QueueId};
use crate::outside::Clock;
use crate::store::{Entry, ReceivedBody, Store, StoreError};
use crate::telemetry::MailLog;

/// Something that is due.
#[derive(Debug)]
pub enum Job {
    /// A message without a verdict: scan and judge it (again).
    Scan(QueueId),
    /// Recipients of one message at one destination.
    Deliver(Delivery),
}

/// A delivery attempt handed out: these recipients are nobody else's until it is settled. Dropped without `settle`
/// (a panic, a shutdown) they become due again.
#[derive(Debug)]
pub struct Delivery {
    pub entry: Arc<Entry>,
    /// The domain (or literal) all these recipients are at.
    pub destination: Host,
    /// Indices into `envelope.recipients`; all have the same decision, which is one of the `Deliver…` kinds.
    pub recipients: Vec<usize>,
    // (private: the permit)
}

impl Delivery {
    /// What the decision for these recipients is.
    pub fn decision(&self) -> &Decision {
        todo!()
    }
}

/// Which messages an operator means. Everything that is given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Selector {
    pub id: Option<QueueId>,
    /// A recipient's domain.
    pub domain: Option<Domain>,
    pub sender: Option<Address>,
    pub recipient: Option<Address>,
    /// `waiting`, `held`, `quarantined`, `awaiting-scan`.
    pub state: Option<String>,
}

/// What a steering command did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Steered {
    pub id: QueueId,
    /// How many of its recipients changed.
    pub recipients: usize,
    /// For `extend`: the new end of the longest-lived one, in words for the table; else empty.
    pub note: String,
}

/// Numbers for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    pub messages: u64,
    /// Messages without a verdict.
    pub awaiting_scan: u64,
    /// Recipients.
    pub waiting: u64,
    pub held: u64,
    pub quarantined: u64,
    pub per_domain: Vec<DomainCounts>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DomainCounts {
    pub domain: String,
    pub waiting: u64,
    pub held: u64,
    pub quarantined: u64,
    pub oldest: Option<crate::mail::Timestamp>,
    pub last_reply: String,
}

/// The queue. Cloning shares it.
#[derive(Clone)]
pub struct Queue {}

impl Queue {
    /// Takes over what the spool holds and schedules it.
    pub async fn load(
        store: Store,
        clock: Arc<dyn Clock>,
        config: Current,
        maillog: MailLog,
        ids: Arc<crate::mail::IdSource>,
    ) -> Result<Queue, StoreError> {
        let _ = (store, clock, config, maillog, ids);
        todo!()
    }

    /// Makes a message durable. It is not scheduled: the caller judges it and then says `judged` or `scan_later`; after a
    /// crash in between, `load` schedules its scan.
    pub async fn accept(&self, envelope: Envelope, body: ReceivedBody) -> Result<Arc<Entry>, StoreError> {
        let _ = (envelope, body);
        todo!()
    }

    /// Records judgement and decisions (one for each recipient, in their order) and schedules what is to be delivered.
    /// `Reject` makes a recipient final as rejected: the caller answers the sender so.
    pub async fn judged(&self, id: QueueId, judgement: Judgement, decisions: Vec<Decision>) -> Result<Arc<Entry>, StoreError> {
        let _ = (id, judgement, decisions);
        todo!()
    }

    /// No verdict now: schedules the next scan with backoff (5 s doubling to 5 min).
    pub async fn scan_later(&self, id: QueueId) -> Result<(), StoreError> {
        let _ = id;
        todo!()
    }

    /// Waits until something is due and may start (deliveries per domain and in all are bounded), and hands it out.
    pub async fn next(&self) -> Job {
        todo!()
    }

    /// Another delivery for the same destination that is due now, for the same connection; takes over `done`'s permit.
    pub fn another(&self, done: &Delivery) -> Option<Delivery> {
        let _ = done;
        todo!()
    }

    /// Records how an attempt ended (one outcome for each of `delivery.recipients`, in their order): delivered; to be tried
    /// again by the schedule, or given up when the lifetime is over; failed. Who is given up is told by a bounce, made durable
    /// before the failure is recorded: a crash in between tells twice, never not at all.
    pub async fn settle(&self, delivery: Delivery, outcomes: Vec<Outcome>) -> Result<(), StoreError> {
        let _ = (delivery, outcomes);
        todo!()
    }

    /// Tries the waiting ones now.
    pub async fn retry(&self, selector: &Selector, by: &str) -> Result<Vec<Steered>, StoreError> {
        let _ = (selector, by);
        todo!()
    }

    /// Keeps waiting ones from being delivered until released. Their lifetime goes on counting, but only ends after release.
    pub async fn hold(&self, selector: &Selector, by: &str) -> Result<Vec<Steered>, StoreError> {
        let _ = (selector, by);
        todo!()
    }

    /// Lets held ones go on.
    pub async fn release(&self, selector: &Selector, by: &str) -> Result<Vec<Steered>, StoreError> {
        let _ = (selector, by);
        todo!()
    }

    /// Keeps trying for so much longer than planned: the end of each waiting or held recipient's lifetime moves by `longer`.
    pub async fn extend(&self, selector: &Selector, longer: Duration, by: &str) -> Result<Vec<Steered>, StoreError> {
        let _ = (selector, longer, by);
        todo!()
    }

    /// Deletes without telling the sender.
    pub async fn drop(&self, selector: &Selector, by: &str) -> Result<Vec<Steered>, StoreError> {
        let _ = (selector, by);
        todo!()
    }

    /// Delivers quarantined ones after all, marked but not tagged. Infected ones are not released: nothing unscanned or
    /// infected is ever delivered; they come back in the second list.
    pub async fn quarantine_release(&self, selector: &Selector, by: &str) -> Result<(Vec<Steered>, Vec<QueueId>), StoreError> {
        let _ = (selector, by);
        todo!()
    }

    pub async fn quarantine_delete(&self, selector: &Selector, by: &str) -> Result<Vec<Steered>, StoreError> {
        let _ = (selector, by);
        todo!()
    }

    /// Up to `most` matching messages after `after`, oldest first.
    pub async fn list(&self, selector: &Selector, after: Option<QueueId>, most: usize) -> Result<Vec<Arc<Entry>>, StoreError> {
        let _ = (selector, after, most);
        todo!()
    }

    /// Until when delivery to this recipient is tried: its domain's lifetime, or what an operator granted.
    pub fn lifetime_end(&self, envelope: &Envelope, progress: &Progress, recipient: usize) -> crate::mail::Timestamp {
        let _ = (envelope, progress, recipient);
        todo!()
    }

    pub async fn counts(&self) -> Result<Counts, StoreError> {
        todo!()
    }

    /// Deletes what has been in quarantine for longer than `quarantine.keep`. Called hourly.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        todo!()
    }
}
