//! Messages in memory: those on their way to disk, and recent ones, so that a fresh message is judged, delivered and
//! settled without reading it back.
//!
//! Invariants:
//! - A message with a record on its way is here and stays here until that record is durable or has failed: so the newest
//!   state is always found, and a later change builds upon it.
//! - A state put in from disk is put in under the message's stripe lock (`spool.rs`), so an old one never hides a newer one.
//! - Everything else is bounded by bytes; the oldest unused goes first.
//!
//! When a record fails, the message falls back to its last durable state, and the records that were built upon the failed
//! one fail with it (their `generation` is over), so that an error means: nothing changed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::mail::QueueId;
use crate::outside::Body;

use super::Entry;

/// What an entry costs beside its content: envelope, progress and bookkeeping.
const ENTRY_COST: usize = 2048;
const RECIPIENT_COST: usize = 512;

struct Slot {
    /// The newest state.
    entry: Arc<Entry>,
    /// The newest state that is on disk; `None` while it is being accepted.
    durable: Option<Arc<Entry>>,
    body: Option<Body>,
    /// Goes up when a record failed.
    generation: u64,
    /// Records on their way.
    pending: u32,
    /// Its `Done` is on its way: for readers it has left.
    is_done: bool,
    cost: usize,
    used: bool,
}

/// What is known about a message here.
pub enum Known {
    Here(Arc<Entry>),
    /// It has left, or is about to.
    Gone,
    /// Look on disk.
    Unknown,
}

pub struct Recent {
    slots: HashMap<QueueId, Slot>,
    /// In the order in which they are looked at for eviction; may name some that are gone.
    order: VecDeque<QueueId>,
    bytes: usize,
    bytes_max: usize,
}

impl Recent {
    pub fn new(bytes_max: usize) -> Recent {
        Recent { slots: HashMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub fn get(&mut self, id: QueueId) -> Known {
        match self.slots.get_mut(&id) {
            Some(slot) if slot.is_done => Known::Gone,
            Some(slot) => {
                slot.used = true;
                Known::Here(Arc::clone(&slot.entry))
            }
            None => Known::Unknown,
        }
    }

    pub fn body(&self, id: QueueId) -> Option<Body> {
        self.slots.get(&id).filter(|slot| !slot.is_done)?.body.clone()
    }

    /// A state read from disk, under the message's stripe lock.
    pub fn remember(&mut self, entry: &Arc<Entry>) {
        let id = entry.envelope.id;
        if !self.slots.contains_key(&id) {
            let durable = Some(Arc::clone(entry));
            self.insert(id, Slot { durable, used: true, ..Slot::new(Arc::clone(entry), None) });
            self.evict();
        }
    }

    /// A content read from disk.
    pub fn remember_body(&mut self, id: QueueId, body: Body) {
        if let Some(slot) = self.slots.get_mut(&id)
            && slot.body.is_none()
        {
            let cost = body_cost(&body);
            slot.body = Some(body);
            slot.cost += cost;
            self.bytes += cost;
            self.evict();
        }
    }

    /// A new message is on its way.
    pub fn accepting(&mut self, entry: Arc<Entry>, body: Body) -> u64 {
        let id = entry.envelope.id;
        self.insert(id, Slot { pending: 1, ..Slot::new(entry, Some(body)) });
        self.evict();
        0
    }

    /// A record is on its way that turns `before`, looked up under the same stripe lock, into `entry`. The generation it
    /// belongs to; `None` when `before` is not the newest state any more, because the record that brought it about has
    /// failed, or is not here any more: look again.
    pub fn changing(&mut self, before: &Arc<Entry>, entry: Arc<Entry>, is_done: bool) -> Option<u64> {
        let slot = self.slots.get_mut(&entry.envelope.id)?;
        if slot.is_done || !Arc::ptr_eq(&slot.entry, before) {
            return None;
        }
        slot.entry = entry;
        slot.is_done = is_done;
        slot.pending += 1;
        slot.used = true;
        Some(slot.generation)
    }

    /// Whether no record that this one was built upon has failed.
    pub fn is_current(&self, id: QueueId, generation: u64) -> bool {
        self.slots.get(&id).is_some_and(|slot| slot.generation == generation)
    }

    /// The record is on disk.
    pub fn committed(&mut self, entry: &Arc<Entry>, is_done: bool) {
        let id = entry.envelope.id;
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.pending = slot.pending.saturating_sub(1);
            slot.durable = Some(Arc::clone(entry));
        }
        if is_done {
            self.forget(id);
        }
        self.evict();
    }

    /// The record is not on disk, or nobody knows: the message is what it was before.
    pub fn failed(&mut self, id: QueueId, generation: u64) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.pending = slot.pending.saturating_sub(1);
        if slot.generation == generation {
            slot.generation += 1;
            slot.is_done = false;
            if let Some(durable) = &slot.durable {
                slot.entry = Arc::clone(durable);
            }
        }
        if slot.durable.is_none() {
            // What is still on its way builds upon a message that does not exist: `is_current` says no.
            self.forget(id);
        }
    }

