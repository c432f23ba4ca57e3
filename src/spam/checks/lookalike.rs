//! Hosts that look like another's: a well-known brand's, or the recipients' own domain.
//!
//! Compared are skeletons: what is left of a name when letters that look alike are one letter. Brands are found by tables of
//! skeletons, so that five hundred links cost no more than reading them; one's own domains are few and compared one by one.
//! What is not done: guess at names two letters apart, or at other alphabets than Latin, Greek and Cyrillic.

use super::brands;
use super::is_freemail;
use crate::spam::facts::{Facts, organisation};
use crate::spam::text::lookalike;

/// Longer names are not DNS, in bytes.
const HOST_MAX: usize = 255;
/// Longer labels are not DNS.
const LABEL_MAX: usize = 63;
/// Shorter own names are everybody's.
const OWN_MIN: usize = 5;
/// Shorter own names have honest neighbours: Schmidt and Schmitt.
const TYPO_MIN: usize = 8;

/// The recipients' own domains.
pub(in crate::spam) struct Own {
    names: Vec<OwnName>,
}

struct OwnName {
    /// What was registered.
    domain: String,
    label: String,
    skeleton: String,
}

impl Own {
    pub fn of(facts: &Facts) -> Own {
        let mut names: Vec<OwnName> = Vec::new();
        for (domain, _) in facts.door.iter().flat_map(|door| &door.recipients) {
            let registered = organisation(domain);
            if registered.is_empty() || is_freemail(registered) || names.iter().any(|name| name.domain == registered) {
                continue;
            }
            let label = registered.split('.').next().unwrap_or_default();
            names.push(OwnName { domain: registered.to_owned(), label: label.to_owned(), skeleton: skeleton(label) });
        }
        Own { names }
    }

    /// Is the host one of the recipients'?
    pub fn has(&self, host: &str) -> bool {
        self.names.iter().any(|name| name.domain == organisation(host))
    }

    /// Names of one's own that are long enough to be told from words.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let long = self.names.iter().filter(|name| name.label.len() >= OWN_MIN && !is_common(&name.label));
        long.map(|name| (name.label.as_str(), name.domain.as_str()))
    }
}

/// Whom a host imitates, in words: a brand, or one of the recipients' own domains.
pub(in crate::spam) fn imitates(host: &str, own: &Own) -> Option<String> {
    imitates_own(host, own).or_else(|| imitates_brand(host))
}

/// The host has a brand's name, or looks like it, below a domain that is not the brand's.
pub(in crate::spam) fn imitates_brand(host: &str) -> Option<String> {
    let host = shown(host)?;
    let label = registered_label(&host);
    let brand = brands::imitated_by(&host).or_else(|| {
        let core = without_common(label);
        brands::imitated_by(&format!("{core}.invalid")).filter(|brand| !core.is_empty() && !brand.owns(&host))
    });
    let brand = brand.or_else(|| brands::near(&host, label, &skeleton(label)))?;
    Some(format!("{host} looks like {}", brand.name()))
}

/// The host looks like one of the recipients' own domains, or adds a word to it.
pub(in crate::spam) fn imitates_own(host: &str, own: &Own) -> Option<String> {
    if own.names.is_empty() || own.has(host) {
        return None;
    }
    let host = shown(host)?;
    let label = registered_label(&host);
    let seen = skeleton(label);
    let (core, below) = (without_common(label), format!(".{host}"));
    let imitated = own.names.iter().filter(|name| name.label.len() >= OWN_MIN && !is_common(&name.label)).find(|name| {
        let same_eye = seen == name.skeleton && label != name.label;
        let typo = name.label.len() >= TYPO_MIN && one_apart(&seen, &name.skeleton) && !only_digits_differ(label, &name.label);
        let hyphened = label != name.label && label.replace('-', "") == name.label.replace('-', "");
        let added = label != name.label && core == name.label;
        let in_front = below.contains(&format!(".{}.", name.domain));
        same_eye || typo || hyphened || added || in_front
    })?;
    Some(format!("{host} looks like {}", imitated.domain))
}

