//! What operators ask and order about recipients: which are known and why, and what they add to the lists by command.

use serde::{Deserialize, Serialize};

use super::operations::{LIST_MAX, OperationError, Operations};
use crate::checks::{ChangeError, Ground, Known, KnownState, ListedIn, Teacher};
use crate::config::RecipientCheck;
use crate::mail::{Address, Domain, Timestamp};

/// Addresses in one order.
const ORDER_MAX: usize = 10_000;

/// `recipient list`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientList {
    /// `any`, `list`, `callout`
    pub check: String,
    /// All that are listed.
    pub listed: usize,
    /// The server takes every address, so that asking it tells nothing.
    pub takes_everything: bool,
    /// The first listed ones, then the first remembered ones.
    pub recipients: Vec<RecipientLine>,
    /// More are listed or remembered than shown.
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientLine {
    /// An address, or a pattern with `*`.
    pub address: String,
    /// `exists`, `unknown`, `unclear`
    pub state: String,
    /// `settings`, `added`, `callout`, `delivery`
    pub source: String,
    /// When the server told, and until when that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The server's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reply: String,
}

/// `recipient check`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientVerdict {
    pub address: String,
    /// `exists`, `unknown`, `later`
    pub answer: String,
    /// How that is known, from a closed list.
    pub ground: String,
    /// The same in words.
    pub why: String,
}

/// `recipient add`, `remove`, `forget`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientReport {
    /// How many addresses that made a difference for.
    pub changed: usize,
    /// What else there is to know.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

type Answer<T> = Result<T, OperationError>;

impl Operations {
    pub async fn recipient_list(&self, domain: &Domain, limit: usize) -> Answer<RecipientList> {
        let config = self.config.load_full();
        let Some(settings) = config.domain(domain) else { return Err(not_served(domain)) };
        let limit = limit.clamp(1, LIST_MAX);
        let (listed, count) = self.checks.recipients.listed(&config, domain, limit).await;
        let remembered = self.checks.recipients.remembered(domain, limit + 1).await;
        let listed = listed.into_iter().map(|(local, source)| RecipientLine {
            address: written(&local, domain),
            state: "exists".to_owned(),
            source: source_word(source).to_owned(),
            at: None,
            expires: None,
            reply: String::new(),
        });
        let remembered = remembered.into_iter().map(|(local, known)| line(written(&local, domain), known));
        let mut recipients: Vec<_> = listed.chain(remembered).collect();
        let more = count > limit || recipients.len() > limit;
        recipients.truncate(limit);
        Ok(RecipientList {
            check: check_word(settings.recipients.check).to_owned(),
            listed: count,
            takes_everything: self.checks.recipients.takes_everything(domain).await,
            recipients,
            more,
        })
    }

    /// What a client would hear now; asks the customer's server where a client's RCPT would.
    pub async fn recipient_check(&self, address: &Address) -> Answer<RecipientVerdict> {
        let config = self.config.load_full();
        let domain = address.domain().filter(|domain| config.domain(domain).is_some());
        let Some(domain) = domain else { return Err(not_served(address.host())) };
        let existence = self.checks.recipients.exists(&config, address, self.queue.is_away(domain)).await;
        Ok(RecipientVerdict {
            address: address.to_string(),
            answer: existence.as_str().to_owned(),
            ground: existence.ground().as_str().to_owned(),
            why: words(existence.ground()),
        })
    }

    /// Adds addresses, or patterns with `*`, to the lists of their domains.
    pub async fn recipient_add(&self, addresses: Vec<Address>, by: &str) -> Answer<RecipientReport> {
        let config = self.config.load_full();
        let domains = self.domains_of(&addresses)?;
        let changed = self.checks.recipients.add(&config, addresses).await?;
        tracing::info!(changed, by, "recipients: added by an operator");
        let unchecked = domains
            .iter()
            .filter(|domain| config.domain(domain).is_some_and(|settings| settings.recipients.check == RecipientCheck::Any));
        let unchecked: Vec<_> = unchecked.map(Domain::as_str).collect();
        let note = match unchecked.as_slice() {
            [] => String::new(),
            domains => format!("{} takes every address, listed or not (recipients = \"any\")", domains.join(", ")),
        };
        Ok(RecipientReport { changed, note })
    }

