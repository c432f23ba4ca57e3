//! Everything an operator can ask for, one method each. The HTTP API calls these and nothing else, so that what the command
//! line can do, a script can do, and both mean the same.
//!
//! Invariants:
//! - A steering needs something that selects; "everything" must be said (`all`). A forgotten option never means everything.
//! - Every steering carries the operator's name into the message's journal and the mail log.
//! - Every answer is bounded, whatever the queue holds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answers::{
    DomainView, GreylistReport, Headers, Health, Message, MessageLine, MessageList, ReloadReport, Spool, Status, SteeringReport,
};
use crate::checks::{Greylist, GreylistRecord};
use crate::config::Current;
use crate::mail::{Address, Domain, QueueId, Timestamp};
use crate::outside::{Clock, Pending, Scanner};
use crate::queue::{Queue, Selector};
use crate::store::{Account, Entry, History, Store, StoreError, Verification};
use crate::telemetry::{Line, Metrics};

/// Reads the configuration again and puts it in force: what is new, or all mistakes, in words.
pub type Reload = Arc<dyn Fn() -> Pending<'static, Result<String, String>> + Send + Sync>;

/// The states that can be selected.
pub const STATES: [&str; 4] = ["waiting", "held", "quarantined", "awaiting-scan"];
/// Entries in one answer at most.
pub const LIST_MAX: usize = 1000;
/// How far beyond the end of a list is counted.
const MORE_COUNTED: usize = 1000;
/// An operator's promise has an end.
const EXTENSION_MAX: Duration = Duration::from_secs(365 * 86_400);
/// Of a message, to find the headers that are shown.
const HEADERS_READ: u64 = 64 * 1024;
/// A header shown is cut after so many characters.
const HEADER_SHOWN: usize = 300;

/// The gateway as its operators see it. The daemon fills it in.
pub struct Operations {
    pub queue: Queue,
    pub greylist: Greylist,
    pub history: History,
    pub store: Store,
    pub config: Current,
    pub scanner: Arc<dyn Scanner>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub reload: Reload,
    pub started_at: Timestamp,
}

/// Why an operation did not do what was asked, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The question makes no sense as it stands.
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Missing(String),
    /// It makes sense, but not for this message now.
    #[error("{0}")]
    Refused(String),
    /// The gateway's own trouble.
    #[error("{0}")]
    Failed(String),
}

impl From<StoreError> for OperationError {
    fn from(error: StoreError) -> OperationError {
        match error {
            StoreError::NotFound => OperationError::Missing(error.to_string()),
            StoreError::Full | StoreError::Locked(_) | StoreError::Io { .. } | StoreError::Damaged(_) => {
                OperationError::Failed(error.to_string())
            }
        }
    }
}

type Answer<T> = Result<T, OperationError>;

/// Which messages a request means. Everything that is given must match. Unknown fields are errors: one that is misspelt
/// must not widen what is dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<QueueId>,
    /// A recipient's domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Address>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Address>,
    /// One of [`STATES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Means every message when nothing else is given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

impl Selection {
    /// Nothing but `all` is given.
    pub fn is_open(&self) -> bool {
        self.id.is_none() && self.domain.is_none() && self.sender.is_none() && self.recipient.is_none() && self.state.is_none()
    }

    fn selector(&self) -> Answer<Selector> {
        if let Some(state) = &self.state
            && !STATES.contains(&state.as_str())
        {
            let known = STATES.join(", ");
            return Err(OperationError::Invalid(format!("no such state: {}; known are {known}", state.escape_default())));
        }
        Ok(Selector {
            id: self.id,
            domain: self.domain.clone(),
            sender: self.sender.clone(),
            recipient: self.recipient.clone(),
            state: self.state.clone(),
        })
    }

