//! First tries that never came back: most are spam, which is what greylisting is for; some were real mail whose sender does not try
//! again, or tries from elsewhere each time. The latter are what an operator wants to find.
//!
//! Suspicious ones stand in a list of their own, so that a flood of spam pushes out spam and not the mail to be rescued. Both lists are
//! bounded; the oldest go first.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Greylist;
use super::newcomer::Identity;
use super::record::{Knock, Parts, Record, known_key};
use crate::checks::network;
use crate::mail::Timestamp;

/// One first try that never came back, as `greylist lost` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostTry {
    pub first_try: Timestamp,
    pub last_try: Timestamp,
    pub attempts: u32,
    pub sender: String,
    pub recipient: String,
    /// Of the first try.
    pub client: IpAddr,
    /// Its name in DNS, confirmed or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverse_name: Option<String>,
    /// The client had a blemish: reverse name, greeting, DNS lists.
    pub suspicious: bool,
    /// What `greylist allow` takes: an organisation's domain, or a network.
    pub allow: String,
}

/// Kept in each of the two lists.
pub const LOST_MAX: usize = 5_000;
const LOST_KEEP: Duration = Duration::from_secs(30 * 86_400);
/// Of one list, with all that may have been added at a time.
const SCAN_MAX: usize = 3 * LOST_MAX;

const PLAIN: &[u8] = b"l0";
const SUSPICIOUS: &[u8] = b"l1";

/// What was lost, on its way into the lists: the newest of it.
#[derive(Default)]
pub(super) struct Lost {
    plain: BTreeMap<Vec<u8>, Vec<u8>>,
    suspicious: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Lost {
    /// `key`: of the first try.
    pub fn add(&mut self, key: &[u8], knock: &Knock) {
        let (prefix, list) = if knock.is_suspicious { (SUSPICIOUS, &mut self.suspicious) } else { (PLAIN, &mut self.plain) };
        let moment = format!("{:016x}\0", knock.record.first.0);
        list.insert([prefix, moment.as_bytes(), key.get(1..).unwrap_or_default()].concat(), knock.encode());
        if list.len() > LOST_MAX {
            list.pop_first();
        }
    }
}

impl Greylist {
    /// Newest first; only of whom it would help to allow: who is known by now is left out.
    pub async fn lost(&self, now: Timestamp, most: usize, which: WhichLost) -> Vec<LostTry> {
        let mut pairs = self.memory.scan_back(PLAIN.to_vec(), SCAN_MAX).await;
        if which == WhichLost::All {
            pairs.extend(self.memory.scan_back(SUSPICIOUS.to_vec(), SCAN_MAX).await);
        }
        // By moment alone, whatever list it stands in.
        pairs.sort_by(|(one, _), (other, _)| other.get(2..).cmp(&one.get(2..)));
        let mut shown = Vec::new();
        for (key, value) in pairs {
            if shown.len() >= most {
                break;
            }
            let Some((lost, knock)) = show(&key, &value) else { continue };
            if knock.record.first + LOST_KEEP > now && !self.passes_now(&lost, now).await {
                shown.push(lost);
            }
        }
        shown
    }

    async fn passes_now(&self, lost: &LostTry, now: Timestamp) -> bool {
        let networks = [network::neighbourhood(lost.client), network::client(lost.client)].map(Identity::Network);
        for identity in lost.allow.parse().into_iter().chain(networks) {
            let known = self.memory.get(known_key(&identity)).await;
            if known.as_deref().and_then(Record::decode).is_some_and(|known| known.lives(now)) {
                return true;
            }
        }
        false
    }

    /// Writes down what was lost, and keeps the lists within their bound.
    pub(super) async fn keep_lost(&self, lost: Lost) {
        for (prefix, list) in [(PLAIN, lost.plain), (SUSPICIOUS, lost.suspicious)] {
            if list.is_empty() {
                continue;
            }
            self.memory.change(list.into_iter().map(|(key, value)| (key, Some(value))).collect()).await;
            let all = self.memory.scan(prefix.to_vec(), None, SCAN_MAX).await;
            let oldest = all.len().saturating_sub(LOST_MAX);
            self.memory.change(all.into_iter().take(oldest).map(|(key, _)| (key, None)).collect()).await;
        }
    }

    /// Removes what is older than it may be; how many.
    pub(super) async fn sweep_lost(&self, now: Timestamp) -> usize {
        let mut removed = 0;
        for list in [PLAIN, SUSPICIOUS] {
            let all = self.memory.scan(list.to_vec(), None, SCAN_MAX).await;
            let is_over = |value: &[u8]| Knock::decode(value).is_none_or(|knock| knock.record.first + LOST_KEEP <= now);
            let over: Vec<_> = all.into_iter().filter(|(_, value)| is_over(value)).map(|(key, _)| (key, None)).collect();
            removed += over.len();
            self.memory.change(over).await;
        }
        removed
    }
}

/// Which of them are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichLost {
    /// Only of clients without a blemish.
    Plausible,
    All,
}

fn show(key: &[u8], value: &[u8]) -> Option<(LostTry, Knock)> {
    let knock = Knock::decode(value)?;
    // List, moment and NUL.
    let parts = Parts::of(key.get(19..)?)?;
    let lost = LostTry {
        first_try: knock.record.first,
        last_try: knock.record.last,
        attempts: knock.record.attempts,
        sender: knock.sender.clone().unwrap_or_else(|| parts.sender.to_owned()),
        recipient: parts.recipient.to_owned(),
        client: knock.client,
        reverse_name: knock.reverse_name.as_ref().map(|name| name.to_string()),
        suspicious: knock.is_suspicious,
        allow: parts.identity.to_owned(),
    };
    Some((lost, knock))
}
