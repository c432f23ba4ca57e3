//! Which messages wait for a verdict, and when to ask for it. Pure: time is passed in.
//!
//! A scan that was handed out has no permit to give back: it ends with `answered` or `unanswered`. Whoever took it and never
//! came back (a panic) loses it after [`LEASE`], and it is due again.
//!
//! While the scanner is away every message that waits would ask it again and again. So an unanswered scan pauses all of
//! them for a moment, longer each time, and then one probes; the first answer lets all go on.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use crate::mail::{QueueId, Timestamp};

/// After this a scan that was handed out counts as lost. Longer than any scan may take.
pub(super) const LEASE: Duration = Duration::from_secs(30 * 60);
/// The first wait of a message after a scan in vain; doubles each time.
const BACKOFF_FIRST: Duration = Duration::from_secs(5);
/// The longest wait of one message.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(5 * 60);
/// The longest pause of all scans after scans in vain: shorter than a message's own, so that the scanner's return is seen.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long a message waits after its `attempts`th scan in vain.
pub(super) fn backoff(attempts: u32) -> Duration {
    doubled(attempts).min(BACKOFF_MAX)
}

fn doubled(times: u32) -> Duration {
    BACKOFF_FIRST * (1 << times.saturating_sub(1).min(16))
}

/// The messages that wait for a verdict.
#[derive(Default)]
pub(super) struct Scans {
    order: BTreeSet<(Timestamp, QueueId)>,
    /// The same, by id.
    due: HashMap<QueueId, Timestamp>,
    /// Handed out; each also stands in `order` with the end of its lease.
    running: HashSet<QueueId>,
    /// Scans in vain since the last answer.
    failures: u32,
    paused_until: Option<Timestamp>,
}

impl Scans {
    /// Sets when the scan is due, also when it was out.
    pub(super) fn set(&mut self, id: QueueId, due: Timestamp) {
        self.remove(id);
        self.order.insert((due, id));
        self.due.insert(id, due);
    }

    /// As the store says: due then, or no longer waiting. A scan that is out stays out.
    pub(super) fn plan(&mut self, id: QueueId, due: Option<Timestamp>) {
        match due {
            Some(_) if self.running.contains(&id) => {}
            Some(due) => self.set(id, due),
            None => self.remove(id),
        }
    }

    pub(super) fn remove(&mut self, id: QueueId) {
        if let Some(due) = self.due.remove(&id) {
            self.order.remove(&(due, id));
        }
        self.running.remove(&id);
    }

    /// The scanner gave a verdict.
    pub(super) fn answered(&mut self, id: QueueId) {
        self.remove(id);
        self.resume();
    }

    /// The scanner gave none.
    pub(super) fn unanswered(&mut self, id: QueueId, now: Timestamp) {
        self.running.remove(&id);
        self.failures = self.failures.saturating_add(1);
        self.paused_until = Some(now + doubled(self.failures).min(PAUSE_MAX));
    }

    /// Lets all go on.
    pub(super) fn resume(&mut self) {
        self.failures = 0;
        self.paused_until = None;
    }

    /// Hands out the oldest one that is due, when fewer than `most` are out.
    pub(super) fn pick(&mut self, now: Timestamp, most: usize) -> Option<QueueId> {
        let due = &self.due;
        self.running.retain(|id| due.get(id).is_some_and(|lease_end| *lease_end > now));
        if self.next_at(most).is_none_or(|at| at > now) {
            return None;
        }
        let (_, id) = *self.order.first()?;
        self.set(id, now + LEASE);
        self.running.insert(id);
        Some(id)
    }

    /// When `pick` may have something.
    pub(super) fn next_at(&self, most: usize) -> Option<Timestamp> {
        let (first, _) = *self.order.first()?;
        match self.paused_until {
            Some(until) if self.running.is_empty() => Some(first.max(until)),
            None if self.running.len() < most => Some(first),
            // Full, or one probes. Its lease is the latest moment at which something changes.
            _ => self.running.iter().filter_map(|id| self.due.get(id)).min().copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::SessionId;

    fn id(number: u64) -> QueueId {
        SessionId::from_u64(number).unwrap().message(1)
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    #[test]
    fn the_wait_doubles_from_five_seconds_to_five_minutes() {
        let waits: Vec<_> = [1, 2, 3, 6, 7, 8, 1000].into_iter().map(|attempts| backoff(attempts).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 160, 300, 300, 300]);
    }

    #[test]
    fn so_many_at_a_time_and_the_oldest_first() {
        let mut scans = Scans::default();
        (1..=5).for_each(|number| scans.set(id(number), at(10 - number)));
        assert_eq!(scans.next_at(2), Some(at(5)));
        assert_eq!((scans.pick(at(20), 2), scans.pick(at(20), 2), scans.pick(at(20), 2)), (Some(id(5)), Some(id(4)), None));
        scans.answered(id(5));
        assert_eq!(scans.pick(at(20), 2), Some(id(3)));
    }

    #[test]
    fn a_scan_that_nobody_answers_for_is_due_again_after_its_lease() {
        let mut scans = Scans::default();
        scans.set(id(1), at(0));
        assert_eq!(scans.pick(at(0), 1), Some(id(1)));
        assert_eq!((scans.pick(at(1), 1), scans.next_at(1)), (None, Some(at(0) + LEASE)));
        assert_eq!(scans.pick(at(0) + LEASE, 1), Some(id(1)));
    }

    #[test]
    fn a_change_meanwhile_does_not_hand_out_a_scan_twice() {
        let mut scans = Scans::default();
        scans.set(id(1), at(0));
        assert_eq!(scans.pick(at(0), 4), Some(id(1)));
        scans.plan(id(1), Some(at(0)));
        assert_eq!(scans.pick(at(1), 4), None);
        scans.plan(id(1), None);
        assert_eq!(scans.next_at(4), None);
    }

    #[test]
    fn while_the_scanner_is_away_one_message_asks_for_all() {
        let mut scans = Scans::default();
        (1..=100).for_each(|number| scans.set(id(number), at(0)));
        let first = scans.pick(at(0), 32).unwrap();
        scans.unanswered(first, at(0));
        scans.plan(first, Some(at(5)));
        assert_eq!(scans.pick(at(4), 32), None);
        assert_eq!(scans.next_at(32), Some(at(5)));
        let probe = scans.pick(at(5), 32).unwrap();
        assert_eq!(scans.pick(at(5), 32), None, "one probes");
        scans.unanswered(probe, at(5));
        assert_eq!(scans.next_at(32), Some(at(15)), "the pause doubles");
        let probe = scans.pick(at(15), 32).unwrap();
        scans.answered(probe);
        assert_eq!((0..99).filter(|_| scans.pick(at(15), 32).is_some()).count(), 32, "an answer lets all go on");
    }
}
