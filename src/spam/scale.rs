//! Points → score → level: the arithmetic, one for judging, for explaining and for replaying, so that they cannot differ.

use super::rules::{Family, Thresholds};
use crate::mail::SpamLevel;

/// Something that adds points.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Part {
    /// Before any cap.
    pub points: f32,
    /// Its place among the families; `None`: no cap bounds it.
    pub family: Option<usize>,
    /// The message gets this level, or a higher one when the other parts alone reach it.
    pub level: Option<SpamLevel>,
}

/// What parts come to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sum {
    /// What each part adds, in their order: the points of all parts are always the score.
    pub counted: Vec<f32>,
    pub score: f32,
    pub level: SpamLevel,
}

/// The most points of one part; 0 where none has any.
pub(super) fn strongest(parts: &[Part]) -> f32 {
    parts.iter().map(|part| part.points).fold(0.0, f32::max)
}

/// A family with a cap: the strongest rules count in full, the others for what is left. Points below zero are not touched.
pub(super) fn sum(parts: &[Part], families: &[Family], thresholds: Thresholds) -> Sum {
    let mut left: Vec<f32> = families.iter().map(|family| family.cap.unwrap_or(f32::INFINITY)).collect();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|one, other| parts[*other].points.total_cmp(&parts[*one].points));
    let mut counted = vec![0.0; parts.len()];
    for place in order {
        let Part { points, family, .. } = parts[place];
        counted[place] = match family {
            Some(family) => {
                let points = rounded(points.min(left[family]));
                left[family] -= points.max(0.0);
                points
            }
            None => rounded(points),
        };
    }
    // In double precision the order of the parts does not matter for the hundredths.
    let total = |which: &dyn Fn(&Part) -> bool| {
        let points = parts.iter().zip(&counted).filter(|(part, _)| which(part)).map(|(_, points)| f64::from(*points));
        rounded(points.sum::<f64>() as f32)
    };
    // A rule that names its level decides, unless the others alone reach a higher one: a test string for the level low
    // must not be a way to make real spam pass as low.
    let named = parts.iter().filter_map(|part| part.level).max().unwrap_or_default();
    let level = named.max(level_of(total(&|part| part.level.is_none()), thresholds));
    Sum { score: total(&|_| true), level, counted }
}

/// The level that a score reaches.
pub(super) fn level_of(score: f32, thresholds: Thresholds) -> SpamLevel {
    let reached = |level: &&SpamLevel| threshold(**level, thresholds).is_none_or(|threshold| score >= threshold);
    SpamLevel::ALL.iter().rfind(reached).copied().unwrap_or_default()
}

/// The lowest score of a level; `None` for [`SpamLevel::None`].
pub(super) fn threshold(level: SpamLevel, thresholds: Thresholds) -> Option<f32> {
    match level {
        SpamLevel::None => None,
        SpamLevel::Low => Some(thresholds.low),
        SpamLevel::Med => Some(thresholds.med),
        SpamLevel::High => Some(thresholds.high),
    }
}

/// To hundredths: what people see is what is compared with a threshold.
pub(super) fn rounded(points: f32) -> f32 {
    let hundredths = (points * 100.0).round() / 100.0;
    // Not -0.0, which reads badly in a header.
    hundredths + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: Thresholds = Thresholds { low: 2.0, med: 3.0, high: 4.0 };

    #[track_caller]
    fn check(parts: &[(f32, Option<usize>, Option<SpamLevel>)], counted: &[f32], score: f32, level: SpamLevel) {
        let families = [Family { name: "capped".into(), cap: Some(2.5) }, Family { name: "free".into(), cap: None }];
        let parts: Vec<Part> = parts.iter().map(|&(points, family, level)| Part { points, family, level }).collect();
        let sum = sum(&parts, &families, LEVELS);
        assert_eq!((sum.counted.as_slice(), sum.score, sum.level), (counted, score, level));
    }

    #[test]
    fn the_table_of_sums() {
        use SpamLevel::{High, Low, Med, None as Nothing};
        check(&[], &[], 0.0, Nothing);
        check(&[(1.999, Some(1), None)], &[2.0], 2.0, Low);
        check(&[(1.5, Some(0), None), (2.0, Some(0), None)], &[0.5, 2.0], 2.5, Low);
        check(&[(-1.0, Some(0), None), (3.0, Some(0), None)], &[-1.0, 2.5], 1.5, Nothing);
        check(&[(2.0, Some(1), None), (2.0, None, None)], &[2.0, 2.0], 4.0, High);
        check(&[(50.0, Some(1), Some(Low))], &[50.0], 50.0, Low);
        check(&[(50.0, Some(1), Some(Low)), (3.1, None, None)], &[50.0, 3.1], 53.1, Med);
    }
}
