//! What the reader is told about a link, and where it leads instead.

use std::collections::HashSet;

use super::{anchors, author_organisation, clicks, registered_label};
use crate::spam::checks::brands;
use crate::spam::facts::{Facts, Link, Place, organisation, redirects};
use crate::spam::text::{Folded, evidence};

/// Mailing services that count clicks, by what was registered, in rising order. Not whom to trust: spammers are their customers too.
const COUNTERS: [&str; 91] = [
    "acemlna.com",
    "acemlnb.com",
    "acemlnc.com",
    "activehosted.com",
    "aweber.com",
    "awstrack.me",
    "beehiiv.com",
    "benchmarkurl.com",
    "bmetrack.com",
    "brevo.com",
    "campaign-archive.com",
    "cleverreach.com",
    "clickdimensions.com",
    "clickup-mail.com",
    "cmail19.com",
    "cmail20.com",
    "constantcontact.com",
    "convertkit-mail.com",
    "convertkit-mail2.com",
    "createsend.com",
    "createsend1.com",
    "customer.io",
    "customeriomail.com",
    "dotdigital-pages.com",
    "dripemail2.com",
    "email-od.com",
    "emailprotection.link",
    "emarsys.net",
    "emlnk.com",
    "emlnk9.com",
    "en25.com",
    "eulerian.net",
    "exacttarget.com",
    "exct.net",
    "getresponse.com",
    "hs-sites.com",
    "hubspotemail.net",
    "hubspotlinks.com",
    "icptrack.com",
    "infusion-links.com",
    "infusionsoft.com",
    "intercom-clicks.com",
    "intercom-mail.com",
    "inxmail.com",
    "kajabimail.net",
    "keap.com",
    "klaviyomail.com",
    "klclick.com",
    "klclick1.com",
    "klclick2.com",
    "klclick3.com",
    "list-manage.com",
    "list-manage1.com",
    "mailchimp.com",
    "mailcontrol.com",
    "mailerlite.com",
    "mailerlite.io",
    "mailgun.org",
    "mailjet.com",
    "mailpoet.com",
    "mandrillapp.com",
    "maropost.com",
    "mjt.lu",
    "mkt-mail.com",
    "mktoweb.com",
    "mlsend.com",
    "mlsend2.com",
    "moosend.com",
    "newsletter2go.com",
    "omnisend.com",
    "omnivery.com",
    "ontraport.com",
    "pardot.com",
    "postmarkapp.com",
    "pstmrk.it",
    "rapidmail.de",
    "rs6.net",
    "rsgsv.net",
    "sailthru.com",
    "sendgrid.net",
    "sendibm1.com",
    "sendibm2.com",
    "sendibm3.com",
    "sendibt1.com",
    "sendibt2.com",
    "sendibt3.com",
    "sendinblue.com",
    "sendlane.com",
    "sg-links.com",
    "sparkpostmail.com",
    "substack.com",
];

/// An honest collection of links, a press review for example, has fewer.
const ORGANISATIONS_MAX: usize = 40;

pub(in crate::spam::checks) fn link_shows_other_host(facts: &Facts) -> Option<String> {
    let author = author_organisation(facts);
    let misleads = |link: &&Link| {
        let Some(shown) = shown_host(&link.shown) else { return false };
        let (shown, leads) = (organisation(&shown), organisation(&link.host));
        // The author's own address shown over a counting link, or any over the author's or a mailing service's counter: that is
        // how newsletters work. Counters and mail filters may say where they lead on; then that is what counts.
        let honest = link.host.is_empty() || shown == leads || shown == author || leads == author;
        match link.target() {
            _ if honest => false,
            Some(inner) => organisation(&inner.host) != shown && second_target(&inner) != shown,
            None => !is_click_counter(&link.host),
        }
    };
    let link = anchors(facts).find(misleads)?;
    Some(format!("{} → {}", link.shown, link.host))
}

fn second_target(inner: &Link) -> String {
    inner.target().map_or_else(String::new, |second| organisation(&second.host).to_owned())
}

/// The host in a text that is a link to the eye: `https://…` or `www.…`.
fn shown_host(shown: &str) -> Option<String> {
    let looks = ["http://", "https://", "www."]
        .iter()
        .any(|start| shown.get(..start.len()).is_some_and(|s| s.eq_ignore_ascii_case(start)));
    let host = Link::read(Place::Text, shown, "").filter(|_| looks && !shown.contains(' '))?.host;
    (host.contains('.') && host.is_ascii()).then_some(host)
}

