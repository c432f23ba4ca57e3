//! A rule file as written, and what is wrong with it.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;

use super::super::checks;
use super::super::examples::Example;
use super::super::patterns::{PatternsBuilder, Searched, compile_header};
use super::{Calibration, Condition, Family, Mode, Rule, RuleFile, Thresholds};
use crate::mail::SpamLevel;

/// Conditions inside conditions.
const DEPTH_MAX: usize = 8;
/// A rule's points are never more than this, either way.
const POINTS_MAX: f32 = 1000.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleWritten {
    pub id: String,
    points: f32,
    why: String,
    when: ConditionWritten,
    level: Option<SpamLevel>,
    hit: Vec<Example>,
    miss: Vec<Example>,
    /// Asked and noted, without adding anything.
    #[serde(default)]
    shadow: bool,
    /// In the local layer: takes the place of the rule with this id.
    #[serde(default)]
    pub replace: bool,
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
    calibration: Option<Calibration>,
}

/// What was read so far, and what was wrong with it.
#[derive(Default)]
pub(super) struct Reader {
    pub families: Vec<Family>,
    pub rules: Vec<Rule>,
    pub patterns: PatternsBuilder,
    /// Also of rules with a mistake.
    pub ids: HashSet<String>,
    pub errors: Vec<String>,
}

impl Reader {
    pub fn levels(&mut self, text: &str) -> Option<(Thresholds, Option<Calibration>)> {
        let read = toml::from_str::<LevelsWritten>(text);
        let read = read.map_err(|error| self.errors.push(format!("levels.toml: {}", one_line(&error, text)))).ok()?;
        let LevelsWritten { thresholds, calibration } = read;
        let mistakes = thresholds.mistake().into_iter().chain(calibration.and_then(|calibration| calibration.mistake()));
        self.errors.extend(mistakes.map(|mistake| format!("levels.toml: {mistake}")));
        Some((thresholds, calibration))
    }

    pub fn file(&mut self, file: &RuleFile) {
        let mut error = |text: String| self.errors.push(format!("{}.toml: {text}", file.name));
        let table = match toml::from_str::<toml::Table>(&file.text) {
            Ok(table) => table,
            Err(broken) => return error(one_line(&broken, &file.text)),
        };
        let mut cap = None;
        let mut written = Vec::new();
        for (key, value) in table {
            match (key.as_str(), value) {
                ("cap", value) => match cap_of(value) {
                    Ok(points) => cap = Some(points),
                    Err(why) => error(why),
                },
                ("rule", toml::Value::Array(rules)) => written = rules,
                (key, _) => error(format!("unknown key `{key}`; a rule file has `cap` and `[[rule]]`")),
            }
        }
        self.families.push(Family { name: file.name.clone(), cap });
        let family = self.families.len() - 1;
        for (place, value) in written.into_iter().enumerate() {
            let named = name_of(&value, place);
            let mistakes = match read_rule(value) {
                Ok((written, _)) if written.replace => vec!["`replace` is for the files of rules.d".to_owned()],
                Ok((written, when)) => {
                    let taken = !self.ids.insert(written.id.clone());
                    let (rule, mut mistakes) = self.rule(written, when, family);
                    mistakes.extend(taken.then(|| "this id is taken".to_owned()));
                    if mistakes.is_empty() {
                        self.rules.extend(rule);
                    }
                    mistakes
                }
                Err(broken) => vec![broken],
            };
            self.errors.extend(mistakes.into_iter().map(|mistake| format!("{}.toml: {named}: {mistake}", file.name)));
        }
    }

    /// The rule, and everything that is wrong with it; whether its id is free is the caller's to know.
    pub fn rule(&mut self, written: RuleWritten, when: String, family: usize) -> (Option<Rule>, Vec<String>) {
        let mut mistakes = Vec::new();
        let mut must = |is: bool, otherwise: &str| {
            if !is {
                mistakes.push(otherwise.to_owned());
            }
        };
        must(is_id(&written.id), "an id is in capitals, digits and underscores: SUBJECT_ALL_CAPS");
        must(points_fit(written.points), "points are between -1000 and 1000");
        must(written.why.len() <= 200 && written.why.trim().ends_with('.'), "why is a sentence for people, up to 200 bytes");
        must(!written.hit.is_empty(), "a rule has at least one `hit` example");
        must(!written.miss.is_empty(), "a rule has at least one `miss` example");
        let RuleWritten { id, points, why, level, hit, miss, shadow, when: condition, .. } = written;
        let rule = self.condition(condition, 0, &mut mistakes).map(|condition| {
            let mode = if shadow { Mode::Shadow } else { Mode::On };
            let (condition, hit, miss) = (Arc::new(condition), hit.into(), miss.into());
            Rule { id, points, why, family, level, mode, local: None, shipped_points: None, when, condition, hit, miss }
        });
        (rule, mistakes)
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

/// A rule with its condition as it is written, or what cannot be read.
pub(super) fn read_rule(value: toml::Value) -> Result<(RuleWritten, String), String> {
    let when = value.get("when").map(ToString::to_string).unwrap_or_default();
    value.try_into::<RuleWritten>().map(|written| (written, when)).map_err(|broken| broken.message().to_owned())
}

/// How a rule is called in a message.
pub(super) fn name_of(value: &toml::Value, place: usize) -> String {
    let named = value.get("id").and_then(toml::Value::as_str).map(str::to_owned);
    named.unwrap_or_else(|| format!("rule {}", place + 1))
}

/// Whether a rule may have so many points. NaN may not.
pub(in crate::spam) fn points_fit(points: f32) -> bool {
    points.abs() <= POINTS_MAX
}

/// Reads a cap.
pub(super) fn cap_of(value: toml::Value) -> Result<f32, String> {
    let cap = value.try_into::<f32>().ok().filter(|points| *points > 0.0 && *points <= POINTS_MAX);
    cap.ok_or_else(|| "cap must be a number above 0".to_owned())
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
pub(super) fn one_line(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    let message = error.message().replace('\n', ", ");
    line.map_or_else(|| message.clone(), |line| format!("line {line}: {message}"))
}
