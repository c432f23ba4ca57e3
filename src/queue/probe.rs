//! Hosts that are away: handing out probes, what their ends mean, who is told, and what is shown of an outage.
//!
//! On failure: a probe that is dropped without a word is made again shortly. What cannot be read of the queue leaves an alert
//! for the next look; mail is never delayed by any of it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::alert::{Alert, Event};
use super::deliver::DROPPED_WAIT;
use super::outage::{Outage, OutageState, Stage};
use super::schedule::{End, Ended, ProbeEnd, deliverable};
use super::settle::one_line;
use super::state::{Shared, detached};
use super::{Queue, retry};
use crate::config::Config;
use crate::mail::{Domain, Host, QueueId, Reroute, Timestamp};
use crate::store::{Entry, StoreError};

/// Messages read to find the one that would be given up first. Beyond, a moment is given that is too early, never too late.
const READS_MAX: usize = 2_000;
/// Messages of one host asked for at a time.
const WAITING_READ: usize = 256;
/// Outages shown at most, and domains with metrics of their own.
const SHOWN_MAX: usize = 1_000;

/// Whether the host of a destination is back is to be found out, once for all its messages.
pub struct Probe {
    pub destination: Host,
    permit: ProbePermit,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probe({})", self.destination)
    }
}

/// Returned when dropped.
struct ProbePermit {
    shared: Arc<Shared>,
    slot: usize,
    is_over: bool,
}

impl Drop for ProbePermit {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        if !self.is_over {
            state.schedule.probe_over(self.slot, ProbeEnd::Dropped(now + DROPPED_WAIT), now, |_| DROPPED_WAIT);
        }
        state.schedule.probe_back(self.slot);
        drop(state);
        self.shared.wake.notify_one();
    }
}

/// One outage of a domain that is served here, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutageView {
    pub domain: String,
    pub state: OutageState,
    /// The first failure.
    pub since: Timestamp,
    /// What the host said last, or our words for it.
    pub why: String,
    /// Messages that wait for it.
    pub messages: usize,
    /// When the first of them would be given up, should the outage go on.
    pub first_bounce: Option<Timestamp>,
    /// The next probe; `None` while one is made, and when it drains.
    pub probe_at: Option<Timestamp>,
    pub told: Stage,
}

/// Why mail for a destination is not tried now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    pub destination: String,
    pub state: OutageState,
    /// The first failure.
    pub since: Timestamp,
    /// What the host said last, or our words for it.
    pub why: String,
    /// The next probe.
    pub probe_at: Option<Timestamp>,
}

impl Queue {
    /// Whether the host of a destination is away; `None`: its mail is tried when it is due.
    pub fn away(&self, destination: &Host) -> Option<Away> {
        let state = self.shared.state();
        let outage = state.schedule.outage(destination).filter(|outage| outage.is_closed())?;
        let (state, since, why, probe_at) = (outage.state(), outage.since, outage.why.clone(), outage.probe_at());
        Some(Away { destination: destination.to_string(), state, since, why, probe_at })
    }

    /// Records how a probe ended: `Err` with the reason when no host answered.
    pub async fn probed(&self, probe: Probe, answer: Result<(), String>) {
        let shared = Arc::clone(&self.shared);
        let watched = detached(async move { shared.probed(probe, answer).await }).await;
        if let Err(error) = watched {
            tracing::error!(%error, "the mail that waits for a host that is away could not be looked through");
        }
    }

    /// Domains served here whose hosts are not simply up, longest first; the first thousand.
    pub async fn outages(&self) -> Result<Vec<OutageView>, StoreError> {
        let shared = &self.shared;
        let config = shared.config.load_full();
        let mut views = {
            let state = shared.state();
            let served = state.schedule.outages().filter(|(host, ..)| is_served(&config, host));
            let view = |host: &Host, outage: &Outage, probe_at| OutageView {
                domain: host.to_string(),
                state: outage.state(),
                since: outage.since,
                why: outage.why.clone(),
                messages: state.schedule.waiting_count(host),
                first_bounce: None,
                probe_at,
                told: outage.told,
            };
            let mut views: Vec<_> = served.map(|(host, outage, probe_at)| (host.clone(), view(host, outage, probe_at))).collect();
            views.sort_by(|(_, one), (_, other)| one.since.cmp(&other.since).then_with(|| one.domain.cmp(&other.domain)));
            views.truncate(SHOWN_MAX);
            views
        };
        for (host, view) in &mut views {
            view.first_bounce = shared.first_bounce(host).await?;
        }
        Ok(views.into_iter().map(|(_, view)| view).collect())
    }

