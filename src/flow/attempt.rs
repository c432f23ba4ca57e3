//! DELIVER, in detail: one attempt at a message, host by host, until every recipient has an answer.

use crate::mail::{Outcome, Rewrite, Scope};
use crate::outside::Body;
use crate::smtp::{Connection, Offer};
use crate::store::Entry;

/// One attempt in progress: what each recipient has been answered so far.
pub(super) struct Attempt<'a> {
    recipients: &'a [usize],
    /// One for each of `recipients`. `Retry` with `Scope::Host` means that the next host may be asked.
    pub(super) outcomes: Vec<Outcome>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(recipients: &'a [usize]) -> Attempt<'a> {
        let untried = Outcome::Retry { scope: Scope::Host, host: None, reply: "no server to try".to_owned() };
        Attempt { recipients, outcomes: vec![untried; recipients.len()] }
    }

    fn is_open(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Retry { scope: Scope::Host, .. })
    }

    pub(super) fn is_over(&self) -> bool {
        !self.outcomes.iter().any(Attempt::is_open)
    }

    /// Offers the message for those that no host has answered for.
    pub(super) async fn offer(&mut self, connection: &mut Connection, entry: &Entry, body: &Body, rewrite: &Rewrite) {
        let open: Vec<usize> = (0..self.outcomes.len()).filter(|place| Attempt::is_open(&self.outcomes[*place])).collect();
        let recipients: Vec<usize> = open.iter().map(|place| self.recipients[*place]).collect();
        // Some hosts offer CHUNKING and choke on BDAT: every other attempt goes by DATA, so that such a lie costs one retry.
        let attempts = recipients.first().map_or(0, |first| entry.progress.recipients[*first].attempts);
        let chunking = attempts.is_multiple_of(2);
        let offer = Offer { envelope: &entry.envelope, recipients: &recipients, body, rewrite, chunking };
        let answers = connection.offer(&offer).await;
        for (place, answer) in open.into_iter().zip(answers) {
            self.outcomes[place] = answer;
        }
    }

    /// No answer from this host either.
    pub(super) fn unanswered(&mut self, outcome: Outcome) {
        self.outcomes.iter_mut().filter(|outcome| Attempt::is_open(outcome)).for_each(|open| *open = outcome.clone());
    }

    pub(super) fn ended(mut self, outcome: Outcome) -> Vec<Outcome> {
        self.unanswered(outcome);
        self.outcomes
    }
}
