//! Reads a TOML table key by key and goes on after a mistake, so that all of them are reported at once.
//!
//! Not serde: `Deserialize` stops at the first mistake, and names an unknown key without knowing what was meant. Here the keys
//! that are asked for *are* the schema: whatever nobody asked for is unknown, and what was asked for is what to suggest.
//! A value that cannot be used is reported where it stands and replaced by its default, so that reading goes on; the settings
//! are thrown away in the end when there was any mistake.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::errors::{self, ConfigError, Mistake, Text};
use crate::mail::closest;

/// No list in the settings needs more entries, and some are compared with each other.
const LIST_MAX: usize = 1_000;

/// What is wrong with a value; the name of its key is put in front: `smtp.size_max` *is 10, which has no unit*.
#[derive(Debug)]
pub(super) struct Fault {
    message: String,
    help: Option<String>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Fault {
        Fault { message: message.into(), help: None }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Fault {
        Fault { help: Some(help.into()), ..self }
    }

    /// A value of another kind.
    pub(super) fn kind(wanted: &str, value: &DeValue<'_>) -> Fault {
        Fault::new(format!("must be {wanted}, not {}", kind(value)))
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A key that exists: its table (`smtp`, `domains."…"`) and itself.
pub(super) type Key = (&'static str, &'static str);

/// What reading one file gathers.
#[derive(Default)]
struct Findings {
    mistakes: Vec<Mistake>,
    known: BTreeSet<Key>,
    unknown: Vec<Unknown>,
}

struct Unknown {
    key: String,
    bytes: Range<usize>,
    table: &'static str,
    /// As its header writes it.
    path: String,
    /// Better than a guess.
    help: Option<&'static str>,
}

/// Reads the text with `read`, which gets its top level. Returns the mistakes and the keys that were asked for; a file that is
/// not TOML is not read further, as what its broken lines meant is unknown.
pub(super) fn read_text(text: &Text, read: impl FnOnce(Table<'_>)) -> (Vec<ConfigError>, BTreeSet<Key>) {
    let (document, syntax) = DeTable::parse_recoverable(text.as_str());
    if !syntax.is_empty() {
        let mistakes = syntax.into_iter().map(|error| Mistake {
            bytes: error.span(),
            message: format!("not valid TOML: {}", error.message()),
            help: None,
        });
        return (errors::explain(text, mistakes.collect()), BTreeSet::new());
    }
    let findings = RefCell::default();
    read(Table {
        findings: &findings,
        name: "",
        path: String::new(),
        header: None,
        entries: Some(document.get_ref()),
        asked: Vec::new(),
        broken: Vec::new(),
    });
    let Findings { mut mistakes, known, unknown } = findings.into_inner();
    mistakes.extend(unknown.iter().map(|unknown| unknown.explain(&known)));
    (errors::explain(text, mistakes), known)
}

impl Unknown {
    /// Said last, when all keys of all tables are known: a key is often right but below the wrong header.
    fn explain(&self, known: &BTreeSet<Key>) -> Mistake {
        let here = || known.iter().filter(|(table, _)| *table == self.table).map(|(_, key)| *key);
        let elsewhere = known.iter().filter(|(table, key)| *table != self.table && *key == self.key);
        let places: Vec<String> = elsewhere.map(|(table, _)| Unknown::belongs(table)).collect();
        let help = match (self.help, closest(&self.key, here())) {
            (Some(help), _) => help.to_owned(),
            (None, Some(meant)) => format!("did you mean `{meant}`?"),
            (None, None) if !places.is_empty() => format!("`{}` belongs {}", self.key, places.join(" or ")),
            (None, None) => format!("known here: {}", here().collect::<Vec<_>>().join(", ")),
        };
        let place = if self.path.is_empty() { "at the top level".to_owned() } else { format!("in [{}]", self.path) };
        let message = format!("unknown key `{}` {place}", self.key.escape_debug());
        Mistake { bytes: Some(self.bytes.clone()), message, help: Some(help) }
    }

    fn belongs(table: &str) -> String {
        if table.is_empty() { "at the top, above the first [table]".to_owned() } else { format!("in [{table}]") }
    }
}

/// One table being read. Ask for every key it may have, then [`Table::finish`].
pub(super) struct Table<'r> {
    findings: &'r RefCell<Findings>,
    /// For [`Key`]; the same for all domains.
    name: &'static str,
    /// As its header writes it; empty: the top level.
    path: String,
    /// `None`: the top level, or not written.
    header: Option<Range<usize>>,
    /// `None`: not written.
    entries: Option<&'r DeTable<'r>>,
    asked: Vec<&'static str>,
    broken: Vec<&'static str>,
}

impl<'r> Table<'r> {
    /// A key that has a default.
    pub(super) fn get<T>(&mut self, key: &'static str, default: T, read: impl FnOnce(&DeValue<'r>) -> Result<T, Fault>) -> T {
        self.optional(key, read).unwrap_or(default)
    }

    /// A key that may be absent; `None` also when its value cannot be used.
    pub(super) fn optional<T>(&mut self, key: &'static str, read: impl FnOnce(&DeValue<'r>) -> Result<T, Fault>) -> Option<T> {
        let (value, bytes) = self.entry(key)?;
        let read = read(value).map_err(|fault| self.report(key, bytes, fault));
        read.ok()
    }

    /// A key that must be there; `None` only after a mistake was reported.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&DeValue<'r>) -> Result<T, Fault>,
    ) -> Option<T> {
        if self.entry(key).is_none() {
            self.missing(key, example);
        }
        self.optional(key, read)
    }

    /// Reports that a key is not there.
    pub(super) fn missing(&mut self, key: &'static str, example: &str) {
        self.report(key, self.header.clone(), Fault::new("is missing").help(format!("add a line like `{key} = {example}`")));
    }

