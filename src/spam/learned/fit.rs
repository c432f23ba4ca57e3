//! Weights from examples: logistic regression on what the base leaves to be learned.
//!
//! Each example has length one, so its own weight in the solution (`alpha`, below) is how far it moves a message that is just
//! like it, and its cosine with another message is how much of that the other one gets. One report alone moves its like by less
//! than two, in log-odds, and each further one alike by less; what the base gets right already hardly moves.
//!
//! Most messages share some tokens. Where nearly all examples have one label, those tokens would learn it and drag all mail
//! along. So a token learns less with each further example of *both* labels that has it, and what it learns of them together is
//! bounded. Where one label is hardly there to be asked, it is taken to be like the other one: a hundred reports of spam alone
//! say little more of a word than three do. (A bias, or taking the middle of all examples off each, keeps other mail still as
//! well; but both explain examples of one label all alike, and then nothing is learned of any.)
//!
//! Solved by coordinate ascent in the dual (Yu, Huang and Lin, "Dual coordinate descent methods for logistic regression and
//! maximum entropy models", 2011): no rate to choose, and always the same result for the same examples in the same order.

use super::example::Label;

/// How much one new example may move its like, at most: the C of the textbooks.
const STRENGTH: f64 = 2.5;
/// An example counts half after so many days.
const HALF_LIFE_DAYS: f64 = 180.0;
/// Rounds over all examples.
const EPOCHS_MAX: usize = 8;
/// A round in which no example changes more than this is the last one.
const SETTLED: f64 = 2e-3;
/// A token that so many further examples of either label have learns half of each.
const COMMON_HALF: f64 = 2.0;
/// As if so many examples of each label were like those of the other one.
const UNKNOWN: f64 = 20.0;
/// Of the rarer label, examples count more, and of the other one less, by this factor at most.
const BALANCE_MAX: f64 = 2.0;
/// As if so many examples of each label were there already: two examples are no proportion.
const BALANCE_CALM: f64 = 5.0;
/// Smaller weights say nothing.
const WEIGHT_MIN: f32 = 1e-5;

/// One example as the fit sees it.
pub struct Sample<'a> {
    /// In rising order, each once.
    pub hashes: &'a [u32],
    /// What each of them counts.
    pub value: f32,
    pub label: Label,
    /// What is known of it without learning, in log-odds.
    pub base: f32,
    /// In days.
    pub age: u32,
}

