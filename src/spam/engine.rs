//! Rules against facts: which of them match, what they add, and which level that is.

mod fitting;
mod tokens;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::examples::Example;
use super::explain::{parts_of, place_of};
use super::facts::Facts;
use super::learned::Learning;
use super::model::Model;
use super::patterns::{Matched, Patterns, evidence_of};
use super::rules::{self, Calibration, Condition, Family, Mode, Rule, RuleErrors, RuleFile, RuleSources, Thresholds};
use super::scale::{self, Part, Sum, rounded, strongest};
use super::text::evidence;
use crate::mail::{Domain, Finding, Judgement, RuleHit, SpamLevel, closest};

/// The rule files that the binary carries, in the order of their names, as [`Engine::load`] reads a directory.
const BUILTIN: [(&str, &str); 14] = [
    ("attachments", include_str!("../../rules/attachments.toml")),
    ("authentication", include_str!("../../rules/authentication.toml")),
    ("body", include_str!("../../rules/body.toml")),
    ("door", include_str!("../../rules/door.toml")),
    ("fraud", include_str!("../../rules/fraud.toml")),
    ("headers", include_str!("../../rules/headers.toml")),
    ("identity", include_str!("../../rules/identity.toml")),
    ("links", include_str!("../../rules/links.toml")),
    ("mailers", include_str!("../../rules/mailers.toml")),
    ("mime", include_str!("../../rules/mime.toml")),
    ("obfuscation", include_str!("../../rules/obfuscation.toml")),
    ("offers", include_str!("../../rules/offers.toml")),
    ("phishing", include_str!("../../rules/phishing.toml")),
    ("test", include_str!("../../rules/test.toml")),
];
const BUILTIN_LEVELS: &str = include_str!("../../rules/levels.toml");

/// The rules, compiled. Cloning shares what is large.
#[derive(Clone)]
pub struct Engine {
    families: Vec<Family>,
    rules: Vec<Rule>,
    /// The place of each rule.
    places: Arc<HashMap<String, usize>>,
    patterns: Arc<Patterns>,
    thresholds: Thresholds,
    calibration: Option<Calibration>,
    sources: Arc<RuleSources>,
    /// `None`: judged by the rules alone.
    model: Option<Arc<Model>>,
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
    /// What the token model says, in natural log-odds; `None`: it was not asked.
    pub tokens: Option<f32>,
    /// All that hit with its points before caps, to be counted again with others.
    pub fired: Vec<Fired>,
    /// The author's domain, as far as it is one.
    pub author: Option<Domain>,
}

/// Something that hit, as it was before caps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fired {
    pub rule: String,
    pub points: f32,
    pub kind: Kind,
}

/// What hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Rule,
    /// A rule in shadow: its points are those it would have had.
    Shadow,
    /// Points from elsewhere: a DNS list, the token model.
    Other,
}

/// A rule as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleInfo {
    pub id: String,
    pub family: String,
    pub points: f32,
    pub why: String,
    pub mode: Mode,
    /// The file of the local layer that added or changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// Its points before the local layer, where that changed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipped_points: Option<f32>,
}

/// Other numbers for rules that stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Points by rule; a rule in shadow or off counts with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<(String, f32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<Thresholds>,
}

impl Change {
    pub fn is_nothing(&self) -> bool {
        *self == Change::default()
    }
}

impl Engine {
    /// The rules the binary carries (`rules/*.toml`); a test proves that they compile.
    pub fn builtin() -> Engine {
        let engine = Engine::from_sources(builtin_sources()).expect("the rules in the binary were tested");
        engine.with_model(Some(Arc::new(Model::builtin())))
    }

    /// The rules of a directory: `levels.toml`, a family in every other `*.toml`, and `tokens.model`.
    pub fn load(directory: &Path) -> Result<Engine, RuleErrors> {
        Engine::configured(Some(directory), None)
    }

    /// As the settings say: the rules of a directory or those of the binary, and the local layer on top. Blocks.
    pub fn configured(directory: Option<&Path>, local: Option<&Path>) -> Result<Engine, RuleErrors> {
        let sources = directory.map_or_else(|| Ok(builtin_sources()), RuleSources::read)?;
        let model = directory.map_or_else(|| Ok(Some(Model::builtin())), Model::of_directory);
        let engine = Engine::from_sources(match local {
            Some(local) => sources.with_local(local)?,
            None => sources,
        })?;
        let model = model.map_err(|why| RuleErrors(vec![why]))?;
        Ok(engine.with_model(model.map(Arc::new)))
    }

    /// The same rules beside this token model.
    pub fn with_model(self, model: Option<Arc<Model>>) -> Engine {
        Engine { model, ..self }
    }

