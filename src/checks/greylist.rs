//! Greylisting: whoever is new is asked once to come back. Most spam software does not; every mail server does.
//!
//! - Counted by whom the sender has proven to be ([`newcomer`]): its organisation by SPF or DKIM, that of the client's reverse name,
//!   or the client's /24 or /64. Large senders, who retry from another host, wait once for all of their hosts.
//! - Nobody waits who passed before, for whichever customer; whom DNS lists vouch for; to whom the customer's domain wrote
//!   ([`Correspondents`]); or, where the domain asks only the suspicious, who has no blemish.
//! - The clock of a first try is not set back by early retries.
//! - Sender and recipient are compared in lower case, and runs of digits in the sender's local part count as one `#`: mailing
//!   lists and newsletters number the sender of every message (VERP, `bounce-4711-joe=customer.example@list.example`).
//! - **The null sender is never asked to wait.** Callouts, by which other servers ask whether an address of ours exists before
//!   they take our customers' mail, come with it and do not come back; and a bounce that is delayed looks like mail that was
//!   lost. Spam that uses the null sender is judged by its content like all other.
//! - `postmaster@` and `abuse@` are never asked to wait: they are where people turn who have trouble with us (RFC 2142).
//! - What it costs is counted ([`statistics`]), and what never came back is listed ([`lost`]).
//!
//! The domains that want it and the networks of `limits.allow` are the caller's to know. State lives in the store's memory,
//! which may be lost: then everybody is new again. A memory that does not work lets everybody pass, since asking again forever
//! would lose mail.

mod correspondents;
mod lost;
mod newcomer;
mod record;
mod statistics;
mod sweep;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use self::lost::Lost;
use self::newcomer::{Proven, sender_organisation};
use self::record::{KNOWN, Knock, Record, TRY, known_key, pair, show, signer_key, try_key};
use self::statistics::Statistics;
use crate::config::{self, Greylisting};
use crate::mail::{Address, Client, Domain, ReversePath, Timestamp};
use crate::store::Memory;

pub use correspondents::Correspondents;
pub(super) use newcomer::owner;

pub use lost::{LOST_MAX, LostTry, WhichLost};
pub use newcomer::{Identity, Newcomer, SpfProof};
pub use statistics::{DAYS_MAX, GreylistDay, GreylistStatistics};

/// Asks newcomers to come back. State in the store's memory. Cloning shares it.
#[derive(Clone)]
pub struct Greylist {
    memory: Memory,
    pub correspondents: Correspondents,
    statistics: Statistics,
    /// First tries in memory: counted up and down here, and anew by each sweep.
    waiting: Arc<AtomicUsize>,
    /// The same for what DKIM has proven.
    signers: Arc<AtomicUsize>,
    /// First tries that never came back, since the start.
    lost: Arc<AtomicU64>,
    sweeping: Arc<AtomicBool>,
}

/// The answer for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GreylistAnswer {
    Pass(Passed),
    /// Ask again in so many seconds.
    Wait {
        seconds: u64,
        tries: u32,
    },
}

/// Why somebody passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It passed before, or an operator allowed it.
    Known,
    /// Nobody asks it to wait: null sender, postmaster, vouched for, a correspondent, not suspicious.
    Excused,
    /// It was asked to come back, and did so long after its first try.
    CameBack { after: Duration },
    /// There is no room to remember it, or the memory does not work.
    Unremembered,
}

impl Passed {
    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Passed::Known => "known",
            Passed::Excused => "excused",
            Passed::CameBack { .. } => "came-back",
            Passed::Unremembered => "unremembered",
        }
    }
}

/// One record as `greylist list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GreylistRecord {
    /// `waiting`, `passed` or `allowed`.
    pub state: String,
    /// 192.0.2.0/24, one host as 192.0.2.7/32, or an organisation's domain.
    pub network: String,
    /// As it is compared, with `#` for digits. Empty for what holds for the whole network or organisation.
    pub sender: String,
    pub recipient: String,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// Tries; of who passed, its messages, of which at most one a minute is counted.
    pub attempts: u32,
    pub expires: Timestamp,
}

