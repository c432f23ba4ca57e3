//! Rehearsal: what other points, caps or levels would have made of mail that was judged.
//!
//! Each judged message leaves a [`Vector`]: which rules hit, and no text. Counting its hits again under other rules is exact,
//! for it is the same arithmetic (`scale`) that judged it. What a new condition would have found in messages that are gone
//! cannot be known; such rules are named ([`Unknown`]) instead of guessed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::engine::{Assessment, Engine, Fired, Kind};
use super::explain::parts_of;
use super::rules::Mode;
use super::scale::{Part, Sum, rounded};
use super::vector::{Seen, Vector};
use crate::mail::{Domain, QueueId, SpamLevel, Timestamp};

/// Causes named of one example.
const CAUSES_MAX: usize = 4;

/// What a rehearsal found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// Messages looked at; one to several domains counts once here.
    pub messages: u64,
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
    /// Messages that the rules in force, unchanged, would judge otherwise than it was done: rules were changed since.
    pub drifted: u64,
    /// By name.
    pub domains: Vec<DomainShift>,
    pub examples: Vec<Example>,
    /// Rules that could not be rehearsed.
    pub unknown: Vec<Unknown>,
    /// Rules in shadow: what they would do if they counted.
    pub shadow: Vec<ShadowCount>,
}

impl Replay {
    /// What was found in another piece, added.
    pub fn add(&mut self, other: Replay, examples_max: usize) {
        self.messages += other.messages;
        self.drifted += other.drifted;
        self.first = self.first.into_iter().chain(other.first).min();
        self.last = self.last.into_iter().chain(other.last).max();
        for DomainShift { domain, messages, shifts } in other.domains {
            let Some(known) = self.domains.iter_mut().find(|known| known.domain == domain) else {
                self.domains.push(DomainShift { domain, messages, shifts });
                continue;
            };
            known.messages += messages;
            for shift in shifts {
                match known.shifts.iter_mut().find(|known| (known.from, known.to) == (shift.from, shift.to)) {
                    Some(known) => known.messages += shift.messages,
                    None => known.shifts.push(shift),
                }
            }
        }
        for count in other.shadow {
            match self.shadow.iter_mut().find(|known| known.rule == count.rule) {
                Some(known) => (known.hits, known.changes) = (known.hits + count.hits, known.changes + count.changes),
                None => self.shadow.push(count),
            }
        }
        self.examples.extend(other.examples);
        self.examples.truncate(examples_max);
        self.unknown = other.unknown;
    }
}

/// What would change for one domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DomainShift {
    pub domain: Domain,
    pub messages: u64,
    /// From level to level, only what changes.
    pub shifts: Vec<Counted>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    pub from: SpamLevel,
    pub to: SpamLevel,
    pub messages: u64,
}

/// One message that would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    pub id: QueueId,
    pub at: Timestamp,
    pub domain: Domain,
    pub author: Option<Domain>,
    pub from: SpamLevel,
    pub to: SpamLevel,
    pub score_from: f32,
    pub score_to: f32,
    /// What made it: `LINK_TO_ADDRESS 2 → 1`.
    pub by: Vec<String>,
}

/// A rule that cannot be rehearsed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unknown {
    pub rule: String,
    pub why: String,
}

/// What a rule in shadow would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowCount {
    pub rule: String,
    pub points: f32,
    pub hits: u64,
    /// Of these, messages whose level it would change.
    pub changes: u64,
}

/// What was counted for one domain: its messages, and those that change from one level to another.
#[derive(Default)]
struct Tally {
    messages: u64,
    shifts: BTreeMap<(SpamLevel, SpamLevel), u64>,
}

/// Counts messages again, one after the other.
pub struct Rehearsal {
    /// The rules in force.
    before: Engine,
    after: Engine,
    only: Option<Domain>,
    examples_max: usize,
    domains: BTreeMap<Domain, Tally>,
    shadow: BTreeMap<String, ShadowCount>,
    replay: Replay,
}

impl Rehearsal {
    /// `only`: what other domains would see does not matter.
    pub fn new(before: Engine, after: Engine, only: Option<Domain>, examples_max: usize) -> Rehearsal {
        let replay = Replay { unknown: unknown(&before, &after), ..Replay::default() };
        Rehearsal { before, after, only, examples_max, domains: BTreeMap::new(), shadow: BTreeMap::new(), replay }
    }

    /// For messages that are all judged anew: then nothing is unknown.
    pub fn anew(self) -> Rehearsal {
        Rehearsal { replay: Replay { unknown: Vec::new(), ..self.replay }, ..self }
    }

    /// Counts a message of which its vector is left.
    pub fn add(&mut self, vector: &Vector) {
        let fired = vector.fired();
        let parts = parts_of(&self.after, fired.iter());
        self.count(vector, &fired, &parts);
    }

    /// Counts a message that was judged anew by the other rules.
    pub fn add_judged(&mut self, vector: &Vector, assessment: &Assessment) {
        // What is no rule was asked when the message came in, and stays.
        let rules = assessment.fired.iter().filter(|fired| fired.kind != Kind::Other).cloned();
        let others = vector.fired().into_iter().filter(|fired| fired.kind == Kind::Other);
        let fired: Vec<Fired> = rules.chain(others).collect();
        let parts = parts_of(&self.after, fired.iter());
        self.count(vector, &fired, &parts);
    }

