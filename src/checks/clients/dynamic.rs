//! Names that access lines have: DSL, cable, dial-up, mobile, pools. What makes a name one stands in `rules/dynamic.toml`, which
//! the binary carries; here is only how it is read and asked. A name that nothing there knows is no such name.

mod embedded;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::mail::Domain;

const BUILTIN: &str = include_str!("../../../rules/dynamic.toml");

/// The file, as used.
pub struct DynamicNames {
    lines: Vec<Entry>,
    servers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    line: Vec<EntryWritten>,
    server: Vec<EntryWritten>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryWritten {
    id: String,
    why: String,
    matches: Option<String>,
    address: Option<Extent>,
    #[serde(default)]
    below: Vec<String>,
    #[serde(default)]
    always: bool,
}

/// How much of the client's address its name must hold.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Extent {
    Whole,
    Part,
}

/// All that is asked must hold; what is absent is not asked.
struct Entry {
    #[cfg_attr(not(test), allow(dead_code, reason = "names the entry in tests and in mistakes"))]
    id: String,
    why: String,
    matches: Option<Regex>,
    address: Option<Extent>,
    below: Vec<String>,
    always: bool,
}

impl DynamicNames {
    /// The file that the binary carries; a test proves that it can be read.
    pub fn builtin() -> DynamicNames {
        DynamicNames::parse(BUILTIN).expect("the file in the binary was tested")
    }

    fn parse(text: &str) -> Result<DynamicNames, String> {
        let written: Written = toml::from_str(text).map_err(|error| error.to_string())?;
        let entries = |written: Vec<EntryWritten>| written.into_iter().map(Entry::read).collect::<Result<Vec<_>, _>>();
        Ok(DynamicNames { lines: entries(written.line)?, servers: entries(written.server)? })
    }

    /// Why this name of the client at `address` looks like an access line's, in words that follow the name.
    pub fn why(&self, name: &Domain, address: IpAddr) -> Option<&str> {
        self.line(name.as_str(), address).map(|line| line.why.as_str())
    }

    fn line(&self, name: &str, address: IpAddr) -> Option<&Entry> {
        let mut lines = self.lines.iter().filter(|line| line.holds(name, address)).peekable();
        lines.peek()?;
        let excused = self.servers.iter().any(|server| server.holds(name, address));
        lines.find(|line| line.always || !excused)
    }
}

impl Entry {
    fn read(written: EntryWritten) -> Result<Entry, String> {
        let EntryWritten { id, why, matches, address, below, always } = written;
        if matches.is_none() && address.is_none() && below.is_empty() {
            return Err(format!("{id}: it would hold for every name"));
        }
        // Names are ASCII.
        let compile = |pattern: String| RegexBuilder::new(&pattern).unicode(false).build();
        let matches = matches.map(compile).transpose().map_err(|error| format!("{id}: {error}"))?;
        Ok(Entry { id, why, matches, address, below, always })
    }

    /// The cheapest question first.
    fn holds(&self, name: &str, address: IpAddr) -> bool {
        let below = self.below.is_empty() || self.below.iter().any(|domain| is_below(name, domain));
        let embedded = |extent: Extent| match extent {
            Extent::Whole => embedded::whole(name, address),
            Extent::Part => embedded::part(name, address),
        };
        below
            && self.matches.as_ref().is_none_or(|matches| matches.is_match(name.as_bytes()))
            && self.address.is_none_or(embedded)
    }
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}