/// More first tries than this are not remembered but pass: a flood of invented senders must not fill the disk.
const WAITING_MAX: usize = 1_000_000;

/// Places with the organisations whose signatures came from there; more are not remembered.
const SIGNERS_MAX: usize = 100_000;

/// A busy sender's record is not written more often.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// Nor a signature's.
const SIGNED_EVERY: Duration = Duration::from_secs(86_400);

/// First tries looked at for one sender and recipient. Of more, that many strangers take the same sender's name; then only those
/// that are found by their own identity count.
const TRIES_MAX: usize = 32;

/// Records read at a time.
const PAGE: usize = 1000;

/// A first try with its key.
type Tried = (Vec<u8>, Knock);

impl Greylist {
    pub fn new(memory: Memory) -> Greylist {
        Greylist {
            correspondents: Correspondents::new(memory.clone()),
            statistics: Statistics::new(memory.clone()),
            memory,
            waiting: Arc::default(),
            signers: Arc::default(),
            lost: Arc::default(),
            sweeping: Arc::default(),
        }
    }

    /// Asks and remembers. `spf` is waited for only where the answer hangs on it.
    pub async fn check(
        &self,
        settings: &config::Greylist,
        newcomer: &Newcomer<'_>,
        spf: impl Future<Output = SpfProof>,
        now: Timestamp,
    ) -> GreylistAnswer {
        let Some(sender) = newcomer.sender.address().filter(|_| !is_role(newcomer.recipient)) else {
            self.statistics.passed(now).await;
            return GreylistAnswer::Pass(Passed::Excused);
        };
        let pair = pair(sender, newcomer.recipient);
        let mut proven = newcomer.proven();
        let tried = self.tried(&pair).await;
        match self.passes_at_once(settings, newcomer, sender, &mut proven, spf, now).await {
            Some(why) => {
                let organisation = sender_organisation(newcomer.sender);
                let is_own = |knock: &Knock| knock.is_by(&proven) || organisation.as_ref().is_some_and(|own| knock.is_of(own));
                let own = tried.into_iter().filter(|(_, knock)| knock.counts(now) && is_own(knock)).collect();
                GreylistAnswer::Pass(self.passed_at_once(why, own, now).await)
            }
            None => self.knock(settings, newcomer, &proven, pair, tried, now).await,
        }
    }

    /// Cheap questions first; SPF and what DKIM said before are asked last, and add to what is proven.
    /// Why it would let them pass at once; `None`: it would ask to come back, if they have not done so. Counts nothing.
    pub async fn would_pass(
        &self,
        settings: &config::Greylist,
        newcomer: &Newcomer<'_>,
        spf: SpfProof,
        now: Timestamp,
    ) -> Option<Passed> {
        let Some(sender) = newcomer.sender.address().filter(|_| !is_role(newcomer.recipient)) else {
            return Some(Passed::Excused);
        };
        let mut proven = newcomer.proven();
        self.passes_at_once(settings, newcomer, sender, &mut proven, async { spf }, now).await
    }

    async fn passes_at_once(
        &self,
        settings: &config::Greylist,
        newcomer: &Newcomer<'_>,
        sender: &Address,
        proven: &mut Proven,
        spf: impl Future<Output = SpfProof>,
        now: Timestamp,
    ) -> Option<Passed> {
        if newcomer.is_vouched {
            return Some(Passed::Excused);
        }
        for identity in proven.known_by() {
            if self.is_known(settings, &identity, now).await {
                return Some(Passed::Known);
            }
        }
        if let Some(domain) = newcomer.recipient.domain()
            && self.correspondents.is_correspondent(domain, sender, now).await
        {
            return Some(Passed::Excused);
        }
        let spf = spf.await;
        proven.is_denied = spf == SpfProof::Blemish;
        if let Some(organisation) = sender_organisation(newcomer.sender)
            && (spf == SpfProof::Pass || self.has_signed(proven, &organisation, now).await)
        {
            if self.is_known(settings, &Identity::Organisation(organisation.clone()), now).await {
                return Some(Passed::Known);
            }
            proven.add(organisation);
        }
        let is_asked = match newcomer.how {
            Greylisting::Always => true,
            Greylisting::Suspicious => newcomer.is_suspicious || proven.is_denied,
            Greylisting::Off => false,
        };
        (!is_asked).then_some(Passed::Excused)
    }

