//! `feedgate spam train`: fits the token model, the points of the rules and the levels to labelled mail, and writes them back
//! into the rule files, with a report for whoever reviews them.

mod report;
mod write;

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::{Context, Failure};
use super::manifest::{self, Item};
use super::score;
use crate::spam::fit::{self, Parts, Sample, Trained};
use crate::spam::{Engine, Facts, Tokens};

#[derive(Debug, Args)]
pub struct Arguments {
    /// A table of messages with `label` (ham, or anything else for spam), `source` and `year`; may be given several times
    #[arg(long, value_name = "FILE.tsv", required = true)]
    manifest: Vec<PathBuf>,
    /// The same, of messages from which only words are learned: written ones, whose hosts are invented
    #[arg(long, value_name = "FILE.tsv")]
    words: Vec<PathBuf>,
    /// The rule files that are fitted and written back
    #[arg(long, value_name = "DIR", default_value = "rules")]
    rules: PathBuf,
    /// Where the report goes; else standard output
    #[arg(long, value_name = "FILE.md")]
    report: Option<PathBuf>,
    /// Where the score of each message goes that a fit without it gave, for an evaluator: id, score and level, tab separated; then
    /// its halves, points of rules and log-odds of words, and those by a fit without its source
    #[arg(long, value_name = "SCORES.tsv")]
    scores: Option<PathBuf>,
    /// Only report; change no file
    #[arg(long)]
    dry_run: bool,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let engine = Engine::load(&arguments.rules).map_err(|errors| Failure::Configuration(errors.to_string()))?.with_model(None);
    let mut samples = Vec::new();
    let mut parts = Vec::new();
    let manifests = arguments.manifest.iter().map(|path| (path, false));
    for (path, words_only) in manifests.chain(arguments.words.iter().map(|path| (path, true))) {
        let items = manifest::read(path)?;
        let read = manifest::each(&items, "reading", |item| sample(&engine, item, words_only));
        let before = samples.len();
        samples.extend(read.into_iter().collect::<Result<Vec<_>, _>>().map_err(Failure::CouldNot)?);
        parts.push((path.display().to_string(), before..samples.len()));
    }
    let (spam, ham) = samples.iter().partition::<Vec<_>, _>(|sample| sample.spam);
    if spam.len() < 100 || ham.len() < 100 {
        let text = format!("{} spam and {} ham: fitting needs 100 of each at least", spam.len(), ham.len());
        return Err(Failure::CouldNot(text));
    }
    let bar = manifest::bar(6 + fit::sources(&samples).len() as u64, "fitting");
    let trained = fit::train(&engine, &samples, &mut |what| {
        bar.set_message(what.to_owned());
        bar.inc(1);
    });
    bar.finish_and_clear();
    let written = |path: &Path, text: &str| {
        std::fs::write(path, text).map_err(|error| Failure::CouldNot(format!("{}: {error}", path.display())))
    };
    let report = report::text(&samples, &parts, &trained);
    match &arguments.report {
        Some(path) => written(path, &report)?,
        None => context.show(&report, |report| report.clone())?,
    }
    if let Some(path) = &arguments.scores {
        written(path, &scores(&samples, &trained))?;
    }
    if arguments.dry_run { Ok(()) } else { write::back(&arguments.rules, &trained) }
}

/// As `spam score` writes them, in the order of the manifests, and the halves behind.
fn scores(samples: &[Sample], trained: &Trained) -> String {
    let line = |((sample, parts), without): ((&Sample, &Parts), &Parts)| {
        let level = score::word(trained.cuts.level(parts.score()));
        let halves = [parts.rules, parts.tokens, without.rules, without.tokens].map(|half| format!("{half:.2}")).join("\t");
        format!("{}\t{:.2}\t{level}\t{halves}\n", sample.id, parts.score())
    };
    samples.iter().zip(&trained.scores).zip(&trained.by_source).map(line).collect()
}

fn sample(engine: &Engine, item: &Item, words_only: bool) -> Result<Sample, String> {
    let label = item.cell("label");
    if label.is_empty() {
        return Err(format!("{}: without a label nothing can be learned", item.id));
    }
    let (envelope, content) = item.message()?;
    let facts = Facts::gather(&envelope, &content);
    Ok(Sample {
        id: item.id.clone(),
        spam: label != "ham",
        source: item.cell("source").to_owned(),
        year: item.cell("year").to_owned(),
        author: facts.author_domain().to_ascii_lowercase(),
        tokens: Tokens::of(&facts),
        hits: engine.places_hit(&facts),
        words_only,
    })
}
