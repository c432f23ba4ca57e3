//! What fitting needs of the engine: which rules hit, and their sum under other points.

use super::Engine;
use crate::spam::facts::Facts;

impl Engine {
    /// The places of the rules that hit, in the order of [`Engine::rules`].
    pub fn places_hit(&self, facts: &Facts) -> Vec<u16> {
        let matched = self.patterns.search(facts);
        let hit = |(place, rule): (usize, &super::Rule)| {
            self.holds(&rule.condition, facts, &matched).map(|_| u16::try_from(place).expect("rules are few"))
        };
        self.rules.iter().enumerate().filter_map(hit).collect()
    }

    /// The sum of these rules with other points, under the caps of their families.
    pub fn sum_of(&self, places: &[u16], points: &[f32]) -> f32 {
        let mut left: Vec<f32> = self.families.iter().map(|family| family.cap.unwrap_or(f32::INFINITY)).collect();
        let mut sum = 0.0;
        for place in places.iter().map(|place| usize::from(*place)) {
            let (left, points) = (&mut left[self.rules[place].family], points[place]);
            let counts = points.min(*left);
            *left -= counts.max(0.0);
            sum += counts;
        }
        sum
    }
}