    /// The selector of a command that changes something.
    fn steering(&self) -> Answer<Selector> {
        if self.is_open() && !self.all {
            let text = "nothing selects: name a queue id, a domain or an address, or say that all are meant";
            return Err(OperationError::Invalid(text.to_owned()));
        }
        self.selector()
    }
}

/// What is asked about and shown.
impl Operations {
    pub async fn status(&self) -> Answer<Status> {
        let config = self.config.load_full();
        let data_dir = config.data_dir.clone();
        let free_bytes = tokio::task::spawn_blocking(move || free_bytes(&data_dir)).await.ok().flatten();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: config.hostname.to_string(),
            now: self.clock.now(),
            started_at: self.started_at,
            sessions: self.metrics.sessions.get(),
            scanner: self.scanner.health().into(),
            spool: Spool {
                data_dir: config.data_dir.clone(),
                free_bytes,
                reserve_bytes: config.queue.reserve,
                accepting: !self.store.is_full(),
            },
            queue: self.queue.counts().await?,
            ledger: self.store.ledger().iter().map(|line| line.account).sum::<Account>(),
            outages: self.queue.outages().await?,
        })
    }

    /// Reads the whole spool while mail flows.
    pub async fn queue_verify(&self) -> Answer<Verification> {
        Ok(self.store.verify().await?)
    }

    /// `/metrics`; the ledger's numbers are taken when they are asked for.
    pub fn metrics_text(&self) -> String {
        for line in self.store.ledger() {
            for (state, recipients) in line.account.named() {
                self.metrics.ledger(&line.domain, state, recipients);
            }
        }
        self.metrics.render()
    }

    /// Cheap: asked every few seconds by load balancers.
    pub fn health(&self) -> Health {
        let scanner: super::answers::Scanner = self.scanner.health().into();
        let accepting = !self.store.is_full();
        Health { healthy: accepting && scanner.up, accepting, scanner }
    }

    /// Up to `limit` messages after `after`, oldest first.
    pub async fn queue_list(&self, selection: &Selection, after: Option<QueueId>, limit: usize) -> Answer<MessageList> {
        let limit = limit.clamp(1, LIST_MAX);
        let found = self.queue.list(&selection.selector()?, after, limit + MORE_COUNTED).await?;
        let more = found.len().saturating_sub(limit);
        Ok(MessageList {
            messages: found.iter().take(limit).map(|entry| MessageLine::new(entry)).collect(),
            more,
            more_uncounted: more == MORE_COUNTED,
        })
    }

    /// The same for what is in quarantine.
    pub async fn quarantine_list(&self, selection: &Selection, after: Option<QueueId>, limit: usize) -> Answer<MessageList> {
        let state = Some("quarantined".to_owned());
        self.queue_list(&Selection { state, ..selection.clone() }, after, limit).await
    }

    pub async fn queue_show(&self, id: QueueId) -> Answer<Message> {
        let entry = self.entry(id).await?;
        let headers = self.headers(id).await;
        Ok(Message::new(&entry, headers, |recipient| self.queue.lifetime_end(&entry.envelope, &entry.progress, recipient)))
    }

    pub async fn domain_list(&self) -> Answer<Vec<DomainView>> {
        let config = self.config.load_full();
        let counts = self.queue.counts().await?.per_domain.into_iter();
        let mut counts: HashMap<_, _> = counts.map(|count| (count.domain.clone(), count)).collect();
        let view = |(domain, settings): (&Domain, _)| {
            DomainView::new(domain, settings, Some(counts.remove(domain.as_str()).unwrap_or_default()))
        };
        Ok(config.domains.iter().map(view).collect())
    }

    pub async fn domain_show(&self, domain: &Domain) -> Answer<DomainView> {
        let config = self.config.load_full();
        let settings = config.domain(domain).ok_or_else(|| OperationError::Missing(format!("{domain} is not served here")))?;
        let counts = self.queue.counts().await?.per_domain.into_iter().find(|count| count.domain == domain.as_str());
        let outage = self.queue.outages().await?.into_iter().find(|outage| outage.domain == domain.as_str());
        Ok(DomainView { outage, ..DomainView::new(domain, settings, Some(counts.unwrap_or_default())) })
    }

    pub async fn greylist_list(&self, limit: usize) -> Answer<Vec<GreylistRecord>> {
        Ok(self.greylist.list(self.clock.now(), limit.clamp(1, LIST_MAX)).await)
    }

    /// The mail log of one message, session or address.
    pub async fn trace(&self, id_or_address: &str, limit: usize) -> Answer<Vec<Line>> {
        Ok(self.history.trace(id_or_address, limit.clamp(1, LIST_MAX)).await)
    }

    async fn entry(&self, id: QueueId) -> Answer<Arc<Entry>> {
        self.store.entry(id).await.map_err(|error| match error {
            StoreError::NotFound => missing(id),
            error => error.into(),
        })
    }

    /// `None` when the content cannot be read: the rest of the message is shown all the same.
    async fn headers(&self, id: QueueId) -> Option<Headers> {
        let head = self.store.body(id).await.ok()?.head(HEADERS_READ).await.ok()?;
        Some(read_headers(&head))
    }
}

