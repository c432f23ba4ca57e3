//! What was learned here, on top of the shipped token model: weights of tokens, for the platform and for single domains.
//!
//! Pure: made from examples (the hashed tokens of messages that somebody called spam or ham), kept elsewhere.

use std::collections::HashMap;
use std::sync::Arc;

use super::tokens::Tokens;
use crate::mail::Domain;

/// Weights of tokens, added to those of the shipped model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learned {
    weights: HashMap<u32, f32>,
}

impl Learned {
    /// In natural log-odds: above zero speaks for spam.
    pub fn log_odds(&self, tokens: &Tokens) -> f32 {
        let sum: f32 = tokens.hashes().iter().filter_map(|hash| self.weights.get(hash)).sum();
        sum * tokens.value()
    }
}

/// Everything that was learned, as it is used. Swapped whole when more is learned.
#[derive(Clone, Debug, Default)]
pub struct Learning {
    pub platform: Arc<Learned>,
    pub domains: HashMap<Domain, Arc<Learned>>,
}
