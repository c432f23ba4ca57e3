//! Where links lead that only lead on: redirectors, click counters that say their target, and the wrappers that mail filters put
//! around links.
//!
//! Only what the link itself says; nothing is fetched, so that a shortener or a counter with a number stays what it is. A link
//! that merely mentions another (to share it, to come back to it) is taken for a redirection too: its target is looked at, no more.

use super::{URL_MAX, authority};
use crate::spam::text::prefix;

/// Parameters looked at in one link.
const PARAMETERS_MAX: usize = 40;
/// Wrapped values are encoded this often at most.
const LAYERS_MAX: usize = 3;

/// The address to which a link leads on, if it says one.
pub(super) fn target(url: &str, host: &str) -> Option<String> {
    let (before, rest) = parts(url);
    wrapped(url, host, rest)
        .or_else(|| parameters(rest).find_map(|(_, value)| address_in(value)))
        .or_else(|| in_path(host, before))
        .or_else(|| translated(host))
        .filter(|target| target.len() > 10)
        .map(|target| prefix(&target, URL_MAX).to_owned())
}

/// Redirectors of hosts that everybody knows and trusts: used to hide behind their names.
pub(in crate::spam) fn is_trusted_redirector(host: &str, url: &str) -> bool {
    const BY_PATH: [(&str, &[&str]); 15] = [
        ("google", &["/url?", "/amp/", "/aclk?", "/local_url?", "/travel/clk"]),
        ("googleadservices", &["/pagead/aclk"]),
        ("doubleclick", &["/clk", "/ddm/", "/pcs/click", "/aclk"]),
        ("bing", &["/ck/a?", "/aclick?"]),
        ("youtube", &["/redirect?", "/attribution_link?"]),
        ("facebook", &["/l.php?", "/flx/warn"]),
        ("instagram", &["/?u="]),
        ("linkedin", &["/slink?", "/redir/", "/safety/go"]),
        ("yahoo", &["/ru="]),
        ("baidu", &["/link?"]),
        ("yandex", &["/redir", "/clck/"]),
        ("ampproject", &["/c/", "/v/"]),
        ("t-online", &["/redirect"]),
        ("medium", &["/r/?url="]),
        ("adobe", &["/r/?"]),
    ];
    let label = super::organisation(host).split('.').next().unwrap_or_default();
    host.ends_with(".translate.goog")
        || BY_PATH.iter().any(|(name, paths)| *name == label && paths.iter().any(|path| url.contains(path)))
}

/// Before the first `?`, and from there on, with the fragment.
fn parts(url: &str) -> (&str, &str) {
    let at = url.find(['?', '#']).unwrap_or(url.len());
    (&url[..at], &url[at..])
}

fn parameters(rest: &str) -> impl Iterator<Item = (&str, &str)> {
    rest.split(['?', '&', ';', '#']).filter_map(|pair| pair.split_once('=')).take(PARAMETERS_MAX)
}

/// A parameter that is an address: as it is, encoded once or more, or in base64.
fn address_in(value: &str) -> Option<String> {
    let mut value = value.to_owned();
    for _ in 0..LAYERS_MAX {
        if is_address(&value) {
            return Some(value);
        }
        let decoded = if value.contains('%') { percent_decoded(&value) } else { decoded_base64(&value)? };
        if decoded == value {
            return None;
        }
        value = decoded;
    }
    is_address(&value).then_some(value)
}

fn is_address(text: &str) -> bool {
    let starts = |start: &str| text.get(..start.len()).is_some_and(|begun| begun.eq_ignore_ascii_case(start));
    starts("http://") || starts("https://") || starts("http:\\\\") || starts("https:\\\\")
}

/// `aHR0c` is what every http address begins with in base64. One letter or two in front name the version, as bing does.
fn decoded_base64(value: &str) -> Option<String> {
    let at = value.find("aHR0c").filter(|at| *at <= 2)?;
    base64(&value[at..])
}

