//! What greylisting remembers: records and their keys, as they stand in the store's memory. Pure: time is passed in.
//!
//! | key | value | until |
//! |---|---|---|
//! | `w` network NUL sender NUL recipient | a first try, waiting for its retry | `greylist.window` after the first try |
//! | `n` network | a network that came back, or that an operator allowed | `greylist.remember` after its last message |

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{GreylistAnswer, GreylistRecord};
use crate::mail::{Address, Timestamp};

/// What is remembered of a first try or of a network. JSON, so that a later version can read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(rename = "f")]
    pub first: Timestamp,
    #[serde(rename = "l")]
    pub last: Timestamp,
    #[serde(rename = "n")]
    pub attempts: u32,
    #[serde(rename = "e")]
    pub expires: Timestamp,
    /// By an operator; only of networks.
    #[serde(rename = "a", default, skip_serializing_if = "std::ops::Not::not")]
    pub allowed: bool,
}

impl Record {
    pub fn first(now: Timestamp, keep: Duration) -> Record {
        Record { first: now, last: now, attempts: 1, expires: now + keep, allowed: false }
    }

    /// What is known of a first try after this one. One from the future is none: the clock was wrong, then or now.
    pub fn knock(known: Option<Record>, window: Duration, now: Timestamp) -> Record {
        match known {
            Some(known) if known.lives(now) && known.first <= now => known.again(now, None),
            _ => Record::first(now, window),
        }
    }

    /// Seen again; `renewed`: from now on for this long.
    pub fn again(self, now: Timestamp, renewed: Option<Duration>) -> Record {
        let expires = renewed.map_or(self.expires, |keep| now + keep);
        Record { last: now, attempts: self.attempts.saturating_add(1), expires, ..self }
    }

    pub fn answer(&self, delay: Duration, now: Timestamp) -> GreylistAnswer {
        match delay.saturating_sub(now.since(self.first)) {
            Duration::ZERO => GreylistAnswer::Pass,
            rest => GreylistAnswer::Wait { seconds: rest.as_millis().div_ceil(1000) as u64 },
        }
    }

    pub fn lives(&self, now: Timestamp) -> bool {
        self.expires > now
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers become JSON")
    }

    /// `None`: damaged, which is like forgotten.
    pub fn decode(value: &[u8]) -> Option<Record> {
        serde_json::from_slice(value).ok()
    }
}

/// What is damaged has no life.
pub(super) fn lives(value: &[u8], now: Timestamp) -> bool {
    Record::decode(value).is_some_and(|record| record.lives(now))
}

pub(super) const WAITING: &[u8] = b"w";
pub(super) const NETWORK: &[u8] = b"n";

pub(super) fn network_key(network: IpNet) -> Vec<u8> {
    format!("n{network}").into_bytes()
}

pub(super) fn waiting_of(network: IpNet) -> Vec<u8> {
    format!("w{network}\0").into_bytes()
}

/// NUL stands in no address.
pub(super) fn waiting_key(network: IpNet, sender: &Address, recipient: &Address) -> Vec<u8> {
    let sender = format!("{}@{}", without_numbers(sender.local()), sender.host());
    let recipient = format!("{}@{}", recipient.local().to_lowercase(), recipient.host());
    format!("w{network}\0{sender}\0{recipient}").into_bytes()
}

fn without_numbers(local: &str) -> String {
    let mut text = String::with_capacity(local.len());
    for letter in local.chars().flat_map(char::to_lowercase) {
        match letter {
            '0'..='9' if text.ends_with('#') => {}
            '0'..='9' => text.push('#'),
            other => text.push(other),
        }
    }
    text
}

pub(super) fn show(key: &[u8], value: &[u8]) -> Option<GreylistRecord> {
    let record = Record::decode(value)?;
    let mut parts = std::str::from_utf8(key).ok()?.split('\0');
    let (kind, network) = parts.next()?.split_at_checked(1)?;
    let state = match kind {
        "w" => "waiting",
        _ if record.allowed => "allowed",
        _ => "passed",
    };
    Some(GreylistRecord {
        state: state.to_owned(),
        network: network.to_owned(),
        sender: parts.next().unwrap_or_default().to_owned(),
        recipient: parts.next().unwrap_or_default().to_owned(),
        first_seen: record.first,
        last_seen: record.last,
        attempts: record.attempts,
        expires: record.expires,
    })
}

#[cfg(test)]
mod tests {
    use super::super::neighbourhood;
    use super::*;

    const MINUTE: u64 = 60_000;
    const DAY: u64 = 24 * 60 * MINUTE;
    const DELAY: Duration = Duration::from_secs(300);
    const WINDOW: Duration = Duration::from_secs(2 * 86_400);
    const START: u64 = 1_795_214_160_000;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn key(client: &str, sender: &str, recipient: &str) -> Vec<u8> {
        waiting_key(neighbourhood(client.parse().unwrap()), &address(sender), &address(recipient))
    }

    /// Tries at these moments after the first, in milliseconds; the answer to the last one, in seconds to wait, 0 for pass.
    #[track_caller]
    fn tries(later: &[u64], expected: u64) {
        let mut known = None;
        let mut answer = GreylistAnswer::Pass;
        for moment in [0].iter().chain(later) {
            let now = Timestamp(START + moment);
            let record = Record::knock(known.take(), WINDOW, now);
            answer = record.answer(DELAY, now);
            known = Record::decode(&record.encode());
            assert_eq!(known, Some(record), "it survives being written");
        }
        let expected = if expected == 0 { GreylistAnswer::Pass } else { GreylistAnswer::Wait { seconds: expected } };
        assert_eq!(answer, expected, "after tries at {later:?}");
    }

