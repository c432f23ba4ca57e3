//! What greylisting remembers: records and their keys, as they stand in the store's memory. Pure: time is passed in.
//!
//! | key | value | until |
//! |---|---|---|
//! | `t` sender NUL recipient NUL identity | a first try, waiting for its retry | `greylist.window` after the first try |
//! | `n` identity | who came back, or whom an operator allowed | `greylist.remember` after its last message |
//! | `d` network or organisation NUL organisation | from there came mail signed by the second | as long |
//! | `l0` or `l1` moment NUL sender NUL recipient NUL identity | a first try that never came back; `1`: a suspicious one | a month |
//! | `c` domain NUL address | somebody to whom the domain wrote | see `correspondents` |
//! | `s` day | numbers of a day | see `statistics` |
//!
//! An identity is an organisation's domain or a network: 192.0.2.0/24, 2001:db8::/64, or one host, 192.0.2.7/32. Before there were
//! organisations, first tries stood under `w` network NUL sender NUL recipient: such a one is not looked for any more, and expires.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::GreylistRecord;
use super::newcomer::{Identity, Newcomer, Proven};
use crate::checks::network::neighbourhood;
use crate::mail::{Address, Domain, Timestamp};

pub(super) const TRY: &[u8] = b"t";
pub(super) const KNOWN: &[u8] = b"n";
pub(super) const SIGNER: &[u8] = b"d";
/// First tries of an older version.
pub(super) const FORMER_TRY: &[u8] = b"w";

/// What is remembered of somebody who is known. JSON, so that a later version can read it.
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
    /// By an operator.
    #[serde(rename = "a", default, skip_serializing_if = "std::ops::Not::not")]
    pub allowed: bool,
}

impl Record {
    pub fn first(now: Timestamp, keep: Duration) -> Record {
        Record { first: now, last: now, attempts: 1, expires: now + keep, allowed: false }
    }

    /// Seen again; `renewed`: from now on for this long.
    pub fn again(self, now: Timestamp, renewed: Option<Duration>) -> Record {
        let expires = renewed.map_or(self.expires, |keep| now + keep);
        Record { last: now, attempts: self.attempts.saturating_add(1), expires, ..self }
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

/// A first try and its retries, and who made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Knock {
    #[serde(flatten)]
    pub record: Record,
    /// Of the first try.
    #[serde(rename = "c")]
    pub client: IpAddr,
    /// What it proved to be.
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    pub organisations: Vec<Domain>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub reverse_name: Option<Domain>,
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_suspicious: bool,
    /// As it was written, where the key shows it differently.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
}

impl Knock {
    pub fn first(newcomer: &Newcomer<'_>, proven: &Proven, window: Duration, now: Timestamp) -> Knock {
        let written = newcomer.sender.address().filter(|sender| sender_key(sender) != sender.to_string());
        Knock {
            record: Record::first(now, window),
            client: newcomer.client.to_canonical(),
            organisations: proven.organisations.clone(),
            reverse_name: newcomer.reverse_name.cloned(),
            is_suspicious: newcomer.is_suspicious || proven.is_denied,
            sender: written.map(Address::to_string),
        }
    }

    /// One more try, when this one is still of use. One from the future is not: the clock was wrong, then or now.
    pub fn again(self, now: Timestamp) -> Option<Knock> {
        let is_of_use = self.counts(now);
        is_of_use.then(|| Knock { record: self.record.again(now, None), ..self })
    }

    pub fn counts(&self, now: Timestamp) -> bool {
        self.record.lives(now) && self.record.first <= now
    }

    /// What is left of the delay; zero: it may pass.
    pub fn rest(&self, delay: Duration, now: Timestamp) -> Duration {
        delay.saturating_sub(now.since(self.record.first))
    }

    /// Whether the same one knocks now: from the same network, or from anywhere in an organisation that both have proven.
    pub fn is_by(&self, proven: &Proven) -> bool {
        neighbourhood(self.client) == proven.network || proven.organisations.iter().any(|organisation| self.is_of(organisation))
    }

