//! Teaching the gateway: what operators call spam and ham, what leaves quarantine, and what users report.
//!
//! Messages come as lessons (digest and hashed tokens), made by whoever read them; only what is in the queue is read here.

use serde::{Deserialize, Serialize};

use super::answers::SteeringReport;
use super::operations::{OperationError, Operations, Selection};
use crate::checks::{self, Reputed};
use crate::flow::{LessonError, LessonStats};
use crate::mail::{Domain, HeaderSection, QueueId, SpamLevel, Status, Verdict};
use crate::queue::{By, Mode, Selector, Steer};
use crate::spam::{Authors, Digest, Facts, Label, Lesson, attached};
use crate::store::{Entry, Taught};

pub use crate::flow::tags;

/// Messages in one order.
pub const ORDER_MAX: usize = 1000;
/// Messages that are learned from when they leave quarantine together; all of them leave.
const LEAVING_MAX: usize = 200;
/// Of a report, in bytes: messages are attached to it.
const REPORT_MAX: u64 = 64 << 20;
/// Reasons that are told.
const REASONS_MAX: usize = 20;

/// What became of messages that were to be learned or forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LessonReport {
    #[serde(flatten)]
    pub taught: Taught,
    #[serde(default)]
    pub forgotten: usize,
    /// Were to be forgotten, and never learned.
    #[serde(default)]
    pub unknown: usize,
    /// Nothing can be learned from them.
    #[serde(default)]
    pub unreadable: usize,
    /// The first ones: which, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Nothing was changed: this is what would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

impl LessonReport {
    pub fn add(&mut self, other: &LessonReport) {
        self.add_taught(other.taught);
        self.forgotten += other.forgotten;
        self.unknown += other.unknown;
        self.unreadable += other.unreadable;
        self.reasons.extend_from_slice(&other.reasons);
        self.reasons.truncate(REASONS_MAX);
        self.dry_run |= other.dry_run;
    }

    pub fn add_taught(&mut self, other: Taught) {
        self.taught.learned += other.learned;
        self.taught.changed += other.changed;
        self.taught.known += other.known;
    }

    pub fn add_unreadable(&mut self, which: &str, why: &str) {
        self.unreadable += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(format!("{which}: {why}"));
        }
    }
}

type Answer<T> = Result<T, OperationError>;

impl Operations {
    /// Learns messages for a domain, or for the platform.
    pub async fn lessons_learn(
        &self,
        lessons: Vec<Lesson>,
        label: Label,
        scope: Option<Domain>,
        by: &str,
        mode: Mode,
    ) -> Answer<LessonReport> {
        self.lesson_scope(scope.as_ref())?;
        let count = lessons.len();
        if count == 0 || count > ORDER_MAX || lessons.iter().any(|lesson| lesson.tokens.hashes().is_empty()) {
            return Err(OperationError::Invalid(format!("give from 1 to {ORDER_MAX} messages, each with its tokens")));
        }
        let taught = match mode {
            Mode::ForReal => self.lessons.learn(lessons, label, scope, by).await?,
            Mode::DryRun => self.lessons.would_learn(lessons, label, scope).await?,
        };
        Ok(LessonReport { taught, dry_run: mode == Mode::DryRun, ..LessonReport::default() })
    }

    /// Forgets messages, as if they had never been learned.
    pub async fn lessons_forget(
        &self,
        digests: Vec<Digest>,
        scope: Option<Domain>,
        by: &str,
        mode: Mode,
    ) -> Answer<LessonReport> {
        let count = digests.len();
        if count == 0 || count > ORDER_MAX {
            return Err(OperationError::Invalid(format!("give from 1 to {ORDER_MAX} digests")));
        }
        let forgotten = match mode {
            Mode::ForReal => self.lessons.forget(digests, scope, by).await?,
            Mode::DryRun => self.lessons.would_forget(digests, scope).await?,
        };
        let unknown = count - forgotten;
        Ok(LessonReport { forgotten, unknown, dry_run: mode == Mode::DryRun, ..LessonReport::default() })
    }

