//! Which messages, and which of their recipients, an operator means. Pure.

use std::fmt;
use std::str::FromStr;

use crate::mail::{Address, Domain, Envelope, Progress, QueueId, Status, Timestamp};

/// Which messages an operator means. Everything that is given must match; what names a recipient (domain, recipient, state)
/// must match the same one. Nothing given means every message: whoever asks the operator makes sure of that.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Selector {
    pub id: Option<QueueId>,
    /// A recipient's domain.
    pub domain: Option<Domain>,
    pub sender: Option<Address>,
    pub recipient: Option<Address>,
    /// `waiting`, `held`, `quarantined`, `awaiting-scan`: a [`StateWord`]. Any other word matches nothing; callers parse it
    /// first and tell the operator.
    pub state: Option<String>,
    /// Received before, and not before: its age.
    #[serde(default)]
    pub before: Option<Timestamp>,
    #[serde(default)]
    pub since: Option<Timestamp>,
}

/// The states that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateWord {
    /// For a verdict or the next attempt.
    Waiting,
    Held,
    Quarantined,
    /// Without a verdict, waiting or held.
    AwaitingScan,
}

/// A word that is no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown state: {0}; known are waiting, held, quarantined and awaiting-scan")]
pub struct UnknownState(String);

impl FromStr for StateWord {
    type Err = UnknownState;
    fn from_str(word: &str) -> Result<StateWord, UnknownState> {
        StateWord::ALL.into_iter().find(|state| state.as_str() == word).ok_or_else(|| UnknownState(word.to_owned()))
    }
}

impl StateWord {
    pub const ALL: [StateWord; 4] = [StateWord::Waiting, StateWord::Held, StateWord::Quarantined, StateWord::AwaitingScan];

    pub fn as_str(self) -> &'static str {
        match self {
            StateWord::Waiting => "waiting",
            StateWord::Held => "held",
            StateWord::Quarantined => "quarantined",
            StateWord::AwaitingScan => "awaiting-scan",
        }
    }

    fn covers(self, progress: &Progress, status: &Status) -> bool {
        match (self, status) {
            (StateWord::Waiting, Status::Waiting)
            | (StateWord::Held, Status::Held { .. })
            | (StateWord::Quarantined, Status::Quarantined { .. }) => true,
            (StateWord::AwaitingScan, status) => progress.awaits_scan() && !status.is_final(),
            _ => false,
        }
    }
}

impl fmt::Display for StateWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Selector {
    /// Whether the message has a recipient that is meant.
    pub fn matches(&self, envelope: &Envelope, progress: &Progress) -> bool {
        self.recipients(envelope, progress).next().is_some()
    }

    /// The recipients that are meant, as indices.
    pub fn recipients<'a>(&'a self, envelope: &'a Envelope, progress: &'a Progress) -> impl Iterator<Item = usize> + 'a {
        let id_fits = self.id.is_none_or(|id| id == envelope.id)
            && self.before.is_none_or(|before| envelope.received_at < before)
            && self.since.is_none_or(|since| envelope.received_at >= since);
        let sender_fits = self.sender.as_ref().is_none_or(|sender| envelope.reverse_path.address() == Some(sender));
        let state = self.state.as_deref().map(str::parse::<StateWord>);
        let recipients = envelope.recipients.iter().zip(&progress.recipients).enumerate();
        let fits = move |(address, status): (&Address, &Status)| {
            id_fits
                && sender_fits
                && self.domain.as_ref().is_none_or(|domain| address.domain() == Some(domain))
                && self.recipient.as_ref().is_none_or(|recipient| recipient == address)
                && state.as_ref().is_none_or(|state| state.as_ref().is_ok_and(|state| state.covers(progress, status)))
        };
        recipients.filter(move |(_, (to, at))| fits((&to.address, &at.status))).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Decision, Origin};
    use crate::queue::steer::samples::{judged, message};

    #[track_caller]
    fn check(selector: Selector, progress: &Progress, expected: &[usize]) {
        let envelope = message("ann@sender.example", &["joe@a.example", "sue@a.example", "tom@b.example"]);
        let found: Vec<_> = selector.recipients(&envelope, progress).collect();
        assert_eq!(found, expected, "{selector:?}");
        assert_eq!(selector.matches(&envelope, progress), !expected.is_empty());
    }

    fn state(word: &str) -> Selector {
        Selector { state: Some(word.into()), ..Selector::default() }
    }

    #[test]
    fn everything_given_must_match_the_same_recipient() {
        let mut progress = judged(3, Decision::Deliver);
        progress.recipients[1].status = Status::Held { since: Timestamp(1) };
        progress.recipients[2].status = Status::Delivered { at: Timestamp(1), host: String::new() };
        let a = Some("a.example".parse().unwrap());
        check(Selector::default(), &progress, &[0, 1, 2]);
        check(Selector { domain: a.clone(), ..Selector::default() }, &progress, &[0, 1]);
        check(Selector { domain: a.clone(), ..state("held") }, &progress, &[1]);
        check(Selector { domain: Some("b.example".parse().unwrap()), ..state("held") }, &progress, &[]);
        check(Selector { recipient: Some("tom@b.example".parse().unwrap()), ..Selector::default() }, &progress, &[2]);
        check(Selector { recipient: Some("tom@b.example".parse().unwrap()), domain: a, ..Selector::default() }, &progress, &[]);
        check(Selector { sender: Some("ann@sender.example".parse().unwrap()), ..state("waiting") }, &progress, &[0]);
        check(Selector { sender: Some("bob@sender.example".parse().unwrap()), ..Selector::default() }, &progress, &[]);
        let at = |millis| Some(Timestamp(millis));
        check(Selector { before: at(1_001), since: at(1_000), ..Selector::default() }, &progress, &[0, 1, 2]);
        check(Selector { before: at(1_000), ..Selector::default() }, &progress, &[]);
        check(Selector { since: at(1_001), ..Selector::default() }, &progress, &[]);
        check(Selector { id: "000000000007.1".parse().ok(), ..Selector::default() }, &progress, &[]);
    }

    #[test]
    fn a_message_without_a_verdict_awaits_it_waiting_or_held() {
        let mut progress = Progress::accepted(Origin::Client, 3, Timestamp(0));
        progress.recipients[1].status = Status::Held { since: Timestamp(1) };
        progress.recipients[2].status = Status::Deleted { at: Timestamp(1), why: String::new() };
        check(state("awaiting-scan"), &progress, &[0, 1]);
        check(state("waiting"), &progress, &[0]);
        check(state("quarantined"), &progress, &[]);
        check(state("awaiting-scan"), &judged(3, Decision::Deliver), &[]);
    }

    #[test]
    fn an_unknown_state_is_an_error_and_matches_nothing() {
        assert!("stuck".parse::<StateWord>().unwrap_err().to_string().contains("awaiting-scan"));
        check(state("stuck"), &judged(3, Decision::Deliver), &[]);
        for word in StateWord::ALL {
            assert_eq!(word.as_str().parse(), Ok(word));
        }
    }
}
