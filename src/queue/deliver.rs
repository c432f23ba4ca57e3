//! Handing out what is due, and recording how it ended.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::notice::{self, Kind};
use super::outage::is_too_much;
use super::probe::Probe;
use super::schedule::{Back, Failure, Picked, deliverable};
use super::settle::{self, Change, Terms};
use super::state::{Shared, detached};
use super::tell::Told;
use super::{Queue, retry};
use crate::mail::{Decision, Host, Outcome, Progress, QueueId, Reroute, Scope, Timestamp};
use crate::store::{Entry, StoreError};

/// Recipients handed out at a time: Exchange takes 200 in one transaction, many others 100.
const RECIPIENTS_MAX: usize = 100;
/// A delivery that was dropped without a word is due again after this.
pub(super) const DROPPED_WAIT: Duration = Duration::from_secs(10);
/// One whose end could not be recorded: long enough that a broken disk does not deliver the same message every few seconds.
const UNRECORDED_WAIT: Duration = Duration::from_secs(10 * 60);

/// Something that is due.
#[derive(Debug)]
pub enum Job {
    /// A message without a verdict: scan and judge it (again).
    Scan(QueueId),
    /// Recipients of one message at one destination.
    Deliver(Delivery),
    /// A host that was away: whether it is back.
    Probe(Probe),
}

/// A delivery attempt handed out: these recipients are nobody else's until it is settled. Dropped without `settle`
/// (a panic, a shutdown) they become due again.
pub struct Delivery {
    pub entry: Arc<Entry>,
    /// The domain (or literal) all these recipients are at.
    pub destination: Host,
    /// Indices into `envelope.recipients`; all have the same reroute and the same decision, which is one of the `Deliver…` kinds.
    pub recipients: Vec<usize>,
    permit: Permit,
}

impl Delivery {
    /// What the decision for these recipients is.
    pub fn decision(&self) -> &Decision {
        let first = self.recipients.first().expect("nothing is handed out without a recipient");
        self.entry.progress.recipients[*first].decision.as_ref().expect("only decided recipients are handed out")
    }

    /// The server that an operator named for these recipients.
    pub fn reroute(&self) -> Option<&Reroute> {
        let first = self.recipients.first().expect("nothing is handed out without a recipient");
        self.entry.progress.recipients[*first].reroute.as_ref()
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({} to {}, {} recipients)", self.entry.envelope.id, self.destination, self.recipients.len())
    }
}

/// One message that is out at one destination, and the place it takes among the deliveries. Returned when dropped.
struct Permit {
    shared: Arc<Shared>,
    id: QueueId,
    slot: usize,
    /// False once the place went on to another message of the same connection.
    has_place: AtomicBool,
    back: Back,
}

impl Permit {
    fn new(shared: &Arc<Shared>, id: QueueId, slot: usize) -> Permit {
        let back = Back::Unsettled(shared.clock.now() + DROPPED_WAIT);
        Permit { shared: Arc::clone(shared), id, slot, has_place: AtomicBool::new(true), back }
    }

    fn end(mut self, back: Back) {
        self.back = back;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Dropped long after it was handed out: shortly means from now.
        let back = match self.back {
            Back::Unsettled(due) => Back::Unsettled(due.max(self.shared.clock.now() + DROPPED_WAIT)),
            Back::Settled => Back::Settled,
        };
        self.shared.state().schedule.give_back(self.id, self.slot, back, self.has_place.load(Ordering::Acquire));
        self.shared.wake.notify_one();
    }
}

impl Queue {
    /// Waits until something is due and may start (deliveries per domain and in all are bounded), and hands it out.
    /// Let it run to its end: what it was about to hand out when it is dropped is put off, a scan for [`scans::LEASE`].
    pub async fn next(&self) -> Job {
        let shared = &self.shared;
        loop {
            // Taken before looking: what is told in between is kept for the wait below.
            let woken = shared.wake.notified();
            let (picked, ended) = {
                let mut state = shared.state();
                state.schedule.set_limits(shared.limits());
                (state.schedule.pick(shared.clock.now()), state.schedule.take_ended())
            };
            shared.tell_ended(ended);
            match picked {
                Picked::Nothing(None) => woken.await,
                Picked::Nothing(Some(moment)) => tokio::select! {
                    () = woken => {}
                    () = shared.clock.sleep_until(moment) => {}
                },
                Picked::Scan(id) => {
                    shared.wake.notify_one();
                    if shared.awaits_scan(id).await {
                        return Job::Scan(id);
                    }
                }
                Picked::Probe(slot) => {
                    shared.wake.notify_one();
                    return Job::Probe(shared.probe(slot));
                }
                Picked::Deliver(id, slot) => {
                    let permit = Permit::new(shared, id, slot);
                    shared.wake.notify_one();
                    if let Some(delivery) = shared.hand_out(permit).await {
                        return Job::Deliver(delivery);
                    }
                }
            }
        }
    }