    /// Learns (or, without a label, forgets) a message in the queue or in quarantine; or the messages attached to it.
    pub async fn lessons_queued(
        &self,
        id: QueueId,
        take: Take,
        label: Option<Label>,
        scope: Option<Domain>,
        by: &str,
        mode: Mode,
    ) -> Answer<LessonReport> {
        let mut report = LessonReport { dry_run: mode == Mode::DryRun, ..LessonReport::default() };
        let mut lessons = Vec::new();
        for lesson in self.read_lessons(id, take).await? {
            match lesson {
                Ok(lesson) => lessons.push(lesson),
                Err(why) => report.add_unreadable(&id.to_string(), &why),
            }
        }
        if !lessons.is_empty() {
            let digests = lessons.iter().map(|lesson| lesson.digest).collect();
            let done = match label {
                Some(label) => self.lessons_learn(lessons, label, scope.clone(), by, mode).await?,
                None => self.lessons_forget(digests, scope.clone(), by, mode).await?,
            };
            report.add(&done);
            // Of messages attached to it neither the envelope is known nor what was proven.
            if let (Some(label), Some(domain), Take::Itself, Mode::ForReal) = (label, scope, take, mode)
                && done.taught.learned > 0
                && let Ok(entry) = self.entry(id).await
                && let Some(who) = self.sender_of(&entry).await
            {
                self.sender_taught(&domain, &who, label).await;
            }
        }
        Ok(report)
    }

    /// A user of a domain reports the messages attached to this one: for the domain alone.
    pub async fn lessons_report(&self, domain: &Domain, content: Vec<u8>, label: Label, by: &str) -> Answer<LessonReport> {
        self.lesson_scope(Some(domain))?;
        let taught = self.lessons.report(domain, content, label, tags(&self.config.load()), by).await?;
        Ok(LessonReport { taught, ..LessonReport::default() })
    }

    pub async fn lessons_stats(&self) -> Answer<LessonStats> {
        Ok(self.lessons.stats().await?)
    }

    /// Releases or deletes what is in quarantine, and learns what that says of it for the domains of its recipients: each may see
    /// it its own way. What is not learned leaves all the same.
    pub async fn leave_quarantine(
        &self,
        steer: Steer,
        selection: &Selection,
        by: By,
        mode: Mode,
        label: Option<Label>,
    ) -> Answer<SteeringReport> {
        let name = by.name.clone();
        // Before it leaves: afterwards there may be nothing left to read.
        let leaving = match (label, mode) {
            (Some(label), Mode::ForReal) => self.leaving(selection).await?.into_iter().map(|found| (label, found)).collect(),
            _ => Vec::new(),
        };
        let mut report = self.queue_steer(steer, selection, by, mode).await?;
        if report.messages == 0 {
            return Ok(report);
        }
        let mut learned = 0;
        for (label, Leaving { domain, lesson, sender }) in leaving {
            match self.lessons.learn(vec![lesson], label, Some(domain.clone()), &name).await {
                Ok(taught) => {
                    learned += taught.learned;
                    // Who says the same twice has said it once.
                    if let Some(who) = sender.filter(|_| taught.learned > 0) {
                        self.sender_taught(&domain, &who, label).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "what left quarantine could not be learned");
                    report.note = format!("not learned: {error}");
                }
            }
        }
        if let Some(label) = label.filter(|_| learned > 0) {
            report.note = format!("learned {learned} as {} for the recipients' domains", label.as_str());
        }
        Ok(report)
    }

    /// What is meant, in quarantine and clean of viruses: each domain with the lesson.
    async fn leaving(&self, selection: &Selection) -> Answer<Vec<Leaving>> {
        let selector = selection.steering(self.clock.now())?;
        let selector = Selector { state: selector.state.clone().or(Some("quarantined".to_owned())), ..selector };
        let mut found = Vec::new();
        for entry in self.queue.list(&selector, None, LEAVING_MAX).await? {
            let judged = entry.progress.judgement.as_ref();
            // Only what was called spam can be called otherwise; what could not be scanned says nothing about spam.
            if !judged.is_some_and(|judged| judged.verdict == Verdict::Clean && judged.level > SpamLevel::None) {
                continue;
            }
            let mut domains: Vec<Domain> = selector
                .recipients(&entry.envelope, &entry.progress)
                .filter(|index| matches!(entry.progress.recipients[*index].status, Status::Quarantined { .. }))
                .filter_map(|index| entry.envelope.recipients[index].address.domain().cloned())
                .collect();
            domains.sort();
            domains.dedup();
            let lessons = self.read_lessons(entry.envelope.id, Take::Itself).await?;
            let sender = self.sender_of(&entry).await;
            for lesson in lessons.into_iter().flatten() {
                let leaving =
                    |domain: &Domain| Leaving { domain: domain.clone(), lesson: lesson.clone(), sender: sender.clone() };
                found.extend(domains.iter().map(leaving));
            }
        }
        Ok(found)
    }

