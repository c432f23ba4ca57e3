//! Greylisting: whoever is new is asked once to come back. Most spam software does not; every mail server does.
//!
//! | key | value | until |
//! |---|---|---|
//! | `w` network NUL sender NUL recipient | a first try, waiting for its retry | `greylist.window` after the first try |
//! | `n` network | a network that came back, or that an operator allowed | `greylist.remember` after its last message |
//!
//! - The clock of a first try is not set back by early retries.
//! - Networks are /24 and /64: large senders retry from another host.
//! - Sender and recipient are compared in lower case, and runs of digits in the sender's local part count as one `#`: mailing
//!   lists and newsletters number the sender of every message (VERP, `bounce-4711-joe=customer.example@list.example`).
//! - **The null sender is never asked to wait.** Callouts, by which other servers ask whether an address of ours exists before
//!   they take our customers' mail, come with it and do not come back; and a bounce that is delayed looks like mail that was
//!   lost. Spam that uses the null sender is judged by its content like all other.
//! - `postmaster@` and `abuse@` are never asked to wait: they are where people turn who have trouble with us (RFC 2142).
//!
//! The domains that want it and the networks of `limits.allow` are the caller's to know. State lives in the store's memory,
//! which may be lost: then everybody is new again. A memory that does not work lets everybody pass, since asking again forever
//! would lose mail.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::network::neighbourhood;
use crate::config;
use crate::mail::{Address, ReversePath, Timestamp};
use crate::store::Memory;

/// Greylisting: network of the client (/24, /64), sender and recipient must come back once. State in the store's memory.
#[derive(Clone)]
pub struct Greylist {
    memory: Memory,
    /// First tries in memory: counted up and down here, and anew by each sweep.
    waiting: Arc<AtomicUsize>,
}

/// The answer for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GreylistAnswer {
    Pass,
    /// Ask again in so many seconds.
    Wait {
        seconds: u64,
    },
}

/// One record as `greylist list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GreylistRecord {
    /// `waiting`, `passed` or `allowed`.
    pub state: String,
    /// 192.0.2.0/24
    pub network: String,
    /// As it is compared, with `#` for digits. Empty for what holds for the whole network.
    pub sender: String,
    pub recipient: String,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// Tries; for a network that passed, its messages, of which at most one a minute is counted.
    pub attempts: u32,
    pub expires: Timestamp,
}

/// More first tries than this are not remembered but pass: a flood of invented senders must not fill the disk.
const WAITING_MAX: usize = 1_000_000;

/// A busy network's record is not written more often.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// Records read at a time.
const PAGE: usize = 1000;

impl Greylist {
    pub fn new(memory: Memory) -> Greylist {
        Greylist { memory, waiting: Arc::default() }
    }

    /// Asks and remembers.
    pub async fn check(
        &self,
        settings: &config::Greylist,
        client: IpAddr,
        sender: &ReversePath,
        recipient: &Address,
        now: Timestamp,
    ) -> GreylistAnswer {
        let Some(sender) = sender.address().filter(|_| !is_role(recipient)) else {
            return GreylistAnswer::Pass;
        };
        let network = neighbourhood(client);
        if self.is_known(settings, network, now).await {
            return GreylistAnswer::Pass;
        }
        let key = waiting_key(network, sender, recipient);
        // None: full, or the memory does not work.
        let Some(record) = self.knock(settings, key.clone(), now).await else {
            return GreylistAnswer::Pass;
        };
        let answer = record.answer(settings.delay, now);
        if answer == GreylistAnswer::Pass {
            // The network first: between the two writes it is known twice, never not at all.
            self.memory.put(network_key(network), Record::first(now, settings.remember).encode()).await;
            if self.memory.remove(key).await {
                count_down(&self.waiting);
            }
        }
        answer
    }

