//! Telling senders: which notice is due, making it durable, and noting in the message that its sender was told.
//!
//! **Failures are owed.** The record that makes a recipient final also notes that its sender is still to be told
//! (`Progress::untold`), and a message that owes something stays in the spool. The notice becomes durable before the debt is
//! struck out. So at no moment is a failure recorded that nobody will be told of; a crash between the two tells twice.
//!
//! Failures of one message are gathered while others of its recipients are in their first attempt, for at most
//! [`GATHER_MAX`] (and until the next sweep), so that a message refused in ten places is one notice. What fails later, with
//! its lifetime, is a notice of its own: to keep the first back for two days would help nobody.
//!
//! **Delays are told once**, and noted before: after a crash in between nobody is told, which loses nothing.
//!
//! On failure: what cannot be stored now is told after the next attempt, the next sweep or the next start.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::notice::{self, Fate, Kind, Nature, Notice, SenderLimit, Silence, What};
use super::schedule::deliverable;
use super::settle::status_of_class;
use super::state::Shared;
use crate::config::Notices;
use crate::mail::{Address, Decision, Enhanced, Envelope, Failure, Origin, Progress, QueueId, Timestamp};
use crate::store::{Entry, ReceivedBody, StoreError};

/// How long a failure waits for the first attempts at the message's other recipients.
const GATHER_MAX: Duration = Duration::from_secs(10 * 60);

/// What the sender hears about a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Notice(QueueId),
    /// The envelope asks for none.
    Nobody,
    Silence(Silence),
    Later,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Told::Notice(id) => write!(f, "notice={id}"),
            Told::Nobody => f.write_str("no notice"),
            Told::Silence(why) => write!(f, "no notice ({why})"),
            Told::Later => f.write_str("notice to follow"),
        }
    }
}

/// What telling remembers in memory.
#[derive(Default)]
pub(super) struct Telling {
    /// Messages whose failures are being told, and whether there was more to tell meanwhile.
    under_way: Mutex<HashMap<QueueId, bool>>,
    limit: Mutex<SenderLimit>,
}

impl Telling {
    /// The turn to tell about this message; `None` when somebody has it, who then looks again.
    fn begin(&self, id: QueueId) -> Option<Turn<'_>> {
        match locked(&self.under_way).entry(id) {
            Slot::Occupied(mut again) => {
                again.insert(true);
                None
            }
            Slot::Vacant(free) => {
                free.insert(false);
                Some(Turn { telling: self, id, is_over: false })
            }
        }
    }
}

/// Telling about one message; given back when dropped, also by a panic.
struct Turn<'a> {
    telling: &'a Telling,
    id: QueueId,
    is_over: bool,
}

