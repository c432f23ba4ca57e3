//! Links: where they lead and what they show.
//!
//! Read as browsers read them (WHATWG URL): tabs and line ends inside vanish, a backslash is a slash, what stands before
//! an @ is no host. Nothing is looked up or fetched; a link that says where it leads on is followed as far as it says
//! ([`redirects`]).

pub(in crate::spam) mod hosting;
pub(in crate::spam) mod redirects;
pub(in crate::spam) mod shorteners;

use std::collections::HashSet;
use std::net::IpAddr;

use super::attachments::Attachment;
use crate::spam::text::{evidence, prefix};

/// Links kept; all are counted.
const LINKS_MAX: usize = 500;
/// Links within links.
const INNER_MAX: usize = 200;
/// Hosts of a message that are worth asking about.
const HOSTS_MAX: usize = 100;
/// Of one link, in bytes.
const URL_MAX: usize = 2 << 10;

/// Where in the message a link stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::spam) enum Place {
    Anchor,
    Form,
    Image,
    Frame,
    /// In text, where clients make it clickable.
    Text,
    /// Within another link, which leads on to it.
    Inner,
    /// In a QR code.
    Qr,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::spam) struct Link {
    pub place: Place,
    pub url: String,
    /// In lower case, without brackets; empty for `data:` and `javascript:`.
    pub host: String,
    pub port: Option<u16>,
    /// `https://name@host/`: the name is for the eye only.
    pub user: bool,
    /// What an anchor shows.
    pub shown: String,
    /// Whose place it is, where that is a service at which anybody can put something up.
    pub hosting: Option<hosting::Hosting>,
}

impl Link {
    /// `None` for what leads to no server and runs nothing: `mailto:`, `cid:`, `#below`.
    pub fn read(place: Place, url: &str, shown: &str) -> Option<Link> {
        let url: String = prefix(url.trim(), URL_MAX).chars().filter(|letter| !letter.is_control()).collect();
        let (scheme, rest) = match url.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            _ if url.starts_with("//") => ("https".to_owned(), &url[..]),
            _ if url.get(..4).is_some_and(|www| www.eq_ignore_ascii_case("www.")) => ("http".to_owned(), &url[..]),
            _ => return None,
        };
        let (host, port, user) = match scheme.as_str() {
            "http" | "https" | "ftp" => authority(rest),
            "data" | "javascript" | "vbscript" | "file" => (String::new(), None, false),
            _ => return None,
        };
        let mut link = Link { place, host, port, user, shown: evidence(shown), url, hosting: None };
        link.hosting = hosting::hosting(&link.host, link.path());
        Some(link)
    }

    pub fn scheme_is(&self, scheme: &str) -> bool {
        self.url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            && self.url[scheme.len()..].starts_with(':')
    }

    /// The host is an address, also written as one number or in hexadecimal.
    pub fn leads_to_address(&self) -> bool {
        let odd = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) || text.starts_with("0x");
        self.host.parse::<IpAddr>().is_ok() || odd(&self.host) || !self.host.is_empty() && self.host.split('.').all(odd)
    }

    /// Would a reader follow it?
    pub fn is_clickable(&self) -> bool {
        matches!(self.place, Place::Anchor | Place::Form | Place::Text | Place::Inner | Place::Qr)
    }

    /// Where it leads on, when it says so.
    pub fn target(&self) -> Option<Link> {
        if self.host.is_empty() {
            return None;
        }
        Link::read(Place::Inner, &redirects::target(&self.url, &self.host)?, "").filter(|inner| !inner.host.is_empty())
    }

    /// The host is written with percent signs, for the browser alone to read.
    pub fn host_is_encoded(&self) -> bool {
        self.url.contains('%') && redirects::host_is_encoded(&self.url)
    }

    /// Behind the host, with the first slash.
    pub fn path(&self) -> &str {
        let rest = self.url.split_once("//").map_or(self.url.as_str(), |(_, rest)| rest);
        rest.find(['/', '?', '#']).map_or("", |at| &rest[at..])
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-'))
}