    /// Another delivery for the same destination that is due now, for the same connection; takes over `done`'s permit.
    /// To be asked before `done` is settled. `None` also when other destinations wait for the place.
    pub async fn another(&self, done: &Delivery) -> Option<Delivery> {
        let now = self.shared.clock.now();
        let permit = {
            let mut state = self.shared.state();
            if !done.permit.has_place.load(Ordering::Acquire) {
                return None;
            }
            let id = state.schedule.pick_same(done.permit.slot, now)?;
            done.permit.has_place.store(false, Ordering::Release);
            drop(state);
            Permit::new(&self.shared, id, done.permit.slot)
        };
        self.shared.hand_out(permit).await
    }

    /// Records how an attempt ended (one outcome for each of `delivery.recipients`, in their order): delivered; to be tried
    /// again by the schedule, or given up when the lifetime is over; failed. The sender of who is given up is told (`tell.rs`).
    pub async fn settle(&self, delivery: Delivery, outcomes: Vec<Outcome>) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        detached(async move { shared.settle(delivery, outcomes).await }).await
    }
}

impl Shared {
    /// Whether this scan is still wanted; the schedule may be behind.
    async fn awaits_scan(&self, id: QueueId) -> bool {
        match self.store.entry(id).await {
            Ok(entry) if entry.progress.awaits_scan() => true,
            Ok(_) | Err(StoreError::NotFound) => {
                self.state().schedule.scans.remove(id);
                false
            }
            // It comes up again when its lease is over.
            Err(error) => {
                tracing::error!(%id, %error, "a message that awaits its scan could not be read");
                false
            }
        }
    }

    /// Reads the newest state and takes what is due of it; `None` when that is nothing.
    async fn hand_out(self: &Arc<Self>, permit: Permit) -> Option<Delivery> {
        let id = permit.id;
        let destination = self.state().schedule.host(permit.slot).clone();
        let entry = match self.store.entry(id).await {
            Ok(entry) => entry,
            Err(StoreError::NotFound) => {
                permit.end(Back::Settled);
                return None;
            }
            Err(error) => {
                tracing::error!(%id, %error, "a message that is due could not be read");
                permit.end(Back::Unsettled(self.clock.now() + UNRECORDED_WAIT));
                return None;
            }
        };
        let recipients = due_together(&entry, &destination, self.clock.now());
        if recipients.is_empty() {
            // The schedule was early. A change that changes nothing plans it anew, in order with all others.
            let back = match self.change(id, |_, _| ()).await {
                Ok(_) | Err(StoreError::NotFound) => Back::Settled,
                Err(_) => Back::Unsettled(self.clock.now() + UNRECORDED_WAIT),
            };
            permit.end(back);
            return None;
        }
        Some(Delivery { entry, destination, recipients, permit })
    }

