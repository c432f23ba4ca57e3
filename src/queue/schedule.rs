//! When which message is due at which destination, and who may start. In memory, pure: time is passed in.
//!
//! Each destination (a domain or a literal) has a queue of its own, oldest due first, and a number of deliveries that are
//! out. Destinations that have something due and a free place stand in a ring and are served in turn, so a destination with
//! 100,000 due messages gets one place at a time like any other.
//!
//! A destination whose host was away is *paused*: nothing starts before `paused_until`, then one delivery goes first as a
//! probe; it opens the destination again or renews the pause.
//!
//! What waits costs 100 to 140 bytes for each message and destination: its due time and id, ordered and by id.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeSet, HashMap, VecDeque};

use super::scans::Scans;
use crate::mail::{Decision, Host, Origin, Progress, QueueId, Status, Timestamp, Verdict};
use crate::store::Entry;

/// How many at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub deliveries: usize,
    pub deliveries_per_destination: usize,
    pub scans: usize,
}

/// What may start now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Picked {
    Scan(QueueId),
    /// This message at the destination in this slot. A place is taken: `give_back` returns it.
    Deliver(QueueId, usize),
    /// Nothing before this moment, unless something is planned or given back.
    Nothing(Option<Timestamp>),
}

/// How a message comes back from being out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// Its end was recorded: it goes on as it was last planned.
    Settled,
    /// Nobody knows: it is due again then.
    Unsettled(Timestamp),
}

pub(super) struct Schedule {
    limits: Limits,
    slots: Vec<Option<Destination>>,
    free: Vec<usize>,
    by_host: HashMap<Host, usize>,
    /// Destinations by the moment they can start something.
    timers: BTreeSet<(Timestamp, usize)>,
    /// Destinations whose moment has come, in the order in which they are served.
    ring: VecDeque<usize>,
    /// Deliveries that are out.
    running: usize,
    pub scans: Scans,
    /// A scan was handed out last: now it is a delivery's turn.
    scan_was_last: bool,
}

struct Destination {
    host: Host,
    order: BTreeSet<(Timestamp, QueueId)>,
    /// The same, by id.
    due: HashMap<QueueId, Timestamp>,
    /// Messages that are out, with what was planned for them meanwhile.
    out: HashMap<QueueId, Option<Timestamp>>,
    /// Places taken. Differs from `out` while a connection is handed from one message to the next.
    running: usize,
    paused_until: Option<Timestamp>,
    armed: Armed,
}

/// Where a destination waits for its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Armed {
    No,
    Timer(Timestamp),
    Ring,
}

impl Schedule {
    pub(super) fn new(limits: Limits) -> Schedule {
        Schedule {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            by_host: HashMap::new(),
            timers: BTreeSet::new(),
            ring: VecDeque::new(),
            running: 0,
            scans: Scans::default(),
            scan_was_last: false,
        }
    }

