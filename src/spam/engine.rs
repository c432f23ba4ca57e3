//! Rules against facts: which of them match, what they add, and which level that is.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::examples::Example;
use super::facts::Facts;
use super::learned::Learning;
use super::patterns::{Matched, Patterns, evidence_of};
use super::rules::{self, Condition, Family, Rule, RuleErrors, RuleFile, Thresholds};
use super::text::evidence;
use crate::mail::{Finding, RuleHit, SpamLevel};

/// The rule files that the binary carries, in the order of their names, as [`Engine::load`] reads a directory.
const BUILTIN: [(&str, &str); 8] = [
    ("attachments", include_str!("../../rules/attachments.toml")),
    ("authentication", include_str!("../../rules/authentication.toml")),
    ("body", include_str!("../../rules/body.toml")),
    ("door", include_str!("../../rules/door.toml")),
    ("headers", include_str!("../../rules/headers.toml")),
    ("links", include_str!("../../rules/links.toml")),
    ("mime", include_str!("../../rules/mime.toml")),
    ("test", include_str!("../../rules/test.toml")),
];
const BUILTIN_LEVELS: &str = include_str!("../../rules/levels.toml");

/// The rules, compiled.
pub struct Engine {
    families: Vec<Family>,
    rules: Vec<Rule>,
    patterns: Patterns,
    thresholds: Thresholds,
}

/// What the rules say. The default: nothing, where nobody asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assessment {
    /// The sum of the hits' points.
    pub score: f32,
    /// What the score reaches, or what a rule names.
    pub level: SpamLevel,
    /// Most points first.
    pub hits: Vec<RuleHit>,
}

/// A rule as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleInfo {
    pub id: String,
    pub family: String,
    pub points: f32,
    pub why: String,
}

impl Engine {
    /// The rules the binary carries (`rules/*.toml`); a test proves that they compile.
    pub fn builtin() -> Engine {
        let files = BUILTIN.map(|(name, text)| RuleFile { name: name.to_owned(), text: text.to_owned() });
        Engine::of(BUILTIN_LEVELS, &files).expect("the rules in the binary were tested")
    }

    /// The rules of a directory: `levels.toml`, and a family in every other `*.toml`.
    pub fn load(directory: &Path) -> Result<Engine, RuleErrors> {
        let (levels, files) = read_directory(directory)?;
        Engine::of(&levels, &files)
    }

    fn of(levels: &str, files: &[RuleFile]) -> Result<Engine, RuleErrors> {
        let rules = rules::read(levels, files)?;
        let patterns = rules.patterns.build().map_err(|error| RuleErrors(vec![error]))?;
        Ok(Engine { families: rules.families, rules: rules.rules, patterns, thresholds: rules.thresholds })
    }

    /// With the shipped model alone.
    pub fn assess(&self, facts: &Facts) -> Assessment {
        self.assess_with(facts, &Learning::default())
    }

    /// With what was learned here, too.
    pub fn assess_with(&self, facts: &Facts, _learning: &Learning) -> Assessment {
        let matched = self.patterns.search(facts);
        let mut found: Vec<(&Rule, String)> =
            self.rules.iter().filter_map(|rule| Some((rule, self.holds(&rule.condition, facts, &matched)?))).collect();
        found.sort_by(|(one, _), (other, _)| other.points.total_cmp(&one.points));
        let named: Vec<(&str, SpamLevel)> = found.iter().filter_map(|(rule, _)| Some((rule.id.as_str(), rule.level?))).collect();
        let names = |hit: &RuleHit| named.iter().any(|(id, _)| *id == hit.rule);
        let named_level = named.iter().map(|(_, level)| *level).max().unwrap_or_default();
        let mut hits = self.capped(found);
        hits.extend(facts.findings.iter().filter(|finding| finding.points != 0.0).map(hit_of));
        hits.sort_by(|one, other| other.points.total_cmp(&one.points));
        let score = rounded(hits.iter().map(|hit| hit.points).sum());
        // A rule that names its level decides, unless the others alone reach a higher one: a test string for the level low
        // must not be a way to make real spam pass as low.
        let others: f32 = hits.iter().filter(|hit| !names(hit)).map(|hit| hit.points).sum();
        Assessment { score, level: named_level.max(self.level_of(rounded(others))), hits }
    }

    /// In the order of the files.
    pub fn rules(&self) -> Vec<RuleInfo> {
        let info = |rule: &Rule| RuleInfo {
            id: rule.id.clone(),
            family: self.families[rule.family].name.clone(),
            points: rule.points,
            why: rule.why.clone(),
        };
        self.rules.iter().map(info).collect()
    }

    /// The lowest score of a level; `None` for [`SpamLevel::None`].
    pub fn threshold(&self, level: SpamLevel) -> Option<f32> {
        match level {
            SpamLevel::None => None,
            SpamLevel::Low => Some(self.thresholds.low),
            SpamLevel::Med => Some(self.thresholds.med),
            SpamLevel::High => Some(self.thresholds.high),
        }
    }

    /// Of a rule that names its level instead of reaching it.
    pub(super) fn named_level(&self, rule: &str) -> Option<SpamLevel> {
        self.rules.iter().find(|known| known.id == rule)?.level
    }

