//! The path of a message, read from top to bottom.
//!
//! ```text
//! RECEIVE   connected → sender → recipient (greylist) → content → committed ⇒ 250
//! JUDGE     scanned → classified → decided: deliver | delete | quarantine | reject (only while the sender still waits)
//! DELIVER   due → routed → offered → settled: delivered | retry | held | bounced
//! ```
//!
//! A users' report leaves the path after RECEIVE: it teaches, and is not kept (`reports`). Judging uses what was taught (`lessons`), and
//! each recipient's domain sees a message with its own settings and memory (`domains`).
//!
//! Each phase is a few short functions; what happens on failure stands above each. Details live in the leaves: `smtp` speaks,
//! `checks` asks, `store` keeps, `scan` and `spam` judge, `queue` schedules and settles. This file decides nothing by itself but
//! the order; `decide` is pure.

mod attempt;
mod classify;
mod decide;
mod domains;
mod door;
mod explain;
mod lessons;
mod limits;
mod reports;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::checks::Checks;
use crate::config::{CheckMode, Config, Current};
use crate::mail::{
    Authentication, Client, Decision, Enhanced, Envelope, Host, Judgement, Mailbox, Outcome, QueueId, Recipient, Reply,
    ReversePath, Rewrite, Scope, SessionId, Timestamp, Verdict, mark,
};
use crate::outside::{Body, Clock, Resolver, Scanner, Transport};
use crate::queue::{Delivery, Hop, Job, Probe, Queue, RouteFailure, route, route_to};
use crate::smtp::{ConnectFailure, Connection, Incoming, Timeouts, TlsMemory, TlsUse};
use crate::spam::{Assessment, Engine, Vector};
use crate::store::{BodyWriter, Entry, ReceivedBody, Store, StoreError};
use crate::telemetry::MailLog;

use attempt::Attempt;
use classify::Classified;
pub use decide::{Sender, decide};
pub use lessons::{Base, LessonError, LessonKeeper, LessonStats, Training, tags};
pub use limits::Consequence;

/// Everything the path needs, wired once by the daemon (or by a test, with the simulated outside).
pub struct Flow {
    pub config: Current,
    pub clock: Arc<dyn Clock>,
    pub resolver: Arc<dyn Resolver>,
    pub scanner: Arc<dyn Scanner>,
    pub transport: Arc<dyn Transport>,
    pub store: Store,
    pub queue: Queue,
    pub checks: Checks,
    pub engine: ArcSwap<Engine>,
    /// What operators and users taught.
    pub lessons: LessonKeeper,
    pub maillog: MailLog,
    pub tls_memory: TlsMemory,
    pub timeouts: Timeouts,
}

/// How long each host may take to answer a probe.
const PROBE_PATIENCE: Duration = Duration::from_secs(2 * 60);

// ------------------------------------------------------------------------------------------------------------ RECEIVE

impl Flow {
    /// The settings in force; a session takes them once.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Connected: the client's name is asked for while the dialogue goes on.
    pub fn connected(&self, address: IpAddr) -> Client {
        self.checks.clients.prefetch(&self.config(), address);
        Client::new(address)
    }

    /// Sender. A full disk is said here already, before the client sends a text for nothing; so is that it sends too much.
    pub async fn sender(&self, sid: SessionId, client: &Client, reverse_path: &ReversePath) -> Reply {
        let room = if self.store.is_full() { Err(Reply::disk_full()) } else { Ok(()) };
        match room.and_then(|()| self.may_send(client, reverse_path)) {
            Ok(()) => Reply::new(250, Enhanced(2, 1, 0), "Ok"),
            Err(reply) => {
                self.maillog.refused(self.now(), sid, client.address, "mail", Some(reverse_path), None, &reply);
                self.explained(client, reverse_path, None, reply).await
            }
        }
    }

    /// Recipient: asked about, and a refusal explained. Whoever is refused here keeps the mail and can come back.
    pub async fn recipient(
        &self,
        sid: SessionId,
        client: &Client,
        from: &ReversePath,
        incoming: Incoming,
    ) -> Result<Recipient, Reply> {
        let to = explain::written_to(&incoming);
        match self.recipient_asked(sid, client, from, incoming).await {
            Err(reply) => Err(self.explained(client, from, to, reply).await),
            taken => taken,
        }
    }

