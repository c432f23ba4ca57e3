//! Where a message stands: the part of a queue entry that changes. One value is one whole state; the journal writes it as
//! a snapshot each time, so that the last record wins and nothing has to be added up.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Decision, Enhanced, Host, Judgement, Recipient, Timestamp};

/// The state of one message and of each of its recipients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Where it came from decides whether it is judged at all.
    pub origin: Origin,
    /// `None`: still to be scanned and judged, so nothing of it may be delivered.
    pub judgement: Option<Judgement>,
    /// When the scanner is to be asked next, and how often it has been asked in vain. Only while `judgement` is `None`.
    pub scan_due: Timestamp,
    pub scan_attempts: u32,
    /// In the order of `Envelope::recipients`, and as many.
    pub recipients: Vec<RecipientProgress>,
    /// What operators did, oldest first; at most [`Progress::STEERINGS_MAX`], the oldest go first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steerings: Vec<Steering>,
    /// Recipients that are given up and of whom the sender is still to be told. While there are any the message stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<Failure>,
    /// When the sender was told that the message is late, or it was found that nobody is to be told: it is done once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_told: Option<Timestamp>,
}

/// A recipient that is given up, as the notice to the sender needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its place in `Envelope::recipients`.
    pub recipient: usize,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What the next hop said, or our words; one line.
    pub reply: String,
    pub status: Enhanced,
    /// The lifetime is over; else the refusal was for good.
    #[serde(default)]
    pub expired: bool,
}

/// Who made the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A client: scanned and judged before anything else.
    Client,
    /// This gateway: a bounce. Its text is ours and it holds at most the headers of a judged message, so it goes out unjudged.
    Gateway,
}

/// The state of one recipient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecipientProgress {
    pub status: Status,
    /// `None` until the message is judged.
    pub decision: Option<Decision>,
    /// Delivery attempts made.
    pub attempts: u32,
    /// When to try next; only meaningful while `Waiting`.
    pub due: Timestamp,
    /// When the first attempt failed because of the host: how long it has been away for this recipient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// The last thing the next hop said, or our words for what happened; one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_reply: String,
    /// Set by an operator: keeps being tried until then, whatever the domain's lifetime says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_until: Option<Timestamp>,
    /// Set by an operator: goes to this server instead of the ones its domain names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reroute: Option<Reroute>,
}

/// A server that an operator named for some mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reroute {
    pub host: Host,
    pub port: u16,
}

/// As it is written in settings: `203.0.113.5:2525`, `[2001:db8::5]:25`, `mail2.customer.example:25`.
impl fmt::Display for Reroute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Literal(address) => SocketAddr::new(*address, self.port).fmt(f),
            Host::Domain(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Where a recipient stands. The first three keep the message in the queue; the rest are final.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Status {
    /// For its verdict, or for the next delivery attempt.
    Waiting,
    /// By an operator, until released.
    Held {
        since: Timestamp,
    },
    Quarantined {
        since: Timestamp,
        why: String,
    },
    Delivered {
        at: Timestamp,
        host: String,
    },
    /// The sender is told, or there was nobody to tell.
    Bounced {
        at: Timestamp,
        why: String,
    },
    /// By policy or by an operator.
    Deleted {
        at: Timestamp,
        why: String,
    },
    /// Refused while the sender still waited: never ours.
    Rejected {
        at: Timestamp,
    },
}

/// One thing an operator did to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steering {
    pub at: Timestamp,
    /// The operator's name.
    pub by: String,
    /// `hold`, `release`, `extend 5d`, …
    pub what: String,
    /// The operator's reason; empty when none was given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Status {
    /// Nothing more will happen to this recipient.
    pub fn is_final(&self) -> bool {
        !matches!(self, Status::Waiting | Status::Held { .. } | Status::Quarantined { .. })
    }

    /// The word used in tables, filters and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Status::Waiting => "waiting",
            Status::Held { .. } => "held",
            Status::Quarantined { .. } => "quarantined",
            Status::Delivered { .. } => "delivered",
            Status::Bounced { .. } => "bounced",
            Status::Deleted { .. } => "deleted",
            Status::Rejected { .. } => "rejected",
        }
    }
}

