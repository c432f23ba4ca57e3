//! Rule files: as written → as used.
//!
//! A directory holds `levels.toml` and one file for each family (`written`); on top of it stands the local layer, files that
//! change or add single rules by id (`layer`). Every mistake in all of them is reported at once, each with its file and, where
//! it has one, its rule; rules with a mistake are left out while the rest is read.

mod layer;
mod written;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

use super::checks::Check;
use super::examples::Example;
use super::patterns::{PatternId, PatternsBuilder};
use crate::mail::SpamLevel;

use written::Reader;
pub(super) use written::points_fit;

/// Of all files of one directory, in bytes; far above any that people write.
const DIRECTORY_MAX: u64 = 16 << 20;

/// Every mistake in the rule files, with file and rule.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct RuleErrors(pub Vec<String>);

/// A file, read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleFile {
    /// Without `.toml`: the family.
    pub name: String,
    pub text: String,
}

/// All that rules are made of, as text: kept, so that a change can be tried on top of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSources {
    /// `levels.toml`
    pub levels: String,
    pub families: Vec<RuleFile>,
    /// The local layer.
    pub local: Vec<RuleFile>,
}

impl RuleSources {
    /// A whole directory: `levels.toml`, and a family in every other `*.toml`. Blocks.
    pub fn read(directory: &Path) -> Result<RuleSources, RuleErrors> {
        let (mut levels, mut families) = (None, Vec::new());
        for file in read_files(directory)? {
            match file.name.as_str() {
                "levels" => levels = Some(file.text),
                // For a check of the door.
                "dynamic" => {}
                _ => families.push(file),
            }
        }
        let missing = || RuleErrors(vec![format!("{}: there is no levels.toml", directory.display())]);
        Ok(RuleSources { levels: levels.ok_or_else(missing)?, families, local: Vec::new() })
    }

    /// With the files of this directory as the local layer. Blocks.
    pub fn with_local(self, directory: &Path) -> Result<RuleSources, RuleErrors> {
        Ok(RuleSources { local: read_files(directory)?, ..self })
    }
}

/// `*.toml` by name. Hidden files are left out: editors keep their locks and backups in such.
fn read_files(directory: &Path) -> Result<Vec<RuleFile>, RuleErrors> {
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let entries = std::fs::read_dir(directory).map_err(|error| RuleErrors(vec![failed(directory, error)]))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml") && !is_hidden(path));
    paths.sort();
    let (mut files, mut errors, mut size) = (Vec::new(), Vec::new(), 0);
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        size += std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if size > DIRECTORY_MAX {
            errors.push(format!("{}: the files of this directory are larger than 16 MiB together", path.display()));
            break;
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => files.push(RuleFile { name, text }),
            Err(error) => errors.push(failed(&path, error)),
        }
    }
    if errors.is_empty() { Ok(files) } else { Err(RuleErrors(errors)) }
}

/// The lowest score of each level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    pub low: f32,
    pub med: f32,
    pub high: f32,
}

impl Thresholds {
    /// Why they cannot be used.
    pub(super) fn mistake(&self) -> Option<String> {
        let Thresholds { low, med, high } = *self;
        let rise = 0.0 < low && low < med && med < high && high.is_finite();
        (!rise).then(|| "thresholds must be above 0 and rise from low to high".to_owned())
    }
}

/// What a score says about the chance of spam; fitted beside the levels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Half of the messages with this score are spam, where half of all mail is.
    pub even: f32,
    /// Natural log-odds in each point above it.
    pub steepness: f32,
}

impl Calibration {
    /// Of mail of which half is spam.
    pub fn chance(self, score: f32) -> f32 {
        1.0 / (1.0 + (-self.steepness * (score - self.even)).exp())
    }

    /// What another share of spam in the mail is worth in points: as much as it changes the chance (Bayes).
    pub fn points_of(self, share: f32) -> f32 {
        (share / (1.0 - share)).ln() / self.steepness
    }

    pub(super) fn mistake(&self) -> Option<String> {
        let fits = self.even.is_finite() && self.steepness.is_finite() && self.steepness > 0.0;
        (!fits).then(|| "calibration needs a steepness above 0".to_owned())
    }
}

/// Whether a rule counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    On,
    /// It is asked and noted, and adds nothing.
    Shadow,
    /// It is not asked.
    Off,
}

/// A rule as used.
#[derive(Clone)]
pub(super) struct Rule {
    pub id: String,
    pub points: f32,
    pub why: String,
    /// Its place in [`Rules::families`].
    pub family: usize,
    /// The message gets this level, or a higher one when the other rules alone reach it.
    pub level: Option<SpamLevel>,
    pub mode: Mode,
    /// The local file that changed or added it.
    pub local: Option<String>,
    /// What it had before the local layer.
    pub shipped_points: Option<f32>,
    /// Its condition as written: tells whether two rules of the same id ask the same.
    pub when: String,
    pub condition: Arc<Condition>,
    pub hit: Arc<[Example]>,
    pub miss: Arc<[Example]>,
}

pub(super) enum Condition {
    Pattern(PatternId),
    Header {
        name: String,
        matches: Regex,
    },
    Exists(String),
    Missing(String),
    /// What the checks found out, by its id.
    Finding(String),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    AtLeast(usize, Vec<Condition>),
    Not(Box<Condition>),
    Check(&'static Check),
}

#[derive(Clone)]
pub(super) struct Family {
    pub name: String,
    /// Its rules add no more than this together.
    pub cap: Option<f32>,
}

/// All rule files, as used.
pub(super) struct Rules {
    pub families: Vec<Family>,
    pub rules: Vec<Rule>,
    pub patterns: PatternsBuilder,
    pub thresholds: Thresholds,
    pub calibration: Option<Calibration>,
}

/// Reads the families in their order, `levels.toml`, and the local layer on top.
pub(super) fn read(sources: &RuleSources) -> Result<Rules, RuleErrors> {
    let mut reader = Reader::default();
    let (thresholds, calibration) = reader.levels(&sources.levels).unzip();
    for file in &sources.families {
        reader.file(file);
    }
    let thresholds = layer::apply(&mut reader, &sources.local, thresholds);
    match thresholds {
        Some(thresholds) if reader.errors.is_empty() => {
            let Reader { families, rules, patterns, .. } = reader;
            Ok(Rules { families, rules, patterns, thresholds, calibration: calibration.flatten() })
        }
        _ => Err(RuleErrors(reader.errors)),
    }
}