    /// It may have been asked to wait before there was a reason to let it pass: then it came back.
    async fn passed_at_once(&self, why: Passed, own: Vec<Tried>, now: Timestamp) -> Passed {
        let came_back = self.came_back(own, now).await;
        if came_back.is_none() {
            self.statistics.passed(now).await;
        }
        came_back.unwrap_or(why)
    }

    /// A first try, or one more.
    async fn knock(
        &self,
        settings: &config::Greylist,
        newcomer: &Newcomer<'_>,
        proven: &Proven,
        pair: Vec<u8>,
        tried: Vec<Tried>,
        now: Timestamp,
    ) -> GreylistAnswer {
        let own_key = try_key(pair, &proven.best());
        let mut own: Vec<Tried> = tried.iter().filter(|(_, knock)| knock.counts(now) && knock.is_by(proven)).cloned().collect();
        own.sort_by_key(|(_, knock)| knock.record.first);
        let key = own.first().map_or(own_key, |(key, _)| key.clone());
        if let Some((_, over)) = tried.iter().find(|(known, knock)| *known == key && !knock.record.lives(now)) {
            // It came back after the window: what is remembered of it now takes the place of what was lost.
            let mut lost = Lost::default();
            lost.add(&key, over);
            self.was_lost(over, now).await;
            self.keep_lost(lost).await;
        }
        // None: full, or the memory does not work.
        let Some(knock) = self.remember(settings, newcomer, proven, key.clone(), now).await else {
            self.statistics.passed(now).await;
            return GreylistAnswer::Pass(Passed::Unremembered);
        };
        let rest = knock.rest(settings.delay, now);
        if !rest.is_zero() {
            return GreylistAnswer::Wait { seconds: rest.as_millis().div_ceil(1000) as u64, tries: knock.record.attempts };
        }
        // Known first: between the two writes it is there twice, never not at all.
        for identity in proven.earned_by() {
            self.memory.put(known_key(&identity), Record::first(now, settings.remember).encode()).await;
        }
        let after = now.since(knock.record.first);
        own.retain(|(known, _)| *known != key);
        own.push((key, knock));
        GreylistAnswer::Pass(self.came_back(own, now).await.unwrap_or(Passed::CameBack { after }))
    }

    async fn remember(
        &self,
        settings: &config::Greylist,
        newcomer: &Newcomer<'_>,
        proven: &Proven,
        key: Vec<u8>,
        now: Timestamp,
    ) -> Option<Knock> {
        let is_full = self.waiting.load(Ordering::Relaxed) >= WAITING_MAX;
        let first = Knock::first(newcomer, proven, settings.window, now);
        let knock = move |known: Option<&[u8]>| match known.and_then(Knock::decode).map(|known| known.again(now)) {
            Some(Some(again)) => Some(again.encode()),
            // In the place of one that is over: no more than before.
            Some(None) => Some(first.encode()),
            None if is_full => None,
            None => Some(first.encode()),
        };
        let knock = Knock::decode(&self.memory.update(key, knock).await?)?;
        if knock.record.attempts == 1 {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            self.statistics.delayed(now).await;
        }
        Some(knock)
    }

    /// Ends these first tries. Each is counted once, whoever else ends it at the same time; `None`: there was none.
    async fn came_back(&self, tried: Vec<Tried>, now: Timestamp) -> Option<Passed> {
        let mut longest = None;
        for (key, knock) in tried {
            if self.memory.remove(key).await {
                count_down(&self.waiting);
                self.statistics.came_back(knock.record.first, now).await;
                longest = longest.max(Some(now.since(knock.record.first)));
            }
        }
        longest.map(|after| Passed::CameBack { after })
    }