/// What changes something in the queue. `by`: the operator's name.
impl Operations {
    pub async fn queue_retry(&self, selection: &Selection, by: &str) -> Answer<SteeringReport> {
        let steered = self.queue.retry(&selection.steering()?, by).await;
        self.report(selection, "retried: it waits for nothing", steered.map(|steered| (steered, Vec::new()))).await
    }

    pub async fn queue_hold(&self, selection: &Selection, by: &str) -> Answer<SteeringReport> {
        let steered = self.queue.hold(&selection.steering()?, by).await;
        self.report(selection, "held: none of it waits for delivery", steered.map(|steered| (steered, Vec::new()))).await
    }

    pub async fn queue_release(&self, selection: &Selection, by: &str) -> Answer<SteeringReport> {
        let steered = self.queue.release(&selection.steering()?, by).await;
        let why = "released: none of it is held (quarantine has its own release)";
        self.report(selection, why, steered.map(|steered| (steered, Vec::new()))).await
    }

    pub async fn queue_extend(&self, selection: &Selection, longer: Duration, by: &str) -> Answer<SteeringReport> {
        if longer.is_zero() || longer > EXTENSION_MAX {
            return Err(OperationError::Invalid("extend by more than nothing and by at most 365 days".to_owned()));
        }
        let steered = self.queue.extend(&selection.steering()?, longer, by).await;
        let why = "extended: none of it waits or is held";
        self.report(selection, why, steered.map(|steered| (steered, Vec::new()))).await
    }

    pub async fn queue_drop(&self, selection: &Selection, by: &str) -> Answer<SteeringReport> {
        let steered = self.queue.drop(&selection.steering()?, by).await;
        let why = "dropped: none of it waits or is held (`quarantine delete` deletes from quarantine)";
        self.report(selection, why, steered.map(|steered| (steered, Vec::new()))).await
    }

    pub async fn quarantine_release(&self, selection: &Selection, by: &str) -> Answer<SteeringReport> {
        let steered = self.queue.quarantine_release(&selection.steering()?, by).await;
        self.report(selection, "released: none of it is in quarantine", steered).await
    }

    pub async fn quarantine_delete(&self, selection: &Selection, by: &str) -> Answer<SteeringReport> {
        let steered = self.queue.quarantine_delete(&selection.steering()?, by).await;
        let why = "deleted: none of it is in quarantine (`queue drop` deletes from the queue)";
        self.report(selection, why, steered.map(|steered| (steered, Vec::new()))).await
    }

    pub async fn greylist_allow(&self, network: IpAddr, by: &str) -> Answer<GreylistReport> {
        self.greylist.allow(&self.config.load_full().greylist, network, self.clock.now()).await;
        tracing::info!(%network, by, "greylist: allowed by an operator");
        Ok(GreylistReport::default())
    }

