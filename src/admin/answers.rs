//! What the operations answer: plain values that travel as JSON, are shown as tables, and are what `--json` prints.
//!
//! Times are milliseconds since 1970 (UTC), as in the journal and the mail log. Every list in an answer is bounded here, where
//! it is made, and says how much was left out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{ClamdAddress, DomainConfig, HopHost, LevelPolicy, NextHop, Unscannable};
use crate::mail::{
    Client, Decision, Domain, Host, Judgement, Origin, Progress, QueueId, Recipient, RecipientProgress, ReversePath,
    Status as RecipientStatus, Steering, Timestamp,
};
use crate::outside::ScannerHealth;
use crate::queue::{Away, Counts, DomainCounts, Extension, OutageView, Steered};
use crate::spam::{self, Layer};
use crate::store::{Account, Entry};

/// Recipients named in one line of a list.
const RECIPIENTS_NAMED: usize = 20;
/// Messages named in the report of a steering.
const STEERED_NAMED: usize = 100;

/// `feedgate status`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub hostname: String,
    pub now: Timestamp,
    pub started_at: Timestamp,
    /// Open SMTP sessions.
    pub sessions: i64,
    pub scanner: Scanner,
    pub spool: Spool,
    pub queue: Counts,
    /// All domains together.
    pub ledger: Account,
    /// Domains whose servers are not simply up, longest first.
    #[serde(default)]
    pub outages: Vec<OutageView>,
    /// Domains whose mail operators keep for longer.
    #[serde(default)]
    pub extensions: Vec<Extension>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanner {
    pub up: bool,
    /// The engine's version, or why it is away.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spool {
    pub data_dir: PathBuf,
    /// `None`: the file system did not say.
    pub free_bytes: Option<u64>,
    /// Below this many free bytes new mail is answered 452.
    pub reserve_bytes: u64,
    /// New mail is taken.
    pub accepting: bool,
    /// Durable changes of messages that the index would not have after kill -9; a start reads them from the journal.
    #[serde(default)]
    pub index_behind: u64,
}

/// `/healthz`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub healthy: bool,
    pub accepting: bool,
    pub scanner: Scanner,
}

/// `queue list`, `quarantine list`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageList {
    pub messages: Vec<MessageLine>,
    /// How many more match.
    pub more: usize,
    /// There may be more than `more`: counting was stopped.
    pub more_uncounted: bool,
}

/// A message in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageLine {
    pub id: QueueId,
    pub received_at: Timestamp,
    pub size: u64,
    pub sender: ReversePath,
    /// `awaiting-scan`, or the states of those recipients that are not settled, each once.
    pub states: Vec<String>,
    /// The next delivery attempt, or the next scan.
    pub due: Option<Timestamp>,
    pub level: Option<String>,
    pub virus: Option<String>,
    /// The first ones.
    pub recipients: Vec<RecipientLine>,
    pub recipients_total: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecipientLine {
    pub address: String,
    pub state: String,
    /// Why its server is away, what the next hop said last, or why it is in quarantine.
    pub text: String,
}

impl MessageLine {
    /// `away` tells which destinations are not tried now.
    pub fn new(entry: &Entry, away: impl Fn(&Host) -> Option<Away>) -> MessageLine {
        let Entry { envelope, progress } = entry;
        let recipients = envelope.recipients.iter().zip(&progress.recipients);
        MessageLine {
            id: envelope.id,
            received_at: envelope.received_at,
            size: envelope.size,
            sender: envelope.reverse_path.clone(),
            states: states(progress),
            due: due(entry, &away),
            level: progress.judgement.as_ref().map(|judgement| judgement.level.as_str().to_owned()),
            virus: progress.judgement.as_ref().and_then(virus),
            recipients: recipients
                .take(RECIPIENTS_NAMED)
                .map(|(recipient, state)| RecipientLine {
                    address: recipient.address.to_string(),
                    state: state.status.as_str().to_owned(),
                    text: match &state.status {
                        RecipientStatus::Quarantined { why, .. } => why.clone(),
                        RecipientStatus::Waiting if !progress.awaits_scan() => match away(state.destination(recipient)) {
                            Some(Away { destination, state, why, .. }) => format!("{destination} is {}: {why}", state.as_str()),
                            None => state.last_reply.clone(),
                        },
                        _ => state.last_reply.clone(),
                    },
                })
                .collect(),
            recipients_total: envelope.recipients.len(),
        }
    }
}