    /// Takes out what was added by command, and forgets what the server told of these addresses.
    pub async fn recipient_remove(&self, addresses: Vec<Address>, by: &str) -> Answer<RecipientReport> {
        let config = self.config.load_full();
        let named = addresses.clone();
        let changed = self.checks.recipients.remove(&config, addresses).await?;
        let mut still = Vec::new();
        for address in &named {
            self.checks.recipients.forget(address).await;
            if self.checks.recipients.is_listed(&config, address).await {
                still.push(address.to_string());
            }
        }
        tracing::info!(changed, by, "recipients: removed by an operator");
        still.truncate(3);
        let note = match still.as_slice() {
            [] => String::new(),
            still => format!("still listed, in the settings or by a pattern: {}", still.join(", ")),
        };
        Ok(RecipientReport { changed, note })
    }

    /// Forgets what the server told of an address, so that it is asked again.
    pub async fn recipient_forget(&self, address: &Address, by: &str) -> Answer<RecipientReport> {
        let forgotten = self.checks.recipients.forget(address).await;
        tracing::info!(%address, by, forgotten, "recipients: forgotten by an operator");
        Ok(RecipientReport { changed: usize::from(forgotten), note: String::new() })
    }

    /// The domains of an order's addresses, all served here.
    fn domains_of(&self, addresses: &[Address]) -> Answer<std::collections::BTreeSet<Domain>> {
        if addresses.is_empty() || addresses.len() > ORDER_MAX {
            return Err(OperationError::Invalid(format!("name from 1 to {ORDER_MAX} addresses")));
        }
        let config = self.config.load();
        let served = |address: &Address| match address.domain() {
            Some(domain) if config.domain(domain).is_some() => Ok(domain.clone()),
            _ => Err(not_served(address.host())),
        };
        addresses.iter().map(served).collect()
    }
}

impl From<ChangeError> for OperationError {
    fn from(error: ChangeError) -> OperationError {
        match error {
            ChangeError::TooMany => OperationError::Refused(error.to_string()),
            ChangeError::Store(error) => error.into(),
        }
    }
}

fn not_served(host: impl std::fmt::Display) -> OperationError {
    OperationError::Missing(format!("{host} is not served here"))
}

/// A local part of a list, which may be a pattern, as an address.
fn written(local: &str, domain: &Domain) -> String {
    let quoted = format!("\"{}\"@{domain}", local.replace('\\', "\\\\").replace('"', "\\\""));
    // The quotes stay only where they are needed.
    Address::parse(&quoted).map_or(quoted, |address| address.to_string())
}

fn line(address: String, known: Known) -> RecipientLine {
    let state = match known.state {
        KnownState::Exists => "exists",
        KnownState::Unknown => "unknown",
        KnownState::Unclear => "unclear",
    };
    RecipientLine {
        address,
        state: state.to_owned(),
        source: teacher_word(known.by).to_owned(),
        at: Some(known.at),
        expires: Some(known.expires),
        reply: known.reply,
    }
}

fn source_word(source: ListedIn) -> &'static str {
    match source {
        ListedIn::Settings => "settings",
        ListedIn::Added => "added",
    }
}

fn teacher_word(teacher: Teacher) -> &'static str {
    match teacher {
        Teacher::Callout => "callout",
        Teacher::Delivery => "delivery",
    }
}

fn check_word(check: RecipientCheck) -> &'static str {
    match check {
        RecipientCheck::Any => "any",
        RecipientCheck::List => "list",
        RecipientCheck::Callout => "callout",
    }
}

fn words(ground: &Ground) -> String {
    match ground {
        Ground::Unchecked => "its domain takes every address (recipients = \"any\")".to_owned(),
        Ground::Role => "every domain has this address".to_owned(),
        Ground::Listed(ListedIn::Settings) => "it stands in recipient_list".to_owned(),
        Ground::Listed(ListedIn::Added) => "it was added by command".to_owned(),
        Ground::NotListed => "it stands in no list".to_owned(),
        Ground::ListBroken => "it stands in no list, but the file of recipient_list has mistakes (see the log)".to_owned(),
        Ground::Remembered(known) => {
            format!("the customer's server said so ({}, {}): {}", teacher_word(known.by), known.at, known.reply)
        }
        Ground::Told(reply) => format!("the customer's server says so now: {reply}"),
        Ground::TakesEverything => "the customer's server takes every address, so that asking it tells nothing".to_owned(),
        Ground::NeverSeen(why) => format!("it was never seen, and the customer's server cannot be asked: {why}"),
        Ground::Slow => "the customer's server takes long to answer; ask again in a minute".to_owned(),
        Ground::TooMany => "too many addresses of this domain are asked for; ask again in a minute".to_owned(),
    }
}
