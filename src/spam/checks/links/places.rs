//! What kind of place a link leads to: shorteners, free pages, files, forms, tunnels, pictures of strangers.

use super::{author_organisation, clickable, clicks};
use crate::spam::facts::hosting::Hosting;
use crate::spam::facts::{Facts, Link, Place, organisation, shorteners};
use crate::spam::text::evidence;

pub(in crate::spam::checks) fn link_shortener(facts: &Facts) -> Option<String> {
    let own = author_organisation(facts);
    clickable(facts, |link| shorteners::is_shortener(&link.host) && organisation(&link.host) != own)
}

pub(in crate::spam::checks) fn link_free_hosting(facts: &Facts) -> Option<String> {
    leads_to(facts, Hosting::Pages).or_else(|| leads_to(facts, Hosting::Files))
}

/// A page that lies as a file in storage: nobody honest publishes so.
pub(in crate::spam::checks) fn link_stored_page(facts: &Facts) -> Option<String> {
    let is_page = |link: &Link| {
        let path = link.path().split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
        [".html", ".htm", ".shtml", ".xhtml", ".svg"].iter().any(|end| path.ends_with(end))
    };
    clickable(facts, |link| link.hosting == Some(Hosting::Files) && is_page(link))
}

pub(in crate::spam::checks) fn link_free_form(facts: &Facts) -> Option<String> {
    leads_to(facts, Hosting::Forms)
}

pub(in crate::spam::checks) fn link_unstoppable(facts: &Facts) -> Option<String> {
    leads_to(facts, Hosting::Unstoppable)
}

pub(in crate::spam::checks) fn link_tunnel(facts: &Facts) -> Option<String> {
    leads_to(facts, Hosting::Tunnel)
}

/// A picture that lies where anybody drops pictures; companies have a host for theirs.
pub(in crate::spam::checks) fn image_at_strangers(facts: &Facts) -> Option<String> {
    let mut images = facts.links.all.iter().filter(|link| link.place == Place::Image);
    images.find(|link| link.hosting == Some(Hosting::Images)).map(|link| evidence(&link.url))
}

/// A picture in a bucket of files, under no name.
pub(in crate::spam::checks) fn image_in_bucket(facts: &Facts) -> Option<String> {
    let own = author_organisation(facts);
    let mut images = facts.links.all.iter().filter(|link| link.place == Place::Image);
    let bucket = |link: &&Link| {
        link.hosting == Some(Hosting::Files) && !link.host.ends_with("cloudfront.net") && organisation(&link.host) != own
    };
    images.find(bucket).map(|link| evidence(&link.url))
}

/// Services whose customers have hosts with their own names, and do not get others' by asking: no imitation.
pub(super) fn names_customers(host: &str) -> bool {
    const SERVICES: [&str; 55] = [
        "akamaihd.net",
        "akamaized.net",
        "app.link",
        "atlassian.net",
        "awsapps.com",
        "azureedge.net",
        "bynder.com",
        "discourse.group",
        "edgekey.net",
        "edgesuite.net",
        "eventbrite.com",
        "exacttarget.com",
        "fastly.net",
        "force.com",
        "freshdesk.com",
        "frontify.com",
        "gitlab.io",
        "greenhouse.io",
        "helpscoutdocs.com",
        "hubspotlinks.com",
        "icims.com",
        "intercom.help",
        "lever.co",
        "list-manage.com",
        "medallia.com",
        "medallia.eu",
        "media-amazon.com",
        "mktoweb.com",
        "myshopify.com",
        "myworkdayjobs.com",
        "okta.com",
        "onelink.me",
        "oraclecloud.com",
        "personio.com",
        "personio.de",
        "qualtrics.com",
        "readthedocs.io",
        "recruitee.com",
        "salesforce-sites.com",
        "salesforce.com",
        "service-now.com",
        "sharepoint.com",
        "slack.com",
        "smartrecruiters.com",
        "statuspage.io",
        "successfactors.com",
        "successfactors.eu",
        "surveymonkey.com",
        "taleo.net",
        "teamviewer.com",
        "trustpilot.com",
        "uservoice.com",
        "webex.com",
        "zendesk.com",
        "zoom.us",
    ];
    SERVICES.binary_search(&organisation(host)).is_ok()
}

/// A program behind a click, by its name. Mail with a thread or from a list is apart in the rules: there people speak of programs.
pub(in crate::spam::checks) fn link_to_program(facts: &Facts) -> Option<String> {
    const PROGRAMS: [&str; 24] = [
        "apk", "appx", "bat", "cmd", "cpl", "dmg", "exe", "hta", "img", "iso", "jar", "js", "jse", "lnk", "msi", "msix", "pif",
        "ps1", "scr", "vbe", "vbs", "vhd", "wsf", "xll",
    ];
    clickable(facts, |link| PROGRAMS.binary_search(&file_extension(link).as_str()).is_ok())
}

/// A packed file behind a click, and not at the author's.
pub(in crate::spam::checks) fn link_to_archive(facts: &Facts) -> Option<String> {
    const ARCHIVES: [&str; 8] = ["7z", "ace", "arj", "cab", "gz", "r00", "rar", "zip"];
    let own = author_organisation(facts);
    clickable(facts, |link| ARCHIVES.binary_search(&file_extension(link).as_str()).is_ok() && organisation(&link.host) != own)
}

/// Of the file that a link names, in lower case; empty for a page.
fn file_extension(link: &Link) -> String {
    let path = link.path().split(['?', '#']).next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
    if extension.len() <= 4 { extension.to_ascii_lowercase() } else { String::new() }
}

fn leads_to(facts: &Facts, kind: Hosting) -> Option<String> {
    let own = author_organisation(facts);
    let found = clicks(facts).find(|link| link.hosting == Some(kind) && organisation(&link.host) != own);
    found.map(|link| evidence(&link.url))
}
