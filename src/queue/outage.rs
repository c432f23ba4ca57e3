//! An outage as a state of a destination: up → suspect → down → draining → up. Pure: time is passed in.
//!
//! ```text
//! up ── an attempt finds no host that takes anything ──→ suspect ── two probes more in vain ──→ down
//!  ↑                                                        │                                     │
//!  └── full speed, or nothing left ── draining ←────────────┴──── a probe is answered ────────────┘
//! ```
//!
//! While it is suspect or down nothing is offered there: one probe by the retry schedule stands for all messages. When a probe
//! is answered, one message goes; each time as many as went were answered for, twice as many may go at a time.
//!
//! The state is that of a *destination*, all hosts of a domain together, not of each host: a delivery goes through the hosts
//! in order and only fails as a whole, so one that is away while another takes the mail is no outage; and what an operator
//! extends, and what bounces, is the mail of a domain.
//!
//! A host that answers a probe and then refuses the message (back pressure: `452 4.3.1` to MAIL) has not come back: the outage
//! goes on, and so does the counting of its failures, so that the waits grow.
//!
//! A host that says that it has too many connections, while others of ours are open, is not away but *busy*: half as many
//! deliveries go there at a time, and one more each time that as many as go at a time were answered for. Refused to the last
//! one, it counts as away.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settle::status_of_class;
use crate::mail::{Enhanced, Timestamp};

/// Failures in a row from which on a destination is down: an attempt and two probes.
const DOWN_AFTER: u32 = 3;
/// One that was away for so long before a restart was known to be down.
const SURELY_DOWN: Duration = Duration::from_secs(10 * 60);

/// Where a destination stands that is not simply up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutageState {
    /// An attempt failed because of the host; a probe will tell.
    Suspect,
    /// Several probes in a row were in vain.
    Down,
    /// A probe was answered: the backlog goes out, slowly at first.
    Draining,
    /// The host says that it is asked for too much at a time: fewer deliveries go there.
    Busy,
}

impl OutageState {
    pub fn as_str(self) -> &'static str {
        match self {
            OutageState::Suspect => "suspect",
            OutageState::Down => "down",
            OutageState::Draining => "draining",
            OutageState::Busy => "busy",
        }
    }
}

/// How far operators have been told of an outage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    #[default]
    Untold,
    /// The destination is down.
    Began,
    /// Half of the time is over until the first message would be given up.
    Half,
    /// Nine tenths are.
    Nearly,
}

impl Stage {
    const ALERTS: [Stage; 3] = [Stage::Began, Stage::Half, Stage::Nearly];

    /// Tenths of the time until the first message would be given up.
    fn tenths(self) -> u32 {
        match self {
            Stage::Untold | Stage::Began => 0,
            Stage::Half => 5,
            Stage::Nearly => 9,
        }
    }

    fn moment(self, since: Timestamp, first_bounce: Timestamp) -> Timestamp {
        since + first_bounce.since(since) / 10 * self.tenths()
    }
}

/// One outage of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outage {
    /// The first failure.
    pub since: Timestamp,
    /// What was said last, or our words for it.
    pub why: String,
    pub told: Stage,
    failures: u32,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing starts but a probe, and that not before `probe_at`. `asked_again`: somebody asked while one was out already.
    Closed { probe_at: Timestamp, probe_began: Timestamp, is_probing: bool, asked_again: bool },
    /// So many at a time; `answered` since that number was last changed. `proven`: a message was answered for.
    Draining { places: usize, answered: usize, proven: bool },
    /// So many at a time; `answered` since that number was last changed.
    Busy { places: usize, answered: usize },
}

/// What may start at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// A probe, from then on.
    Probe(Timestamp),
    /// Nothing: a probe is under way.
    Shut,
    /// So many deliveries at a time.
    Places(usize),
}

/// What an answer for a message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It goes on draining.
    Noted,
    /// The outage is over: the first message was answered for.
    Over,
    /// Nothing is left of it: full speed again.
    Up,
}

impl Outage {
    /// An attempt failed at a destination that was up.
    pub(super) fn begin(since: Timestamp, probe_at: Timestamp, why: String) -> Outage {
        let phase = Phase::Closed { probe_at, probe_began: Timestamp(0), is_probing: false, asked_again: false };
        Outage { since, why, told: Stage::Untold, failures: 1, phase }
    }

    /// One from before a restart.
    pub(super) fn recalled(since: Timestamp, probe_at: Timestamp, why: String, told: Stage, now: Timestamp) -> Outage {
        let was_down = told > Stage::Untold || now.since(since) >= SURELY_DOWN;
        Outage { told, failures: if was_down { DOWN_AFTER } else { 1 }, ..Outage::begin(since, probe_at, why) }
    }