impl Turn<'_> {
    /// Whether somebody came for the same message meanwhile. If not, the turn is over.
    fn again(&mut self) -> bool {
        let mut under_way = locked(&self.telling.under_way);
        let again = under_way.get_mut(&self.id).is_some_and(std::mem::take);
        if !again {
            under_way.remove(&self.id);
            self.is_over = true;
        }
        again
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // What is over may be another's turn by now.
        if !self.is_over {
            locked(&self.telling.under_way).remove(&self.id);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ------------------------------------------------------------------------------------------------------------ failures

impl Shared {
    /// Tells the sender of a message what is owed, unless others of its recipients may fail with it in a moment. What each
    /// recipient's end came to; who is not named is still to be told.
    pub(super) async fn tell_failures(self: &Arc<Self>, id: QueueId) -> Vec<(usize, Told)> {
        let mut told = Vec::new();
        let Some(mut turn) = self.telling.begin(id) else { return told };
        loop {
            match self.tell_what_is_owed(id).await {
                Ok(more) => told.extend(more),
                Err(error) => tracing::error!(%id, %error, "a notice to the sender could not be stored; it is told later"),
            }
            if !turn.again() {
                return told;
            }
        }
    }

    async fn tell_what_is_owed(self: &Arc<Self>, id: QueueId) -> Result<Vec<(usize, Told)>, StoreError> {
        let now = self.clock.now();
        let entry = match self.store.entry(id).await {
            Ok(entry) if self.is_time_to_tell(&entry, now) => entry,
            Ok(_) | Err(StoreError::NotFound) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let untold = &entry.progress.untold;
        let fates: Vec<_> =
            untold.iter().filter(|failure| failure.recipient < entry.envelope.recipients.len()).map(fate).collect();
        // Crash before the notice is durable: the debt stands in the message, and the next start pays it. Crash between the
        // notice and the record below: the sender is told twice, never not at all.
        let told = self.tell(&entry, Kind::Failed, fates, now).await?;
        let paid = Arc::new(untold.clone());
        let strike = || {
            let paid = Arc::clone(&paid);
            self.change(id, move |_, progress: &mut Progress| progress.untold.retain(|failure| !paid.contains(failure)))
        };
        match strike().await {
            // After a failed sync the store goes on in a new segment: once more, or the sender is told again.
            Err(StoreError::Io { .. }) => strike().await.map(drop)?,
            Err(StoreError::NotFound) | Ok(_) => {}
            Err(error) => return Err(error),
        }
        Ok(told)
    }

    /// Something is owed, and no other recipient is in its first attempt, or that takes too long.
    fn is_time_to_tell(&self, entry: &Entry, now: Timestamp) -> bool {
        let progress = &entry.progress;
        let Some(oldest) = progress.untold.iter().map(|failure| failure.at).min() else { return false };
        oldest + GATHER_MAX <= now
            || !(0..progress.recipients.len()).any(|index| {
                deliverable(progress, index) && progress.recipients[index].attempts == 0 && !self.is_behind_outage(entry, index)
            })
    }
}

fn fate(failure: &Failure) -> Fate {
    Fate {
        recipient: failure.recipient,
        what: if failure.expired { What::Expired } else { What::Refused },
        host: failure.host.clone(),
        reply: failure.reply.clone(),
        status: failure.status,
        last_attempt: Some(failure.at),
    }
}

// -------------------------------------------------------------------------------------------------------------- delays

impl Shared {
    /// Tells the sender that the message is late, when it is and when that was not told before.
    pub(super) async fn tell_delay(self: &Arc<Self>, entry: &Entry) {
        let now = self.clock.now();
        let config = self.config.load_full();
        if !is_late(&config.notices, &entry.envelope, &entry.progress, now) {
            return;
        }
        let is_away = self.away(entry);
        if late(&config.notices, &entry.envelope, &entry.progress, &is_away, now).is_empty() {
            return;
        }
        // First the note, then the notice: two attempts may end at the same time, and one notice is enough. Crash in
        // between: nobody is told of the delay, and nothing is lost.
        let id = entry.envelope.id;
        let noted = self.change(id, move |envelope, progress: &mut Progress| {
            let late = late(&config.notices, envelope, progress, &is_away, now);
            if !late.is_empty() {
                progress.delay_told = Some(now);
            }
            late
        });
        let told = match noted.await {
            Ok((_, late)) if late.is_empty() => return,
            Ok((entry, late)) => {
                let fates = late.into_iter().map(|index| self.lateness(&entry, index)).collect();
                self.tell(&entry, Kind::Delayed, fates, now).await.map(drop)
            }
            Err(StoreError::NotFound) => return,
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            tracing::warn!(%id, %error, "the sender could not be told that a message is late");
        }
    }

    /// For each recipient, whether its host is known to be away.
    fn away(&self, entry: &Entry) -> Vec<bool> {
        let recipients = entry.progress.recipients.iter().enumerate();
        recipients.map(|(index, recipient)| recipient.failing_since.is_some() || self.is_behind_outage(entry, index)).collect()
    }

    fn lateness(&self, entry: &Entry, recipient: usize) -> Fate {
        let last = &entry.progress.recipients[recipient].last_reply;
        // RFC 3463 §3.5: X.4.1, no answer from host.
        let no_answer = || ("the recipient's mail server could not be reached".to_owned(), Enhanced(4, 4, 1));
        let (reply, status) = match status_of_class(4, last) {
            Some(status) => (last.clone(), status),
            None if last.is_empty() => no_answer(),
            None => (last.clone(), Enhanced(4, 0, 0)),
        };
        let until = self.lifetime_end(&entry.envelope, &entry.progress, recipient);
        Fate { recipient, what: What::Late { until }, host: None, reply, status, last_attempt: None }
    }
}

/// Whether the message has waited long enough for its sender to be told, and that was not done before.
fn is_late(settings: &Notices, envelope: &Envelope, progress: &Progress, now: Timestamp) -> bool {
    let is_late = settings.delay_after.is_some_and(|after| envelope.received_at + after <= now);
    is_late && progress.delay_told.is_none() && progress.origin == Origin::Client
}

/// The recipients whose sender is to be told that they have not been reached yet. Empty also when that was told.
fn late(settings: &Notices, envelope: &Envelope, progress: &Progress, is_away: &[bool], now: Timestamp) -> Vec<usize> {
    if !is_late(settings, envelope, progress, now) {
        return Vec::new();
    }
    let is_told = |index: &usize| {
        deliverable(progress, *index)
            && notice::is_wanted(Kind::Delayed, envelope, &envelope.recipients[*index])
            && match is_away.get(*index) {
                Some(true) => settings.delay_in_outage,
                // What was never tried is no news.
                _ => progress.recipients[*index].attempts > 0,
            }
    };
    (0..envelope.recipients.len()).filter(is_told).collect()
}

// ---------------------------------------------------------------------------------------------------------------- both

impl Shared {
    /// Makes one notice durable for those of these recipients whose fate is told, and schedules it.
    async fn tell(
        self: &Arc<Self>,
        entry: &Entry,
        kind: Kind,
        fates: Vec<Fate>,
        now: Timestamp,
    ) -> Result<Vec<(usize, Told)>, StoreError> {
        let envelope = &entry.envelope;
        let Some(sender) = envelope.reverse_path.address() else {
            return Ok(fates.iter().map(|fate| (fate.recipient, Told::Nobody)).collect());
        };
        let head = match self.store.body(envelope.id).await {
            Ok(body) => body.head(notice::HEAD_MAX as u64).await.unwrap_or_default(),
            // Better a notice without headers than none.
            Err(_) => bytes::Bytes::new(),
        };
        let nature: Nature = notice::nature(&head, sender);
        let silence = |fate: &Fate| nature.silence(kind, &envelope.recipients[fate.recipient]);
        let mut told: Vec<_> = fates.iter().filter_map(|fate| Some((fate.recipient, Told::Silence(silence(fate)?)))).collect();
        let fates: Vec<_> = fates.into_iter().filter(|fate| silence(fate).is_none()).collect();
        if !fates.is_empty() {
            let sent = self.send(entry, sender, kind, &fates, &head, now).await?;
            told.extend(fates.iter().map(|fate| (fate.recipient, sent)));
        }
        self.log_told(entry, kind, &told, now);
        Ok(told)
    }

    async fn send(
        &self,
        entry: &Entry,
        sender: &Address,
        kind: Kind,
        fates: &[Fate],
        head: &[u8],
        now: Timestamp,
    ) -> Result<Told, StoreError> {
        let config = self.config.load_full();
        if !locked(&self.telling.limit).take(sender, config.notices.per_sender, now) {
            return Ok(Told::Silence(Silence::Limit));
        }
        let id = self.ids.next(now).message(1);
        let (hostname, language, envelope) = (&config.hostname, config.notices.language, &entry.envelope);
        let notice = Notice { id, hostname, now, kind, envelope, fates, head, language };
        let text = notice.compose(sender);
        let envelope = notice.envelope(sender, text.len() as u64);
        // Its origin says that it is never judged: its text is ours, and the headers are those of a judged message.
        let mut progress = Progress::accepted(Origin::Gateway, 1, now);
        progress.recipients[0].decision = Some(Decision::Deliver);
        let stored = match self.store.accept(envelope, progress, ReceivedBody::from_bytes(text.into())).await {
            Ok(stored) => stored,
            Err(error) => {
                locked(&self.telling.limit).give_back(sender);
                return Err(error);
            }
        };
        self.state().schedule.plan_entry(&stored);
        self.wake.notify_one();
        self.maillog.queued(now, &stored.envelope);
        Ok(Told::Notice(id))
    }

    /// One line for each answer.
    fn log_told(&self, entry: &Entry, kind: Kind, told: &[(usize, Told)], now: Timestamp) {
        let mut answers: Vec<Told> = Vec::new();
        for (_, answer) in told {
            if !answers.contains(answer) {
                answers.push(*answer);
            }
        }
        for answer in answers {
            let of = told.iter().filter(|(_, this)| *this == answer);
            let to = of.map(|(index, _)| entry.envelope.recipients[*index].address.to_string()).collect();
            self.maillog.told(now, entry.envelope.id, kind.as_str(), to, &answer.to_string());
            match answer {
                Told::Notice(_) => self.maillog.metrics().noticed(kind.as_str(), "sent"),
                Told::Silence(Silence::Limit) => self.maillog.metrics().noticed(kind.as_str(), "limited"),
                Told::Silence(Silence::Automatic | Silence::List) => self.maillog.metrics().noticed(kind.as_str(), "suppressed"),
                Told::Nobody | Told::Later => {}
            }
        }
    }
}
