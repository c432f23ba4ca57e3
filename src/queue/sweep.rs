//! What happens by itself, looked for every hour: the end of quarantine that was kept long enough, and of mail whose lifetime
//! ended while its host was away: nothing is offered to such a host, so its messages see no attempt that could end them (those
//! of a host that is down are also looked after by its probes, to the minute); and senders who are still to be told.

use std::sync::Arc;

use super::schedule::deliverable;
use super::settle::{self, Change};
use super::state::{Shared, detached};
use super::{PAGE, Queue, in_words};
use crate::mail::{Envelope, Progress, Status, Timestamp};
use crate::store::{Entry, StoreError};

impl Queue {
    /// Deletes what has been in quarantine for longer than `quarantine.keep`, and gives up what outlived its lifetime behind a
    /// host that is away. Called hourly. Returns how many messages it changed.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        let shared = Arc::clone(&self.shared);
        detached(async move { shared.sweep().await }).await
    }
}

impl Shared {
    async fn sweep(self: Arc<Self>) -> Result<usize, StoreError> {
        self.end_extensions().await;
        let mut swept = 0;
        let mut after = None;
        loop {
            let page = self.store.entries(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(swept) };
            after = Some(last.envelope.id);
            for entry in page {
                let expired = self.delete_kept_long_enough(&entry).await?;
                let given_up = self.give_up_overdue(&entry).await?;
                swept += usize::from(expired || given_up);
                if !entry.progress.untold.is_empty() {
                    self.tell_failures(entry.envelope.id).await;
                }
                self.tell_delay(&entry).await;
            }
        }
    }

    async fn delete_kept_long_enough(self: &Arc<Self>, entry: &Entry) -> Result<bool, StoreError> {
        let (id, now, keep) = (entry.envelope.id, self.clock.now(), self.config.load().quarantine.keep);
        let is_over = move |status: &Status| matches!(status, Status::Quarantined { since, .. } if *since + keep <= now);
        if !entry.progress.recipients.iter().any(|recipient| is_over(&recipient.status)) {
            return Ok(false);
        }
        let kept = format!("kept in quarantine for {}", in_words(keep));
        let why = kept.clone();
        let change = move |_: &Envelope, progress: &mut Progress| {
            for recipient in progress.recipients.iter_mut().filter(|recipient| is_over(&recipient.status)) {
                recipient.status = Status::Deleted { at: now, why: why.clone() };
            }
        };
        match self.change(id, change).await {
            Ok(_) => self.maillog.steered(now, id, "expired", "quarantine.keep", &kept),
            Err(StoreError::NotFound) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    pub(super) async fn give_up_overdue(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let overdue: Vec<_> = (0..entry.progress.recipients.len())
            .filter(|index| deliverable(&entry.progress, *index) && self.is_behind_outage(entry, *index))
            .filter_map(|index| Some((index, self.overdue(entry, index, now)?)))
            .collect();
        if overdue.is_empty() {
            return Ok(false);
        }
        self.record(entry, overdue, now).await?;
        Ok(true)
    }

    pub(super) fn is_behind_outage(&self, entry: &Entry, recipient: usize) -> bool {
        let destination = entry.progress.recipients[recipient].destination(&entry.envelope.recipients[recipient]);
        self.state().schedule.is_behind_outage(entry.envelope.id, destination)
    }

    fn overdue(&self, entry: &Entry, recipient: usize, now: Timestamp) -> Option<Change> {
        let last_reply = &entry.progress.recipients[recipient].last_reply;
        let reply = if last_reply.is_empty() { "the recipient's mail server could not be reached" } else { last_reply };
        self.with_terms(entry, recipient, |terms| {
            (terms.end <= now).then(|| Change::GiveUp(settle::expired(None, reply.to_owned(), now, terms)))
        })
    }
}