    /// Runs every rule on its own examples: a sentence for each `hit` that does not hit and each `miss` that does not miss.
    pub fn failing_examples(&self) -> Vec<String> {
        let mut failing = Vec::new();
        for rule in &self.rules {
            for (examples, must_hold, word) in [(&rule.hit, true, "hit"), (&rule.miss, false, "miss")] {
                for (place, example) in examples.iter().enumerate() {
                    match self.holds_for_example(rule, example) {
                        Ok(holds) if holds == must_hold => {}
                        Ok(_) => failing.push(format!("{}: {word} example {} does not {word}", rule.id, place + 1)),
                        Err(why) => failing.push(format!("{}: {word} example {}: {why}", rule.id, place + 1)),
                    }
                }
            }
        }
        failing
    }

    /// The level that a score reaches.
    pub fn level_of(&self, score: f32) -> SpamLevel {
        let reached = |level: &&SpamLevel| self.threshold(**level).is_none_or(|threshold| score >= threshold);
        SpamLevel::ALL.iter().rfind(reached).copied().unwrap_or_default()
    }

    /// Hits with what each adds. A family with a cap: the strongest rules count in full, the others for what is left, so
    /// that the points of all hits are always the score.
    fn capped(&self, found: Vec<(&Rule, String)>) -> Vec<RuleHit> {
        let mut left: Vec<f32> = self.families.iter().map(|family| family.cap.unwrap_or(f32::INFINITY)).collect();
        let mut hits: Vec<RuleHit> = found
            .into_iter()
            .map(|(rule, evidence)| {
                let points = rounded(rule.points.min(left[rule.family]));
                left[rule.family] -= points.max(0.0);
                RuleHit { rule: rule.id.clone(), points, evidence }
            })
            .collect();
        hits.sort_by(|one, other| other.points.total_cmp(&one.points));
        hits
    }

    /// What was found, when the condition holds.
    fn holds(&self, condition: &Condition, facts: &Facts, matched: &Matched<'_>) -> Option<String> {
        let holds = |inner: &Condition| self.holds(inner, facts, matched);
        match condition {
            Condition::Pattern(id) => self.patterns.found(*id, matched),
            Condition::Header { name, matches } => {
                let found = |value: &str| matches.find(value.as_bytes()).map(|found| evidence_of(found.as_bytes()));
                facts.headers.named(name).find_map(|field| found(&field.value))
            }
            Condition::Exists(name) => facts.headers.has(name).then(String::new),
            Condition::Missing(name) => (!facts.headers.has(name)).then(String::new),
            Condition::Finding(id) => {
                facts.findings.iter().find(|finding| finding.id == *id).map(|finding| evidence(&finding.evidence))
            }
            Condition::Check(check) => (check.run)(facts).map(|found| evidence(&found)),
            Condition::Not(inner) => holds(inner).is_none().then(String::new),
            Condition::Any(inner) => inner.iter().find_map(holds),
            Condition::All(inner) => inner.iter().map(holds).collect::<Option<Vec<_>>>().map(first_evidence),
            Condition::AtLeast(count, inner) => {
                let found: Vec<String> = inner.iter().filter_map(holds).collect();
                (found.len() >= *count).then(|| first_evidence(found))
            }
        }
    }

    fn holds_for_example(&self, rule: &Rule, example: &Example) -> Result<bool, String> {
        let (envelope, message) = example.message()?;
        let facts = Facts::gather(&envelope, message.as_bytes());
        Ok(self.holds(&rule.condition, &facts, &self.patterns.search(&facts)).is_some())
    }
}

/// A finding with points of its own: `listed zen.lists.example` is the hit `LISTED` with its zone as evidence.
fn hit_of(finding: &Finding) -> RuleHit {
    let rule = finding.id.to_ascii_uppercase().replace('-', "_");
    RuleHit { rule, points: rounded(finding.points), evidence: evidence(&finding.evidence) }
}

fn first_evidence(found: Vec<String>) -> String {
    found.into_iter().find(|evidence| !evidence.is_empty()).unwrap_or_default()
}

/// To hundredths: what people see is what is compared with a threshold.
pub(super) fn rounded(points: f32) -> f32 {
    let hundredths = (points * 100.0).round() / 100.0;
    // Not -0.0, which reads badly in a header.
    hundredths + 0.0
}

fn read_directory(directory: &Path) -> Result<(String, Vec<RuleFile>), RuleErrors> {
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let entries = std::fs::read_dir(directory).map_err(|error| RuleErrors(vec![failed(directory, error)]))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // dynamic.toml is for a check of the door.
    let is_rules = |path: &Path| path.extension().is_some_and(|ending| ending == "toml") && !path.ends_with("dynamic.toml");
    paths.retain(|path| is_rules(path));
    paths.sort();
    let (mut levels, mut files, mut errors) = (None, Vec::new(), Vec::new());
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match std::fs::read_to_string(&path) {
            Ok(text) if name == "levels" => levels = Some(text),
            Ok(text) => files.push(RuleFile { name, text }),
            Err(error) => errors.push(failed(&path, error)),
        }
    }
    match levels {
        Some(levels) if errors.is_empty() => Ok((levels, files)),
        Some(_) => Err(RuleErrors(errors)),
        None => {
            errors.push(format!("{}: there is no levels.toml", directory.display()));
            Err(RuleErrors(errors))
        }
    }
}
