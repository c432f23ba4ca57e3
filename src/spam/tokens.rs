//! What a message consists of, as numbers: its words, pairs of words, header fields and shape, each hashed.
//!
//! The token model (`model`) and what was learned here (`learned`) weigh them. No word is kept, so neither can be read back.

use super::facts::Facts;

/// Of one message. More than this says nothing new, and bounds what a message can cost.
const TOKENS_MAX: usize = 4_000;

/// The hashed tokens of one message, each once, in rising order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens {
    hashes: Vec<u32>,
}

impl Tokens {
    pub fn of(facts: &Facts) -> Tokens {
        let words = facts.folded.text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| word.len() > 1);
        Tokens::from_hashes(words.map(|word| crc32fast::hash(word.as_bytes())).collect())
    }

    /// As they were stored; in any order.
    pub fn from_hashes(mut hashes: Vec<u32>) -> Tokens {
        hashes.sort_unstable();
        hashes.dedup();
        hashes.truncate(TOKENS_MAX);
        Tokens { hashes }
    }

    pub fn hashes(&self) -> &[u32] {
        &self.hashes
    }

    /// What each of them counts: all together have length one, so that a long message weighs no more than a short one.
    pub fn value(&self) -> f32 {
        1.0 / (self.hashes.len().max(1) as f32).sqrt()
    }
}