    /// Its servers are others now: no reason to wait, none to rush.
    pub(super) fn renewed(now: Timestamp) -> Outage {
        let phase = Phase::Draining { places: 1, answered: 0, proven: true };
        Outage { since: now, why: String::new(), told: Stage::Untold, failures: 0, phase }
    }

    /// A destination that was up has enough with `out` deliveries at a time.
    pub(super) fn busy(now: Timestamp, why: String, out: usize) -> Outage {
        let phase = Phase::Busy { places: (out / 2).max(1), answered: 0 };
        Outage { since: now, why, told: Stage::Untold, failures: 0, phase }
    }

    pub(super) fn state(&self) -> OutageState {
        match self.phase {
            Phase::Busy { .. } => OutageState::Busy,
            Phase::Draining { .. } => OutageState::Draining,
            Phase::Closed { .. } if self.failures >= DOWN_AFTER => OutageState::Down,
            Phase::Closed { .. } => OutageState::Suspect,
        }
    }

    pub(super) fn gate(&self) -> Gate {
        match self.phase {
            Phase::Closed { is_probing: true, .. } => Gate::Shut,
            Phase::Closed { probe_at, .. } => Gate::Probe(probe_at),
            Phase::Draining { places, .. } | Phase::Busy { places, .. } => Gate::Places(places),
        }
    }

    /// Nothing is offered there.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed { .. })
    }

    /// A message was answered for: what is left is the way back to full speed.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Draining { proven: true, .. } | Phase::Busy { .. })
    }

    /// It was found down, and no message has been answered for since: lifetimes may stand still.
    pub(super) fn is_known(&self) -> bool {
        self.failures >= DOWN_AFTER && !self.is_over()
    }

    /// When the next probe is due.
    pub(super) fn probe_at(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Closed { probe_at, .. } => Some(probe_at),
            Phase::Draining { .. } | Phase::Busy { .. } => None,
        }
    }

    /// The host refuses one of `out` deliveries because there are too many of them. `false`: what it takes at a time is not
    /// what it lacks, it was away before.
    pub(super) fn refuses_some(&mut self, now: Timestamp, why: String, out: usize) -> bool {
        match &mut self.phase {
            Phase::Closed { .. } | Phase::Draining { proven: false, .. } => return false,
            // What was halved before has not ended yet: that says nothing about so many as may go now.
            Phase::Draining { places, .. } | Phase::Busy { places, .. } if out > *places => self.why = why,
            Phase::Draining { .. } => *self = Outage::busy(now, why, out),
            Phase::Busy { .. } => *self = Outage { since: self.since, ..Outage::busy(now, why, out) },
        }
        true
    }

    /// An attempt at a message found the host away. `first_probe`: when to ask first, should this be the beginning of a new
    /// outage; `wait`: how long to wait after so many failures.
    pub(super) fn attempt_failed(
        &mut self,
        now: Timestamp,
        first_probe: Timestamp,
        why: String,
        wait: impl FnOnce(u32) -> Duration,
    ) {
        match self.phase {
            // Begun before the first one came back: the same failure once more.
            Phase::Closed { .. } => self.why = why,
            Phase::Draining { proven: false, .. } => self.closed_again(now, why, wait),
            Phase::Draining { proven: true, .. } | Phase::Busy { .. } => *self = Outage::begin(now, first_probe, why),
        }
    }

    pub(super) fn probe_begins(&mut self, now: Timestamp) {
        if let Phase::Closed { probe_began, is_probing, asked_again, .. } = &mut self.phase {
            (*probe_began, *is_probing, *asked_again) = (now, true, false);
        }
    }

    pub(super) fn probe_failed(&mut self, now: Timestamp, why: String, wait: impl FnOnce(u32) -> Duration) {
        // An answer to a delivery came first: that one knows better.
        if self.is_closed() {
            self.closed_again(now, why, wait);
        }
    }

    /// A probe ended without saying anything, or has to be made later.
    pub(super) fn probe_later(&mut self, at: Timestamp) {
        if let Phase::Closed { probe_at, is_probing, .. } = &mut self.phase {
            (*probe_at, *is_probing) = (at, false);
        }
    }

    /// There is something to see at this moment: the next probe is then, unless it is earlier.
    pub(super) fn probe_by(&mut self, moment: Timestamp) {
        if let Phase::Closed { probe_at, .. } = &mut self.phase {
            *probe_at = moment.min(*probe_at);
        }
    }

    /// An operator who asked at `asked_at` wants to know now. One question, however many messages it was about. A probe that
    /// was out already may have missed what the operator knows: there is another one after it.
    pub(super) fn probe_now(&mut self, asked_at: Timestamp) {
        if let Phase::Closed { probe_at, probe_began, is_probing, asked_again } = &mut self.phase
            && *probe_began < asked_at
        {
            *probe_at = asked_at.min(*probe_at);
            *asked_again |= *is_probing;
        }
    }

    pub(super) fn probe_answered(&mut self) {
        if self.is_closed() {
            self.phase = Phase::Draining { places: 1, answered: 0, proven: false };
        }
    }

    /// The host answered for a message, whatever it said. `places_max`: full speed.
    pub(super) fn answered(&mut self, places_max: usize) -> Answer {
        let (places, answered, proven) = match &mut self.phase {
            Phase::Draining { places, answered, proven } => (places, answered, proven),
            Phase::Busy { places, answered } => {
                *answered += 1;
                if *answered >= *places {
                    (*places, *answered) = (*places + 1, 0);
                }
                return if *places >= places_max { Answer::Up } else { Answer::Noted };
            }
            Phase::Closed { .. } => {
                // A delivery from before the outage ended well: that is an answer, too.
                self.phase = Phase::Draining { places: 1, answered: 0, proven: true };
                return Answer::Over;
            }
        };
        *answered += 1;
        if *answered >= *places {
            (*places, *answered) = (*places * 2, 0);
        }
        match (std::mem::replace(proven, true), *places >= places_max) {
            (false, _) => Answer::Over,
            (true, true) => Answer::Up,
            (true, false) => Answer::Noted,
        }
    }

    /// The alert that is due now; each stage once, and only the last of several.
    pub(super) fn alert_due(&mut self, first_bounce: Timestamp, now: Timestamp) -> Option<Stage> {
        if self.state() != OutageState::Down {
            return None;
        }
        let reached = |stage: &&Stage| stage.moment(self.since, first_bounce) <= now;
        let stage = *Stage::ALERTS.iter().rev().find(reached)?;
        (stage > self.told).then(|| {
            self.told = stage;
            stage
        })
    }

    /// When the next alert will be due.
    pub(super) fn next_alert(&self, first_bounce: Timestamp) -> Option<Timestamp> {
        let next = Stage::ALERTS.iter().find(|stage| **stage > self.told)?;
        Some(next.moment(self.since, first_bounce))
    }

    fn closed_again(&mut self, now: Timestamp, why: String, wait: impl FnOnce(u32) -> Duration) {
        self.failures = self.failures.saturating_add(1);
        self.why = why;
        let (probe_began, asked_again) = match self.phase {
            Phase::Closed { probe_began, asked_again, .. } => (probe_began, asked_again),
            Phase::Draining { .. } | Phase::Busy { .. } => (now, false),
        };
        let probe_at = if asked_again { now } else { now + wait(self.failures) };
        self.phase = Phase::Closed { probe_at, probe_began, is_probing: false, asked_again: false };
    }
}