/// Does this host belong to one of them?
pub(super) fn is_click_counter(host: &str) -> bool {
    COUNTERS.binary_search(&organisation(host)).is_ok()
}

/// A brand and a word of access in the path, at somebody else's host: `/paypal/login`.
pub(in crate::spam::checks) fn link_brand_path(facts: &Facts) -> Option<String> {
    const WORDS: [&str; 16] = [
        "login",
        "signin",
        "sign-in",
        "logon",
        "verify",
        "verification",
        "secure",
        "account",
        "update",
        "confirm",
        "wallet",
        "auth",
        "password",
        "webmail",
        "customer",
        "billing",
    ];
    clicks(facts).find_map(|link| {
        let path = link.path().split(['?', '#']).next().unwrap_or_default();
        let words = Folded::of(&path.replace(['/', '-', '_', '.'], " ").to_lowercase()).text;
        let brand = brands::named_in(&words).filter(|brand| !brand.owns(&link.host))?;
        let access = words.split_whitespace().any(|word| WORDS.contains(&word));
        let own = organisation(&link.host) == author_organisation(facts);
        (access && !own).then(|| format!("{} in {}", brand.name(), evidence(&link.url)))
    })
}

/// A redirector that everybody trusts, used to lead to somebody else.
pub(in crate::spam::checks) fn link_open_redirect(facts: &Facts) -> Option<String> {
    clicks(facts).find_map(|link| {
        let target = Some(link).filter(|link| redirects::is_trusted_redirector(&link.host, &link.url))?.target()?;
        let other = organisation(&target.host) != organisation(&link.host);
        (other && organisation(&target.host) != author_organisation(facts)).then(|| format!("{} → {}", link.host, target.host))
    })
}

/// None of the links leads to the author.
pub(in crate::spam::checks) fn link_never_to_author(facts: &Facts) -> Option<String> {
    let author = registered_label(facts.author()?.domain());
    let free = facts.author().is_some_and(|author| super::super::is_freemail(author.domain()));
    let hosts = || clicks(facts).map(|link| link.host.as_str()).filter(|host| !host.is_empty());
    let own = hosts().any(|host| registered_label(host) == author || is_click_counter(host));
    let first = hosts().next()?;
    (!free && !author.is_empty() && !own).then(|| first.to_owned())
}

/// Whatever is clicked leads to the same page.
pub(in crate::spam::checks) fn link_all_the_same(facts: &Facts) -> Option<String> {
    let first = anchors(facts).next()?;
    let same = facts.links.clickable().filter(|link| link.place != Place::Inner).all(|link| link.url == first.url);
    (same && anchors(facts).count() >= 4).then(|| evidence(&first.url))
}

/// Links to more organisations than a reader could want, mail of lists apart in the rule.
pub(in crate::spam::checks) fn link_many_organisations(facts: &Facts) -> Option<String> {
    let hosts: HashSet<&str> = clicks(facts).map(|link| organisation(&link.host)).filter(|host| !host.is_empty()).collect();
    (hosts.len() > ORGANISATIONS_MAX).then(|| hosts.len().to_string())
}

/// The only link is in a picture, where a telephone finds it and a filter does not.
pub(in crate::spam::checks) fn link_only_in_code(facts: &Facts) -> Option<String> {
    let code = link_in_code(facts)?;
    let from_code = |link: &Link| matches!(link.place, Place::Qr | Place::Inner);
    clicks(facts).all(|link| from_code(link) || link.host.is_empty()).then_some(code)
}

pub(in crate::spam::checks) fn link_in_code(facts: &Facts) -> Option<String> {
    let mut codes = facts.links.all.iter().filter(|link| link.place == Place::Qr && !link.host.is_empty());
    codes.find(|link| organisation(&link.host) != author_organisation(facts)).map(|link| evidence(&link.url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailing_services_are_sorted_and_found() {
        assert!(COUNTERS.is_sorted());
        assert!(is_click_counter("u7.ct.sendgrid.net") && !is_click_counter("sendgrid.net.example"));
    }
}
