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
mod facts;
mod learned;
mod patterns;
mod rules;
mod text;
mod tokens;

pub use engine::{Assessment, Engine, RuleInfo};
pub use facts::Facts;
pub use learned::{Digest, Example, LEARNED_MAX, Label, Learned, Learning, Lesson, NoLesson, attached, is_trace, stripped};
pub use rules::RuleErrors;
pub use tokens::Tokens;

/// The names of the checks that a rule can ask for with `check = "…"`, each with what it finds.
pub fn named_checks() -> impl Iterator<Item = (&'static str, &'static str)> {
    checks::ALL.iter().map(|check| (check.name, check.finds))
}