fn authority(rest: &str) -> (String, Option<u16>, bool) {
    let rest = rest.trim_start_matches(['/', '\\']);
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').map_or((false, authority), |(_, host)| (true, host));
    let (host, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port.parse().ok()),
        _ => (host, None),
    };
    // Browsers take these for dots, and decode the host.
    let host = host.replace(['\u{3002}', '\u{ff0e}', '\u{ff61}'], ".");
    let host = if host.contains('%') { redirects::percent_decoded(&host) } else { host };
    (host.trim_matches(['[', ']', '.', ' ']).to_lowercase(), port, user)
}

/// The part of a host that somebody registered, by the shape of names: `mail.shop.co.uk` → `shop.co.uk`. Good enough to
/// compare two hosts, and needs no list that grows old.
pub(in crate::spam) fn organisation(host: &str) -> &str {
    const SECOND_LEVEL: [&str; 13] = ["co", "com", "org", "net", "gov", "edu", "ac", "or", "ne", "go", "gob", "gouv", "nom"];
    let mut dots = host.rmatch_indices('.').map(|(at, _)| at);
    let (Some(last), second) = (dots.next(), dots.next()) else { return host };
    let Some(second) = second else { return host };
    let middle = &host[second + 1..last];
    let below_country = host.len() - last == 3 && SECOND_LEVEL.contains(&middle);
    let start = if below_country { dots.next().map_or(0, |dot| dot + 1) } else { second + 1 };
    &host[start..]
}

/// All links of a message, each once.
#[derive(Default)]
pub(in crate::spam) struct Links {
    pub all: Vec<Link>,
    /// Also those that were not kept.
    pub count: usize,
    /// There were more than are kept, repetitions not counted.
    pub overflowed: bool,
    seen: HashSet<String>,
}

impl Links {
    pub fn push(&mut self, link: Link) {
        self.count += 1;
        if self.overflowed || !self.seen.insert(format!("{} {}", link.url, link.shown)) {
            return;
        }
        if self.all.len() < LINKS_MAX {
            self.all.push(link);
        } else {
            self.overflowed = true;
        }
    }

    /// Takes the links that stand in a text as text.
    pub fn read_text(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = next_link(rest) {
            let end = rest[at..].find(is_delimiter).map_or(rest.len(), |length| at + length);
            let url = rest[at..end].trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', '*', '_']);
            if let Some(link) = Link::read(Place::Text, url, "") {
                self.push(link);
            }
            rest = &rest[end.max(at + 1)..];
        }
    }

    /// Takes the links in attached documents, and those in QR codes.
    pub fn read_attachments(&mut self, attachments: &[Attachment]) {
        for url in attachments.iter().flat_map(|attachment| &attachment.urls) {
            if let Some(link) = Link::read(Place::Text, url, "") {
                self.push(link);
            }
        }
        for text in attachments.iter().flat_map(|attachment| &attachment.qr_texts) {
            if let Some(link) = Link::read(Place::Qr, text, "") {
                self.push(link);
            }
        }
    }

    /// Adds to what links lead on, twice at most.
    pub fn follow(&mut self) {
        let (mut from, max) = (0, self.all.len() + INNER_MAX);
        for _ in 0..2 {
            let to = self.all.len();
            let inner: Vec<Link> =
                self.all[from..to].iter().filter(|link| link.is_clickable()).filter_map(Link::target).collect();
            for link in inner {
                if self.all.len() < max && self.seen.insert(format!("{} ", link.url)) {
                    self.all.push(link);
                }
            }
            from = to;
        }
    }

    /// Hosts, each once: those of links to click on first.
    pub fn hosts(&self) -> Vec<String> {
        let order = |link: &Link| match link.place {
            Place::Qr | Place::Form => 0,
            Place::Anchor | Place::Text | Place::Inner => 1,
            Place::Frame => 2,
            Place::Image => 3,
        };
        let mut seen = HashSet::new();
        let mut links: Vec<&Link> =
            self.all.iter().filter(|link| link.host.contains('.') && seen.insert(link.host.as_str())).collect();
        links.sort_by_key(|link| order(link));
        links.into_iter().take(HOSTS_MAX).map(|link| link.host.clone()).collect()
    }