    /// Who answers for a message, as far as it was proven when it was judged. `None` also when it cannot be read: then the sender's
    /// reputation stays as it is.
    async fn sender_of(&self, entry: &Entry) -> Option<Reputed> {
        let Entry { envelope, progress } = entry;
        let findings = &progress.judgement.as_ref()?.authentication.findings;
        let head = self.store.body(envelope.id).await.ok()?.head(Facts::CONTENT_MAX).await.ok()?;
        let head = &head[..HeaderSection::parse(&head).end];
        Reputed::of(envelope, &Authors::of(&Facts::gather(envelope, head)).addresses, findings)
    }

    /// The sender's reputation at this customer learns what a message of it was.
    async fn sender_taught(&self, domain: &Domain, who: &Reputed, label: Label) {
        let taught = match label {
            Label::Spam => checks::Taught::Spam,
            Label::Ham => checks::Taught::Ham,
        };
        self.checks.acquaintance.reputation.taught(domain, who, taught, self.clock.now()).await;
    }

    /// The inner errors: why nothing can be learned, in words.
    async fn read_lessons(&self, id: QueueId, take: Take) -> Answer<Vec<Result<Lesson, String>>> {
        self.entry(id).await?;
        let body = self.store.body(id).await?;
        let most = if take == Take::Attached { REPORT_MAX } else { Facts::CONTENT_MAX };
        let head = body.head(most).await.map_err(|error| OperationError::Failed(format!("{id} cannot be read: {error}")))?;
        let tags = tags(&self.config.load());
        let read = tokio::task::spawn_blocking(move || take.lessons(&head, &tags));
        read.await.map_err(|broken| OperationError::Failed(format!("reading {id} broke off: {broken}")))
    }

    /// What a domain learned that is not served any more would only be in the way.
    fn lesson_scope(&self, scope: Option<&Domain>) -> Answer<()> {
        match scope {
            Some(domain) if self.config.load().domain(domain).is_none() => {
                Err(OperationError::Missing(format!("{domain} is not served here")))
            }
            _ => Ok(()),
        }
    }
}

/// One message that leaves quarantine, and whom it teaches.
struct Leaving {
    domain: Domain,
    lesson: Lesson,
    /// Whose reputation there learns with it.
    sender: Option<Reputed>,
}

/// Which messages are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    Itself,
    /// Those attached to it.
    Attached,
}

impl Take {
    /// The errors: why nothing can be learned, in words.
    pub fn lessons(self, content: &[u8], tags: &[String]) -> Vec<Result<Lesson, String>> {
        let lesson = |content: &[u8]| {
            let most = content.len().min(usize::try_from(Facts::CONTENT_MAX).unwrap_or(usize::MAX));
            Lesson::of(&content[..most], tags).map_err(|why| why.to_string())
        };
        match self {
            Take::Itself => vec![lesson(content)],
            Take::Attached => {
                let inner = attached(content);
                if inner.is_empty() {
                    return vec![Err("no message is attached to it".to_owned())];
                }
                inner.iter().map(|inner| lesson(inner)).collect()
            }
        }
    }
}

impl From<LessonError> for OperationError {
    fn from(error: LessonError) -> OperationError {
        match error {
            LessonError::Store(error) => error.into(),
            LessonError::Closed(_) => OperationError::Failed(error.to_string()),
            LessonError::NoLesson(_) | LessonError::TooMany(_) => OperationError::Refused(error.to_string()),
        }
    }
}
