//! Checks of when a message was written, which way it came, and who numbered it.
//!
//! Received fields below the client at the door are whatever the sender says. Honest servers have wrong clocks too, so
//! differences count from hours or days on.

use super::headers::value_of;
use super::lookalike::Own;
use crate::spam::facts::{DateField, DateFlaw, Facts, Hop, Named, organisation};

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Organisations of services that send for others, under whatever ending.
const SERVICES: [&str; 21] = [
    "sendgrid.",
    "amazonses.",
    "mailgun.",
    "mtasv.",
    "postmarkapp.",
    "mandrillapp.",
    "mcsv.",
    "mcdlv.",
    "rsgsv.",
    "sparkpostmail.",
    "salesforce.",
    "sfmc",
    "exacttarget.",
    "mailjet.",
    "sendinblue.",
    "brevo.",
    "hubspotemail.",
    "klaviyomail.",
    "cleverreach.",
    "mailchimpapp.",
    "smtp2go.",
];

pub(super) fn date_unreadable(facts: &Facts) -> Option<String> {
    (facts.headers.date == DateField::Unreadable).then(|| value_of(facts, "Date"))
}

pub(super) fn date_in_future(facts: &Facts) -> Option<String> {
    (seconds_late(facts)? < -DAY_SECONDS).then(|| value_of(facts, "Date"))
}

pub(super) fn date_long_ago(facts: &Facts) -> Option<String> {
    (seconds_late(facts)? > 30 * DAY_SECONDS).then(|| value_of(facts, "Date"))
}

fn seconds_late(facts: &Facts) -> Option<i64> {
    let DateField::At(date) = facts.headers.date else { return None };
    Some(i64::try_from(facts.received_at.unix_seconds()).ok()?.saturating_sub(date))
}

pub(super) fn date_zone_impossible(facts: &Facts) -> Option<String> {
    flaw(facts, DateFlaw::Zone)
}

pub(super) fn date_wrong_weekday(facts: &Facts) -> Option<String> {
    flaw(facts, DateFlaw::Weekday)
}

pub(super) fn date_out_of_range(facts: &Facts) -> Option<String> {
    flaw(facts, DateFlaw::Range)
}

fn flaw(facts: &Facts, flaw: DateFlaw) -> Option<String> {
    (facts.headers.date_flaw == Some(flaw)).then(|| value_of(facts, "Date"))
}

/// Written hours after it was passed on.
pub(super) fn date_after_received(facts: &Facts) -> Option<String> {
    let DateField::At(date) = facts.headers.date else { return None };
    let first = facts.headers.hops.iter().rev().find_map(|hop| hop.at)?;
    (date - first > 6 * 60 * 60).then(|| value_of(facts, "Date"))
}

/// Days passed between the Date and the first step of its way. A message may wait in a drafts folder, hence days.
pub(super) fn date_before_received(facts: &Facts) -> Option<String> {
    let DateField::At(date) = facts.headers.date else { return None };
    let first = facts.headers.hops.iter().rev().find_map(|hop| hop.at)?;
    (first - date > 4 * DAY_SECONDS).then(|| value_of(facts, "Date"))
}

/// A server passed the message on more than a day before the server below it did.
pub(super) fn received_backwards(facts: &Facts) -> Option<String> {
    let dated: Vec<(&Hop, i64)> = facts.headers.hops.iter().filter_map(|hop| Some((hop, hop.at?))).collect();
    let back = dated.windows(2).find(|two| two[1].1 - two[0].1 > DAY_SECONDS)?;
    Some(format!("{} before {}", back[0].0.by, back[1].0.by))
}

/// `[300.1.2.3]`, `[0.1.2.3]`, `[245.1.2.3]`: numbers that were never on the net.
pub(super) fn received_impossible_address(facts: &Facts) -> Option<String> {
    let texts = facts.headers.hops.iter().flat_map(|hop| [hop.from.as_str(), hop.client.as_str()]);
    texts.flat_map(bracketed).find(|address| is_impossible(address)).map(str::to_owned)
}

/// What stands between square brackets.
fn bracketed(text: &str) -> impl Iterator<Item = &str> {
    text.split('[').skip(1).filter_map(|rest| rest.split_once(']')).map(|(inner, _)| inner)
}

fn is_impossible(address: &str) -> bool {
    let numbers: Vec<&str> = address.split('.').collect();
    let digits = |number: &&str| (1..=4).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    if numbers.len() != 4 || !numbers.iter().all(digits) {
        return false;
    }
    let values: Vec<u32> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
    // 0.0.0.0 stands for "unknown" in honest software.
    let nowhere = values[0] >= 240 && values[0] <= 255 || values[0] == 0 && values[1..].iter().any(|value| *value != 0);
    values.iter().any(|value| *value > 255) || nowhere
}

/// A step of the way claims to have begun at the recipient's own server, although a stranger wrote the message.
pub(super) fn received_from_recipient(facts: &Facts) -> Option<String> {
    let own = Own::of(facts);
    let author = facts.author()?;
    let relayed =
        ["List-Id", "In-Reply-To", "References", "Resent-From", "Auto-Submitted"].iter().any(|name| facts.headers.has(name));
    if relayed || own.has(author.domain()) || facts.door.as_ref()?.sender_domain.as_ref().is_none_or(|sender| own.has(sender)) {
        return None;
    }
    let hop = facts.headers.hops.iter().find(|hop| hop.from.contains('.') && own.has(&hop.from))?;
    Some(hop.from.clone())
}

