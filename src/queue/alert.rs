//! What operators are told of an outage, and that they are told once. The log line is written here; whoever runs the command
//! and calls the webhook takes the alerts from [`Queue::alerts`](super::Queue::alerts).
//!
//! Nothing waits for an alert: when too many are untold, more of them are only logged.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::in_words;
use super::outage::Stage;
use crate::mail::{Host, Timestamp};
use crate::store::{Memory, Store};

/// Alerts that wait to be told.
const WAITING_MAX: usize = 1_000;
/// Outages remembered over a restart.
const REMEMBERED_MAX: usize = 10_000;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The domain's hosts are down.
    Began,
    /// Half of the time is over until the first message would be given up.
    Half,
    /// Nine tenths are.
    Nearly,
    Over,
}

impl Event {
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Began => "began",
            Event::Half => "half",
            Event::Nearly => "nearly",
            Event::Over => "over",
        }
    }
}

impl From<Stage> for Event {
    fn from(stage: Stage) -> Event {
        match stage {
            Stage::Untold | Stage::Began => Event::Began,
            Stage::Half => Event::Half,
            Stage::Nearly => Event::Nearly,
        }
    }
}

/// What an operator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub event: Event,
    pub domain: String,
    /// The first failure.
    pub since: Timestamp,
    pub at: Timestamp,
    /// Messages that wait.
    pub messages: usize,
    /// When the first of them would be given up; without meaning when the outage is over.
    pub first_bounce: Timestamp,
    /// What the host said last, or our words for it.
    pub why: String,
}

impl Alert {
    pub(super) fn of(
        host: &Host,
        since: Timestamp,
        messages: usize,
        first_bounce: Timestamp,
        why: String,
        at: Timestamp,
    ) -> Alert {
        Alert { event: Event::Began, domain: host.to_string(), since, at, messages, first_bounce, why }
    }

    /// The command that gives the mail more time.
    pub fn command(&self) -> String {
        format!("feedgate queue extend {} 5d", self.domain)
    }

    /// In one sentence or three.
    pub fn text(&self) -> String {
        let Alert { event, domain, since, at, messages, first_bounce, why } = self;
        let lasted = in_words(at.since(*since));
        let several = if *messages == 1 { "" } else { "s" };
        if *event == Event::Over {
            return format!(
                "{domain}: the outage since {since} is over after {lasted}: {why}; {messages} message{several} waiting"
            );
        }
        let left = in_words(first_bounce.since(*at));
        let command = self.command();
        format!(
            "{domain} has been down for {lasted}, since {since}: {why}. {messages} message{several} waiting; the first goes back \
             to its sender at {first_bounce}, in {left}. More time: {command}"
        )
    }

    /// For a command's environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let first_bounce = if self.event == Event::Over { String::new() } else { self.first_bounce.to_string() };
        vec![
            ("FEEDGATE_EVENT", self.event.as_str().to_owned()),
            ("FEEDGATE_DOMAIN", self.domain.clone()),
            ("FEEDGATE_SINCE", self.since.to_string()),
            ("FEEDGATE_MESSAGES", self.messages.to_string()),
            ("FEEDGATE_FIRST_BOUNCE", first_bounce),
            ("FEEDGATE_WHY", self.why.clone()),
            ("FEEDGATE_EXTEND", self.command()),
            ("FEEDGATE_TEXT", self.text()),
        ]
    }

    /// For a webhook.
    pub fn json(&self) -> String {
        let first_bounce = (self.event != Event::Over).then(|| self.first_bounce.to_string());
        serde_json::json!({
            "event": self.event,
            "domain": self.domain,
            "since": self.since.to_string(),
            "at": self.at.to_string(),
            "messages": self.messages,
            "first_bounce": first_bounce,
            "why": self.why,
            "extend": self.command(),
            "text": self.text(),
        })
        .to_string()
    }
}

/// Alerts on their way, and the memory of what was told.
pub(super) struct Alerts {
    told: Memory,
    waiting: mpsc::Sender<Alert>,
    taker: Mutex<Option<mpsc::Receiver<Alert>>>,
}

/// What is remembered of an outage.
#[derive(Serialize, Deserialize)]
struct Remembered {
    since: Timestamp,
    told: Stage,
}

impl Alerts {
    pub(super) fn new(store: &Store) -> Alerts {
        let (waiting, taker) = mpsc::channel(WAITING_MAX);
        Alerts { told: store.memory("outages"), waiting, taker: Mutex::new(Some(taker)) }
    }

    pub(super) fn take(&self) -> Option<mpsc::Receiver<Alert>> {
        self.taker.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Logs it and hands it on.
    pub(super) fn raise(&self, alert: Alert) {
        let (domain, event, text) = (&alert.domain, alert.event.as_str(), alert.text());
        match alert.event {
            Event::Over => tracing::info!(domain, event, "{text}"),
            Event::Began | Event::Half => tracing::warn!(domain, event, "{text}"),
            Event::Nearly => tracing::error!(domain, event, "{text}"),
        }
        if let Err(mpsc::error::TrySendError::Full(alert)) = self.waiting.try_send(alert) {
            tracing::error!(domain = alert.domain, "too many alerts wait to be told; this one is only logged");
        }
    }

    pub(super) async fn remember(&self, host: &Host, since: Timestamp, told: Stage) {
        let value = serde_json::to_vec(&Remembered { since, told }).expect("two plain values");
        self.told.put(host.to_string().into_bytes(), value).await;
    }

    pub(super) async fn forget(&self, host: &Host) {
        self.told.remove(host.to_string().into_bytes()).await;
    }

    pub(super) async fn remembered(&self) -> Vec<(Host, Timestamp, Stage)> {
        let pairs = self.told.scan(Vec::new(), None, REMEMBERED_MAX).await;
        let known = |(key, value): (Vec<u8>, Vec<u8>)| {
            let host = String::from_utf8(key).ok()?.parse().ok()?;
            let Remembered { since, told } = serde_json::from_slice(&value).ok()?;
            Some((host, since, told))
        };
        pairs.into_iter().filter_map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn alert(event: Event) -> Alert {
        let since = Timestamp(1_795_214_160_000);
        let at = since + Duration::from_secs(86_400);
        let host = "customer.example".parse().unwrap();
        let why = "203.0.113.5:25: cannot connect: connection refused".to_owned();
        Alert { event, ..Alert::of(&host, since, 12, at + Duration::from_secs(90_000), why, at) }
    }

    #[test]
    fn an_alert_says_who_since_when_how_much_until_when_and_what_to_do() {
        assert_eq!(
            alert(Event::Half).text(),
            "customer.example has been down for 1d, since 2026-11-20T22:36:00Z: 203.0.113.5:25: cannot connect: connection \
             refused. 12 messages waiting; the first goes back to its sender at 2026-11-22T23:36:00Z, in 1d 1h. More time: \
             feedgate queue extend customer.example 5d"
        );
        let over = alert(Event::Over);
        assert!(over.text().starts_with("customer.example: the outage since 2026-11-20T22:36:00Z is over after 1d: "));
        assert!(over.environment().contains(&("FEEDGATE_FIRST_BOUNCE", String::new())));
    }

    #[test]
    fn command_and_webhook_get_the_same() {
        let alert = alert(Event::Nearly);
        let json: serde_json::Value = serde_json::from_str(&alert.json()).unwrap();
        for (name, value) in alert.environment() {
            let key = name.trim_start_matches("FEEDGATE_").to_lowercase();
            let other = &json[&key];
            assert_eq!(other.as_str().map_or_else(|| other.to_string(), str::to_owned), value, "{key}");
        }
    }
}
