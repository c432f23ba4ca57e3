//! Where callouts wait for their turn. One desk for each set of servers, so that domains that share their servers share the
//! two sessions that these are asked for.
//!
//! Invariants:
//! - An address is asked for once at a time; whoever else wants to know waits for the same answer.
//! - Two sessions at most for one set of servers (Exchange takes 20 connections from one address, deliveries and probes
//!   counted), and no session without a question: a worker ends when nothing waits.
//! - What a guesser of addresses can cause is bounded for each domain: questions and refusals in a minute, and questions waiting.
//! - A server that could not be reached is left alone for a while; all who wait for it are told so at once.
//!
//! On failure: no answer, and why; what is done then is decided by who asked.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::callout::{Callout, Outside, nobody};
use super::knowledge::{Knowledge, Known, KnownState, Teacher, Trust};
use super::replies::{Reading, read};
use crate::config::{Config, DomainConfig, NextHop};
use crate::mail::{Address, Domain, Timestamp};

const MINUTE: Duration = Duration::from_secs(60);
/// A client waits no longer for an answer; it is there when it comes again.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
const SESSIONS_MAX: usize = 2;
/// For one domain, in a minute.
const QUESTIONS_PER_MINUTE: u32 = 300;
/// Of those, such as the server refused: somebody guesses.
const REFUSALS_PER_MINUTE: u32 = 30;
/// For one domain, at a time.
const WAITING_MAX: usize = 100;
/// A server that was not reached is left alone so long; doubled each time, up to the second.
const ALONE: Duration = MINUTE;
const ALONE_MAX: Duration = Duration::from_secs(15 * 60);

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The server's reply, and what it says.
    Told { reading: Reading, reply: String },
    /// It could not be asked.
    Failed(String),
    /// It takes its time.
    Slow,
    /// Too many questions for this domain at a time.
    TooMany,
}

/// How callouts ended since the start, for the metrics.
#[derive(Debug, Default)]
pub struct Counts {
    exists: AtomicU64,
    unknown: AtomicU64,
    unclear: AtomicU64,
    failed: AtomicU64,
    /// For addresses that nobody can have.
    tests: AtomicU64,
}

impl Counts {
    pub fn named(&self) -> [(&'static str, u64); 5] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("exists", count(&self.exists)),
            ("unknown", count(&self.unknown)),
            ("unclear", count(&self.unclear)),
            ("failed", count(&self.failed)),
            ("test", count(&self.tests)),
        ]
    }

