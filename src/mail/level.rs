//! The four spam levels and what a domain may do at each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much a message looks like spam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpamLevel {
    #[default]
    None,
    Low,
    Med,
    High,
}

impl SpamLevel {
    pub const ALL: [SpamLevel; 4] = [SpamLevel::None, SpamLevel::Low, SpamLevel::Med, SpamLevel::High];

    /// The word used in headers, logs, settings and commands.
    pub fn as_str(self) -> &'static str {
        match self {
            SpamLevel::None => "none",
            SpamLevel::Low => "low",
            SpamLevel::Med => "med",
            SpamLevel::High => "high",
        }
    }
}

impl fmt::Display for SpamLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a domain asks for at a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Deliver; say nothing in the message.
    #[default]
    None,
    /// Deliver with headers that no reader sees.
    Header,
    /// Deliver with headers and a tag in front of the subject.
    Subject,
    /// Keep here until somebody releases or deletes it.
    Quarantine,
    /// Take it and throw it away.
    Delete,
    /// Refuse it while the sender still waits.
    Reject,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Action::None => "none",
            Action::Header => "header",
            Action::Subject => "subject",
            Action::Quarantine => "quarantine",
            Action::Delete => "delete",
            Action::Reject => "reject",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
