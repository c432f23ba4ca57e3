//! What operators write, read: which messages they mean, for how long, where to, and what a sender is told. Parsed here, once,
//! for the command line and the API alike.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::operations::OperationError;
use crate::config::{HopHost, NextHop};
use crate::mail::{Address, Domain, Host, QueueId, Reroute, Timestamp};
use crate::queue::Selector;

/// The states that can be selected.
pub const STATES: [&str; 4] = ["waiting", "held", "quarantined", "awaiting-scan"];
/// Of what a sender is told by an operator, in characters.
const BOUNCE_TEXT_MAX: usize = 400;

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
    /// Came in so long ago or longer; with its unit: `2d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// Came in less long ago than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer_than: Option<String>,
    /// Means every message when nothing else is given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

impl Selection {
    /// Nothing but `all` is given.
    pub fn is_open(&self) -> bool {
        Selection { all: false, ..self.clone() } == Selection::default()
    }

    /// The domain, when nothing narrows it down.
    pub(super) fn domain_alone(&self) -> Option<&Domain> {
        let alone = Selection { domain: None, ..self.clone() }.is_open();
        self.domain.as_ref().filter(|_| alone)
    }

    /// `now`: what ages count from.
    pub(super) fn selector(&self, now: Timestamp) -> Result<Selector, OperationError> {
        if let Some(state) = &self.state
            && !STATES.contains(&state.as_str())
        {
            let known = STATES.join(", ");
            return Err(OperationError::Invalid(format!("no such state: {}; known are {known}", state.escape_default())));
        }
        let age = |text: &Option<String>| -> Result<_, OperationError> {
            let age = text.as_deref().map(duration).transpose().map_err(OperationError::Invalid)?;
            Ok(age.map(|age| now - age))
        };
        Ok(Selector {
            before: age(&self.older_than)?,
            since: age(&self.newer_than)?,
            id: self.id,
            domain: self.domain.clone(),
            sender: self.sender.clone(),
            recipient: self.recipient.clone(),
            state: self.state.clone(),
        })
    }

    /// The selector of a command that changes something.
    pub(super) fn steering(&self, now: Timestamp) -> Result<Selector, OperationError> {
        if self.is_open() && !self.all {
            let text = "nothing selects: name a queue id, a domain or an address, or say that all are meant";
            return Err(OperationError::Invalid(text.to_owned()));
        }
        self.selector(now)
    }
}

/// Reads `5d`, `36h`, `1d 12h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}: write a duration with its unit, such as 5d or 36h"))
}

/// Reads an address or a network of any length.
pub fn any_network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from).ok();
    let wrong = || format!("{}: neither an address nor a network such as 192.0.2.0/24", text.escape_default());
    text.parse::<IpNet>().map(|network| network.trunc()).ok().or_else(address).ok_or_else(wrong)
}

/// Reads a date, meaning its end (UTC), or a moment as RFC 3339 writes it, with any offset.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    let wrong =
        || format!("{}: write a date such as 2026-12-01, or a moment such as 2026-12-01T08:00:00Z", text.escape_default());
    let utc = |text: &str| humantime::parse_rfc3339(text).ok().map(Timestamp::from_system);
    let day = text.get(..10).ok_or_else(wrong)?;
    // Also says whether there is such a day.
    let end = utc(&format!("{day}T23:59:59Z")).ok_or_else(wrong)?;
    if text.len() == day.len() {
        return Ok(end);
    }
    let with_offset = || {
        let (hours, minutes) = text.get(text.len().checked_sub(6)?..)?.split_once(':')?;
        let minutes = i64::from(hours.get(1..)?.parse::<u8>().ok().filter(|hours| *hours < 24)?) * 60
            + i64::from(minutes.parse::<u8>().ok().filter(|minutes| *minutes < 60)?);
        let offset = Duration::from_secs(u64::try_from(minutes).ok()? * 60);
        let local = utc(&format!("{}Z", text.get(..text.len() - 6)?))?;
        match hours.get(..1)? {
            "+" => Some(local - offset),
            "-" => Some(local + offset),
            _ => None,
        }
    };
    utc(text).or_else(with_offset).ok_or_else(wrong)
}

