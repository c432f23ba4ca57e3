//! What operators do to messages: retry, hold, release, extend, reroute, bounce, drop, and the quarantine's release and delete.
//!
//! A command walks through the queue a page at a time and changes each message that matches, a page at once, so that the
//! store can make many changes durable with one sync. What matches is asked again inside the change: a message may have moved
//! on meanwhile. What a command does to one message is `order.rs`, and pure; a dry run does just that to a copy.

mod order;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::extensions::Longer;
use super::selector::Selector;
use super::settle::{Change, GiveUp};
use super::state::{Pages, Shared, detached};
use super::{Queue, in_words, retry};
use crate::mail::{Domain, Enhanced, Envelope, Progress, QueueId, Status, Timestamp};
use crate::store::{Entry, StoreError};

pub use order::Steer;
use order::{Order, is_vouched_for};

/// Between two drains that the servers of one domain ask for.
const DRAIN_EVERY: Duration = Duration::from_secs(60);

/// What a steering command did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Steered {
    pub id: QueueId,
    /// How many of its recipients changed.
    pub recipients: usize,
    /// For `extend`: the new end of the longest-lived one, in words for the table; for `reroute`: where to; else empty.
    pub note: String,
}

/// Who steers, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By {
    pub name: String,
    /// Empty: none was given.
    pub reason: String,
}

impl From<&str> for By {
    /// Without a reason.
    fn from(name: &str) -> By {
        By { name: name.to_owned(), reason: String::new() }
    }
}

/// Whether a command does what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    ForReal,
    /// It says what it would do, and changes nothing.
    DryRun,
}

/// How a drain was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    Started,
    /// The last one began less than a minute ago.
    TooSoon,
}

impl Queue {
    /// Tries the waiting ones now, also when their host was away a moment ago. Those without a verdict are scanned now.
    pub async fn retry(&self, selector: &Selector, by: impl Into<By>) -> Result<Vec<Steered>, StoreError> {
        self.steer(Steer::Retry, selector, by, Mode::ForReal).await
    }

    /// Keeps waiting ones from being delivered until released. Their lifetime goes on counting, but only ends after release.
    pub async fn hold(&self, selector: &Selector, by: impl Into<By>) -> Result<Vec<Steered>, StoreError> {
        self.steer(Steer::Hold, selector, by, Mode::ForReal).await
    }

    /// Lets held ones go on.
    pub async fn release(&self, selector: &Selector, by: impl Into<By>) -> Result<Vec<Steered>, StoreError> {
        self.steer(Steer::Release, selector, by, Mode::ForReal).await
    }

    /// Keeps trying for so much longer than planned: the end of each waiting or held recipient's lifetime moves by `longer`.
    pub async fn extend(&self, selector: &Selector, longer: Duration, by: impl Into<By>) -> Result<Vec<Steered>, StoreError> {
        self.steer(Steer::Extend(Longer::By(longer)), selector, by, Mode::ForReal).await
    }

    /// Deletes waiting and held ones without telling the sender.
    pub async fn drop(&self, selector: &Selector, by: impl Into<By>) -> Result<Vec<Steered>, StoreError> {
        self.steer(Steer::Drop, selector, by, Mode::ForReal).await
    }

    /// Delivers quarantined ones after all, marked but not tagged, for a whole lifetime from now. Infected ones are not
    /// released: nothing unscanned or infected is ever delivered; they come back in the second list.
    pub async fn quarantine_release(
        &self,
        selector: &Selector,
        by: impl Into<By>,
    ) -> Result<(Vec<Steered>, Vec<QueueId>), StoreError> {
        let refused = self.infected(selector).await?;
        Ok((self.steer(Steer::ReleaseQuarantined, selector, by, Mode::ForReal).await?, refused))
    }

    /// Those in quarantine that are not released, whoever asks.
    pub async fn infected(&self, selector: &Selector) -> Result<Vec<QueueId>, StoreError> {
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
        Ok(refused)
    }

    /// Deletes quarantined ones.
    pub async fn quarantine_delete(&self, selector: &Selector, by: impl Into<By>) -> Result<Vec<Steered>, StoreError> {
        self.steer(Steer::DeleteQuarantined, selector, by, Mode::ForReal).await
    }

    /// Does this to all that match, or says what it would do.
    pub async fn steer(
        &self,
        steer: Steer,
        selector: &Selector,
        by: impl Into<By>,
        mode: Mode,
    ) -> Result<Vec<Steered>, StoreError> {
        let (shared, selector, by) = (Arc::clone(&self.shared), selector.clone(), by.into());
        detached(async move { shared.steer(steer, selector, by, mode).await }).await
    }

