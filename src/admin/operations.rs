//! Everything an operator can ask for, one method each. The HTTP API calls these and nothing else, so that what the command
//! line can do, a script can do, and both mean the same.
//!
//! Invariants:
//! - A steering needs something that selects; "everything" must be said (`all`). A forgotten option never means everything.
//! - Every steering carries the operator's name into the message's journal and the mail log.
//! - Every answer is bounded, whatever the queue holds.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::answers::{
    BanReport, DomainView, GreylistReport, Headers, Health, Message, MessageLine, MessageList, ReloadReport, Spool, Status,
    SteeringReport,
};
pub use super::selection::Selection;
use crate::checks::{Ban, Checks, DAYS_MAX, GreylistRecord, GreylistStatistics, Identity, LostTry, WhichLost};
use crate::config::Current;
use crate::flow::LessonKeeper;
use crate::mail::{Address, Domain, QueueId, Timestamp};
use crate::outside::{Clock, Pending, Resolver, Scanner};
use crate::queue::{By, Extension, Longer, Mode, Queue, Selector, Steer};
use crate::spam::Engine;
use crate::store::{Account, Entry, History, Store, StoreError, Verification};
use crate::telemetry::{Line, Metrics};

/// Reads the configuration again and puts it in force: what is new, or all mistakes, in words.
pub type Reload = Arc<dyn Fn() -> Pending<'static, Result<String, String>> + Send + Sync>;

/// The rules in force.
pub type Rules = Arc<dyn Fn() -> Arc<Engine> + Send + Sync>;

/// Entries in one answer at most.
pub const LIST_MAX: usize = 1000;
/// How far beyond the end of a list is counted.
const MORE_COUNTED: usize = 1000;
/// An operator's promise has an end.
const EXTENSION_MAX: Duration = Duration::from_secs(365 * 86_400);
/// An operator's ban has an end, too.
const BAN_MAX: Duration = Duration::from_secs(365 * 86_400);
/// First tries that are gone through before greylisting's numbers are shown.
const FIND_LOST_MAX: usize = 20_000;
/// Of a message, to find the headers that are shown.
const HEADERS_READ: u64 = 64 * 1024;
/// A header shown is cut after so many characters.
const HEADER_SHOWN: usize = 300;