    /// One of ours that exists, from a client that is welcome, within its limits, and not a first try. A customer's own server may
    /// write to anybody.
    async fn recipient_asked(
        &self,
        sid: SessionId,
        client: &Client,
        from: &ReversePath,
        incoming: Incoming,
    ) -> Result<Recipient, Reply> {
        let config = self.config();
        let typed = match &incoming.mailbox {
            Mailbox::Address(address) => address.to_string(),
            Mailbox::Postmaster => "postmaster".to_owned(),
        };
        let refuse = |reply: Reply| {
            self.maillog.refused(self.now(), sid, client.address, "rcpt", Some(from), Some(&typed), &reply);
            reply
        };
        if let Mailbox::Address(address) = &incoming.mailbox
            && config.reports.label_of(address).is_some()
        {
            self.may_report(&config, sid, client, from, address).await.map_err(refuse)?;
            return Ok(Recipient::new(address.clone()));
        }
        let address = door::served(&config, client, from, incoming.mailbox).map_err(refuse)?;
        let sends_out = door::sends_out(&config, client, from);
        let report =
            if sends_out { Arc::default() } else { self.welcome(&config, sid, client, &address).await.map_err(refuse)? };
        self.within_limits(&config, client).map_err(refuse)?;
        self.exists(&config, &address).await.map_err(refuse)?;
        if !sends_out {
            self.greylisted(&config, sid, client, &report, from, &address).await?;
        }
        Ok(Recipient { address, notify: incoming.notify, orcpt: incoming.orcpt })
    }

    /// Content: where it is written while it arrives.
    pub fn receive(&self) -> BodyWriter {
        self.store.receive()
    }

    /// A text refused while it was read, or a client refused at the door: logged, nothing kept.
    pub fn refused(
        &self,
        sid: SessionId,
        client: &Client,
        stage: &'static str,
        reverse_path: Option<&ReversePath>,
        reply: &Reply,
    ) {
        self.maillog.refused(self.now(), sid, client.address, stage, reverse_path, None, reply);
    }

    /// A client that found no place: there is no session to speak of.
    pub fn refused_at_door(&self, sid: SessionId, address: IpAddr, reply: &Reply) {
        self.maillog.refused(self.now(), sid, address, "connect", None, None, reply);
    }

    /// Committed, and judged as far as it comes in time: the reply to the end of data.
    ///
    /// Keeping and judging start together. The reply goes out when the message is durable **and** either judged or
    /// `smtp.verdict_wait` is over. When it cannot be kept: 451 or 452, and the sender still has it. A crash before the verdict
    /// is recorded leaves a message without one: the next start scans it. A crash before the reply leaves the sender with its
    /// copy: the message comes twice rather than never. A users' report is answered when what it taught is durable, and is no message.
    pub async fn content(self: &Arc<Self>, mut envelope: Envelope, body: ReceivedBody) -> Reply {
        if let Some(label) = self.label_of(&envelope) {
            return self.reported(&envelope, &body.body(), label).await;
        }
        let over = self.clock.sleep_until(self.now() + self.config().smtp.verdict_wait);
        self.describe_client(&mut envelope).await;
        let envelope = Arc::new(envelope);
        let mut judging = tokio::spawn(Arc::clone(self).judge(Arc::clone(&envelope), body.body()));
        if let Err(reply) = self.commit(&envelope, body).await {
            judging.abort();
            return reply;
        }
        tokio::select! {
            verdict = &mut judging => match verdict.unwrap_or(Err(NotJudged)) {
                Ok(judgement) => self.decided_in_time(&envelope, judgement).await,
                Err(NotJudged) => {
                    self.judge_again_later(envelope.id).await;
                    Reply::queued(envelope.id)
                }
            },
            () = over => {
                let id = envelope.id;
                let flow = Arc::clone(self);
                tokio::spawn(async move {
                    match judging.await.unwrap_or(Err(NotJudged)) {
                        Ok(judgement) => flow.decided_late(&envelope, judgement).await,
                        Err(NotJudged) => flow.judge_again_later(id).await,
                    }
                });
                Reply::queued(id)
            }
        }
    }

