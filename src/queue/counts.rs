//! Numbers for `status`: one pass over the queue, on demand, a page at a time.

use std::collections::HashMap;

use super::{PAGE, Queue};
use crate::mail::{Host, Status, Timestamp};
use crate::store::{Entry, StoreError};

/// Numbers for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    pub messages: u64,
    /// Messages without a verdict.
    pub awaiting_scan: u64,
    /// Recipients, those of messages without a verdict included.
    pub waiting: u64,
    pub held: u64,
    pub quarantined: u64,
    /// Most waiting first.
    pub per_domain: Vec<DomainCounts>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DomainCounts {
    pub domain: String,
    pub waiting: u64,
    pub held: u64,
    pub quarantined: u64,
    /// When the oldest message that waits or is held came in.
    pub oldest: Option<Timestamp>,
    /// What the next hop said last to a message that still waits.
    pub last_reply: String,
}

impl Queue {
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let mut tally = Tally::default();
        let mut after = None;
        loop {
            let page = self.shared.store.entries(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(tally.finish()) };
            after = Some(last.envelope.id);
            page.iter().for_each(|entry| tally.add(entry));
        }
    }
}

#[derive(Default)]
struct Tally {
    counts: Counts,
    domains: HashMap<Host, (DomainCounts, Timestamp)>,
}

impl Tally {
    fn add(&mut self, entry: &Entry) {
        let counts = &mut self.counts;
        counts.messages += 1;
        counts.awaiting_scan += u64::from(entry.progress.awaits_scan());
        for (recipient, progress) in entry.envelope.recipients.iter().zip(&entry.progress.recipients) {
            if progress.status.is_final() {
                continue;
            }
            let host = recipient.address.host();
            if !self.domains.contains_key(host) {
                let domain = DomainCounts { domain: host.to_string(), ..DomainCounts::default() };
                self.domains.insert(host.clone(), (domain, Timestamp(0)));
            }
            let (domain, last_due) = self.domains.get_mut(host).expect("inserted above when missing");
            match progress.status {
                Status::Waiting => (counts.waiting, domain.waiting) = (counts.waiting + 1, domain.waiting + 1),
                Status::Held { .. } => (counts.held, domain.held) = (counts.held + 1, domain.held + 1),
                _ => {
                    (counts.quarantined, domain.quarantined) = (counts.quarantined + 1, domain.quarantined + 1);
                    continue;
                }
            }
            let received_at = entry.envelope.received_at;
            domain.oldest = Some(domain.oldest.map_or(received_at, |oldest| oldest.min(received_at)));
            // The one due last was, as far as the queue knows, tried last.
            if !progress.last_reply.is_empty() && progress.due >= *last_due {
                *last_due = progress.due;
                domain.last_reply.clone_from(&progress.last_reply);
            }
        }
    }

    fn finish(mut self) -> Counts {
        self.counts.per_domain = self.domains.into_values().map(|(domain, _)| domain).collect();
        self.counts.per_domain.sort_by(|a, b| b.waiting.cmp(&a.waiting).then_with(|| a.domain.cmp(&b.domain)));
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Decision, Origin, Progress};
    use crate::queue::steer::samples::{judged, message};

    #[test]
    fn recipients_are_counted_by_state_and_domain() {
        let envelope = message("ann@sender.example", &["a@x.example", "b@x.example", "c@y.example", "d@y.example"]);
        let mut progress = judged(4, Decision::Deliver);
        progress.recipients[0].last_reply = "421 busy".into();
        progress.recipients[1].status = Status::Held { since: Timestamp(1) };
        progress.recipients[2].status = Status::Quarantined { since: Timestamp(1), why: "spam".into() };
        progress.recipients[3].status = Status::Delivered { at: Timestamp(1), host: String::new() };
        let mut tally = Tally::default();
        tally.add(&Entry { envelope: envelope.clone(), progress });
        tally.add(&Entry { envelope, progress: Progress::accepted(Origin::Client, 4, Timestamp(0)) });
        let counts = tally.finish();
        assert_eq!((counts.messages, counts.awaiting_scan), (2, 1));
        assert_eq!((counts.waiting, counts.held, counts.quarantined), (5, 1, 1));
        let x = &counts.per_domain[0];
        assert_eq!((x.domain.as_str(), x.waiting, x.held, x.last_reply.as_str()), ("x.example", 3, 1, "421 busy"));
        assert_eq!(x.oldest, Some(Timestamp(1_000)));
        assert_eq!((counts.per_domain[1].waiting, counts.per_domain[1].quarantined), (2, 1));
    }
}
