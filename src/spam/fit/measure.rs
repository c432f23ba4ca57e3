//! How good scores are: the usual figures, with their uncertainty.

/// Scores with what they were of.
#[derive(Clone, Debug, Default)]
pub struct Scored {
    /// Of ham, highest first.
    ham: Vec<f32>,
    spam: Vec<f32>,
}

impl Scored {
    pub fn new(scores: impl IntoIterator<Item = (f32, bool)>) -> Scored {
        let mut scored = Scored::default();
        for (score, spam) in scores {
            if spam { scored.spam.push(score) } else { scored.ham.push(score) }
        }
        scored.ham.sort_by(|one, other| other.total_cmp(one));
        scored.spam.sort_by(f32::total_cmp);
        scored
    }

    /// The area under the receiver operating characteristic: how often a spam scores higher than a ham; ties count half.
    pub fn area(&self) -> f64 {
        let below = |score: f32| {
            let higher = self.ham.partition_point(|ham| *ham > score);
            let not_lower = self.ham.partition_point(|ham| *ham >= score);
            (self.ham.len() - not_lower) as f64 + (not_lower - higher) as f64 / 2.0
        };
        let sum: f64 = self.spam.iter().map(|score| below(*score)).sum();
        sum / (self.ham.len() as f64 * self.spam.len() as f64)
    }

    /// The score above which at most this share of ham lies.
    pub fn threshold(&self, share_of_ham: f64) -> f32 {
        let allowed = (share_of_ham * self.ham.len() as f64 + 1e-9).floor() as usize;
        self.ham.get(allowed).copied().unwrap_or(f32::NEG_INFINITY)
    }

    /// The share of spam above a score.
    pub fn caught(&self, above: f32) -> f64 {
        let caught = self.spam.len() - self.spam.partition_point(|score| *score <= above);
        caught as f64 / self.spam.len() as f64
    }

    /// Ham and spam that reach a score.
    pub fn reaching(&self, score: f32) -> (usize, usize) {
        (self.ham.partition_point(|ham| *ham >= score), self.spam.len() - self.spam.partition_point(|spam| *spam < score))
    }

    pub fn counts(&self) -> (usize, usize) {
        (self.ham.len(), self.spam.len())
    }

    /// Area, and spam caught at 0.1, 0.5 and 1 % of ham.
    pub fn figures(&self) -> String {
        let at = |share| 100.0 * self.caught(self.threshold(share));
        format!(
            "area {:.4}, caught at 0.1 % of ham {:.1} %, 0.5 % {:.1} %, 1 % {:.1} %",
            self.area(),
            at(0.001),
            at(0.005),
            at(0.01)
        )
    }
}

/// The range in which a share lies with 95 % confidence, when `hits` of `count` were seen (Wilson 1927).
pub fn range(hits: usize, count: usize) -> (f64, f64) {
    if count == 0 {
        return (0.0, 1.0);
    }
    const Z: f64 = 1.96;
    let (count, share) = (count as f64, hits as f64 / count as f64);
    let below = 1.0 + Z * Z / count;
    let middle = (share + Z * Z / 2.0 / count) / below;
    let half = Z * (share * (1.0 - share) / count + Z * Z / 4.0 / count / count).sqrt() / below;
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_counts_pairs_in_order() {
        let scored = Scored::new([(1.0, false), (2.0, false), (2.0, true), (3.0, true)]);
        assert_eq!(scored.area(), 0.875);
        assert_eq!(scored.caught(2.0), 0.5);
        assert_eq!(scored.reaching(2.0), (1, 2));
    }

    #[test]
    fn a_threshold_leaves_the_allowed_share_above_it() {
        let scored = Scored::new((0..1000).map(|n| (n as f32, false)));
        assert_eq!(scored.threshold(0.001), 998.0);
        assert_eq!(scored.threshold(0.0), 999.0);
    }

    #[test]
    fn ranges_are_wide_for_few() {
        let (low, high) = range(0, 100);
        assert!(low == 0.0 && high > 0.03 && high < 0.04);
        assert_eq!(range(0, 0), (0.0, 1.0));
    }
}
