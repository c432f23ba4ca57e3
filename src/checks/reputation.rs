//! What a sender's organisation sent to a customer before: messages by their level, and what people said of them.
//!
//! | key | value |
//! |---|---|
//! | domain NUL sender | numbers by level, halved every month; when first and last; what was reported and released |
//!
//! - **Who is not proven has no reputation** ([`Reputed`]): it could be anybody's. At a mailbox provider it is the single mailbox's.
//! - **For each customer by itself**: what is one's newsletter is another's spam.
//! - **It does not feed itself.** What is written down is the level that the message has for everybody ([`Reputation::saw`]), to which
//!   nothing of this was added.
//! - It is bounded both ways ([`POINTS_MAX`]): a mailbox that was broken into has the best name there is.
//!
//! State lives in the store's memory, which may be lost; then everybody is new. What fails says nothing about anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::greylist::owner;
use crate::mail::{Address, Domain, Envelope, Finding, RuleHit, SpamLevel, Timestamp};
use crate::spam::{Proof, is_freemail};
use crate::store::Memory;

/// Either way.
pub const POINTS_MAX: f32 = 2.0;
/// Before so many messages nobody has a reputation.
const MESSAGES_MIN: u32 = 5;
/// One that somebody reported or released counts like so many others.
const TAUGHT_WEIGHT: f32 = 3.0;
/// As if so many of each kind had come before: what shrinks the word of a few.
const PRIOR: f32 = 2.0;
/// After this a message counts half.
const HALF_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// Forgotten when all together count for less: one message after ten weeks.
const WEIGHT_MIN: f32 = 0.2;
/// Of less than so many points nothing is said.
const POINTS_MIN: f32 = 0.1;
/// More are not remembered until some have expired.
const RECORDS_MAX: usize = 500_000;
/// Records read at a time.
const PAGE: usize = 1000;
const DAY: Duration = Duration::from_secs(86_400);

/// What senders sent before. Cloning shares it.
#[derive(Clone)]
pub struct Reputation {
    memory: Memory,
    count: Arc<AtomicUsize>,
}

/// Who answers for a message: an organisation's domain, or one mailbox of a mailbox provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reputed(String);

/// What a person said of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taught {
    /// Reported, or learned as spam.
    Spam,
    /// Released, or learned as wanted.
    Ham,
}

