//! The mail log: a short list of functions, one for each thing that can happen to a message or session.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Metrics;
use crate::mail::{Decision, Envelope, Judgement, QueueId, Reply, ReversePath, SessionId, Timestamp, Verdict};

/// One line of the mail log, as history keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub at: Timestamp,
    /// A queue id, or a session id where no message exists yet.
    pub id: String,
    /// From a closed list: `queued`, `greylisted`, `delivered`, …
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// Empty text: the null sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// The rest in words: reply, verdict, rules.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// Rules of a judgement in its line, and of these with what they saw.
const RULES_NAMED: usize = 12;
const RULES_EXPLAINED: usize = 5;
/// Of what a rule saw, in characters.
const EVIDENCE_SHOWN: usize = 32;

/// Writes the mail log. Cloning shares it.
#[derive(Clone)]
pub struct MailLog {
    metrics: Arc<Metrics>,
    history: Option<mpsc::Sender<Line>>,
}

/// At most this many recipients are named in one line.
const RECIPIENTS_NAMED: usize = 20;

impl MailLog {
    /// `history` gets every line; when it is full the line is only logged, and counted as left out.
    pub fn new(metrics: Arc<Metrics>, history: Option<mpsc::Sender<Line>>) -> MailLog {
        MailLog { metrics, history }
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A client was turned away before there was a message. `stage`: `connect`, `mail`, `rcpt`, `data`, `command`.
    pub fn refused(
        &self,
        at: Timestamp,
        sid: SessionId,
        client: IpAddr,
        stage: &'static str,
        from: Option<&ReversePath>,
        to: Option<&str>,
        reply: &Reply,
    ) {
        self.metrics.refused(stage, reply.code);
        self.write(Line {
            client: Some(client),
            from: from.map(ToString::to_string),
            to: to.map(ToOwned::to_owned).into_iter().collect(),
            ..Line::new(at, sid, "refused", format!("{stage}: {reply}"))
        });
    }

    /// A first try: the client is asked to come back.
    pub fn greylisted(&self, at: Timestamp, sid: SessionId, client: IpAddr, from: &ReversePath, to: &str, seconds: u64) {
        self.metrics.greylisted();
        self.write(Line {
            client: Some(client),
            from: Some(from.to_string()),
            to: vec![to.to_owned()],
            ..Line::new(at, sid, "greylisted", format!("retry in {seconds} s"))
        });
    }

    /// What DNS and its greeting say against a client, of a session or of a message; nothing is written where that is nothing.
    pub fn client(&self, at: Timestamp, id: impl ToString, client: IpAddr, faults: String) {
        if !faults.is_empty() {
            self.write(Line { client: Some(client), ..Line::new(at, id, "client", faults) });
        }
    }

    /// A client that was asked to come back did. `after`: since its first try.
    pub fn came_back(&self, at: Timestamp, sid: SessionId, client: IpAddr, from: &ReversePath, to: &str, after: Duration) {
        self.metrics.greylist_delay(after);
        self.write(Line {
            client: Some(client),
            from: Some(from.to_string()),
            to: vec![to.to_owned()],
            ..Line::new(at, sid, "came-back", format!("{} s after its first try", after.as_secs()))
        });
    }

    /// The message is durable.
    pub fn queued(&self, at: Timestamp, envelope: &Envelope) {
        self.metrics.queued(envelope.size);
        let more = envelope.recipients.len().saturating_sub(RECIPIENTS_NAMED);
        let and_more = if more > 0 { format!(", {more} more recipients") } else { String::new() };
        self.write(Line {
            client: Some(envelope.client.address),
            from: Some(envelope.reverse_path.to_string()),
            to: envelope.recipients.iter().take(RECIPIENTS_NAMED).map(|recipient| recipient.address.to_string()).collect(),
            ..Line::new(at, envelope.id, "queued", format!("{} bytes, helo={}{and_more}", envelope.size, envelope.client.helo))
        });
    }

    /// A user's report was learned from; its content is gone. `text`: whose it was, and what was learned.
    pub fn reported(&self, at: Timestamp, envelope: &Envelope, text: String) {
        self.write(Line {
            client: Some(envelope.client.address),
            from: Some(envelope.reverse_path.to_string()),
            to: envelope.recipients.iter().take(1).map(|recipient| recipient.address.to_string()).collect(),
            ..Line::new(at, envelope.id, "report", text)
        });
    }

    /// The scanner answered, or did not.
    pub fn scanned(&self, at: Timestamp, qid: QueueId, verdict: &Verdict, took: Duration) {
        self.metrics.scanned(verdict, took);
        self.write(Line::new(at, qid, "scanned", format!("{verdict} ({} ms)", took.as_millis())));
    }

    /// The spam level is known.
    pub fn judged(&self, at: Timestamp, qid: QueueId, judgement: &Judgement) {
        self.metrics.judged(judgement.level);
        let hits = || judgement.hits.iter().filter(|hit| !hit.is_shadow());
        let rules: Vec<_> = hits().take(RULES_NAMED).map(|hit| format!("{}={}", hit.rule, hit.points)).collect();
        // What those saw that decided it.
        let told = hits().take(RULES_NAMED).filter(|hit| !hit.evidence.is_empty() && hit.points != 0.0).take(RULES_EXPLAINED);
        let seen: String = told.map(|hit| format!("; {}: {}", hit.rule, shortened(&hit.evidence))).collect();
        let (level, score) = (judgement.level, judgement.score);
        self.write(Line::new(at, qid, "judged", format!("level={level} score={score:.1} {}{seen}", rules.join(" "))));
    }

    /// What becomes of it for these recipients.
    pub fn decided(&self, at: Timestamp, qid: QueueId, to: Vec<String>, decision: &Decision) {
        self.metrics.decided(decision.as_str(), to.len());
        let text = match decision {
            Decision::Quarantine { why } | Decision::Delete { why } => format!("{}: {why}", decision.as_str()),
            Decision::Reject { reply } => format!("reject: {reply}"),
            Decision::DeliverTagged { text } => format!("deliver-tagged: {}", text.trim()),
            Decision::Deliver | Decision::DeliverMarked => decision.as_str().to_owned(),
        };
        self.write(Line { to, ..Line::new(at, qid, "decided", text) });
    }

    /// The next hop took it. `delay`: since it was received.
    pub fn delivered(&self, at: Timestamp, qid: QueueId, to: &str, host: &str, reply: &str, delay: Duration) {
        self.metrics.delivered(delay);
        self.write(Line {
            to: vec![to.to_owned()],
            ..Line::new(at, qid, "delivered", format!("host={host} delay={:.1}s: {reply}", delay.as_secs_f64()))
        });
    }

    /// Not now. `due`: the next attempt.
    pub fn deferred(
        &self,
        at: Timestamp,
        qid: QueueId,
        to: &str,
        host: Option<&str>,
        reply: &str,
        attempts: u32,
        due: Timestamp,
    ) {
        self.metrics.deferred();
        let host = host.unwrap_or("-");
        self.write(Line {
            to: vec![to.to_owned()],
            ..Line::new(at, qid, "deferred", format!("host={host} attempt={attempts} next={due}: {reply}"))
        });
    }

    /// It will not be delivered. `told`: what the sender hears of it, as `notice=ID` or `no notice`.
    pub fn bounced(&self, at: Timestamp, qid: QueueId, to: &str, why: &str, told: &str) {
        self.metrics.bounced();
        self.write(Line { to: vec![to.to_owned()], ..Line::new(at, qid, "bounced", format!("{told}: {why}")) });
    }

    /// The sender was told what became of these recipients, or is not told, and why. `kind`: `failed`, `delayed`.
    pub fn told(&self, at: Timestamp, qid: QueueId, kind: &'static str, to: Vec<String>, told: &str) {
        self.write(Line { to, ..Line::new(at, qid, "told", format!("{kind}: {told}")) });
    }

    /// An operator, or time, did something to it: `held`, `released`, `extended`, `dropped`, `retried`, `expired`.
    pub fn steered(&self, at: Timestamp, qid: QueueId, what: &'static str, by: &str, text: &str) {
        self.write(Line::new(at, qid, what, format!("by {by}{}{text}", if text.is_empty() { "" } else { ": " })));
    }

    fn write(&self, line: Line) {
        tracing::info!(
            target: "mail",
            id = %line.id,
            client = line.client.map(tracing::field::display),
            from = line.from.as_deref(),
            to = (!line.to.is_empty()).then(|| named(&line.to)),
            text = (!line.text.is_empty()).then_some(line.text.as_str()),
            "{}", line.what
        );
        if let Some(history) = &self.history
            && history.try_send(line).is_err()
        {
            self.metrics.history_left_out();
        }
    }
}

/// Recipients as one line of the log names them; history gets them all.
fn named(to: &[String]) -> String {
    let more = to.len().saturating_sub(RECIPIENTS_NAMED);
    let named = to.iter().take(RECIPIENTS_NAMED).map(String::as_str).collect::<Vec<_>>().join(",");
    if more > 0 { format!("{named},and {more} more") } else { named }
}

fn shortened(evidence: &str) -> String {
    match evidence.char_indices().nth(EVIDENCE_SHOWN) {
        None => evidence.to_owned(),
        Some(_) => evidence.chars().take(EVIDENCE_SHOWN - 1).chain(['…']).collect(),
    }
}

impl Line {
    fn new(at: Timestamp, id: impl ToString, what: &str, text: String) -> Line {
        Line { at, id: id.to_string(), what: what.to_owned(), client: None, from: None, to: Vec::new(), text }
    }
}
