//! Logistic regression: one small solver for the token model and for the points of rules.
//!
//! Minimises Σ cost·log(1 + e^(−y·margin)) + ½ Σ strength·(weight − prior)², each weight within its bounds, coordinate by
//! coordinate with a Newton step in a trust region (Genkin, Lewis, Madigan: Large-scale Bayesian logistic regression, 2007).
//! It needs no line search, respects bounds exactly, and gives the same numbers on every machine for the same input.

/// A column of the data: which rows have the feature, and with which value.
#[derive(Clone, Debug, Default)]
pub struct Column {
    pub rows: Vec<u32>,
    pub values: Vec<f32>,
}

/// What a feature's weight may become.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    pub least: f32,
    pub most: f32,
    /// Where the weight stays when the data say nothing.
    pub prior: f32,
    /// How strongly it is held there.
    pub strength: f32,
}

impl Bound {
    /// Free, held at zero.
    pub fn free(strength: f32) -> Bound {
        Bound { least: f32::NEG_INFINITY, most: f32::INFINITY, prior: 0.0, strength }
    }
}

/// Labelled rows.
pub struct Rows<'r> {
    pub spam: &'r [bool],
    /// How much each row counts; zero leaves it out.
    pub cost: &'r [f32],
}

/// What was fitted.
#[derive(Clone, Debug, Default)]
pub struct Fitted {
    pub intercept: f32,
    pub weights: Vec<f32>,
}

/// Sweeps over all columns at the most. It ends earlier when nothing moves any more.
const SWEEPS_MAX: usize = 60;
/// Of all margins together; below it nothing moves any more.
const STILL: f64 = 1e-4;

/// Fits a weight for each column, and an intercept that is held by nothing.
pub fn fit(rows: &Rows<'_>, columns: &[Column], bounds: &[Bound]) -> Fitted {
    let count = rows.spam.len();
    let signs: Vec<f32> = rows.spam.iter().map(|spam| if *spam { 1.0 } else { -1.0 }).collect();
    let everywhere = Column { rows: (0..count as u32).collect(), values: vec![1.0; count] };
    let mut weights: Vec<f32> = bounds.iter().map(|bound| bound.prior.clamp(bound.least, bound.most)).collect();
    let mut margins = vec![0.0_f32; count];
    for (column, weight) in columns.iter().zip(&weights).filter(|(_, weight)| **weight != 0.0) {
        add(&mut margins, column, *weight);
    }
    let mut intercept = 0.0;
    let mut reach = vec![1.0_f32; columns.len() + 1];
    for _ in 0..SWEEPS_MAX {
        let mut moved = 0.0;
        let free = Bound::free(1e-6);
        for place in 0..=columns.len() {
            let (column, bound, weight, scale) = match place.checked_sub(1) {
                None => (&everywhere, &free, &mut intercept, &mut reach[0]),
                Some(at) => (&columns[at], &bounds[at], &mut weights[at], &mut reach[place]),
            };
            let step = newton(column, bound, *weight, *scale, &margins, &signs, rows.cost);
            *scale = (2.0 * step.abs()).max(*scale / 2.0);
            if step != 0.0 {
                *weight += step;
                add(&mut margins, column, step);
                moved += f64::from(step.abs()) * column.values.iter().map(|value| f64::from(value.abs())).sum::<f64>();
            }
        }
        if moved < STILL * count as f64 {
            break;
        }
    }
    Fitted { intercept, weights }
}

fn add(margins: &mut [f32], column: &Column, step: f32) {
    for (row, value) in column.rows.iter().zip(&column.values) {
        margins[*row as usize] += step * value;
    }
}

/// The step for one weight, within its bounds and not further than `reach`.
fn newton(column: &Column, bound: &Bound, weight: f32, reach: f32, margins: &[f32], signs: &[f32], cost: &[f32]) -> f32 {
    let mut slope = bound.strength * (weight - bound.prior);
    let mut curve = bound.strength;
    for (row, value) in column.rows.iter().zip(&column.values) {
        let row = *row as usize;
        let cost = cost[row];
        if cost == 0.0 {
            continue;
        }
        let margin = margins[row] * signs[row];
        slope -= cost * signs[row] * value / (1.0 + margin.exp());
        curve += cost * value * value * curve_most(margin.abs(), reach * value.abs());
    }
    if curve <= 0.0 {
        return 0.0;
    }
    (weight + (-slope / curve).clamp(-reach, reach)).clamp(bound.least, bound.most) - weight
}

/// The largest second derivative of the loss where the margin may be after a step.
fn curve_most(margin: f32, reach: f32) -> f32 {
    if margin <= reach { 0.25 } else { 1.0 / (2.0 + (margin - reach).exp() + (reach - margin).exp()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(rows: &[u32]) -> Column {
        Column { rows: rows.to_vec(), values: vec![1.0; rows.len()] }
    }

    /// Ten rows, the first five spam.
    fn fitted(columns: &[Column], bounds: &[Bound]) -> Fitted {
        let spam: Vec<bool> = (0..10).map(|row| row < 5).collect();
        fit(&Rows { spam: &spam, cost: &[1.0; 10] }, columns, bounds)
    }

    #[test]
    fn what_only_spam_has_gets_weight_and_what_both_have_gets_none() {
        let fitted = fitted(&[column(&[0, 1, 2, 3]), column(&[4, 9]), column(&[5, 6, 7, 8])], &[Bound::free(0.1); 3]);
        let [spammy, neither, hammy] = fitted.weights[..] else { panic!() };
        assert!(spammy > 2.0 && hammy < -2.0 && neither.abs() < 0.5, "{fitted:?}");
    }

    #[test]
    fn bounds_hold_and_a_prior_pulls() {
        let least_zero = Bound { least: 0.0, most: 1.5, prior: 1.0, strength: 0.01 };
        let silent = Bound { prior: 1.0, ..least_zero };
        let fitted = fitted(&[column(&[5, 6, 7]), column(&[0, 1, 2, 3]), column(&[])], &[least_zero, least_zero, silent]);
        assert_eq!(fitted.weights, [0.0, 1.5, 1.0]);
    }

    #[test]
    fn the_result_is_where_the_slope_is_zero() {
        // One feature on all spam rows, one strength: the optimum can be checked by hand.
        let fitted = fitted(&[column(&[0, 1, 2, 3, 4])], &[Bound::free(1.0)]);
        let (weight, intercept) = (fitted.weights[0], fitted.intercept);
        let sigmoid = |margin: f32| 1.0 / (1.0 + (-margin).exp());
        let slope = weight - 5.0 * (1.0 - sigmoid(weight + intercept));
        let slope_of_intercept = 5.0 * sigmoid(intercept) - 5.0 * (1.0 - sigmoid(weight + intercept));
        assert!(slope.abs() < 0.02 && slope_of_intercept.abs() < 0.02, "{fitted:?} {slope} {slope_of_intercept}");
    }
}