/// The same name below another ending. Organisations have several themselves.
pub(super) fn other_ending<'o>(host: &str, own: &'o Own) -> Option<&'o str> {
    let registered = organisation(host);
    let label = registered.split('.').next().unwrap_or_default();
    own.labels().find(|(name, domain)| *name == label && *domain != registered).map(|(_, domain)| domain)
}

fn registered_label(host: &str) -> &str {
    organisation(host).split('.').next().unwrap_or_default()
}

/// As a reader sees it: punycode decoded. `None` for what is no host name at all.
fn shown(host: &str) -> Option<String> {
    let host = host.trim_end_matches('.');
    let named = host.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '.' | '_'));
    if !named || host.len() > HOST_MAX {
        return None;
    }
    Some(if host.contains("xn--") { idna::domain_to_unicode(host).0 } else { host.to_lowercase() })
}

/// Words that are put in front of or behind a name to make it look like a department of it.
const COMMON: [&str; 38] = [
    "login",
    "logon",
    "signin",
    "secure",
    "security",
    "support",
    "mail",
    "webmail",
    "email",
    "invoice",
    "invoices",
    "billing",
    "account",
    "accounts",
    "verify",
    "verification",
    "online",
    "service",
    "services",
    "portal",
    "hr",
    "payroll",
    "helpdesk",
    "update",
    "alert",
    "notice",
    "notification",
    "customer",
    "customers",
    "info",
    "auth",
    "sso",
    "admin",
    "payment",
    "payments",
    "help",
    "access",
    "team",
];

fn is_common(label: &str) -> bool {
    COMMON.contains(&label)
}

/// The label without hyphens and added words: `paypal-login` and `securepaypal` are `paypal`.
fn without_common(label: &str) -> &str {
    let mut core = label.trim_matches('-');
    for _ in 0..4 {
        let shorter = COMMON.iter().find_map(|word| {
            let rest = core.strip_suffix(word).or_else(|| core.strip_prefix(word))?;
            (rest.len() >= OWN_MIN).then(|| rest.trim_matches('-'))
        });
        match shorter {
            Some(rest) => core = rest,
            None => break,
        }
    }
    core
}

fn only_digits_differ(one: &str, other: &str) -> bool {
    let letters = |text: &str| text.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
    letters(one) == letters(other)
}

/// A name with letters that look alike as one letter. Lower case in, and so out.
pub(super) fn skeleton(label: &str) -> String {
    let mut seen = String::with_capacity(label.len());
    for letter in label.chars().take(LABEL_MAX) {
        let plain = match letter {
            'i' | '1' | '|' => 'l',
            '0' => 'o',
            '3' => 'e',
            '4' => 'a',
            '5' => 's',
            'n' if seen.ends_with('r') => {
                seen.pop();
                'm'
            }
            'v' if seen.ends_with('v') => {
                seen.pop();
                'w'
            }
            'a'..='z' | '-' | '0'..='9' => letter,
            _ => match lookalike(letter).or_else(|| without_mark(letter)) {
                Some('i') => 'l',
                Some(plain) => plain,
                None => letter,
            },
        };
        seen.push(plain);
    }
    seen
}

/// Latin letters with marks, and letters that look like them.
fn without_mark(letter: char) -> Option<char> {
    const MARKED: [(char, &str); 19] = [
        ('a', "àáâãäåāăąạảấầậắặǎ"),
        ('b', "ƀḃḅ"),
        ('c', "çćĉċč"),
        ('d', "ďđḍɗ"),
        ('e', "èéêëēĕėęěẹẻếềệ"),
        ('g', "ĝğġģɡǥ"),
        ('h', "ĥħḥ"),
        ('i', "ìíîïĩīĭįıịỉɩ"),
        ('k', "ķḳƙ"),
        ('l', "ĺļľŀłḷɭ"),
        ('m', "ṃṁ"),
        ('n', "ñńņňŉŋṇɲ"),
        ('o', "òóôõöøōŏőọỏốồộơ"),
        ('p', "ṗƿ"),
        ('r', "ŕŗřṛɾ"),
        ('s', "śŝşšșṣ"),
        ('t', "ţťŧțṭ"),
        ('u', "ùúûüũūŭůűųụủưʋ"),
        ('y', "ýÿŷỳỵ"),
    ];
    MARKED.iter().find(|(_, marked)| marked.contains(letter)).map(|(plain, _)| *plain)
}