    /// A server of this domain asks for its mail: all that waits for it is tried now. Returns before it is. At most once a minute
    /// for each domain, so that a server cannot keep us busy.
    pub fn drain(&self, domain: &Domain, by: By) -> Drain {
        let now = self.shared.clock.now();
        let mut drains = self.shared.drains.lock().unwrap_or_else(PoisonError::into_inner);
        if drains.get(domain).is_some_and(|last| now < *last + DRAIN_EVERY) {
            return Drain::TooSoon;
        }
        // Only domains that are served come here, so their number bounds this.
        drains.retain(|_, last| now < *last + DRAIN_EVERY);
        drains.insert(domain.clone(), now);
        let (queue, domain) = (self.clone(), domain.clone());
        tokio::spawn(async move {
            let selector = Selector { domain: Some(domain.clone()), ..Selector::default() };
            match queue.retry(&selector, by.clone()).await {
                Ok(steered) => tracing::info!(%domain, by = by.name, messages = steered.len(), "a drain has begun"),
                Err(error) => tracing::error!(%domain, %error, "a drain that a server asked for came to nothing"),
            }
        });
        Drain::Started
    }
}

impl Shared {
    async fn steer(self: Arc<Self>, steer: Steer, selector: Selector, by: By, mode: Mode) -> Result<Vec<Steered>, StoreError> {
        let order = Arc::new(Order { steer, selector, by, now: self.clock.now(), config: self.config.load_full() });
        let mut steered = Vec::new();
        let mut pages = Pages::new(&self.store, &order.selector, None);
        while let Some(page) = pages.next().await? {
            let mut changes = JoinSet::new();
            for entry in page.into_iter().filter(|entry| order.changes_something(&entry.envelope, &entry.progress)) {
                if mode == Mode::DryRun {
                    steered.push(order.what_if(&entry, &self.shown_ends(&entry)));
                    continue;
                }
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
        self.probe_now(order, &entry);
        let this = Arc::clone(order);
        let shown = self.shown_ends(&entry);
        let change = move |envelope: &Envelope, progress: &mut Progress| this.carry_out(envelope, progress, &shown);
        let (entry, done) = match self.change(id, change).await {
            Ok(changed) => changed,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let recipients = match &order.steer {
            Steer::Bounce(text) => self.bounce(&entry, &done.recipients, text, order.now).await?,
            _ => done.recipients.len(),
        };
        if recipients == 0 {
            return Ok(None);
        }
        let several = if recipients == 1 { "" } else { "s" };
        let mut text = format!("{recipients} recipient{several}");
        for more in [order.steer.remark(), &done.note, &order.by.reason] {
            if !more.is_empty() {
                text.push_str(&format!(", {more}"));
            }
        }
        self.maillog.steered(order.now, id, order.steer.word(), &order.by.name, &text);
        Ok(Some(Steered { id, recipients, note: done.note }))
    }

    /// Until when each recipient is tried, as operators see it.
    fn shown_ends(&self, entry: &Entry) -> Vec<Timestamp> {
        let recipients = 0..entry.envelope.recipients.len();
        recipients.map(|index| self.lifetime_end(&entry.envelope, &entry.progress, index)).collect()
    }

    /// Before the change, which plans the message: it shall not be planned behind a pause that is over.
    fn probe_now(&self, order: &Order, entry: &Entry) {
        if !matches!(order.steer, Steer::Retry | Steer::Reroute(_)) {
            return;
        }
        let mut state = self.state();
        for index in order.selector.recipients(&entry.envelope, &entry.progress) {
            let recipient = &entry.envelope.recipients[index];
            let destination = match &order.steer {
                Steer::Reroute(Some(reroute)) => &reroute.host,
                Steer::Reroute(None) => recipient.address.host(),
                _ => entry.progress.recipients[index].destination(recipient),
            };
            state.schedule.probe_now(destination, order.now);
        }
        if order.steer == Steer::Retry && entry.progress.awaits_scan() {
            state.schedule.scans.resume();
        }
    }

    /// Gives these recipients up as if their server had refused them with this text; returns how many.
    ///
    /// Crash before this: the order stands in the message, its operator had no answer, and nobody was told. The notice is durable
    /// before the end is recorded, as for every other failure.
    async fn bounce(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        recipients: &[usize],
        text: &str,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let give_up = GiveUp {
            why: text.to_owned(),
            host: None,
            reply: text.to_owned(),
            // RFC 3463 §3.8: X.7.1, delivery not authorized, message refused; by the house, not by a fault.
            status: Enhanced(5, 7, 1),
            expired: false,
        };
        let changes = recipients.iter().map(|index| (*index, Change::GiveUp(give_up.clone()))).collect();
        self.record(entry, changes, now).await?;
        // Where the notice could not be stored the recipients go on waiting.
        match self.store.entry(entry.envelope.id).await {
            Err(StoreError::NotFound) => Ok(recipients.len()),
            Ok(newest) => {
                let is_bounced = |index: &&usize| matches!(newest.progress.recipients[**index].status, Status::Bounced { .. });
                Ok(recipients.iter().filter(is_bounced).count())
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;
