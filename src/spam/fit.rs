//! Fitting: the token model, the points of the rules and the levels, from labelled mail.
//!
//! What is measured is always measured on messages that were not fitted to: five parts by cross-validation, and every source
//! left out once. Near copies of a message are always in the same part. Pure: samples in, a [`Trained`] out; the command
//! `spam train` reads and writes.

pub mod levels;
pub mod logistic;
pub mod measure;
mod rules;
mod tokens;

use super::engine::Engine;
use super::model::Model;
use super::tokens::Tokens;
use levels::Cuts;
pub use measure::Scored;
pub use rules::RulePoints;

/// One labelled message.
pub struct Sample {
    pub id: String,
    pub spam: bool,
    pub source: String,
    pub year: String,
    /// The author's domain; empty when it has none.
    pub author: String,
    pub tokens: Tokens,
    /// The places of the rules that hit, in the order of [`Engine::rules`].
    pub hits: Vec<u16>,
    /// Only words are learned from it: its names and hosts are invented, so that rules about them see what nobody sends.
    pub words_only: bool,
}

/// What was fitted, and how it did on messages that it had not seen.
pub struct Trained {
    pub model: Model,
    pub points: Vec<RulePoints>,
    pub cuts: Cuts,
    /// Of each sample, from the part that left it out.
    pub scores: Vec<Parts>,
    /// The same, from the fit that left its whole source out.
    pub by_source: Vec<Parts>,
}

/// The two halves of a score.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts {
    pub rules: f32,
    /// The points of the strongest of them.
    pub strongest: f32,
    /// Log-odds of the token model.
    pub tokens: f32,
}

impl Parts {
    /// As [`Engine::assess`] adds them up.
    pub fn score(&self) -> f32 {
        self.rules + Engine::token_points(self.tokens, self.strongest)
    }
}

/// Parts of the cross-validation.
const FOLDS: u32 = 5;

/// Fits everything. `progress` is told what is being done.
pub fn train(engine: &Engine, samples: &[Sample], progress: &mut dyn FnMut(&str)) -> Trained {
    let everything = |_: &Sample| true;
    let mut scores = vec![Parts::default(); samples.len()];
    for fold in 0..FOLDS {
        progress(&format!("cross-validation, part {} of {FOLDS}", fold + 1));
        let inside = |sample: &Sample| group(sample) % FOLDS != fold;
        judge_others(engine, samples, &inside, &mut scores);
    }
    let mut by_source = vec![Parts::default(); samples.len()];
    for source in sources(samples) {
        progress(&format!("leaving out {source}"));
        judge_others(engine, samples, &|sample: &Sample| sample.source != source, &mut by_source);
    }
    progress("everything");
    let model = tokens::fit(samples, &everything);
    let points = rules::fit(engine, samples, &everything);
    let judged = samples.iter().zip(&scores).filter(|(sample, _)| !sample.words_only);
    let cuts = levels::cut(judged.map(|(sample, parts)| (parts.score(), sample.spam)));
    Trained { model, points, cuts, scores, by_source }
}

pub fn sources(samples: &[Sample]) -> Vec<String> {
    let mut sources: Vec<String> = samples.iter().map(|sample| sample.source.clone()).collect();
    sources.sort();
    sources.dedup();
    sources
}

/// Fits to those inside and judges the others.
fn judge_others(engine: &Engine, samples: &[Sample], inside: &dyn Fn(&Sample) -> bool, scores: &mut [Parts]) {
    let model = tokens::fit(samples, inside);
    let points = rules::fit(engine, samples, inside);
    let points: Vec<f32> = points.iter().map(|rule| rule.points).collect();
    for (sample, parts) in samples.iter().zip(scores) {
        if !inside(sample) {
            let (rules, strongest) = engine.sum_of(&sample.hits, &points);
            *parts = Parts { rules, strongest, tokens: model.log_odds(&sample.tokens) };
        }
    }
}

/// The same for near copies: their lowest hashes are the same.
fn group(sample: &Sample) -> u32 {
    sample.tokens.hashes().iter().take(4).fold(0_u32, |group, hash| (group ^ hash).wrapping_mul(0x9e37_79b1)) >> 8
}