    fn count(&self, answer: &Asked) {
        let counter = match answer {
            Asked::Told { reading: Reading::Exists, .. } => &self.exists,
            Asked::Told { reading: Reading::Unknown, .. } => &self.unknown,
            Asked::Told { .. } => &self.unclear,
            _ => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// All desks. Cloning shares them.
#[derive(Clone)]
pub struct Desks {
    shared: Arc<Shared>,
}

struct Shared {
    desks: Mutex<HashMap<Servers, Desk>>,
    outside: Outside,
    knowledge: Knowledge,
    counts: Counts,
}

/// The servers that are asked, and on which port.
type Servers = (Vec<NextHop>, Option<u16>);

#[derive(Default)]
struct Desk {
    waiting: VecDeque<Question>,
    /// What is being asked, waiting ones included.
    open: HashMap<Address, watch::Receiver<Option<Asked>>>,
    workers: usize,
    /// Sessions in a row that did not come to be.
    failures: u32,
    /// Until then it is left alone, and why.
    alone: Option<(Timestamp, String)>,
    domains: HashMap<Domain, Window>,
}

/// What was asked for one domain lately.
#[derive(Default)]
struct Window {
    since: Timestamp,
    questions: u32,
    refusals: u32,
    /// Waiting or being asked.
    open: usize,
}

struct Question {
    config: Arc<Config>,
    domain: Domain,
    address: Address,
    since: Timestamp,
    answer: watch::Sender<Option<Asked>>,
}

impl Desks {
    pub fn new(outside: Outside, knowledge: Knowledge) -> Desks {
        Desks { shared: Arc::new(Shared { desks: Mutex::default(), outside, knowledge, counts: Counts::default() }) }
    }

    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Asks the domain's server, and waits for its answer as long as a client can be made to wait.
    pub async fn ask(&self, config: &Arc<Config>, settings: &DomainConfig, domain: &Domain, address: &Address) -> Asked {
        let now = self.shared.outside.clock.now();
        let (mut answer, is_slow) = match self.shared.put(config, settings, domain, address, now) {
            Ok(put) => put,
            Err(asked) => return asked,
        };
        if is_slow {
            return Asked::Slow;
        }
        let told = async {
            // The sender is gone without a word only when the gateway stops.
            let told = answer.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
            told.unwrap_or(Asked::Slow)
        };
        tokio::select! {
            biased;
            told = told => told,
            () = self.shared.outside.clock.sleep_until(now + CLIENT_PATIENCE) => Asked::Slow,
        }
    }

    /// Asks without waiting: the answer is for the next time.
    pub fn ask_for_later(&self, config: &Arc<Config>, settings: &DomainConfig, domain: &Domain, address: &Address) {
        let _ = self.shared.put(config, settings, domain, address, self.shared.outside.clock.now());
    }

    /// Whether the domain's servers were not reached when they were last asked, or are left alone for that.
    pub fn is_away(&self, settings: &DomainConfig) -> bool {
        self.shared.desks().get(&servers(settings)).is_some_and(|desk| desk.failures > 0)
    }
}

fn servers(settings: &DomainConfig) -> Servers {
    (settings.deliver_to.clone(), settings.recipients.callout_port)
}

impl Shared {
    fn desks(&self) -> MutexGuard<'_, HashMap<Servers, Desk>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a question to the others, or finds it there. With the answer to come: whether others wait for long already.
    fn put(
        self: &Arc<Self>,
        config: &Arc<Config>,
        settings: &DomainConfig,
        domain: &Domain,
        address: &Address,
        now: Timestamp,
    ) -> Result<(watch::Receiver<Option<Asked>>, bool), Asked> {
        let servers = servers(settings);
        let mut desks = self.desks();
        let desk = desks.entry(servers.clone()).or_default();
        if let Some((_, why)) = desk.alone.as_ref().filter(|(until, _)| now < *until) {
            return Err(Asked::Failed(why.clone()));
        }
        let is_slow = desk.waiting.front().is_some_and(|first| now.since(first.since) > CLIENT_PATIENCE);
        if let Some(answer) = desk.open.get(address) {
            return Ok((answer.clone(), is_slow));
        }
        let window = desk.domains.entry(domain.clone()).or_default();
        if now.since(window.since) >= MINUTE {
            (window.since, window.questions, window.refusals) = (now, 0, 0);
        }
        let is_guessed = window.questions >= QUESTIONS_PER_MINUTE || window.refusals >= REFUSALS_PER_MINUTE;
        if is_guessed || window.open >= WAITING_MAX {
            return Err(Asked::TooMany);
        }
        (window.questions, window.open) = (window.questions + 1, window.open + 1);
        let (sender, answer) = watch::channel(None);
        desk.open.insert(address.clone(), answer.clone());
        let (config, domain, address) = (Arc::clone(config), domain.clone(), address.clone());
        desk.waiting.push_back(Question { config, domain, address, since: now, answer: sender });
        if desk.workers < SESSIONS_MAX {
            desk.workers += 1;
            tokio::spawn(Arc::clone(self).work(servers));
        }
        Ok((answer, is_slow))
    }

    /// Answers questions until none waits.
    async fn work(self: Arc<Self>, servers: Servers) {
        let mut session: Option<Callout> = None;
        while let Some(question) = self.next(&servers) {
            // Whoever asked may have looked before the last answer was remembered.
            if let Some(answer) = self.remembered(&question.address).await {
                self.done(&servers, question, answer);
                continue;
            }
            let answer = self.answer(&servers, &mut session, &question).await;
            self.counts.count(&answer);
            let known = match &answer {
                Asked::Told { reading, reply } => Known::new(*reading, Teacher::Callout, reply, self.outside.clock.now()),
                _ => None,
            };
            match known {
                // Whether that is worth remembering depends on what the server says of nobody. The client need not wait for it.
                Some(known) if matches!(answer, Asked::Told { reading: Reading::Exists, .. }) => {
                    question.answer.send_replace(Some(answer.clone()));
                    if !self.takes_everything(&mut session, &question).await {
                        self.knowledge.learn(&question.address, known).await;
                    }
                }
                Some(known) => drop(self.knowledge.learn(&question.address, known).await),
                None => {}
            }
            self.done(&servers, question, answer);
            if let Some(used) = session.take_if(|session| !session.is_reusable()) {
                used.end().await;
            }
        }
        if let Some(session) = session {
            session.end().await;
        }
    }

    /// The next question; without one the worker is gone, under the same lock.
    fn next(&self, servers: &Servers) -> Option<Question> {
        let mut desks = self.desks();
        let desk = desks.get_mut(servers)?;
        let question = desk.waiting.pop_front();
        desk.workers -= usize::from(question.is_none());
        question
    }

    async fn remembered(&self, address: &Address) -> Option<Asked> {
        let now = self.outside.clock.now();
        let known = self.knowledge.of(address).await?;
        let reading = match known.state {
            KnownState::Exists => Reading::Exists,
            KnownState::Unknown => Reading::Unknown,
            KnownState::Unclear => Reading::Unclear,
        };
        (known.is_fresh(now) && !known.wants_refresh(now)).then_some(Asked::Told { reading, reply: known.reply })
    }

    async fn answer(&self, servers: &Servers, session: &mut Option<Callout>, question: &Question) -> Asked {
        // A session that was used before may have been closed meanwhile, which says nothing about the server.
        if let Some(mut used) = session.take()
            && let Ok(reply) = used.ask(&self.outside, &question.address).await
        {
            *session = Some(used);
            return Asked::Told { reading: read(&reply), reply };
        }
        let mut fresh = match Callout::open(&self.outside, &question.config, &question.domain).await {
            Ok(fresh) => fresh,
            Err(why) => return self.not_reached(servers, &question.domain, why),
        };
        match fresh.ask(&self.outside, &question.address).await {
            Ok(reply) => {
                self.reached(servers);
                *session = Some(fresh);
                Asked::Told { reading: read(&reply), reply }
            }
            Err(why) => self.not_reached(servers, &question.domain, why),
        }
    }

    /// Whether the server takes addresses that nobody can have; asked once for a while.
    async fn takes_everything(&self, session: &mut Option<Callout>, question: &Question) -> bool {
        let now = self.outside.clock.now();
        if let Some(trust) = self.knowledge.trust(&question.domain).await.filter(|trust| trust.until > now) {
            return trust.takes_everything;
        }
        let Some(open) = session.as_mut() else { return false };
        self.counts.tests.fetch_add(1, Ordering::Relaxed);
        let reading = match open.ask(&self.outside, &nobody(&question.domain)).await {
            Ok(reply) => read(&reply),
            Err(_) => {
                *session = None;
                Reading::Later
            }
        };
        let trust = Trust::new(reading, self.outside.clock.now());
        if trust.takes_everything {
            let domain = &question.domain;
            tracing::warn!(%domain, "the server takes every address: callouts tell nothing, recipients are taken unasked");
        }
        self.knowledge.set_trust(&question.domain, Some(trust)).await;
        trust.takes_everything
    }

    fn reached(&self, servers: &Servers) {
        if let Some(desk) = self.desks().get_mut(servers) {
            (desk.failures, desk.alone) = (0, None);
        }
    }

    /// The server is left alone for a while, and all who wait for it are told.
    fn not_reached(&self, servers: &Servers, domain: &Domain, why: String) -> Asked {
        let now = self.outside.clock.now();
        let told = Asked::Failed(why.clone());
        let mut desks = self.desks();
        let Some(desk) = desks.get_mut(servers) else { return told };
        let wait = ALONE.saturating_mul(1 << desk.failures.min(10)).min(ALONE_MAX);
        tracing::info!(target: "mail", %domain, why, "callouts get no answer; recipients are decided by what is known");
        desk.failures = desk.failures.saturating_add(1);
        desk.alone = Some((now + wait, why));
        for question in std::mem::take(&mut desk.waiting) {
            desk.close(question, told.clone());
        }
        told
    }

    fn done(&self, servers: &Servers, question: Question, answer: Asked) {
        if let Some(desk) = self.desks().get_mut(servers) {
            if matches!(answer, Asked::Told { reading: Reading::Unknown | Reading::Unclear, .. })
                && let Some(window) = desk.domains.get_mut(&question.domain)
            {
                window.refusals += 1;
            }
            desk.close(question, answer);
        }
    }
}

impl Desk {
    fn close(&mut self, question: Question, answer: Asked) {
        self.open.remove(&question.address);
        if let Some(window) = self.domains.get_mut(&question.domain) {
            window.open = window.open.saturating_sub(1);
        }
        question.answer.send_replace(Some(answer));
    }
}
