//! The queue: what is due when, for whom, how many at a time; how an attempt's end is settled; steering; bounces.
//!
//! The state of each message is the store's; this module decides how it changes. It knows nothing of SMTP sessions, sockets
//! or scanners: `flow` takes a [`Job`] here, does the work, and says how it ended.
//!
//! | file | what | pure |
//! |---|---|---|
//! | `schedule.rs`, `scans.rs` | due times and permits, in memory | yes |
//! | `outage.rs` | an outage as a state of a destination | yes |
//! | `probe.rs`, `alert.rs` | whether a host is back; who is told that it is away | no |
//! | `retry.rs` | when to try again, and for how long | yes |
//! | `verdict.rs` | what a judgement does to a message | yes |
//! | `settle.rs` | what an attempt's end does to a recipient | yes |
//! | `notice.rs`, `notice/` | notices to senders (RFC 3464): who, how many, in which language | yes |
//! | `selector.rs`, `steer.rs` | which messages an operator means, and what a command does to them | but for the paging |
//! | `extensions.rs` | domains whose mail operators keep for longer | no |
//! | `route.rs` | which hosts to try for a destination | asks DNS |
//! | `state.rs` | changes of the store, in order with the schedule | no |
//! | `deliver.rs`, `sweep.rs`, `counts.rs` | handing out and recording, the hourly sweep, numbers | no |
//! | `tell.rs` | telling senders, once, and not losing that one is to be told | no |
//!
//! Invariants:
//! - The schedule is a hint, the store is the truth: what is handed out was read from the store after its permit was taken.
//!   The schedule may name something too often or too early, never too late: each change of a message plans it anew.
//! - Of one message at one destination at most one delivery is out at a time.
//! - A message without a verdict, or with an infected one, is never handed out for delivery.
//! - A final status never changes again, but for one case: a peer that took a message wins over an operator who dropped it.
//!
//! On failure: what could not be recorded stays as it was in the store and is tried again later; the caller gets the error.

mod alert;
mod counts;
mod deliver;
mod extensions;
mod notice;
mod outage;
mod probe;
mod retry;
mod route;
mod scans;
mod schedule;
mod selector;
mod settle;
mod state;
mod steer;
mod sweep;
mod tell;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use crate::config::Current;
use crate::mail::{Decision, Envelope, IdSource, Judgement, Origin, Progress, QueueId, Timestamp};
use crate::outside::Clock;
use crate::store::{Entry, ReceivedBody, Store, StoreError};
use crate::telemetry::MailLog;

pub use alert::{Alert, Event};
pub use counts::{Counts, DomainCounts};
pub use deliver::{Delivery, Job};
pub use extensions::{Extension, Longer};
pub use outage::{OutageState, Stage};
pub use probe::{Away, OutageView, Probe};
pub use route::{Hop, RouteFailure, route, route_to};
pub use selector::{Selector, StateWord, UnknownState};
pub use steer::{By, Drain, Mode, Steer, Steered};

use state::{Shared, detached};

/// Messages read from the store at a time when all are looked at.
const PAGE: usize = 500;

/// The queue. Cloning shares it.
///
/// Every method that changes something runs to its end even when its future is dropped: a change that became durable is
/// always scheduled too.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

