//! Fitting the token model.

use std::collections::{HashMap, HashSet};

use super::Sample;
use super::logistic::{self, Bound, Column, Rows};
use crate::spam::model::Model;

/// A token counts when it stands in messages of so many sources: what stands in one list or one campaign alone names it,
/// and says nothing about spam.
const SOURCES_MIN: u32 = 3;
/// How much a row costs when it is on the wrong side, against the strength that holds weights at zero. Ham of a source smaller
/// than the largest costs more, by the root of how much smaller it is: what is rare here may be common elsewhere.
const COST: f32 = 1000.0;
/// Values are raised by how differently spam and ham use a token, to this power (after naive Bayes; Wang and Manning,
/// Baselines and Bigrams, 2012): rare words that speak clearly are heard.
const CONTRAST: f32 = 0.5;

pub fn fit(samples: &[Sample], inside: &dyn Fn(&Sample) -> bool) -> Model {
    let rows: Vec<&Sample> = samples.iter().filter(|sample| inside(sample)).collect();
    let seen = Seen::count(&rows);
    let (mut columns, mut places, mut contrasts) = (Vec::new(), Vec::new(), Vec::new());
    let mut column_of = vec![u32::MAX; seen.tokens.len()];
    for (place, token) in seen.tokens.iter().enumerate() {
        if token.sources.count_ones() >= SOURCES_MIN {
            column_of[place] = columns.len() as u32;
            columns.push(Column::default());
            places.push(place as u32);
            contrasts.push(seen.contrast(token));
        }
    }
    for (row, sample) in rows.iter().enumerate() {
        let value = sample.tokens.value();
        let mut before = u32::MAX;
        let mut own: Vec<u32> = sample.tokens.hashes().iter().map(|hash| column_of[Model::place(*hash) as usize]).collect();
        own.sort_unstable();
        for at in own.into_iter().filter(|at| *at != u32::MAX) {
            let column: &mut Column = &mut columns[at as usize];
            if at == before {
                // Two tokens of one message in one place of the table.
                *column.values.last_mut().expect("it was pushed a moment ago") += value * contrasts[at as usize];
                continue;
            }
            before = at;
            column.rows.push(row as u32);
            column.values.push(value * contrasts[at as usize]);
        }
    }
    let spam: Vec<bool> = rows.iter().map(|sample| sample.spam).collect();
    let cost = costs(&rows);
    let fitted = logistic::fit(&Rows { spam: &spam, cost: &cost }, &columns, &vec![Bound::free(1.0); columns.len()]);
    let weights =
        places.iter().zip(&fitted.weights).zip(&contrasts).map(|((place, weight), contrast)| (*place, weight * contrast));
    Model::of(fitted.intercept, weights)
}

fn costs(rows: &[&Sample]) -> Vec<f32> {
    let mut sizes: HashMap<&str, f32> = HashMap::new();
    rows.iter().for_each(|sample| *sizes.entry(&sample.source).or_default() += 1.0);
    let largest = sizes.values().copied().fold(0.0, f32::max);
    let weight = |sample: &Sample| match sample.spam {
        true => 1.0,
        false => (largest / sizes[sample.source.as_str()]).sqrt(),
    };
    rows.iter().map(|sample| COST * weight(sample)).collect()
}

/// Sources that are collections: most of their messages have an author's domain of their own, so that no sender can be
/// learned from them. Mailing lists have few authors and an archive of one firm has one.
fn collections<'s>(rows: &[&'s Sample]) -> HashSet<&'s str> {
    let mut authors: HashMap<&str, (HashSet<&str>, usize)> = HashMap::new();
    for sample in rows {
        let (seen, count) = authors.entry(&sample.source).or_default();
        seen.insert(&sample.author);
        *count += 1;
    }
    authors.into_iter().filter(|(_, (seen, count))| seen.len() * 2 > *count).map(|(source, _)| source).collect()
}

/// How often each place of the table was seen.
struct Seen {
    tokens: Vec<Token>,
    ham: f32,
    spam: f32,
}

#[derive(Clone, Copy, Default)]
struct Token {
    ham: u32,
    spam: u32,
    /// A bit for each source. Another year of spam or of a collection is another source: campaigns change, mailing lists stay.
    sources: u64,
}

impl Seen {
    fn count(rows: &[&Sample]) -> Seen {
        let mut names: Vec<String> = Vec::new();
        let collections = collections(rows);
        let mut seen = Seen { tokens: vec![Token::default(); 1 + Model::place(u32::MAX) as usize], ham: 1.0, spam: 1.0 };
        for sample in rows {
            let is_split = sample.spam || collections.contains(sample.source.as_str());
            let name = if is_split { format!("{} {}", sample.source, sample.year) } else { sample.source.clone() };
            let bit = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            for hash in sample.tokens.hashes() {
                let token = &mut seen.tokens[Model::place(*hash) as usize];
                token.sources |= 1 << (bit % 64);
                if sample.spam { token.spam += 1 } else { token.ham += 1 }
            }
        }
        seen.ham += seen.tokens.iter().map(|token| token.ham as f32).sum::<f32>();
        seen.spam += seen.tokens.iter().map(|token| token.spam as f32).sum::<f32>();
        seen
    }

    fn contrast(&self, token: &Token) -> f32 {
        let ratio = ((token.spam as f32 + 1.0) / self.spam) / ((token.ham as f32 + 1.0) / self.ham);
        ratio.ln().abs().powf(CONTRAST)
    }
}
