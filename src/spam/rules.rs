//! Rule files: as written → as used.
//!
//! A directory holds `levels.toml` and one file for each family. Every mistake in all of them is reported at once, each with
//! its file and, where it has one, its rule; rules with a mistake are left out while the rest is read.

use std::collections::HashSet;

use regex::bytes::Regex;
use serde::Deserialize;

use super::checks::{self, Check};
use super::examples::Example;
use super::patterns::{PatternId, PatternsBuilder, Searched, compile_header};
use crate::mail::SpamLevel;

/// Conditions inside conditions.
const DEPTH_MAX: usize = 8;
/// A rule's points are never more than this, either way.
const POINTS_MAX: f32 = 1000.0;

/// Every mistake in the rule files, with file and rule.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct RuleErrors(pub Vec<String>);

/// A file, read.
pub(super) struct RuleFile {
    /// Without `.toml`: the family.
    pub name: String,
    pub text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleWritten {
    id: String,
    points: f32,
    why: String,
    when: ConditionWritten,
    level: Option<SpamLevel>,
    hit: Vec<Example>,
    miss: Vec<Example>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ConditionWritten {
    Subject(String),
    From(String),
    Body(String),
    RawHeader(String),
    Url(String),
    Attachment(String),
    Header(HeaderWritten),
    Exists(String),
    Missing(String),
    Finding(String),
    All(Vec<ConditionWritten>),
    Any(Vec<ConditionWritten>),
    AtLeast(AtLeastWritten),
    Not(Box<ConditionWritten>),
    Check(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderWritten {
    name: String,
    matches: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AtLeastWritten {
    count: usize,
    of: Vec<ConditionWritten>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelsWritten {
    thresholds: Thresholds,
}

/// The lowest score of each level.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Thresholds {
    pub low: f32,
    pub med: f32,
    pub high: f32,
}

/// A rule as used.
pub(super) struct Rule {
    pub id: String,
    pub points: f32,
    pub why: String,
    /// Its place in [`Rules::families`].
    pub family: usize,
    /// The message gets this level, or a higher one when the other rules alone reach it.
    pub level: Option<SpamLevel>,
    pub condition: Condition,
    pub hit: Vec<Example>,
    pub miss: Vec<Example>,
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
}

/// Reads the files of the families, in their order, and `levels.toml`.
pub(super) fn read(levels: &str, files: &[RuleFile]) -> Result<Rules, RuleErrors> {
    let mut reader = Reader::default();
    let thresholds = reader.levels(levels);
    for file in files {
        reader.file(file);
    }
    match thresholds {
        Some(thresholds) if reader.errors.is_empty() => {
            let Reader { families, rules, patterns, .. } = reader;
            Ok(Rules { families, rules, patterns, thresholds })
        }
        _ => Err(RuleErrors(reader.errors)),
    }
}

#[derive(Default)]
struct Reader {
    families: Vec<Family>,
    rules: Vec<Rule>,
    patterns: PatternsBuilder,
    ids: HashSet<String>,
    errors: Vec<String>,
}

impl Reader {
    fn levels(&mut self, text: &str) -> Option<Thresholds> {
        let read = toml::from_str::<LevelsWritten>(text);
        let thresholds =
            read.map_err(|error| self.errors.push(format!("levels.toml: {}", one_line(&error, text)))).ok()?.thresholds;
        let Thresholds { low, med, high } = thresholds;
        if !(0.0 < low && low < med && med < high && high.is_finite()) {
            self.errors.push("levels.toml: thresholds must be above 0 and rise from low to high".to_owned());
        }
        Some(thresholds)
    }

    fn file(&mut self, file: &RuleFile) {
        let mut error = |text: String| self.errors.push(format!("{}.toml: {text}", file.name));
        let table = match toml::from_str::<toml::Table>(&file.text) {
            Ok(table) => table,
            Err(broken) => return error(one_line(&broken, &file.text)),
        };
        let mut cap = None;
        let mut written = Vec::new();
        for (key, value) in table {
            match (key.as_str(), value) {
                ("cap", value) => match value.try_into::<f32>() {
                    Ok(points) if points > 0.0 && points <= POINTS_MAX => cap = Some(points),
                    _ => error("cap must be a number above 0".to_owned()),
                },
                ("rule", toml::Value::Array(rules)) => written = rules,
                (key, _) => error(format!("unknown key `{key}`; a rule file has `cap` and `[[rule]]`")),
            }
        }
        self.families.push(Family { name: file.name.clone(), cap });
        for (place, value) in written.into_iter().enumerate() {
            let named = value.get("id").and_then(toml::Value::as_str).map(str::to_owned);
            let named = named.unwrap_or_else(|| format!("rule {}", place + 1));
            let mistakes = match value.try_into::<RuleWritten>() {
                Ok(written) => self.rule(written),
                Err(broken) => vec![broken.message().to_owned()],
            };
            self.errors.extend(mistakes.into_iter().map(|mistake| format!("{}.toml: {named}: {mistake}", file.name)));
        }
    }

    /// Takes a rule, or says everything that is wrong with it.
    fn rule(&mut self, written: RuleWritten) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut must = |is: bool, otherwise: &str| {
            if !is {
                mistakes.push(otherwise.to_owned());
            }
        };
        must(is_id(&written.id), "an id is in capitals, digits and underscores: SUBJECT_ALL_CAPS");
        must(self.ids.insert(written.id.clone()), "this id is taken");
        must(written.points.abs() <= POINTS_MAX, "points are between -1000 and 1000");
        must(written.why.len() <= 200 && written.why.trim().ends_with('.'), "why is a sentence for people, up to 200 bytes");
        must(!written.hit.is_empty(), "a rule has at least one `hit` example");
        must(!written.miss.is_empty(), "a rule has at least one `miss` example");
        let condition = self.condition(written.when, 0, &mut mistakes);
        if let (Some(condition), true) = (condition, mistakes.is_empty()) {
            let RuleWritten { id, points, why, level, hit, miss, .. } = written;
            let family = self.families.len() - 1;
            self.rules.push(Rule { id, points, why, family, level, condition, hit, miss });
        }
        mistakes
    }

    fn condition(&mut self, written: ConditionWritten, depth: usize, mistakes: &mut Vec<String>) -> Option<Condition> {
        use ConditionWritten as Written;
        if depth > DEPTH_MAX {
            mistakes.push(format!("conditions are nested deeper than {DEPTH_MAX}"));
            return None;
        }
        let read = match written {
            Written::Subject(pattern) => self.pattern(Searched::Subject, &pattern),
            Written::From(pattern) => self.pattern(Searched::From, &pattern),
            Written::Body(pattern) => self.pattern(Searched::Body, &pattern),
            Written::RawHeader(pattern) => self.pattern(Searched::RawHeader, &pattern),
            Written::Url(pattern) => self.pattern(Searched::Url, &pattern),
            Written::Attachment(pattern) => self.pattern(Searched::Attachment, &pattern),
            Written::Header(HeaderWritten { name, matches }) => {
                field_name(name).and_then(|name| compile_header(&matches).map(|matches| Condition::Header { name, matches }))
            }
            Written::Exists(name) => field_name(name).map(Condition::Exists),
            Written::Missing(name) => field_name(name).map(Condition::Missing),
            Written::Finding(id) => Ok(Condition::Finding(id)),
            Written::Check(name) => named_check(&name),
            Written::Not(inner) => return Some(Condition::Not(Box::new(self.condition(*inner, depth + 1, mistakes)?))),
            Written::All(inner) => return self.conditions(inner, depth, mistakes).map(Condition::All),
            Written::Any(inner) => return self.conditions(inner, depth, mistakes).map(Condition::Any),
            Written::AtLeast(AtLeastWritten { count, of }) if (1..=of.len()).contains(&count) => {
                return self.conditions(of, depth, mistakes).map(|of| Condition::AtLeast(count, of));
            }
            Written::AtLeast(_) => Err("at_least asks for more conditions than it has, or for none".to_owned()),
        };
        read.map_err(|mistake| mistakes.push(mistake)).ok()
    }

    /// All of them are read before the first mistake counts.
    fn conditions(&mut self, written: Vec<ConditionWritten>, depth: usize, mistakes: &mut Vec<String>) -> Option<Vec<Condition>> {
        if written.is_empty() {
            mistakes.push("a combination without conditions".to_owned());
        }
        let read: Vec<_> = written.into_iter().map(|inner| self.condition(inner, depth + 1, mistakes)).collect();
        read.into_iter().collect()
    }

    fn pattern(&mut self, searched: Searched, pattern: &str) -> Result<Condition, String> {
        self.patterns.add(searched, pattern).map(Condition::Pattern)
    }
}

fn is_id(id: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    id.len() <= 40 && id.starts_with(|letter: char| letter.is_ascii_uppercase()) && id.bytes().all(inner)
}

fn field_name(name: String) -> Result<String, String> {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    if is_name { Ok(name) } else { Err(format!("`{name}` is no header name")) }
}

fn named_check(name: &str) -> Result<Condition, String> {
    let check = checks::ALL.iter().find(|check| check.name == name);
    check.map(Condition::Check).ok_or_else(|| format!("there is no check `{name}`; docs/RULES.md lists them"))
}

/// `line 3: what is wrong`.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    let message = error.message().replace('\n', ", ");
    line.map_or_else(|| message.clone(), |line| format!("line {line}: {message}"))
}
