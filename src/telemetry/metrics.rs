//! The metrics, all of them, for Prometheus. Names: `feedgate_area_what_unit_total`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::mail::{SpamLevel, Timestamp, Verdict};

type Labels = Vec<(&'static str, String)>;

/// Counters and gauges, updated by the mail log and the daemon.
pub struct Metrics {
    registry: Registry,
    /// Open SMTP sessions.
    pub sessions: Gauge<i64, AtomicI64>,
    /// 1: the scanner's canaries pass; 0: away.
    pub scanner_up: Gauge<i64, AtomicI64>,
    sessions_total: Counter<u64, AtomicU64>,
    /// stage = connect | mail | rcpt | data | command; code = the reply's.
    refused: Family<Labels, Counter>,
    greylisted: Counter,
    queued: Counter,
    queued_bytes: Counter,
    /// verdict = clean | infected | unscannable | unavailable
    scans: Family<Labels, Counter>,
    scan_seconds: Histogram,
    /// level = none | low | med | high
    judged: Family<Labels, Counter>,
    /// decision = deliver | deliver-marked | deliver-tagged | quarantine | delete | reject; counts recipients
    decided: Family<Labels, Counter>,
    delivered: Counter,
    delivery_delay: Histogram,
    deferred: Counter,
    bounced: Counter,
    /// domain = a served domain that is down; at most [`OUTAGES_MAX`] at a time
    outage_started: Family<Labels, Gauge<i64, AtomicI64>>,
    outage_first_bounce: Family<Labels, Gauge<i64, AtomicI64>>,
    outage_messages: Family<Labels, Gauge<i64, AtomicI64>>,
    /// Domains that have the three gauges.
    outages: Mutex<BTreeSet<String>>,
    history_left_out: Counter,
    explained: Counter,
    /// answer = shown | tested | gone | forged | too-many
    explanations: Family<Labels, Counter>,
    /// domain = a served one, or (notices); state = accepted | waiting | held | quarantined | delivered | bounced | deleted |
    /// rejected | missing
    ledger: Family<Labels, Gauge<i64, AtomicI64>>,
    /// How many differences the last look at the ledger found.
    pub ledger_differences: Gauge<i64, AtomicI64>,
}

/// Domains with gauges of their own.
const OUTAGES_MAX: usize = 1_000;

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::default(),
            sessions: Gauge::default(),
            scanner_up: Gauge::default(),
            sessions_total: Counter::default(),
            refused: Family::default(),
            greylisted: Counter::default(),
            queued: Counter::default(),
            queued_bytes: Counter::default(),
            scans: Family::default(),
            scan_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 9)),
            judged: Family::default(),
            decided: Family::default(),
            delivered: Counter::default(),
            delivery_delay: Histogram::new(exponential_buckets(0.1, 4.0, 12)),
            deferred: Counter::default(),
            bounced: Counter::default(),
            outage_started: Family::default(),
            outage_first_bounce: Family::default(),
            outage_messages: Family::default(),
            outages: Mutex::default(),
            history_left_out: Counter::default(),
            explained: Counter::default(),
            explanations: Family::default(),
            ledger: Family::default(),
            ledger_differences: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("feedgate");
        registry.register("smtp_sessions_open", "Open SMTP sessions", metrics.sessions.clone());
        registry.register("smtp_sessions", "SMTP sessions since the start", metrics.sessions_total.clone());
        registry.register("smtp_refused", "Refusals by stage and reply code", metrics.refused.clone());
        registry.register("greylist_delayed", "Recipients asked to come back", metrics.greylisted.clone());
        registry.register("queue_accepted", "Messages made durable", metrics.queued.clone());
        registry.register_with_unit("queue_accepted", "Size of messages made durable", Unit::Bytes, metrics.queued_bytes.clone());
        registry.register("scan_up", "1 while the scanner's canaries pass", metrics.scanner_up.clone());
        registry.register("scan_verdicts", "Scans by verdict", metrics.scans.clone());
        registry.register_with_unit("scan_duration", "Time of a scan", Unit::Seconds, metrics.scan_seconds.clone());
        registry.register("judge_levels", "Messages by spam level", metrics.judged.clone());
        registry.register("judge_decisions", "Recipients by decision", metrics.decided.clone());
        registry.register("delivery_delivered", "Recipients delivered", metrics.delivered.clone());
        registry.register_with_unit(
            "delivery_delay",
            "From reception to delivery",
            Unit::Seconds,
            metrics.delivery_delay.clone(),
        );
        registry.register("delivery_deferred", "Attempts that ended in try again", metrics.deferred.clone());
        registry.register("delivery_bounced", "Recipients given up", metrics.bounced.clone());
        let started = metrics.outage_started.clone();
        registry.register_with_unit("outage_started", "When the outage of a domain that is down began", Unit::Seconds, started);
        let first = metrics.outage_first_bounce.clone();
        let help = "When the first message for a domain that is down would be given up";
        registry.register_with_unit("outage_first_bounce", help, Unit::Seconds, first);
        registry.register("outage_messages", "Messages that wait for a domain that is down", metrics.outage_messages.clone());
        registry.register("history_left_out", "Mail-log lines that history had no room for", metrics.history_left_out.clone());
        registry.register("explain_links", "Refusals that carried a link to their explanation", metrics.explained.clone());
        registry.register("explain_pages", "Explanation pages by what they answered", metrics.explanations.clone());
        let help = "What became of every recipient ever accepted, by domain and state";
        registry.register("ledger_recipients", help, metrics.ledger.clone());
        registry.register("ledger_differences", "Differences found by the last hourly look", metrics.ledger_differences.clone());
        metrics.registry = registry;
        metrics
    }

    /// The text that Prometheus reads (OpenMetrics).
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing into a String does not fail");
        text
    }

    /// One number of the ledger.
    pub fn ledger(&self, domain: &str, state: &'static str, recipients: i64) {
        let labels = vec![("domain", domain.to_owned()), ("state", state.to_owned())];
        self.ledger.get_or_create(&labels).set(recipients);
    }

    pub fn session_opened(&self) {
        self.sessions.inc();
        self.sessions_total.inc();
    }

    pub fn session_closed(&self) {
        self.sessions.dec();
    }

    pub(super) fn refused(&self, stage: &'static str, code: u16) {
        self.refused.get_or_create(&vec![("stage", stage.to_owned()), ("code", code.to_string())]).inc();
    }

    pub(super) fn greylisted(&self) {
        self.greylisted.inc();
    }

    pub(super) fn queued(&self, size: u64) {
        self.queued.inc();
        self.queued_bytes.inc_by(size);
    }

    pub(super) fn scanned(&self, verdict: &Verdict, took: Duration) {
        let word = match verdict {
            Verdict::Clean => "clean",
            Verdict::Infected(_) => "infected",
            Verdict::Unscannable(_) => "unscannable",
            Verdict::Unavailable(_) => "unavailable",
        };
        self.scans.get_or_create(&vec![("verdict", word.to_owned())]).inc();
        self.scan_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn judged(&self, level: SpamLevel) {
        self.judged.get_or_create(&vec![("level", level.as_str().to_owned())]).inc();
    }

    pub(super) fn decided(&self, decision: &'static str, recipients: usize) {
        self.decided.get_or_create(&vec![("decision", decision.to_owned())]).inc_by(recipients as u64);
    }

    pub(super) fn delivered(&self, delay: Duration) {
        self.delivered.inc();
        self.delivery_delay.observe(delay.as_secs_f64());
    }

    pub(super) fn deferred(&self) {
        self.deferred.inc();
    }

    pub(super) fn bounced(&self) {
        self.bounced.inc();
    }

    /// A served domain is down.
    pub fn outage(&self, domain: &str, since: Timestamp, messages: usize, first_bounce: Timestamp) {
        let mut outages = self.outages.lock().unwrap_or_else(PoisonError::into_inner);
        if !outages.contains(domain) && outages.len() >= OUTAGES_MAX {
            return;
        }
        outages.insert(domain.to_owned());
        let set = |gauges: &Family<Labels, Gauge<i64, AtomicI64>>, value: u64| {
            gauges.get_or_create(&vec![("domain", domain.to_owned())]).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.outage_started, since.unix_seconds());
        set(&self.outage_first_bounce, first_bounce.unix_seconds());
        set(&self.outage_messages, messages as u64);
    }

    /// It is not any more.
    pub fn outage_over(&self, domain: &str) {
        let mut outages = self.outages.lock().unwrap_or_else(PoisonError::into_inner);
        if outages.remove(domain) {
            let labels = vec![("domain", domain.to_owned())];
            for gauges in [&self.outage_started, &self.outage_first_bounce, &self.outage_messages] {
                gauges.remove(&labels);
            }
        }
    }

    /// A refusal carries a link.
    pub fn explained(&self) {
        self.explained.inc();
    }

    /// Somebody followed one.
    pub fn explanation(&self, answer: &'static str) {
        self.explanations.get_or_create(&vec![("answer", answer.to_owned())]).inc();
    }

    pub(super) fn history_left_out(&self) {
        self.history_left_out.inc();
    }
}