    async fn settle(self: Arc<Self>, delivery: Delivery, mut outcomes: Vec<Outcome>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let Delivery { entry, destination, recipients, permit } = delivery;
        let without = || Outcome::Retry { scope: Scope::Message, host: None, reply: "451 4.3.0 no result".to_owned() };
        outcomes.resize_with(recipients.len(), without);
        let is_busy = self.host_refuses_some(permit.slot, &mut outcomes, now);
        let (entry, is_gone) = match self.store.entry(permit.id).await {
            Ok(newest) => (newest, false),
            Err(StoreError::NotFound) => (entry, true),
            // The one handed out is the best known.
            Err(_) => (entry, false),
        };
        let changes = recipients.iter().zip(&outcomes).map(|(index, outcome)| {
            let change = match outcome {
                // Dropped by an operator down to the last recipient: there is nobody to try or to tell any more.
                Outcome::Retry { .. } | Outcome::Failed { .. } if is_gone => Change::Leave,
                outcome => self
                    .with_terms(&entry, *index, |terms| settle::decide(&entry.progress.recipients[*index], outcome, now, terms)),
            };
            (*index, change)
        });
        let changes: Vec<_> = changes.collect();
        if !is_busy {
            self.host_answered(&entry, permit.slot, &changes, &outcomes, now);
        }
        let recorded = self.record(&entry, changes, now).await;
        if let Err(error) = &recorded {
            tracing::error!(id = %permit.id, %destination, %error, "the end of a delivery could not be recorded");
        }
        permit.end(match recorded {
            Ok(()) => Back::Settled,
            Err(_) => Back::Unsettled(now + UNRECORDED_WAIT),
        });
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Delivered { .. })) {
            for index in &recipients {
                self.delivered_to(entry.envelope.recipients[*index].address.host());
            }
        }
        recorded
    }

    /// A host that took none of this because it has too many of us is not away: the destination slows down, and it becomes the
    /// trouble of this message.
    fn host_refuses_some(&self, slot: usize, outcomes: &mut [Outcome], now: Timestamp) -> bool {
        let too_much = |outcome: &Outcome| match outcome {
            Outcome::Retry { scope: Scope::Host | Scope::Message, reply, .. } if is_too_much(reply) => {
                Some(settle::one_line(reply))
            }
            _ => None,
        };
        let Some(why) = outcomes.iter().map(too_much).collect::<Option<Vec<_>>>().and_then(|mut all| all.pop()) else {
            return false;
        };
        let is_busy = self.state().schedule.refuses_some(slot, why, now);
        if is_busy {
            self.maillog.metrics().slowed();
            let scopes = outcomes.iter_mut().filter_map(|outcome| match outcome {
                Outcome::Retry { scope, .. } => Some(scope),
                _ => None,
            });
            scopes.for_each(|scope| *scope = Scope::Message);
        }
        is_busy
    }

    /// Notes for the destination whether its host is there. Before anything is written: meanwhile no other message shall run
    /// into the same wall. The first probe is made when one of these is due, at the latest at the end of its lifetime.
    fn host_answered(&self, entry: &Entry, slot: usize, changes: &[(usize, Change)], outcomes: &[Outcome], now: Timestamp) {
        let config = self.config.load();
        let mut failure: Option<Failure> = None;
        let mut answers = false;
        for ((index, change), outcome) in changes.iter().zip(outcomes) {
            let Outcome::Retry { scope: Scope::Host, reply, .. } = outcome else {
                // Without a host it was our own trouble, which says nothing about theirs.
                answers |= !matches!(outcome, Outcome::Retry { host: None, .. });
                continue;
            };
            let recipient = &entry.progress.recipients[*index];
            let host = entry.envelope.recipients[*index].address.host();
            let due = match change {
                Change::Defer { due, .. } => *due,
                _ => now + retry::wait(retry::steps(&config, host), entry.envelope.id, recipient.attempts.saturating_add(1)),
            };
            let since = recipient.failing_since.unwrap_or(now);
            let known = failure.get_or_insert_with(|| Failure { since, first_probe: due, why: settle::one_line(reply) });
            (known.since, known.first_probe) = (known.since.min(since), known.first_probe.min(due));
        }
        let taken = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Delivered { .. }));
        let mut state = self.state();
        match failure {
            Some(failure) if !taken => {
                let host = state.schedule.host(slot).clone();
                let wait = |failures| retry::wait(retry::steps(&config, &host), &host, failures);
                state.schedule.failed(slot, failure, now, wait);
            }
            _ if answers => state.schedule.answered(slot, now),
            _ => {}
        }
    }

    /// What an attempt at this recipient is measured by.
    pub(super) fn with_terms<T>(&self, entry: &Entry, recipient: usize, use_them: impl FnOnce(Terms<'_>) -> T) -> T {
        let config = self.config.load();
        use_them(Terms {
            id: entry.envelope.id,
            received_at: entry.envelope.received_at,
            end: self.lifetime_end(&entry.envelope, &entry.progress, recipient),
            steps: retry::steps(&config, entry.envelope.recipients[recipient].address.host()),
        })
    }

    /// Writes the changes down, tells the sender, then logs them.
    pub(super) async fn record(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        changes: Vec<(usize, Change)>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let id = entry.envelope.id;
        let changes = Arc::new(changes);
        let write = || {
            let changes = Arc::clone(&changes);
            self.change(id, move |envelope, progress: &mut Progress| {
                let apply = |(index, change): &(usize, Change)| {
                    let applied = change.apply(&mut progress.recipients[*index], now);
                    // Owed from now on: a crash before the sender is told leaves a message that says so.
                    if let Change::GiveUp(give_up) = change
                        && applied
                        && notice::is_wanted(Kind::Failed, envelope, &envelope.recipients[*index])
                    {
                        progress.untold.push(give_up.failure(*index, now));
                    }
                    applied
                };
                changes.iter().map(apply).collect::<Vec<_>>()
            })
        };
        let written = match write().await {
            // After a failed sync the store goes on in a new segment: once more, or a delivered message is delivered again.
            Err(StoreError::Io { .. }) => write().await,
            written => written,
        };
        let (entry, applied) = match written {
            Ok(written) => written,
            // It left the spool meanwhile; only what the peer took is worth a word.
            Err(StoreError::NotFound) => {
                let taken = changes.iter().map(|(_, change)| matches!(change, Change::Delivered { .. }));
                (Arc::clone(entry), taken.collect())
            }
            Err(error) => return Err(error),
        };
        let told = if entry.progress.untold.is_empty() { Vec::new() } else { self.tell_failures(id).await };
        let applied = changes.iter().zip(applied).filter(|(_, applied)| *applied);
        applied.for_each(|((index, change), _)| self.log(&entry, *index, change, &told, now));
        self.tell_delay(&entry).await;
        Ok(())
    }

    fn log(&self, entry: &Entry, index: usize, change: &Change, told: &[(usize, Told)], now: Timestamp) {
        let (id, recipient) = (entry.envelope.id, &entry.envelope.recipients[index]);
        let to = recipient.address.to_string();
        match change {
            Change::Delivered { host, reply } => {
                self.maillog.delivered(now, id, &to, host, reply, now.since(entry.envelope.received_at));
            }
            Change::Defer { due, host, reply, .. } => {
                let attempts = entry.progress.recipients[index].attempts;
                self.maillog.deferred(now, id, &to, host.as_deref(), reply, attempts, *due);
            }
            Change::GiveUp(give_up) => {
                let told = match told.iter().find(|(told, _)| *told == index) {
                    Some((_, told)) => *told,
                    None if notice::is_wanted(Kind::Failed, &entry.envelope, recipient) => Told::Later,
                    None => Told::Nobody,
                };
                self.maillog.bounced(now, id, &to, &give_up.why, &told.to_string());
            }
            Change::Leave => {}
        }
    }
}

