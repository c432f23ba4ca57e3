//! Whom outsiders pretend to be: people of a customer, with the addresses that are truly theirs.
//!
//! Nothing here is learned or looked up: the customer's settings name the people.

use super::text::Folded;

/// Somebody whose name is worth borrowing: a manager, an accountant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// As mail shows it: `Ann Example`.
    pub name: String,
    /// All addresses the person writes from, private ones too.
    pub addresses: Vec<String>,
}

/// A [`Person`] as it is compared.
#[derive(Clone, Debug)]
pub(super) struct Protected {
    /// See [`name_key`].
    pub key: Vec<String>,
    /// In lower case.
    pub addresses: Vec<String>,
}

impl Protected {
    /// `None` for a name of one word: too many people share it.
    pub fn of(person: &Person) -> Option<Protected> {
        let key = name_key(&person.name);
        let addresses = person.addresses.iter().map(|address| address.trim().to_lowercase()).collect();
        (key.len() >= 2).then_some(Protected { key, addresses })
    }
}

/// The words of a name in alphabetical order, folded, without titles and initials: `Example, Dr. Ann B.` is `ann example`.
pub(super) fn name_key(name: &str) -> Vec<String> {
    const TITLES: [&str; 9] = ["dr", "prof", "mr", "mrs", "ms", "herr", "frau", "ing", "dipl"];
    let folded = Folded::of(name).text;
    let words = folded.split(|letter: char| !letter.is_alphanumeric()).filter(|word| word.chars().count() > 1);
    let mut key: Vec<String> = words.filter(|word| !TITLES.contains(word)).take(12).map(str::to_owned).collect();
    key.sort();
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_equal_however_they_are_written() {
        let key = name_key("Ann Example");
        for name in ["ann example", "Example, Ann", "Dr. Ann B. Example", "\"ANN EXAMPLE\"", "Аnn Еxample", "Ann\u{a0}Example"]
        {
            assert_eq!(name_key(name), key, "{name}");
        }
        assert_ne!(name_key("Ann Example Support"), key);
        assert!(Protected::of(&Person { name: "Ann".into(), addresses: vec![] }).is_none());
    }
}
