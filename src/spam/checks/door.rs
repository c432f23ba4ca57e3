//! Checks of what the door saw: its envelope. What the checks of `[checks]` found out about the client itself is asked with
//! `finding = "…"`.

use super::is_freemail;
use super::lookalike::{Own, imitates};
use crate::spam::facts::{Facts, organisation};

pub(super) fn helo_is_recipient(facts: &Facts) -> Option<String> {
    let door = facts.door.as_ref()?;
    let own_client = door.reverse_name.as_deref().is_some_and(|name| organisation(name) == organisation(&door.helo));
    let same = door.recipients.iter().any(|(domain, _)| !domain.is_empty() && *domain == door.helo);
    (same && !own_client).then(|| door.helo.clone())
}

/// Forwarders and lists rewrite the envelope too, but they do not write as somebody at a free mailbox without a list's fields.
pub(super) fn sender_elsewhere(facts: &Facts) -> Option<String> {
    let sender = facts.door.as_ref()?.sender_domain.as_ref()?;
    let author = facts.author()?.domain();
    let relayed = ["List-Id", "List-Post", "Sender", "Resent-From", "X-Forwarded-For", "Mailing-List", "List-Unsubscribe"]
        .iter()
        .any(|name| facts.headers.has(name));
    let elsewhere = organisation(sender) != organisation(author);
    (is_freemail(author) && elsewhere && !relayed).then(|| format!("{sender} for {author}"))
}

/// The client's own name, or the one it greets with, looks like a brand's or like the recipients'.
pub(super) fn client_lookalike(facts: &Facts) -> Option<String> {
    let door = facts.door.as_ref()?;
    let own = Own::of(facts);
    [door.reverse_name.as_deref(), Some(door.helo.as_str())].into_iter().flatten().find_map(|host| imitates(host, &own))
}
