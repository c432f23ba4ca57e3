//! When which message is due at which destination, and who may start. In memory, pure: time is passed in.
//!
//! Each destination (a domain or a literal) has a queue of its own, oldest due first, and a number of deliveries that are
//! out. Destinations that have something due and a free place stand in a ring and are served in turn, so a destination with
//! 100,000 due messages gets one place at a time like any other.
//!
//! A destination whose host is away has an [`Outage`], which says what may start there: one probe, or few deliveries at a time.
//! Probes take no delivery's place, so hosts that are away, however slowly, leave all places to the others.
//!
//! What waits costs about 90 bytes for each message and destination: its due time and id, ordered and by id.

mod destination;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use super::outage::{Answer, Outage, OutageState, Stage, Stops};
use super::scans::Scans;
use crate::mail::{Decision, Host, Origin, Progress, QueueId, Status, Timestamp, Verdict};
use crate::store::Entry;
use destination::{Armed, Destination};

/// Probes at a time, over all destinations.
const PROBES_MAX: usize = 100;

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
    /// Whether the host of the destination in this slot is back. `probe_back` returns it.
    Probe(usize),
    /// Nothing before this moment, unless something is planned or given back.
    Nothing(Option<Timestamp>),
}

/// An attempt that found the host away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// Since when, as far as its message knows.
    pub since: Timestamp,
    /// When to ask first whether it is back.
    pub first_probe: Timestamp,
    pub why: String,
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProbeEnd {
    Answered,
    Failed(String),
    /// Nobody knows: again then.
    Dropped(Timestamp),
}

/// An outage that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub host: Host,
    pub since: Timestamp,
    pub told: Stage,
    pub how: End,
}

