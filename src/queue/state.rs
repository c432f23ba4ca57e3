//! What all of the queue shares, and the one way in which a message is changed: store first, schedule after it, in order.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::alert::Alerts;
use super::extensions::Extensions;
use super::schedule::{Limits, Schedule};
use super::tell::Telling;
use super::{PAGE, Selector, retry};
use crate::config::{Config, Current};
use crate::mail::{Domain, Envelope, IdSource, Progress, QueueId, Timestamp};
use crate::outside::Clock;
use crate::store::{Entry, Store, StoreError};
use crate::telemetry::MailLog;

/// Scans handed out at a time. Messages that are judged while their sender waits do not count.
const SCANS_MAX: usize = 32;

pub(super) struct Shared {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub config: Current,
    pub maillog: MailLog,
    pub ids: Arc<IdSource>,
    /// Told when something may have become due: one waiter looks, and tells the next one when it found something.
    pub wake: Notify,
    pub alerts: Alerts,
    pub telling: Telling,
    /// What operators granted to domains.
    pub extensions: Extensions,
    /// When the server of a domain last asked for its mail.
    pub drains: Mutex<HashMap<Domain, Timestamp>>,
    state: Mutex<State>,
    /// Numbers the changes of the store.
    order: AtomicU64,
}

pub(super) struct State {
    pub schedule: Schedule,
    /// Messages that are being changed.
    changing: HashMap<QueueId, Changing>,
}

/// Changes of one message that have begun and not ended.
#[derive(Default)]
struct Changing {
    count: usize,
    /// The latest change that was planned.
    planned: u64,
}

impl Shared {
    pub(super) fn new(store: Store, clock: Arc<dyn Clock>, config: Current, maillog: MailLog, ids: Arc<IdSource>) -> Shared {
        let schedule = Schedule::new(limits(&config.load()));
        let state = Mutex::new(State { schedule, changing: HashMap::new() });
        let alerts = Alerts::new(&store);
        Shared {
            store,
            clock,
            config,
            maillog,
            ids,
            wake: Notify::new(),
            alerts,
            telling: Telling::default(),
            extensions: Extensions::default(),
            drains: Mutex::default(),
            state,
            order: AtomicU64::new(1),
        }
    }

    /// The schedule. A panic while it was held leaves it usable: it is a hint, and each change is a few map operations.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limits(&self) -> Limits {
        limits(&self.config.load())
    }

    /// Until when delivery to this recipient is tried: its domain's lifetime, or what an operator granted to it or its domain, or
    /// what the domain asked for while its host is down.
    pub(super) fn lifetime_end(&self, envelope: &Envelope, progress: &Progress, recipient: usize) -> Timestamp {
        let config = self.config.load();
        let end = retry::lifetime_end(&config, envelope, progress, recipient);
        let host = envelope.recipients[recipient].address.host();
        let granted = self.extensions.until(host);
        let state = self.state();
        let (outage, stops) = (state.schedule.outage(host), state.schedule.stops(host));
        let end = retry::with_stops(end, envelope.received_at, &config, host, outage, stops);
        granted.map_or(end, |until| end.max(until))
    }

    /// Changes a message in the store, durably, and plans it anew.
    ///
    /// Two changes of one message may end here in another order than they were made in the store. An older state must not
    /// be planned over a newer one: a message just released would never come up again. So each change is numbered inside
    /// the store's turn, and of the changes under way only one newer than what was planned is planned.
    pub(super) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        id: QueueId,
        change: impl FnOnce(&Envelope, &mut Progress) -> T + Send + 'static,
    ) -> Result<(Arc<Entry>, T), StoreError> {
        let turn = Turn::begin(self, id);
        let shared = Arc::clone(self);
        let numbered = move |envelope: &Envelope, progress: &mut Progress| {
            let value = change(envelope, progress);
            (shared.order.fetch_add(1, Ordering::SeqCst), value)
        };
        let (entry, (number, value)) = self.store.update(id, numbered).await?;
        turn.plan(number, &entry);
        Ok((entry, value))
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        deliveries: config.queue.deliveries.max(1),
        deliveries_per_destination: config.queue.deliveries_per_domain.max(1),
        scans: SCANS_MAX,
    }
}

/// One change under way.
struct Turn<'a> {
    shared: &'a Shared,
    id: QueueId,
}

impl Turn<'_> {
    fn begin(shared: &Shared, id: QueueId) -> Turn<'_> {
        shared.state().changing.entry(id).or_default().count += 1;
        Turn { shared, id }
    }

    fn plan(&self, number: u64, entry: &Entry) {
        let mut state = self.shared.state();
        let State { schedule, changing } = &mut *state;
        let changing = changing.get_mut(&self.id).expect("it is being changed until the turn is dropped");
        if changing.planned < number {
            changing.planned = number;
            schedule.plan_entry(entry);
        }
        drop(state);
        self.shared.wake.notify_one();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(changing) = state.changing.get_mut(&self.id) {
            changing.count -= 1;
            if changing.count == 0 {
                state.changing.remove(&self.id);
            }
        }
    }
}

/// Runs to the end also when the caller goes away: what became durable must be scheduled and logged too.
pub(super) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(StoreError::Io { what: "the gateway is stopping".to_owned(), source: std::io::Error::other(error) }),
    }
}

/// Walks through the messages that may match, a page at a time, oldest first.
pub(super) struct Pages<'a> {
    store: &'a Store,
    only: Option<QueueId>,
    after: Option<QueueId>,
    ended: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(store: &'a Store, selector: &Selector, after: Option<QueueId>) -> Pages<'a> {
        Pages { store, only: selector.id, after, ended: false }
    }

    /// `None` at the end. A message that is not in the queue is an empty walk, not an error.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Arc<Entry>>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        if let Some(id) = self.only {
            self.ended = true;
            if self.after.is_some_and(|after| after >= id) {
                return Ok(None);
            }
            return match self.store.entry(id).await {
                Ok(entry) => Ok(Some(vec![entry])),
                Err(StoreError::NotFound) => Ok(None),
                Err(error) => Err(error),
            };
        }
        let page = self.store.entries(self.after, PAGE).await?;
        self.ended = page.is_empty();
        self.after = page.last().map(|entry| entry.envelope.id).or(self.after);
        Ok((!self.ended).then_some(page))
    }
}