    /// A network that passed or is allowed; each of its messages renews it.
    async fn is_known(&self, settings: &config::Greylist, network: IpNet, now: Timestamp) -> bool {
        let key = network_key(network);
        let known = self.memory.get(key.clone()).await;
        let Some(known) = known.as_deref().and_then(Record::decode).filter(|known| known.lives(now)) else {
            return false;
        };
        if now.since(known.last) >= RENEW_EVERY {
            let remember = settings.remember;
            let renew = move |known: Option<&[u8]>| Some(Record::decode(known?)?.again(now, Some(remember)).encode());
            self.memory.update(key, renew).await;
        }
        true
    }

    /// A first try, or one more.
    async fn knock(&self, settings: &config::Greylist, key: Vec<u8>, now: Timestamp) -> Option<Record> {
        let is_full = self.waiting.load(Ordering::Relaxed) >= WAITING_MAX;
        let window = settings.window;
        let knock = move |known: Option<&[u8]>| match known.and_then(Record::decode) {
            None if is_full => None,
            known => Some(Record::knock(known, window, now).encode()),
        };
        let record = Record::decode(&self.memory.update(key, knock).await?)?;
        if record.attempts == 1 {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        Some(record)
    }

    /// Newest last; without what has expired.
    pub async fn list(&self, now: Timestamp, most: usize) -> Vec<GreylistRecord> {
        let mut newest = Vec::new();
        for prefix in [WAITING, NETWORK] {
            let mut after = None;
            while let Some(page) = self.page(prefix, &mut after).await {
                let shown = page.iter().filter_map(|(key, value)| show(key, value));
                newest.extend(shown.filter(|record| record.expires > now));
                keep_newest(&mut newest, most);
            }
        }
        newest
    }

    /// Lets everything from this network pass, for `remember` from now and renewed by each message.
    pub async fn allow(&self, settings: &config::Greylist, network: IpAddr, now: Timestamp) {
        let record = Record { allowed: true, ..Record::first(now, settings.remember) };
        self.memory.put(network_key(neighbourhood(network)), record.encode()).await;
    }

    /// Forgets all records of this network; how many there were.
    pub async fn forget(&self, network: IpAddr) -> usize {
        let network = neighbourhood(network);
        let mut forgotten = usize::from(self.memory.remove(network_key(network)).await);
        let mut after = None;
        while let Some(page) = self.page(&waiting_of(network), &mut after).await {
            for (key, _) in page {
                if self.memory.remove(key).await {
                    forgotten += 1;
                    count_down(&self.waiting);
                }
            }
        }
        forgotten
    }

    /// Removes what has expired; how many. Called hourly.
    pub async fn sweep(&self, now: Timestamp) -> usize {
        let mut removed = 0;
        let mut waiting = 0;
        for prefix in [WAITING, NETWORK] {
            let mut after = None;
            while let Some(page) = self.page(prefix, &mut after).await {
                for (key, value) in page {
                    if lives(&value, now) {
                        waiting += usize::from(prefix == WAITING);
                        continue;
                    }
                    // It may have been renewed since the page was read.
                    let keep = move |value: Option<&[u8]>| value.filter(|value| lives(value, now)).map(<[u8]>::to_vec);
                    removed += usize::from(self.memory.update(key, keep).await.is_none());
                }
            }
        }
        self.waiting.store(waiting, Ordering::Relaxed);
        if waiting >= WAITING_MAX {
            tracing::warn!(target: "feedgate", waiting, "greylist is full: new senders pass until some have expired");
        }
        removed
    }

    /// The next records with this prefix; `None` at the end.
    async fn page(&self, prefix: &[u8], after: &mut Option<Vec<u8>>) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let page = self.memory.scan(prefix.to_vec(), after.take(), PAGE).await;
        *after = Some(page.last()?.0.clone());
        Some(page)
    }
}

/// Where people turn who have trouble with us.
fn is_role(recipient: &Address) -> bool {
    recipient.is_postmaster() || recipient.local().eq_ignore_ascii_case("abuse")
}