impl RecipientProgress {
    /// Waiting, nothing tried, due at once.
    pub fn new(due: Timestamp) -> RecipientProgress {
        RecipientProgress {
            status: Status::Waiting,
            decision: None,
            attempts: 0,
            due,
            failing_since: None,
            last_reply: String::new(),
            extended_until: None,
            reroute: None,
        }
    }

    /// Where its mail is queued: its own host, or the one an operator named instead.
    pub fn destination<'a>(&'a self, recipient: &'a Recipient) -> &'a Host {
        self.reroute.as_ref().map_or(recipient.address.host(), |reroute| &reroute.host)
    }
}

impl Progress {
    pub const STEERINGS_MAX: usize = 20;

    /// The state of a message just accepted, for `recipients` recipients.
    pub fn accepted(origin: Origin, recipients: usize, now: Timestamp) -> Progress {
        Progress {
            origin,
            judgement: None,
            scan_due: now,
            scan_attempts: 0,
            recipients: vec![RecipientProgress::new(now); recipients],
            steerings: Vec::new(),
            untold: Vec::new(),
            delay_told: None,
        }
    }

    /// Still to be scanned and judged.
    pub fn awaits_scan(&self) -> bool {
        self.origin == Origin::Client && self.judgement.is_none()
    }

    /// Every recipient is final and nobody is left to be told: the message may go.
    pub fn is_settled(&self) -> bool {
        self.untold.is_empty() && self.recipients.iter().all(|recipient| recipient.status.is_final())
    }

    /// Notes what an operator did.
    pub fn steered(&mut self, at: Timestamp, by: &str, what: impl Into<String>, reason: &str) {
        if self.steerings.len() == Progress::STEERINGS_MAX {
            self.steerings.remove(0);
        }
        self.steerings.push(Steering { at, by: by.to_owned(), what: what.into(), reason: reason.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_from_before_reasons_and_reroutes_is_read() {
        let recipient = r#"{"status":{"is":"waiting"},"decision":null,"attempts":1,"due":5}"#;
        let old = format!(
            r#"{{"origin":"client","judgement":null,"scan_due":1,"scan_attempts":0,"recipients":[{recipient}],
               "steerings":[{{"at":7,"by":"ops","what":"hold"}}]}}"#
        );
        let mut progress: Progress = serde_json::from_str(&old).unwrap();
        assert_eq!((progress.steerings[0].reason.as_str(), &progress.recipients[0].reroute), ("", &None));
        progress.recipients[0].reroute = Some(Reroute { host: "[IPv6:2001:db8::5]".parse().unwrap(), port: 25 });
        progress.steered(Timestamp(9), "ops", "reroute", "they moved");
        let again: Progress = serde_json::from_str(&serde_json::to_string(&progress).unwrap()).unwrap();
        assert_eq!(again, progress);
    }

    #[test]
    fn what_an_older_version_wrote_is_read_and_nothing_new_is_written_until_it_is_needed() {
        let mut progress = Progress::accepted(Origin::Client, 1, Timestamp(1));
        let written = serde_json::to_string(&progress).unwrap();
        assert!(!written.contains("untold") && !written.contains("delay_told"), "{written}");
        assert_eq!(serde_json::from_str::<Progress>(&written).unwrap(), progress);
        let reply = "550 5.1.1 no".to_owned();
        progress.untold.push(Failure {
            recipient: 0,
            at: Timestamp(2),
            host: None,
            reply,
            status: Enhanced(5, 1, 1),
            expired: false,
        });
        progress.recipients[0].status = Status::Bounced { at: Timestamp(2), why: String::new() };
        assert!(!progress.is_settled(), "somebody is still to be told");
        let written = serde_json::to_string(&progress).unwrap();
        assert_eq!(serde_json::from_str::<Progress>(&written).unwrap(), progress);
        progress.untold.clear();
        assert!(progress.is_settled());
    }
}