/// The weights of tokens, in the order of their hashes; the `most` largest.
pub fn fit(samples: &[Sample<'_>], most: usize) -> (Vec<u32>, Vec<f32>) {
    let vocabulary = Vocabulary::of(samples);
    let rows = vocabulary.rows(samples);
    let costs = costs(samples);
    let gains = gains(samples, &rows, vocabulary.hashes.len());
    // Of each example: how far it moves itself.
    let square = |place: usize| {
        let gain: f32 = rows.row(place).iter().map(|index| gains[*index as usize]).sum();
        f64::from(gain * samples[place].value * samples[place].value)
    };
    let squares: Vec<f64> = (0..samples.len()).map(square).collect();
    let mut alphas = vec![0.0_f64; samples.len()];
    let mut weights = vec![0.0_f32; vocabulary.hashes.len()];
    for _ in 0..EPOCHS_MAX {
        let mut moved = 0.0_f64;
        for (place, sample) in samples.iter().enumerate() {
            let row = rows.row(place);
            let sign = if sample.label == Label::Spam { 1.0 } else { -1.0 };
            let sum: f32 = row.iter().map(|index| weights[*index as usize]).sum();
            let margin = f64::from(sample.base) + f64::from(sum * sample.value);
            let alpha = best_alpha(alphas[place], sign * margin, costs[place], squares[place]);
            let step = alpha - alphas[place];
            moved = moved.max(step.abs());
            alphas[place] = alpha;
            let each = (step * sign) as f32 * sample.value;
            row.iter().for_each(|index| weights[*index as usize] += each * gains[*index as usize]);
        }
        if moved < SETTLED {
            break;
        }
    }
    largest(vocabulary.hashes, weights, most)
}

/// The alpha at which the loss of one example and the length of the weights balance: a = C·σ(-m(a)), where its margin m grows
/// with a by `square`. The left side rises and the right side falls, so there is exactly one, between 0 and C.
fn best_alpha(before: f64, margin: f64, cost: f64, square: f64) -> f64 {
    let (mut low, mut high, mut alpha) = (0.0, cost, before.clamp(0.0, cost));
    for _ in 0..20 {
        let wrong = 1.0 / (1.0 + (margin + (alpha - before) * square).exp());
        let off = alpha - cost * wrong;
        if off.abs() < 1e-6 {
            break;
        }
        if off > 0.0 {
            high = alpha
        } else {
            low = alpha
        }
        let newton = alpha - off / (1.0 + cost * square * wrong * (1.0 - wrong));
        alpha = if newton > low && newton < high { newton } else { (low + high) / 2.0 };
    }
    alpha
}

/// How much each token learns of each example.
fn gains(samples: &[Sample<'_>], rows: &Rows, tokens: usize) -> Vec<f32> {
    let (mut spam, mut ham) = (vec![0_u32; tokens], vec![0_u32; tokens]);
    let (mut spams, mut hams) = (0.0, 0.0);
    for (place, sample) in samples.iter().enumerate() {
        let (counts, count) = if sample.label == Label::Spam { (&mut spam, &mut spams) } else { (&mut ham, &mut hams) };
        *count += 1.0;
        rows.row(place).iter().for_each(|index| counts[*index as usize] += 1);
    }
    let gain = |(in_spam, in_ham): (u32, u32)| {
        let (in_spam, in_ham) = (f64::from(in_spam), f64::from(in_ham));
        let as_spam = in_spam + in_ham * UNKNOWN / (UNKNOWN + spams);
        let as_ham = in_ham + in_spam * UNKNOWN / (UNKNOWN + hams);
        (1.0 / (1.0 + (as_spam.min(as_ham) - 1.0).max(0.0) / COMMON_HALF)) as f32
    };
    spam.into_iter().zip(ham).map(gain).collect()
}

/// What each example may count: less with age, and by how rare its label is.
fn costs(samples: &[Sample<'_>]) -> Vec<f64> {
    let freshness = |sample: &Sample<'_>| 0.5_f64.powf(f64::from(sample.age) / HALF_LIFE_DAYS);
    let count = |label| {
        let of_label = samples.iter().filter(|sample| sample.label == label);
        of_label.map(freshness).sum::<f64>() + BALANCE_CALM
    };
    let (spam, ham) = (count(Label::Spam), count(Label::Ham));
    let balance = |own: f64| ((spam + ham) / (2.0 * own)).sqrt().clamp(1.0 / BALANCE_MAX, BALANCE_MAX);
    let (of_spam, of_ham) = (balance(spam), balance(ham));
    let cost = |sample: &Sample<'_>| {
        let balance = if sample.label == Label::Spam { of_spam } else { of_ham };
        STRENGTH * balance * freshness(sample)
    };
    samples.iter().map(cost).collect()
}

/// Every token of the examples, once.
struct Vocabulary {
    hashes: Vec<u32>,
    /// Where the hashes begin that start with these 16 bits. No hash table: what senders write chooses the hashes.
    starts: Vec<u32>,
}

/// The examples as places in the vocabulary, one after the other.
struct Rows {
    indexes: Vec<u32>,
    ends: Vec<usize>,
}

impl Vocabulary {
    fn of(samples: &[Sample<'_>]) -> Vocabulary {
        let mut hashes: Vec<u32> = samples.iter().flat_map(|sample| sample.hashes).copied().collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.shrink_to_fit();
        let mut starts = Vec::with_capacity(1 + (1 << 16));
        let mut at = 0;
        for high in 0..=1_u32 << 16 {
            while hashes.get(at).is_some_and(|hash| hash >> 16 < high) {
                at += 1;
            }
            starts.push(at as u32);
        }
        Vocabulary { hashes, starts }
    }

    fn rows(&self, samples: &[Sample<'_>]) -> Rows {
        let mut rows = Rows { indexes: Vec::new(), ends: Vec::with_capacity(samples.len()) };
        rows.indexes.reserve(samples.iter().map(|sample| sample.hashes.len()).sum());
        for sample in samples {
            rows.indexes.extend(sample.hashes.iter().map(|hash| self.index(*hash)));
            rows.ends.push(rows.indexes.len());
        }
        rows
    }

    /// Every hash that is asked for is there.
    fn index(&self, hash: u32) -> u32 {
        let high = (hash >> 16) as usize;
        let (from, to) = (self.starts[high], self.starts[high + 1]);
        let within = self.hashes[from as usize..to as usize].partition_point(|other| *other < hash);
        from + within as u32
    }
}

impl Rows {
    fn row(&self, place: usize) -> &[u32] {
        let from = if place == 0 { 0 } else { self.ends[place - 1] };
        &self.indexes[from..self.ends[place]]
    }
}

/// The largest ones, still in the order of their hashes.
fn largest(hashes: Vec<u32>, weights: Vec<f32>, most: usize) -> (Vec<u32>, Vec<f32>) {
    let mut kept: Vec<(u32, f32)> = hashes.into_iter().zip(weights).filter(|(_, weight)| weight.abs() >= WEIGHT_MIN).collect();
    if kept.len() > most {
        let larger_first = |one: &(u32, f32), other: &(u32, f32)| other.1.abs().total_cmp(&one.1.abs()).then(one.0.cmp(&other.0));
        kept.select_nth_unstable_by(most, larger_first);
        kept.truncate(most);
        kept.sort_unstable_by_key(|(hash, _)| *hash);
    }
    kept.into_iter().unzip()
}
