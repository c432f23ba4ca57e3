//! The regular expressions of all rules, one set for each text they search, so that judging reads each text about once
//! however many rules there are.
//!
//! Linear whatever the text is: the regex crate has no backtracking, sizes are limited here and texts in `Facts`.

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder, SetMatches};

use super::facts::Facts;
use super::text::evidence;

/// Of one compiled expression, in bytes. A list of hundred words fits; a counted repetition of a large class does not.
const PATTERN_SIZE_MAX: usize = 1 << 20;
/// Of one set, and of its lazily built automaton for each thread that judges.
const SET_SIZE_MAX: usize = 16 << 20;

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
            let set = RegexSetBuilder::new(regexes.iter().map(Regex::as_str))
                .case_insensitive(searched != Searched::Body)
                .multi_line(true)
                .size_limit(SET_SIZE_MAX)
                .dfa_size_limit(SET_SIZE_MAX)
                .build()
                .map_err(|error| format!("all {searched:?} expressions together: {error}"))?;
            sets.push((set, regexes));
        }
        Ok(Patterns { sets })
    }
}

/// A single expression, as `header` conditions use it.
pub(super) fn compile_header(pattern: &str) -> Result<Regex, String> {
    compile(Searched::RawHeader, pattern)
}

fn compile(searched: Searched, pattern: &str) -> Result<Regex, String> {
    if searched == Searched::Body && has_capitals(pattern) {
        return Err(format!("`{pattern}`: body text is in lower case, so capitals never match"));
    }
    let regex = RegexBuilder::new(&ascii_boundaries(pattern))
        .case_insensitive(searched != Searched::Body)
        .multi_line(true)
        .size_limit(PATTERN_SIZE_MAX)
        .build()
        .map_err(|error| format!("`{pattern}`: {}", last_line(&error.to_string())))?;
    match regex.is_match("") {
        true => Err(format!("`{pattern}` matches the empty text, so it matches everywhere")),
        false => Ok(regex),
    }
}

/// A Unicode word boundary would take the slow road through every text with a letter beyond ASCII.
fn ascii_boundaries(pattern: &str) -> String {
    let mut written = String::with_capacity(pattern.len() + 16);
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\') {
            (_, true) => match letters.next() {
                Some('b') => written.push_str(r"(?-u:\b)"),
                next => written.extend(std::iter::once('\\').chain(next)),
            },
            (letter, false) => written.push(letter),
        }
    }
    written
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

/// All expressions, compiled.
pub(super) struct Patterns {
    sets: Vec<(RegexSet, Vec<Regex>)>,
}

/// Which of them match one message.
pub(super) struct Matched<'f> {
    facts: &'f Facts,
    sets: Vec<SetMatches>,
}

impl Patterns {
    pub fn search<'f>(&self, facts: &'f Facts) -> Matched<'f> {
        let sets = Searched::ALL.into_iter().zip(&self.sets).map(|(searched, (set, _))| set.matches(searched.text(facts)));
        Matched { facts, sets: sets.collect() }
    }

    /// What an expression found, if it did.
    pub fn found(&self, id: PatternId, matched: &Matched<'_>) -> Option<String> {
        let place = id.searched as usize;
        matched.sets[place].matched(id.place).then(|| {
            let found = self.sets[place].1[id.place].find(id.searched.text(matched.facts));
            found.map_or_else(String::new, |found| evidence(found.as_str()))
        })
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
    fn word_boundaries_are_ascii() {
        assert_eq!(ascii_boundaries(r"\bword\b \\b"), r"(?-u:\b)word(?-u:\b) \\b");
        assert!(compile(Searched::Body, r"\bgrüße\b").is_ok());
    }
}
