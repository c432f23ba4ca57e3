//! Expressions found by their beginnings: one automaton seeks the letters with which any of them can begin, and only there is
//! an expression tried. Most messages hold few such beginnings, so that hundreds of expressions cost little more than one.
//!
//! Not every expression can be known so (`[0-9]`); those that cannot are searched as a set. Linear: an expression without a
//! gap is tried within [`REACH`] bytes, one with a gap is searched once through the whole text when its beginning stands there.

use std::collections::HashMap;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, MatchKind};
use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::literal::Extractor;

/// Beginnings of one expression; of more only the first letters are kept.
const LITERALS_MAX: usize = 400;
/// Shorter beginnings stand everywhere.
const LITERAL_MIN: usize = 3;
/// How far an expression without a gap can match, in bytes.
const REACH: usize = 1 << 10;

/// The expressions of one text that have known beginnings.
#[derive(Default)]
pub(super) struct Prefixes {
    automaton: Option<AhoCorasick>,
    /// For each beginning the places of the expressions that begin so.
    owners: Vec<Vec<usize>>,
    /// By place; `None`: its beginnings are not known.
    expressions: Vec<Option<Expression>>,
}

enum Expression {
    Near(Box<Regex>),
    /// With a gap: only that it begins is looked for here.
    Gap,
}

/// What begins in one text.
#[derive(Default)]
pub(super) struct Begun {
    found: Vec<Option<Option<Range<usize>>>>,
}

impl Begun {
    /// `None`: nowhere. `Some(None)`: it begins somewhere. Otherwise where it is.
    pub fn of(&self, place: usize) -> Option<Option<Range<usize>>> {
        self.found.get(place).cloned().flatten()
    }
}

impl Prefixes {
    /// Of expressions for bytes, each with whether it has a gap.
    pub fn of<'p>(patterns: impl Iterator<Item = (&'p str, bool)>) -> Result<Prefixes, String> {
        let mut places: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        let mut expressions = Vec::new();
        for (place, (pattern, gap)) in patterns.enumerate() {
            let beginnings = beginnings(pattern);
            expressions.push(match beginnings {
                Some(_) if gap => Some(Expression::Gap),
                Some(_) => Some(Expression::Near(Box::new(compile(pattern)?))),
                None => None,
            });
            for beginning in beginnings.into_iter().flatten() {
                places.entry(beginning).or_default().push(place);
            }
        }
        let (literals, owners): (Vec<_>, Vec<_>) = places.into_iter().unzip();
        let automaton = AhoCorasickBuilder::new()
            .match_kind(MatchKind::Standard)
            // A table of a few MiB that reads a text twice as fast as what is chosen for so many words.
            .kind(Some(AhoCorasickKind::DFA))
            .build(literals)
            .map_err(|error| format!("the beginnings of all expressions together: {error}"))?;
        Ok(Prefixes { automaton: Some(automaton), owners, expressions })
    }

    pub fn knows(&self, place: usize) -> bool {
        self.expressions.get(place).is_some_and(Option::is_some)
    }

    pub fn search(&self, text: &[u8]) -> Begun {
        let Some(automaton) = &self.automaton else { return Begun::default() };
        let mut found: Vec<Option<Option<Range<usize>>>> = vec![None; self.expressions.len()];
        for begin in automaton.find_overlapping_iter(text) {
            for &place in &self.owners[begin.pattern().as_usize()] {
                match &self.expressions[place] {
                    Some(Expression::Near(regex)) if found[place].is_none() => {
                        let end = text.len().min(begin.start() + REACH);
                        let input = Input::new(text).span(begin.start()..end).anchored(Anchored::Yes);
                        found[place] = regex.find(input).map(|found| Some(found.range()));
                    }
                    Some(Expression::Gap) => found[place] = Some(None),
                    _ => {}
                }
            }
        }
        Begun { found }
    }
}

/// With what an expression can begin, when that can be told.
fn beginnings(pattern: &str) -> Option<Vec<Vec<u8>>> {
    let mut parser = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).multi_line(true).build();
    let hir = parser.parse(pattern).ok()?;
    let mut extractor = Extractor::new();
    extractor.limit_total(LITERALS_MAX);
    let literals = extractor.extract(&hir);
    let literals: Vec<Vec<u8>> = literals.literals()?.iter().map(|literal| literal.as_bytes().to_vec()).collect();
    let known = !literals.is_empty() && literals.iter().all(|literal| literal.len() >= LITERAL_MIN);
    known.then_some(literals)
}

fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false).multi_line(true))
        .configure(Regex::config().utf8_empty(false))
        .build(pattern)
        .map_err(|error| format!("`{pattern}`: {error}"))
}