    pub fn clickable(&self) -> impl Iterator<Item = &Link> {
        self.all.iter().filter(|link| link.is_clickable())
    }
}

/// Where the next `http://`, `https://` or `www.` begins.
fn next_link(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_start = |at: usize| {
        let rest = &bytes[at..];
        let word_before = at > 0 && bytes[at - 1].is_ascii_alphanumeric();
        let starts = |what: &[u8]| rest.len() > what.len() && rest[..what.len()].eq_ignore_ascii_case(what);
        !word_before && (starts(b"http://") || starts(b"https://") || starts(b"www."))
    };
    let mut from = 0;
    loop {
        let upper = |byte: u8| byte == b'H' || byte == b'W';
        let at = from + bytes[from..].iter().position(|byte| matches!(byte, b'h' | b'w') || upper(*byte))?;
        if is_start(at) {
            return Some(at);
        }
        from = at + 1;
    }
}

fn is_delimiter(letter: char) -> bool {
    letter.is_whitespace()
        || letter.is_control()
        || matches!(letter, '<' | '>' | '"' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '「' | '」' | '。' | '、' | '）')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn leads(url: &str, host: &str, port: Option<u16>, user: bool) {
        let link = Link::read(Place::Anchor, url, "").unwrap();
        assert_eq!((link.host.as_str(), link.port, link.user), (host, port, user), "{url}");
    }

    #[test]
    fn hosts_are_read_as_browsers_read_them() {
        leads("https://Example.COM/path?a=b", "example.com", None, false);
        leads("http://example.com:8080", "example.com", Some(8080), false);
        leads("https://bank.example@evil.example/", "evil.example", None, true);
        leads("https:\\\\evil.example\\bank.example/", "evil.example", None, false);
        leads("ht\ntps://evil.example#@bank.example", "evil.example", None, false);
        leads("//cdn.example/x", "cdn.example", None, false);
        leads("http://[2001:db8::1]:81/", "2001:db8::1", Some(81), false);
        leads("javascript:alert(1)", "", None, false);
        assert_eq!(Link::read(Place::Anchor, "mailto:a@b.example", ""), None);
        assert_eq!(Link::read(Place::Anchor, "#top", ""), None);
    }

    #[test]
    fn addresses_in_any_spelling_are_addresses() {
        let is_address = |url: &str| Link::read(Place::Anchor, url, "").unwrap().leads_to_address();
        for url in ["http://192.0.2.1/", "http://3221225985/", "http://0xc0000201/", "http://0xc0.0.2.1/", "http://[::1]/"] {
            assert!(is_address(url), "{url}");
        }
        assert!(!is_address("http://1and1.example/"));
        assert!(!is_address("javascript:1"));
    }

    #[test]
    fn organisations_are_cut_by_shape() {
        for (host, expected) in [
            ("www.mail.shop.example", "shop.example"),
            ("mail.shop.co.uk", "shop.co.uk"),
            ("shop.co.uk", "shop.co.uk"),
            ("co.uk", "co.uk"),
            ("localhost", "localhost"),
            ("", ""),
            ("a.com.de", "a.com.de"),
            ("www.x.de", "x.de"),
        ] {
            assert_eq!(organisation(host), expected);
        }
    }

    #[test]
    fn links_in_text_end_where_clients_end_them() {
        let mut links = Links::default();
        links.read_text(
            "See https://a.example/x?y=1, (www.b.example) or HTTP://C.example. Again https://a.example/x?y=1, nowww.no",
        );
        let urls: Vec<_> = links.all.iter().map(|link| link.url.as_str()).collect();
        assert_eq!(urls, ["https://a.example/x?y=1", "www.b.example", "HTTP://C.example"]);
        assert_eq!(links.count, 4);
    }
}
