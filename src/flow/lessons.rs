//! What was learned, in use: the examples on disk, and the weights made of them, which the judgement reads.
//!
//! Learning is durable at once and counts a little later: weights are made anew on a thread of their own, a moment after the
//! last change, and swapped whole. The judgement never waits for that, and mail never waits for either.
//!
//! On failure: lessons that cannot be opened leave the gateway with the shipped model alone; whoever wants to teach it is told
//! why it cannot learn. A lesson that cannot be made durable is an error for who brought it. When weights cannot be made anew
//! the old ones stay.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::config::{Config, Spam};
use crate::mail::{Domain, Timestamp};
use crate::outside::{Clock, Disk};
use crate::spam::{Digest, Example, Label, Learning, Lesson, NoLesson, Tokens, attached};
use crate::store::{LessonRecovery, LessonStatistics, Lessons, StoreError, Taught};
use crate::telemetry::Metrics;

/// What the shipped model says of a message, in natural log-odds.
pub type Base = Arc<dyn Fn(&Tokens) -> f32 + Send + Sync>;

/// After so long without a change weights are made anew.
const QUIET: Duration = Duration::from_secs(2);
/// And after so long in any case.
const DELAY_MAX: Duration = Duration::from_secs(30);
/// Messages that the users of one domain may report in an hour.
const REPORTED_MAX: usize = 100;
const REPORTS_WINDOW: Duration = Duration::from_secs(3600);
/// Reports read at a time: each is in memory as a whole.
const READING_MAX: usize = 2;
/// Lessons that could not be opened are tried again this often: another command may have had them.
const REOPEN: Duration = Duration::from_secs(60);
const DAY_MILLIS: u64 = 86_400_000;

type Opened = Result<(Lessons, LessonRecovery), StoreError>;

/// Keeps lessons and what was learned from them. Cloning shares it.
#[derive(Clone)]
pub struct LessonKeeper(Arc<Shared>);

struct Shared {
    /// `Err`: why nothing can be learned.
    lessons: Mutex<Result<Lessons, String>>,
    open: Box<dyn Fn() -> Opened + Send + Sync>,
    learning: ArcSwap<Learning>,
    base: Mutex<Base>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// Counts changes of the examples, and of the base.
    changes: watch::Sender<u64>,
    /// The count when the weights in use were made.
    learned: AtomicU64,
    training: Mutex<Option<Training>>,
    /// By domain: since when, and how many.
    reports: Mutex<HashMap<Domain, (Timestamp, usize)>>,
    reading: Semaphore,
}

/// The last time that weights were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Training {
    pub at: Timestamp,
    pub examples: usize,
    pub took_millis: u64,
}

/// What is known of learning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LessonStats {
    #[serde(flatten)]
    pub lessons: LessonStatistics,
    /// Tokens with a weight: the platform's, and those of all domains.
    pub weights_platform: usize,
    pub weights_domains: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
    /// Something was learned that does not count yet.
    pub training_due: bool,
}

/// Why nothing was learned.
#[derive(Debug, thiserror::Error)]
pub enum LessonError {
    #[error("nothing can be learned: {0}")]
    Closed(String),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("nothing can be learned from it: {0}")]
    NoLesson(#[from] NoLesson),
    #[error("{0} has reported {REPORTED_MAX} messages within an hour; more are not taken")]
    TooMany(Domain),
}

impl LessonKeeper {
    /// Opens the lessons of a data directory, and learns from them. Blocks.
    pub fn open(data_dir: &Path, disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, base: Base, metrics: Arc<Metrics>) -> LessonKeeper {
        let data_dir = data_dir.to_owned();
        LessonKeeper::with(move || Lessons::open(&data_dir, Arc::clone(&disk)), clock, base, metrics)
    }

