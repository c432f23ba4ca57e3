//! The regular expressions of all rules, in a few sets for each text they search, so that judging reads each text a few times
//! however many rules there are.
//!
//! Linear whatever the text is: the regex crate has no backtracking, sizes are limited here and texts in `Facts`.
//! Expressions for long texts are compiled for bytes: what a Unicode class, or a word boundary beside a letter beyond ASCII,
//! costs there is a factor of ten. The price: no letters beyond ASCII in `[…]`.
//!
//! Expressions with a gap (`[^.]*`, `{0,80}`) stay out of the sets: each that has begun doubles the states of the common
//! automaton, which then is built anew for every text. They are found by their beginnings (`prefixes`), as most expressions for
//! bodies are, or searched alone, when a condition asks and it can still matter.

mod prefixes;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder, SetMatches};

use super::facts::Facts;
use super::text::evidence;
use prefixes::Prefixes;

/// Of one compiled expression, in bytes. A list of hundred words fits; a counted repetition of a large class does not.
const PATTERN_SIZE_MAX: usize = 1 << 20;
/// Of one set, and of its lazily built automaton for each thread that judges.
const SET_SIZE_MAX: usize = 16 << 20;

/// Expressions in one set. With more the common automaton has so many states that it is built anew for every text, and then
/// given up for a slower one: 240 together took eight times as long as in three sets.
const TOGETHER_MAX: usize = 60;

/// The texts that expressions search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Searched {
    Subject,
    From,
    Body,
    RawHeader,
    Url,
    Attachment,
}

impl Searched {
    const ALL: [Searched; 6] =
        [Searched::Subject, Searched::From, Searched::Body, Searched::RawHeader, Searched::Url, Searched::Attachment];

    /// Short texts afford Unicode: `[uü]`, and Ü for ü.
    fn is_unicode(self) -> bool {
        matches!(self, Searched::Subject | Searched::From)
    }

    fn text(self, facts: &Facts) -> &str {
        match self {
            Searched::Subject => &facts.headers.subject,
            Searched::From => &facts.from_text,
            Searched::Body => &facts.folded.text,
            Searched::RawHeader => &facts.headers.section,
            Searched::Url => &facts.urls,
            Searched::Attachment => &facts.attachment_names,
        }
    }
}

/// One expression among those that search the same text.
#[derive(Clone, Copy, Debug)]
pub(super) struct PatternId {
    searched: Searched,
    place: usize,
}

impl PatternId {
    pub fn searched(self) -> Searched {
        self.searched
    }
}

/// Expressions while rules are read.
#[derive(Default)]
pub(super) struct PatternsBuilder {
    by_text: [Vec<Regex>; 6],
}

impl PatternsBuilder {
    pub fn add(&mut self, searched: Searched, pattern: &str) -> Result<PatternId, String> {
        let regex = compile(searched, pattern)?;
        let list = &mut self.by_text[searched as usize];
        list.push(regex);
        Ok(PatternId { searched, place: list.len() - 1 })
    }

    pub fn build(self) -> Result<Patterns, String> {
        let mut sets = Vec::new();
        for (searched, regexes) in Searched::ALL.into_iter().zip(self.by_text) {
            // Short texts are not worth it, and their letters have two cases.
            let prefixes = match searched {
                Searched::Body => Prefixes::of(regexes.iter().map(|regex| (regex.as_str(), has_gap(regex.as_str()))))?,
                _ => Prefixes::default(),
            };
            let joins = |(place, regex): &(usize, &Regex)| !has_gap(regex.as_str()) && !prefixes.knows(*place);
            let together: Vec<&str> = regexes.iter().enumerate().filter(joins).map(|(_, regex)| regex.as_str()).collect();
            let mut next = (0..).map(|place| (place / TOGETHER_MAX, place % TOGETHER_MAX));
            let places = regexes.iter().enumerate().map(|regex| if joins(&regex) { next.next() } else { None }).collect();
            let set = |together: &[&str]| {
                RegexSetBuilder::new(together)
                    .case_insensitive(searched != Searched::Body)
                    .unicode(searched.is_unicode())
                    .multi_line(true)
                    .size_limit(SET_SIZE_MAX)
                    .dfa_size_limit(SET_SIZE_MAX)
                    .build()
                    .map_err(|error| format!("all {searched:?} expressions together: {error}"))
            };
            let together = together.chunks(TOGETHER_MAX).map(set).collect::<Result<_, _>>()?;
            sets.push(PatternSet { sets: together, places, regexes, prefixes });
        }
        Ok(Patterns { sets })
    }
}

/// What matched; an expression for bytes may cut a letter in two.
pub(super) fn evidence_of(found: &[u8]) -> String {
    evidence(&String::from_utf8_lossy(found))
}

