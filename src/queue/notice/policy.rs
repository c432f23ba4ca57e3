//! Who is told of what. Pure.
//!
//! | | of a failure | of a delay |
//! |---|---|---|
//! | the null sender | never | never |
//! | NOTIFY (RFC 3461 §4.1) | unless it leaves FAILURE out | when it is absent or names DELAY |
//! | automatic mail (`Auto-Submitted` other than `no`, RFC 3834 §5) | only when NOTIFY names FAILURE | never |
//! | `X-Auto-Response-Suppress: DR` or `All` | like any other | never |
//! | a list (`List-Id`, `List-Post`, `Precedence: list`) or bulk mail | unless it would go to the list itself | never |
//!
//! Failures of list mail are told to its envelope sender because that is where the one who manages the list reads them: RFC
//! 5321 §3.9.2 makes it the address of the list's owner, and list managers with an own sender for each subscriber (VERP)
//! know nothing of dead addresses otherwise. What must never happen is that a notice goes to all members: not told is
//! therefore a sender that is the address the list is written to.

use std::fmt;

use mail_parser::Message;

use crate::mail::{Address, Envelope, HeaderSection, Notify, Recipient};

/// Of what a notice tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::queue) enum Kind {
    Failed,
    Delayed,
}

impl Kind {
    pub(in crate::queue) fn as_str(self) -> &'static str {
        match self {
            Kind::Failed => "failed",
            Kind::Delayed => "delayed",
        }
    }
}

/// Why nobody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::queue) enum Silence {
    Automatic,
    List,
    Limit,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Silence::Automatic => "automatic mail",
            Silence::List => "mailing list",
            Silence::Limit => "notices.per_sender reached",
        })
    }
}

/// Whether the envelope asks for such a notice about this recipient, or leaves it to us.
pub(in crate::queue) fn is_wanted(kind: Kind, envelope: &Envelope, recipient: &Recipient) -> bool {
    // RFC 5321 §4.5.5: nobody is told about mail from nobody.
    !envelope.reverse_path.is_null()
        && match (recipient.notify, kind) {
            (None, _) => true,
            (Some(Notify::Never), _) => false,
            (Some(Notify::On { failure, .. }), Kind::Failed) => failure,
            (Some(Notify::On { delay, .. }), Kind::Delayed) => delay,
        }
}

/// What the header section says about who wrote the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::queue) struct Nature {
    automatic: bool,
    no_reports: bool,
    list: bool,
    /// The envelope sender is the address the list is written to.
    sender_is_list: bool,
}

impl Nature {
    pub(in crate::queue) fn of(head: &[u8], parsed: Option<&Message<'_>>, sender: &Address) -> Nature {
        let section = HeaderSection::parse(head);
        let values = |name| section.named(head, name).map(|field| head[field.value.clone()].to_ascii_lowercase());
        let words = |name| values(name).flat_map(|value| words(&value));
        let precedence = |wanted: &[&str]| words("Precedence").any(|word| wanted.contains(&word.as_str()));
        let is_posted = section.named(head, "List-Id").chain(section.named(head, "List-Post")).next().is_some();
        let is_list = is_posted || precedence(&["list"]);
        Nature {
            // The first word is the value; what follows is a comment or a parameter.
            automatic: values("Auto-Submitted").any(|value| words_of(&value).next().is_some_and(|word| word != "no")),
            no_reports: words("X-Auto-Response-Suppress").any(|word| word == "dr" || word == "all"),
            list: is_list || precedence(&["bulk", "junk"]),
            sender_is_list: is_list && is_written_to(sender, parsed, values("List-Post")),
        }
    }

    /// Why this recipient's fate is not told; `None`: it is.
    pub(in crate::queue) fn silence(self, kind: Kind, recipient: &Recipient) -> Option<Silence> {
        let asked_for = matches!(recipient.notify, Some(Notify::On { failure: true, .. }));
        match kind {
            Kind::Failed if self.automatic && !asked_for => Some(Silence::Automatic),
            Kind::Failed if self.sender_is_list => Some(Silence::List),
            Kind::Failed => None,
            Kind::Delayed if self.automatic || self.no_reports => Some(Silence::Automatic),
            Kind::Delayed if self.list => Some(Silence::List),
            Kind::Delayed => None,
        }
    }
}