    /// With lessons that are opened so. Blocks.
    pub fn with(
        open: impl Fn() -> Opened + Send + Sync + 'static,
        clock: Arc<dyn Clock>,
        base: Base,
        metrics: Arc<Metrics>,
    ) -> LessonKeeper {
        let keeper = LessonKeeper(Arc::new(Shared {
            lessons: Mutex::new(Err(String::new())),
            open: Box::new(open),
            learning: ArcSwap::default(),
            base: Mutex::new(base),
            clock,
            metrics,
            changes: watch::Sender::new(0),
            learned: AtomicU64::new(0),
            training: Mutex::default(),
            reports: Mutex::default(),
            reading: Semaphore::new(READING_MAX),
        }));
        keeper.0.reopen();
        keeper.0.train();
        keeper
    }

    /// What was learned, as it counts now. Cheap.
    pub fn learning(&self) -> Arc<Learning> {
        self.0.learning.load_full()
    }

    /// Makes weights anew after changes, until it is told to stop.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let clock = Arc::clone(&self.0.clock);
        let mut changes = self.0.changes.subscribe();
        if *changes.borrow() != self.0.learned.load(Ordering::SeqCst) {
            changes.mark_changed();
        }
        loop {
            let reopen = async { clock.sleep_until(clock.now() + REOPEN).await };
            let has_changed = tokio::select! {
                changed = changes.changed() => if changed.is_err() { return } else { true },
                () = reopen, if self.0.is_closed() => false,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            if !has_changed {
                // What it finds is a change.
                let _ = self.blocking(|_| Ok(())).await;
                continue;
            }
            let latest = clock.now() + DELAY_MAX;
            loop {
                let quiet = (clock.now() + QUIET).min(latest);
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = clock.sleep_until(quiet) => break,
                    changed = changes.changed() => if changed.is_err() { return },
                }
            }
            self.train().await;
        }
    }

    /// Makes weights anew now.
    pub async fn train(&self) {
        let shared = Arc::clone(&self.0);
        if let Err(broken) = tokio::task::spawn_blocking(move || shared.train()).await {
            tracing::error!(%broken, "learning broke off; what was learned before stays in force");
        }
    }

    /// Another shipped model, or another way to read it.
    pub fn set_base(&self, base: Base) {
        *lock(&self.0.base) = base;
        self.0.changes.send_modify(|count| *count += 1);
    }

    /// Learns messages; durable after `Ok`. `by`: who says so, for the log.
    pub async fn learn(
        &self,
        lessons: Vec<Lesson>,
        label: Label,
        scope: Option<Domain>,
        by: &str,
    ) -> Result<Taught, LessonError> {
        let (examples, domain) = (self.examples(lessons, label, scope.as_ref()), scope);
        let taught = self.blocking(move |lessons| Ok(lessons.learn(&examples)?)).await?;
        let new = taught.learned - taught.changed;
        for (answer, count) in [("new", new), ("changed", taught.changed), ("known", taught.known)] {
            self.0.metrics.lessons(label.as_str(), answer, count);
        }
        if taught.learned > 0 {
            let scope = domain.as_ref().map_or("platform", Domain::as_str);
            let Taught { learned, changed, known } = taught;
            tracing::info!(label = label.as_str(), scope, learned, changed, known, by, "messages were learned");
            self.0.changes.send_modify(|count| *count += 1);
        }
        Ok(taught)
    }

    /// What that would do.
    pub async fn would_learn(&self, lessons: Vec<Lesson>, label: Label, scope: Option<Domain>) -> Result<Taught, LessonError> {
        let examples = self.examples(lessons, label, scope.as_ref());
        self.blocking(move |lessons| Ok(lessons.would_learn(&examples))).await
    }

    /// Forgets messages; how many were known.
    pub async fn forget(&self, digests: Vec<Digest>, scope: Option<Domain>, by: &str) -> Result<usize, LessonError> {
        let domain = scope.clone();
        let forgotten = self.blocking(move |lessons| Ok(lessons.forget(domain.as_ref(), &digests)?)).await?;
        if forgotten > 0 {
            let scope = scope.as_ref().map_or("platform", Domain::as_str);
            tracing::info!(scope, forgotten, by, "messages were forgotten");
            self.0.metrics.lessons("any", "forgotten", forgotten);
            self.0.changes.send_modify(|count| *count += 1);
        }
        Ok(forgotten)
    }

    /// How many of these are known.
    pub async fn would_forget(&self, digests: Vec<Digest>, scope: Option<Domain>) -> Result<usize, LessonError> {
        let known = move |lessons: &mut Lessons| {
            Ok(digests.iter().filter(|digest| lessons.knows(scope.as_ref(), **digest).is_some()).count())
        };
        self.blocking(known).await
    }

    /// Waits until a report may be read into memory, and holds that place.
    pub async fn reading(&self) -> Option<SemaphorePermit<'_>> {
        // `None` only when it is closed, which nobody does.
        self.0.reading.acquire().await.ok()
    }

    /// A user of a domain reports messages, as attachments of this one: learned for that domain alone, and not without end.
    /// What nothing can be learned from is left out, when there is anything else. That the user is one of the domain's is for the
    /// caller to know.
    pub async fn report(
        &self,
        domain: &Domain,
        content: impl AsRef<[u8]> + Send + 'static,
        label: Label,
        tags: Vec<String>,
        by: &str,
    ) -> Result<Taught, LessonError> {
        let read = move || {
            let lesson = |message: &Vec<u8>| Lesson::of(message, &tags);
            let (lessons, wrong): (Vec<_>, Vec<_>) = attached(content.as_ref()).iter().map(lesson).partition(Result::is_ok);
            match wrong.into_iter().find_map(Result::err) {
                Some(why) if lessons.is_empty() => Err(why),
                _ if lessons.is_empty() => Err(NoLesson::NothingAttached),
                _ => Ok(lessons.into_iter().flatten().collect::<Vec<_>>()),
            }
        };
        let broke_off = |broken| LessonError::Closed(format!("the work broke off: {broken}"));
        let lessons = tokio::task::spawn_blocking(read).await.map_err(broke_off)??;
        if !self.may_report(domain, lessons.len()) {
            return Err(LessonError::TooMany(domain.clone()));
        }
        self.learn(lessons, label, Some(domain.clone()), by).await
    }

    pub async fn stats(&self) -> Result<LessonStats, LessonError> {
        let lessons = self.blocking(|lessons| Ok(lessons.statistics())).await?;
        let learning = self.learning();
        let weights_platform = learning.platform.len();
        Ok(LessonStats {
            lessons,
            weights_platform,
            weights_domains: learning.weights() - weights_platform,
            training: *lock(&self.0.training),
            training_due: *self.0.changes.borrow() != self.0.learned.load(Ordering::SeqCst),
        })
    }

    fn may_report(&self, domain: &Domain, count: usize) -> bool {
        let now = self.0.clock.now();
        let mut reports = lock(&self.0.reports);
        reports.retain(|_, (since, _)| now.since(*since) < REPORTS_WINDOW);
        let (_, reported) = reports.entry(domain.clone()).or_insert((now, 0));
        if *reported + count > REPORTED_MAX {
            return false;
        }
        *reported += count;
        true
    }

    fn examples(&self, lessons: Vec<Lesson>, label: Label, scope: Option<&Domain>) -> Vec<Example> {
        let day = day(self.0.clock.now());
        let example = |Lesson { digest, tokens }| Example { digest, label, scope: scope.cloned(), day, tokens };
        lessons.into_iter().map(example).collect()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Lessons) -> Result<T, LessonError> + Send + 'static,
    ) -> Result<T, LessonError> {
        let shared = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            if shared.is_closed() && shared.reopen() {
                shared.changes.send_modify(|count| *count += 1);
            }
            match &mut *lock(&shared.lessons) {
                Ok(lessons) => work(lessons),
                Err(why) => Err(LessonError::Closed(why.clone())),
            }
        });
        done.await.unwrap_or_else(|broken| Err(LessonError::Closed(format!("the work broke off: {broken}"))))
    }
}