    pub fn is_of(&self, organisation: &Domain) -> bool {
        self.organisations.contains(organisation)
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and names become JSON")
    }

    pub fn decode(value: &[u8]) -> Option<Knock> {
        serde_json::from_slice(value).ok()
    }
}

/// What is damaged has no life.
pub(super) fn lives(value: &[u8], now: Timestamp) -> bool {
    Record::decode(value).is_some_and(|record| record.lives(now))
}

pub(super) fn known_key(identity: &Identity) -> Vec<u8> {
    format!("n{identity}").into_bytes()
}

pub(super) fn signer_key(place: &Identity, signer: &Domain) -> Vec<u8> {
    format!("d{place}\0{signer}").into_bytes()
}

/// All first tries by this sender for this recipient. NUL stands in no address.
pub(super) fn pair(sender: &Address, recipient: &Address) -> Vec<u8> {
    format!("t{}\0{}\0", sender_key(sender), address_key(recipient)).into_bytes()
}

pub(super) fn try_key(mut pair: Vec<u8>, identity: &Identity) -> Vec<u8> {
    pair.extend_from_slice(identity.to_string().as_bytes());
    pair
}

/// As it is compared: in lower case.
pub(super) fn address_key(address: &Address) -> String {
    format!("{}@{}", address.local().to_lowercase(), address.host())
}

fn sender_key(sender: &Address) -> String {
    format!("{}@{}", without_numbers(sender.local()), sender.host())
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

/// A first try's key without its first letter, taken apart.
pub(super) struct Parts<'a> {
    pub sender: &'a str,
    pub recipient: &'a str,
    pub identity: &'a str,
}

impl Parts<'_> {
    pub fn of(rest: &[u8]) -> Option<Parts<'_>> {
        let mut parts = std::str::from_utf8(rest).ok()?.split('\0');
        let (Some(sender), Some(recipient), Some(identity), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        Some(Parts { sender, recipient, identity })
    }
}

/// A first try, or somebody who is known.
pub(super) fn show(key: &[u8], value: &[u8]) -> Option<GreylistRecord> {
    let (kind, rest) = key.split_at_checked(1)?;
    if kind == TRY {
        let (knock, parts) = (Knock::decode(value)?, Parts::of(rest)?);
        let (sender, recipient) = (parts.sender.to_owned(), parts.recipient.to_owned());
        return Some(GreylistRecord { sender, recipient, ..shown("waiting", parts.identity, &knock.record) });
    }
    let record = Record::decode(value)?;
    let state = if record.allowed { "allowed" } else { "passed" };
    Some(shown(state, std::str::from_utf8(rest).ok()?, &record))
}

