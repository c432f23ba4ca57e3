//! The judgement: facts → rules → points → level. Pure: no socket, no file but the rules, no clock.
//!
//! A rule that reads what only a test mailbox would have does not belong here. What the answer leads to is the domain's
//! policy (`flow::decide`), not this module's.

// (skeleton: types and signatures)

use std::path::Path;

use crate::mail::{Envelope, RuleHit, SpamLevel};

/// What is known about a message when it is judged. Gathered once, then only read.
pub struct Facts {}

impl Facts {
    /// Reads a message. `content`: the whole message, or its first [`Facts::CONTENT_MAX`] bytes when it is larger.
    pub fn gather(envelope: &Envelope, content: &[u8]) -> Facts {
        let _ = (envelope, content);
        todo!()
    }

    /// More than this much of a message is not looked at, in bytes.
    pub const CONTENT_MAX: u64 = 1 << 20;
}

/// The rules, compiled.
pub struct Engine {}

/// What the rules say.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    pub score: f32,
    pub level: SpamLevel,
    /// Most points first.
    pub hits: Vec<RuleHit>,
}

/// A rule as people see it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RuleInfo {
    pub id: String,
    pub family: String,
    pub points: f32,
    pub why: String,
}

/// Every mistake in the rule files, with file and rule.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct RuleErrors(pub Vec<String>);

impl Engine {
    /// The rules the binary carries (`rules/*.toml`); a test proves that they compile.
    pub fn builtin() -> Engine {
        todo!()
    }

    /// The rules of a directory.
    pub fn load(directory: &Path) -> Result<Engine, RuleErrors> {
        let _ = directory;
        todo!()
    }

    pub fn assess(&self, facts: &Facts) -> Assessment {
        let _ = facts;
        todo!()
    }

    /// In the order of the files.
    pub fn rules(&self) -> Vec<RuleInfo> {
        todo!()
    }

    /// The lowest score of a level; `None` for [`SpamLevel::None`].
    pub fn threshold(&self, level: SpamLevel) -> Option<f32> {
        let _ = level;
        todo!()
    }
}