/// Whether the sender stands among those the message is to, or where the list says that one writes to it (RFC 2369 §3.4).
fn is_written_to(sender: &Address, parsed: Option<&Message<'_>>, mut list_posts: impl Iterator<Item = Vec<u8>>) -> bool {
    let sender = sender.to_string().to_lowercase();
    let is_sender = |address: &str| address.to_lowercase() == sender;
    let readers = parsed.into_iter().flat_map(|parsed| [parsed.to(), parsed.cc()]).flatten().flat_map(|list| list.iter());
    let mut readers = readers.filter_map(|address| address.address.as_deref());
    let posts = |value: &[u8]| {
        let value = String::from_utf8_lossy(value).into_owned();
        value.split("<mailto:").skip(1).any(|rest| rest.split(['>', '?']).next().is_some_and(|address| is_sender(address.trim())))
    };
    readers.any(is_sender) || list_posts.any(|value| posts(&value))
}

/// The words of a value in lower case: between blanks, commas and semicolons, up to a comment.
fn words_of(value: &[u8]) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(value).unwrap_or("?");
    let text = text.split('(').next().unwrap_or_default();
    text.split(|letter: char| letter.is_whitespace() || matches!(letter, ',' | ';')).filter(|word| !word.is_empty())
}

fn words(value: &[u8]) -> Vec<String> {
    words_of(value).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use mail_parser::MessageParser;

    use super::*;
    use crate::queue::steer::samples::message;

    const SENDER: &str = "news@list.example";

    fn nature(head: &str) -> Nature {
        let parsed = MessageParser::default().parse(head.as_bytes());
        Nature::of(head.as_bytes(), parsed.as_ref(), &SENDER.parse().unwrap())
    }

    /// What is said about a failure and about a delay of a recipient with this NOTIFY.
    #[track_caller]
    fn check(head: &str, notify: Option<Notify>, failed: Option<Silence>, delayed: Option<Silence>) {
        let mut recipient = Recipient::new("joe@customer.example".parse().unwrap());
        recipient.notify = notify;
        let nature = nature(&format!("{head}\r\n\r\ntext\r\n"));
        assert_eq!(
            (nature.silence(Kind::Failed, &recipient), nature.silence(Kind::Delayed, &recipient)),
            (failed, delayed),
            "{head}"
        );
    }

    #[test]
    fn people_are_told_and_programs_are_not_unless_they_asked() {
        let automatic = Some(Silence::Automatic);
        let asked = Some(Notify::On { success: false, failure: true, delay: true });
        for head in
            ["Subject: x", "Auto-Submitted: no", "auto-submitted: NO (not at all)", "Auto-Submitted:", "Precedence: normal"]
        {
            check(head, None, None, None);
        }
        for head in [
            "Auto-Submitted: auto-replied",
            "AUTO-SUBMITTED:\r\n auto-generated; x=no",
            "Auto-Submitted: no\r\nAuto-Submitted: yes",
        ] {
            check(head, None, automatic, automatic);
            check(head, asked, None, automatic);
        }
        check("X-Auto-Response-Suppress: DR, OOF, AutoReply", None, None, automatic);
        check("X-Auto-Response-Suppress: All", None, None, automatic);
        check("X-Auto-Response-Suppress: OOF", None, None, None);
    }

    #[test]
    fn lists_hear_of_failures_only_and_only_where_their_owner_reads_them() {
        let list = Some(Silence::List);
        for head in ["List-Id: News <news.list.example>", "Precedence: bulk", "Precedence: List", "Precedence: junk"] {
            check(head, None, None, list);
        }
        check("List-Id: <news.list.example>\r\nTo: News <NEWS@list.example>", None, list, list);
        check("List-Post: <https://x.example>, <mailto:News@list.example?subject=x>", None, list, list);
        check("List-Post: NO\r\nTo: others@list.example", None, None, list);
        check("To: news@list.example", None, None, None);
    }

    #[test]
    fn the_envelope_says_what_is_wanted() {
        let mut recipient = Recipient::new("joe@customer.example".parse().unwrap());
        let someone = message("ann@sender.example", &[]);
        assert!([Kind::Failed, Kind::Delayed].iter().all(|kind| is_wanted(*kind, &someone, &recipient)));
        assert!([Kind::Failed, Kind::Delayed].iter().all(|kind| !is_wanted(*kind, &message("", &[]), &recipient)));
        for (notify, failed, delayed) in [
            (Notify::Never, false, false),
            (Notify::On { success: true, failure: false, delay: true }, false, true),
            (Notify::On { success: false, failure: true, delay: false }, true, false),
        ] {
            recipient.notify = Some(notify);
            assert_eq!(
                (is_wanted(Kind::Failed, &someone, &recipient), is_wanted(Kind::Delayed, &someone, &recipient)),
                (failed, delayed)
            );
        }
    }
}
