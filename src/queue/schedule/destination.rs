//! One destination: what is due there, what is out, and what may start.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::super::outage::{Gate, Outage, Stops};
use super::Picked;
use crate::mail::{Host, QueueId, Timestamp};

/// A probe that finds no place waits so long.
const PROBE_PLACE_WAIT: Duration = Duration::from_secs(10);

pub(super) struct Destination {
    pub(super) host: Host,
    pub(super) order: BTreeSet<(Timestamp, QueueId)>,
    /// The same, by id: in the order of arrival.
    pub(super) due: BTreeMap<QueueId, Timestamp>,
    /// Messages that are out, with what was planned for them meanwhile.
    pub(super) out: HashMap<QueueId, Option<Timestamp>>,
    /// Places taken. Differs from `out` while a connection is handed from one message to the next.
    pub(super) running: usize,
    /// `None`: up.
    pub(super) outage: Option<Outage>,
    /// A probe is out, whatever became of the outage meanwhile.
    pub(super) is_probed: bool,
    pub(super) stops: Stops,
    pub(super) armed: Armed,
}

/// Where a destination waits for its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Armed {
    No,
    Timer(Timestamp),
    Ring,
}

impl Destination {
    pub(super) fn set(&mut self, id: QueueId, due: Option<Timestamp>) {
        match (self.due.entry(id), due) {
            (Slot::Occupied(mut known), Some(due)) => {
                self.order.remove(&(*known.get(), id));
                self.order.insert((due, id));
                known.insert(due);
            }
            (Slot::Occupied(known), None) => {
                self.order.remove(&(known.remove(), id));
            }
            (Slot::Vacant(place), Some(due)) => {
                place.insert(due);
                self.order.insert((due, id));
            }
            (Slot::Vacant(_), None) => {}
        }
    }

    /// Hands out the oldest.
    pub(super) fn take(&mut self) -> QueueId {
        let (_, id) = self.order.pop_first().expect("something is due");
        self.due.remove(&id);
        self.out.insert(id, None);
        id
    }

    /// Starts what can be started: the oldest message, or a probe.
    pub(super) fn start(&mut self, slot: usize, now: Timestamp, has_room: bool) -> Option<Picked> {
        match &mut self.outage {
            Some(outage) if outage.is_closed() && !has_room => {
                outage.probe_later(now + PROBE_PLACE_WAIT);
                None
            }
            Some(outage) if outage.is_closed() => {
                outage.probe_begins(now);
                self.is_probed = true;
                Some(Picked::Probe(slot))
            }
            _ => {
                self.running += 1;
                Some(Picked::Deliver(self.take(), slot))
            }
        }
    }

    /// When something can start; `None` while nothing waits or no place is free.
    pub(super) fn next_at(&self, places: usize) -> Option<Timestamp> {
        let (first, _) = *self.order.first()?;
        let gate = self.outage.as_ref().map_or(Gate::Places(places), Outage::gate);
        match gate {
            Gate::Places(few) => (self.running < few.min(places)).then_some(first),
            // Also while messages are not due yet: when they are, it is known where the host stands.
            Gate::Probe(at) => (!self.is_probed).then_some(at),
            Gate::Shut => None,
        }
    }

    /// A connection that is there may take another message.
    pub(super) fn may_go_on(&self, places: usize) -> bool {
        match self.outage.as_ref().map(Outage::gate) {
            Some(Gate::Places(few)) => self.running <= few.min(places),
            Some(Gate::Probe(_) | Gate::Shut) => false,
            None => true,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.outage.as_ref().is_some_and(Outage::is_closed)
    }

    /// Nothing is left to know.
    pub(super) fn is_forgettable(&self) -> bool {
        self.due.is_empty() && self.out.is_empty() && self.running == 0 && !self.is_probed
    }
}
