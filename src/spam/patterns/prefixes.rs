//! Expressions found by their beginnings: the first three letters of any of them are sought by a table of bits, and
//! only where all letters of a beginning stand is an expression tried. Most messages hold few such beginnings, so that hundreds of expressions cost little more than one.
//!
//! Not every expression can be known so (`[0-9]`); those that cannot are searched as a set. Linear: an expression without a
//! gap is tried within [`REACH`] bytes, one with a gap is searched once through the whole text when its beginning stands there.

use std::collections::HashMap;
use std::ops::Range;

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
    starts: Starts,
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
        Ok(Prefixes { starts: Starts::of(places), expressions })
    }

    pub fn knows(&self, place: usize) -> bool {
        self.expressions.get(place).is_some_and(Option::is_some)
    }

    pub fn search(&self, text: &[u8]) -> Begun {
        if self.expressions.is_empty() {
            return Begun::default();
        }
        let mut found: Vec<Option<Option<Range<usize>>>> = vec![None; self.expressions.len()];
        self.starts.each(text, |start, places| {
            for &place in places {
                match &self.expressions[place] {
                    Some(Expression::Near(regex)) if found[place].is_none() => {
                        let end = text.len().min(start + REACH);
                        let input = Input::new(text).span(start..end).anchored(Anchored::Yes);
                        found[place] = regex.find(input).map(|found| Some(found.range()));
                    }
                    Some(Expression::Gap) => found[place] = Some(None),
                    _ => {}
                }
            }
        });
        Begun { found }
    }
}

/// Beginnings, found by their first [`LITERAL_MIN`] letters: a bit says whether any begins so. An automaton of thousands of
/// beginnings reads a text four times slower, and takes megabytes.
#[derive(Default)]
struct Starts {
    bits: Vec<u64>,
    /// For each bit the place of its list.
    slots: Vec<u16>,
    /// Beginnings with the expressions that begin so.
    lists: Vec<Vec<(Vec<u8>, Vec<usize>)>>,
}

const START_BITS: usize = 1 << 15;

impl Starts {
    fn of(beginnings: HashMap<Vec<u8>, Vec<usize>>) -> Starts {
        let mut starts = Starts { bits: vec![0; START_BITS / 64], slots: vec![0; START_BITS], lists: Vec::new() };
        // The order of a map is another in each run.
        let mut beginnings: Vec<_> = beginnings.into_iter().collect();
        beginnings.sort();
        for beginning in beginnings {
            let Some(letters) = beginning.0.first_chunk() else { continue };
            let bit = bit_of(*letters);
            if starts.bits[bit / 64] >> (bit % 64) & 1 == 0 {
                starts.bits[bit / 64] |= 1 << (bit % 64);
                starts.slots[bit] = u16::try_from(starts.lists.len()).expect("fewer lists than bits");
                starts.lists.push(Vec::new());
            }
            starts.lists[usize::from(starts.slots[bit])].push(beginning);
        }
        starts
    }

    fn each(&self, text: &[u8], mut begins: impl FnMut(usize, &[usize])) {
        for (start, letters) in text.windows(LITERAL_MIN).enumerate() {
            let Ok(letters) = <[u8; LITERAL_MIN]>::try_from(letters) else { continue };
            let bit = bit_of(letters);
            if self.bits[bit / 64] >> (bit % 64) & 1 == 1 {
                for (beginning, places) in &self.lists[usize::from(self.slots[bit])] {
                    if text[start..].starts_with(beginning) {
                        begins(start, places);
                    }
                }
            }
        }
    }
}

fn bit_of(letters: [u8; LITERAL_MIN]) -> usize {
    let [one, two, three] = letters.map(usize::from);
    (one ^ two << 5 ^ three << 10 ^ one << 8) % START_BITS
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