/// Nothing tells where the message was written: the client at the door made it itself, as programs do.
pub(super) fn received_missing(facts: &Facts) -> Option<String> {
    let door = facts.door.as_ref()?;
    (facts.headers.received == 0 && !facts.headers.has("DKIM-Signature")).then(|| door.helo.clone())
}

/// RFC 5322 §3.6.4; no more than its shape, since many honest programs bend the grammar.
pub(super) fn message_id_malformed(facts: &Facts) -> Option<String> {
    let id = &facts.headers.named("Message-ID").next()?.raw;
    let inner = id.strip_prefix('<').and_then(|id| id.strip_suffix('>'));
    let well = inner.is_some_and(|inner| {
        let (left, right) = inner.rsplit_once('@').unwrap_or_default();
        !left.is_empty() && !right.is_empty() && !inner.contains([' ', '<', '>'])
    });
    (!well).then(|| id.clone())
}

/// `<1@localhost>`, `<1@PC7>`: a host that is no name on the net.
pub(super) fn message_id_bare_host(facts: &Facts) -> Option<String> {
    let (id, host) = message_id(facts)?;
    let service = host.starts_with("geopod-ismtpd");
    let bare = !host.is_empty() && !host.contains('.') && !host.starts_with('[') && !service;
    (bare || host.starts_with("localhost.")).then(|| id.to_owned())
}

/// Made at a domain that has nothing to do with author, sender, client or any server on the way.
pub(super) fn message_id_unrelated(facts: &Facts) -> Option<String> {
    let (id, host) = message_id(facts)?;
    let door = facts.door.as_ref()?;
    let made = organisation(&host);
    // Whoever sends for others numbers the messages, too.
    if SERVICES.iter().any(|service| made.starts_with(service)) {
        return None;
    }
    if !made.contains('.')
        || made.contains('[')
        || ["List-Id", "Resent-From", "Sender"].iter().any(|name| facts.headers.has(name))
    {
        return None;
    }
    let label = made.split('.').next().unwrap_or_default();
    let near = |domain: &str| organisation(domain) == made || domain.contains(label);
    let claimed = facts.headers.from.iter().map(Named::domain).chain(door.sender_domain.as_deref());
    let related = claimed.chain(facts.headers.reply_to.iter().map(Named::domain)).any(near);
    (!related && !touched(facts, &[label])).then(|| id.to_owned())
}

/// `<1@192.0.2.1>`, `<1@[192.0.2.1]>`.
pub(super) fn message_id_host_address(facts: &Facts) -> Option<String> {
    let (id, host) = message_id(facts)?;
    host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok().then(|| id.to_owned())
}

/// Made below the recipient's domain, by somebody who is not there.
pub(super) fn message_id_of_recipient(facts: &Facts) -> Option<String> {
    let own = Own::of(facts);
    let (id, host) = message_id(facts)?;
    let stranger = facts.author().is_some_and(|author| !own.has(author.domain()));
    let thread = facts.headers.has("List-Id") || facts.headers.has("Resent-From");
    (own.has(&host) && stranger && !thread).then(|| id.to_owned())
}

/// The Message-ID of a large provider of mailboxes on a message whose way never touched it. Not of a sending service: its
/// customers give its hosts names of their own.
pub(super) fn message_id_of_other_provider(facts: &Facts) -> Option<String> {
    const MADE_BY: [(&str, &[&str]); 6] = [
        ("mail.gmail.com", &["google"]),
        ("prod.outlook.com", &["outlook.com", "office365", "microsoft", "hotmail"]),
        ("phx.gbl", &["hotmail", "outlook.com", "live.com", "msn.com"]),
        ("mail.yahoo.com", &["yahoo"]),
        ("icloud.com", &["icloud", "apple.com", "me.com", "mac.com"]),
        ("aol.com", &["aol.", "yahoo", "aim.com", "mail.com"]),
    ];
    let (id, host) = message_id(facts)?;
    let (_, names) = MADE_BY.iter().find(|(made, _)| host.ends_with(made))?;
    if facts.headers.has("List-Id") || facts.headers.has("Resent-From") {
        return None;
    }
    (!touched(facts, names)).then(|| id.to_owned())
}

/// Does the client's name or a step of the way hold one of these?
pub(super) fn touched(facts: &Facts, names: &[&str]) -> bool {
    let door = facts.door.iter().flat_map(|door| [door.reverse_name.as_deref().unwrap_or_default(), door.helo.as_str()]);
    let hops = facts.headers.hops.iter().flat_map(|hop| [hop.from.as_str(), hop.client.as_str(), hop.by.as_str()]);
    door.chain(hops).any(|text| names.iter().any(|name| text.contains(name)))
}

/// The Message-ID as it came and its host in lower case.
fn message_id(facts: &Facts) -> Option<(&str, String)> {
    let id = facts.headers.named("Message-ID").next()?.raw.as_str();
    let (_, host) = id.trim_end_matches('>').rsplit_once('@')?;
    Some((id, host.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::is_impossible;

    #[test]
    fn addresses_may_be_impossible() {
        for impossible in ["300.1.2.3", "1.2.3.256", "0.1.2.3", "245.1.2.3", "1.2.3.1000"] {
            assert!(is_impossible(impossible), "{impossible}");
        }
        for possible in ["192.0.2.1", "0.0.0.0", "10.0.0.1", "127.0.0.1", "ipv6:::1", "", "1.2.3"] {
            assert!(!is_impossible(possible), "{possible}");
        }
    }
}