/// `awaiting-scan`, or the states of the recipients that are not settled, each once. The words are those of `--state`.
fn states(progress: &Progress) -> Vec<String> {
    if progress.awaits_scan() {
        return vec!["awaiting-scan".to_owned()];
    }
    let mut states: Vec<String> = Vec::new();
    for recipient in progress.recipients.iter().filter(|recipient| !recipient.status.is_final()) {
        let state = recipient.status.as_str();
        if !states.iter().any(|known| known == state) {
            states.push(state.to_owned());
        }
    }
    if states.is_empty() && !progress.untold.is_empty() {
        // Nothing goes on but the notice to its sender.
        states.push("bounced".to_owned());
    }
    states
}

/// The next attempt at any of its recipients, or the next probe of their server.
fn due(entry: &Entry, away: impl Fn(&Host) -> Option<Away>) -> Option<Timestamp> {
    let Entry { envelope, progress } = entry;
    if progress.awaits_scan() {
        return Some(progress.scan_due);
    }
    let recipients = envelope.recipients.iter().zip(&progress.recipients);
    let waiting = recipients.filter(|(_, state)| state.status == RecipientStatus::Waiting);
    let next = |(recipient, state): (&Recipient, &RecipientProgress)| match away(state.destination(recipient)) {
        Some(away) => away.probe_at,
        None => Some(state.due),
    };
    waiting.filter_map(next).min()
}

fn virus(judgement: &Judgement) -> Option<String> {
    match &judgement.verdict {
        crate::mail::Verdict::Infected(name) => Some(name.clone()),
        _ => None,
    }
}

/// `queue show`: everything that is known of one message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub id: QueueId,
    pub received_at: Timestamp,
    pub size: u64,
    pub sender: ReversePath,
    pub client: Client,
    pub origin: Origin,
    /// `None`: the content could not be read.
    pub headers: Option<Headers>,
    pub states: Vec<String>,
    pub judgement: Option<Judgement>,
    /// While it has no verdict: when the scanner is asked next, and how often it was asked in vain.
    pub scan_due: Option<Timestamp>,
    pub scan_attempts: u32,
    pub recipients: Vec<RecipientState>,
    pub steerings: Vec<Steering>,
}

/// What its sender wrote about it; shown to operators, never logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headers {
    pub from: Option<String>,
    pub subject: Option<String>,
    pub message_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecipientState {
    pub address: String,
    pub status: RecipientStatus,
    pub decision: Option<Decision>,
    pub attempts: u32,
    /// While it waits for a delivery attempt.
    pub due: Option<Timestamp>,
    /// Until when delivery is tried; `None` when it is settled or in quarantine.
    pub lifetime_end: Option<Timestamp>,
    /// An operator granted more than the domain's lifetime.
    pub extended: bool,
    /// Granted to its whole domain, while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
    /// The server that an operator named for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reroute: Option<String>,
    pub failing_since: Option<Timestamp>,
    /// Its server is away: it is tried when that answers a probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away: Option<Away>,
    pub last_reply: String,
}

impl Message {
    /// `lifetime_end` tells until when delivery to a recipient, by its index, is tried; `extension`, what was granted to a domain;
    /// `away`, which destinations are not tried now.
    pub fn new(
        entry: &Entry,
        headers: Option<Headers>,
        lifetime_end: impl Fn(usize) -> Timestamp,
        extension: impl Fn(&Domain) -> Option<Extension>,
        away: impl Fn(&Host) -> Option<Away>,
    ) -> Message {
        let Entry { envelope, progress } = entry;
        let scanned = !progress.awaits_scan();
        let recipients = envelope.recipients.iter().zip(&progress.recipients).enumerate();
        let state = |(index, (recipient, state)): (usize, (&Recipient, &RecipientProgress))| {
            let waits = state.status == RecipientStatus::Waiting;
            let lives = waits || matches!(state.status, RecipientStatus::Held { .. });
            RecipientState {
                address: recipient.address.to_string(),
                status: state.status.clone(),
                decision: state.decision.clone(),
                attempts: state.attempts,
                due: (waits && scanned).then_some(state.due),
                lifetime_end: lives.then(|| lifetime_end(index)),
                extended: state.extended_until.is_some(),
                extension: lives.then(|| extension(recipient.address.domain()?)).flatten(),
                reroute: state.reroute.as_ref().map(ToString::to_string),
                failing_since: state.failing_since,
                away: if waits && scanned { away(state.destination(recipient)) } else { None },
                last_reply: state.last_reply.clone(),
            }
        };
        Message {
            id: envelope.id,
            received_at: envelope.received_at,
            size: envelope.size,
            sender: envelope.reverse_path.clone(),
            client: envelope.client.clone(),
            origin: progress.origin,
            headers,
            states: states(progress),
            judgement: progress.judgement.clone(),
            scan_due: (!scanned).then_some(progress.scan_due),
            scan_attempts: progress.scan_attempts,
            recipients: recipients.map(state).collect(),
            steerings: progress.steerings.clone(),
        }
    }
}