    /// Takes over what a reload changed.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        if self.limits != limits {
            self.limits = limits;
            (0..self.slots.len()).for_each(|slot| self.arm(slot));
        }
    }

    /// Plans a message as its newest state says: its scan, and its delivery to each of its destinations.
    pub(super) fn plan_entry(&mut self, entry: &Entry) {
        let (id, progress) = (entry.envelope.id, &entry.progress);
        let awaits_scan = progress.awaits_scan() && !progress.is_settled();
        self.scans.plan(id, awaits_scan.then_some(progress.scan_due));
        let mut dues: HashMap<&Host, Option<Timestamp>> = HashMap::new();
        for (index, recipient) in entry.envelope.recipients.iter().enumerate() {
            // Also where nothing is due any more: mail that was rerouted must not be looked for at its own host.
            dues.entry(recipient.address.host()).or_default();
            let due = dues.entry(progress.recipients[index].destination(recipient)).or_default();
            if deliverable(progress, index) {
                let this = progress.recipients[index].due;
                *due = Some(due.map_or(this, |earliest| earliest.min(this)));
            }
        }
        dues.into_iter().for_each(|(host, due)| self.plan(id, host, due));
    }

    /// Plans a message at one destination; `None`: nothing to deliver there.
    pub(super) fn plan(&mut self, id: QueueId, host: &Host, due: Option<Timestamp>) {
        let slot = match (self.by_host.get(host), due) {
            (Some(slot), _) => *slot,
            (None, Some(_)) => self.open_slot(host),
            (None, None) => return,
        };
        let destination = self.at(slot);
        match destination.out.get_mut(&id) {
            Some(planned) => *planned = due,
            None => destination.set(id, due),
        }
        self.arm(slot);
    }

    /// What may start now: scans and deliveries in turn, destinations in turn, oldest due first.
    pub(super) fn pick(&mut self, now: Timestamp) -> Picked {
        if !self.scan_was_last
            && let Some(id) = self.scans.pick(now, self.limits.scans)
        {
            self.scan_was_last = true;
            return Picked::Scan(id);
        }
        if let Some((id, slot)) = self.pick_delivery(now) {
            self.scan_was_last = false;
            return Picked::Deliver(id, slot);
        }
        if let Some(id) = self.scans.pick(now, self.limits.scans) {
            return Picked::Scan(id);
        }
        self.scan_was_last = false;
        let delivery = self.timers.first().filter(|_| self.running < self.limits.deliveries).map(|(at, _)| *at);
        Picked::Nothing(delivery.into_iter().chain(self.scans.next_at(self.limits.scans)).min())
    }

    fn pick_delivery(&mut self, now: Timestamp) -> Option<(QueueId, usize)> {
        while let Some((at, slot)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, slot));
            self.ring.push_back(slot);
            self.at(slot).armed = Armed::Ring;
        }
        while self.running < self.limits.deliveries {
            let slot = self.ring.pop_front()?;
            let places = self.limits.deliveries_per_destination;
            let destination = self.at(slot);
            destination.armed = Armed::No;
            let picked = destination.next_at(places).is_some_and(|at| at <= now).then(|| destination.take());
            if picked.is_some() {
                destination.running += 1;
                self.running += 1;
            }
            self.arm(slot);
            if let Some(id) = picked {
                return Some((id, slot));
            }
        }
        None
    }

    /// The next message due at the destination in `slot`, to go through the place of one that is out there. `None` when
    /// there is none, when the host is away, and when another destination waits for a place: then it is that one's turn.
    pub(super) fn pick_same(&mut self, slot: usize, now: Timestamp) -> Option<QueueId> {
        let others_are_due = self.ring.iter().any(|other| *other != slot)
            || self.timers.range(..=(now, usize::MAX)).any(|(_, other)| *other != slot);
        if others_are_due && self.running >= self.limits.deliveries {
            return None;
        }
        let destination = self.at(slot);
        let is_due = destination.paused_until.is_none() && destination.order.first().is_some_and(|(due, _)| *due <= now);
        let picked = is_due.then(|| destination.take());
        self.arm(slot);
        picked
    }

    /// A message that was out is back; with `place`, its place is free again.
    pub(super) fn give_back(&mut self, id: QueueId, slot: usize, back: Back, place: bool) {
        let destination = self.at(slot);
        let planned = destination.out.remove(&id).expect("only what is out comes back");
        match back {
            Back::Settled => destination.set(id, planned),
            Back::Unsettled(due) => destination.set(id, Some(due)),
        }
        if place {
            destination.running -= 1;
            self.running -= 1;
        }
        self.arm(slot);
    }

    /// The host is away: nothing starts there before `until`. Of several failures at a time the earliest decides.
    pub(super) fn pause(&mut self, slot: usize, until: Timestamp, now: Timestamp) {
        let destination = self.at(slot);
        let earliest = destination.paused_until.filter(|earlier| *earlier > now).map_or(until, |earlier| earlier.min(until));
        destination.paused_until = Some(earliest);
        self.arm(slot);
    }

    /// The host answered.
    pub(super) fn open(&mut self, slot: usize) {
        self.at(slot).paused_until = None;
        self.arm(slot);
    }

    /// An operator wants it tried now, whatever happened before.
    pub(super) fn resume(&mut self, host: &Host) {
        if let Some(slot) = self.by_host.get(host).copied() {
            self.open(slot);
        }
    }

    /// The destination of what is out there.
    pub(super) fn host(&mut self, slot: usize) -> &Host {
        &self.at(slot).host
    }

    /// Whether the host was away when last tried, and nothing of this message is out there.
    pub(super) fn is_behind_pause(&self, id: QueueId, host: &Host) -> bool {
        let destination = self.by_host.get(host).and_then(|slot| self.slots[*slot].as_ref());
        destination.is_some_and(|destination| destination.paused_until.is_some() && !destination.out.contains_key(&id))
    }

    /// Puts a destination where its next start is looked for; forgets it when there is nothing left to know.
    fn arm(&mut self, slot: usize) {
        let places = self.limits.deliveries_per_destination;
        let Some(destination) = &mut self.slots[slot] else { return };
        // In the ring it stays: its turn comes, and then it is looked at anew.
        if destination.armed == Armed::Ring {
            return;
        }
        if let Armed::Timer(at) = destination.armed {
            self.timers.remove(&(at, slot));
            destination.armed = Armed::No;
        }
        if let Some(at) = destination.next_at(places) {
            destination.armed = Armed::Timer(at);
            self.timers.insert((at, slot));
        } else if destination.due.is_empty() && destination.out.is_empty() && destination.running == 0 {
            self.by_host.remove(&destination.host);
            self.slots[slot] = None;
            self.free.push(slot);
        }
    }

    fn open_slot(&mut self, host: &Host) -> usize {
        let destination = Destination {
            host: host.clone(),
            order: BTreeSet::new(),
            due: HashMap::new(),
            out: HashMap::new(),
            running: 0,
            paused_until: None,
            armed: Armed::No,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(destination);
        self.by_host.insert(host.clone(), slot);
        slot
    }

    fn at(&mut self, slot: usize) -> &mut Destination {
        self.slots[slot].as_mut().expect("a slot that is armed, or has something out, has its destination")
    }
}

impl Destination {
    fn set(&mut self, id: QueueId, due: Option<Timestamp>) {
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
    fn take(&mut self) -> QueueId {
        let (_, id) = self.order.pop_first().expect("something is due");
        self.due.remove(&id);
        self.out.insert(id, None);
        id
    }

    /// When something can start; `None` while nothing waits or no place is free.
    fn next_at(&self, places: usize) -> Option<Timestamp> {
        let (first, _) = *self.order.first()?;
        match self.paused_until {
            None => (self.running < places).then_some(first),
            // One probe, and only when what was out before the pause is back.
            Some(until) => (self.running == 0).then(|| first.max(until)),
        }
    }
}

/// Whether this recipient is to be delivered. Here, once, stands what may leave the house.
pub(super) fn deliverable(progress: &Progress, recipient: usize) -> bool {
    let vouched_for = match (&progress.judgement, progress.origin) {
        (Some(judgement), _) => matches!(judgement.verdict, Verdict::Clean | Verdict::Unscannable(_)),
        (None, Origin::Gateway) => true,
        (None, Origin::Client) => false,
    };
    let recipient = &progress.recipients[recipient];
    let wanted = matches!(recipient.decision, Some(Decision::Deliver | Decision::DeliverMarked | Decision::DeliverTagged { .. }));
    vouched_for && wanted && recipient.status == Status::Waiting
}

#[cfg(test)]
mod tests;
