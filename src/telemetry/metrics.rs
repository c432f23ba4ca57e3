//! The metrics, all of them, for Prometheus. Names: `feedgate_area_what_unit_total`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
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
    /// what = session | message | recipient; whose = client | network | sender-domain
    limited: Family<Labels, Counter>,
    bans: Counter,
    turned_away: Counter,
    tarpitted: Counter,
    /// how = early-talker | pipelining
    impatient: Family<Labels, Counter>,
    proxy_refused: Counter,
    /// first tries among them
    greylist_first_tries: Counter,
    /// why = known | excused | came-back | unremembered
    greylist_passed: Family<Labels, Counter>,
    greylist_delay: Histogram,
    greylist_lost: Counter<u64, AtomicU64>,
    greylist_waiting: Gauge<i64, AtomicI64>,
    /// answer = exists | unknown | later; ground = any | role | list | list-broken | memory | callout | takes-everything |
    /// never-seen | slow | too-many
    recipients_checked: Family<Labels, Counter>,
    /// result = exists | unknown | unclear | failed | test
    callouts: Family<Labels, Counter<u64, AtomicU64>>,
    sent_out: Counter,
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
    /// result = answered | failed; what was asked of hosts that are away
    probes: Family<Labels, Counter>,
    /// event = began | half | nearly | over
    alerts: Family<Labels, Counter>,
    /// Refusals that made a destination slower.
    slowed: Counter,
    /// kind = failed | delayed; answer = sent | limited | suppressed
    notices: Family<Labels, Counter>,
    history_left_out: Counter,
    explained: Counter,
    /// answer = shown | tested | gone | forged | too-many
    explanations: Family<Labels, Counter>,
    /// domain = a served one, or (notices); state = accepted | waiting | held | quarantined | delivered | bounced | deleted |
    /// rejected | missing
    ledger: Family<Labels, Gauge<i64, AtomicI64>>,
    /// zone = a DNS list of the settings; answer = listed | not-listed | error | unanswered
    list_answers: Family<Labels, Counter>,
    /// zone = the same; 1: the list has its effect; 0: it is in shadow
    list_counts: Family<Labels, Gauge<i64, AtomicI64>>,
    /// label = spam | ham | any (what is forgotten); answer = new | changed | known | forgotten
    lessons: Family<Labels, Counter>,
    /// label = spam | ham; answer = learned | refused | later
    reports: Family<Labels, Counter>,
    /// scope = platform | domains
    lesson_examples: Family<Labels, Gauge<i64, AtomicI64>>,
    lesson_weights: Gauge<i64, AtomicI64>,
    lesson_training: Histogram,
    /// How many differences the last look at the ledger found.
    pub ledger_differences: Gauge<i64, AtomicI64>,
    /// Durable changes that the spool's index does not have yet.
    pub index_behind: Gauge<i64, AtomicI64>,
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
            limited: Family::default(),
            bans: Counter::default(),
            turned_away: Counter::default(),
            tarpitted: Counter::default(),
            impatient: Family::default(),
            proxy_refused: Counter::default(),
            greylist_first_tries: Counter::default(),
            greylist_passed: Family::default(),
            greylist_delay: Histogram::new([
                60.0, 300.0, 360.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0, 86_400.0,
            ]),
            greylist_lost: Counter::default(),
            greylist_waiting: Gauge::default(),
            recipients_checked: Family::default(),
            callouts: Family::default(),
            sent_out: Counter::default(),
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
            probes: Family::default(),
            alerts: Family::default(),
            slowed: Counter::default(),
            notices: Family::default(),
            history_left_out: Counter::default(),
            explained: Counter::default(),
            explanations: Family::default(),
            ledger: Family::default(),
            lessons: Family::default(),
            reports: Family::default(),
            lesson_examples: Family::default(),
            lesson_weights: Gauge::default(),
            lesson_training: Histogram::new(exponential_buckets(0.01, 4.0, 7)),
            ledger_differences: Gauge::default(),
            index_behind: Gauge::default(),
            list_answers: Family::default(),
            list_counts: Family::default(),
        };
        let mut registry = Registry::with_prefix("feedgate");
        metrics.register_door(&mut registry);
        metrics.register_path(&mut registry);
        metrics.registry = registry;
        metrics
    }

    /// What clients, senders and recipients are asked and told before a message is read.
    fn register_door(&self, registry: &mut Registry) {
        registry.register("smtp_sessions_open", "Open SMTP sessions", self.sessions.clone());
        registry.register("smtp_sessions", "SMTP sessions since the start", self.sessions_total.clone());
        registry.register("smtp_refused", "Refusals by stage and reply code", self.refused.clone());
        registry.register("greylist_delayed", "Recipients asked to come back", self.greylisted.clone());
        registry.register("limits_refused", "What was refused for being too much", self.limited.clone());
        registry.register("limits_bans", "Clients banned", self.bans.clone());
        registry.register("limits_turned_away", "Sessions refused because of a ban", self.turned_away.clone());
        registry.register("limits_tarpitted", "Answers that waited in the tarpit", self.tarpitted.clone());
        registry.register("smtp_impatient", "Sessions that spoke out of turn", self.impatient.clone());
        registry.register("smtp_proxy_refused", "Connections without a valid PROXY header", self.proxy_refused.clone());
        let help = "Recipients asked to come back for the first time";
        registry.register("greylist_first_tries", help, self.greylist_first_tries.clone());
        registry.register("greylist_passed", "Recipients that greylisting let pass, by reason", self.greylist_passed.clone());
        let help = "From the first try to the one that was taken";
        registry.register_with_unit("greylist_delay", help, Unit::Seconds, self.greylist_delay.clone());
        registry.register("greylist_lost", "First tries that did not come back in time", self.greylist_lost.clone());
        registry.register("greylist_waiting", "First tries that are waited for", self.greylist_waiting.clone());
        let help = "Recipients by whether they exist, and how that was known";
        registry.register("recipients_checked", help, self.recipients_checked.clone());
        registry.register("recipients_callouts", "Questions to customers' servers by their end", self.callouts.clone());
        registry.register("relay_recipients", "Recipients that customers' own servers wrote to", self.sent_out.clone());
        registry.register("checks_list_answers", "Clients by what a DNS list said", self.list_answers.clone());
        registry.register("checks_list_counts", "1 while a DNS list has its effect", self.list_counts.clone());
        registry.register("explain_links", "Refusals that carried a link to their explanation", self.explained.clone());
        registry.register("explain_pages", "Explanation pages by what they answered", self.explanations.clone());
    }

    /// What becomes of messages from then on.
    fn register_path(&self, registry: &mut Registry) {
        registry.register("queue_accepted", "Messages made durable", self.queued.clone());
        registry.register_with_unit("queue_accepted", "Size of messages made durable", Unit::Bytes, self.queued_bytes.clone());
        registry.register("scan_up", "1 while the scanner's canaries pass", self.scanner_up.clone());
        registry.register("scan_verdicts", "Scans by verdict", self.scans.clone());
        registry.register_with_unit("scan_duration", "Time of a scan", Unit::Seconds, self.scan_seconds.clone());
        registry.register("judge_levels", "Messages by spam level", self.judged.clone());
        registry.register("judge_decisions", "Recipients by decision", self.decided.clone());
        registry.register("delivery_delivered", "Recipients delivered", self.delivered.clone());
        registry.register_with_unit("delivery_delay", "From reception to delivery", Unit::Seconds, self.delivery_delay.clone());
        registry.register("delivery_deferred", "Attempts that ended in try again", self.deferred.clone());
        registry.register("delivery_bounced", "Recipients given up", self.bounced.clone());
        let started = self.outage_started.clone();
        registry.register_with_unit("outage_started", "When the outage of a domain that is down began", Unit::Seconds, started);
        let first = self.outage_first_bounce.clone();
        let help = "When the first message for a domain that is down would be given up";
        registry.register_with_unit("outage_first_bounce", help, Unit::Seconds, first);
        registry.register("outage_messages", "Messages that wait for a domain that is down", self.outage_messages.clone());
        registry.register("outage_probes", "Questions to hosts that are away, by result", self.probes.clone());
        registry.register("outage_alerts", "Alerts raised, by event", self.alerts.clone());
        let help = "Attempts refused because the host had too many at a time";
        registry.register("delivery_slowed", help, self.slowed.clone());
        let help = "What senders are told of failures and delays, by kind and answer";
        registry.register("notice_answers", help, self.notices.clone());
        registry.register("history_left_out", "Mail-log lines that history had no room for", self.history_left_out.clone());
        let help = "What became of every recipient ever accepted, by domain and state";
        registry.register("ledger_recipients", help, self.ledger.clone());
        registry.register("ledger_differences", "Differences found by the last hourly look", self.ledger_differences.clone());
        let help = "Changes of messages that the spool's index does not have yet; a start reads them from the journal";
        registry.register("spool_index_behind_changes", help, self.index_behind.clone());
        registry.register("learn_messages", "Messages handed in to be learned, by what became of them", self.lessons.clone());
        registry.register("learn_reports", "Users' reports, by what was answered to them", self.reports.clone());
        registry.register("learn_examples", "Examples that what was learned is made of", self.lesson_examples.clone());
        registry.register("learn_weights", "Tokens that have a learned weight", self.lesson_weights.clone());
        let help = "Time to make the learned weights anew";
        registry.register_with_unit("learn_training", help, Unit::Seconds, self.lesson_training.clone());
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

    /// How a DNS list stands: whether it has its effect, and its answers since the start.
    pub fn list(&self, zone: &str, counts: bool, answers: [(&'static str, u64); 4]) {
        let zone_label = || ("zone", zone.to_owned());
        self.list_counts.get_or_create(&vec![zone_label()]).set(i64::from(counts));
        for (answer, count) in answers {
            let labels = vec![zone_label(), ("answer", answer.to_owned())];
            let counter = self.list_answers.get_or_create(&labels);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
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

    pub fn limited(&self, what: &'static str, whose: &'static str) {
        self.limited.get_or_create(&vec![("what", what.to_owned()), ("whose", whose.to_owned())]).inc();
    }

    pub fn banned(&self) {
        self.bans.inc();
    }

    pub fn turned_away(&self) {
        self.turned_away.inc();
    }

    pub fn tarpitted(&self) {
        self.tarpitted.inc();
    }

    /// `how`: the finding's id.
    pub fn impatient(&self, how: &'static str) {
        self.impatient.get_or_create(&vec![("how", how.to_owned())]).inc();
    }

    pub fn proxy_refused(&self) {
        self.proxy_refused.inc();
    }

    pub fn greylist_first_try(&self) {
        self.greylist_first_tries.inc();
    }

    pub fn greylist_passed(&self, why: &'static str) {
        self.greylist_passed.get_or_create(&vec![("why", why.to_owned())]).inc();
    }

    pub(super) fn greylist_delay(&self, delay: Duration) {
        self.greylist_delay.observe(delay.as_secs_f64());
    }

    /// What greylisting counts itself. `lost`: since the start.
    pub fn greylist(&self, waiting: usize, lost: u64) {
        self.greylist_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.greylist_lost.inner().store(lost, Ordering::Relaxed);
    }

    pub fn recipient_checked(&self, answer: &'static str, ground: &'static str) {
        self.recipients_checked.get_or_create(&vec![("answer", answer.to_owned()), ("ground", ground.to_owned())]).inc();
    }

    /// Callouts that ended so since the start.
    pub fn callouts(&self, result: &'static str, count: u64) {
        let counter = self.callouts.get_or_create(&vec![("result", result.to_owned())]);
        counter.inner().store(count, std::sync::atomic::Ordering::Relaxed);
    }

    pub fn sent_out(&self, recipients: usize) {
        self.sent_out.inc_by(recipients as u64);
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

    /// Messages were handed in to be learned or forgotten.
    pub fn lessons(&self, label: &'static str, answer: &'static str, messages: usize) {
        let counter = self.lessons.get_or_create(&vec![("label", label.to_owned()), ("answer", answer.to_owned())]);
        counter.inc_by(messages as u64);
    }

    /// A user's report was answered.
    pub fn report(&self, label: &'static str, answer: &'static str) {
        self.reports.get_or_create(&vec![("label", label.to_owned()), ("answer", answer.to_owned())]).inc();
    }

    /// Weights were made anew.
    pub fn trained(&self, platform: usize, domains: usize, weights: usize, took: Duration) {
        for (scope, examples) in [("platform", platform), ("domains", domains)] {
            self.lesson_examples.get_or_create(&vec![("scope", scope.to_owned())]).set(examples as i64);
        }
        self.lesson_weights.set(weights as i64);
        self.lesson_training.observe(took.as_secs_f64());
    }

    /// A host that is away was asked.
    pub fn probed(&self, result: &'static str) {
        self.probes.get_or_create(&vec![("result", result.to_owned())]).inc();
    }

    pub fn alerted(&self, event: &'static str) {
        self.alerts.get_or_create(&vec![("event", event.to_owned())]).inc();
    }

    pub fn slowed(&self) {
        self.slowed.inc();
    }

    /// A sender was told, or is not told.
    pub fn noticed(&self, kind: &'static str, answer: &'static str) {
        self.notices.get_or_create(&vec![("kind", kind.to_owned()), ("answer", answer.to_owned())]).inc();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_names_every_metric() {
        let documentation = std::fs::read_to_string("docs/OPERATING.md").unwrap();
        let metrics = Metrics::new();
        // A family without labels is not rendered.
        metrics.refused("rcpt", 550);
        metrics.scanned(&Verdict::Clean, Duration::ZERO);
        metrics.judged(SpamLevel::default());
        metrics.decided("deliver", 1);
        metrics.outage("customer.example", Timestamp(0), 1, Timestamp(0));
        metrics.probed("failed");
        metrics.alerted("began");
        metrics.noticed("failed", "sent");
        metrics.ledger("customer.example", "waiting", 1);
        let text = metrics.render();
        let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
        assert!(names.len() > 25, "{names:?}");
        for name in names {
            assert!(documentation.contains(name), "{name} is not in docs/OPERATING.md");
        }
    }
}