/// What a steering command did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteeringReport {
    /// How many messages and recipients changed.
    pub messages: usize,
    pub recipients: usize,
    /// The first ones.
    pub steered: Vec<Steered>,
    /// How many infected ones were asked for and stay where they are.
    #[serde(default)]
    pub infected: usize,
    /// The first ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub infected_ids: Vec<QueueId>,
    /// Nothing was changed: this is what would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// What else there is to know, in words: that nothing waits; what counts for mail to come.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl SteeringReport {
    pub fn new(mut steered: Vec<Steered>, mut infected: Vec<QueueId>) -> SteeringReport {
        steered.retain(|steered| steered.recipients > 0);
        let messages = steered.len();
        let recipients = steered.iter().map(|steered| steered.recipients).sum();
        let infected_total = infected.len();
        steered.truncate(STEERED_NAMED);
        infected.truncate(STEERED_NAMED);
        SteeringReport {
            messages,
            recipients,
            steered,
            infected: infected_total,
            infected_ids: infected,
            ..SteeringReport::default()
        }
    }
}

/// `domain list`, `domain show`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainView {
    pub domain: Domain,
    pub file: PathBuf,
    pub deliver_to: Vec<String>,
    pub greylist: bool,
    pub lifetime_seconds: u64,
    /// Waits between tries; the last one repeats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_seconds: Vec<u64>,
    /// The age that mail may reach while the domain's servers are down.
    #[serde(default)]
    pub outage_lifetime_max_seconds: Option<u64>,
    /// `quarantine` or `deliver-tagged`
    pub unscannable: String,
    pub spam_enabled: bool,
    pub low: LevelView,
    pub med: LevelView,
    pub high: LevelView,
    /// What part of its mail is spam: `50%`.
    #[serde(default)]
    pub share: String,
    /// `Jane Doe <jane@customer.example>`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<String>,
    /// Its own lists; the platform's stand in the main file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<ListEntryView>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub block: Vec<ListEntryView>,
    /// Where the values stand: `lifetime`, `spam.low`, `checks.dmarc` and so on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<String, OriginView>,
    /// What waits for it; `None` without a running gateway.
    pub queue: Option<DomainCounts>,
    /// Its servers are not simply up.
    #[serde(default)]
    pub outage: Option<OutageView>,
    /// Its mail is kept for longer by an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelView {
    pub action: String,
    pub text: String,
}

/// `partner.example`, with or without proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntryView {
    pub from: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unauthenticated: bool,
}

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginView {
    /// `default`, `platform` or `domain`
    pub layer: String,
    /// From the directory of the main file, where it is below that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The platform has a list of its own, which counts where this one says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<PathBuf>,
}

/// What `domain show` tells the origin of.
const ORIGINS: [&str; 22] = [
    "greylist",
    "lifetime",
    "outage_lifetime_max",
    "recipients",
    "retry",
    "unscannable",
    "checks.dmarc",
    "checks.dynamic_name",
    "checks.forward_confirmed",
    "checks.helo",
    "checks.reverse_dns",
    "spam.enabled",
    "spam.low",
    "spam.low_text",
    "spam.med",
    "spam.med_text",
    "spam.high",
    "spam.high_text",
    "spam.share",
    "spam.people",
    ALLOW,
    BLOCK,
];
const ALLOW: &str = "spam.allow";
const BLOCK: &str = "spam.block";

