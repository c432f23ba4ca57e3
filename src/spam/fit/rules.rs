//! Fitting the points of the rules: near to what a person gave them, with the sign a person gave them.

use super::Sample;
use super::logistic::{self, Bound, Column, Rows};
use crate::spam::engine::Engine;

/// A rule that hits fewer messages keeps its points: the data say nothing about it.
pub const HITS_MIN: usize = 8;
/// How strongly points are held where a person put them.
const STRENGTH: f32 = 4.0;
/// Natural log-odds in a point of a rule, when rules speak alone. Beside the token model, whose points are log-odds themselves,
/// they count half: much of what rules see, it has seen too. (Fitted on scores by cross-validation: 0.25 to 0.75 do about
/// the same, 1 is worse.)
const LOG_ODDS: f32 = 2.0;
/// Points of one rule at the most.
const POINTS_MOST: f32 = 6.0;

/// The points of one rule before and after, and what it hit.
#[derive(Clone, Debug)]
pub struct RulePoints {
    pub id: String,
    pub before: f32,
    pub points: f32,
    pub ham: usize,
    pub spam: usize,
}

impl RulePoints {
    pub fn is_fitted(&self) -> bool {
        self.ham + self.spam >= HITS_MIN
    }
}

pub fn fit(engine: &Engine, samples: &[Sample], inside: &dyn Fn(&Sample) -> bool) -> Vec<RulePoints> {
    let rows: Vec<&Sample> = samples.iter().filter(|sample| !sample.words_only && inside(sample)).collect();
    let rules = engine.rules();
    let mut columns = vec![Column::default(); rules.len()];
    let mut points: Vec<RulePoints> = rules
        .iter()
        .map(|rule| RulePoints { id: rule.id.clone(), before: rule.points, points: rule.points, ham: 0, spam: 0 })
        .collect();
    for (row, sample) in rows.iter().enumerate() {
        for hit in &sample.hits {
            let at = usize::from(*hit);
            columns[at].rows.push(row as u32);
            columns[at].values.push(LOG_ODDS);
            if sample.spam { points[at].spam += 1 } else { points[at].ham += 1 }
        }
    }
    let bounds: Vec<Bound> = points.iter().map(bound).collect();
    let spam: Vec<bool> = rows.iter().map(|sample| sample.spam).collect();
    let fitted = logistic::fit(&Rows { spam: &spam, cost: &vec![1.0; rows.len()] }, &columns, &bounds);
    for (rule, weight) in points.iter_mut().zip(fitted.weights) {
        rule.points = (weight * 10.0).round() / 10.0 + 0.0;
    }
    points
}

/// The sign stays: a rule that speaks against a message must not become a way to buy points off.
fn bound(rule: &RulePoints) -> Bound {
    let fixed = !rule.is_fitted() || rule.before.abs() >= 100.0;
    let (least, most) = match rule.before {
        before if fixed => (before, before),
        before if before >= 0.0 => (0.0, POINTS_MOST),
        _ => (-POINTS_MOST, 0.0),
    };
    Bound { least, most, prior: rule.before.clamp(least, most), strength: STRENGTH }
}