impl Reputed {
    /// By DMARC, DKIM or SPF; else by the client's confirmed name. `None`: nothing is proven. `findings`: what authentication found.
    pub fn of(envelope: &Envelope, authors: &[Address], findings: &[Finding]) -> Option<Reputed> {
        let proof = Proof::of(findings);
        let client = &envelope.client;
        let by_name = || {
            let name = client.reverse_name.as_ref().filter(|_| client.reverse_confirmed)?;
            let is_access_line = client.findings.iter().any(|finding| finding.id == "dynamic-name");
            owner(name, client.address, is_access_line)
        };
        let organisation = proof.organisation().or_else(by_name)?;
        if !is_freemail(&organisation) {
            return Some(Reputed(organisation.to_string()));
        }
        let is_proven = |author: &&Address| author.domain().is_some_and(|domain| proof.of_author(domain).is_some());
        let author = authors.iter().find(is_proven)?;
        Some(Reputed(format!("{}@{}", author.local().to_lowercase(), author.host())))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Reputation {
    pub fn new(memory: Memory) -> Reputation {
        Reputation { memory, count: Arc::default() }
    }

    /// A message came. `level`: what it is to everybody, without what single domains add.
    pub async fn saw(&self, domain: &Domain, who: &Reputed, level: SpamLevel, now: Timestamp) {
        self.change(domain, who, now, move |record| record.add(level)).await;
    }

    /// Somebody in the domain said what a message of this sender was.
    pub async fn taught(&self, domain: &Domain, who: &Reputed, taught: Taught, now: Timestamp) {
        self.change(domain, who, now, move |record| record.teach(taught)).await;
    }

    /// What the sender's past says about its next message: `REPUTATION_GOOD` or `REPUTATION_BAD`.
    pub async fn points(&self, domain: &Domain, who: &Reputed, now: Timestamp) -> Option<RuleHit> {
        let known = self.memory.get(key(domain, who)).await?;
        let record = Record::decode(&known)?.aged(now);
        let points = record.points()?;
        let rule = if points < 0.0 { "REPUTATION_GOOD" } else { "REPUTATION_BAD" };
        Some(RuleHit { rule: rule.to_owned(), points, evidence: format!("{}: {}", who.as_str(), record.words(now)) })
    }

    /// Removes who has not been seen for long; how many. Called hourly.
    pub async fn sweep(&self, now: Timestamp) -> usize {
        let (mut after, mut removed, mut living) = (None, 0, 0);
        loop {
            let page = self.memory.scan(Vec::new(), after.take(), PAGE).await;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in page {
                if lives(&value, now) {
                    living += 1;
                    continue;
                }
                // It may have been seen again since the page was read.
                let keep = move |value: Option<&[u8]>| value.filter(|value| lives(value, now)).map(<[u8]>::to_vec);
                if self.memory.update(key, keep).await.is_none() {
                    removed += 1;
                }
            }
        }
        self.count.store(living, Ordering::Relaxed);
        removed
    }

    async fn change(&self, domain: &Domain, who: &Reputed, now: Timestamp, change: impl Fn(&mut Record) + Send + 'static) {
        let is_full = self.count.load(Ordering::Relaxed) >= RECORDS_MAX;
        let update = move |known: Option<&[u8]>| {
            let known = known.and_then(Record::decode);
            let mut record = match known {
                Some(known) => known.aged(now),
                None if is_full => return None,
                None => Record::new(now),
            };
            change(&mut record);
            Some(record.encode())
        };
        let written = self.memory.update(key(domain, who), update).await;
        if written.as_deref().and_then(Record::decode).is_some_and(|record| record.is_first()) {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// NUL stands in no domain.
fn key(domain: &Domain, who: &Reputed) -> Vec<u8> {
    format!("{domain}\0{}", who.as_str()).into_bytes()
}

fn lives(value: &[u8], now: Timestamp) -> bool {
    Record::decode(value).is_some_and(|record| record.aged(now).weight() >= WEIGHT_MIN)
}

/// One sender's past with one customer. JSON, so that a later version can read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    #[serde(rename = "f")]
    first: Timestamp,
    /// Up to when the weights are aged.
    #[serde(rename = "l")]
    last: Timestamp,
    /// By level, as they count now.
    #[serde(rename = "w")]
    levels: [f32; 4],
    /// Reported and released, as they count now.
    #[serde(rename = "t")]
    taught: [f32; 2],
    /// As many as there were: all, of the level none, reported, released.
    #[serde(rename = "n")]
    messages: u32,
    #[serde(rename = "c")]
    clean: u32,
    #[serde(rename = "s", default)]
    reported: u32,
    #[serde(rename = "h", default)]
    released: u32,
}

impl Record {
    fn new(now: Timestamp) -> Record {
        Record { first: now, last: now, levels: [0.0; 4], taught: [0.0; 2], messages: 0, clean: 0, reported: 0, released: 0 }
    }

    /// Every weight as it counts now. A clock that was set back ages nothing.
    fn aged(mut self, now: Timestamp) -> Record {
        let past = now.since(self.last).as_secs_f32() / HALF_LIFE.as_secs_f32();
        let left = 0.5_f32.powf(past);
        self.levels.iter_mut().chain(&mut self.taught).for_each(|weight| *weight *= left);
        self.last = self.last.max(now);
        self
    }

    fn add(&mut self, level: SpamLevel) {
        self.levels[level as usize] += 1.0;
        self.messages = self.messages.saturating_add(1);
        self.clean = self.clean.saturating_add(u32::from(level == SpamLevel::None));
    }

    fn teach(&mut self, taught: Taught) {
        let (place, count) = match taught {
            Taught::Spam => (0, &mut self.reported),
            Taught::Ham => (1, &mut self.released),
        };
        *count = count.saturating_add(1);
        self.taught[place] += 1.0;
    }

    fn is_first(&self) -> bool {
        self.messages.saturating_add(self.reported).saturating_add(self.released) == 1
    }

    fn weight(&self) -> f32 {
        self.levels.iter().chain(&self.taught).sum()
    }

    /// The log-odds of spam among what it sent, shrunk; `None`: too little is known, or nothing follows from it.
    fn points(&self) -> Option<f32> {
        let [none, _, med, high] = self.levels;
        let [reported, released] = self.taught;
        let bad = high + med / 2.0 + TAUGHT_WEIGHT * reported;
        let good = none + TAUGHT_WEIGHT * released;
        if self.messages < MESSAGES_MIN {
            return None;
        }
        let points = ((bad + PRIOR) / (good + PRIOR)).ln().clamp(-POINTS_MAX, POINTS_MAX);
        let points = (points * 100.0).round() / 100.0;
        (points.abs() >= POINTS_MIN).then_some(points)
    }

    /// `34 messages in 60 days, 33 of them none, 1 reported as spam`
    fn words(&self, now: Timestamp) -> String {
        let days = 1 + now.since(self.first).as_secs() / DAY.as_secs();
        let plural = if days == 1 { "" } else { "s" };
        let mut words = format!("{} messages in {days} day{plural}, {} of them none", self.messages, self.clean);
        if self.reported > 0 {
            words += &format!(", {} reported as spam", self.reported);
        }
        if self.released > 0 {
            words += &format!(", {} released", self.released);
        }
        words
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers become JSON")
    }

    /// `None`: damaged, which is like forgotten.
    fn decode(value: &[u8]) -> Option<Record> {
        serde_json::from_slice(value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::greylist::testing::Scratch;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    fn reputation() -> (Reputation, Scratch) {
        let scratch = Scratch::new();
        (Reputation::new(scratch.memory()), scratch)
    }

    fn customer() -> Domain {
        "customer.example".parse().unwrap()
    }

    fn partner() -> Reputed {
        Reputed("partner.example".to_owned())
    }

    /// So many messages of a level, one a day from `NOW` on.
    async fn saw(reputation: &Reputation, level: SpamLevel, count: u32) {
        for day in 0..count {
            reputation.saw(&customer(), &partner(), level, NOW + DAY * day).await;
        }
    }

    async fn shown(reputation: &Reputation, now: Timestamp) -> String {
        let hit = reputation.points(&customer(), &partner(), now).await;
        hit.map_or("-".to_owned(), |hit| format!("{} {} {}", hit.rule, hit.points, hit.evidence))
    }

    #[tokio::test]
    async fn a_good_past_speaks_for_a_sender_and_a_bad_one_against() {
        let (good, _scratch) = reputation();
        saw(&good, SpamLevel::None, 4).await;
        assert_eq!(shown(&good, NOW + 4 * DAY).await, "-");
        saw(&good, SpamLevel::None, 1).await;
        let text = "REPUTATION_GOOD -1.22 partner.example: 5 messages in 5 days, 5 of them none";
        assert_eq!(shown(&good, NOW + 4 * DAY).await, text);
        saw(&good, SpamLevel::None, 60).await;
        assert!(shown(&good, NOW + 60 * DAY).await.starts_with("REPUTATION_GOOD -2 "), "bounded");
        assert_eq!(good.points(&"other.example".parse().unwrap(), &partner(), NOW).await, None, "another customer's");

        let (bad, _scratch) = reputation();
        saw(&bad, SpamLevel::High, 30).await;
        assert!(shown(&bad, NOW + 30 * DAY).await.starts_with("REPUTATION_BAD 2 "));
        let (mixed, _scratch) = reputation();
        saw(&mixed, SpamLevel::High, 10).await;
        saw(&mixed, SpamLevel::None, 10).await;
        assert_eq!(shown(&mixed, NOW + 10 * DAY).await, "-", "as many of each");
        let (low, _scratch) = reputation();
        saw(&low, SpamLevel::Low, 30).await;
        assert_eq!(shown(&low, NOW + 30 * DAY).await, "-", "neither good nor bad");
    }

    #[tokio::test]
    async fn what_people_say_counts_for_more_than_a_level() {
        let (reputation, _scratch) = reputation();
        saw(&reputation, SpamLevel::None, 6).await;
        for _ in 0..6 {
            reputation.taught(&customer(), &partner(), Taught::Spam, NOW + 5 * DAY).await;
        }
        reputation.taught(&customer(), &partner(), Taught::Ham, NOW + 5 * DAY).await;
        let shown = shown(&reputation, NOW + 5 * DAY).await;
        assert!(shown.starts_with("REPUTATION_BAD 0.6"), "{shown}");
        assert!(shown.ends_with("6 messages in 6 days, 6 of them none, 6 reported as spam, 1 released"), "{shown}");
    }

    #[tokio::test]
    async fn a_past_fades_and_is_forgotten() {
        let (reputation, _scratch) = reputation();
        saw(&reputation, SpamLevel::High, 10).await;
        let at = async |days: u32| reputation.points(&customer(), &partner(), NOW + DAY * days).await.map(|hit| hit.points);
        let (fresh, later) = (at(10).await.unwrap(), at(100).await.unwrap());
        assert!(fresh > 1.6 && later > 0.1 && later < fresh / 2.0, "{fresh} {later}");
        assert_eq!(reputation.sweep(NOW + 100 * DAY).await, 0);
        assert_eq!(reputation.count.load(Ordering::Relaxed), 1);
        assert_eq!(reputation.sweep(NOW + 400 * DAY).await, 1);
        assert_eq!(at(10).await, None);
    }

    #[tokio::test]
    async fn more_than_can_be_kept_are_not_remembered() {
        let (reputation, _scratch) = reputation();
        reputation.count.store(RECORDS_MAX, Ordering::Relaxed);
        saw(&reputation, SpamLevel::None, 10).await;
        assert_eq!(shown(&reputation, NOW + 10 * DAY).await, "-");
        reputation.sweep(NOW).await;
        saw(&reputation, SpamLevel::None, 10).await;
        assert_ne!(shown(&reputation, NOW + 10 * DAY).await, "-");
    }

    #[test]
    fn a_damaged_record_is_like_none() {
        assert_eq!(Record::decode(b"{\"f\":1}"), None);
        assert!(!lives(b"", NOW));
    }
}