/// The text without its first letter, without its second, and so on.
pub(super) fn without_one(text: &str) -> impl Iterator<Item = String> + '_ {
    text.char_indices().map(|(at, letter)| format!("{}{}", &text[..at], &text[at + letter.len_utf8()..]))
}

/// Is one letter changed, left out or put in, or are two neighbours swapped? Not when they are equal.
pub(super) fn one_apart(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let (short, long) = if one.len() <= other.len() { (&one, &other) } else { (&other, &one) };
    if long.len() - short.len() > 1 {
        return false;
    }
    let Some(at) = (0..short.len()).find(|at| short[*at] != long[*at]) else { return long.len() > short.len() };
    if long.len() > short.len() {
        return short[at..] == long[at + 1..];
    }
    let swapped = at + 1 < long.len() && short[at] == long[at + 1] && short[at + 1] == long[at];
    short[at + 1..] == long[at + 1..] || swapped && short[at + 2..] == long[at + 2..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(domain: &str) -> Own {
        let label = domain.split('.').next().unwrap();
        Own { names: vec![OwnName { domain: domain.into(), label: label.into(), skeleton: skeleton(label) }] }
    }

    #[test]
    fn one_letter_apart() {
        for (one, other) in [("netflix", "netfiix"), ("netflix", "netflx"), ("netflix", "netflixx"), ("netflix", "netlfix")] {
            assert!(one_apart(one, other) && one_apart(other, one), "{one} {other}");
        }
        for (one, other) in [("netflix", "netflix"), ("netflix", "natflux"), ("abc", "abcde"), ("", ""), ("abcd", "badc")] {
            assert!(!one_apart(one, other) && !one_apart(other, one), "{one} {other}");
        }
    }

    #[test]
    fn brands_are_imitated_by_hosts() {
        for host in [
            "paypal.evil.example",
            "paypa1.com",
            "xn--pypal-4ve.com",
            "paypal-login.example",
            "securepaypal.example",
            "rnicrosoft.com",
            "microsof.com",
            "netfllx.com",
            "amazon.top",
        ] {
            assert!(imitates_brand(host).is_some(), "{host}");
        }
        for host in [
            "paypal.com",
            "amazon.co.uk",
            "paypay.ne.jp",
            "amazone.de",
            "finance.example",
            "example.com",
            "",
            "com",
            "mx.google.com\"",
        ] {
            assert_eq!(imitates_brand(host), None, "{host}");
        }
    }

    #[test]
    fn hosts_may_be_anything() {
        for host in ["xn--".repeat(2000), "paypal.".repeat(5000), ".".repeat(300), "-".repeat(200), "ß.xn--\u{0}".to_owned()] {
            imitates(&host, &own("northwind.example"));
        }
    }

    #[test]
    fn own_domains_are_imitated_by_hosts() {
        let own = own("northwind.example");
        for host in [
            "nothwind.example",
            "northvvind.com",
            "north-wind.example",
            "northwind-login.com",
            "northwind.example.evil.com",
            "n0rthwind.com",
        ] {
            assert!(imitates_own(host, &own).is_some(), "{host}");
        }
        for host in ["northwind.example", "mail.northwind.example", "northwind.com", "southwind.com", "northwind.sharepoint.com"]
        {
            assert_eq!(imitates_own(host, &own), None, "{host}");
        }
        assert_eq!(other_ending("northwind.com", &own), Some("northwind.example"));
        assert_eq!(other_ending("mail.northwind.example", &own), None);
    }
}
