//! The addresses of one domain: a sorted list that takes little more room than its letters, and patterns with `*`.
//!
//! Upper and lower case are the same, as they are at every server that a customer runs; `user+tag` is `user`.

use crate::mail::{Address, Domain};

/// Each address is held against every pattern.
const PATTERNS_MAX: usize = 1_000;
/// Of one list.
const ADDRESSES_MAX: usize = 2_000_000;
/// Mistakes told of one file.
const MISTAKES_TOLD: usize = 20;

/// Local parts, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// All exact ones, sorted, one after the other.
    text: String,
    /// Where each ends in `text`.
    ends: Vec<u32>,
    patterns: Vec<Box<str>>,
}

impl Addresses {
    pub fn new(entries: impl IntoIterator<Item = String>) -> Addresses {
        let (patterns, mut exact): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.contains('*'));
        exact.sort_unstable();
        exact.dedup();
        let mut addresses = Addresses { patterns: patterns.into_iter().map(Into::into).collect(), ..Addresses::default() };
        addresses.ends.reserve_exact(exact.len());
        addresses.text.reserve_exact(exact.iter().map(String::len).sum());
        for entry in exact {
            let Ok(end) = u32::try_from(addresses.text.len() + entry.len()) else { break };
            addresses.text.push_str(&entry);
            addresses.ends.push(end);
        }
        addresses
    }

    pub fn len(&self) -> usize {
        self.ends.len() + self.patterns.len()
    }

    /// `local` as it came.
    pub fn contains(&self, local: &str) -> bool {
        let local = local.to_lowercase();
        let has = |local: &str| self.has_exactly(local) || self.patterns.iter().any(|pattern| matches(pattern, local));
        has(&local) || without_tag(&local).is_some_and(has)
    }

    /// As they were written, exact ones first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let exact = (0..self.ends.len()).map(|place| self.at(place));
        exact.chain(self.patterns.iter().map(AsRef::as_ref))
    }

    fn has_exactly(&self, local: &str) -> bool {
        let (mut from, mut to) = (0, self.ends.len());
        while from < to {
            let middle = from.midpoint(to);
            match self.at(middle).cmp(local) {
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        false
    }

    fn at(&self, place: usize) -> &str {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[place] as usize]
    }
}

/// `user` of `user+tag`.
fn without_tag(local: &str) -> Option<&str> {
    local.split_once('+').map(|(user, _)| user).filter(|user| !user.is_empty())
}

/// Whether a pattern, in which `*` stands for any letters, describes the whole of `text`. Goes back to the last star only, so
/// that it takes the product of both lengths at most.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((after, seen)) = star {
            star = Some((after, seen + 1));
            (p, t) = (after, seen + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// An address or pattern as operators write it. Without a domain it is one of the domain whose list it stands in.
pub fn entry(text: &str, domain: &Domain) -> Result<(Domain, String), String> {
    let whole = if text.contains('@') { text.to_owned() } else { format!("{text}@{domain}") };
    let address = Address::parse(&whole).map_err(|error| format!("{text:?}: {error}"))?;
    match address.domain() {
        Some(domain) => Ok((domain.clone(), address.local().to_lowercase())),
        None => Err(format!("{text:?}: an address of a list has a domain")),
    }
}

/// A line of a list that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub line: usize,
    pub why: String,
}

/// Reads a list: one mailbox on a line, with as many addresses (aliases) as it has, separated by commas, semicolons or blanks;
/// `smtp:` in front of an address is dropped, addresses of other kinds (`x500:`, `sip:`) are passed over, so that Exchange's own
/// export can be used. Lines that begin with `#` are comments. Addresses of other domains that are served here are passed over:
/// one file may serve several. Returns what can be used, and the first mistakes.
pub fn read_list(text: &str, domain: &Domain, is_served: impl Fn(&Domain) -> bool) -> (Vec<String>, Vec<Mistake>) {
    let (mut entries, mut mistakes) = (Vec::new(), Vec::new());
    let mut patterns = 0;
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    for (number, line) in lines.filter(|(_, line)| !line.trim_start().starts_with('#')) {
        let words = line.split([',', ';', ' ', '\t', '\r']).filter(|word| !word.is_empty());
        for (place, word) in words.enumerate() {
            let mut mistake = |why| {
                if mistakes.len() < MISTAKES_TOLD {
                    mistakes.push(Mistake { line: number + 1, why });
                }
            };
            let Some(word) = smtp_address(word) else { continue };
            // Only the first may be without a domain: further words are aliases, or a column of something else.
            let entry =
                if place == 0 || word.contains('@') { entry(word, domain) } else { Err(format!("{word:?}: not an address")) };
            match entry {
                Ok((of, local)) if of == *domain => {
                    patterns += usize::from(local.contains('*'));
                    if patterns > PATTERNS_MAX && local.contains('*') {
                        mistake(format!("more than {PATTERNS_MAX} entries with *"));
                    } else if entries.len() >= ADDRESSES_MAX {
                        mistake(format!("more than {ADDRESSES_MAX} addresses"));
                        return (entries, mistakes);
                    } else {
                        entries.push(local);
                    }
                }
                Ok((of, _)) if is_served(&of) => {}
                Ok((of, _)) => mistake(format!("{word:?}: {of} is not served here")),
                Err(why) => mistake(why),
            }
        }
    }
    (entries, mistakes)
}