    #[test]
    fn a_retry_after_the_delay_passes() {
        tries(&[], 300);
        tries(&[MINUTE], 240);
        tries(&[1], 300);
        tries(&[299_999], 1);
        tries(&[300_000], 0);
        tries(&[DAY], 0);
    }

    #[test]
    fn early_retries_do_not_set_the_clock_back() {
        tries(&[1000, 2000, MINUTE, 2 * MINUTE], 180);
        tries(&[1000, 2000, MINUTE, 4 * MINUTE, 5 * MINUTE], 0);
    }

    #[test]
    fn a_retry_after_the_window_is_a_first_try() {
        tries(&[2 * DAY - 1], 0);
        tries(&[2 * DAY], 300);
        tries(&[MINUTE, 3 * DAY, 3 * DAY + MINUTE], 240);
    }

    #[test]
    fn a_clock_that_was_wrong_keeps_nobody_waiting() {
        let from_tomorrow = Record::first(Timestamp(START + DAY), WINDOW);
        let record = Record::knock(Some(from_tomorrow), WINDOW, Timestamp(START));
        assert_eq!(record, Record::first(Timestamp(START), WINDOW));
    }

    #[test]
    fn no_delay_is_no_greylisting() {
        let now = Timestamp(START);
        assert_eq!(Record::first(now, WINDOW).answer(Duration::ZERO, now), GreylistAnswer::Pass);
    }

    #[test]
    fn each_message_renews_a_network() {
        let remember = Duration::from_secs(36 * 86_400);
        let (start, later) = (Timestamp(START), Timestamp(START + 30 * DAY));
        let record = Record { allowed: true, ..Record::first(start, remember) }.again(later, Some(remember));
        assert_eq!((record.first, record.last, record.attempts), (start, later, 2));
        assert!(record.lives(Timestamp(START + 65 * DAY)) && !record.lives(Timestamp(START + 66 * DAY)));
        assert!(record.allowed, "and changes nothing else");
    }

    #[test]
    fn whom_a_retry_is_recognised_by() {
        let first = key("192.0.2.1", "Joe@sender.example", "Ann@customer.example");
        let same = |client, sender, recipient| assert_eq!(first, key(client, sender, recipient));
        let other = |client, sender, recipient| assert_ne!(first, key(client, sender, recipient));
        same("192.0.2.200", "joe@SENDER.example", "ann@customer.EXAMPLE");
        same("::ffff:192.0.2.1", "JOE@sender.example", "\"ann\"@customer.example");
        other("192.0.3.1", "joe@sender.example", "ann@customer.example");
        other("192.0.2.1", "jim@sender.example", "ann@customer.example");
        other("192.0.2.1", "joe@other.example", "ann@customer.example");
        other("192.0.2.1", "joe@sender.example", "bob@customer.example");
    }

    #[test]
    fn numbered_senders_are_one_sender() {
        let numbered = |sender| key("192.0.2.1", sender, "ann@customer.example");
        assert_eq!(numbered("bounce-4711-ann=customer@list.example"), numbered("bounce-4712000-ann=customer@list.example"));
        assert_ne!(numbered("bounce-1-2@list.example"), numbered("bounce-12@list.example"));
        assert_ne!(numbered("bounce-1@list1.example"), numbered("bounce-1@list2.example"), "a domain is not numbered");
        assert_eq!(without_numbers("A1b22c"), "a#b#c");
        assert_eq!(without_numbers(&"7".repeat(64)), "#");
    }

    #[test]
    fn records_are_shown_as_they_are_compared() {
        let record = Record::first(Timestamp(START), WINDOW);
        let waiting = key("2001:db8::1", "news-12@sender.example", "\"a b\"@customer.example");
        let shown = show(&waiting, &record.encode()).unwrap();
        assert_eq!((shown.state.as_str(), shown.network.as_str()), ("waiting", "2001:db8::/64"));
        assert_eq!((shown.sender.as_str(), shown.recipient.as_str()), ("news-#@sender.example", "a b@customer.example"));
        let network = network_key(neighbourhood("192.0.2.1".parse().unwrap()));
        let passed = show(&network, &record.encode()).unwrap();
        assert_eq!((passed.state.as_str(), passed.network.as_str(), passed.sender.as_str()), ("passed", "192.0.2.0/24", ""));
        let allowed = show(&network, &Record { allowed: true, ..record }.encode()).unwrap();
        assert_eq!(allowed.state, "allowed");
    }

    #[test]
    fn damaged_records_are_like_forgotten_ones() {
        let network = network_key(neighbourhood("192.0.2.1".parse().unwrap()));
        for damaged in [&b""[..], b"\xff\xfe", b"{}", b"{\"f\":-1}", b"null"] {
            assert_eq!(Record::decode(damaged), None);
            assert!(!lives(damaged, Timestamp(0)), "the sweep removes it");
            assert_eq!(show(&network, damaged), None);
        }
        assert_eq!(show(b"\xff\xff", &Record::first(Timestamp(1), WINDOW).encode()), None);
        assert_eq!(show(b"", &Record::first(Timestamp(1), WINDOW).encode()), None);
    }
}
