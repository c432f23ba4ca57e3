//! A judgement in words: what counted and where it stands, what caps cut, how far the next level is, and what would change it.
//!
//! Reads what was judged and never the message; of a judgement from other rules than those in force it says what is still
//! known. What a level leads to is the domain's policy, and explained where that is known (`admin::explain`).

use serde::{Deserialize, Serialize};

use super::engine::{Engine, Fired, Kind};
use super::patterns::Searched;
use super::rules::{Condition, Thresholds};
use super::scale::{Part, level_of, rounded};
use crate::mail::{RuleHit, SpamLevel};

/// Sentences about what would change a level.
const TURNS_MAX: usize = 5;
/// Rules that one sentence takes away together.
const TOGETHER_MAX: usize = 4;

/// A judgement in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub score: f32,
    pub level: SpamLevel,
    pub levels: Thresholds,
    /// The chance that mail with this score is spam, where half of all mail is, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f32>,
    /// Most points first.
    pub reasons: Vec<Reason>,
    /// Families whose cap cut something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<Cut>,
    /// To the next level above; `None` at the highest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<Distance>,
    /// To the level below; `None` at the lowest, and where a rule names the level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<Distance>,
    /// What would change the level, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<String>,
}

/// Something that counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    pub rule: String,
    /// What it added.
    pub points: f32,
    /// Before its family's cap.
    pub uncut: f32,
    pub family: String,
    /// Where it looked: subject, body, header, link, attachment, client, …
    pub place: String,
    pub why: String,
    pub evidence: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// The file of the local layer that added or changed the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
}

/// What a family's cap took away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    pub family: String,
    /// `None`: there was one when the message was judged, and there is none any more.
    pub cap: Option<f32>,
    pub points: f32,
}

/// Points to another level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distance {
    pub level: SpamLevel,
    pub points: f32,
}

impl Explanation {
    /// `fired`: what hit before caps, where it was kept; else the points that the rules have now stand for it.
    pub fn new(engine: &Engine, score: f32, level: SpamLevel, hits: &[RuleHit], fired: Option<&[Fired]>) -> Explanation {
        let reasons: Vec<Reason> = hits.iter().map(|hit| reason(engine, hit, fired)).collect();
        let levels = engine.levels();
        let is_named = level > level_of(score, levels) || hits.iter().any(|hit| engine.named_level(&hit.rule).is_some());
        let from = |level: SpamLevel| engine.threshold(level).unwrap_or_default();
        let place = SpamLevel::ALL.iter().position(|known| *known == level).unwrap_or_default();
        let above = SpamLevel::ALL.get(place + 1).copied();
        let below = place.checked_sub(1).and_then(|place| SpamLevel::ALL.get(place)).copied();
        Explanation {
            score,
            level,
            levels,
            chance: engine.chance(score),
            cuts: cuts(engine, &reasons),
            up: above.map(|level| Distance { level, points: rounded((from(level) - score).max(0.0)) }),
            // Just below the threshold is a hundredth away.
            down: below.filter(|_| !is_named).map(|below| Distance { level: below, points: rounded(score - from(level) + 0.01) }),
            turns: turns(engine, level, &reasons),
            reasons,
        }
    }
}

fn reason(engine: &Engine, hit: &RuleHit, fired: Option<&[Fired]>) -> Reason {
    let known = engine.rule(&hit.rule);
    // Two DNS lists are two hits of one name; no cap touches those.
    let fired = fired.and_then(|fired| fired.iter().find(|fired| fired.rule == hit.rule && fired.kind != Kind::Other));
    let now = known.as_ref().map(|(rule, _, _)| rule.points).filter(|_| !hit.is_shadow());
    // Without a record: a cap only ever takes points away, so the rule had those of now at most.
    let uncut = fired.map_or_else(|| now.filter(|now| *now > hit.points && hit.points >= 0.0), |fired| Some(fired.points));
    let (family, place, why, local) = match known {
        Some((rule, family, place)) => (family.name.clone(), place, rule.why.clone(), rule.local.clone()),
        None => other(&hit.rule),
    };
    Reason {
        rule: hit.rule.clone(),
        points: hit.points,
        uncut: uncut.unwrap_or(hit.points),
        family,
        place,
        why,
        evidence: hit.evidence.clone(),
        shadow: hit.is_shadow(),
        local,
    }
}

/// What is no rule.
fn other(id: &str) -> (String, String, String, Option<String>) {
    let (place, why) = match id {
        "LISTED" => ("client", "A DNS list names the client."),
        "TOKENS" => ("words", "The words of the message, as the token model weighs them."),
        _ => ("", ""),
    };
    (String::new(), place.to_owned(), why.to_owned(), None)
}

fn cuts(engine: &Engine, reasons: &[Reason]) -> Vec<Cut> {
    let mut cuts: Vec<Cut> = Vec::new();
    for reason in reasons.iter().filter(|reason| !reason.shadow && reason.uncut > reason.points) {
        let points = reason.uncut - reason.points;
        match cuts.iter_mut().find(|cut| cut.family == reason.family) {
            Some(cut) => cut.points = rounded(cut.points + points),
            None => {
                let cap = engine.caps().into_iter().find(|(family, _)| *family == reason.family).map(|(_, cap)| cap);
                cuts.push(Cut { family: reason.family.clone(), cap, points: rounded(points) });
            }
        }
    }
    cuts
}