impl Queue {
    /// Takes over what the spool holds and schedules it.
    pub async fn load(
        store: Store,
        clock: Arc<dyn Clock>,
        config: Current,
        maillog: MailLog,
        ids: Arc<IdSource>,
    ) -> Result<Queue, StoreError> {
        let shared = Arc::new(Shared::new(store, clock, config, maillog, ids));
        let reading = Arc::clone(&shared);
        let read = tokio::task::spawn_blocking(move || reading.extensions.load(&reading.store)).await;
        read.map_err(|error| reading_failed("extensions", error))?;
        let mut owed = Vec::new();
        let read = |after| {
            let store = shared.store.clone();
            tokio::spawn(async move { store.entries(after, PAGE).await })
        };
        // While one page is planned, the next one is read.
        let mut next = read(None);
        loop {
            let page = next.await.map_err(|error| reading_failed("the queue", error))??;
            let Some(last) = page.last() else { break };
            next = read(Some(last.envelope.id));
            shared.store.count_in(&page);
            let mut state = shared.state();
            page.iter().for_each(|entry| state.schedule.plan_entry(entry));
            drop(state);
            page.iter().for_each(|entry| shared.recall_outage(entry));
            owed.extend(page.iter().filter(|entry| !entry.progress.untold.is_empty()).map(|entry| entry.envelope.id));
        }
        if !owed.is_empty() {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                for id in owed {
                    shared.tell_failures(id).await;
                }
            });
        }
        shared.recall_outages().await;
        Ok(Queue { shared })
    }

    /// Makes a message durable. The caller judges it and then says `judged` or `scan_later`. After a crash in between, `load`
    /// schedules its scan; should the caller never come back (a panic), the scan is due after [`scans::LEASE`].
    pub async fn accept(&self, envelope: Envelope, body: ReceivedBody) -> Result<Arc<Entry>, StoreError> {
        let shared = Arc::clone(&self.shared);
        detached(async move {
            let now = shared.clock.now();
            let progress = Progress::accepted(Origin::Client, envelope.recipients.len(), now);
            let entry = shared.store.accept(envelope, progress, body).await?;
            shared.state().schedule.scans.set(entry.envelope.id, now + scans::LEASE);
            shared.wake.notify_one();
            Ok(entry)
        })
        .await
    }

    /// Records judgement and decisions (one for each recipient, in their order) and schedules what is to be delivered.
    /// `Reject` makes a recipient final as rejected: the caller answers the sender so. A message that has a judgement keeps
    /// it: the entry returned says which.
    pub async fn judged(&self, id: QueueId, judgement: Judgement, decisions: Vec<Decision>) -> Result<Arc<Entry>, StoreError> {
        let shared = Arc::clone(&self.shared);
        detached(async move {
            let now = shared.clock.now();
            let change = move |_: &Envelope, progress: &mut Progress| verdict::judged(progress, judgement, decisions, now);
            let changed = shared.change(id, change).await;
            let mut state = shared.state();
            state.schedule.scans.answered(id);
            if matches!(&changed, Err(error) if !matches!(error, StoreError::NotFound)) {
                // The verdict is lost with the record: it has to be asked for again.
                state.schedule.scans.set(id, now + scans::BACKOFF_MAX);
            }
            drop(state);
            shared.wake.notify_one();
            changed.map(|(entry, ())| entry)
        })
        .await
    }

    /// No verdict now: schedules the next scan with backoff (5 s doubling to 5 min).
    pub async fn scan_later(&self, id: QueueId) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        detached(async move {
            let now = shared.clock.now();
            // First the pause, so that the change below plans the message behind it.
            shared.state().schedule.scans.unanswered(id, now);
            let changed = shared.change(id, move |_, progress| verdict::scan_later(progress, now)).await;
            if changed.is_err() {
                shared.state().schedule.scans.set(id, now + scans::BACKOFF_MAX);
            }
            shared.wake.notify_one();
            match changed {
                Ok(_) => Ok(()),
                Err(StoreError::NotFound) => {
                    shared.state().schedule.scans.remove(id);
                    Ok(())
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Up to `most` matching messages after `after`, oldest first.
    pub async fn list(&self, selector: &Selector, after: Option<QueueId>, most: usize) -> Result<Vec<Arc<Entry>>, StoreError> {
        let mut found = Vec::new();
        let mut pages = state::Pages::new(&self.shared.store, selector, after);
        while let Some(page) = pages.next().await? {
            found.extend(page.into_iter().filter(|entry| selector.matches(&entry.envelope, &entry.progress)));
            if found.len() >= most {
                found.truncate(most);
                break;
            }
        }
        Ok(found)
    }

    /// Until when delivery to this recipient is tried: its domain's lifetime, or what an operator granted, or what the domain
    /// asked for while its host is down.
    pub fn lifetime_end(&self, envelope: &Envelope, progress: &Progress, recipient: usize) -> Timestamp {
        self.shared.lifetime_end(envelope, progress, recipient)
    }
}

fn reading_failed(what: &str, error: tokio::task::JoinError) -> StoreError {
    StoreError::Io { what: format!("reading {what}"), source: std::io::Error::other(error) }
}

/// A duration as people say it, in its two largest units: `2d`, `1h 30m`, `45s`.
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let largest = units.iter().position(|(count, _)| *count > 0).unwrap_or(units.len() - 1);
    let words = units[largest..].iter().take(2).filter(|(count, unit)| *count > 0 || (*unit == "s" && seconds == 0));
    words.map(|(count, unit)| format!("{count}{unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod in_words_tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        for (seconds, words) in [(0, "0s"), (45, "45s"), (90, "1m 30s"), (5_400, "1h 30m"), (172_800, "2d"), (90_000, "1d 1h")] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
