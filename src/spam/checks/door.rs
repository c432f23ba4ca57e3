//! Checks of what the door saw. The settings under `[checks]` decide about refusing; here is only what is left to say
//! about a client that was let in.

use std::net::IpAddr;

use super::is_freemail;
use crate::spam::facts::{Facts, organisation};

pub(super) fn no_reverse_name(facts: &Facts) -> Option<String> {
    let door = facts.door.as_ref()?;
    door.reverse_name.is_none().then(|| door.address.to_string())
}

/// Bare, or as the literal that RFC 5321 §4.1.3 allows to hosts without a name: a mail server has one.
pub(super) fn helo_is_address(facts: &Facts) -> Option<String> {
    let helo = &facts.door.as_ref()?.helo;
    let inner = helo.trim_start_matches('[').trim_end_matches(']').trim_start_matches("ipv6:");
    inner.parse::<IpAddr>().is_ok().then(|| helo.clone())
}

pub(super) fn helo_no_domain(facts: &Facts) -> Option<String> {
    let helo = &facts.door.as_ref()?.helo;
    let literal = helo.starts_with('[') || helo.parse::<IpAddr>().is_ok();
    let top = helo.trim_end_matches('.').rsplit_once('.').map(|(_, top)| top);
    let made_up = matches!(top, None | Some("local" | "localdomain" | "lan" | "internal" | "home" | "invalid"));
    (made_up && !literal).then(|| helo.clone())
}

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