fn in_path(host: &str, before: &str) -> Option<String> {
    // Behind the scheme and the host of the link itself.
    let path = before.split_once("//").map_or(before, |(_, rest)| rest);
    let path = &path[path.find('/')?..];
    let decoded = if path.contains('%') { percent_decoded(path) } else { path.to_owned() };
    let lower = decoded.to_ascii_lowercase();
    let found = ["http:/", "https:/"].iter().filter_map(|start| lower.rfind(start)).max();
    if let Some(at) = found.filter(|at| decoded[..*at].ends_with(['/', '=', '*', ';', ',', '_'])) {
        return Some(decoded[at..].to_owned());
    }
    // Pages kept for fast display: /amp/s/host/path.
    let amp = host.starts_with("www.google.") || host.ends_with(".cdn.ampproject.org");
    let kept = ["/amp/s/", "/c/s/", "/v/s/"].iter().find_map(|start| decoded.strip_prefix(start)).filter(|_| amp)?;
    Some(format!("https://{kept}"))
}

/// `evil-example.translate.goog` shows `evil.example`.
fn translated(host: &str) -> Option<String> {
    let name = host.strip_suffix(".translate.goog")?;
    let name = name.replace("--", "\0").replace('-', ".").replace('\0', "-");
    Some(format!("https://{name}/"))
}

/// The wrappers of mail filters.
fn wrapped(url: &str, host: &str, rest: &str) -> Option<String> {
    let value = |name: &str| parameters(rest).find(|(key, _)| *key == name).map(|(_, value)| value);
    if host.ends_with("urldefense.proofpoint.com") && url.contains("/v2/") {
        return Some(percent_decoded(&value("u")?.replace('-', "%").replace('_', "/")));
    }
    if host.ends_with("urldefense.com") || host.ends_with("urldefense.us") || host.ends_with("urldefense.proofpoint.com") {
        return match url.split_once("/v3/__") {
            Some((_, wrapped)) => unwrapped_v3(wrapped),
            None => value("u").map(percent_decoded),
        };
    }
    if host.ends_with(".mimecast.com") {
        // It keeps the address to itself and tells the host.
        return value("domain").map(|domain| format!("https://{domain}/"));
    }
    let name = match host {
        _ if host.ends_with("safelinks.protection.outlook.com") => "url",
        _ if host.ends_with("linkprotect.cudasvc.com") => "a",
        _ => return None,
    };
    value(name).map(percent_decoded)
}

/// `https:/*host/path__;Lw!!…`: each star stands for the next letters of what base64 says behind the address, `**X` for as many as
/// the place of X in the alphabet, and two.
fn unwrapped_v3(wrapped: &str) -> Option<String> {
    let (address, rest) = wrapped.rsplit_once("__;")?;
    let letters = base64(rest.split('!').next().unwrap_or_default()).unwrap_or_default();
    let mut letters = letters.chars();
    let mut whole = String::with_capacity(address.len());
    let mut bytes = address.chars().peekable();
    while let Some(letter) = bytes.next() {
        if letter != '*' {
            whole.push(letter);
        } else if bytes.peek() == Some(&'*') {
            bytes.next();
            let run = bytes.next().and_then(place_in_base64).map_or(2, |place| usize::from(place) + 2);
            whole.extend(letters.by_ref().take(run));
        } else {
            whole.push(letters.next().unwrap_or('*'));
        }
    }
    Some(whole)
}

