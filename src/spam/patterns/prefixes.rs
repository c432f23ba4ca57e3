//! Expressions found by their beginnings: the first letters of all of them are sought by tables of bits, those of whole words only
//! where a word begins, and only where all letters of a beginning stand is an expression tried. Most messages hold few such
//! beginnings, so that hundreds of expressions cost little more than one.
//!
//! Not every expression can be known so (`[0-9]`); those that cannot are searched as a set. Linear: an
//! expression is tried within [`REACH`] bytes, one with a gap a few times, and then searched once through the whole text.

use std::collections::HashMap;
use std::ops::Range;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::Look;
use regex_syntax::hir::literal::Extractor;

/// Beginnings of one expression; of more only the first letters are kept.
const LITERALS_MAX: usize = 400;
/// Shorter beginnings stand everywhere.
const LITERAL_MIN: usize = 3;
/// How far an expression can match, in bytes.
const REACH: usize = 1 << 10;
/// Tries of an expression with a gap. Where it begins more often, the text is searched once, whole.
const GAP_TRIES: u8 = 32;

/// The expressions of one text that have known beginnings.
#[derive(Default)]
pub(super) struct Prefixes {
    starts: Starts,
    /// By place; `None`: its beginnings are not known.
    expressions: Vec<Option<Expression>>,
}

struct Expression {
    regex: Box<Regex>,
    /// With a gap, a try may read far, so that only the first ones are made here.
    gap: bool,
}

/// What begins in one text.
#[derive(Default)]
pub(super) struct Begun {
    found: Vec<Option<Option<Range<usize>>>>,
}

impl Begun {
    /// `None`: nowhere. `Some(None)`: it begins often, and was not tried at all places. Otherwise where it is.
    pub fn of(&self, place: usize) -> Option<Option<Range<usize>>> {
        self.found.get(place).cloned().flatten()
    }
}

impl Prefixes {
    /// Of expressions for bytes, each with whether it has a gap.
    pub fn of<'p>(patterns: impl Iterator<Item = (&'p str, bool)>) -> Result<Prefixes, String> {
        let mut places: HashMap<(bool, Vec<u8>), Vec<usize>> = HashMap::new();
        let mut expressions = Vec::new();
        for (place, (pattern, gap)) in patterns.enumerate() {
            let beginnings = beginnings(pattern);
            expressions.push(match &beginnings {
                Some(_) => Some(Expression { regex: Box::new(compile(pattern)?), gap }),
                None => None,
            });
            let (word, beginnings) = beginnings.unwrap_or_default();
            for beginning in beginnings {
                places.entry((word, beginning)).or_default().push(place);
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
        let mut tries = vec![0_u8; self.expressions.len()];
        self.starts.each(text, |start, places| {
            for &place in places {
                let Some(expression) = self.expressions[place].as_ref().filter(|_| found[place].is_none()) else { continue };
                if expression.gap {
                    if tries[place] == GAP_TRIES {
                        found[place] = Some(None);
                        continue;
                    }
                    tries[place] += 1;
                }
                let end = text.len().min(start + REACH);
                let input = Input::new(text).span(start..end).anchored(Anchored::Yes);
                found[place] = expression.regex.find(input).map(|found| Some(found.range()));
            }
        });
        Begun { found }
    }
}

/// Beginnings, by how many letters of them are compared at once. An automaton of thousands of beginnings reads a text several
/// times slower, and takes megabytes.
#[derive(Default)]
struct Starts {
    /// Of expressions that begin where a word does, and of the others.
    words: Vec<Table>,
    anywhere: Vec<Table>,
    /// By the hash of three letters: in which tables something begins so, a bit each, those of `words` in the lower half.
    first: Vec<u16>,
}

/// Lengths by which beginnings are sought; a beginning is in the table of the longest one that it has.
const LENGTHS: [usize; 5] = [3, 4, 5, 6, 8];
const BITS: u32 = 14;
const FIRST_BITS: u32 = 12;
const ANYWHERE: u32 = 8;

/// Beginnings by their first letters.
struct Table {
    mask: u64,
    /// By the hash of these letters: whether any beginning has such.
    bits: Vec<u64>,
    /// The letters, in rising order, with the beginnings that have them and the expressions that begin so.
    lists: Vec<(u64, Vec<Beginning>)>,
}

type Beginning = (Vec<u8>, Vec<usize>);

impl Starts {
    fn of(beginnings: HashMap<(bool, Vec<u8>), Vec<usize>>) -> Starts {
        // The order of a map is another in each run.
        let mut beginnings: Vec<_> = beginnings.into_iter().collect();
        beginnings.sort();
        let mut starts = Starts { first: vec![0; 1 << FIRST_BITS], ..Starts::default() };
        for ((word, beginning), places) in beginnings {
            let tables = if word { &mut starts.words } else { &mut starts.anywhere };
            let length = LENGTHS.into_iter().rfind(|length| *length <= beginning.len()).unwrap_or(LITERAL_MIN);
            let mask = u64::MAX >> (64 - 8 * length);
            let at = tables.iter().position(|table| table.mask == mask).unwrap_or_else(|| {
                tables.push(Table { mask, bits: vec![0; 1 << (BITS - 6)], lists: Vec::new() });
                tables.len() - 1
            });
            starts.first[first_of(letters_at(&beginning, 0))] |= 1 << (at as u32 + if word { 0 } else { ANYWHERE });
            tables[at].add((beginning, places));
        }
        starts
    }

    fn each(&self, text: &[u8], mut begins: impl FnMut(usize, &[usize])) {
        let mut in_word = false;
        for (start, letter) in text.iter().enumerate() {
            let letters = letters_at(text, start);
            let asked = self.first[first_of(letters)];
            if asked != 0 {
                let mut ask = |tables: &[Table], asked: u16| {
                    let asked = tables.iter().enumerate().filter(|(at, _)| asked >> at & 1 == 1);
                    asked.for_each(|(_, table)| table.begins(text, start, letters, &mut begins));
                };
                if !in_word {
                    ask(&self.words, asked);
                }
                ask(&self.anywhere, asked >> ANYWHERE);
            }
            in_word = letter.is_ascii_alphanumeric() || *letter == b'_';
        }
    }
}

impl Table {
    fn add(&mut self, beginning: Beginning) {
        let letters = letters_at(&beginning.0, 0) & self.mask;
        let bit = bit_of(letters);
        self.bits[bit / 64] |= 1 << (bit % 64);
        match self.lists.binary_search_by_key(&letters, |(letters, _)| *letters) {
            Ok(at) => self.lists[at].1.push(beginning),
            Err(at) => self.lists.insert(at, (letters, vec![beginning])),
        }
    }

    fn begins(&self, text: &[u8], start: usize, letters: u64, begins: &mut impl FnMut(usize, &[usize])) {
        let letters = letters & self.mask;
        let bit = bit_of(letters);
        if self.bits[bit / 64] >> (bit % 64) & 1 == 0 {
            return;
        }
        if let Ok(at) = self.lists.binary_search_by_key(&letters, |(letters, _)| *letters) {
            for (beginning, places) in &self.lists[at].1 {
                if text[start..].starts_with(beginning) {
                    begins(start, places);
                }
            }
        }
    }
}

/// Eight letters, as a number; behind the end there are zeros.
fn letters_at(text: &[u8], start: usize) -> u64 {
    match text[start..].first_chunk() {
        Some(letters) => u64::from_le_bytes(*letters),
        None => {
            let mut letters = [0; 8];
            letters[..text.len() - start].copy_from_slice(&text[start..]);
            u64::from_le_bytes(letters)
        }
    }
}

fn bit_of(letters: u64) -> usize {
    hashed(letters, BITS)
}

fn first_of(letters: u64) -> usize {
    hashed(letters & 0xff_ffff, FIRST_BITS)
}

/// Fibonacci hashing (Knuth, vol. 3, §6.4).
fn hashed(letters: u64, bits: u32) -> usize {
    (letters.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits)) as usize
}