    /// Durable after `Ok`. Refusals are logged; the cause of a local error goes to the log only.
    async fn commit(&self, envelope: &Envelope, body: ReceivedBody) -> Result<(), Reply> {
        let error = match self.queue.accept(envelope.clone(), body).await {
            Ok(_) => {
                self.maillog.queued(self.now(), envelope);
                if door::sends_out(&self.config(), &envelope.client, &envelope.reverse_path) {
                    self.sent_out(envelope).await;
                }
                return Ok(());
            }
            Err(error) => error,
        };
        let reply = match &error {
            StoreError::Full => Reply::disk_full(),
            _ => Reply::local_error(),
        };
        tracing::error!(id = %envelope.id, %error, "a message could not be kept; its sender was told to try again");
        let sid = envelope.id.session;
        self.maillog.refused(self.now(), sid, envelope.client.address, "data", Some(&envelope.reverse_path), None, &reply);
        Err(reply)
    }
}

// -------------------------------------------------------------------------------------------------------------- JUDGE

/// There is no judgement now: the scanner gave no verdict, or the content could not be read. Never "clean": it is tried again.
struct NotJudged;

impl Flow {
    /// Scanned and classified. Without a verdict there is no judgement, whatever else is known.
    async fn judge(self: Arc<Self>, envelope: Arc<Envelope>, body: Body) -> Result<Judgement, NotJudged> {
        let (verdict, authentication) = tokio::join!(self.scan(&envelope, &body), self.authenticate(&envelope, &body));
        let assessment = match &verdict {
            Verdict::Unavailable(_) => return Err(NotJudged),
            Verdict::Infected(_) => None,
            Verdict::Clean | Verdict::Unscannable(_) => self.classify(&envelope, &body, &authentication).await?,
        };
        let classified = assessment.is_some();
        let Classified { assessment, authors, learned } = assessment.unwrap_or_default();
        let mut domains = Vec::new();
        if classified {
            domains = self.seen_by_domains(&envelope, &authors, &authentication, &assessment, &learned).await;
            self.remember_reputation(&envelope, &authors, &authentication, assessment.level).await;
            self.store.vectors().judged(Vector::judged(&envelope, self.now(), &assessment));
        }
        let Assessment { score, level, hits, .. } = assessment;
        let judgement = Judgement { at: self.now(), verdict, score, level, hits, authentication, domains };
        if classified {
            self.maillog.judged(self.now(), envelope.id, &judgement);
        }
        Ok(judgement)
    }

    async fn scan(&self, envelope: &Envelope, body: &Body) -> Verdict {
        let started = self.now();
        let verdict = self.scanner.scan(body).await;
        self.maillog.scanned(self.now(), envelope.id, &verdict, self.now().since(started));
        verdict
    }

    /// SPF, DKIM, DMARC and ARC; whom the settings trust is not asked, nor a customer's own server that sends out.
    async fn authenticate(&self, envelope: &Envelope, body: &Body) -> Authentication {
        let config = self.config();
        let Envelope { client, reverse_path, .. } = envelope;
        if config.allows(client.address) || door::sends_out(&config, client, reverse_path) {
            return Authentication::default();
        }
        let mut found = self.checks.authenticator.message(envelope, body, &config.checks.trusted_sealers).await;
        let mut domains = envelope.recipients.iter().filter_map(|recipient| config.domain(recipient.address.domain()?));
        if !domains.any(|domain| domain.checks.dmarc != CheckMode::Off) {
            // Nobody wants a failure of the author's policy to count: it stands in the header and nowhere else.
            found.findings.retain(|finding| !finding.id.starts_with("dmarc-fail"));
        }
        self.remember_signers(envelope, &found).await;
        found
    }

