//! What a server's reply says about an address: that somebody has it, that nobody has, or nothing. Pure.
//!
//! Only words that can mean nothing else count as "nobody": an address taken for unknown is refused for hours. The table is
//! what Exchange, Exchange Online, Postfix and Exim say; all texts stand here, so that they are easy to correct.

use crate::mail::Outcome;

/// What is known about one address by one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Exists,
    /// There is no such user.
    Unknown,
    /// Refused for another reason: policy, a full mailbox, relaying. Says nothing about the address.
    Unclear,
    /// Not now: also nothing.
    Later,
}

/// "No such user" in words, for servers that send no enhanced code, or 5.0.0 or 5.1.0.
const UNKNOWN_WORDS: [&str; 20] = [
    "user unknown",
    "unknown user",
    "unknown recipient",
    "recipient unknown",
    "unknown address",
    "address unknown",
    "unknown local",
    "no such user",
    "no such recipient",
    "no such mailbox",
    "no such address",
    "no mailbox here",
    "user not found",
    "recipient not found",
    "recipientnotfound",
    "exrecipnotfound",
    "mailbox not found",
    "does not exist",
    "doesn't exist",
    "unrouteable address",
];

/// Reads a reply as `550 5.1.1 User unknown`, to RCPT or to the end of the text.
pub fn read(reply: &str) -> Reading {
    let Some(code) = reply.get(..3).and_then(|code| code.parse::<u16>().ok()) else { return Reading::Later };
    let words = || reply.to_ascii_lowercase();
    match code {
        // RFC 5321 §3.5.3: it could not verify the address and takes it all the same.
        252 => Reading::Unclear,
        200..300 => Reading::Exists,
        // RFC 7505: the whole domain takes no mail, which says nothing about one address.
        556 => Reading::Unclear,
        500..600 => match enhanced(reply) {
            Some([5, 1, 1 | 6 | 10]) => Reading::Unknown,
            // Exchange Online's edge: "Recipient address rejected: Access denied". "Relay Access Denied" is about the domain.
            Some([5, 4, 1]) => {
                let words = words();
                let of_recipient = words.contains("recipient address rejected") || words.contains("access denied");
                if of_recipient && !words.contains("relay") { Reading::Unknown } else { Reading::Unclear }
            }
            None | Some([5, 0 | 1, 0]) if matches!(code, 550 | 551 | 553 | 554) => {
                let words = words();
                let is_unknown = UNKNOWN_WORDS.iter().any(|known| words.contains(known));
                if is_unknown { Reading::Unknown } else { Reading::Unclear }
            }
            // 5.7.x: not from this sender, or no relaying. 5.2.x: the mailbox is full or closed. 5.3.x: the system.
            _ => Reading::Unclear,
        },
        _ => Reading::Later,
    }
}

/// The enhanced code behind the reply code.
fn enhanced(reply: &str) -> Option<[u16; 3]> {
    let mut parts = reply.split(' ').nth(1)?.split('.').map(|part| part.parse::<u16>().ok());
    let code = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(code)
}