    async fn was_lost(&self, knock: &Knock, now: Timestamp) {
        count_down(&self.waiting);
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.statistics.lost(knock.record.first, now).await;
    }

    async fn tried(&self, pair: &[u8]) -> Vec<Tried> {
        let tried = self.memory.scan(pair.to_vec(), None, TRIES_MAX).await;
        tried.into_iter().filter_map(|(key, value)| Some((key, Knock::decode(&value)?))).collect()
    }

    /// Somebody who passed or is allowed; each message renews it.
    async fn is_known(&self, settings: &config::Greylist, identity: &Identity, now: Timestamp) -> bool {
        let key = known_key(identity);
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

    /// Whether mail signed by the organisation has come from there.
    async fn has_signed(&self, proven: &Proven, organisation: &Domain, now: Timestamp) -> bool {
        for place in proven.places() {
            let signed = self.memory.get(signer_key(&place, organisation)).await;
            if signed.as_deref().and_then(Record::decode).is_some_and(|signed| signed.lives(now)) {
                return true;
            }
        }
        false
    }

    /// A message came in whose signature by `signer` is right (DKIM). From now on mail of that organisation from there is known as
    /// the organisation's. Only signatures by the sender's own organisation are of use.
    pub async fn signed(
        &self,
        settings: &config::Greylist,
        client: &Client,
        sender: &ReversePath,
        signer: &Domain,
        now: Timestamp,
    ) {
        let signer = signer.organisation();
        if sender_organisation(sender).as_ref() != Some(&signer) {
            return;
        }
        let Some(place) = Proven::of(client).places().into_iter().next() else { return };
        let key = signer_key(&place, &signer);
        let known = self.memory.get(key.clone()).await;
        let known = known.as_deref().and_then(Record::decode).filter(|known| known.lives(now));
        let is_full = self.signers.load(Ordering::Relaxed) >= SIGNERS_MAX;
        if known.as_ref().map_or(is_full, |known| now.since(known.last) < SIGNED_EVERY) {
            return;
        }
        if known.is_none() {
            self.signers.fetch_add(1, Ordering::Relaxed);
        }
        self.memory.put(key, Record::first(now, settings.remember).encode()).await;
    }
}

/// For operators.
impl Greylist {
    /// Newest last; without what has expired.
    pub async fn list(&self, now: Timestamp, most: usize) -> Vec<GreylistRecord> {
        let mut newest = Vec::new();
        for prefix in [TRY, KNOWN] {
            let mut after = None;
            while let Some(page) = self.page(prefix, &mut after).await {
                let shown = page.iter().filter_map(|(key, value)| show(key, value));
                newest.extend(shown.filter(|record| record.expires > now));
                keep_newest(&mut newest, most);
            }
        }
        newest
    }

    /// Lets everything from there pass, for `remember` from now and renewed by each message.
    pub async fn allow(&self, settings: &config::Greylist, identity: &Identity, now: Timestamp) {
        let record = Record { allowed: true, ..Record::first(now, settings.remember) };
        self.memory.put(known_key(identity), record.encode()).await;
    }

    /// The last `days` days.
    pub async fn statistics(&self, days: usize, now: Timestamp) -> GreylistStatistics {
        self.statistics.report(days, now).await
    }

    /// Writes down the numbers that are not written down yet: before the end.
    pub async fn save(&self, now: Timestamp) {
        self.statistics.save(now).await;
    }

    /// First tries that are waited for.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// First tries found since the start that never came back.
    pub fn lost_since_start(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
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

/// Keeps those seen last, in the order in which they were seen.
fn keep_newest(records: &mut Vec<GreylistRecord>, most: usize) {
    records.sort_by_key(|record| record.last_seen);
    records.drain(..records.len().saturating_sub(most));
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