    pub fn from_sources(sources: RuleSources) -> Result<Engine, RuleErrors> {
        let rules = rules::read(&sources)?;
        let patterns = rules.patterns.build().map_err(|error| RuleErrors(vec![error]))?;
        let places = rules.rules.iter().enumerate().map(|(place, rule)| (rule.id.clone(), place)).collect();
        Ok(Engine {
            families: rules.families,
            rules: rules.rules,
            places: Arc::new(places),
            patterns: Arc::new(patterns),
            thresholds: rules.thresholds,
            calibration: rules.calibration,
            sources: Arc::new(sources),
            model: None,
        })
    }

    /// What it was made of.
    pub fn sources(&self) -> &RuleSources {
        &self.sources
    }

    /// The same rules with other numbers.
    pub fn changed(&self, change: &Change) -> Result<Engine, RuleErrors> {
        let mut changed = self.clone();
        let mut mistakes = Vec::new();
        for (id, points) in &change.points {
            match self.places.get(id) {
                _ if !rules::points_fit(*points) => mistakes.push(format!("{id}: points are between -1000 and 1000")),
                Some(place) => (changed.rules[*place].points, changed.rules[*place].mode) = (*points, Mode::On),
                None => {
                    let help = closest(id, self.rules.iter().map(|rule| rule.id.as_str()));
                    let help = help.map_or_else(String::new, |known| format!("; did you mean {known}?"));
                    mistakes.push(format!("there is no rule {}{help}", id.escape_default()));
                }
            }
        }
        if let Some(levels) = change.levels {
            mistakes.extend(levels.mistake());
            changed.thresholds = levels;
        }
        if mistakes.is_empty() { Ok(changed) } else { Err(RuleErrors(mistakes)) }
    }

    /// With the shipped model alone.
    pub fn assess(&self, facts: &Facts) -> Assessment {
        self.assess_with(facts, &Learning::default())
    }