/// `%41` is `A`; what is no such number stays.
pub(super) fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn place_in_base64(letter: char) -> Option<u8> {
    let byte = u8::try_from(letter).ok()?;
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

/// Either alphabet, to the first letter that is in none. `None`: no text.
pub(in crate::spam) fn base64(text: &str) -> Option<String> {
    let (mut bits, mut held, mut decoded) = (0_u32, 0, Vec::new());
    for place in prefix(text, URL_MAX).chars().map_while(place_in_base64) {
        bits = (bits << 6 | u32::from(place)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            decoded.push((bits >> held & 0xff) as u8);
        }
    }
    String::from_utf8(decoded).ok().filter(|text| !text.is_empty())
}

/// The host as it was written is encoded: `http://%65vil.example/`.
pub(super) fn host_is_encoded(url: &str) -> bool {
    let rest = url.split_once(':').map_or(url, |(_, rest)| rest);
    let written = rest.trim_start_matches(['/', '\\']).split(['/', '\\', '?', '#']).next().unwrap_or_default();
    written.rsplit('@').next().is_some_and(|host| host.contains('%')) && !authority(rest).0.contains('%')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Link, Links, Place};
    use super::*;

    #[track_caller]
    fn leads(url: &str, host: &str) {
        let link = Link::read(Place::Anchor, url, "").unwrap();
        let inner = link.target().map(|inner| inner.host).unwrap_or_default();
        assert_eq!(inner, host, "{url}");
    }

    #[test]
    fn redirectors_say_where_they_lead() {
        leads("https://www.google.com/url?q=https://evil.example/x&sa=D", "evil.example");
        leads("https://www.google.com/url?sa=t&url=https%3A%2F%2Fevil.example%2F", "evil.example");
        leads("https://www.google.de/amp/s/evil.example/x", "evil.example");
        leads("https://l.facebook.com/l.php?u=https%253A%252F%252Fevil.example%252Fx&h=1", "evil.example");
        leads("https://www.bing.com/ck/a?!&&p=1&u=a1aHR0cHM6Ly9ldmlsLmV4YW1wbGUveA&ntb=1", "evil.example");
        leads("https://ad.doubleclick.net/clk;1;2;?https://evil.example/", "");
        leads("https://ad.doubleclick.net/clk;1;2;u=3;https://evil.example/", "evil.example");
        leads("https://r.example/http://evil.example/a", "evil.example");
        leads("https://r.example/L0/https:%2F%2Fevil.example%2Fa/1/2", "evil.example");
        leads("https://evil-example.translate.goog/x", "evil.example");
        leads("https://my--shop-example.translate.goog/x", "my-shop.example");
        leads("https://shop.example/?utm_source=news&id=1", "");
        leads("https://shop.example/about-http:/x", "");
    }

    #[test]
    fn wrappers_of_mail_filters_are_taken_off() {
        leads("https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fevil.example%2F&data=05", "evil.example");
        leads("https://urldefense.proofpoint.com/v2/url?u=https-3A__www.evil.example_a-2Db&d=Dw", "www.evil.example");
        leads("https://urldefense.com/v3/__https://evil.example/a*b__;Iw!!abc!def$", "evil.example");
        leads("https://linkprotect.cudasvc.com/url?a=https%3a%2f%2fevil.example&c=E", "evil.example");
        leads("https://protect-eu.mimecast.com/s/AbCd?domain=evil.example", "evil.example");
        leads("https://secure-web.cisco.com/1aB/https%3A%2F%2Fevil.example%2Fa", "evil.example");
        leads("https://url.avanan.click/v2/___https://evil.example/a___.Y3A", "evil.example");
        assert_eq!(unwrapped_v3("https://e.example/*x**A__;IyEh!!").unwrap(), "https://e.example/#x!!");
    }

    #[test]
    fn two_layers_are_followed_and_no_more() {
        let mut links = Links::default();
        let third = "https://c.example/?u=https://d.example/";
        let url =
            format!("https://a.example/?u=https%3A%2F%2Fb.example%2F%3Fu%3D{}", third.replace('%', "%25").replace(':', "%253A"));
        links.push(Link::read(Place::Anchor, &url, "").unwrap());
        links.follow();
        let hosts: Vec<_> = links.all.iter().map(|link| link.host.as_str()).collect();
        assert_eq!(hosts, ["a.example", "b.example", "c.example"]);
        assert_eq!(links.count, 1, "a link is one link");
    }

    proptest! {
        #[test]
        fn whatever_stands_in_a_link_is_read(text in "\\PC{0,200}", scheme in "(http|https|HTTP)://?/?", tail in "[%?&=/#*_;!a-fA-F0-9:@\\\\.-]{0,80}") {
            for url in [format!("{scheme}{text}{tail}"), format!("{scheme}urldefense.com/v3/__{text}{tail}__;{tail}!!"), format!("{scheme}a.example/?u={text}{tail}")] {
                if let Some(link) = Link::read(Place::Anchor, &url, &text) {
                    prop_assert!(link.url.len() <= URL_MAX);
                    let inner = link.target();
                    prop_assert!(inner.is_none_or(|inner| inner.url.len() <= URL_MAX));
                    link.leads_to_address();
                    host_is_encoded(&link.url);
                }
            }
            let mut links = Links::default();
            links.read_text(&format!("{text} {scheme}{tail}"));
            links.follow();
        }
    }
}
