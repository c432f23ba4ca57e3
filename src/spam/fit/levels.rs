//! From scores to probabilities and levels.

use super::logistic::{self, Bound, Column, Rows};
use super::measure::Scored;
use crate::mail::SpamLevel;
use crate::spam::Thresholds;
use crate::spam::scale::level_of;

/// How much of the ham each level may hit, on messages that were not fitted to. The promise is 2, 0.5 and 0.05 %; the cuts
/// stay well inside, since ham elsewhere is of other kinds than the ham here.
const LOW_HAM: f64 = 0.0016;
const MED_HAM: f64 = 0.0012;
const HIGH_HAM: f64 = 0.0005;
/// Points between two levels, and from zero to the lowest, at least.
const APART: f32 = 0.5;

/// Where the levels begin, and how a score becomes a probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cuts {
    pub low: f32,
    pub med: f32,
    pub high: f32,
    /// The probability of spam, at a share of one half, is 1 / (1 + e^−(steepness·(score − even))).
    pub even: f32,
    pub steepness: f32,
}

impl Cuts {
    pub fn level(&self, score: f32) -> SpamLevel {
        level_of(score, Thresholds { low: self.low, med: self.med, high: self.high })
    }
}

/// Cuts scores of messages that were not fitted to.
pub fn cut(scores: impl Iterator<Item = (f32, bool)> + Clone) -> Cuts {
    let scored = Scored::new(scores.clone());
    // A tenth of a point above the last ham that is let through, so that what people see is what counts.
    let above = |share: f64| (scored.threshold(share) * 10.0).floor() / 10.0 + 0.1;
    let (low, med, high) = (above(LOW_HAM), above(MED_HAM), above(HIGH_HAM));
    let (even, steepness) = calibrate(scores);
    let low = low.max(APART);
    let med = med.max(low + APART);
    Cuts { low, med, high: high.max(med + APART), even, steepness }
}

/// One-dimensional logistic regression with both classes counting the same (Platt 1999).
fn calibrate(scores: impl Iterator<Item = (f32, bool)>) -> (f32, f32) {
    let (values, spam): (Vec<f32>, Vec<bool>) = scores.unzip();
    let spams = spam.iter().filter(|spam| **spam).count().max(1) as f32;
    let hams = (spam.len() as f32 - spams).max(1.0);
    let cost: Vec<f32> = spam.iter().map(|spam| 1000.0 / if *spam { spams } else { hams }).collect();
    let column = Column { rows: (0..values.len() as u32).collect(), values };
    let fitted = logistic::fit(&Rows { spam: &spam, cost: &cost }, &[column], &[Bound::free(1e-3)]);
    let steepness = fitted.weights[0].max(1e-3);
    (-fitted.intercept / steepness, steepness)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_rise_and_keep_their_promise() {
        let scores = (0..20_000).map(|n| {
            let spam = n % 2 == 0;
            let noise = ((n * 7919) % 10_007) as f32 / 1000.0 - 5.0;
            (noise + if spam { 8.0 } else { 0.0 }, spam)
        });
        let cuts = cut(scores.clone());
        let scored = Scored::new(scores);
        assert!(cuts.low < cuts.med && cuts.med < cuts.high);
        let share = |score| scored.reaching(score).0 as f64 / scored.counts().0 as f64;
        assert!(share(cuts.low) <= 0.02 && share(cuts.med) <= 0.005 && share(cuts.high) <= 0.0005);
        assert!((cuts.even - 4.0).abs() < 1.0, "{cuts:?}");
    }
}