    /// Whether a domain's servers are known not to be there: failed, and not back yet. Cheap.
    pub fn is_away(&self, domain: &Domain) -> bool {
        self.shared.state().schedule.is_closed(&Host::Domain(domain.clone()))
    }

    /// The settings were changed: a domain that has other servers now starts anew.
    pub fn reloaded(&self, old: &Config, new: &Config) {
        let now = self.shared.clock.now();
        for (domain, settings) in &new.domains {
            if old.domain(domain).is_some_and(|before| before.deliver_to != settings.deliver_to) {
                self.shared.state().schedule.has_new_servers(&Host::Domain(domain.clone()), now);
            }
        }
        // Also for everything else that was changed: limits, waits, lifetimes.
        self.shared.wake.notify_one();
    }

    /// The server that an operator named for the mail that waits there; `None`: its destination is its own. One that cannot be
    /// read now counts as that: the next probe asks again.
    pub async fn reroute_at(&self, destination: &Host) -> Option<Reroute> {
        let first = self.shared.state().schedule.waiting(destination, None, 1).into_iter().next()?;
        let entry = self.shared.store.entry(first).await.ok()?;
        let recipients = entry.envelope.recipients.iter().zip(&entry.progress.recipients);
        let mut here = recipients.filter(|(recipient, progress)| progress.destination(recipient) == destination);
        here.next().and_then(|(_, progress)| progress.reroute.clone())
    }

    /// What operators are to be told, for whoever tells them; `None` when somebody has it already.
    pub fn alerts(&self) -> Option<mpsc::Receiver<Alert>> {
        self.shared.alerts.take()
    }
}

impl Shared {
    pub(super) fn probe(self: &Arc<Self>, slot: usize) -> Probe {
        let destination = self.state().schedule.host(slot).clone();
        Probe { destination, permit: ProbePermit { shared: Arc::clone(self), slot, is_over: false } }
    }

    async fn probed(self: Arc<Self>, mut probe: Probe, answer: Result<(), String>) -> Result<(), StoreError> {
        let (now, config) = (self.clock.now(), self.config.load_full());
        let host = probe.destination.clone();
        let end = match answer {
            Ok(()) => ProbeEnd::Answered,
            Err(why) => ProbeEnd::Failed(one_line(&why)),
        };
        tracing::info!(target: "mail", domain = %host, answer = ?end, "probed");
        self.maillog.metrics().probed(if end == ProbeEnd::Answered { "answered" } else { "failed" });
        probe.permit.is_over = true;
        let wait = |failures| retry::wait(retry::steps(&config, &host), &host, failures);
        let state = self.state().schedule.probe_over(probe.permit.slot, end, now, wait);
        self.wake.notify_one();
        match state {
            Some(OutageState::Down) => self.look_after(&host).await,
            _ => Ok(()),
        }
    }

    /// Looks at the mail that waits for a host that is down: gives up what is over its time, raises the alert that is due,
    /// and sees to it that the next look is not too late for the next of either.
    async fn look_after(self: &Arc<Self>, host: &Host) -> Result<(), StoreError> {
        self.give_up_overdue_at(host).await?;
        let Some(first_bounce) = self.first_bounce(host).await? else { return Ok(()) };
        let (now, config) = (self.clock.now(), self.config.load_full());
        let is_served = is_served(&config, host);
        let alert = {
            let mut state = self.state();
            let messages = state.schedule.waiting_count(host);
            let looked = state.schedule.with_outage(host, |outage| {
                // Nobody is told of a stranger's server that does not take a notice.
                let stage = if is_served { outage.alert_due(first_bounce, now) } else { None };
                let next = outage.next_alert(first_bounce).filter(|_| is_served);
                for moment in next.into_iter().chain([first_bounce]).filter(|moment| *moment > now) {
                    outage.probe_by(moment);
                }
                (stage, outage.since, outage.why.clone())
            });
            looked.map(|(stage, since, why)| (stage, Alert::of(host, since, messages, first_bounce, why, now)))
        };
        self.wake.notify_one();
        if let Some((stage, alert)) = alert
            && is_served
        {
            self.maillog.metrics().outage(&alert.domain, alert.since, alert.messages, first_bounce);
            if let Some(stage) = stage {
                self.alerts.remember(host, alert.since, stage).await;
                self.raise(Alert { event: stage.into(), ..alert });
            }
        }
        Ok(())
    }