/// A flood must not make it wrap around.
fn count_down(count: &AtomicUsize) {
    // Err: it was zero.
    let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
}

/// What is remembered of a first try or of a network. JSON, so that a later version can read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    #[serde(rename = "f")]
    first: Timestamp,
    #[serde(rename = "l")]
    last: Timestamp,
    #[serde(rename = "n")]
    attempts: u32,
    #[serde(rename = "e")]
    expires: Timestamp,
    /// By an operator; only of networks.
    #[serde(rename = "a", default, skip_serializing_if = "std::ops::Not::not")]
    allowed: bool,
}

impl Record {
    fn first(now: Timestamp, keep: Duration) -> Record {
        Record { first: now, last: now, attempts: 1, expires: now + keep, allowed: false }
    }

    /// What is known of a first try after this one. One from the future is none: the clock was wrong, then or now.
    fn knock(known: Option<Record>, window: Duration, now: Timestamp) -> Record {
        match known {
            Some(known) if known.lives(now) && known.first <= now => known.again(now, None),
            _ => Record::first(now, window),
        }
    }

    /// Seen again; `renewed`: from now on for this long.
    fn again(self, now: Timestamp, renewed: Option<Duration>) -> Record {
        let expires = renewed.map_or(self.expires, |keep| now + keep);
        Record { last: now, attempts: self.attempts.saturating_add(1), expires, ..self }
    }

    fn answer(&self, delay: Duration, now: Timestamp) -> GreylistAnswer {
        match delay.saturating_sub(now.since(self.first)) {
            Duration::ZERO => GreylistAnswer::Pass,
            rest => GreylistAnswer::Wait { seconds: rest.as_millis().div_ceil(1000) as u64 },
        }
    }

    fn lives(&self, now: Timestamp) -> bool {
        self.expires > now
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers become JSON")
    }

    /// `None`: damaged, which is like forgotten.
    fn decode(value: &[u8]) -> Option<Record> {
        serde_json::from_slice(value).ok()
    }
}

/// What is damaged has no life.
fn lives(value: &[u8], now: Timestamp) -> bool {
    Record::decode(value).is_some_and(|record| record.lives(now))
}

const WAITING: &[u8] = b"w";
const NETWORK: &[u8] = b"n";

fn network_key(network: IpNet) -> Vec<u8> {
    format!("n{network}").into_bytes()
}

fn waiting_of(network: IpNet) -> Vec<u8> {
    format!("w{network}\0").into_bytes()
}

/// NUL stands in no address.
fn waiting_key(network: IpNet, sender: &Address, recipient: &Address) -> Vec<u8> {
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

fn show(key: &[u8], value: &[u8]) -> Option<GreylistRecord> {
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

/// Keeps those seen last, in the order in which they were seen.
fn keep_newest(records: &mut Vec<GreylistRecord>, most: usize) {
    records.sort_by_key(|record| record.last_seen);
    records.drain(..records.len().saturating_sub(most));
}

#[cfg(test)]
mod tests {
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
    fn roles_are_reached_at_once() {
        for role in ["postmaster@customer.example", "PostMaster@customer.example", "Abuse@customer.example"] {
            assert!(is_role(&address(role)), "{role}");
        }
        assert!(!is_role(&address("postmaster.x@customer.example")) && !is_role(&address("abuses@customer.example")));
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

    #[test]
    fn a_list_keeps_the_newest() {
        let at = |moment| GreylistRecord {
            last_seen: Timestamp(moment),
            ..show(b"n192.0.2.0/24", &Record::first(Timestamp(START), WINDOW).encode()).unwrap()
        };
        let mut records = [5, 1, 4, 2, 3].map(at).to_vec();
        keep_newest(&mut records, 3);
        assert_eq!(records, [3, 4, 5].map(at));
    }

    #[test]
    fn the_count_stops_at_zero() {
        let count = AtomicUsize::new(1);
        count_down(&count);
        count_down(&count);
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}