    /// With what was learned here, too.
    pub fn assess_with(&self, facts: &Facts, learning: &Learning) -> Assessment {
        let matched = self.patterns.search(facts);
        let asked = self.rules.iter().enumerate().filter(|(_, rule)| rule.mode != Mode::Off);
        let found = asked.filter_map(|(place, rule)| Some((place, self.holds(&rule.condition, facts, &matched)?)));
        let (mut hits, mut fired, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for (place, evidence) in found {
            let rule = &self.rules[place];
            let kind = if rule.mode == Mode::Shadow { Kind::Shadow } else { Kind::Rule };
            parts.push(self.part(place));
            fired.push(Fired { rule: rule.id.clone(), points: rule.points, kind });
            hits.push(if kind == Kind::Shadow {
                RuleHit::shadow(rule.id.clone(), rule.points, &evidence)
            } else {
                RuleHit { rule: rule.id.clone(), points: 0.0, evidence }
            });
        }
        let (tokens, token_hit) = self.token_hit(facts, learning, strongest(&parts)).unzip();
        let findings = facts.findings.iter().filter(|finding| finding.points != 0.0).map(hit_of);
        // What has points of its own.
        for hit in token_hit.into_iter().filter(|hit| hit.points != 0.0).chain(findings) {
            parts.push(Part { points: hit.points, ..Part::default() });
            fired.push(Fired { rule: hit.rule.clone(), points: hit.points, kind: Kind::Other });
            hits.push(hit);
        }
        let Sum { counted, score, level } = self.sum(&parts);
        hits.iter_mut().zip(counted).for_each(|(hit, points)| hit.points = points);
        hits.sort_by(|one, other| other.points.total_cmp(&one.points));
        let author = Domain::parse(facts.author_domain()).ok();
        Assessment { score, level, hits, tokens, fired, author }
    }

    /// In the order of the files.
    pub fn rules(&self) -> Vec<RuleInfo> {
        let info = |rule: &Rule| RuleInfo {
            id: rule.id.clone(),
            family: self.families[rule.family].name.clone(),
            points: rule.points,
            why: rule.why.clone(),
            mode: rule.mode,
            local: rule.local.clone(),
            shipped_points: rule.shipped_points,
        };
        self.rules.iter().map(info).collect()
    }

    /// Caps by family.
    pub fn caps(&self) -> Vec<(String, f32)> {
        self.families.iter().filter_map(|family| Some((family.name.clone(), family.cap?))).collect()
    }

    /// The lowest score of a level; `None` for [`SpamLevel::None`].
    pub fn threshold(&self, level: SpamLevel) -> Option<f32> {
        scale::threshold(level, self.thresholds)
    }

    /// The level that a score reaches.
    pub fn level_of(&self, score: f32) -> SpamLevel {
        scale::level_of(score, self.thresholds)
    }

    pub fn levels(&self) -> Thresholds {
        self.thresholds
    }

    /// The chance that mail with this score is spam, where half of all mail is; `None` where nobody fitted it.
    pub fn chance(&self, score: f32) -> Option<f32> {
        self.calibration.map(|calibration| calibration.chance(score))
    }

    /// What this share of spam in a domain's mail is worth in points.
    pub(super) fn points_of_share(&self, share: f32) -> f32 {
        // Without a calibration, a point is taken for what it is about: log-odds.
        self.calibration.unwrap_or(Calibration { even: 0.0, steepness: 1.0 }).points_of(share)
    }

    /// The rule of this id, its family's name, and where in a message it looks.
    pub(super) fn rule(&self, id: &str) -> Option<(&Rule, &Family, String)> {
        let rule = &self.rules[*self.places.get(id)?];
        let family = &self.families[rule.family];
        Some((rule, family, place_of(&rule.condition, &family.name)))
    }

    /// What a rule adds here, whatever it added when it hit.
    pub(super) fn part_of(&self, id: &str) -> Option<Part> {
        self.places.get(id).map(|place| self.part(*place))
    }

    pub(super) fn sum(&self, parts: &[Part]) -> Sum {
        scale::sum(parts, &self.families, self.thresholds)
    }

    /// Score and level of what hit, under these rules.
    pub fn recount(&self, fired: &[Fired]) -> (f32, SpamLevel) {
        let Sum { score, level, .. } = self.sum(&parts_of(self, fired.iter()));
        (score, level)
    }

    /// What each of them adds under these rules.
    pub fn counted(&self, fired: &[Fired]) -> Vec<f32> {
        self.sum(&parts_of(self, fired.iter())).counted
    }

    /// What a recorded judgement still tells of what hit: points are after caps.
    pub fn recorded(&self, judgement: &Judgement) -> Assessment {
        let kind = |hit: &RuleHit| match self.places.get(&hit.rule) {
            Some(_) if hit.is_shadow() => Kind::Shadow,
            Some(_) => Kind::Rule,
            None => Kind::Other,
        };
        let fired = judgement.hits.iter().map(|hit| Fired { rule: hit.rule.clone(), points: hit.points, kind: kind(hit) });
        let Judgement { score, level, .. } = *judgement;
        Assessment { score, level, hits: judgement.hits.clone(), fired: fired.collect(), ..Assessment::default() }
    }

    fn part(&self, place: usize) -> Part {
        let rule = &self.rules[place];
        match rule.mode {
            Mode::On => Part { points: rule.points, family: Some(rule.family), level: rule.level },
            Mode::Shadow | Mode::Off => Part::default(),
        }
    }

    /// Of a rule that names its level instead of reaching it, and is on.
    pub(super) fn named_level(&self, id: &str) -> Option<SpamLevel> {
        self.part_of(id)?.level
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
            Condition::All(inner) => inner.iter().map(holds).collect::<Option<Vec<_>>>().map(|found| joined(&found)),
            Condition::AtLeast(count, inner) => {
                // What has to search a text alone comes last, and only while it can still matter.
                let alone = |inner: &&Condition| matches!(inner, Condition::Pattern(id) if self.patterns.searches_alone(*id));
                let mut found: Vec<String> = inner.iter().filter(|inner| !alone(inner)).filter_map(holds).collect();
                let mut left = inner.iter().filter(alone).count();
                for inner in inner.iter().filter(alone) {
                    if found.len() >= *count || found.len() + left < *count {
                        break;
                    }
                    left -= 1;
                    found.extend(holds(inner));
                }
                (found.len() >= *count).then(|| joined(&found))
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

/// What several conditions found, each once: a reader wants to see the second phrase, too.
fn joined(found: &[String]) -> String {
    const SHOWN_MAX: usize = 3;
    let mut shown: Vec<&str> = Vec::new();
    for found in found.iter().filter(|found| !found.is_empty()) {
        if shown.len() < SHOWN_MAX && !shown.contains(&found.as_str()) {
            shown.push(found);
        }
    }
    if shown.len() < 2 { shown.concat() } else { evidence(&shown.join(" | ")) }
}

fn builtin_sources() -> RuleSources {
    let families = BUILTIN.map(|(name, text)| RuleFile { name: name.to_owned(), text: text.to_owned() });
    RuleSources { levels: BUILTIN_LEVELS.to_owned(), families: families.into(), local: Vec::new() }
}