    /// The message was set aside as damaged.
    pub fn forget(&mut self, id: QueueId) {
        if let Some(slot) = self.slots.remove(&id) {
            self.bytes -= slot.cost;
        }
    }

    fn insert(&mut self, id: QueueId, slot: Slot) {
        self.bytes += slot.cost;
        if let Some(before) = self.slots.insert(id, slot) {
            self.bytes -= before.cost;
        }
        self.order.push_back(id);
        // Most messages leave by `forget`, which does not touch the order.
        if self.order.len() > 2 * self.slots.len() + 1024 {
            self.order.retain(|id| self.slots.contains_key(id));
        }
    }

    /// Second chance: what was used since the last look stays for one more round. Nothing is looked at twice, so what was
    /// just put in as used stays.
    fn evict(&mut self) {
        let mut looks = self.order.len();
        while self.bytes > self.bytes_max && looks > 0 {
            looks -= 1;
            let Some(id) = self.order.pop_front() else { return };
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            if slot.pending > 0 || std::mem::take(&mut slot.used) {
                self.order.push_back(id);
            } else {
                self.forget(id);
            }
        }
    }
}

impl Slot {
    fn new(entry: Arc<Entry>, body: Option<Body>) -> Slot {
        let recipients = entry.envelope.recipients.len() * RECIPIENT_COST;
        let cost = ENTRY_COST + recipients + body.as_ref().map_or(0, body_cost);
        Slot { entry, durable: None, body, generation: 0, pending: 0, is_done: false, cost, used: false }
    }
}

/// A body in a file costs its open file.
fn body_cost(body: &Body) -> usize {
    match body {
        Body::Memory(bytes) => bytes.len(),
        Body::File { .. } => 16 * 1024,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entry, id};
    use super::*;

    fn body(size: usize) -> Body {
        Body::Memory(vec![0; size].into())
    }

    fn attempts(recent: &mut Recent, number: u32) -> Option<u32> {
        match recent.get(id(number)) {
            Known::Here(entry) => Some(entry.progress.recipients[0].attempts),
            Known::Gone | Known::Unknown => None,
        }
    }

    fn after(attempts: u32) -> Arc<Entry> {
        let mut entry = entry(1, 1);
        entry.progress.recipients[0].attempts = attempts;
        Arc::new(entry)
    }

    fn newest(recent: &mut Recent) -> Arc<Entry> {
        let Known::Here(entry) = recent.get(id(1)) else { panic!("it is here") };
        entry
    }

    fn change(recent: &mut Recent, attempts: u32) -> u64 {
        let before = newest(recent);
        recent.changing(&before, after(attempts), false).unwrap()
    }

    #[test]
    fn a_failed_record_takes_those_built_upon_it_with_it() {
        let mut recent = Recent::new(1 << 20);
        let accepted = recent.accepting(after(0), body(10));
        assert!(recent.is_current(id(1), accepted));
        recent.committed(&after(0), false);
        let first = change(&mut recent, 1);
        let second = change(&mut recent, 2);
        assert_eq!(attempts(&mut recent, 1), Some(2), "the newest state is seen before it is durable");
        let seen_before = newest(&mut recent);
        recent.failed(id(1), first);
        assert!(!recent.is_current(id(1), second));
        assert_eq!(recent.changing(&seen_before, after(3), false), None, "looked up before the failure");
        recent.failed(id(1), second);
        assert_eq!(attempts(&mut recent, 1), Some(0));
        let third = change(&mut recent, 1);
        assert!(recent.is_current(id(1), third));
    }

    #[test]
    fn a_message_that_could_not_be_accepted_is_gone_with_its_changes() {
        let mut recent = Recent::new(1 << 20);
        let accepted = recent.accepting(after(0), body(10));
        let judged = change(&mut recent, 1);
        recent.failed(id(1), accepted);
        assert!(!recent.is_current(id(1), judged));
        recent.failed(id(1), judged);
        assert!(matches!(recent.get(id(1)), Known::Unknown));
        assert_eq!(recent.bytes, 0);
    }

    #[test]
    fn what_is_on_its_way_stays_and_the_rest_is_bounded() {
        let mut recent = Recent::new(20_000);
        recent.accepting(Arc::new(entry(1, 1)), body(9_000));
        for number in 2..50 {
            recent.accepting(Arc::new(entry(number, 1)), body(1_000));
            recent.committed(&Arc::new(entry(number, 1)), false);
        }
        assert!(recent.bytes <= 20_000);
        assert!(recent.body(id(1)).is_some(), "not durable yet");
        assert!(recent.body(id(2)).is_none(), "the oldest went");
    }

    #[test]
    fn a_settled_message_is_gone_for_readers_and_comes_back_when_done_fails() {
        let mut recent = Recent::new(1 << 20);
        recent.accepting(after(0), body(10));
        recent.committed(&after(0), false);
        let before = newest(&mut recent);
        let done = recent.changing(&before, after(1), true).unwrap();
        assert!(matches!(recent.get(id(1)), Known::Gone));
        recent.failed(id(1), done);
        assert_eq!(attempts(&mut recent, 1), Some(0));
    }
}