/// Why an outage is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The host answered for a message.
    Answers,
    /// No mail waits for the host any more, so nobody asks for it.
    NothingWaits,
    /// Its mail goes elsewhere.
    NewServers,
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
    /// Probes that are out.
    probing: usize,
    /// Outages that ended, to be told.
    ended: Vec<Ended>,
    pub scans: Scans,
    /// A scan was handed out last: now it is a delivery's turn.
    scan_was_last: bool,
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
            probing: 0,
            ended: Vec::new(),
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
        if let Some(picked) = self.pick_delivery(now) {
            self.scan_was_last = false;
            return picked;
        }
        if let Some(id) = self.scans.pick(now, self.limits.scans) {
            return Picked::Scan(id);
        }
        self.scan_was_last = false;
        let delivery = self.timers.first().filter(|_| self.running < self.limits.deliveries).map(|(at, _)| *at);
        Picked::Nothing(delivery.into_iter().chain(self.scans.next_at(self.limits.scans)).min())
    }

    /// A delivery, or a probe in place of many.
    fn pick_delivery(&mut self, now: Timestamp) -> Option<Picked> {
        while let Some((at, slot)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, slot));
            self.ring.push_back(slot);
            self.at(slot).armed = Armed::Ring;
        }
        while self.running < self.limits.deliveries {
            let slot = self.ring.pop_front()?;
            let places = self.limits.deliveries_per_destination;
            let has_room = self.probing < PROBES_MAX;
            let destination = self.at(slot);
            destination.armed = Armed::No;
            let picked = match destination.next_at(places).is_some_and(|at| at <= now) {
                true => destination.start(slot, now, has_room),
                false => None,
            };
            match picked {
                Some(Picked::Deliver(..)) => self.running += 1,
                Some(Picked::Probe(_)) => self.probing += 1,
                _ => {}
            }
            self.arm(slot);
            if picked.is_some() {
                return picked;
            }
        }
        None
    }

    /// The next message due at the destination in `slot`, to go through the place of one that is out there. `None` when
    /// there is none, when the host is away or has too many of us, and when another destination waits for a place: then it is
    /// that one's turn.
    pub(super) fn pick_same(&mut self, slot: usize, now: Timestamp) -> Option<QueueId> {
        let others_are_due = self.ring.iter().any(|other| *other != slot)
            || self.timers.range(..=(now, usize::MAX)).any(|(_, other)| *other != slot);
        if others_are_due && self.running >= self.limits.deliveries {
            return None;
        }
        let places = self.limits.deliveries_per_destination;
        let destination = self.at(slot);
        let is_due = destination.may_go_on(places) && destination.order.first().is_some_and(|(due, _)| *due <= now);
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

    /// An attempt found the host away. `wait`: until the next probe after so many failures in a row.
    pub(super) fn failed(&mut self, slot: usize, failure: Failure, now: Timestamp, wait: impl FnOnce(u32) -> Duration) {
        let Failure { since, first_probe, why } = failure;
        let destination = self.at(slot);
        match &mut destination.outage {
            Some(outage) => outage.attempt_failed(now, first_probe, why, wait),
            up => *up = Some(Outage::begin(since, first_probe, why)),
        }
        self.arm(slot);
    }

    /// A delivery was refused because the host has too many at a time. `false`: there is no other of ours that could be too
    /// many, or it was away before; then it is to be taken as away.
    pub(super) fn refuses_some(&mut self, slot: usize, why: String, now: Timestamp) -> bool {
        let destination = self.at(slot);
        let out = destination.running;
        let is_busy = out > 1
            && match &mut destination.outage {
                Some(outage) => outage.refuses_some(now, why, out),
                up => {
                    *up = Some(Outage::busy(now, why, out));
                    true
                }
            };
        self.arm(slot);
        is_busy
    }

    /// The host answered for a message.
    pub(super) fn answered(&mut self, slot: usize, now: Timestamp) {
        let places = self.limits.deliveries_per_destination;
        let destination = self.at(slot);
        if let Some(outage) = &mut destination.outage {
            let was_known = outage.is_known();
            match outage.answered(places) {
                Answer::Noted => {}
                Answer::Over => {
                    if was_known {
                        destination.stops.add(outage.since, now);
                    }
                    let ended = Ended::of(&destination.host, outage, End::Answers);
                    self.ended.extend(ended);
                }
                Answer::Up => destination.outage = None,
            }
        }
        self.arm(slot);
    }

    /// How a probe ended; says where the destination stands now, when that is not up. The next one only starts after
    /// `probe_back`.
    pub(super) fn probe_over(
        &mut self,
        slot: usize,
        end: ProbeEnd,
        now: Timestamp,
        wait: impl FnOnce(u32) -> Duration,
    ) -> Option<OutageState> {
        let destination = self.at(slot);
        let state = destination.outage.as_mut().map(|outage| {
            match end {
                ProbeEnd::Answered => outage.probe_answered(),
                ProbeEnd::Failed(why) => outage.probe_failed(now, why, wait),
                ProbeEnd::Dropped(until) => outage.probe_later(until),
            }
            outage.state()
        });
        self.arm(slot);
        state
    }

    /// A probe that was out is back, and all that was to be done about it is done.
    pub(super) fn probe_back(&mut self, slot: usize) {
        self.probing -= 1;
        self.at(slot).is_probed = false;
        self.arm(slot);
    }

    /// Takes up what a message remembers of an outage from before a restart.
    pub(super) fn recall(&mut self, host: &Host, since: Timestamp, due: Timestamp, why: &str, now: Timestamp) {
        let Some(slot) = self.by_host.get(host).copied() else { return };
        let destination = self.at(slot);
        let known = destination.outage.as_ref();
        let since = known.map_or(since, |known| known.since.min(since));
        let probe_at = known.and_then(Outage::probe_at).map_or(due, |known| known.min(due));
        let told = known.map(|known| known.told).unwrap_or_default();
        destination.outage = Some(Outage::recalled(since, probe_at, why.to_owned(), told, now));
        self.arm(slot);
    }

    /// Takes up what was told of an outage before a restart, when there still is one.
    pub(super) fn recall_told(&mut self, host: &Host, since: Timestamp, told: Stage, now: Timestamp) {
        let known = self.outage(host).cloned();
        if let Some(known) = known
            && let (Some(slot), Some(probe_at)) = (self.by_host.get(host).copied(), known.probe_at())
        {
            let recalled = Outage::recalled(known.since.min(since), probe_at, known.why, told, now);
            self.at(slot).outage = Some(recalled);
        }
    }

    /// An operator who asked at `asked_at` wants to know now whether the host is back.
    pub(super) fn probe_now(&mut self, host: &Host, asked_at: Timestamp) {
        self.with_outage(host, |outage| outage.probe_now(asked_at));
    }

    /// What is known of the outage of a host; `None`: it is up.
    pub(super) fn outage(&self, host: &Host) -> Option<&Outage> {
        self.by_host.get(host).and_then(|slot| self.slots[*slot].as_ref()?.outage.as_ref())
    }

    /// Works on the outage of a host, if there is one.
    pub(super) fn with_outage<T>(&mut self, host: &Host, work: impl FnOnce(&mut Outage) -> T) -> Option<T> {
        let slot = self.by_host.get(host).copied()?;
        let done = self.at(slot).outage.as_mut().map(work);
        self.arm(slot);
        done
    }

    /// All outages, and when the next probe is due; `None` while one is out, and when none is needed.
    pub(super) fn outages(&self) -> impl Iterator<Item = (&Host, &Outage, Option<Timestamp>)> {
        self.slots.iter().flatten().filter_map(|destination| {
            let outage = destination.outage.as_ref()?;
            Some((&destination.host, outage, outage.probe_at().filter(|_| !destination.is_probed)))
        })
    }

    /// When the host was down, as far as messages that still wait may ask.
    pub(super) fn stops(&self, host: &Host) -> Option<&Stops> {
        self.by_host.get(host).and_then(|slot| Some(&self.slots[*slot].as_ref()?.stops))
    }

    /// The outages that ended since this was last asked.
    pub(super) fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// The servers of a destination were changed: what was known of the old ones says nothing. It starts slowly.
    pub(super) fn has_new_servers(&mut self, host: &Host, now: Timestamp) {
        let Some(slot) = self.by_host.get(host).copied() else { return };
        let destination = self.at(slot);
        let Some(outage) = &mut destination.outage else { return };
        let was_known = outage.is_known();
        let old = std::mem::replace(outage, Outage::renewed(now));
        if was_known {
            destination.stops.add(old.since, now);
        }
        let ended = Ended::of(&destination.host, &old, End::NewServers).filter(|_| !old.is_over());
        self.ended.extend(ended);
        self.arm(slot);
    }

    /// Up to `most` messages after `after` that wait for the host or are out there, the oldest first. What it costs does not
    /// depend on how many wait.
    pub(super) fn waiting(&self, host: &Host, after: Option<QueueId>, most: usize) -> Vec<QueueId> {
        let Some(destination) = self.by_host.get(host).and_then(|slot| self.slots[*slot].as_ref()) else { return Vec::new() };
        let from = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let due = destination.due.range(from).map(|(id, _)| *id).take(most);
        let out = destination.out.keys().copied().filter(|id| after.is_none_or(|after| *id > after));
        let mut ids: Vec<_> = due.chain(out).collect();
        ids.sort_unstable();
        ids.truncate(most);
        ids
    }

    /// How many they are.
    pub(super) fn waiting_count(&self, host: &Host) -> usize {
        let destination = self.by_host.get(host).and_then(|slot| self.slots[*slot].as_ref());
        destination.map_or(0, |destination| destination.due.len() + destination.out.len())
    }

    /// The destination of what is out there.
    pub(super) fn host(&mut self, slot: usize) -> &Host {
        &self.at(slot).host
    }

    /// Whether the host is away, and nothing of this message is out there.
    pub(super) fn is_behind_outage(&self, id: QueueId, host: &Host) -> bool {
        let destination = self.by_host.get(host).and_then(|slot| self.slots[*slot].as_ref());
        destination.is_some_and(|destination| destination.is_closed() && !destination.out.contains_key(&id))
    }

    /// Whether nothing is offered to the host because it is away.
    pub(super) fn is_closed(&self, host: &Host) -> bool {
        let destination = self.by_host.get(host).and_then(|slot| self.slots[*slot].as_ref());
        destination.is_some_and(Destination::is_closed)
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
        } else if destination.is_forgettable() {
            let ended = destination.outage.as_ref().filter(|outage| !outage.is_over());
            self.ended.extend(ended.and_then(|outage| Ended::of(&destination.host, outage, End::NothingWaits)));
            self.by_host.remove(&destination.host);
            self.slots[slot] = None;
            self.free.push(slot);
        }
    }

    fn open_slot(&mut self, host: &Host) -> usize {
        let destination = Destination {
            host: host.clone(),
            order: BTreeSet::new(),
            due: BTreeMap::new(),
            out: HashMap::new(),
            running: 0,
            outage: None,
            is_probed: false,
            stops: Stops::default(),
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

impl Ended {
    /// Only of what somebody was told of.
    fn of(host: &Host, outage: &Outage, how: End) -> Option<Ended> {
        let ended = || Ended { host: host.clone(), since: outage.since, told: outage.told, how };
        (outage.told > Stage::Untold).then(ended)
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
