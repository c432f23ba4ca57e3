//! Checks of where links lead.

use super::brands;
use crate::spam::facts::{Facts, Link, Place, organisation};
use crate::spam::text::Folded;

pub(super) fn link_shows_other_host(facts: &Facts) -> Option<String> {
    let author = facts.author().map_or("", |author| organisation(author.domain()));
    let misleads = |link: &&Link| {
        let Some(shown) = shown_host(&link.shown) else { return false };
        let shown = organisation(&shown);
        // The author's own address shown over a counting link is how newsletters work.
        !link.host.is_empty() && shown != organisation(&link.host) && shown != author
    };
    let link = anchors(facts).find(misleads)?;
    Some(format!("{} → {}", link.shown, link.host))
}

/// The host in a text that is a link to the eye: `https://…` or `www.…`.
fn shown_host(shown: &str) -> Option<String> {
    let looks = ["http://", "https://", "www."]
        .iter()
        .any(|start| shown.get(..start.len()).is_some_and(|s| s.eq_ignore_ascii_case(start)));
    let host = Link::read(Place::Text, shown, "").filter(|_| looks && !shown.contains(' '))?.host;
    (host.contains('.') && host.is_ascii()).then_some(host)
}

pub(super) fn link_to_address(facts: &Facts) -> Option<String> {
    clickable(facts, Link::leads_to_address)
}

pub(super) fn link_odd_port(facts: &Facts) -> Option<String> {
    clickable(facts, |link| link.port.is_some_and(|port| !matches!(port, 80 | 443 | 8080 | 8443)))
}

pub(super) fn link_with_user(facts: &Facts) -> Option<String> {
    clickable(facts, |link| link.user && !link.scheme_is("ftp"))
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
    clickable(facts, |link| brands::imitated_by(&link.host).is_some())
}

pub(super) fn link_data(facts: &Facts) -> Option<String> {
    clickable(facts, |link| link.scheme_is("data"))
}

pub(super) fn link_shortener(facts: &Facts) -> Option<String> {
    const SHORTENERS: [&str; 32] = [
        "bit.ly",
        "tinyurl.com",
        "t.ly",
        "cutt.ly",
        "rb.gy",
        "is.gd",
        "v.gd",
        "ow.ly",
        "rebrand.ly",
        "shorturl.at",
        "tiny.cc",
        "goo.gl",
        "s.id",
        "t.co",
        "buff.ly",
        "bl.ink",
        "short.io",
        "shorte.st",
        "qrco.de",
        "lnkd.in",
        "urlz.fr",
        "x.co",
        "u.to",
        "kutt.it",
        "soo.gd",
        "clck.ru",
        "t.me",
        "wa.me",
        "bitly.com",
        "dub.sh",
        "tr.ee",
        "linktr.ee",
    ];
    clickable(facts, |link| SHORTENERS.contains(&link.host.trim_start_matches("www.")))
}

pub(super) fn link_free_hosting(facts: &Facts) -> Option<String> {
    const HOSTING: [&str; 37] = [
        "web.app",
        "firebaseapp.com",
        "workers.dev",
        "pages.dev",
        "r2.dev",
        "netlify.app",
        "vercel.app",
        "herokuapp.com",
        "glitch.me",
        "weebly.com",
        "wixsite.com",
        "blogspot.com",
        "000webhostapp.com",
        "godaddysites.com",
        "webflow.io",
        "cloudfront.net",
        "azurewebsites.net",
        "web.core.windows.net",
        "blob.core.windows.net",
        "appspot.com",
        "repl.co",
        "ipfs.io",
        "dweb.link",
        "ipfs.dweb.link",
        "github.io",
        "gitbook.io",
        "square.site",
        "strikingly.com",
        "yolasite.com",
        "duckdns.org",
        "ngrok.io",
        "trycloudflare.com",
        "forms.gle",
        "formstack.com",
        "jotform.com",
        "fleek.co",
        "run.app",
    ];
    const PATHS: [&str; 7] = [
        ".amazonaws.com/",
        "storage.googleapis.com",
        "sites.google.com",
        "docs.google.com/forms",
        "s3.amazonaws.com",
        "firebasestorage.googleapis.com",
        "storage.cloud.google.com",
    ];
    let hosted = |link: &Link| {
        let below = |own: &&str| link.host.strip_suffix(*own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        HOSTING.iter().any(below) || PATHS.iter().any(|path| link.url.contains(path))
    };
    clickable(facts, hosted)
}

/// The address itself, or in base64 as kits write it into the fragment. Unsubscribe links do it too.
pub(super) fn link_names_recipient(facts: &Facts) -> Option<String> {
    let door = facts.door.iter().flat_map(|door| door.recipients.iter().map(|(_, address)| address.as_str()));
    let to = facts.headers.to.iter().map(|to| to.address.as_str()).filter(|address| address.contains('@'));
    let addresses: Vec<String> =
        door.chain(to).take(10).flat_map(|address| [address.to_owned(), address.replace('@', "%40")]).collect();
    let names = |link: &Link| {
        let url = link.url.to_lowercase();
        !url.contains("unsub")
            && !url.contains("optout")
            && !url.contains("abmeld")
            && addresses.iter().any(|address| url.contains(address))
    };
    clickable(facts, names)
}

/// The page behind it fills in the address and asks for the password; a server never sees what stands behind the #.
pub(super) fn link_fragment_recipient(facts: &Facts) -> Option<String> {
    let recipients: Vec<(&str, String)> =
        facts.door.as_ref()?.recipients.iter().take(10).map(|(_, address)| (address.as_str(), base64(address))).collect();
    let carries = |link: &Link| {
        let fragment = link.url.split_once('#').map_or("", |(_, fragment)| fragment).to_lowercase().replace("%40", "@");
        recipients.iter().any(|(address, encoded)| fragment.contains(address) || link.url.contains(encoded))
    };
    clickable(facts, carries)
}

/// Without padding: what follows in the link decides about the last letters.
fn base64(text: &str) -> String {
    let encoder = mail_builder::encoders::base64::Base64Encoder::new();
    let encoded = encoder.encode(text.as_bytes()).unwrap_or_default();
    String::from_utf8(encoded).unwrap_or_default().trim_end_matches('=').to_owned()
}

pub(super) fn link_alone(facts: &Facts) -> Option<String> {
    let first = facts.links.clickable().next()?;
    let few = facts.links.clickable().count() <= 3 && facts.mime.attachments.is_empty();
    (few && facts.html.parts > 0 && facts.text_letters < 150).then(|| first.host.clone())
}

fn clickable(facts: &Facts, is: impl Fn(&Link) -> bool) -> Option<String> {
    facts.links.clickable().find(|link| is(link)).map(|link| link.url.clone())
}

fn anchors(facts: &Facts) -> impl Iterator<Item = &Link> {
    facts.links.all.iter().filter(|link| link.place == Place::Anchor)
}