/// What a delivery's end says about each of its recipients.
///
/// A server that takes every RCPT and refuses the text for the sake of one recipient gives all of them the same reply: that says
/// nothing about any. It does for a message with one recipient, and for one that was taken for somebody else.
pub fn lessons(outcomes: &[Outcome]) -> impl Iterator<Item = Option<(Reading, &str)>> {
    let taken = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Delivered { .. }));
    let is_shared = move |reply: &str| {
        let alike = |outcome: &&Outcome| matches!(outcome, Outcome::Failed { reply: other, .. } if other == reply);
        !taken && outcomes.iter().filter(alike).count() > 1
    };
    outcomes.iter().map(move |outcome| match outcome {
        Outcome::Delivered { reply, .. } => Some((Reading::Exists, reply.as_str())),
        // Without a host the words are ours.
        Outcome::Failed { reply, host: Some(_) } if read(reply) == Reading::Unknown && !is_shared(reply) => {
            Some((Reading::Unknown, reply.as_str()))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Scope;

    #[track_caller]
    fn check(reading: Reading, replies: &[&str]) {
        for reply in replies {
            assert_eq!(read(reply), reading, "{reply}");
        }
    }

    #[test]
    fn nobody_has_the_address() {
        check(
            Reading::Unknown,
            &[
                "550 5.1.1 User unknown",
                "550 5.1.1 RESOLVER.ADR.ExRecipNotFound; not found",
                "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
                "550 5.4.1 Recipient address rejected: Access denied. AS(201806281) [DB5.protection.outlook.com]",
                "550 5.4.1 [joe@customer.example]: Recipient address rejected: Access denied",
                "554 5.1.1 <joe@customer.example>: Recipient address rejected: User unknown in relay recipient table",
                "550 Unrouteable address",
                "550 No such user here",
                "553 5.1.0 sorry, no mailbox here by that name (#5.1.1)",
                "550 5.0.0 <joe@customer.example>... User unknown",
                "551 5.1.6 has moved, no forwarding address",
            ],
        );
    }

    #[test]
    fn a_refusal_for_another_reason_says_nothing_about_the_address() {
        check(
            Reading::Unclear,
            &[
                "550 5.4.1 Relay Access Denied",
                "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
                "550 5.7.1 Unable to relay",
                "550 5.7.1 RESOLVER.RST.AuthRequired; authentication required",
                "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; not allowed",
                "550 5.7.1 no such user for you",
                "550 5.2.1 mailbox disabled",
                "552 5.2.2 mailbox full",
                "550 5.2.3 RESOLVER.RST.RecipSizeLimit; too large",
                "554 5.3.2 not accepting messages",
                "550 5.1.8 Access denied, bad outbound sender",
                "550 Requested action not taken: mailbox unavailable",
                "550 5.1.2 bad destination system",
                "556 5.1.10 domain does not accept mail",
                "530 5.7.0 Must issue a STARTTLS command first",
                "554 Transaction failed",
                "252 2.5.0 cannot verify, will try",
            ],
        );
        check(
            Reading::Later,
            &[
                "450 4.2.0 greylisted",
                "452 4.3.1 Insufficient system resources",
                "450 4.1.1 User unknown for now",
                "",
                "?",
                "354 go",
            ],
        );
        check(Reading::Exists, &["250 2.1.5 Recipient OK", "251 will forward", "250"]);
    }

    #[test]
    fn a_delivery_teaches_only_what_is_certain() {
        let taken = Outcome::Delivered { host: "h".into(), reply: "250 2.6.0 Ok".into() };
        let failed = |reply: &str| Outcome::Failed { host: Some("h".into()), reply: reply.into() };
        let unknown = || failed("550 5.1.1 User unknown");
        let retry = Outcome::Retry { scope: Scope::Host, host: None, reply: "550 5.1.1 User unknown".into() };
        let words =
            |outcomes: &[Outcome]| -> Vec<_> { lessons(outcomes).map(|lesson| lesson.map(|(reading, _)| reading)).collect() };
        use Reading::{Exists, Unknown};
        assert_eq!(words(&[unknown()]), [Some(Unknown)]);
        assert_eq!(words(&[taken.clone(), unknown()]), [Some(Exists), Some(Unknown)]);
        assert_eq!(words(&[taken, unknown(), unknown()]), [Some(Exists), Some(Unknown), Some(Unknown)]);
        assert_eq!(words(&[unknown(), unknown()]), [None, None], "the whole message may have been refused for one of them");
        assert_eq!(words(&[failed("550 5.1.1 <a> unknown"), failed("550 5.1.1 <b> unknown")]), [Some(Unknown), Some(Unknown)]);
        assert_eq!(words(&[failed("550 5.7.1 no"), retry]), [None, None]);
        assert_eq!(words(&[Outcome::Failed { host: None, reply: "550 5.1.1 ours".into() }]), [None]);
    }
}
