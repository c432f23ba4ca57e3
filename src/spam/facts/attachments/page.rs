//! Web pages and SVG images that are attached: what they do when they are opened from a disk, where no filter sees them.
//!
//! Signs are words in the source; a script is not run and nothing of it is decoded.

use super::bytes::has;
use super::kinds::{Kind, is_page};
use super::{Reader, Sign, extension};

/// So many base64 characters in a row are a file or a page, no identifier.
const ENCODED_MIN: usize = 1024;
/// With a script that decodes, fewer will do: an address to go to.
const DECODED_MIN: usize = 40;

impl Reader<'_> {
    pub(super) fn page(&mut self, path: &str, declared: &str, found: Kind, bytes: &[u8]) {
        let extension = extension(path);
        let image = found == Kind::Svg || extension == "svg" || declared == "image/svg+xml";
        let page = found == Kind::Page || is_page(extension) || declared == "text/html";
        if !image && !page {
            return;
        }
        let page = text(bytes);
        let script = has(&page, b"<script") || has(&page, b"javascript:");
        let handler = has(&page, b"onload=") || has(&page, b"onerror=");
        if image {
            self.sign_if(script || handler || has(&page, b"<foreignobject"), Sign::ActiveImage, path);
        }
        let refresh =
            has(&page, b"http-equiv=\"refresh") || has(&page, b"http-equiv=refresh") || has(&page, b"http-equiv='refresh");
        let form = has(&page, b"<form");
        self.sign_if(script || handler || form || refresh, Sign::ActivePage, path);
        let runs = script || handler;
        self.sign_if(runs && smuggles(&page), Sign::Smuggling, path);
        let password = [&b"type=\"password\""[..], b"type=password", b"type='password'"].iter().any(|input| has(&page, input));
        self.sign_if(password && (form || runs), Sign::PasswordPage, path);
        let leads = refresh && has(&page, b"http") || runs && page.len() < 16 << 10 && leads_elsewhere(&page);
        self.sign_if(leads, Sign::Redirect, path);
    }
}

/// In lower case; UTF-16, which browsers read by its mark, as bytes.
fn text(bytes: &[u8]) -> Vec<u8> {
    if let Some(wide) = bytes.strip_prefix(b"\xff\xfe") {
        return super::bytes::utf16(wide).to_ascii_lowercase().into_bytes();
    }
    bytes.to_ascii_lowercase()
}

/// A file or page made out of the page itself, so that no filter on the way sees it.
fn smuggles(page: &[u8]) -> bool {
    let any = |words: &[&[u8]]| words.iter().any(|word| has(page, word));
    let builds = any(&[b"new blob(", b"new file("]) && any(&[b"createobjecturl", b"filereader"]);
    let saves = any(&[b"mssaveoropenblob", b"mssaveblob"]);
    let hands_over = any(&[b".download", b"download=", b"'download'", b"\"download\"", b".click(", b"location"]);
    let encoded = longest_encoded(page);
    let decodes = any(&[b"atob(", b"unescape(", b"fromcharcode", b"decodeuricomponent(", b"parseint("]);
    let writes = any(&[b"document.write(", b"eval(", b".innerhtml", b"outerhtml", b"location", b"new function("]);
    saves
        || builds && (hands_over || encoded >= ENCODED_MIN)
        || decodes && encoded >= ENCODED_MIN
        || decodes && writes && encoded >= DECODED_MIN && any(&[b"atob(", b"write(unescape(", b"eval(unescape("])
        || any(&[b"document.write(unescape(", b"document.write(atob(", b"eval(atob(", b"eval(unescape("])
        || has(page, b"data:application/") && any(&[b"download", b".click("])
}

/// The longest run of base64 or percent-encoding. Source of images is taken out of account: `data:image/…;base64,`.
fn longest_encoded(page: &[u8]) -> usize {
    const IMAGE: &[u8] = b"data:";
    let mut longest = 0;
    let mut run = 0;
    for (at, byte) in page.iter().chain([&0]).enumerate() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'%' | b'\\') {
            run += 1;
            continue;
        }
        if run > longest {
            let before = &page[at - run..at];
            let lead = &page[(at - run).saturating_sub(40)..at - run];
            let embedded = has(lead, IMAGE) || before.starts_with(b"//") || before.starts_with(b"http");
            longest = if embedded { longest } else { run };
        }
        run = 0;
    }
    longest
}

/// A script that sends the reader on.
fn leads_elsewhere(page: &[u8]) -> bool {
    let places = [
        &b"location.href=\"http"[..],
        b"location.href='http",
        b"location=\"http",
        b"location='http",
        b"location.replace(",
        b"location.assign(",
    ];
    let tight: Vec<u8> = page.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    places.iter().any(|place| has(&tight, place))
}