/// A single expression, as `header` conditions use it.
pub(super) fn compile_header(pattern: &str) -> Result<Regex, String> {
    compile(Searched::Subject, pattern)
}

fn compile(searched: Searched, pattern: &str) -> Result<Regex, String> {
    if searched == Searched::Body && has_capitals(pattern) {
        return Err(format!("`{pattern}`: body text is in lower case, so capitals never match"));
    }
    let regex = RegexBuilder::new(pattern)
        .case_insensitive(searched != Searched::Body)
        .unicode(searched.is_unicode())
        .multi_line(true)
        .size_limit(PATTERN_SIZE_MAX)
        .build()
        .map_err(|error| format!("`{pattern}`: {}", last_line(&error.to_string())))?;
    match regex.is_match(b"") {
        true => Err(format!("`{pattern}` matches the empty text, so it matches everywhere")),
        false => Ok(regex),
    }
}

fn has_capitals(pattern: &str) -> bool {
    let mut escaped = false;
    pattern.chars().any(|letter| {
        let capital = letter.is_uppercase() && !escaped;
        escaped = letter == '\\' && !escaped;
        capital
    })
}

/// The regex crate draws a picture first and says what is wrong on the last line.
fn last_line(error: &str) -> &str {
    error.lines().last().unwrap_or(error).trim_start_matches("error: ")
}

fn has_gap(pattern: &str) -> bool {
    ["]*", "]+", ".*", ".+", "{"].iter().any(|gap| pattern.contains(gap))
}

/// All expressions, compiled.
pub(super) struct Patterns {
    sets: Vec<PatternSet>,
}

/// Those that search the same text.
struct PatternSet {
    regexes: Vec<Regex>,
    /// Those without a gap, [`TOGETHER_MAX`] in each.
    sets: Vec<RegexSet>,
    /// For each of `regexes` its set and its place there.
    places: Vec<Option<(usize, usize)>>,
    /// Those whose beginnings are sought first.
    prefixes: Prefixes,
}

/// Which of them match one message.
pub(super) struct Matched<'f> {
    facts: &'f Facts,
    sets: Vec<Vec<SetMatches>>,
    /// Of each text, what was found by its beginning.
    begun: Vec<prefixes::Begun>,
}

impl Patterns {
    pub fn search<'f>(&self, facts: &'f Facts) -> Matched<'f> {
        let search = |(searched, of): (Searched, &PatternSet)| {
            of.sets.iter().map(|set| set.matches(searched.text(facts).as_bytes())).collect()
        };
        let begun = |(searched, of): (Searched, &PatternSet)| of.prefixes.search(searched.text(facts).as_bytes());
        let sets = || Searched::ALL.into_iter().zip(&self.sets);
        Matched { facts, sets: sets().map(search).collect(), begun: sets().map(begun).collect() }
    }

    /// Whether looking for it means to read the whole text once more.
    pub fn searches_alone(&self, id: PatternId) -> bool {
        let of = &self.sets[id.searched as usize];
        of.places[id.place].is_none() && !of.prefixes.knows(id.place)
    }

    /// What an expression found, if it did.
    pub fn found(&self, id: PatternId, matched: &Matched<'_>) -> Option<String> {
        let of = &self.sets[id.searched as usize];
        let may_match = of.places[id.place].is_none_or(|(set, place)| matched.sets[id.searched as usize][set].matched(place));
        let text = id.searched.text(matched.facts).as_bytes();
        if of.prefixes.knows(id.place) {
            match matched.begun[id.searched as usize].of(id.place) {
                None => return None,
                Some(Some(found)) => return Some(evidence_of(&text[found])),
                Some(None) => {}
            }
        }
        may_match.then(|| of.regexes[id.place].find(text)).flatten().map(|found| evidence_of(found.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_that_cannot_work_are_refused() {
        for (searched, pattern, why) in [
            (Searched::Body, "Viagra", "capitals"),
            (Searched::Body, "a*", "empty text"),
            (Searched::Subject, "(", "unclosed"),
            (Searched::Subject, "[a-z]{5000}{5000}", "size limit"),
        ] {
            let error = compile(searched, pattern).unwrap_err();
            assert!(error.contains(why), "{pattern}: {error}");
        }
        assert!(compile(Searched::Body, r"\S+\W").is_ok(), "classes are no capitals");
    }

    #[test]
    fn short_texts_have_unicode_classes() {
        assert!(compile(Searched::Subject, "[uü]ber").unwrap().is_match("ÜBER".as_bytes()));
        assert!(compile(Searched::Body, "(u|ü)ber").unwrap().is_match("über".as_bytes()));
    }
}