    /// All of it, once.
    pub fn finish(self) -> Replay {
        let shift = |(domain, Tally { messages, shifts })| {
            let shifts = shifts.into_iter().map(|((from, to), messages)| Counted { from, to, messages }).collect();
            DomainShift { domain, messages, shifts }
        };
        let domains = self.domains.into_iter().map(shift).collect();
        Replay { domains, shadow: self.shadow.into_values().collect(), ..self.replay }
    }

    fn count(&mut self, vector: &Vector, fired: &[Fired], parts: &[Part]) {
        let wanted = |seen: &&Seen| self.only.as_ref().is_none_or(|only| seen.domain == *only);
        let seen: Vec<&Seen> = vector.domains.iter().filter(wanted).collect();
        if seen.is_empty() {
            return;
        }
        self.replay.messages += 1;
        self.replay.first = Some(self.replay.first.map_or(vector.at, |first| first.min(vector.at)));
        self.replay.last = Some(self.replay.last.map_or(vector.at, |last| last.max(vector.at)));
        let stored = vector.fired();
        let parts_before = parts_of(&self.before, stored.iter());
        let was = self.before.sum(&parts_before);
        let is_as_judged = was.level == vector.level && was.score == vector.score;
        self.replay.drifted += u64::from(!is_as_judged);
        for seen in seen {
            let own = Part { points: seen.own, ..Part::default() };
            let sum = self.after.sum(&[parts, &[own]].concat());
            // Where the domain's own level is more than its points say (a list decides), no other points change it.
            let is_decided =
                seen.own != 0.0 && is_as_judged && self.before.sum(&[&parts_before[..], &[own]].concat()).level != seen.level;
            let to = if is_decided { seen.level } else { sum.level };
            let tally = self.domains.entry(seen.domain.clone()).or_default();
            tally.messages += 1;
            if to != seen.level {
                *tally.shifts.entry((seen.level, to)).or_default() += 1;
                self.example(vector, seen, fired, to, sum.score);
            }
        }
        self.count_shadow(fired, parts);
    }

    fn example(&mut self, vector: &Vector, seen: &Seen, fired: &[Fired], to: SpamLevel, score_to: f32) {
        if self.replay.examples.len() >= self.examples_max {
            return;
        }
        self.replay.examples.push(Example {
            id: vector.id,
            at: vector.at,
            domain: seen.domain.clone(),
            author: vector.author.clone(),
            from: seen.level,
            to,
            score_from: rounded(vector.score + seen.own),
            score_to,
            by: self.causes(vector, fired),
        });
    }

    /// What counts otherwise than it did.
    fn causes(&self, vector: &Vector, fired: &[Fired]) -> Vec<String> {
        let counted = |of: &[Fired], rule: &str| {
            let found = of.iter().find(|fired| fired.rule == rule && fired.kind != Kind::Shadow);
            found.map_or(0.0, |fired| fired.points)
        };
        let stored = vector.fired();
        let mut causes = Vec::new();
        for hit in stored.iter().chain(fired.iter().filter(|hit| !stored.iter().any(|known| known.rule == hit.rule))) {
            let then = counted(&stored, &hit.rule);
            let now = match (hit.kind, self.after.part_of(&hit.rule)) {
                (Kind::Other, _) => counted(fired, &hit.rule),
                _ if !fired.iter().any(|fired| fired.rule == hit.rule) => 0.0,
                (_, part) => part.unwrap_or_default().points,
            };
            if then != now {
                causes.push(format!("{} {then} → {now}", hit.rule));
            }
        }
        if causes.is_empty() {
            let moved = if self.before.levels() == self.after.levels() { "caps" } else { "levels" };
            causes.push(moved.to_owned());
        }
        causes.truncate(CAUSES_MAX);
        causes
    }

    fn count_shadow(&mut self, fired: &[Fired], parts: &[Part]) {
        let mut level = None;
        for (place, hit) in fired.iter().enumerate() {
            let Some((rule, _, _)) = self.after.rule(&hit.rule).filter(|(rule, _, _)| rule.mode == Mode::Shadow) else {
                continue;
            };
            let mut with = parts.to_vec();
            with[place] = Part { points: rule.points, family: Some(rule.family), level: rule.level };
            let level = *level.get_or_insert_with(|| self.after.sum(parts).level);
            let Sum { level: other, .. } = self.after.sum(&with);
            let points = rule.points;
            let count = self.shadow.entry(hit.rule.clone());
            let count = count.or_insert_with(|| ShadowCount { rule: hit.rule.clone(), points, hits: 0, changes: 0 });
            count.hits += 1;
            count.changes += u64::from(other != level);
        }
    }
}

/// Rules whose hits in old mail cannot be known.
fn unknown(before: &Engine, after: &Engine) -> Vec<Unknown> {
    let mut unknown = Vec::new();
    for info in after.rules().into_iter().filter(|info| info.mode != Mode::Off) {
        let Some((now, _, _)) = after.rule(&info.id) else { continue };
        let why = match before.rule(&info.id) {
            None => "new: what it would have found in mail that is gone is not known",
            Some((then, _, _)) if then.mode == Mode::Off => "was off: what it would have found is not known",
            Some((then, _, _)) if then.when != now.when => "its condition is another one: counted where the old one hit",
            Some(_) => continue,
        };
        unknown.push(Unknown { rule: info.id, why: why.to_owned() });
    }
    unknown
}