/// With what an expression can begin, when that can be told, and whether only where a word begins.
fn beginnings(pattern: &str) -> Option<(bool, Vec<Vec<u8>>)> {
    let mut parser = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).multi_line(true).build();
    let hir = parser.parse(pattern).ok()?;
    let mut extractor = Extractor::new();
    extractor.limit_total(LITERALS_MAX);
    let literals = extractor.extract(&hir);
    let literals: Vec<Vec<u8>> = literals.literals()?.iter().map(|literal| literal.as_bytes().to_vec()).collect();
    let known = !literals.is_empty() && literals.iter().all(|literal| literal.len() >= LITERAL_MIN);
    let is_letter = |literal: &Vec<u8>| literal[0].is_ascii_alphanumeric() || literal[0] == b'_';
    // In front of a letter, a boundary is the beginning of a word.
    let word = hir.properties().look_set_prefix().contains(Look::WordAscii) && literals.iter().all(is_letter);
    known.then_some((word, literals))
}

fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false).multi_line(true))
        .configure(Regex::config().utf8_empty(false))
        .build(pattern)
        .map_err(|error| format!("`{pattern}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_found_where_a_search_finds_them() {
        let patterns =
            [r"\bfree money\b", r"casino", r"(win|won) a (car|boat)", r"\b(über|uber)weisung", r"\bno\b.*gap", r"-{3}[a-z]"];
        let gaps = [false, false, false, false, true, false];
        let prefixes = Prefixes::of(patterns.into_iter().zip(gaps)).unwrap();
        let texts = [
            "free money",
            "carefree money",
            "megacasino",
            "xwin a car",
            "we won a boat",
            "die überweisung",
            "uberweisung",
            "xuberweisung",
            "no, there is a gap",
            "casin",
            "---a",
            "-----b",
            "",
            "a",
            "free moneyed",
            "wi",
            "fre money free money",
        ];
        for text in texts {
            let begun = prefixes.search(text.as_bytes());
            for (place, pattern) in patterns.iter().enumerate().filter(|(place, _)| prefixes.knows(*place)) {
                let alone = compile(pattern).unwrap().find(text.as_bytes()).map(|found| found.range());
                match begun.of(place) {
                    Some(Some(range)) => assert_eq!(Some(range), alone, "{pattern} in {text:?}"),
                    // It only begins: whether it goes on is asked elsewhere.
                    Some(None) => assert!(gaps[place]),
                    None => assert_eq!(alone, None, "{pattern} in {text:?}"),
                }
            }
        }
        assert!(prefixes.knows(0) && prefixes.knows(1) && prefixes.knows(3));
    }
}