/// Whether a host refuses for now because of how much it is asked for at a time: Exchange's and sendmail's limits of connections
/// (421 4.3.2), throttling (421 4.7.x, 4xx 4.7.500 to 4.7.699 of Exchange Online), or words for it, as Postfix has them.
pub(super) fn is_too_much(reply: &str) -> bool {
    let Some((code, rest)) =
        reply.split_at_checked(3).filter(|(code, _)| matches!(code.as_bytes(), [b'4' | b'5', b'0'..=b'9', b'0'..=b'9']))
    else {
        return false;
    };
    let words = rest.to_ascii_lowercase();
    let speaks_of_it = words.contains("too many")
        && ["connection", "session", "concurrent"].iter().any(|word| words.contains(word))
        || ["connection limit", "connection rate", "concurrent connections"].iter().any(|word| words.contains(word));
    speaks_of_it
        || status_of_class(4, reply).is_some_and(|status| match status {
            Enhanced(_, 3, 2) | Enhanced(_, 7, 0..500) => code == "421",
            Enhanced(_, 7, 500..700) => code.starts_with('4'),
            _ => false,
        })
}

/// So many stops of a message's clock are remembered for each destination; the oldest are forgotten first.
const STOPS_MAX: usize = 16;

/// When the destination was down: while that is so, the clock of its messages stands still where the domain asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stops(Vec<(Timestamp, Timestamp)>);

impl Stops {
    pub(super) fn add(&mut self, since: Timestamp, until: Timestamp) {
        if self.0.len() == STOPS_MAX {
            self.0.remove(0);
        }
        self.0.push((since, until));
    }

    /// For how long the clock of a message received then stood still.
    pub(super) fn after(&self, received_at: Timestamp) -> Duration {
        self.0.iter().map(|(since, until)| until.since(received_at.max(*since))).sum()
    }
}

#[cfg(test)]
mod tests;