    pub async fn greylist_forget(&self, network: IpAddr, by: &str) -> Answer<GreylistReport> {
        let forgotten = self.greylist.forget(network).await;
        tracing::info!(%network, by, forgotten, "greylist: forgotten by an operator");
        Ok(GreylistReport { forgotten })
    }

    pub async fn reload(&self, by: &str) -> Answer<ReloadReport> {
        tracing::info!(by, "reload asked for by an operator");
        let text = (self.reload)().await.map_err(OperationError::Refused)?;
        Ok(ReloadReport { text })
    }

    /// A named message to which nothing was done is a mistake that the operator should hear of; a domain with nothing to do
    /// is not. `not_done`: what could not be done to it and why, after "cannot be".
    async fn report(
        &self,
        selection: &Selection,
        not_done: &str,
        steered: Result<(Vec<crate::queue::Steered>, Vec<QueueId>), StoreError>,
    ) -> Answer<SteeringReport> {
        let (steered, infected) = match (steered, selection.id) {
            (Err(StoreError::NotFound), Some(id)) => return Err(missing(id)),
            (steered, _) => steered?,
        };
        let report = SteeringReport::new(steered, infected);
        if let Some(id) = selection.id
            && report.messages == 0
            && report.infected == 0
        {
            self.entry(id).await?;
            return Err(OperationError::Refused(format!("{id} cannot be {not_done}; `feedgate queue show {id}` tells more")));
        }
        Ok(report)
    }
}

fn missing(id: QueueId) -> OperationError {
    OperationError::Missing(format!("{id} is not in the queue (any more); `feedgate trace {id}` tells what became of it"))
}

fn free_bytes(directory: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The three headers by which people recognise a message, decoded.
fn read_headers(head: &[u8]) -> Headers {
    let Some(message) = mail_parser::MessageParser::new().with_minimal_headers().with_message_ids().parse_headers(head) else {
        return Headers::default();
    };
    let cut = |text: &str| text.chars().take(HEADER_SHOWN).collect::<String>();
    let from = message.from().and_then(|from| from.first()).map(|from| match (from.name(), from.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (name, address) => name.or(address).unwrap_or_default().to_owned(),
    });
    Headers { from: from.as_deref().map(cut), subject: message.subject().map(cut), message_id: message.message_id().map(cut) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steering_that_selects_nothing_must_say_all() {
        let nothing = Selection::default();
        assert!(matches!(nothing.steering(), Err(OperationError::Invalid(_))));
        assert_eq!(nothing.selector().unwrap(), Selector::default());
        let all = Selection { all: true, ..Selection::default() };
        assert_eq!(all.steering().unwrap(), Selector::default());
    }

    #[test]
    fn a_misspelt_selection_is_an_error_and_not_everything() {
        assert!(serde_json::from_str::<Selection>(r#"{"domian": "customer.example", "all": true}"#).is_err());
        let selection = Selection { state: Some("frozen".to_owned()), ..Selection::default() };
        assert_eq!(
            selection.steering().unwrap_err().to_string(),
            "no such state: frozen; known are waiting, held, quarantined, awaiting-scan"
        );
    }

    #[test]
    fn headers_are_decoded_and_bounded() {
        let text = format!(
            "From: =?utf-8?q?J=C3=B6rg?= <joerg@sender.example>\r\nSubject: {}\r\nMessage-ID: <1@sender.example>\r\n\r\nbody\r\n",
            "long ".repeat(1000)
        );
        let headers = read_headers(text.as_bytes());
        assert_eq!(headers.from.as_deref(), Some("Jörg <joerg@sender.example>"));
        assert_eq!(headers.subject.unwrap().chars().count(), HEADER_SHOWN);
        assert_eq!(headers.message_id.as_deref(), Some("1@sender.example"));
        assert_eq!(read_headers(b"").subject, None);
    }
}