    /// Decided while the sender waits. It can be refused only when it is refused for everybody: one reply answers for all
    /// recipients. Where it is taken for some, `reject` counts as `delete` for the others.
    async fn decided_in_time(&self, envelope: &Envelope, judgement: Judgement) -> Reply {
        let decisions = self.decisions(envelope, &judgement, Sender::Waits);
        let refusal = decisions.iter().map(|decision| match decision {
            Decision::Reject { reply } => Some(reply),
            _ => None,
        });
        let Some(refusals) = refusal.collect::<Option<Vec<_>>>() else {
            self.decided_late(envelope, judgement).await;
            return Reply::queued(envelope.id);
        };
        let reply = refusals.first().map_or_else(Reply::local_error, |reply| (*reply).clone());
        let reply = self.explained_content(envelope, &judgement.authentication, reply).await;
        self.record(envelope, judgement, decisions).await;
        reply
    }

    /// Decided when the sender has its 250.
    async fn decided_late(&self, envelope: &Envelope, judgement: Judgement) {
        let decisions = self.decisions(envelope, &judgement, Sender::Gone);
        self.record(envelope, judgement, decisions).await;
    }

    /// One decision for each recipient, by the policy of its domain.
    fn decisions(&self, envelope: &Envelope, judgement: &Judgement, sender: Sender) -> Vec<Decision> {
        let config = self.config();
        let decided = |recipient: &Recipient| {
            let domain = recipient.address.domain();
            let policy = domain.and_then(|domain| config.domain(domain));
            decide(&judgement.as_seen_by(domain), policy, sender)
        };
        envelope.recipients.iter().map(decided).collect()
    }

    /// Makes judgement and decisions durable. When that fails the message has no verdict on disk, so it is judged again.
    async fn record(&self, envelope: &Envelope, judgement: Judgement, decisions: Vec<Decision>) {
        let now = self.now();
        self.client_passed(envelope, &judgement).await;
        self.store.vectors().decided(envelope, &judgement, &decisions);
        for (recipients, decision) in grouped(envelope, &decisions) {
            self.maillog.decided(now, envelope.id, recipients, decision);
        }
        if let Err(error) = self.queue.judged(envelope.id, judgement, decisions).await {
            tracing::error!(id = %envelope.id, %error, "a verdict could not be recorded; the message is judged again");
            self.judge_again_later(envelope.id).await;
        }
    }

    async fn judge_again_later(&self, id: QueueId) {
        if let Err(error) = self.queue.scan_later(id).await {
            tracing::error!(%id, %error, "the next scan could not be scheduled; it is made up for at the next start");
        }
    }

    /// A message that waits for its verdict is due: from the queue, with nobody waiting.
    async fn judge_queued(self: Arc<Self>, id: QueueId) {
        let found = async { Ok::<_, StoreError>((self.store.entry(id).await?, self.store.body(id).await?)) };
        let (entry, body) = match found.await {
            Ok(found) => found,
            Err(StoreError::NotFound) => return,
            Err(error) => {
                tracing::error!(%id, %error, "a message in the queue could not be read; trying again later");
                return self.judge_again_later(id).await;
            }
        };
        let envelope = Arc::new(entry.envelope.clone());
        match Arc::clone(&self).judge(Arc::clone(&envelope), body).await {
            Ok(judgement) => self.decided_late(&envelope, judgement).await,
            Err(NotJudged) => self.judge_again_later(id).await,
        }
    }
}

/// Recipients with the same decision, in one line of the mail log.
fn grouped<'a>(envelope: &Envelope, decisions: &'a [Decision]) -> Vec<(Vec<String>, &'a Decision)> {
    let mut groups: Vec<(Vec<String>, &Decision)> = Vec::new();
    for (recipient, decision) in envelope.recipients.iter().zip(decisions) {
        let address = recipient.address.to_string();
        match groups.iter_mut().find(|(_, known)| *known == decision) {
            Some((addresses, _)) => addresses.push(address),
            None => groups.push((vec![address], decision)),
        }
    }
    groups
}

// ------------------------------------------------------------------------------------------------------------ DELIVER

