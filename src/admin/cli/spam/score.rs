//! `feedgate spam score`: a line for each message of a manifest with its score and level, for an evaluator. Needs no
//! configuration and no running gateway; never reads what the messages are.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::super::{Context, Failure, rules};
use super::manifest;
use crate::mail::SpamLevel;
use crate::spam::{Engine, Facts};

#[derive(Debug, Args)]
pub struct Arguments {
    /// A table of messages: tab separated, with a header line that names `id` and `path`; `ip`, `helo`, `rdns` and `mailfrom`
    /// are used when they are there
    #[arg(long, value_name = "FILE.tsv")]
    manifest: PathBuf,
    /// Where the scores go: id, score and level, tab separated, in the order of the manifest
    #[arg(long, value_name = "SCORES.tsv")]
    out: PathBuf,
    /// Rules of this directory instead of those of the configuration or the binary
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// Without the token model
    #[arg(long)]
    no_tokens: bool,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let engine = match &arguments.rules {
        Some(directory) => Engine::load(directory).map_err(|errors| Failure::Configuration(errors.to_string()))?,
        None => rules::engine(context)?,
    };
    let engine = if arguments.no_tokens { engine.with_model(None) } else { engine };
    let items = manifest::read(&arguments.manifest)?;
    let scores = manifest::each(&items, "judging", |item| {
        let (envelope, content) = item.message()?;
        let assessment = engine.assess(&Facts::gather(&envelope, &content));
        Ok(format!("{}\t{:.2}\t{}", item.id, assessment.score, word(assessment.level)))
    });
    let failed = |error: std::io::Error| Failure::CouldNot(format!("{}: {error}", arguments.out.display()));
    let mut out = std::io::BufWriter::new(std::fs::File::create(&arguments.out).map_err(failed)?);
    let mut unread = Vec::new();
    for score in scores {
        match score {
            Ok(line) => writeln!(out, "{line}").map_err(failed)?,
            Err(why) => unread.push(why),
        }
    }
    out.flush().map_err(failed)?;
    if unread.is_empty() { Ok(()) } else { Err(Failure::CouldNot(unread.join("\n"))) }
}

/// As evaluators write levels.
pub(super) fn word(level: SpamLevel) -> &'static str {
    match level {
        SpamLevel::None => "None",
        SpamLevel::Low => "Low",
        SpamLevel::Med => "Med",
        SpamLevel::High => "High",
    }
}
