//! What operators do to messages: retry, hold, release, extend, drop, and the quarantine's release and delete.
//!
//! A command walks through the queue a page at a time and changes each message that matches, a page at once, so that the
//! store can make many changes durable with one sync. What matches is asked again inside the change: a message may have moved
//! on meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::selector::Selector;
use super::state::{Pages, Shared, detached};
use super::{Queue, in_words, retry};
use crate::config::Config;
use crate::mail::{Decision, Envelope, Progress, QueueId, Status, Timestamp, Verdict};
use crate::store::{Entry, StoreError};

/// What a steering command did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Steered {
    pub id: QueueId,
    /// How many of its recipients changed.
    pub recipients: usize,
    /// For `extend`: the new end of the longest-lived one, in words for the table; else empty.
    pub note: String,
}

impl Queue {
    /// Tries the waiting ones now, also when their host was away a moment ago. Those without a verdict are scanned now.
    pub async fn retry(&self, selector: &Selector, by: &str) -> Result<Vec<Steered>, StoreError> {
        self.steer(Steer::Retry, selector, by).await
    }

    /// Keeps waiting ones from being delivered until released. Their lifetime goes on counting, but only ends after release.
    pub async fn hold(&self, selector: &Selector, by: &str) -> Result<Vec<Steered>, StoreError> {
        self.steer(Steer::Hold, selector, by).await
    }

    /// Lets held ones go on.
    pub async fn release(&self, selector: &Selector, by: &str) -> Result<Vec<Steered>, StoreError> {
        self.steer(Steer::Release, selector, by).await
    }

    /// Keeps trying for so much longer than planned: the end of each waiting or held recipient's lifetime moves by `longer`.
    pub async fn extend(&self, selector: &Selector, longer: Duration, by: &str) -> Result<Vec<Steered>, StoreError> {
        self.steer(Steer::Extend(longer), selector, by).await
    }

    /// Deletes waiting and held ones without telling the sender.
    pub async fn drop(&self, selector: &Selector, by: &str) -> Result<Vec<Steered>, StoreError> {
        self.steer(Steer::Drop, selector, by).await
    }

    /// Delivers quarantined ones after all, marked but not tagged, for a whole lifetime from now. Infected ones are not
    /// released: nothing unscanned or infected is ever delivered; they come back in the second list.
    pub async fn quarantine_release(&self, selector: &Selector, by: &str) -> Result<(Vec<Steered>, Vec<QueueId>), StoreError> {
        let mut refused = Vec::new();
        let mut pages = Pages::new(&self.shared.store, selector, None);
        while let Some(page) = pages.next().await? {
            let is_refused = |entry: &&Arc<Entry>| {
                let progress = &entry.progress;
                let mut meant = selector.recipients(&entry.envelope, progress);
                !is_vouched_for(progress)
                    && meant.any(|index| matches!(progress.recipients[index].status, Status::Quarantined { .. }))
            };
            refused.extend(page.iter().filter(is_refused).map(|entry| entry.envelope.id));
        }
        Ok((self.steer(Steer::ReleaseQuarantined, selector, by).await?, refused))
    }

    /// Deletes quarantined ones.
    pub async fn quarantine_delete(&self, selector: &Selector, by: &str) -> Result<Vec<Steered>, StoreError> {
        self.steer(Steer::DeleteQuarantined, selector, by).await
    }

    async fn steer(&self, steer: Steer, selector: &Selector, by: &str) -> Result<Vec<Steered>, StoreError> {
        let (shared, selector, by) = (Arc::clone(&self.shared), selector.clone(), by.to_owned());
        detached(async move { shared.steer(steer, selector, by).await }).await
    }
}

impl Shared {
    async fn steer(self: Arc<Self>, steer: Steer, selector: Selector, by: String) -> Result<Vec<Steered>, StoreError> {
        let order = Arc::new(Order { steer, selector, by, now: self.clock.now(), config: self.config.load_full() });
        let mut steered = Vec::new();
        let mut pages = Pages::new(&self.store, &order.selector, None);
        while let Some(page) = pages.next().await? {
            let mut changes = JoinSet::new();
            for entry in page.into_iter().filter(|entry| order.changes_something(&entry.envelope, &entry.progress)) {
                let (shared, order) = (Arc::clone(&self), Arc::clone(&order));
                changes.spawn(async move { shared.steer_one(&order, entry).await });
            }
            while let Some(changed) = changes.join_next().await {
                let changed = changed.map_err(|error| StoreError::Io {
                    what: "a steering command was cut short".to_owned(),
                    source: std::io::Error::other(error),
                })?;
                steered.extend(changed?);
            }
        }
        steered.sort_by_key(|steered: &Steered| steered.id);
        Ok(steered)
    }

