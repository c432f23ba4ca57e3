//! The local layer: files that change single rules by id, add rules, and move caps and levels, so that an update of the rules
//! underneath changes nothing of what was decided here.
//!
//! ```toml
//! [rule.LINK_TO_ADDRESS]
//! points = 1.0
//! [family.links]
//! cap = 5
//! [levels]
//! high = 11.0
//! ```
//!
//! A table with `when` is a whole rule: new, or with `replace = true` in the place of the one with its id.

use std::collections::HashMap;

use serde::Deserialize;

use super::written::{Reader, cap_of, name_of, one_line, points_fit, read_rule};
use super::{Family, Mode, RuleFile, Thresholds};
use crate::mail::closest;

/// What a table without `when` may say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeWritten {
    points: Option<f32>,
    off: Option<bool>,
    shadow: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelsWritten {
    low: Option<f32>,
    med: Option<f32>,
    high: Option<f32>,
}

/// Changes what was read. `thresholds`: those of `levels.toml`, `None` when they could not be read; returns those in force.
pub(super) fn apply(reader: &mut Reader, files: &[RuleFile], thresholds: Option<Thresholds>) -> Option<Thresholds> {
    let mut layer = Layer { reader, thresholds, places: HashMap::new(), file: String::new() };
    for file in files {
        layer.file(file);
    }
    layer.thresholds
}

struct Layer<'r> {
    reader: &'r mut Reader,
    thresholds: Option<Thresholds>,
    /// What was changed already, and in which file: two files that change the same would depend on their names.
    places: HashMap<String, String>,
    /// The one being read, as messages name it.
    file: String,
}

