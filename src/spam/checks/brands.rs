//! Names that forgers borrow, and the domains that really belong to them. The list is `brands.txt` beside this file.
//!
//! Only brands whose name is no person's and no everyday word. Not a list of whom to trust: that a domain is a brand's own
//! says nothing about who sent the message.

use std::collections::HashMap;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::lookalike::{one_apart, skeleton, without_one};
use crate::spam::facts::organisation;

pub(super) struct Brand {
    words: Vec<&'static str>,
    owned: Vec<Owned>,
    /// Its customers have mailboxes at its domains, or it writes through many services: mail from them comes from everywhere.
    open: bool,
}

/// Domains of a brand.
enum Owned {
    /// This domain and what is below it.
    Domain(&'static str),
    /// The label below any ending that is not sold to anybody within a minute.
    Label(&'static str),
    /// Labels that begin so.
    Prefix(&'static str),
    /// Domains whose registered part ends so.
    Suffix(&'static str),
}

#[derive(Default)]
struct Brands {
    all: Vec<Brand>,
    phrases: Option<AhoCorasick>,
    /// The brand of each phrase.
    of_phrase: Vec<usize>,
    /// By the skeleton of a label that nobody else has.
    labels: HashMap<String, usize>,
    /// By each skeleton without one of its letters: the skeletons of labels that are also watched for one wrong letter.
    near: HashMap<String, Vec<(String, usize)>>,
    /// Who may own a domain, by its registered part, its label or its ending.
    owners: HashMap<&'static str, Vec<usize>>,
    /// Brands of whom that cannot be told so.
    elsewhere: Vec<usize>,
}

static BRANDS: LazyLock<Brands> = LazyLock::new(|| Brands::read(include_str!("brands.txt")));

/// Real names one letter away from a brand.
const NOT_NEAR: [&str; 4] = ["paypay", "paypad", "payal", "microsort"];

impl Brand {
    /// Is this one of the brand's own domains?
    pub fn owns(&self, domain: &str) -> bool {
        let registered = organisation(domain);
        let (label, ending) = registered.split_once('.').unwrap_or((registered, ""));
        self.owned.iter().any(|owned| match owned {
            Owned::Domain(own) => domain.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            // Some brands have an ending of their own name: `mail.google`.
            Owned::Label(own) => label == *own && is_guarded(ending) || ending == *own,
            Owned::Prefix(own) => label.starts_with(own) && is_guarded(ending),
            Owned::Suffix(own) => registered.ends_with(own),
        })
    }

    /// As people know it.
    pub fn name(&self) -> &'static str {
        self.words.first().copied().unwrap_or_default()
    }
}

/// Endings under which a brand finds and stops others with its name: old ones and those of countries, without the
/// countries whose names were given away for nothing.
fn is_guarded(ending: &str) -> bool {
    let country = ending.rsplit('.').next().unwrap_or_default();
    matches!(ending, "com" | "net" | "org" | "info" | "bank")
        || country.len() == 2 && !matches!(country, "tk" | "ml" | "ga" | "cf" | "gq" | "cc" | "ws" | "pw" | "su" | "to")
}

impl Brands {
    fn read(text: &'static str) -> Brands {
        let mut brands = Brands::default();
        let mut phrases: Vec<&str> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let place = brands.all.len();
            let mut columns = line.split('|').map(str::trim);
            let words: Vec<&'static str> = columns.next().unwrap_or_default().split(',').map(str::trim).collect();
            brands.of_phrase.extend(words.iter().map(|_| place));
            phrases.extend(&words);
            let domains = columns.next().unwrap_or_default().split_whitespace();
            let owned: Vec<Owned> = domains.map(|written| brands.owned(written, place)).collect();
            owned.iter().for_each(|owned| brands.remember(owned, place));
            brands.all.push(Brand { words, owned, open: columns.next() == Some("open") });
        }
        brands.phrases = AhoCorasick::new(phrases).ok();
        brands
    }

    fn remember(&mut self, owned: &Owned, place: usize) {
        let key = match owned {
            Owned::Domain(own) => Some(organisation(own)).filter(|own| own.contains('.')),
            Owned::Label(own) => Some(*own),
            Owned::Prefix(_) | Owned::Suffix(_) => None,
        };
        let list = key.map_or(&mut self.elsewhere, |key| self.owners.entry(key).or_default());
        if list.last() != Some(&place) {
            list.push(place);
        }
    }

    /// The brands that own a domain, in the order of the list.
    fn owners(&self, domain: &str) -> impl Iterator<Item = &Brand> {
        let registered = organisation(domain);
        let (label, ending) = registered.split_once('.').unwrap_or((registered, ""));
        let listed = [registered, label, ending].into_iter().filter_map(|key| self.owners.get(key)).flatten();
        let mut places: Vec<usize> = listed.chain(&self.elsewhere).copied().collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter().filter_map(|place| self.all.get(place)).filter(move |brand| brand.owns(domain))
    }

    fn owned(&mut self, written: &'static str, place: usize) -> Owned {
        let own = written.trim_start_matches('!');
        let label = own.split('.').next().unwrap_or_default();
        if own != written {
            let seen = skeleton(label);
            if written.starts_with("!!") {
                for shorter in without_one(&seen) {
                    self.near.entry(shorter).or_default().push((seen.clone(), place));
                }
                self.near.entry(seen.clone()).or_default().push((seen.clone(), place));
            }
            self.labels.entry(seen).or_insert(place);
        }
        match (label.strip_suffix('*'), own.strip_prefix('*')) {
            (Some(start), _) => Owned::Prefix(start),
            (_, Some(end)) => Owned::Suffix(end),
            _ if own.ends_with(".*") => Owned::Label(label),
            _ => Owned::Domain(own),
        }
    }
}

/// The brand whose name stands as words in a folded text.
pub(super) fn named_in(folded: &str) -> Option<&'static Brand> {
    all_named_in(folded).next()
}

/// All of them, some perhaps twice.
pub(super) fn all_named_in(folded: &str) -> impl Iterator<Item = &'static Brand> + '_ {
    let letter = |letter: char| letter.is_alphanumeric();
    // Names in scripts without blanks stand anywhere.
    let bounded = move |start: usize, end: usize| {
        let unspaced = folded[start..].starts_with(|first: char| first >= '\u{3000}');
        unspaced || !folded[..start].ends_with(letter) && !folded[end..].starts_with(letter)
    };
    let found = BRANDS.phrases.iter().flat_map(move |phrases| phrases.find_overlapping_iter(folded));
    found
        .filter(move |found| bounded(found.start(), found.end()))
        .filter_map(|found| BRANDS.all.get(*BRANDS.of_phrase.get(found.pattern().as_usize())?))
}

/// The brand whose own domain this is; none of the open ones.
pub(super) fn owner_of(domain: &str) -> Option<&'static Brand> {
    BRANDS.owners(domain).find(|brand| !brand.open)
}