impl OriginView {
    fn new(key: &str, config: &DomainConfig) -> OriginView {
        let origins = &config.origins;
        let main = || Some(origins.short(origins.main()).to_owned());
        let (layer, file) = match origins.layer(key) {
            None => ("default", None),
            Some(Layer::Platform) => (Layer::Platform.as_str(), main()),
            Some(Layer::Domain) => (Layer::Domain.as_str(), Some(origins.short(&config.file).to_owned())),
        };
        let both = [ALLOW, BLOCK].contains(&key) && layer == Layer::Domain.as_str() && origins.is_platforms(key);
        OriginView { layer: layer.to_owned(), file, then: both.then(main).flatten() }
    }
}

impl DomainView {
    pub fn new(domain: &Domain, config: &DomainConfig, queue: Option<DomainCounts>) -> DomainView {
        let level = |policy: &LevelPolicy| LevelView { action: policy.action.as_str().to_owned(), text: policy.text.clone() };
        DomainView {
            domain: domain.clone(),
            file: config.file.clone(),
            deliver_to: config.deliver_to.iter().map(hop_text).collect(),
            greylist: config.greylist != crate::config::Greylisting::Off,
            lifetime_seconds: config.lifetime.as_secs(),
            retry_seconds: Vec::new(),
            outage_lifetime_max_seconds: config.outage_lifetime_max.map(|most| most.as_secs()),
            unscannable: match config.unscannable {
                Unscannable::Quarantine => "quarantine".to_owned(),
                Unscannable::DeliverTagged => "deliver-tagged".to_owned(),
            },
            spam_enabled: config.spam.enabled,
            low: level(&config.spam.low),
            med: level(&config.spam.med),
            high: level(&config.spam.high),
            share: format!("{}%", spam::percent(config.spam.share)),
            people: Vec::new(),
            allow: Vec::new(),
            block: Vec::new(),
            origins: BTreeMap::new(),
            queue,
            outage: None,
            extension: None,
        }
    }

    /// With what only `domain show` tells: it would be much of ten thousand domains.
    pub fn with_details(self, config: &DomainConfig) -> DomainView {
        let entry = |entry: &spam::Entry| ListEntryView { from: entry.to_string(), unauthenticated: entry.unauthenticated };
        let list = |entries: &[spam::Entry]| entries.iter().map(entry).collect();
        DomainView {
            retry_seconds: config.retry.iter().map(Duration::as_secs).collect(),
            people: config.spam.people.iter().map(ToString::to_string).collect(),
            allow: list(&config.spam.lists.allow),
            block: list(&config.spam.lists.block),
            origins: ORIGINS.iter().map(|key| ((*key).to_owned(), OriginView::new(key, config))).collect(),
            ..self
        }
    }

    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime_seconds)
    }
}

/// `203.0.113.5:25`, `[2001:db8::1]:25`, `mail.customer.example:25`
pub fn hop_text(hop: &NextHop) -> String {
    match &hop.host {
        HopHost::Address(address) => std::net::SocketAddr::new(*address, hop.port).to_string(),
        HopHost::Name(name) => format!("{name}:{}", hop.port),
    }
}

/// As the settings write it.
pub fn clamd_text(address: &ClamdAddress) -> String {
    match address {
        ClamdAddress::Unix(path) => format!("unix:{}", path.display()),
        ClamdAddress::Tcp(address) => format!("tcp:{address}"),
    }
}

impl From<ScannerHealth> for Scanner {
    fn from(health: ScannerHealth) -> Scanner {
        match health {
            ScannerHealth::Up { version } => Scanner { up: true, text: version },
            ScannerHealth::Away { why } => Scanner { up: false, text: why },
        }
    }
}

/// `greylist allow`, `greylist forget`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GreylistReport {
    /// 192.0.2.0/24, or an organisation's domain: for whom it counts.
    #[serde(default)]
    pub identity: String,
    /// How many records were forgotten.
    pub forgotten: usize,
}

/// `ban lift`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanReport {
    /// How many bans were lifted.
    pub total: usize,
    /// The first ones.
    pub lifted: Vec<ipnet::IpNet>,
}

/// `reload`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// What is in force now, in words.
    pub text: String,
}
