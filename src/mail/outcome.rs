//! How one attempt to hand a message over ended, for one recipient.

use serde::{Deserialize, Serialize};

/// Whose trouble a temporary failure is: decides how far it is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The server could not be reached or takes nothing now: true for every message that waits for it.
    Host,
    /// This message is not taken now.
    Message,
    /// This recipient is not taken now.
    Recipient,
}

/// The end of one attempt for one recipient. `reply` is the peer's own text on one line, or our words for what happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The peer took responsibility (2xx after the end of data). `host`: its address and port, or `name [address]:port`.
    Delivered { host: String, reply: String },
    /// Not now: try again.
    Retry { scope: Scope, host: Option<String>, reply: String },
    /// Never: tell the sender.
    Failed { host: Option<String>, reply: String },
}
