//! The judgement: facts → rules → points → level. Pure: no socket, no file but the rules, no clock.
//!
//! [`Facts`] is everything known about one message, gathered once. An [`Engine`] holds the rules of a directory,
//! compiled; [`Engine::assess`] compares the two. `docs/RULES.md` is the manual for people who write rules.
//!
//! A rule that reads what only a test mailbox would have does not belong here. What the answer leads to is the domain's
//! policy (`flow::decide`), not this module's.
//!
//! Nothing here fails on a message: what cannot be read is judged by what can, and by the fact that it cannot.
//! Work and memory are linear in the (bounded) content, whatever a sender writes.

mod checks;
mod engine;
mod examples;
mod explain;
mod facts;
pub mod fit;
mod learned;
mod lists;
mod model;
mod patterns;
mod people;
mod policy;
mod proof;
mod replay;
mod rules;
mod scale;
mod text;
mod tokens;
mod vector;

pub use engine::{Assessment, Change, Engine, Fired, Kind, RuleInfo};
pub use explain::{Cut, Distance, Explanation, Reason};
pub use facts::Facts;
pub use learned::{Digest, Example, LEARNED_MAX, Label, Learned, Learning, Lesson, NoLesson, attached, is_trace, stripped};
pub use lists::{Claimed, Entry, Layer, Listing, Lists, Who, listed};
pub use model::Model;
pub use people::{Authors, protected_name};
pub use policy::{Person, SHARE_DEFAULT, for_domain, percent};
pub use proof::Proof;
pub use replay::{Counted, DomainShift, Example as ReplayExample, Rehearsal, Replay, ShadowCount, Unknown};
pub use rules::{Mode, RuleErrors, RuleFile, RuleSources, Thresholds};
pub use tokens::Tokens;
pub use vector::{Seen, Vector};

/// Whether anybody has a mailbox there within a minute, so that its name says nothing about who writes.
pub fn is_freemail(domain: &crate::mail::Domain) -> bool {
    checks::is_freemail(domain.organisation().as_str())
}

/// The names of the checks that a rule can ask for with `check = "…"`, each with what it finds.
pub fn named_checks() -> impl Iterator<Item = (&'static str, &'static str)> {
    checks::ALL.iter().map(|check| (check.name, check.finds))
}