    /// A list that has a default. Entries that cannot be used are reported one by one, and then the default is taken.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        mut read: impl FnMut(&DeValue<'r>) -> Result<T, Fault>,
    ) -> Vec<T> {
        let Some((value, bytes)) = self.entry(key) else { return default };
        let DeValue::Array(entries) = value else {
            self.report(key, bytes, Fault::kind("a list", value).help("lists stand in brackets, also with one entry: [\"…\"]"));
            return default;
        };
        if entries.len() > LIST_MAX {
            self.report(key, bytes, Fault::new(format!("has {} entries; the most is {LIST_MAX}", entries.len())));
            return default;
        }
        let mut list = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            match read(entry.get_ref()) {
                Ok(item) => list.push(item),
                Err(fault) => self.report(key, Some(entry.span()), fault),
            }
        }
        // Half a list could be wrong together with other settings in ways that the whole one is not.
        if self.is_sound(&[key]) { list } else { default }
    }

    /// A list in which no entry stands twice.
    pub(super) fn set<T: PartialEq + ToString>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        mut read: impl FnMut(&DeValue<'r>) -> Result<T, Fault>,
    ) -> Vec<T> {
        let mut seen: Vec<String> = Vec::new();
        self.list(key, default, |value| {
            let item = read(value)?;
            let shown = item.to_string();
            if seen.contains(&shown) {
                return Err(Fault::new(format!("names {shown} twice")));
            }
            seen.push(shown);
            Ok(item)
        })
    }

    /// To be said of a list that needs an entry.
    pub(super) fn refuse_empty<T>(&mut self, key: &'static str, list: &[T], help: &str) {
        if list.is_empty() && self.is_sound(&[key]) {
            self.refuse(key, Fault::new("is empty").help(help));
        }
    }

    /// The table below the key; an empty one when it is not written.
    pub(super) fn table(&mut self, key: &'static str, name: &'static str) -> Table<'r> {
        let path = self.full_name(key);
        let mut below = Table { findings: self.findings, name, path, header: None, entries: None, asked: vec![], broken: vec![] };
        match self.entry(key) {
            Some((DeValue::Table(entries), header)) => (below.entries, below.header) = (Some(entries), header),
            Some((value, bytes)) => self.report(key, bytes, Fault::kind("a table", value)),
            None => {}
        }
        below
    }

    /// For a table whose keys are names that the operator chose: each table in it with its name and where that stands, in the
    /// order of the text.
    pub(super) fn named_tables(self, name: &'static str) -> Vec<(&'r str, Range<usize>, Table<'r>)> {
        let mut tables = Vec::new();
        for (key, value) in self.entries.into_iter().flatten() {
            let path = format!("{}.\"{}\"", self.path, key.get_ref().escape_debug());
            let DeValue::Table(entries) = value.get_ref() else {
                self.say(Some(value.span()), &path, Fault::kind("a table", value.get_ref()));
                continue;
            };
            let (header, entries) = (Some(value.span()), Some(entries));
            let table = Table { findings: self.findings, name, path, header, entries, asked: vec![], broken: vec![] };
            tables.push((key.get_ref().as_ref(), key.span(), table));
        }
        tables.sort_by_key(|(_, bytes, _)| bytes.start);
        tables
    }

    /// Whether the table is written at all.
    pub(super) fn is_written(&self) -> bool {
        self.entries.is_some()
    }

    /// Whether the key is written, with whatever value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    /// Whether the values of all the keys could be used, so that comparing them makes sense.
    pub(super) fn is_sound(&self, keys: &[&'static str]) -> bool {
        keys.iter().all(|key| !self.broken.contains(key))
    }

    /// Reports a value that is right in itself but not with the others. Points at the table when the key is not written.
    pub(super) fn refuse(&mut self, key: &'static str, fault: Fault) {
        let value = self.entries.and_then(|entries| entries.get(key));
        let bytes = value.map(|value| value.span()).or_else(|| self.header.clone());
        self.report(key, bytes, fault);
    }

    /// Reports the name of the table itself.
    pub(super) fn refuse_name(&self, bytes: Range<usize>, fault: Fault) {
        self.say(Some(bytes), &self.path, fault);
    }

    /// Reports what nobody asked for, with what is probably meant.
    pub(super) fn finish(self) {
        self.report_unknown(None);
    }

    /// Reports what nobody asked for, where the reason is known.
    pub(super) fn finish_with_help(self, help: &'static str) {
        self.report_unknown(Some(help));
    }

    fn report_unknown(self, help: Option<&'static str>) {
        let mut findings = self.findings.borrow_mut();
        let not_asked = |key: &str| !self.asked.contains(&key);
        for (key, _) in self.entries.into_iter().flatten().filter(|(key, _)| not_asked(key.get_ref())) {
            let (key, bytes) = (key.get_ref().to_string(), key.span());
            findings.unknown.push(Unknown { key, bytes, table: self.name, path: self.path.clone(), help });
        }
    }

    fn entry(&mut self, key: &'static str) -> Option<(&'r DeValue<'r>, Option<Range<usize>>)> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
            self.findings.borrow_mut().known.insert((self.name, key));
        }
        let value = self.entries?.get(key)?;
        Some((value.get_ref(), Some(value.span())))
    }

    fn report(&mut self, key: &'static str, bytes: Option<Range<usize>>, fault: Fault) {
        self.broken.push(key);
        self.say(bytes, &self.full_name(key), fault);
    }

    fn say(&self, bytes: Option<Range<usize>>, name: &str, Fault { message, help }: Fault) {
        let message = format!("`{name}` {message}");
        self.findings.borrow_mut().mistakes.push(Mistake { bytes, message, help });
    }

    fn full_name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