impl Shared {
    fn is_closed(&self) -> bool {
        lock(&self.lessons).is_err()
    }

    /// Whether they are open now.
    fn reopen(&self) -> bool {
        let mut lessons = lock(&self.lessons);
        match (self.open)() {
            Ok((opened, recovery)) => {
                report(&recovery);
                *lessons = Ok(opened);
            }
            Err(error) => {
                tracing::error!(%error, "the lessons cannot be opened: what was learned does not count, and nothing can be learned");
                *lessons = Err(error.to_string());
            }
        }
        lessons.is_ok()
    }

    /// Blocks: for thousands of examples a second or two.
    fn train(&self) {
        let started = self.clock.now();
        let (count, read) = match &*lock(&self.lessons) {
            Ok(lessons) => (*self.changes.borrow(), lessons.examples()),
            Err(_) => return,
        };
        let (examples, damaged) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "the lessons cannot be read; what was learned before stays in force");
                return;
            }
        };
        for damaged in damaged {
            tracing::error!(%damaged, "a lesson is damaged and does not count");
        }
        let base = Arc::clone(&*lock(&self.base));
        let learning = Learning::from_examples(&examples, |tokens| base(tokens), day(started));
        let platform = examples.iter().filter(|example| example.scope.is_none()).count();
        let took = self.clock.now().since(started);
        self.metrics.trained(platform, examples.len() - platform, learning.weights(), took);
        tracing::debug!(examples = examples.len(), weights = learning.weights(), ?took, "weights were made anew");
        self.learning.store(Arc::new(learning));
        self.learned.store(count, Ordering::SeqCst);
        let took_millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        *lock(&self.training) = Some(Training { at: started, examples: examples.len(), took_millis });
    }
}