/// Is the domain any brand's own?
fn is_owned(domain: &str) -> bool {
    BRANDS.owners(domain).next().is_some()
}

/// The brand that a host pretends to be: its name as a label or a part of one, below somebody else's domain.
pub(super) fn imitated_by(host: &str) -> Option<&'static Brand> {
    let labels = host.split('.').take(12).flat_map(|label| std::iter::once(label).chain(label.split('-').take(8)));
    let place = labels.filter(|label| label.len() >= 4).find_map(|label| BRANDS.labels.get(&skeleton(label)))?;
    let brand = BRANDS.all.get(*place)?;
    // A name like `amazon.paypal.com` is one brand's host for another.
    (!brand.owns(host) && !is_owned(host)).then_some(brand)
}

/// The brand whose name a label has with one letter changed, left out, put in or swapped. `skeleton`: the label's.
pub(super) fn near(host: &str, label: &str, skeleton: &str) -> Option<&'static Brand> {
    if !(6..=24).contains(&skeleton.len()) || NOT_NEAR.contains(&label) {
        return None;
    }
    let keys = without_one(skeleton).chain([skeleton.to_owned()]);
    let close = |key: String| BRANDS.near.get(&key)?.iter().find(|(own, _)| one_apart(own, skeleton)).map(|(_, place)| *place);
    let brand = BRANDS.all.get(keys.into_iter().find_map(close)?)?;
    (!brand.owns(host) && !is_owned(host)).then_some(brand)
}

/// Local parts that are also words of everyday subjects.
pub(super) fn is_role(local: &str) -> bool {
    const ROLES: [&str; 22] = [
        "info",
        "sales",
        "office",
        "support",
        "contact",
        "service",
        "admin",
        "mail",
        "hello",
        "team",
        "news",
        "newsletter",
        "post",
        "webmaster",
        "postmaster",
        "jobs",
        "press",
        "order",
        "orders",
        "users",
        "list",
        "announce",
    ];
    ROLES.contains(&local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_well_formed() {
        assert!(BRANDS.all.len() > 150 && BRANDS.phrases.is_some());
        for brand in &BRANDS.all {
            assert!(!brand.owned.is_empty(), "{}: no domain", brand.name());
            for word in &brand.words {
                assert!(word.len() >= 3 && *word == word.to_lowercase(), "{word:?}");
            }
        }
    }

    #[test]
    fn brands_are_found_as_words() {
        assert_eq!(named_in("your paypal account").map(Brand::name), Some("paypal"));
        assert_eq!(named_in("at&t bill").map(Brand::name), Some("at&t"));
        assert!(named_in("joe googleton").is_none());
        assert!(named_in("三井住友カードより").is_some());
    }

    #[test]
    fn owners_are_found_by_their_domains() {
        for brand in &BRANDS.all {
            for owned in &brand.owned {
                let (Owned::Domain(name) | Owned::Label(name) | Owned::Prefix(name) | Owned::Suffix(name)) = owned;
                for domain in [name.to_string(), format!("{name}.com"), format!("a.{name}"), format!("a.{name}-b.de")] {
                    let expected: Vec<_> = BRANDS.all.iter().filter(|brand| brand.owns(&domain)).map(Brand::name).collect();
                    let found: Vec<_> = BRANDS.owners(&domain).map(Brand::name).collect();
                    assert_eq!(found, expected, "{domain}");
                }
            }
        }
    }

    #[test]
    fn brands_own_their_domains() {
        let paypal = named_in("paypal").unwrap();
        for own in ["paypal.com", "mail.paypal.de", "paypal.co.uk", "x.paypal-communication.com"] {
            assert!(paypal.owns(own), "{own}");
        }
        for other in ["paypal.top", "paypal.com.evil.example", "paypal-login.com", "notpaypal-communication.com"] {
            assert!(!paypal.owns(other), "{other}");
        }
    }
}