/// What would change the level: taking away one rule, or the strongest ones together; counting one that is in shadow.
fn turns(engine: &Engine, level: SpamLevel, reasons: &[Reason]) -> Vec<String> {
    let part = |reason: &Reason| match (engine.rule(&reason.rule), reason.shadow) {
        (_, true) => Part::default(),
        (Some((rule, _, _)), _) => Part { points: reason.uncut, family: Some(rule.family), level: rule.level },
        (None, _) => Part { points: reason.uncut, ..Part::default() },
    };
    let parts: Vec<Part> = reasons.iter().map(part).collect();
    if engine.sum(&parts).level != level {
        // Judged by other rules or caps: what these would do to it says nothing about that.
        return Vec::new();
    }
    let without = |places: &[usize]| {
        let mut parts = parts.clone();
        places.iter().for_each(|place| parts[*place] = Part::default());
        engine.sum(&parts).level
    };
    let mut sentences = Vec::new();
    for lower in SpamLevel::ALL.into_iter().filter(|lower| *lower < level) {
        let alone = (0..parts.len()).filter(|place| without(&[*place]) == lower);
        let alone: Vec<&str> = alone.map(|place| reasons[place].rule.as_str()).collect();
        if !alone.is_empty() {
            let which = match alone.len() {
                1 => alone.concat(),
                2..=TOGETHER_MAX => format!("any one of {}", alone.join(", ")),
                many => format!("any one of {many} rules, such as {},", alone[..2].join(" or ")),
            };
            sentences.push(format!("without {which} it would be {lower}"));
        }
    }
    if sentences.is_empty() && level > SpamLevel::None {
        // Reasons stand with most points first.
        let together = (2..=TOGETHER_MAX.min(parts.len())).map(|count| (0..count).collect::<Vec<_>>());
        let enough = together.map(|places| (without(&places), places)).find(|(lower, _)| *lower < level);
        sentences.extend(enough.map(|(lower, places)| {
            let names: Vec<&str> = places.iter().map(|place| reasons[*place].rule.as_str()).collect();
            format!("without {} together it would be {lower}", names.join(", "))
        }));
    }
    for (place, reason) in reasons.iter().enumerate().filter(|(_, reason)| reason.shadow) {
        if let Some((rule, _, _)) = engine.rule(&reason.rule) {
            let mut parts = parts.clone();
            parts[place] = Part { points: rule.points, family: Some(rule.family), level: rule.level };
            let with = engine.sum(&parts).level;
            if with != level {
                sentences.push(format!("with {}, which is in shadow, it would be {with}", reason.rule));
            }
        }
    }
    sentences.truncate(TURNS_MAX);
    sentences
}

/// Where a condition looks, in words; several places when it looks at several.
pub(super) fn place_of(condition: &Condition, family: &str) -> String {
    let mut places = Vec::new();
    gather_places(condition, family, &mut places);
    if places.is_empty() { by_family(family).to_owned() } else { places.join(", ") }
}

fn gather_places<'c>(condition: &'c Condition, family: &'c str, places: &mut Vec<&'c str>) {
    let place = match condition {
        Condition::Pattern(id) => match id.searched() {
            Searched::Subject => "subject",
            Searched::From => "from",
            Searched::Body => "body",
            Searched::RawHeader => "header",
            Searched::Url => "link",
            Searched::Attachment => "attachment",
        },
        Condition::Header { name, .. } | Condition::Exists(name) => name,
        // What is not there is nowhere, unless the rule asks for nothing else.
        Condition::Missing(name) if places.is_empty() => name,
        Condition::Missing(_) => return,
        Condition::Finding(_) => "client or sender",
        Condition::Check(check) => by_check(check.name).unwrap_or_else(|| by_family(family)),
        Condition::All(inner) | Condition::Any(inner) | Condition::AtLeast(_, inner) => {
            return inner.iter().for_each(|inner| gather_places(inner, family, places));
        }
        // An excuse is nothing that was found.
        Condition::Not(_) => return,
    };
    if !places.contains(&place) {
        places.push(place);
    }
}

fn by_check(name: &str) -> Option<&'static str> {
    let known =
        [("subject_", "subject"), ("from_", "from"), ("link_", "link"), ("attachment_", "attachment"), ("helo_", "client")];
    known.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, place)| *place)
}

fn by_family(family: &str) -> &'static str {
    match family {
        "headers" => "header",
        "links" => "link",
        "attachments" => "attachment",
        "door" => "client",
        "authentication" => "sender",
        "mime" => "structure",
        _ => "body",
    }
}

/// What hit, as parts of a sum under these rules; what is no rule keeps its points, a rule that is no more has none.
pub(super) fn parts_of<'f>(engine: &Engine, fired: impl Iterator<Item = &'f Fired>) -> Vec<Part> {
    let part = |fired: &Fired| match fired.kind {
        Kind::Rule | Kind::Shadow => engine.part_of(&fired.rule).unwrap_or_default(),
        Kind::Other => Part { points: fired.points, ..Part::default() },
    };
    fired.map(part).collect()
}