impl Layer<'_> {
    fn file(&mut self, file: &RuleFile) {
        self.file = format!("rules.d/{}.toml", file.name);
        let table = match toml::from_str::<toml::Table>(&file.text) {
            Ok(table) => table,
            Err(broken) => return self.mistake(one_line(&broken, &file.text)),
        };
        for (key, value) in table {
            match (key.as_str(), value) {
                ("rule", toml::Value::Table(rules)) => rules.into_iter().for_each(|(id, value)| self.named(id, value, file)),
                ("rule", toml::Value::Array(rules)) => {
                    for (place, value) in rules.into_iter().enumerate() {
                        self.whole(&name_of(&value, place), value, file);
                    }
                }
                ("family", toml::Value::Table(families)) => {
                    families.into_iter().for_each(|(name, value)| self.family(&name, value));
                }
                ("levels", value) => self.levels(value),
                ("cap", value) => self.own_cap(value, file),
                (key, _) => self.mistake(format!(
                    "unknown key `{key}`; a file in rules.d has `[rule.ID]`, `[[rule]]`, `[family.NAME]`, `[levels]` and `cap`"
                )),
            }
        }
    }

    fn mistake(&mut self, text: impl AsRef<str>) {
        self.reader.errors.push(format!("{}: {}", self.file, text.as_ref()));
    }

    /// Notes that this file changes something; says where it was changed before.
    fn take(&mut self, what: String) -> Result<(), String> {
        match self.places.insert(what, self.file.clone()) {
            Some(before) => Err(format!("was already changed in {before}")),
            None => Ok(()),
        }
    }

    /// `[rule.ID]`
    fn named(&mut self, id: String, mut value: toml::Value, file: &RuleFile) {
        if value.get("when").is_none() {
            if let Err(why) = self.change(&id, value) {
                self.mistake(format!("{id}: {why}"));
            }
            return;
        }
        if let toml::Value::Table(table) = &mut value {
            table.entry("id").or_insert_with(|| toml::Value::String(id.clone()));
        }
        if value.get("id").and_then(toml::Value::as_str) != Some(&id) {
            return self.mistake(format!("{id}: its `id` is another one"));
        }
        self.whole(&id, value, file);
    }

    fn change(&mut self, id: &str, value: toml::Value) -> Result<(), String> {
        let written = value.try_into::<ChangeWritten>().map_err(|broken| broken.message().replace('\n', ", "))?;
        let ChangeWritten { points, off, shadow } = written;
        if points.is_none() && off.is_none() && shadow.is_none() {
            return Err("nothing is changed; a change has `points`, `off` or `shadow`, a whole rule has `when`".to_owned());
        }
        if points.is_some_and(|points| !points_fit(points)) {
            return Err("points are between -1000 and 1000".to_owned());
        }
        let mode = match (off, shadow) {
            (Some(true), Some(true)) => return Err("is either off or in shadow".to_owned()),
            (Some(true), _) => Some(Mode::Off),
            (_, Some(true)) => Some(Mode::Shadow),
            (None, None) => None,
            _ => Some(Mode::On),
        };
        let Some(place) = self.reader.rules.iter().position(|rule| rule.id == id) else {
            // One with a mistake has been reported.
            return if self.reader.ids.contains(id) { Ok(()) } else { Err(self.unknown(id)) };
        };
        self.take(format!("rule {id}"))?;
        let file = self.file.clone();
        let rule = &mut self.reader.rules[place];
        rule.shipped_points = points.is_some().then_some(rule.points);
        rule.points = points.unwrap_or(rule.points);
        rule.mode = mode.unwrap_or(rule.mode);
        rule.local = Some(file);
        Ok(())
    }

    fn unknown(&self, id: &str) -> String {
        let help = match closest(id, self.reader.rules.iter().map(|rule| rule.id.as_str())) {
            Some(known) => format!("did you mean {known}?"),
            None => "`feedgate rules list` has them all; a new rule needs `when`".to_owned(),
        };
        format!("there is no rule of this name; {help}")
    }

    /// A whole rule, new or in the place of another.
    fn whole(&mut self, named: &str, value: toml::Value, file: &RuleFile) {
        let (written, when) = match read_rule(value) {
            Ok(read) => read,
            Err(broken) => return self.mistake(format!("{named}: {broken}")),
        };
        let id = written.id.clone();
        let replaces = written.replace;
        let place = self.reader.rules.iter().position(|rule| rule.id == id);
        let family = match place {
            Some(place) if replaces => self.reader.rules[place].family,
            _ => self.family_of(&file.name),
        };
        let (rule, mut mistakes) = self.reader.rule(written, when, family);
        let is_new = self.reader.ids.insert(id.clone());
        match (replaces, is_new) {
            (true, true) => mistakes.push(format!("`replace`, but {}", self.unknown(&id))),
            (false, false) => mistakes.push("this id is taken; `replace = true` puts it in the place of the other".to_owned()),
            _ => mistakes.extend(self.take(format!("rule {id}")).err()),
        }
        if let (Some(mut rule), true) = (rule, mistakes.is_empty()) {
            rule.local = Some(self.file.clone());
            match place {
                Some(place) => {
                    rule.shipped_points = Some(self.reader.rules[place].points);
                    self.reader.rules[place] = rule;
                }
                None => self.reader.rules.push(rule),
            }
        }
        mistakes.into_iter().for_each(|mistake| self.mistake(format!("{named}: {mistake}")));
    }

    /// The family of this name; a new file is a new one.
    fn family_of(&mut self, name: &str) -> usize {
        let families = &mut self.reader.families;
        families.iter().position(|family| family.name == name).unwrap_or_else(|| {
            families.push(Family { name: name.to_owned(), cap: None });
            families.len() - 1
        })
    }

    /// `cap` on top of a file: for the family of its name.
    fn own_cap(&mut self, value: toml::Value, file: &RuleFile) {
        let place = self.family_of(&file.name);
        self.cap(place, value);
    }

    /// `[family.NAME]`
    fn family(&mut self, name: &str, value: toml::Value) {
        let families = &self.reader.families;
        let Some(place) = families.iter().position(|family| family.name == name) else {
            let help = closest(name, families.iter().map(|family| family.name.as_str()));
            let help = help.map_or_else(String::new, |known| format!("; did you mean {known}?"));
            return self.mistake(format!("there is no family {name}{help}"));
        };
        let toml::Value::Table(mut table) = value else {
            return self.mistake(format!("family {name}: write [family.{name}] and `cap = 5` below it"));
        };
        match (table.remove("cap"), table.keys().next()) {
            (Some(cap), None) => self.cap(place, cap),
            (_, Some(key)) => self.mistake(format!("family {name}: unknown key `{key}`; a family has `cap`")),
            (None, None) => self.mistake(format!("family {name}: nothing is changed; a family has `cap`")),
        }
    }

    fn cap(&mut self, place: usize, value: toml::Value) {
        let name = self.reader.families[place].name.clone();
        match cap_of(value).and_then(|cap| self.take(format!("family {name}")).map(|()| cap)) {
            Ok(cap) => self.reader.families[place].cap = Some(cap),
            Err(why) => self.mistake(format!("family {name}: {why}")),
        }
    }

    fn levels(&mut self, value: toml::Value) {
        let written = match value.try_into::<LevelsWritten>() {
            Ok(written) => written,
            Err(broken) => return self.mistake(format!("levels: {}", broken.message().replace('\n', ", "))),
        };
        if let Err(why) = self.take("levels".to_owned()) {
            return self.mistake(format!("levels: {why}"));
        }
        let Some(before) = self.thresholds else { return };
        let LevelsWritten { low, med, high } = written;
        let thresholds =
            Thresholds { low: low.unwrap_or(before.low), med: med.unwrap_or(before.med), high: high.unwrap_or(before.high) };
        match thresholds.mistake() {
            Some(mistake) => self.mistake(format!("levels: {mistake}")),
            None => self.thresholds = Some(thresholds),
        }
    }
}
