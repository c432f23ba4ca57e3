//! Everything the gateway says about itself: each line of the mail log and each metric, declared in one place.
//!
//! A mail-log line is a [`Line`]: written to the log, counted, and kept for `feedgate trace`. One `grep` for a queue id shows
//! a message's life. Bodies, subjects and secrets are never logged.

mod maillog;
mod metrics;

pub use maillog::{Line, MailLog};
pub use metrics::Metrics;
