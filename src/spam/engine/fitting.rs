//! What fitting needs of the engine: which rules hit, and their sum under other points.

use super::Engine;
use crate::spam::facts::Facts;
use crate::spam::scale::{Part, strongest};

impl Engine {
    /// The places of the rules that hit, in the order of [`Engine::rules`].
    pub fn places_hit(&self, facts: &Facts) -> Vec<u16> {
        let matched = self.patterns.search(facts);
        let hit = |(place, rule): (usize, &super::Rule)| {
            self.holds(&rule.condition, facts, &matched).map(|_| u16::try_from(place).expect("rules are few"))
        };
        self.rules.iter().enumerate().filter_map(hit).collect()
    }

    /// The sum of these rules with other points, under the caps of their families, and the points of the strongest of them.
    pub fn sum_of(&self, places: &[u16], points: &[f32]) -> (f32, f32) {
        let part = |place: &u16| {
            let place = usize::from(*place);
            Part { points: points[place], ..self.part(place) }
        };
        let parts: Vec<Part> = places.iter().map(part).collect();
        (self.sum(&parts).score, strongest(&parts))
    }
}