fn report(recovery: &LessonRecovery) {
    for damaged in &recovery.damaged {
        tracing::error!(%damaged, "damaged lessons do not count (see docs/SPAM.md)");
    }
    if recovery.torn > 0 {
        tracing::warn!(bytes = recovery.torn, "an interrupted write of lessons was cut off; nothing of it had been answered");
    }
    tracing::info!(examples = recovery.examples, "the lessons are open");
}

/// What this gateway puts in front of subjects, whatever domain it was for.
pub fn tags(config: &Config) -> Vec<String> {
    let levels = config.domains.values().flat_map(|domain| [&domain.spam.low, &domain.spam.med, &domain.spam.high]);
    let mut tags: Vec<String> = levels.map(|level| level.text.clone()).collect();
    let default = Spam::default();
    tags.extend([default.low.text, default.med.text, default.high.text]);
    tags.sort();
    tags.dedup();
    tags
}

/// In days since 1970.
fn day(at: Timestamp) -> u32 {
    u32::try_from(at.0 / DAY_MILLIS).unwrap_or(u32::MAX)
}

/// Locks; what a panic of somebody who held it left behind is whole: changes under these locks are single steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim;
    use crate::store::LessonBounds;

    fn keeper(clock: &Arc<sim::Clock>) -> LessonKeeper {
        let disk = sim::Disk::new(1);
        disk.create_dir(Path::new("/data")).unwrap();
        let open = move || Lessons::open_simulated(Path::new("/data"), Arc::new(disk.clone()), LessonBounds::default());
        LessonKeeper::with(open, Arc::clone(clock) as Arc<dyn Clock>, Arc::new(|_| 0.0), Arc::new(Metrics::new()))
    }

    fn lesson(subject: &str) -> Lesson {
        Lesson::of(format!("From: ann@sender.example\r\nSubject: {subject}\r\n\r\nspins and jackpots\r\n").as_bytes(), &[])
            .unwrap()
    }

    /// Waits for what other threads must do.
    async fn until(mut is_so: impl FnMut() -> bool) {
        for _ in 0..5000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("waited in vain");
    }

    #[tokio::test]
    async fn what_was_learned_counts_after_a_quiet_moment_or_half_a_minute() {
        let clock = Arc::new(sim::Clock::new());
        let keeper = keeper(&clock);
        let (stop, stopping) = watch::channel(false);
        let running = tokio::spawn(keeper.clone().run(stopping));
        keeper.learn(vec![lesson("one")], Label::Spam, None, "alice").await.unwrap();
        until(|| clock.sleepers() == 1).await;
        assert!(keeper.learning().platform.is_empty() && keeper.stats().await.unwrap().training_due);
        clock.advance(QUIET);
        until(|| !keeper.learning().platform.is_empty()).await;
        let odds = |keeper: &LessonKeeper| keeper.learning().platform.log_odds(&lesson("one").tokens);
        let once = odds(&keeper);
        assert!(once > 0.0);
        // A stream of lessons without a quiet moment.
        for number in 0..16_u32 {
            let changes = *keeper.0.changes.borrow();
            keeper.learn(vec![lesson(&format!("stream {number}"))], Label::Spam, None, "alice").await.unwrap();
            assert_eq!(*keeper.0.changes.borrow(), changes + 1);
            until(|| clock.sleepers() == 1).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            clock.advance(Duration::from_millis(1900));
        }
        until(|| odds(&keeper) > once).await;
        stop.send_replace(true);
        running.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_forgotten_is_gone() {
        let clock = Arc::new(sim::Clock::new());
        let keeper = keeper(&clock);
        let lesson = lesson("one");
        let taught = keeper.learn(vec![lesson.clone(), lesson.clone()], Label::Spam, None, "alice").await.unwrap();
        assert_eq!(taught, Taught { learned: 1, changed: 0, known: 1 });
        assert_eq!(keeper.would_learn(vec![lesson.clone()], Label::Ham, None).await.unwrap().changed, 1);
        assert_eq!(keeper.would_forget(vec![lesson.digest], None).await.unwrap(), 1);
        keeper.train().await;
        assert!(!keeper.learning().platform.is_empty());
        assert_eq!(keeper.forget(vec![lesson.digest], None, "alice").await.unwrap(), 1);
        keeper.train().await;
        assert_eq!(*keeper.learning(), Learning::default());
        assert!(!keeper.stats().await.unwrap().training_due);
    }

    #[tokio::test]
    async fn users_reports_count_for_their_domain_and_have_an_end() {
        let clock = Arc::new(sim::Clock::new());
        let keeper = keeper(&clock);
        let domain = Domain::parse("customer.example").unwrap();
        let report = |number: usize| {
            format!(
                "From: joe@customer.example\r\nSubject: Fwd\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
                 --b\r\nContent-Type: message/rfc822\r\n\r\nFrom: ann@sender.example\r\nSubject: {number}\r\n\r\nspins\r\n--b--\r\n"
            )
            .into_bytes()
        };
        for number in 0..REPORTED_MAX {
            let taught = keeper.report(&domain, report(number), Label::Spam, vec![], "joe").await.unwrap();
            assert_eq!(taught.learned, 1);
        }
        let refused = keeper.report(&domain, report(1000), Label::Spam, vec![], "joe").await;
        assert!(matches!(refused, Err(LessonError::TooMany(_))));
        clock.advance(REPORTS_WINDOW);
        assert!(keeper.report(&domain, report(1000), Label::Spam, vec![], "joe").await.is_ok());
        let nothing = keeper.report(&domain, b"Subject: hi\r\n\r\nhi\r\n".to_vec(), Label::Spam, vec![], "joe").await;
        assert!(matches!(nothing, Err(LessonError::NoLesson(NoLesson::NothingAttached))));
        let stats = keeper.stats().await.unwrap();
        assert_eq!(stats.lessons.scopes.len(), 1);
        assert_eq!(stats.lessons.scopes[0].domain.as_ref(), Some(&domain));
    }

    #[tokio::test]
    async fn without_lessons_the_shipped_model_goes_on_alone() {
        let clock = Arc::new(sim::Clock::new());
        let closed = || Err(StoreError::Damaged("a broken disk".to_owned()));
        let keeper = LessonKeeper::with(closed, clock, Arc::new(|_| 0.0), Arc::new(Metrics::new()));
        assert_eq!(*keeper.learning(), Learning::default());
        let refused = keeper.learn(vec![lesson("one")], Label::Spam, None, "alice").await.unwrap_err();
        assert_eq!(refused.to_string(), "nothing can be learned: damaged record: a broken disk");
    }
}