fn shown(state: &str, identity: &str, record: &Record) -> GreylistRecord {
    GreylistRecord {
        state: state.to_owned(),
        network: identity.to_owned(),
        sender: String::new(),
        recipient: String::new(),
        first_seen: record.first,
        last_seen: record.last,
        attempts: record.attempts,
        expires: record.expires,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Greylisting;
    use crate::mail::ReversePath;

    const MINUTE: u64 = 60_000;
    const DAY: u64 = 24 * 60 * MINUTE;
    const DELAY: Duration = Duration::from_secs(300);
    const WINDOW: Duration = Duration::from_secs(2 * 86_400);
    const START: u64 = 1_795_214_160_000;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    /// A newcomer whose confirmed name is its organisation's.
    fn with_newcomer<T>(client: &str, organisation: &str, sender: &str, look: impl FnOnce(&Newcomer<'_>) -> T) -> T {
        let (sender, recipient) = (ReversePath::Address(address(sender)), address("ann@customer.example"));
        look(&Newcomer {
            client: client.parse().unwrap(),
            reverse_name: None,
            reverse_organisation: Domain::parse(organisation).ok(),
            sender: &sender,
            recipient: &recipient,
            is_suspicious: false,
            is_vouched: false,
            how: Greylisting::Always,
        })
    }

    fn proven(client: &str, organisation: &str) -> Proven {
        with_newcomer(client, organisation, "joe@sender.example", |newcomer| newcomer.proven())
    }

    fn knock(client: &str, organisation: &str, moment: u64) -> Knock {
        with_newcomer(client, organisation, "joe@sender.example", |newcomer| {
            Knock::first(newcomer, &newcomer.proven(), WINDOW, Timestamp(START + moment))
        })
    }

    /// Tries at these moments after the first, in milliseconds; what is left of the delay after the last one, in milliseconds.
    #[track_caller]
    fn tries(later: &[u64], expected: u64) {
        let mut known = knock("192.0.2.1", "", 0);
        let mut rest = DELAY;
        for moment in later {
            let now = Timestamp(START + moment);
            known = known.again(now).unwrap_or_else(|| knock("192.0.2.1", "", *moment));
            rest = known.rest(DELAY, now);
            assert_eq!(Knock::decode(&known.encode()).as_ref(), Some(&known), "it survives being written");
        }
        assert_eq!(rest, Duration::from_millis(expected), "after tries at {later:?}");
    }

    #[test]
    fn a_retry_after_the_delay_passes() {
        tries(&[], 300_000);
        tries(&[MINUTE], 240_000);
        tries(&[1], 299_999);
        tries(&[299_999], 1);
        tries(&[300_000], 0);
        tries(&[DAY], 0);
    }

    #[test]
    fn early_retries_do_not_set_the_clock_back() {
        tries(&[1000, 2000, MINUTE, 2 * MINUTE], 180_000);
        tries(&[1000, 2000, MINUTE, 4 * MINUTE, 5 * MINUTE], 0);
    }

    #[test]
    fn a_retry_after_the_window_is_a_first_try() {
        tries(&[2 * DAY - 1], 0);
        tries(&[2 * DAY], 300_000);
        tries(&[MINUTE, 3 * DAY, 3 * DAY + MINUTE], 240_000);
    }

    #[test]
    fn a_clock_that_was_wrong_keeps_nobody_waiting() {
        assert_eq!(knock("192.0.2.1", "", DAY).again(Timestamp(START)), None);
    }

    #[test]
    fn each_message_renews_who_is_known() {
        let remember = Duration::from_secs(36 * 86_400);
        let (start, later) = (Timestamp(START), Timestamp(START + 30 * DAY));
        let record = Record { allowed: true, ..Record::first(start, remember) }.again(later, Some(remember));
        assert_eq!((record.first, record.last, record.attempts), (start, later, 2));
        assert!(record.lives(Timestamp(START + 65 * DAY)) && !record.lives(Timestamp(START + 66 * DAY)));
        assert!(record.allowed, "and changes nothing else");
    }

    #[test]
    fn whom_a_retry_is_recognised_by() {
        let network = knock("192.0.2.1", "", 0);
        assert!(network.is_by(&proven("192.0.2.200", "")));
        assert!(network.is_by(&proven("::ffff:192.0.2.1", "pool.example")), "its name is known only now");
        assert!(!network.is_by(&proven("192.0.3.1", "pool.example")));
        let pool = knock("192.0.2.1", "pool.example", 0);
        assert!(pool.is_by(&proven("198.51.100.9", "pool.example")));
        assert!(pool.is_by(&proven("192.0.2.7", "")), "DNS does not answer now");
        assert!(!pool.is_by(&proven("198.51.100.9", "other.example")));
        assert!(!pool.is_by(&proven("198.51.100.9", "")));
    }

    #[test]
    fn sender_and_recipient_are_compared_in_lower_case() {
        let first = pair(&address("Joe@sender.example"), &address("Ann@customer.example"));
        let same = |sender, recipient| assert_eq!(first, pair(&address(sender), &address(recipient)));
        let other = |sender, recipient| assert_ne!(first, pair(&address(sender), &address(recipient)));
        same("joe@SENDER.example", "ann@customer.EXAMPLE");
        same("JOE@sender.example", "\"ann\"@customer.example");
        other("jim@sender.example", "ann@customer.example");
        other("joe@other.example", "ann@customer.example");
        other("joe@sender.example", "bob@customer.example");
    }

    #[test]
    fn numbered_senders_are_one_sender() {
        let numbered = |sender| pair(&address(sender), &address("ann@customer.example"));
        assert_eq!(numbered("bounce-4711-ann=customer@list.example"), numbered("bounce-4712000-ann=customer@list.example"));
        assert_ne!(numbered("bounce-1-2@list.example"), numbered("bounce-12@list.example"));
        assert_ne!(numbered("bounce-1@list1.example"), numbered("bounce-1@list2.example"), "a domain is not numbered");
        assert_eq!(without_numbers("A1b22c"), "a#b#c");
        assert_eq!(without_numbers(&"7".repeat(64)), "#");
        let written =
            |sender| with_newcomer("192.0.2.1", "", sender, |it| Knock::first(it, &it.proven(), WINDOW, Timestamp(0)).sender);
        assert_eq!(
            written("bounce-4711@list.example").as_deref(),
            Some("bounce-4711@list.example"),
            "operators see it as it was"
        );
        assert_eq!(written("joe@list.example"), None);
    }

    #[test]
    fn records_are_shown_as_they_are_compared() {
        let pair = pair(&address("news-12@sender.example"), &address("\"a b\"@customer.example"));
        let waiting = try_key(pair, &Identity::of_address("2001:db8::1".parse().unwrap()));
        let shown = show(&waiting, &knock("2001:db8::1", "", 0).encode()).unwrap();
        assert_eq!((shown.state.as_str(), shown.network.as_str()), ("waiting", "2001:db8::/64"));
        assert_eq!((shown.sender.as_str(), shown.recipient.as_str()), ("news-#@sender.example", "a b@customer.example"));
        let record = Record::first(Timestamp(START), WINDOW);
        let network = known_key(&Identity::of_address("192.0.2.1".parse().unwrap()));
        let passed = show(&network, &record.encode()).unwrap();
        assert_eq!((passed.state.as_str(), passed.network.as_str(), passed.sender.as_str()), ("passed", "192.0.2.0/24", ""));
        let allowed = show(&network, &Record { allowed: true, ..record }.encode()).unwrap();
        assert_eq!(allowed.state, "allowed");
    }

    #[test]
    fn what_an_older_version_remembered_of_a_network_is_understood() {
        let former = br#"{"f":1795214160000,"l":1795214160000,"n":7,"e":1798324560000,"a":true}"#;
        let record = Record::decode(former).unwrap();
        assert_eq!((record.attempts, record.allowed, record.lives(Timestamp(START))), (7, true, true));
        assert_eq!(known_key(&Identity::of_address("192.0.2.1".parse().unwrap())), b"n192.0.2.0/24");
    }

    #[test]
    fn damaged_records_are_like_forgotten_ones() {
        for damaged in [&b""[..], b"\xff\xfe", b"{}", b"{\"f\":-1}", b"null"] {
            assert_eq!((Record::decode(damaged), Knock::decode(damaged)), (None, None));
            assert!(!lives(damaged, Timestamp(0)), "the sweep removes it");
            assert_eq!((show(b"n192.0.2.0/24", damaged), show(b"ta\0b\0c", damaged)), (None, None));
        }
        let (knock, record) = (knock("192.0.2.1", "", 0).encode(), Record::first(Timestamp(1), WINDOW).encode());
        assert_eq!((show(b"\xff\xff", &record), show(b"", &record)), (None, None));
        for key in [&b"t"[..], b"ta", b"ta\0b", b"ta\0b\0c\0d", b"t\xff\0b\0c"] {
            assert_eq!(show(key, &knock), None, "{}", key.escape_ascii());
        }
    }
}