/// A server as settings name it: `203.0.113.5:2525`, `mail2.customer.example`.
pub fn reroute(text: &str) -> Result<Reroute, String> {
    let hop = text.parse::<NextHop>().map_err(|error| format!("{}: {error}", text.escape_default()))?;
    let host = match hop.host {
        HopHost::Address(address) => Host::Literal(address),
        HopHost::Name(name) => Host::Domain(name),
    };
    Ok(Reroute { host, port: hop.port })
}

/// What a sender is told: one line of at most 400 characters.
pub fn bounce_text(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > BOUNCE_TEXT_MAX || text.chars().any(char::is_control) {
        return Err(format!("the text for the sender is one line of 1 to {BOUNCE_TEXT_MAX} characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    #[test]
    fn an_end_is_a_date_or_a_moment_with_any_offset() {
        let text = |text: &str| moment(text).map(|moment| moment.to_string());
        assert_eq!(text("2026-12-01").as_deref(), Ok("2026-12-01T23:59:59Z"));
        assert_eq!(text("2026-12-01T08:00:00Z").as_deref(), Ok("2026-12-01T08:00:00Z"));
        assert_eq!(text("2026-12-01T08:00:00+01:30").as_deref(), Ok("2026-12-01T06:30:00Z"));
        assert_eq!(text("2026-12-01T23:00:00-02:00").as_deref(), Ok("2026-12-02T01:00:00Z"));
        for wrong in
            ["", "tomorrow", "2026-02-31", "2026-12-01T", "2026-12-01T25:00:00Z", "2026-12-01T08:00:00+99:00", "1.12.2026ä"]
        {
            assert!(text(wrong).unwrap_err().contains("such as 2026-12-01"), "{wrong}");
        }
    }

    #[test]
    fn ages_count_from_now_and_alone_are_no_domain() {
        let aged = Selection { older_than: Some("2d".to_owned()), newer_than: Some("5d".to_owned()), ..Selection::default() };
        let selector = aged.steering(NOW).unwrap();
        let day = Duration::from_secs(86_400);
        assert_eq!((selector.before, selector.since), (Some(NOW - 2 * day), Some(NOW - 5 * day)));
        let domain: Domain = "customer.example".parse().unwrap();
        let selection = Selection { domain: Some(domain.clone()), ..Selection::default() };
        assert_eq!(selection.domain_alone(), Some(&domain));
        assert_eq!(Selection { domain: Some(domain), ..aged }.domain_alone(), None);
        let wrong = Selection { older_than: Some("2".to_owned()), ..Selection::default() };
        assert!(wrong.steering(NOW).unwrap_err().to_string().contains("such as 5d"));
    }

    #[test]
    fn servers_and_texts_are_checked() {
        assert_eq!(reroute("203.0.113.5").unwrap().to_string(), "203.0.113.5:25");
        assert_eq!(reroute("[2001:db8::5]:2525").unwrap().to_string(), "[2001:db8::5]:2525");
        assert_eq!(reroute("backup.example:2525").unwrap().to_string(), "backup.example:2525");
        assert!(reroute("0.0.0.0").is_err() && reroute("a b").is_err() && reroute("a.example:0").is_err());
        assert_eq!(bounce_text(" moved away ").as_deref(), Ok("moved away"));
        assert!(bounce_text(" ").is_err() && bounce_text("a\nb").is_err() && bounce_text(&"x".repeat(401)).is_err());
    }

    #[test]
    fn a_steering_that_selects_nothing_must_say_all() {
        let nothing = Selection::default();
        assert!(matches!(nothing.steering(NOW), Err(OperationError::Invalid(_))));
        assert_eq!(nothing.selector(NOW).unwrap(), Selector::default());
        let all = Selection { all: true, ..Selection::default() };
        assert_eq!(all.steering(NOW).unwrap(), Selector::default());
    }

    #[test]
    fn a_misspelt_selection_is_an_error_and_not_everything() {
        assert!(serde_json::from_str::<Selection>(r#"{"domian": "customer.example", "all": true}"#).is_err());
        let selection = Selection { state: Some("frozen".to_owned()), ..Selection::default() };
        assert_eq!(
            selection.steering(NOW).unwrap_err().to_string(),
            "no such state: frozen; known are waiting, held, quarantined, awaiting-scan"
        );
    }
}
