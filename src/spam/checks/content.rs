//! Checks of text, HTML and MIME structure.

use crate::spam::facts::{Facts, Flaw, organisation};

/// Fewer letters than this are hardly a word.
const HARDLY_A_WORD: usize = 80;
/// A newsletter's preview line, which is hidden, stays below this.
const PREVIEW_LETTERS: usize = 400;

pub(super) fn html_without_text(facts: &Facts) -> Option<String> {
    let kind = facts.headers.named("Content-Type").next()?.value.to_ascii_lowercase();
    (kind.starts_with("text/html") && facts.html.parts > 0).then(String::new)
}

pub(super) fn image_instead_of_text(facts: &Facts) -> Option<String> {
    let images = facts.html.images + facts.mime.inline_images;
    // A picture from the family leads nowhere.
    let leads = facts.links.clickable().next().is_some();
    let hardly = leads && facts.html.images > 0 && facts.text_letters < HARDLY_A_WORD;
    hardly.then(|| format!("{images} images, {} letters", facts.text_letters))
}

pub(super) fn body_empty(facts: &Facts) -> Option<String> {
    let images = facts.html.images + facts.mime.inline_images;
    (facts.text_letters == 0 && images == 0 && facts.mime.attachments.is_empty()).then(String::new)
}

pub(super) fn hidden_text(facts: &Facts) -> Option<String> {
    let hidden = facts.html.hidden_letters;
    (hidden > PREVIEW_LETTERS && hidden * 4 > facts.text_letters).then(|| format!("{hidden} hidden letters"))
}

/// Links, and all of them to where documents are shared, or to the pages of whoever runs that.
pub(super) fn links_at_sharing_service(facts: &Facts) -> Option<String> {
    const SERVICES: [&str; 21] = [
        "sharepoint.com",
        "onedrive.com",
        "live.com",
        "1drv.ms",
        "office.com",
        "microsoft.com",
        "aka.ms",
        "google.com",
        "dropbox.com",
        "dropboxusercontent.com",
        "docusign.net",
        "docusign.com",
        "wetransfer.com",
        "we.tl",
        "box.com",
        "adobe.com",
        "adobesign.com",
        "icloud.com",
        "egnyte.com",
        "sharefile.com",
        "nextcloud.com",
    ];
    // Anybody's page on a service's own domain; those with forms are no document.
    const FORMS: [&str; 4] = ["forms.office.com", "sites.google.com", "script.google.com", "translate.google.com"];
    let shared = |host: &str| SERVICES.contains(&organisation(host)) && !FORMS.contains(&host);
    let mut links = facts.links.clickable().peekable();
    let first = links.peek().map(|link| link.host.clone())?;
    links.all(|link| shared(&link.host)).then_some(first)
}

pub(super) fn password_form(facts: &Facts) -> Option<String> {
    (facts.html.password_inputs > 0).then(String::new)
}

pub(super) fn form(facts: &Facts) -> Option<String> {
    (facts.html.forms > 0 && facts.html.password_inputs == 0).then(String::new)
}

pub(super) fn script(facts: &Facts) -> Option<String> {
    (facts.html.scripts + facts.html.frames > 0).then(|| format!("{} scripts, {} frames", facts.html.scripts, facts.html.frames))
}

pub(super) fn mime_too_deep(facts: &Facts) -> Option<String> {
    let beyond = facts.mime.has(Flaw::TooDeep) || facts.mime.has(Flaw::TooManyParts);
    beyond.then(|| format!("{} parts, {} levels", facts.mime.parts, facts.mime.depth))
}

/// More than is looked at, so that something may stand behind it that nobody judged. Attachments do not count.
pub(super) fn beyond_bounds(facts: &Facts) -> Option<String> {
    let text = facts.folded.cut || facts.mime.has(Flaw::LongText);
    let beyond = [(text, "text"), (facts.links.overflowed, "links"), (facts.headers.cut, "header")];
    let named: Vec<&str> = beyond.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
    (!named.is_empty()).then(|| named.join(", "))
}

pub(super) fn mime_without_boundary(facts: &Facts) -> Option<String> {
    facts.mime.has(Flaw::NoBoundary).then(String::new)
}

pub(super) fn mime_damaged_base64(facts: &Facts) -> Option<String> {
    facts.mime.has(Flaw::Base64Damaged).then(String::new)
}

pub(super) fn mime_contradictions(facts: &Facts) -> Option<String> {
    (facts.mime.has(Flaw::DuplicateFields) || facts.mime.has(Flaw::EncodedMultipart)).then(String::new)
}

pub(super) fn mime_version_missing(facts: &Facts) -> Option<String> {
    let kind = facts.headers.named("Content-Type").next()?.value.to_ascii_lowercase();
    let needs = kind.starts_with("multipart/") || kind.starts_with("text/html");
    (needs && !facts.headers.has("MIME-Version")).then_some(kind)
}

pub(super) fn invisible_letters(facts: &Facts) -> Option<String> {
    let count = facts.folded.invisible_in_words;
    (count >= 3).then(|| format!("{count} invisible characters"))
}

pub(super) fn mixed_alphabets(facts: &Facts) -> Option<String> {
    let count = facts.folded.mixed_words;
    (count >= 3).then(|| format!("{count} words"))
}

pub(super) fn styled_letters(facts: &Facts) -> Option<String> {
    let count = facts.folded.styled_letters;
    // Full-width Latin letters are ordinary in Japanese and Chinese text.
    let east_asian =
        || facts.folded.text.chars().any(|letter| matches!(letter, '\u{3040}'..='\u{30ff}' | '\u{4e00}'..='\u{9fff}'));
    (count >= 10 && !east_asian()).then(|| format!("{count} letters"))
}