impl Flow {
    /// Due: does what is due until told to stop, then lets what has begun come to its end within `patience`. What is cut off
    /// there has settled nothing: it is tried again after the next start.
    pub async fn work(self: Arc<Self>, mut stop: watch::Receiver<bool>, patience: Duration) {
        let mut tasks = JoinSet::new();
        // Kept across the ends of other tasks: one that is dropped halfway gives back what it had picked as failed, and that
        // message would wait although nothing is wrong.
        let mut next = pin!(self.queue.next());
        loop {
            let job = tokio::select! {
                job = &mut next => job,
                _ = stop.wait_for(|stop| *stop) => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            };
            next.set(self.queue.next());
            let flow = Arc::clone(&self);
            match job {
                Job::Scan(id) => tasks.spawn(flow.judge_queued(id)),
                Job::Deliver(delivery) => tasks.spawn(flow.deliver(delivery)),
                Job::Probe(probe) => tasks.spawn(flow.probe(probe)),
            };
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = all => {}
            () = self.clock.sleep_until(self.now() + patience) => {}
        }
    }

    /// Delivers one message, and others for the same destination over the same connection while there are any. While the end of
    /// one is written down the next is under way already.
    async fn deliver(self: Arc<Self>, first: Delivery) {
        let mut connection = None;
        let mut delivery = first;
        let mut outcomes = self.attempt(&delivery, &mut connection).await;
        loop {
            connection = connection.filter(Connection::is_reusable);
            let next = if connection.is_some() { self.queue.another(&delivery).await } else { None };
            // An operator may have named another server for one of two messages to the same place.
            if next.as_ref().is_some_and(|next| next.reroute() != delivery.reroute())
                && let Some(connection) = connection.take()
            {
                connection.quit().await;
            }
            let settled = self.settle(delivery, outcomes);
            let Some(next) = next else {
                settled.await;
                break;
            };
            ((), outcomes) = tokio::join!(settled, self.attempt(&next, &mut connection));
            delivery = next;
        }
        if let Some(connection) = connection {
            connection.quit().await;
        }
    }

    async fn settle(&self, delivery: Delivery, outcomes: Vec<Outcome>) {
        let id = delivery.entry.envelope.id;
        let lesson = self.lesson(&delivery, &outcomes);
        if let Err(error) = self.queue.settle(delivery, outcomes).await {
            tracing::error!(%id, %error, "the end of a delivery attempt could not be recorded; it is made again");
        }
        if let Some((recipients, outcomes)) = lesson {
            self.checks.recipients.learned(&self.config(), &recipients, &outcomes).await;
        }
    }

    /// Routed and offered: tries the destination's hosts in order until every recipient has an answer. What no host answered
    /// for is tried again by the schedule; nothing that goes wrong here loses the message.
    async fn attempt(&self, delivery: &Delivery, connection: &mut Option<Connection>) -> Vec<Outcome> {
        let (body, rewrite) = match self.outgoing(delivery).await {
            Ok(outgoing) => outgoing,
            Err(why) => return vec![Outcome::Retry { scope: Scope::Message, host: None, reply: why }; delivery.recipients.len()],
        };
        let mut pending = Attempt::new(&delivery.recipients);
        if let Some(open) = connection {
            pending.offer(open, &delivery.entry, &body, &rewrite).await;
        }
        if pending.is_over() {
            return pending.outcomes;
        }
        *connection = None;
        let routed = match delivery.reroute() {
            Some(reroute) => route_to(reroute, &*self.resolver).await,
            None => route(&delivery.destination, &self.config(), &*self.resolver).await,
        };
        let hops = match routed {
            Ok(hops) => hops,
            Err(failure) => return pending.ended(Outcome::from(failure)),
        };
        for hop in &hops {
            match self.connect(hop).await {
                Ok(mut open) => {
                    pending.offer(&mut open, &delivery.entry, &body, &rewrite).await;
                    *connection = Some(open);
                }
                Err(why) => pending.unanswered(Outcome::Retry { scope: Scope::Host, host: Some(hop.to_string()), reply: why }),
            }
            if pending.is_over() {
                break;
            }
        }
        pending.outcomes
    }