/// Without `smtp:`; `None` for an address of another kind.
fn smtp_address(word: &str) -> Option<&str> {
    match word.split_once(':') {
        Some((kind, address)) if kind.eq_ignore_ascii_case("smtp") => Some(address),
        Some((kind, _)) if !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) => None,
        _ => Some(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Addresses {
        Addresses::new(entries.iter().map(|entry| (*entry).to_owned()))
    }

    #[test]
    fn case_and_tags_make_no_difference() {
        let list = list(&["joe", "ann.lee", "jürgen", "a+b"]);
        for local in ["joe", "JOE", "Joe+news", "joe+a+b", "ann.lee", "JÜRGEN", "a+b", "A+B"] {
            assert!(list.contains(local), "{local}");
        }
        for local in ["jo", "joey", "", "+joe", "ann", "joe-news", "a", "a+c"] {
            assert!(!list.contains(local), "{local}");
        }
        assert_eq!(list.iter().collect::<Vec<_>>(), ["a+b", "ann.lee", "joe", "jürgen"]);
    }

    #[test]
    fn a_star_stands_for_any_letters() {
        let all = list(&["*"]);
        assert!(all.contains("anybody") && all.contains("x"));
        let some = list(&["sales-*", "*.ext", "a*b*c"]);
        for local in ["sales-de", "Sales-", "joe.ext", "abc", "aXbYc", "abbcbc", "sales-x+tag"] {
            assert!(some.contains(local), "{local}");
        }
        for local in ["sales", "joe.extra", "ab", "acb", "xabc"] {
            assert!(!some.contains(local), "{local}");
        }
        let evil = list(&["*a*a*a*a*a*a*a*a*a*a*a*a*b"]);
        assert!(!evil.contains(&"a".repeat(64)));
    }

    #[test]
    fn a_hundred_thousand_addresses_are_small_and_all_found() {
        let all: Vec<_> = (0..100_000).map(|number| format!("first{number}.last{}", number * 7)).collect();
        let letters: usize = all.iter().map(String::len).sum();
        let list = Addresses::new(all.clone());
        assert_eq!(list.len(), 100_000);
        assert!(list.text.capacity() + list.ends.capacity() * 4 <= letters + 400_000);
        assert!(all.iter().all(|local| list.contains(local)));
        assert!(!list.contains("first100000.last700000"));
    }

    #[test]
    fn a_list_is_read_with_its_aliases_and_its_mistakes() {
        let domain: Domain = "customer.example".parse().unwrap();
        let text = "\u{feff}# people\r\njoe@customer.example, SMTP:J.Doe@CUSTOMER.example;smtp:joe@other.example x500:/o=x\r\n\n\
            ann\r\n  *-team@customer.example\njoe@@customer.example\njoe@elsewhere.example\n\"a b\n";
        let (entries, mistakes) = read_list(text, &domain, |of| of.as_str() == "other.example");
        assert_eq!(entries, ["joe", "j.doe", "ann", "*-team"]);
        let lines: Vec<_> = mistakes.iter().map(|mistake| mistake.line).collect();
        assert_eq!(lines, [6, 7, 8, 8], "{mistakes:?}");
        assert!(mistakes[1].why.contains("elsewhere.example is not served here"));
        let (_, many) = read_list(&"@\n".repeat(1000), &domain, |_| false);
        assert_eq!(many.len(), 20);
    }
}