    /// What outlived its lifetime. Only the oldest are looked at: nobody's lifetime is shorter than that of the domain.
    async fn give_up_overdue_at(self: &Arc<Self>, host: &Host) -> Result<(), StoreError> {
        let (now, config) = (self.clock.now(), self.config.load_full());
        let mut after = None;
        loop {
            let ids = self.state().schedule.waiting(host, after, WAITING_READ);
            let Some(last) = ids.last() else { return Ok(()) };
            after = Some(*last);
            for id in ids {
                let Some(entry) = self.entry_of(id).await? else { continue };
                if entry.envelope.received_at + retry::lifetime(&config, host) > now {
                    return Ok(());
                }
                self.give_up_overdue(&entry).await?;
            }
        }
    }

    /// When the first message that waits for the host would be given up, should the host stay away.
    async fn first_bounce(&self, host: &Host) -> Result<Option<Timestamp>, StoreError> {
        let config = self.config.load_full();
        let shortest = self.shortest_stay(&config, host);
        let mut first: Option<Timestamp> = None;
        let mut ids = Vec::new().into_iter();
        let mut after = None;
        for read in 0.. {
            if ids.len() == 0 {
                ids = self.state().schedule.waiting(host, after, WAITING_READ).into_iter();
            }
            let Some(id) = ids.next() else { break };
            after = Some(id);
            let Some(entry) = self.entry_of(id).await? else { continue };
            // Ids are given in the order of time: what comes now cannot end before this.
            let earliest = entry.envelope.received_at + shortest;
            if first.is_some_and(|first| first <= earliest) {
                break;
            }
            if read == READS_MAX {
                return Ok(Some(first.map_or(earliest, |first| first.min(earliest))));
            }
            let recipients = 0..entry.progress.recipients.len();
            let here = recipients
                .filter(|index| entry.progress.recipients[*index].destination(&entry.envelope.recipients[*index]) == host)
                .filter(|index| deliverable(&entry.progress, *index));
            first = here.map(|index| self.lifetime_end(&entry.envelope, &entry.progress, index)).chain(first).min();
        }
        Ok(first)
    }

    /// How long each message for the host is kept at least.
    fn shortest_stay(&self, config: &Config, host: &Host) -> std::time::Duration {
        let lifetime = retry::lifetime(config, host);
        let is_known = self.state().schedule.outage(host).is_some_and(Outage::is_known);
        retry::outage_lifetime_max(config, host).filter(|_| is_known).map_or(lifetime, |most| most.max(lifetime))
    }

    async fn entry_of(&self, id: QueueId) -> Result<Option<Arc<Entry>>, StoreError> {
        match self.store.entry(id).await {
            Ok(entry) => Ok(Some(entry)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells that outages are over.
    pub(super) fn tell_ended(self: &Arc<Self>, ended: Vec<Ended>) {
        for Ended { host, since, told, how } in ended {
            debug_assert!(told > Stage::Untold);
            self.maillog.metrics().outage_over(&host.to_string());
            let messages = self.state().schedule.waiting_count(&host);
            let why = match how {
                End::Answers => "the host answers again, the backlog goes out",
                End::NothingWaits => "no mail waits for the host any more",
                End::NewServers => "the domain has other servers now",
            };
            let now = self.clock.now();
            self.raise(Alert { event: Event::Over, ..Alert::of(&host, since, messages, now, why.to_owned(), now) });
            let shared = Arc::clone(self);
            tokio::spawn(async move { shared.alerts.forget(&host).await });
        }
    }

    fn raise(&self, alert: Alert) {
        self.maillog.metrics().alerted(alert.event.as_str());
        self.alerts.raise(alert);
    }

    /// Takes up, after a start, what the queue and the memory know of outages.
    pub(super) async fn recall_outages(&self) {
        let now = self.clock.now();
        for (host, since, told) in self.alerts.remembered().await {
            let is_away = self.state().schedule.outage(&host).is_some();
            match is_away {
                true => self.state().schedule.recall_told(&host, since, told, now),
                // Its mail left the queue while nobody looked: dropped, or held.
                false => self.alerts.forget(&host).await,
            }
        }
    }

    /// Takes up what one message knows of the outage of its host.
    pub(super) fn recall_outage(&self, entry: &Entry) {
        let now = self.clock.now();
        let mut state = self.state();
        for (index, recipient) in entry.progress.recipients.iter().enumerate() {
            if let Some(since) = recipient.failing_since
                && deliverable(&entry.progress, index)
            {
                let host = recipient.destination(&entry.envelope.recipients[index]);
                state.schedule.recall(host, since, recipient.due, &recipient.last_reply, now);
            }
        }
    }
}

fn is_served(config: &Config, host: &Host) -> bool {
    matches!(host, Host::Domain(domain) if config.domain(domain).is_some())
}
