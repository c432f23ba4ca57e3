//! The token model's part of a judgement: one hit among the others, with the words that spoke loudest.

use std::sync::Arc;

use super::Engine;
use crate::mail::RuleHit;
use crate::spam::facts::Facts;
use crate::spam::learned::Learning;
use crate::spam::model::{LOG_ODDS_MAX, Model};
use crate::spam::scale::rounded;
use crate::spam::text::evidence;
use crate::spam::tokens::Tokens;

/// The rule id of the token model.
pub const TOKENS: &str = "TOKENS";
/// That of what a domain's users taught.
const LEARNED: &str = "LEARNED";
/// Points for each unit of log-odds. (Measured on messages that were not fitted to: 1 to 2 do about the same where the fit has seen
/// mail of the same source; more than 1.5 is worse where it has not.)
const POINTS: f32 = 1.2;
/// Words may speak for a message only so far, and where a rule is nearly a proof hardly at all: whoever pastes a page of good
/// prose beside a program must not outweigh it.
const LEAST: f32 = -5.0;
const LEAST_BESIDE_PROOF: f32 = -1.0;
const MOST: f32 = 14.0;
/// Words named as evidence.
const NAMED: usize = 4;

impl Engine {
    /// Points for log-odds of the token model, where the strongest rule that hit adds `strongest`.
    pub fn token_points(log_odds: f32, strongest: f32) -> f32 {
        (log_odds * POINTS).clamp((LEAST + strongest).min(LEAST_BESIDE_PROOF), MOST)
    }

    /// The token model, where there is one.
    pub fn model(&self) -> Option<Arc<Model>> {
        self.model.clone()
    }

    /// What a domain learned on top of everything else, in log-odds, as a hit; `None` for what says nothing.
    pub fn learned_hit(&self, log_odds: f32) -> Option<RuleHit> {
        let points = rounded(log_odds * POINTS);
        (points != 0.0).then(|| RuleHit { rule: LEARNED.to_owned(), points, evidence: "like mail of this domain".to_owned() })
    }

    /// What the token model says, with what the platform learned. `None`: there is no model.
    pub(super) fn token_hit(&self, facts: &Facts, learning: &Learning, strongest: f32) -> Option<(f32, RuleHit)> {
        let model = self.model.as_deref()?;
        let tokens = Tokens::of(facts);
        let log_odds = (model.log_odds(&tokens) + learning.platform.log_odds(&tokens)).clamp(-LOG_ODDS_MAX, LOG_ODDS_MAX);
        let points = rounded(Engine::token_points(log_odds, strongest));
        // Nobody asks why a message is liked.
        let evidence = if points >= 1.0 { loudest(model, facts, &tokens) } else { String::new() };
        Some((log_odds, RuleHit { rule: TOKENS.to_owned(), points, evidence }))
    }
}

/// The words that speak loudest for spam.
fn loudest(model: &Model, facts: &Facts, tokens: &Tokens) -> String {
    let mut loud: Vec<(f32, u32)> = Vec::with_capacity(NAMED + 1);
    for hash in tokens.hashes() {
        let weight = model.weight(*hash);
        if weight > loud.last().map_or(0.0, |(weight, _)| *weight) || loud.len() < NAMED && weight > 0.0 {
            let at = loud.partition_point(|(known, _)| *known >= weight);
            loud.insert(at, (weight, *hash));
            loud.truncate(NAMED);
        }
    }
    let words = Tokens::named(facts, &loud.iter().map(|(_, hash)| *hash).collect::<Vec<_>>());
    evidence(&words.join(", "))
}
