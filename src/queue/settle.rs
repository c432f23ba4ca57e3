//! What the end of an attempt does to a recipient. Pure: [`decide`] says it, [`Change::apply`] writes it down.
//!
//! The two are apart because a notice to the sender has to be durable between them. Meanwhile an operator may have changed
//! the recipient: what is final stays, except that a peer that took the message wins.

use std::time::Duration;

use super::{in_words, retry};
use crate::mail::{Enhanced, Failure, Outcome, QueueId, RecipientProgress, Scope, Status, Timestamp};

/// Longest text kept of what a peer said, in bytes: a reply line holds 512.
const REPLY_MAX: usize = 512;

/// What an attempt is measured by.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub id: QueueId,
    pub received_at: Timestamp,
    /// The end of this recipient's lifetime.
    pub end: Timestamp,
    /// `queue.retry`.
    pub steps: &'a [Duration],
}

/// What becomes of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Delivered {
        host: String,
        reply: String,
    },
    /// Try again then. `away`: the host was.
    Defer {
        due: Timestamp,
        host: Option<String>,
        reply: String,
        away: bool,
    },
    GiveUp(GiveUp),
    /// Nothing: it is final already.
    Leave,
}

/// Why a recipient is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GiveUp {
    /// For the status, the log and the notice.
    pub why: String,
    pub host: Option<String>,
    /// What the next hop said, or our words.
    pub reply: String,
    pub status: Enhanced,
    /// The lifetime is over; else the refusal was for good.
    pub expired: bool,
}

/// What `outcome` means for a recipient in this state.
pub(super) fn decide(recipient: &RecipientProgress, outcome: &Outcome, now: Timestamp, terms: Terms<'_>) -> Change {
    if let Outcome::Delivered { host, reply } = outcome {
        return Change::Delivered { host: one_line(host), reply: one_line(reply) };
    }
    // An operator who held it while it was out wants it kept, whatever the host said: it can fail again after release.
    let held = match recipient.status {
        Status::Waiting => false,
        Status::Held { .. } => true,
        _ => return Change::Leave,
    };
    let next = now + retry::wait(terms.steps, terms.id, recipient.attempts.saturating_add(1));
    match outcome {
        Outcome::Delivered { .. } => unreachable!("answered above"),
        Outcome::Failed { host, reply } if held => {
            Change::Defer { due: next, host: host.clone(), reply: one_line(reply), away: false }
        }
        Outcome::Failed { host, reply } => {
            let reply = one_line(reply);
            let status = permanent_status(&reply).unwrap_or(Enhanced(5, 0, 0));
            Change::GiveUp(GiveUp { why: reply.clone(), host: host.clone(), reply, status, expired: false })
        }
        Outcome::Retry { host, reply, .. } if !held && now >= terms.end => {
            Change::GiveUp(expired(host.clone(), one_line(reply), now, terms))
        }
        Outcome::Retry { scope, host, reply } => {
            // The last attempt is made exactly at the end.
            let due = if now < terms.end { next.min(terms.end) } else { next };
            Change::Defer { due, host: host.clone(), reply: one_line(reply), away: *scope == Scope::Host }
        }
    }
}

/// The lifetime is over while the host is away: what the sender is told.
pub(super) fn expired(host: Option<String>, reply: String, now: Timestamp, terms: Terms<'_>) -> GiveUp {
    let waited = in_words(now.since(terms.received_at));
    let why = one_line(&format!("gave up after {waited}: {reply}"));
    // RFC 3463 §3.5: X.4.7, delivery time expired.
    GiveUp { why, host, reply, status: Enhanced(4, 4, 7), expired: true }
}

impl Change {
    /// Writes it into the newest state; says whether it still applied.
    pub(super) fn apply(&self, recipient: &mut RecipientProgress, now: Timestamp) -> bool {
        let open = matches!(recipient.status, Status::Waiting | Status::Held { .. });
        match self {
            // The peer has it: true whatever an operator did meanwhile.
            Change::Delivered { host, reply } => {
                let first = !matches!(recipient.status, Status::Delivered { .. });
                attempted(recipient, reply, false, now);
                recipient.status = Status::Delivered { at: now, host: host.clone() };
                first
            }
            Change::Defer { due, reply, away, .. } if open => {
                attempted(recipient, reply, *away, now);
                recipient.due = *due;
                true
            }
            // Held or not, it ends here.
            Change::GiveUp(give_up) if open => {
                attempted(recipient, &give_up.reply, false, now);
                recipient.status = Status::Bounced { at: now, why: give_up.why.clone() };
                true
            }
            Change::Defer { .. } | Change::GiveUp(_) | Change::Leave => false,
        }
    }
}

fn attempted(recipient: &mut RecipientProgress, reply: &str, away: bool, now: Timestamp) {
    recipient.attempts = recipient.attempts.saturating_add(1);
    recipient.last_reply = reply.to_owned();
    recipient.failing_since = away.then(|| recipient.failing_since.unwrap_or(now));
}

impl GiveUp {
    /// As the message keeps it until its sender is told.
    pub(super) fn failure(&self, recipient: usize, at: Timestamp) -> Failure {
        let GiveUp { host, reply, status, expired, .. } = self.clone();
        Failure { recipient, at, host, reply, status, expired }
    }
}

/// The enhanced code of a refusal, when it carries one of class 5: `550 5.1.1 …`.
fn permanent_status(reply: &str) -> Option<Enhanced> {
    status_of_class(5, reply)
}

/// The enhanced code of a reply, when it carries one of this class.
pub(super) fn status_of_class(wanted: u8, reply: &str) -> Option<Enhanced> {
    let (code, rest) = reply.split_once([' ', '-'])?;
    if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut parts = rest.split_whitespace().next()?.splitn(3, '.');
    let class: u8 = parts.next()?.parse().ok()?;
    // RFC 3463 §2: subject and detail have up to three digits.
    let mut part = || parts.next().filter(|part| part.len() <= 3)?.parse::<u16>().ok();
    let (subject, detail) = (part()?, part()?);
    (class == wanted).then_some(Enhanced(class, subject, detail))
}

/// A peer's text, cut, and without anything that starts a line or moves a cursor.
pub(super) fn one_line(text: &str) -> String {
    let end = (0..=REPLY_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests;
