//! Whether a link knows to whom it was sent.

use super::{author_organisation, clicks};
use crate::spam::facts::{Facts, Link, organisation, redirects};
use crate::spam::text::evidence;

/// Shorter runs of letters hold no address in base64 or hexadecimal.
const CODED_MIN: usize = 12;

/// Links to the author's own organisation are left out: who resets a password or confirms an order writes such.
fn foreign(facts: &Facts, is: impl Fn(&Link) -> bool) -> Option<String> {
    let own = author_organisation(facts);
    clicks(facts).find(|link| organisation(&link.host) != own && is(link)).map(|link| evidence(&link.url))
}

fn addresses(facts: &Facts) -> Vec<String> {
    let door = facts.door.iter().flat_map(|door| door.recipients.iter().map(|(_, address)| address.as_str()));
    let to = facts.headers.to.iter().map(|to| to.address.as_str()).filter(|address| address.contains('@'));
    door.chain(to).take(10).map(str::to_lowercase).collect()
}

/// The address itself. Unsubscribe links do it too.
pub(in crate::spam::checks) fn link_names_recipient(facts: &Facts) -> Option<String> {
    let addresses = addresses(facts);
    let names = |link: &Link| {
        let url = link.url.to_lowercase();
        let leaves = ["unsub", "optout", "opt-out", "abmeld", "preferences", "desuscri", "desinscri", "disiscri"];
        !leaves.iter().any(|word| url.contains(word)) && has_address(&url, &addresses)
    };
    foreign(facts, names)
}

/// The page behind it fills in the address and asks for the password; a server never sees what stands behind the #.
pub(in crate::spam::checks) fn link_fragment_recipient(facts: &Facts) -> Option<String> {
    let addresses = addresses(facts);
    foreign(facts, |link| {
        let fragment = link.url.split_once('#').map_or("", |(_, fragment)| fragment);
        has_address(&fragment.to_lowercase(), &addresses) || coded(fragment).any(|text| has_address(&text, &addresses))
    })
}

/// In base64 or hexadecimal, so that nobody sees it.
pub(in crate::spam::checks) fn link_encoded_recipient(facts: &Facts) -> Option<String> {
    let addresses = addresses(facts);
    if addresses.is_empty() {
        return None;
    }
    foreign(facts, |link| coded(link.path()).any(|text| has_address(&text, &addresses)))
}

fn has_address(text: &str, addresses: &[String]) -> bool {
    addresses.iter().any(|address| {
        let (local, domain) = address.split_once('@').unwrap_or((address, ""));
        text.match_indices(local).take(20).any(|(at, _)| {
            let rest = &text[at + local.len()..];
            let rest = rest.strip_prefix('@').or_else(|| rest.strip_prefix("%40"));
            !local.is_empty() && rest.is_some_and(|rest| rest.starts_with(domain))
        })
    })
}

/// What runs of letters and digits in a link say when they are decoded, in lower case.
fn coded(text: &str) -> impl Iterator<Item = String> + '_ {
    let runs = text.split(|letter: char| !letter.is_ascii_alphanumeric() && !matches!(letter, '+' | '-' | '_'));
    runs.filter(|run| run.len() >= CODED_MIN).take(20).flat_map(|run| {
        let base64 = redirects::base64(run).map(|text| text.to_lowercase());
        [base64, from_hexadecimal(run)].into_iter().flatten()
    })
}

fn from_hexadecimal(run: &str) -> Option<String> {
    let digits: Option<Vec<u32>> = run.chars().map(|letter| letter.to_digit(16)).collect();
    let bytes = digits?.chunks_exact(2).map(|two| (two[0] * 16 + two[1]) as u8).collect();
    String::from_utf8(bytes).ok().map(|text| text.to_lowercase())
}
