//! What a command does to one message. Pure.

use std::sync::Arc;

use super::{By, Longer, Selector, Steered, in_words, retry};
use crate::config::Config;
use crate::mail::{Decision, Envelope, Origin, Progress, Reroute, Status, Timestamp, Verdict};
use crate::store::Entry;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steer {
    Retry,
    Hold,
    Release,
    Extend(Longer),
    /// To this server; `None`: to its domain's own again.
    Reroute(Option<Reroute>),
    /// Told to the sender with this text.
    Bounce(String),
    Drop,
    ReleaseQuarantined,
    DeleteQuarantined,
}

/// A command with all it needs to know.
pub(super) struct Order {
    pub steer: Steer,
    pub selector: Selector,
    pub by: By,
    pub now: Timestamp,
    pub config: Arc<Config>,
}

/// What it did to one message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// As indices.
    pub recipients: Vec<usize>,
    pub note: String,
}

impl Steer {
    /// As the mail log says it.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Steer::Retry => "retried",
            Steer::Hold => "held",
            Steer::Release | Steer::ReleaseQuarantined => "released",
            Steer::Extend(_) => "extended",
            Steer::Reroute(_) => "rerouted",
            // The end itself is `bounced`, with the notice's id.
            Steer::Bounce(_) => "given-up",
            Steer::Drop | Steer::DeleteQuarantined => "dropped",
        }
    }

    pub(super) fn remark(&self) -> &'static str {
        match self {
            Steer::ReleaseQuarantined | Steer::DeleteQuarantined => "from quarantine",
            _ => "",
        }
    }

    /// As the message's own list of what operators did says it.
    pub(super) fn command(&self) -> String {
        match self {
            Steer::Retry => "retry".to_owned(),
            Steer::Hold => "hold".to_owned(),
            Steer::Release => "release".to_owned(),
            Steer::Extend(Longer::By(longer)) => format!("extend {}", in_words(*longer)),
            Steer::Extend(Longer::Until(until)) => format!("extend until {until}"),
            Steer::Reroute(Some(reroute)) => format!("reroute to {reroute}"),
            Steer::Reroute(None) => "reroute cleared".to_owned(),
            Steer::Bounce(text) => format!("bounce: {text}"),
            Steer::Drop => "drop".to_owned(),
            Steer::ReleaseQuarantined => "quarantine release".to_owned(),
            Steer::DeleteQuarantined => "quarantine delete".to_owned(),
        }
    }

    fn applies(&self, progress: &Progress, index: usize) -> bool {
        let recipient = &progress.recipients[index];
        match (self, &recipient.status) {
            (Steer::Retry | Steer::Hold, Status::Waiting)
            | (Steer::Release, Status::Held { .. })
            | (Steer::Extend(_) | Steer::Drop, Status::Waiting | Status::Held { .. })
            | (Steer::DeleteQuarantined, Status::Quarantined { .. }) => true,
            (Steer::Reroute(reroute), Status::Waiting | Status::Held { .. }) => recipient.reroute != *reroute,
            // A notice carries the message's headers, and nothing unscanned leaves this house.
            (Steer::Bounce(_), Status::Waiting | Status::Held { .. }) => {
                is_vouched_for(progress) || progress.origin == Origin::Gateway
            }
            (Steer::ReleaseQuarantined, Status::Quarantined { .. }) => is_vouched_for(progress),
            _ => false,
        }
    }
}

impl Order {
    pub(super) fn changes_something(&self, envelope: &Envelope, progress: &Progress) -> bool {
        let mut meant = self.selector.recipients(envelope, progress);
        meant.any(|index| self.steer.applies(progress, index))
    }

    /// What it would do, done to a copy.
    pub(super) fn what_if(&self, entry: &Entry, shown: &[Timestamp]) -> Steered {
        let done = self.carry_out(&entry.envelope, &mut entry.progress.clone(), shown);
        Steered { id: entry.envelope.id, recipients: done.recipients.len(), note: done.note }
    }

    /// Does it, all but the bounce of those that are to be bounced: their sender has to be told first. `shown`: until when each
    /// recipient is tried as operators see it, which is later than what stands in the message while its clock stands still.
    pub(super) fn carry_out(&self, envelope: &Envelope, progress: &mut Progress, shown: &[Timestamp]) -> Done {
        let applies = |index: &usize| self.steer.applies(progress, *index);
        let meant: Vec<usize> = self.selector.recipients(envelope, progress).filter(applies).collect();
        let shown = |index: usize| shown.get(index).copied().unwrap_or_default();
        meant.iter().for_each(|index| self.change_one(envelope, progress, *index, shown(*index)));
        if meant.is_empty() {
            return Done::default();
        }
        if self.steer == Steer::Retry && progress.awaits_scan() {
            progress.scan_due = self.now;
        }
        progress.steered(self.now, &self.by.name, self.steer.command(), &self.by.reason);
        let ends = meant.iter().map(|index| retry::lifetime_end(&self.config, envelope, progress, *index).max(shown(*index)));
        let note = match &self.steer {
            Steer::Extend(_) => ends.max().map(|end| format!("until {end}")).unwrap_or_default(),
            Steer::Reroute(Some(reroute)) => format!("to {reroute}"),
            _ => String::new(),
        };
        Done { recipients: meant, note }
    }

    fn change_one(&self, envelope: &Envelope, progress: &mut Progress, index: usize, shown: Timestamp) {
        let end = retry::lifetime_end(&self.config, envelope, progress, index);
        let by = &self.by.name;
        let recipient = &mut progress.recipients[index];
        match &self.steer {
            Steer::Retry => recipient.due = self.now,
            Steer::Hold => recipient.status = Status::Held { since: self.now },
            Steer::Release => {
                recipient.status = Status::Waiting;
                recipient.due = self.now;
            }
            // Five days more than the operator was shown; less would be nothing while the clock stands still anyway.
            Steer::Extend(Longer::By(longer)) => recipient.extended_until = Some(end.max(shown) + *longer),
            Steer::Extend(Longer::Until(until)) => recipient.extended_until = Some(end.max(*until)),
            // How long another server was away says nothing about this one.
            Steer::Reroute(reroute) => {
                recipient.reroute.clone_from(reroute);
                recipient.due = self.now;
                recipient.failing_since = None;
            }
            Steer::Bounce(_) => {}
            Steer::Drop => recipient.status = Status::Deleted { at: self.now, why: format!("dropped by {by}") },
            Steer::ReleaseQuarantined => {
                recipient.status = Status::Waiting;
                recipient.decision = Some(Decision::DeliverMarked);
                recipient.due = self.now;
                // Days in quarantine must not count as days of trying: the first "try later" would end it.
                let lifetime = retry::lifetime(&self.config, envelope.recipients[index].address.host());
                recipient.extended_until = Some(end.max(self.now + lifetime));
            }
            Steer::DeleteQuarantined => {
                recipient.status = Status::Deleted { at: self.now, why: format!("deleted from quarantine by {by}") };
            }
        }
    }
}

/// Looked at and not infected.
pub(super) fn is_vouched_for(progress: &Progress) -> bool {
    matches!(&progress.judgement, Some(judgement) if matches!(judgement.verdict, Verdict::Clean | Verdict::Unscannable(_)))
}
