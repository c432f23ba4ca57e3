//! The report of a fit, as Markdown: what a person must see before trusting it.

use std::fmt::Write;
use std::ops::Range;

use crate::spam::fit::measure::range;
use crate::spam::fit::{Parts, Sample, Scored, Trained};

/// `parts`: which of the samples came from which manifest.
pub fn text(samples: &[Sample], parts: &[(String, Range<usize>)], trained: &Trained) -> String {
    let mut text = String::new();
    let (ham, spam) = scored(samples, &trained.scores, Parts::score, |_| true).counts();
    let _ = writeln!(text, "{ham} ham and {spam} spam. Everything below was measured on messages that were not fitted to.\n");
    halves(&mut text, samples, parts, trained);
    levels(&mut text, samples, trained);
    groups(&mut text, "source", samples, trained, |sample| sample.source.clone());
    groups(&mut text, "year", samples, trained, |sample| format!("{} {}", if sample.spam { "spam" } else { "ham" }, sample.year));
    points(&mut text, trained);
    text
}

fn scored(samples: &[Sample], parts: &[Parts], score: impl Fn(&Parts) -> f32, which: impl Fn(&Sample) -> bool) -> Scored {
    let chosen = samples.iter().zip(parts).filter(|(sample, _)| which(sample));
    Scored::new(chosen.map(|(sample, parts)| (score(parts), sample.spam)))
}

fn halves(text: &mut String, samples: &[Sample], parts: &[(String, Range<usize>)], trained: &Trained) {
    let all = |_: &Sample| true;
    let _ = writeln!(text, "| what | figures |\n|---|---|");
    for (what, figures) in [
        ("rules and tokens, cross-validation", scored(samples, &trained.scores, Parts::score, all).figures()),
        ("rules alone", scored(samples, &trained.scores, |parts| parts.rules, all).figures()),
        ("tokens alone", scored(samples, &trained.scores, |parts| parts.tokens, all).figures()),
        ("each source judged by a fit without it", scored(samples, &trained.by_source, Parts::score, all).figures()),
    ] {
        let _ = writeln!(text, "| {what} | {figures} |");
    }
    for (name, range) in parts.iter().filter(|_| parts.len() > 1) {
        let figures = |parts: &[Parts], score: &dyn Fn(&Parts) -> f32| {
            scored(&samples[range.clone()], &parts[range.clone()], score, all).figures()
        };
        let _ = writeln!(text, "| {name}: rules and tokens | {} |", figures(&trained.scores, &Parts::score));
        let _ = writeln!(text, "| {name}: rules alone | {} |", figures(&trained.scores, &|parts| parts.rules));
        let _ = writeln!(text, "| {name}: by fits without the source | {} |", figures(&trained.by_source, &Parts::score));
    }
}

fn levels(text: &mut String, samples: &[Sample], trained: &Trained) {
    let cuts = trained.cuts;
    let scored = scored(samples, &trained.scores, Parts::score, |sample| !sample.words_only);
    let (hams, spams) = scored.counts();
    let _ = writeln!(
        text,
        "\n| level | from | of ham (95 % range) | of spam | spam among what it hits, at equal shares |\n|---|---|---|---|---|"
    );
    for (level, cut) in [("low", cuts.low), ("med", cuts.med), ("high", cuts.high)] {
        let (ham, spam) = scored.reaching(cut);
        let (least, most) = range(ham, hams);
        let (of_ham, of_spam) = (ham as f64 / hams as f64, spam as f64 / spams as f64);
        let _ = writeln!(
            text,
            "| {level} or above | {cut:.1} | {ham}: {:.3} % ({:.3} to {:.3}) | {:.1} % | {:.2} % |",
            100.0 * of_ham,
            100.0 * least,
            100.0 * most,
            100.0 * of_spam,
            100.0 * of_spam / (of_spam + of_ham),
        );
    }
    let _ = writeln!(text, "\nEven odds at {:.2} points, steepness {:.3} a point.", cuts.even, cuts.steepness);
}

fn groups(text: &mut String, what: &str, samples: &[Sample], trained: &Trained, of: impl Fn(&Sample) -> String) {
    let mut names: Vec<String> = samples.iter().map(&of).collect();
    names.sort();
    names.dedup();
    let cuts = trained.cuts;
    let _ = writeln!(
        text,
        "\n| {what} | messages | low or above | med | high | left out: low or above | med | high |\n|---|---|---|---|---|---|---|---|"
    );
    for name in names {
        let share = |parts: &[Parts], cut: f32| {
            let own = samples.iter().zip(parts).filter(|(sample, _)| of(sample) == name);
            let (reached, count) =
                own.fold((0, 0), |(reached, count), (_, parts)| (reached + usize::from(parts.score() >= cut), count + 1));
            (count, format!("{:.1} %", 100.0 * reached as f64 / count as f64))
        };
        let (count, _) = share(&trained.scores, 0.0);
        let _ = write!(text, "| {name} | {count} |");
        for parts in [&trained.scores, &trained.by_source] {
            for cut in [cuts.low, cuts.med, cuts.high] {
                let _ = write!(text, " {} |", share(parts, cut).1);
            }
        }
        text.push('\n');
    }
}

fn points(text: &mut String, trained: &Trained) {
    let _ = writeln!(text, "\n| rule | before | fitted | ham | spam |\n|---|---|---|---|---|");
    for rule in &trained.points {
        let fitted = if rule.is_fitted() { format!("{:.1}", rule.points) } else { "too few hits".to_owned() };
        let _ = writeln!(text, "| {} | {:.1} | {fitted} | {} | {} |", rule.id, rule.before, rule.ham, rule.spam);
    }
}
