//! Strangers who put on the name of somebody the recipients obey: `Jane Doe <jane.doe.office@free.example>`. Pure.
//!
//! The names are a domain's own (`spam.people`), so the hit `PROTECTED_NAME` counts for that domain alone. Names are compared as a
//! reader sees them: without case, order and look-alike letters. It is not a hit when the address is one of hers, or proven to be of
//! her organisation. Other people have the same name; whoever writes rightly is added to the settings with one more address.

use super::facts::Facts;
use super::is_freemail;
use super::policy::Person;
use super::proof::Proof;
use super::text::{Folded, prefix};
use crate::mail::{Address, Domain, RuleHit};

const POINTS: f32 = 3.5;
/// Of a name, in bytes; a client shows less.
const NAME_MAX: usize = 400;

/// Who stands in `From`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Authors {
    /// Those that are addresses.
    pub addresses: Vec<Address>,
    /// Each name with what stands behind it.
    pub shown: Vec<(String, String)>,
}

impl Authors {
    pub fn of(facts: &Facts) -> Authors {
        let from = &facts.headers.from;
        Authors {
            addresses: from.iter().filter_map(|mailbox| Address::parse(&mailbox.address).ok()).collect(),
            shown: from.iter().map(|mailbox| (prefix(&mailbox.name, NAME_MAX).to_owned(), mailbox.address.clone())).collect(),
        }
    }
}

/// Whether an author goes by the name of one of the people and is somebody else.
pub fn protected_name(people: &[Person], authors: &Authors, proof: &Proof) -> Option<RuleHit> {
    if people.is_empty() {
        return None;
    }
    let names: Vec<(Vec<String>, &Person)> = people.iter().map(|person| (words(&person.name), person)).collect();
    authors.shown.iter().find_map(|(name, address)| {
        let shown = words(name);
        let lower = name.to_lowercase();
        let puts_on = |(words, person): &&(Vec<String>, &Person)| {
            *words == shown || lower.contains(&person.address.to_string().to_lowercase())
        };
        let (words, person) = names.iter().find(puts_on)?;
        let mut hers = names.iter().filter(|(name, _)| name == words).map(|(_, person)| &person.address);
        if hers.any(|hers| is_by(hers, address, proof)) {
            return None;
        }
        let evidence = format!("{} by {}, not by {}", person.name, printable(address), person.address);
        Some(RuleHit { rule: "PROTECTED_NAME".to_owned(), points: POINTS, evidence })
    })
}

/// Whether what stands in `From` is this address, or proven to be of its organisation.
fn is_by(hers: &Address, written: &str, proof: &Proof) -> bool {
    let Ok(author) = Address::parse(written) else { return false };
    if author.to_string().eq_ignore_ascii_case(&hers.to_string()) {
        return true;
    }
    let is_colleague = |domain: &Domain| {
        let is_same = author.domain().is_some_and(|other| other.organisation() == domain.organisation());
        is_same && !is_freemail(domain) && proof.of_author(domain).is_some()
    };
    hers.domain().is_some_and(is_colleague)
}

/// In one order, folded; without what stands in brackets behind a name, and without addresses.
fn words(name: &str) -> Vec<String> {
    let name = name.split(['(', '<', '[']).next().unwrap_or_default();
    let without_addresses: Vec<&str> = name.split_whitespace().filter(|word| !word.contains('@')).collect();
    let folded = Folded::of(&without_addresses.join(" ")).text;
    let mut words: Vec<String> =
        folded.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    words.sort_unstable();
    words
}

fn printable(address: &str) -> String {
    prefix(address, 100).chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Finding;

    #[track_caller]
    fn check(name: &str, address: &str, findings: &[(&str, &str)], expected: bool) {
        let person = |name: &str, address: &str| Person { name: name.to_owned(), address: address.parse().unwrap() };
        let people = [
            person("Jane Doe", "jane@customer.example"),
            person("Jane Doe", "jane.doe@gmail.com"),
            person("Dr. Jörg Müller", "joerg@customer.example"),
        ];
        let findings: Vec<_> = findings.iter().map(|(id, evidence)| Finding::new(id, evidence)).collect();
        let authors = Authors { addresses: Vec::new(), shown: vec![(name.to_owned(), address.to_owned())] };
        let hit = protected_name(&people, &authors, &Proof::of(&findings));
        assert_eq!(hit.is_some(), expected, "{name} <{address}>: {hit:?}");
    }

    #[test]
    fn a_strangers_use_of_a_protected_name_is_seen() {
        for name in [
            "Jane Doe",
            "DOE, Jane",
            "jane  doe",
            "J\u{430}ne Doe",
            "Jane Doe (CEO)",
            "Jane Doe <jane@customer.example>",
            "Jane Doe jane@customer.example",
            "jane@customer.example",
            "Re: jane@customer.example via portal",
        ] {
            check(name, "office@free.example", &[], true);
            check(name, "Jane@customer.example", &[], false);
            check(name, "jane.doe@gmail.com", &[], false);
        }
        check("jörg müller, dr.", "x@free.example", &[], true);
        check("Jane Doe", "", &[], true);
    }

    #[test]
    fn other_names_and_colleagues_are_left_alone() {
        check("Jane Doe-Smith", "x@free.example", &[], false);
        check("Jane Doe via DocShare", "no-reply@docshare.example", &[], false);
        check("Jane", "x@free.example", &[], false);
        check("", "x@free.example", &[], false);
        check("Jane Doe", "jd@mail.customer.example", &[("dmarc-pass", "mail.customer.example")], false);
        check("Jane Doe", "jd@mail.customer.example", &[], true);
        check("Jane Doe", "another.doe@gmail.com", &[("dmarc-pass", "gmail.com")], true);
    }

    #[test]
    fn it_says_who_put_on_whose_name() {
        let jane = Person { name: "Jane Doe".to_owned(), address: "jane@customer.example".parse().unwrap() };
        let shown = vec![("Jane Doe".to_owned(), "a\u{1b}@free.example".to_owned())];
        let hit = protected_name(&[jane], &Authors { shown, ..Authors::default() }, &Proof::default()).unwrap();
        assert_eq!(hit.evidence, "Jane Doe by a?@free.example, not by jane@customer.example");
    }
}
