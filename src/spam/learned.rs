//! What was learned here, on top of the shipped token model: weights of tokens, for the platform and for single domains.
//!
//! Pure: made from examples (the hashed tokens of messages that somebody called spam or ham), kept elsewhere
//! (`store::Lessons`). Weights are never changed but always made anew from all examples, so that what was forgotten has left
//! no trace, and the order in which things were learned makes no difference.
//!
//! Knows nothing of words, senders or time; what it cannot tell from tokens it does not learn. Nothing here fails.

mod example;
mod fit;
mod lesson;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::tokens::Tokens;
use crate::mail::Domain;

pub use example::{Digest, Example, Label};
pub use lesson::{Lesson, NoLesson, attached, is_trace, stripped};

/// What was learned moves a message by so much at most, in natural log-odds, either way.
pub const LEARNED_MAX: f32 = 6.0;
/// Weights that are kept of the platform's, the largest ones.
const WEIGHTS_MAX: usize = 200_000;
/// The same for a domain, and for all domains together: they share what there is when there are many.
const DOMAIN_WEIGHTS_MAX: usize = 20_000;
const DOMAIN_WEIGHTS_MIN: usize = 500;
const ALL_DOMAINS_WEIGHTS_MAX: usize = 4_000_000;

/// Weights of tokens, added to those of the shipped model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learned {
    /// In rising order.
    hashes: Vec<u32>,
    /// One for each hash.
    weights: Vec<f32>,
}

impl Learned {
    /// Learns the platform's weights from examples of any scope. `base`: what the shipped model says of a message, in natural
    /// log-odds; only what it gets wrong is learned. `today`: in days since 1970.
    pub fn from_examples(examples: &[Example], base: impl Fn(&Tokens) -> f32, today: u32) -> Learned {
        Learned::fitted(&examples.iter().collect::<Vec<_>>(), base, today, WEIGHTS_MAX)
    }

    fn fitted(examples: &[&Example], base: impl Fn(&Tokens) -> f32, today: u32, most: usize) -> Learned {
        // In the order of their digests, which is as good as a random one: the same examples give the same weights, however
        // they came in. Of a message that is there twice, the later one counts.
        let unique: BTreeMap<Digest, &Example> = examples.iter().map(|example| (example.digest, *example)).collect();
        let samples: Vec<fit::Sample<'_>> = unique
            .values()
            .filter(|example| !example.tokens.hashes().is_empty())
            .map(|example| fit::Sample {
                hashes: example.tokens.hashes(),
                value: example.tokens.value(),
                label: example.label,
                base: base(&example.tokens),
                age: today.saturating_sub(example.day),
            })
            .collect();
        let (hashes, weights) = fit::fit(&samples, most);
        Learned { hashes, weights }
    }

    /// In natural log-odds, from -[`LEARNED_MAX`] to [`LEARNED_MAX`]: above zero speaks for spam.
    pub fn log_odds(&self, tokens: &Tokens) -> f32 {
        // Both are sorted: what was passed is not searched again.
        let (mut sum, mut from) = (0.0, 0);
        for hash in tokens.hashes() {
            match self.hashes[from..].binary_search(hash) {
                Ok(place) => {
                    sum += self.weights[from + place];
                    from += place + 1;
                }
                Err(place) => from += place,
            }
        }
        (sum * tokens.value()).clamp(-LEARNED_MAX, LEARNED_MAX)
    }

    /// How many tokens have a weight.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

/// Everything that was learned, as it is used. Swapped whole when more is learned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learning {
    pub platform: Arc<Learned>,
    /// On top of the platform's.
    pub domains: HashMap<Domain, Arc<Learned>>,
}

impl Learning {
    /// Learns from all examples: the platform from those without a domain, each domain from its own on top of that.
    pub fn from_examples(examples: &[Example], base: impl Fn(&Tokens) -> f32, today: u32) -> Learning {
        let mut by_scope: BTreeMap<Option<&Domain>, Vec<&Example>> = BTreeMap::new();
        for example in examples {
            by_scope.entry(example.scope.as_ref()).or_default().push(example);
        }
        let platforms = by_scope.remove(&None).unwrap_or_default();
        let platform = Learned::fitted(&platforms, &base, today, WEIGHTS_MAX);
        let most = (ALL_DOMAINS_WEIGHTS_MAX / by_scope.len().max(1)).clamp(DOMAIN_WEIGHTS_MIN, DOMAIN_WEIGHTS_MAX);
        let with_platform = |tokens: &Tokens| base(tokens) + platform.log_odds(tokens);
        let domains = by_scope
            .into_iter()
            .filter_map(|(scope, examples)| Some((scope?.clone(), examples)))
            .map(|(domain, examples)| (domain, Arc::new(Learned::fitted(&examples, with_platform, today, most))))
            .collect();
        Learning { platform: Arc::new(platform), domains }
    }

    /// What a domain learned on top of the platform, in natural log-odds; zero for one that learned nothing.
    pub fn of_domain(&self, domain: &Domain, tokens: &Tokens) -> f32 {
        self.domains.get(domain).map_or(0.0, |learned| learned.log_odds(tokens))
    }

    /// How many weights there are in all.
    pub fn weights(&self) -> usize {
        self.platform.len() + self.domains.values().map(|learned| learned.len()).sum::<usize>()
    }
}