/// The gateway as its operators see it. The daemon fills it in.
pub struct Operations {
    pub queue: Queue,
    pub checks: Checks,
    pub resolver: Arc<dyn Resolver>,
    pub history: History,
    pub store: Store,
    pub config: Current,
    pub scanner: Arc<dyn Scanner>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub lessons: LessonKeeper,
    pub reload: Reload,
    pub engine: Rules,
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
                index_behind: self.store.spool_stats().index_behind,
            },
            queue: self.queue.counts().await?,
            ledger: self.store.ledger().iter().map(|line| line.account).sum::<Account>(),
            outages: self.queue.outages().await?,
            extensions: self.queue.extensions(),
        })
    }

    /// Reads the whole spool while mail flows.
    pub async fn queue_verify(&self) -> Answer<Verification> {
        Ok(self.store.verify().await?)
    }

    /// `/metrics`; the numbers of ledger, spool, greylist and callouts are taken when they are asked for.
    pub fn metrics_text(&self) -> String {
        self.metrics.greylist(self.checks.greylist.waiting(), self.checks.greylist.lost_since_start());
        for line in self.store.ledger() {
            for (state, recipients) in line.account.named() {
                self.metrics.ledger(&line.domain, state, recipients);
            }
        }
        self.metrics.index_behind.set(self.store.spool_stats().index_behind as i64);
        for (result, count) in self.checks.recipients.callouts() {
            self.metrics.callouts(result, count);
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
        let found = self.queue.list(&selection.selector(self.clock.now())?, after, limit + MORE_COUNTED).await?;
        let more = found.len().saturating_sub(limit);
        Ok(MessageList {
            messages: found
                .iter()
                .take(limit)
                .map(|entry| MessageLine::new(entry, |destination| self.queue.away(destination)))
                .collect(),
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
        let lifetime_end = |recipient| self.queue.lifetime_end(&entry.envelope, &entry.progress, recipient);
        let (extension, away) = (|domain: &_| self.queue.extension(domain), |destination: &_| self.queue.away(destination));
        Ok(Message::new(&entry, headers, lifetime_end, extension, away))
    }

    pub async fn domain_list(&self) -> Answer<Vec<DomainView>> {
        let config = self.config.load_full();
        let counts = self.queue.counts().await?.per_domain.into_iter();
        let mut counts: HashMap<_, _> = counts.map(|count| (count.domain.clone(), count)).collect();
        let view = |(domain, settings): (&Domain, _)| {
            let view = DomainView::new(domain, settings, Some(counts.remove(domain.as_str()).unwrap_or_default()));
            DomainView { extension: self.queue.extension(domain), ..view }
        };
        Ok(config.domains.iter().map(view).collect())
    }

    pub async fn domain_show(&self, domain: &Domain) -> Answer<DomainView> {
        let config = self.config.load_full();
        let settings = config.domain(domain).ok_or_else(|| OperationError::Missing(format!("{domain} is not served here")))?;
        let counts = self.queue.counts().await?.per_domain.into_iter().find(|count| count.domain == domain.as_str());
        let outage = self.queue.outages().await?.into_iter().find(|outage| outage.domain == domain.as_str());
        let view = DomainView::new(domain, settings, Some(counts.unwrap_or_default())).with_details(settings);
        Ok(DomainView { outage, extension: self.queue.extension(domain), ..view })
    }

    pub async fn greylist_list(&self, limit: usize) -> Answer<Vec<GreylistRecord>> {
        Ok(self.checks.greylist.list(self.clock.now(), limit.clamp(1, LIST_MAX)).await)
    }

    /// The newest ones.
    pub async fn ban_list(&self, limit: usize) -> Answer<Vec<Ban>> {
        let mut bans = self.checks.limiter.bans(self.clock.now());
        Ok(bans.split_off(bans.len().saturating_sub(limit.clamp(1, LIST_MAX))))
    }

    pub async fn greylist_stats(&self, days: usize) -> Answer<GreylistStatistics> {
        let now = self.clock.now();
        self.find_lost(now).await;
        Ok(self.checks.greylist.statistics(days.clamp(1, DAYS_MAX), now).await)
    }

    pub async fn greylist_lost(&self, which: WhichLost, limit: usize) -> Answer<Vec<LostTry>> {
        let now = self.clock.now();
        self.find_lost(now).await;
        Ok(self.checks.greylist.lost(now, limit.clamp(1, LIST_MAX), which).await)
    }

    /// What is over must not count as waited for. In a flood it takes minutes to find: then the last hourly look has to do.
    async fn find_lost(&self, now: Timestamp) {
        if self.checks.greylist.waiting() <= FIND_LOST_MAX {
            self.checks.greylist.sweep(now).await;
        }
    }

    /// The mail log of one message, session or address.
    pub async fn trace(&self, id_or_address: &str, limit: usize) -> Answer<Vec<Line>> {
        Ok(self.history.trace(id_or_address, limit.clamp(1, LIST_MAX)).await)
    }

    pub(super) async fn entry(&self, id: QueueId) -> Answer<Arc<Entry>> {
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

/// What changes something in the queue. `by`: the operator.
impl Operations {
    /// Every command for the queue but `extend`, which has more to it.
    pub async fn queue_steer(&self, steer: Steer, selection: &Selection, by: By, mode: Mode) -> Answer<SteeringReport> {
        let not_done = match &steer {
            Steer::Retry => "retried: it waits for nothing",
            Steer::Hold => "held: none of it waits for delivery",
            Steer::Release => "released: none of it is held (quarantine has its own release)",
            Steer::Extend(_) => "extended: none of it waits or is held",
            Steer::Reroute(Some(_)) => "rerouted: none of it waits or is held, or it goes there already",
            Steer::Reroute(None) => "cleared: none of it is rerouted",
            Steer::Bounce(_) => "bounced: none of it waits or is held, or it has no verdict yet",
            Steer::Drop => "dropped: none of it waits or is held (`quarantine delete` deletes from quarantine)",
            Steer::ReleaseQuarantined => "released: none of it is in quarantine",
            Steer::DeleteQuarantined => "deleted: none of it is in quarantine (`queue drop` deletes from the queue)",
        };
        let selector = selection.steering(self.clock.now())?;
        let infected = match steer {
            Steer::ReleaseQuarantined => self.queue.infected(&selector).await?,
            _ => Vec::new(),
        };
        let steered = self.queue.steer(steer, &selector, by, mode).await;
        self.report(selection, not_done, steered.map(|steered| (steered, infected)), mode).await
    }

    /// For a domain it counts for the mail to come, too, as long as the outage lasts.
    pub async fn queue_extend(&self, selection: &Selection, longer: Longer, by: By, mode: Mode) -> Answer<SteeringReport> {
        let now = self.clock.now();
        let is_sane = match longer {
            Longer::By(longer) => !longer.is_zero() && longer <= EXTENSION_MAX,
            Longer::Until(until) => until > now && until <= now + EXTENSION_MAX,
        };
        if !is_sane {
            return Err(OperationError::Invalid("extend by more than nothing and by at most 365 days from now".to_owned()));
        }
        let domain = selection.domain_alone().filter(|domain| self.config.load().domain(domain).is_some());
        let mut report = self.queue_steer(Steer::Extend(longer), selection, by.clone(), mode).await?;
        if let Some(domain) = domain {
            let extension = match mode {
                Mode::ForReal => self.queue.extend_domain(domain, longer, &by.name, &by.reason).await?,
                Mode::DryRun => self.queue.extension_to_be(domain, longer, &by.name, &by.reason),
            };
            let counts = match mode {
                Mode::ForReal => "is kept",
                Mode::DryRun => "would be kept",
            };
            let until = extension.until;
            let to_come = format!("mail still to come for {domain} during this outage {counts} until {until} at least");
            report.note = if report.messages == 0 { format!("{}; {to_come}", report.note) } else { to_come };
        }
        Ok(report)
    }

    /// Ends what was granted to a domain. What messages were given of their own stays theirs.
    pub async fn queue_extend_clear(&self, selection: &Selection, by: By, mode: Mode) -> Answer<SteeringReport> {
        let Some(domain) = selection.domain_alone() else {
            return Err(OperationError::Invalid("an extension is ended for a domain: name it, and nothing else".to_owned()));
        };
        let Some(extension) = self.queue.extension(domain) else {
            return Err(OperationError::Missing(format!("nothing is granted to {domain}")));
        };
        if mode == Mode::ForReal {
            self.queue.end_extension(domain, &by.name, &by.reason).await?;
        }
        let Extension { until, by, .. } = extension;
        let note =
            format!("the extension of {domain} until {until}, granted by {by}; messages that were extended keep their time");
        let (dry_run, ended) = match mode {
            Mode::ForReal => (false, "ended"),
            Mode::DryRun => (true, "would end"),
        };
        Ok(SteeringReport { dry_run, note: format!("{ended}: {note}"), ..SteeringReport::default() })
    }

    pub async fn greylist_allow(&self, identity: Identity, by: &str) -> Answer<GreylistReport> {
        self.checks.greylist.allow(&self.config.load_full().greylist, &identity, self.clock.now()).await;
        tracing::info!(%identity, by, "greylist: allowed by an operator");
        Ok(GreylistReport { identity: identity.to_string(), forgotten: 0 })
    }

    pub async fn greylist_forget(&self, identity: Identity, by: &str) -> Answer<GreylistReport> {
        let forgotten = self.checks.greylist.forget(&identity).await;
        tracing::info!(%identity, by, forgotten, "greylist: forgotten by an operator");
        Ok(GreylistReport { identity: identity.to_string(), forgotten })
    }

    pub async fn ban_add(&self, network: IpNet, length: Duration, why: &str, by: &str) -> Answer<Ban> {
        if length.is_zero() || length > BAN_MAX {
            return Err(OperationError::Invalid("a ban lasts more than nothing and at most 365 days".to_owned()));
        }
        if network.prefix_len() == 0 {
            return Err(OperationError::Invalid("that would be everybody".to_owned()));
        }
        let ban = self.checks.limiter.ban(network, length, why, by, self.clock.now()).await;
        tracing::info!(network = %ban.network, by, until = %ban.until, why, "banned by an operator");
        Ok(ban)
    }

    /// `None`: all bans. An address whose ban is that of a network around it is an error: others would be let in, too.
    pub async fn ban_lift(&self, network: Option<IpNet>, by: &str) -> Answer<BanReport> {
        let mut lifted = self.checks.limiter.lift(network).await;
        let around = network.and_then(|network| self.checks.limiter.ban_of(network.addr(), self.clock.now()));
        if let (Some(network), Some(around)) = (network, around) {
            let around = around.network;
            return Err(OperationError::Refused(format!("{network} is banned with all of {around}; lift that")));
        }
        tracing::info!(network = network.map(tracing::field::display), by, lifted = lifted.len(), "bans lifted by an operator");
        let total = lifted.len();
        lifted.sort_unstable();
        lifted.truncate(LIST_MAX);
        Ok(BanReport { total, lifted })
    }

    pub async fn reload(&self, by: &str) -> Answer<ReloadReport> {
        tracing::info!(by, "reload asked for by an operator");
        let text = (self.reload)().await.map_err(OperationError::Refused)?;
        Ok(ReloadReport { text })
    }

    /// A named message to which nothing was done is a mistake that the operator should hear of, and so is a domain that is not
    /// served and has no mail; a served domain with nothing to do is not. `not_done`: what could not be done to it and why,
    /// after "cannot be".
    async fn report(
        &self,
        selection: &Selection,
        not_done: &str,
        steered: Result<(Vec<crate::queue::Steered>, Vec<QueueId>), StoreError>,
        mode: Mode,
    ) -> Answer<SteeringReport> {
        let (steered, infected) = match (steered, selection.id) {
            (Err(StoreError::NotFound), Some(id)) => return Err(missing(id)),
            (steered, _) => steered?,
        };
        let mut report = SteeringReport::new(steered, infected);
        report.dry_run = mode == Mode::DryRun;
        if report.messages > 0 || report.infected > 0 {
            return Ok(report);
        }
        if let Some(id) = selection.id {
            self.entry(id).await?;
            return Err(OperationError::Refused(format!("{id} cannot be {not_done}; `feedgate queue show {id}` tells more")));
        }
        report.note = self.nothing_done(selection).await?;
        Ok(report)
    }

    /// Why nothing was changed, in words. An error where it looks like a typo.
    async fn nothing_done(&self, selection: &Selection) -> Answer<String> {
        let of = |address: &Address| address.domain().cloned();
        let domain = selection.domain.clone().or_else(|| selection.recipient.as_ref().and_then(of));
        let Some(domain) = domain else {
            return Ok("none that matches is in a state for this".to_owned());
        };
        let selector = Selector { domain: Some(domain.clone()), ..Selector::default() };
        let anything = !self.queue.list(&selector, None, 1).await?.is_empty();
        match (anything, self.config.load().domain(&domain).is_some()) {
            (true, _) => Ok(format!("none that matches is in a state for this; `feedgate queue list {domain}` tells more")),
            (false, true) => Ok(format!("nothing waits for {domain}")),
            (false, false) => {
                Err(OperationError::Missing(format!("{domain} is not served here, and no mail for it is in the queue")))
            }
        }
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
