//! Checks of where links lead. Their rooms: what a host's name says ([`hosts`]), what kind of place it is ([`places`]), what the
//! reader is told ([`shown`]), and whom the link knows ([`recipients`]).

mod hosts;
mod places;
mod recipients;
mod shown;

use std::net::Ipv4Addr;

use super::lookalike;
use crate::spam::facts::{Facts, Link, Place, organisation};
use crate::spam::text::{Folded, evidence};

pub(super) use hosts::*;
pub(super) use places::*;
pub(super) use recipients::*;
pub(super) use shown::*;

pub(super) fn link_to_address(facts: &Facts) -> Option<String> {
    clickable(facts, |link| link.leads_to_address() && !is_inner(&link.host))
}

/// Within somebody's own network: colleagues and boxes at home write so.
fn is_inner(host: &str) -> bool {
    host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_private() || address.is_loopback() || address.is_link_local())
}

pub(super) fn link_odd_port(facts: &Facts) -> Option<String> {
    clickable(facts, |link| link.port.is_some_and(|port| !matches!(port, 80 | 443 | 8000 | 8080 | 8443)) && !is_inner(&link.host))
}

pub(super) fn link_with_user(facts: &Facts) -> Option<String> {
    // `www.joe@example.com` in text is an address.
    clickable(facts, |link| link.user && link.url.contains(':') && !link.scheme_is("ftp"))
}

pub(super) fn link_lookalike_host(facts: &Facts) -> Option<String> {
    let lookalike = |link: &Link| {
        let unicode = idna::domain_to_unicode(&link.host).0;
        !unicode.is_ascii()
            && unicode.split('.').any(|label| {
                let folded = Folded::of(label);
                folded.mixed_words > 0 || folded.styled_letters > 0 || whole_label_imitates(label)
            })
    };
    clickable(facts, lookalike)
}

/// A label all in Cyrillic whose letters all have Latin twins: `раура` reads as "paypa" under any Latin ending.
fn whole_label_imitates(label: &str) -> bool {
    const TWINS: &str = "асеорхуіјѕԁһԛѡѵ";
    label.chars().count() >= 3 && label.chars().all(|letter| TWINS.contains(letter))
}

pub(super) fn link_brand_host(facts: &Facts) -> Option<String> {
    let mut strangers = clicks(facts).filter(|link| link.host.contains('.') && !places::names_customers(&link.host));
    strangers.find_map(|link| lookalike::imitates_brand(&link.host))
}

/// Like the recipients' own domain. Their own names at a provider of theirs (`customer.sharepoint.example`) are no imitation.
pub(super) fn link_own_lookalike(facts: &Facts) -> Option<String> {
    let own = lookalike::Own::of(facts);
    clicks(facts).find_map(|link| lookalike::imitates_own(organisation(&link.host), &own))
}

pub(super) fn link_data(facts: &Facts) -> Option<String> {
    clickable(facts, |link| link.scheme_is("data"))
}

/// A link that runs something instead of leading anywhere, or that opens a file of the reader's own network.
pub(super) fn link_script(facts: &Facts) -> Option<String> {
    let idle = |link: &Link| link.url.to_ascii_lowercase().starts_with("javascript:void(");
    clickable(facts, |link| ["javascript", "vbscript", "file"].iter().any(|scheme| link.scheme_is(scheme)) && !idle(link))
}

pub(super) fn link_alone(facts: &Facts) -> Option<String> {
    let written = || clicks(facts).filter(|link| link.place != Place::Inner);
    let first = written().next()?;
    let few = written().count() <= 3 && facts.mime.attachments.is_empty();
    (few && facts.html.parts > 0 && facts.text_letters < 150).then(|| first.host.clone())
}

fn clicks(facts: &Facts) -> impl Iterator<Item = &Link> {
    facts.links.clickable()
}

fn clickable(facts: &Facts, is: impl Fn(&Link) -> bool) -> Option<String> {
    clicks(facts).find(|link| is(link)).map(|link| evidence(&link.url))
}

fn anchors(facts: &Facts) -> impl Iterator<Item = &Link> {
    facts.links.all.iter().filter(|link| link.place == Place::Anchor)
}

/// What the author's domain was registered as; empty when there is none.
fn author_organisation(facts: &Facts) -> &str {
    facts.author().map_or("", |author| organisation(author.domain()))
}

/// The organisation's name without its ending.
fn registered_label(host: &str) -> &str {
    organisation(host).split('.').next().unwrap_or_default()
}