/// The recipients at this destination that are due and share decision and reroute with the first of them.
fn due_together(entry: &Entry, destination: &Host, now: Timestamp) -> Vec<usize> {
    let progress = &entry.progress;
    let is_due = |index: &usize| {
        progress.recipients[*index].destination(&entry.envelope.recipients[*index]) == destination
            && deliverable(progress, *index)
            && progress.recipients[*index].due <= now
    };
    let mut due = (0..progress.recipients.len()).filter(is_due).peekable();
    let Some(first) = due.peek().copied() else { return Vec::new() };
    let alike = |index: &usize| {
        let (first, other) = (&progress.recipients[first], &progress.recipients[*index]);
        first.decision == other.decision && first.reroute == other.reroute
    };
    due.filter(alike).take(RECIPIENTS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Status;
    use crate::queue::steer::samples::{judged, message};

    #[test]
    fn recipients_that_are_due_and_decided_alike_go_together() {
        let to = ["a@x.example", "b@x.example", "c@y.example", "d@x.example", "e@x.example", "f@x.example"];
        let mut progress = judged(6, Decision::Deliver);
        progress.recipients[1].decision = Some(Decision::DeliverMarked);
        progress.recipients[3].due = Timestamp(99);
        progress.recipients[4].status = Status::Held { since: Timestamp(0) };
        let mut entry = Entry { envelope: message("ann@sender.example", &to), progress };
        let x = "x.example".parse().unwrap();
        assert_eq!(due_together(&entry, &x, Timestamp(10)), [0, 5]);
        assert_eq!(due_together(&entry, &x, Timestamp(99)), [0, 3, 5]);
        entry.progress.judgement = None;
        assert!(due_together(&entry, &x, Timestamp(99)).is_empty(), "nothing unscanned is delivered");
    }

    #[test]
    fn a_long_list_goes_in_parts() {
        let to: Vec<_> = (0..250).map(|number| format!("r{number}@x.example")).collect();
        let to: Vec<_> = to.iter().map(String::as_str).collect();
        let entry = Entry { envelope: message("ann@sender.example", &to), progress: judged(250, Decision::Deliver) };
        assert_eq!(due_together(&entry, &"x.example".parse().unwrap(), Timestamp(10)).len(), RECIPIENTS_MAX);
    }
}