    /// A destination whose hosts were away is asked, once for all its messages, whether one of them is back.
    async fn probe(self: Arc<Self>, probe: Probe) {
        let answer = self.is_back(&probe.destination).await;
        self.queue.probed(probe, answer).await;
    }

    /// TCP, EHLO, QUIT, host by host; in clear text, since nothing is said. `Err`: why none answered.
    async fn is_back(&self, destination: &Host) -> Result<(), String> {
        let routed = match self.queue.reroute_at(destination).await {
            Some(reroute) => route_to(&reroute, &*self.resolver).await,
            None => route(destination, &self.config(), &*self.resolver).await,
        };
        let hops = match routed {
            Ok(hops) => hops,
            Err(RouteFailure::Temporary(why)) => return Err(why),
            // DNS knows by now that nobody takes this mail: each message is told so when it is tried.
            Err(RouteFailure::Permanent(_)) => return Ok(()),
        };
        let helo = self.config().hostname.to_string();
        let mut why = "no server to try".to_owned();
        for hop in &hops {
            let transport = &*self.transport;
            let session = Connection::open(transport, hop.address, &hop.name, &helo, TlsUse::Never, &self.timeouts);
            tokio::select! {
                session = session => match session {
                    Ok(connection) => {
                        connection.quit().await;
                        return Ok(());
                    }
                    Err(failure) => why = format!("{hop}: {failure}"),
                },
                () = self.clock.sleep_until(self.now() + PROBE_PATIENCE) => why = format!("{hop}: no answer to a probe"),
            }
        }
        Err(why)
    }

    /// The content and how it goes out. The last gate of the second promise: whatever the queue says, nothing without a
    /// verdict passes here.
    async fn outgoing(&self, delivery: &Delivery) -> Result<(Body, Rewrite), String> {
        let Entry { envelope, progress } = &*delivery.entry;
        if progress.awaits_scan() {
            tracing::error!(id = %envelope.id, "a message without a verdict was due for delivery; it is kept back");
            return Err("not scanned yet".to_owned());
        }
        let config = self.config();
        let head = async {
            let body = self.store.body(envelope.id).await?;
            let head = body.head(config.smtp.header_max.max(HEAD_MIN)).await;
            Ok((body, head.map_err(|source| StoreError::Io { what: "reading a body".to_owned(), source })?))
        };
        // The cause is the operator's to read. The other text stands in a notice to the sender when it never gets better.
        let (body, head) = head.await.map_err(|error: StoreError| {
            tracing::error!(id = %envelope.id, %error, "a message in the queue could not be read; trying again later");
            "a local problem keeps this message from being read".to_owned()
        })?;
        let domain = match &delivery.destination {
            Host::Domain(domain) => Some(domain),
            Host::Literal(_) => None,
        };
        let judgement = progress.judgement.as_ref().map(|judgement| judgement.as_seen_by(domain));
        let rewrite = mark(&head, envelope, judgement.as_deref(), delivery.decision(), &config.hostname);
        Ok((body, rewrite))
    }

    /// A session with this host; in clear text where its TLS is known not to work.
    async fn connect(&self, hop: &Hop) -> Result<Connection, String> {
        let helo = self.config().hostname.to_string();
        let open = |tls| Connection::open(&*self.transport, hop.address, &hop.name, &helo, tls, &self.timeouts);
        match open(self.tls_memory.advice(hop.address, self.now())).await {
            Err(ConnectFailure::Tls { why }) => {
                if self.tls_memory.failed(hop.address, self.now()) {
                    tracing::warn!(host = %hop, %why, "the TLS handshake failed; mail goes to this host in clear text for a week");
                }
                open(TlsUse::Never).await.map_err(|failure| failure.to_string())
            }
            other => other.map_err(|failure| failure.to_string()),
        }
    }
}

/// The header section is looked for in at least this much of a message, in bytes, whatever `smtp.header_max` says now.
const HEAD_MIN: u64 = 256 * 1024;