    async fn steer_one(self: Arc<Self>, order: &Arc<Order>, entry: Arc<Entry>) -> Result<Option<Steered>, StoreError> {
        let id = entry.envelope.id;
        if order.steer == Steer::Retry {
            // Before the change, which plans the message: it shall not be planned behind a pause that is over.
            let mut state = self.state();
            let meant = order.selector.recipients(&entry.envelope, &entry.progress);
            meant.for_each(|index| state.schedule.probe_now(entry.envelope.recipients[index].address.host(), order.now));
            if entry.progress.awaits_scan() {
                state.schedule.scans.resume();
            }
        }
        let this = Arc::clone(order);
        let change = move |envelope: &Envelope, progress: &mut Progress| this.carry_out(envelope, progress);
        let done = match self.change(id, change).await {
            Ok((_, done)) => done,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        if done.recipients == 0 {
            return Ok(None);
        }
        let several = if done.recipients == 1 { "" } else { "s" };
        let mut text = format!("{} recipient{several}", done.recipients);
        for more in [order.steer.remark(), &done.note] {
            if !more.is_empty() {
                text.push_str(&format!(", {more}"));
            }
        }
        self.maillog.steered(order.now, id, order.steer.word(), &order.by, &text);
        Ok(Some(Steered { id, recipients: done.recipients, note: done.note }))
    }
}

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steer {
    Retry,
    Hold,
    Release,
    Extend(Duration),
    Drop,
    ReleaseQuarantined,
    DeleteQuarantined,
}

/// A command with all it needs to know. What it does to one message is pure.
struct Order {
    steer: Steer,
    selector: Selector,
    by: String,
    now: Timestamp,
    config: Arc<Config>,
}

/// What it did to one message.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done {
    recipients: usize,
    note: String,
}

impl Steer {
    /// As the mail log says it.
    fn word(self) -> &'static str {
        match self {
            Steer::Retry => "retried",
            Steer::Hold => "held",
            Steer::Release | Steer::ReleaseQuarantined => "released",
            Steer::Extend(_) => "extended",
            Steer::Drop | Steer::DeleteQuarantined => "dropped",
        }
    }

    fn remark(self) -> &'static str {
        match self {
            Steer::ReleaseQuarantined | Steer::DeleteQuarantined => "from quarantine",
            _ => "",
        }
    }

    /// As the message's own list of what operators did says it.
    fn command(self) -> String {
        match self {
            Steer::Retry => "retry".to_owned(),
            Steer::Hold => "hold".to_owned(),
            Steer::Release => "release".to_owned(),
            Steer::Extend(longer) => format!("extend {}", in_words(longer)),
            Steer::Drop => "drop".to_owned(),
            Steer::ReleaseQuarantined => "quarantine release".to_owned(),
            Steer::DeleteQuarantined => "quarantine delete".to_owned(),
        }
    }

    fn applies(self, progress: &Progress, status: &Status) -> bool {
        match (self, status) {
            (Steer::Retry | Steer::Hold, Status::Waiting)
            | (Steer::Release, Status::Held { .. })
            | (Steer::Extend(_) | Steer::Drop, Status::Waiting | Status::Held { .. })
            | (Steer::DeleteQuarantined, Status::Quarantined { .. }) => true,
            (Steer::ReleaseQuarantined, Status::Quarantined { .. }) => is_vouched_for(progress),
            _ => false,
        }
    }
}

impl Order {
    fn changes_something(&self, envelope: &Envelope, progress: &Progress) -> bool {
        let mut meant = self.selector.recipients(envelope, progress);
        meant.any(|index| self.steer.applies(progress, &progress.recipients[index].status))
    }

    fn carry_out(&self, envelope: &Envelope, progress: &mut Progress) -> Done {
        let applies = |index: &usize| self.steer.applies(progress, &progress.recipients[*index].status);
        let meant: Vec<usize> = self.selector.recipients(envelope, progress).filter(applies).collect();
        meant.iter().for_each(|index| self.change_one(envelope, progress, *index));
        if meant.is_empty() {
            return Done::default();
        }
        if self.steer == Steer::Retry && progress.awaits_scan() {
            progress.scan_due = self.now;
        }
        progress.steered(self.now, &self.by, self.steer.command());
        let ends = meant.iter().map(|index| retry::lifetime_end(&self.config, envelope, progress, *index));
        let note = match self.steer {
            Steer::Extend(_) => ends.max().map(|end| format!("until {end}")).unwrap_or_default(),
            _ => String::new(),
        };
        Done { recipients: meant.len(), note }
    }

    fn change_one(&self, envelope: &Envelope, progress: &mut Progress, index: usize) {
        let end = retry::lifetime_end(&self.config, envelope, progress, index);
        let recipient = &mut progress.recipients[index];
        match self.steer {
            Steer::Retry => recipient.due = self.now,
            Steer::Hold => recipient.status = Status::Held { since: self.now },
            Steer::Release => {
                recipient.status = Status::Waiting;
                recipient.due = self.now;
            }
            Steer::Extend(longer) => recipient.extended_until = Some(end + longer),
            Steer::Drop => {
                recipient.status = Status::Deleted { at: self.now, why: format!("dropped by {}", self.by) };
            }
            Steer::ReleaseQuarantined => {
                recipient.status = Status::Waiting;
                recipient.decision = Some(Decision::DeliverMarked);
                recipient.due = self.now;
                // Days in quarantine must not count as days of trying: the first "try later" would end it.
                let lifetime = retry::lifetime(&self.config, envelope.recipients[index].address.host());
                recipient.extended_until = Some(end.max(self.now + lifetime));
            }
            Steer::DeleteQuarantined => {
                recipient.status = Status::Deleted { at: self.now, why: format!("deleted from quarantine by {}", self.by) };
            }
        }
    }
}

/// Looked at and not infected.
fn is_vouched_for(progress: &Progress) -> bool {
    matches!(&progress.judgement, Some(judgement) if matches!(judgement.verdict, Verdict::Clean | Verdict::Unscannable(_)))
}

#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;
