//! The whole gateway in one process, with the outside simulated: time, DNS, scanner and customers' servers are a test's to
//! choose; sessions, flow, queue and spool (on the real disk, in a scratch directory) are what the binary runs.
//!
//! The simulated clock stands still until a test moves it. Spool and worker have threads of their own, so a test waits in
//! real time, but only for what must happen ([`World::until`]); it never waits to see that nothing does: for that it lets
//! something else happen that would have been later.

mod peer;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use feedgate::admin::Operations;
use feedgate::checks::Checks;
use feedgate::config::{Config, Current};
use feedgate::daemon::{serve_session, tell_alerts};
use feedgate::flow::{Flow, LessonKeeper};
use feedgate::mail::{IdSource, QueueId, RecipientProgress, Timestamp};
use feedgate::outside::{Clock, Resolver, Scanner, Transport};
use feedgate::queue::{OutageState, Queue, Selector};
use feedgate::sim;
use feedgate::smtp::{Timeouts, TlsMemory};
use feedgate::spam::{Change, Engine, RuleInfo, Thresholds};
use feedgate::store::{Entry, History, RealDisk, Store, StoreSettings};
use feedgate::telemetry::{Line, MailLog, Metrics};
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio::io::duplex;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use peer::Peer;

use crate::gateway::{UNCHECKED, UNLIMITED};

/// How long anything may take in real time before a test gives up; reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const MOMENT: Duration = Duration::from_millis(2);
/// What a connection holds in each direction, in bytes.
const BUFFER: usize = 4 << 20;

pub const MINUTE: Duration = Duration::from_secs(60);
pub const DAY: Duration = Duration::from_secs(86_400);

/// A gateway and all that surrounds it.
pub struct World {
    pub clock: Arc<sim::Clock>,
    pub dns: Arc<sim::Dns>,
    pub scanner: Arc<sim::Scanner>,
    pub network: sim::Network,
    settings: String,
    directory: TempDir,
    /// `None` only between two runs.
    running: Option<Running>,
}

/// One run of the gateway, with threads of its own, so that a crash can take all of it away at once.
struct Running {
    runtime: Runtime,
    flow: Arc<Flow>,
    ids: Arc<IdSource>,
    stop: watch::Sender<bool>,
    worker: JoinHandle<()>,
    lines: Mutex<(mpsc::Receiver<Line>, Vec<Line>)>,
}

/// Settings of a domain whose servers are at these addresses; not greylisted unless `more` says so.
pub fn domain(name: &str, hosts: &[&str], more: &str) -> String {
    let greylist = if more.contains("greylist") { "" } else { "greylist = false\n" };
    format!("[domains.\"{name}\"]\ndeliver_to = {hosts:?}\n{greylist}{more}\n")
}

/// Starting, stopping, crashing.
impl World {
    /// Starts a gateway with these settings after the common ones: keys of the top first, then sections.
    pub async fn new(settings: &str) -> World {
        let mut world = World {
            clock: Arc::new(sim::Clock::new()),
            dns: Arc::new(sim::Dns::new()),
            scanner: Arc::new(sim::Scanner::new()),
            network: sim::Network::new(),
            settings: settings.to_owned(),
            directory: tempfile::tempdir().expect("a scratch directory"),
            running: None,
        };
        world.start().await;
        world
    }

    /// SIGTERM and a new start: what has not ended is cut off, then everything is closed properly.
    pub async fn restart(&mut self) {
        let Running { runtime, flow, stop, worker, .. } = self.running.take().expect("it runs");
        stop.send_replace(true);
        timeout(PATIENCE, worker).await.expect("the worker ends").expect("without a panic");
        self.end(runtime, flow).await;
        self.start().await;
    }

    /// A crash and a new start: nothing that was under way comes to its end. (The journal as a crash leaves it is the
    /// store's own tests' business.)
    pub async fn crash(&mut self) {
        let Running { runtime, flow, .. } = self.running.take().expect("it runs");
        self.end(runtime, flow).await;
        self.start().await;
    }

    async fn end(&self, runtime: Runtime, flow: Arc<Flow>) {
        runtime.shutdown_background();
        tokio::task::spawn_blocking(move || flow.store.close()).await.expect("closing does not panic");
    }

    async fn start(&mut self) {
        let mut text = format!(
            "hostname = \"mx1.feedgate.test\"\ndata_dir = {:?}\n{}\n",
            self.directory.path().display().to_string(),
            self.settings
        );
        for (section, common) in [("[checks]", UNCHECKED.to_owned()), ("[limits]", format!("[limits]\n{UNLIMITED}"))] {
            if !text.contains(section) {
                text.push_str(&common);
            }
        }
        let config = Config::parse(&text, Path::new("feedgate.toml")).unwrap_or_else(|errors| panic!("{errors}"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let settings = StoreSettings { reserve: config.queue.reserve, ..StoreSettings::default() };
        let (directory, disk) = (self.directory.path().to_owned(), Arc::new(RealDisk));
        let open = runtime.spawn_blocking(move || Store::open(&directory, disk, settings));
        let (store, recovery) = open.await.expect("opening does not panic").expect("the spool opens");

        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let resolver = Arc::clone(&self.dns) as Arc<dyn Resolver>;
        let transport = Arc::new(self.network.clone()) as Arc<dyn Transport>;
        let ids = Arc::new(IdSource::new(recovery.highest));
        let (history, lines) = mpsc::channel(100_000);
        let maillog = MailLog::new(Arc::new(Metrics::new()), Some(history));
        let config: Current = Arc::new(ArcSwap::from_pointee(config));
        let load = Queue::load(store.clone(), Arc::clone(&clock), Arc::clone(&config), maillog.clone(), Arc::clone(&ids));
        let queue = load.await.expect("the queue loads");
        let metrics = Arc::new(Metrics::new());
        let lessons =
            LessonKeeper::open(&config.load().data_dir, Arc::new(RealDisk), Arc::clone(&clock), Arc::new(|_| 0.0), metrics);
        let flow = Arc::new(Flow {
            config,
            clock: Arc::clone(&clock),
            resolver: Arc::clone(&resolver),
            scanner: Arc::clone(&self.scanner) as Arc<dyn Scanner>,
            checks: Checks::new(&store, Arc::clone(&clock), Arc::clone(&resolver), Arc::clone(&transport)),
            transport,
            store,
            queue,
            engine: ArcSwap::from_pointee(steady_engine()),
            lessons,
            maillog,
            tls_memory: TlsMemory::default(),
            timeouts: Timeouts::default(),
        });
        flow.checks.limiter.load(self.clock.now()).await;
        let (stop, stopping) = watch::channel(false);
        runtime.spawn(tell_alerts(Arc::clone(&flow), stopping.clone()));
        let worker = runtime.spawn(Arc::clone(&flow).work(stopping, Duration::ZERO));
        self.running = Some(Running { runtime, flow, ids, stop, worker, lines: Mutex::new((lines, Vec::new())) });
    }
}

/// The rules of the binary with numbers of their own, so that these tests ask how mail flows and not what was fitted: the
/// content says nothing unless it is a test string.
fn steady_engine() -> Engine {
    let engine = Engine::builtin().with_model(None);
    let says = |rule: &RuleInfo| ["authentication", "door", "test"].contains(&rule.family.as_str());
    let mut points: Vec<(String, f32)> =
        engine.rules().iter().filter(|rule| !says(rule)).map(|rule| (rule.id.clone(), 0.0)).collect();
    points.extend([("HELO_NO_DOMAIN", 1.2), ("NO_REVERSE_NAME", 0.8)].map(|(rule, points)| (rule.to_owned(), points)));
    let levels = Some(Thresholds { low: 4.0, med: 6.5, high: 10.0 });
    engine.changed(&Change { points, levels }).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

impl Drop for World {
    fn drop(&mut self) {
        // A runtime may not be dropped, and so waited for, inside another. The spool goes before its directory does.
        if let Some(Running { runtime, flow, .. }) = self.running.take() {
            runtime.shutdown_background();
            flow.store.close();
        }
    }
}

/// The outside.
impl World {
    /// Puts a server at this address, on port 25, and hands it back to look at.
    pub fn host(&self, address: &str, server: sim::Server) -> sim::Server {
        let _ = self.network.clone().host(&SocketAddr::new(ip(address), 25).to_string(), &server);
        server
    }

    /// A mail server of a domain that is not served here: for notices.
    pub fn stranger(&self, domain: &str, address: &str) -> sim::Server {
        let name = format!("mx.{domain}").parse().expect("a domain");
        let exchanger =
            feedgate::outside::MailExchanger { preference: 10, host: Some(format!("mx.{domain}").parse().expect("a domain")) };
        self.dns.change(|zone| {
            zone.mail_exchangers.insert(domain.parse().expect("a domain"), vec![exchanger]);
            zone.addresses.insert(name, vec![ip(address)]);
        });
        self.host(address, sim::Server::new())
    }
}

/// Clients.
impl World {
    /// A connection from this address, served by the driver that the binary uses.
    pub fn session(&self, client: &str, tls: Option<Arc<ServerConfig>>) -> Peer {
        let _runs_the_gateway = self.running().runtime.enter();
        self.session_here(client, tls)
    }

    /// The same, served by the thread of the test: it takes turns with its client.
    pub fn session_here(&self, client: &str, tls: Option<Arc<ServerConfig>>) -> Peer {
        let Running { flow, ids, stop, .. } = self.running();
        let (stream, theirs) = duplex(BUFFER);
        let peer = SocketAddr::new(ip(client), 40_000);
        let session = serve_session(Arc::clone(flow), theirs, peer, ids.next(self.clock.now()), tls, stop.subscribe());
        Peer::new(stream, tokio::spawn(session))
    }

    /// A connection from a client like any other, after EHLO.
    pub async fn client(&self) -> Peer {
        self.client_at("192.0.2.1").await
    }

    pub async fn client_at(&self, address: &str) -> Peer {
        let mut peer = self.session(address, None);
        assert!(peer.reply().await.starts_with("220 "));
        assert!(peer.say("EHLO out.sender.example").await.starts_with("250"));
        peer
    }

    /// Sends a message from `joe@sender.example`; the reply to its end.
    pub async fn send(&self, to: &[&str], content: &str) -> String {
        self.client().await.send("joe@sender.example", to, content).await
    }

    /// Sends a message that must be taken.
    pub async fn take(&self, to: &[&str], content: &str) -> QueueId {
        queued_as(&self.send(to, content).await)
    }
}

/// The id in `250 2.0.0 Ok: queued as ID`.
#[track_caller]
pub fn queued_as(reply: &str) -> QueueId {
    let id = reply.strip_prefix("250 2.0.0 Ok: queued as ").unwrap_or_else(|| panic!("not taken: {reply}"));
    id.parse().unwrap_or_else(|error| panic!("{reply}: {error}"))
}

/// Looking, and letting time pass.
impl World {
    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    pub fn flow(&self) -> &Arc<Flow> {
        &self.running().flow
    }

    pub fn queue(&self) -> &Queue {
        &self.running().flow.queue
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Asks again and again until there is an answer. The simulated clock stands still meanwhile.
    pub async fn until<T>(&self, what: &str, question: impl AsyncFn() -> Option<T>) -> T {
        self.while_time_passes(Duration::ZERO, what, question).await
    }

    /// The same, and each time there is none yet, so much simulated time passes.
    pub async fn while_time_passes<T>(&self, step: Duration, what: &str, question: impl AsyncFn() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(answer) = question().await {
                return answer;
            }
            assert!(started.elapsed() < PATIENCE, "waited in vain for {what}; it went so:\n{}", self.story());
            self.pass(step);
            tokio::time::sleep(MOMENT).await;
        }
    }

    /// What an operator can do here. There is no file to reload.
    pub fn operations(&self) -> Operations {
        let flow = self.flow();
        let rules = Arc::clone(flow);
        Operations {
            queue: flow.queue.clone(),
            checks: flow.checks.clone(),
            resolver: Arc::clone(&flow.resolver),
            history: History::new(&flow.store),
            store: flow.store.clone(),
            config: Arc::clone(&flow.config),
            scanner: Arc::clone(&flow.scanner),
            clock: Arc::clone(&flow.clock),
            metrics: Arc::new(Metrics::new()),
            reload: Arc::new(|| Box::pin(async { Err("there is no file".to_owned()) })),
            engine: Arc::new(move || rules.engine.load_full()),
            lessons: flow.lessons.clone(),
            started_at: flow.now(),
        }
    }

    /// The message, while it is in the queue.
    pub async fn entry(&self, id: QueueId) -> Option<Arc<Entry>> {
        self.flow().store.entry(id).await.ok()
    }

    /// How the first recipient of the message stands; `gone` when it has left the queue.
    pub async fn status(&self, id: QueueId) -> &'static str {
        self.entry(id).await.map_or("gone", |entry| entry.progress.recipients[0].status.as_str())
    }

    pub async fn until_gone(&self, id: QueueId) {
        self.until("the message to leave the queue", async || self.entry(id).await.is_none().then_some(())).await;
    }

    /// Waits for the end of this attempt (from 1), and returns how the first recipient stands then.
    pub async fn attempted(&self, id: QueueId, attempts: u32) -> RecipientProgress {
        let ended = async || {
            let recipient = self.entry(id).await?.progress.recipients[0].clone();
            (recipient.attempts >= attempts).then_some(recipient)
        };
        self.until(&format!("attempt {attempts}"), ended).await
    }

    /// Lets time pass until the message is due and has been tried; `None` when it left the queue by that.
    pub async fn next_attempt(&self, id: QueueId) -> Option<RecipientProgress> {
        let before = self.entry(id).await?.progress.recipients[0].clone();
        self.pass(before.due.since(self.now()));
        let ended = async || match self.entry(id).await {
            None => Some(None),
            Some(entry) => {
                let recipient = &entry.progress.recipients[0];
                (recipient.attempts > before.attempts).then(|| Some(recipient.clone()))
            }
        };
        self.until("the next attempt", ended).await
    }

    /// Lets time pass until somebody asks for the message's first destination again: an attempt, or a probe while that is away.
    /// `false` when the message left the queue by that.
    pub async fn next_try(&self, id: QueueId) -> bool {
        let Some(entry) = self.entry(id).await else { return false };
        let destination = entry.envelope.recipients[0].address.host().to_string();
        let outage =
            async || self.queue().outages().await.expect("they can be read").into_iter().find(|view| view.domain == destination);
        if !outage().await.is_some_and(|view| view.state != OutageState::Draining) {
            return self.next_attempt(id).await.is_some();
        }
        // None while a probe is out, as after a start.
        let due = async || outage().await.map_or(Some(self.now()), |view| view.probe_at);
        let due = self.until("a probe to be planned", due).await;
        self.pass(due.since(self.now()));
        let over = async || match outage().await {
            None => Some(()),
            Some(view) if view.state == OutageState::Draining => Some(()),
            Some(view) => view.probe_at.filter(|next| *next > self.now()).map(|_| ()),
        };
        self.until("the end of the probe", over).await;
        self.entry(id).await.is_some()
    }

    /// Waits until the server has taken so many messages.
    pub async fn received(&self, server: &sim::Server, count: usize) -> Vec<sim::Received> {
        let enough = async || Some(server.received()).filter(|received| received.len() >= count);
        let received = self.until(&format!("{count} messages at a server"), enough).await;
        assert_eq!(received.len(), count, "more than expected: {received:#?}");
        received
    }

    /// All messages in the queue, in the order of their ids.
    pub async fn queued(&self) -> Vec<Arc<Entry>> {
        self.queue().list(&Selector::default(), None, 10_000).await.expect("the queue can be listed")
    }

    /// The mail log of this run.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = self.running().lines.lock().expect("nobody panics while holding this lock");
        let (waiting, seen) = &mut *lines;
        while let Ok(line) = waiting.try_recv() {
            seen.push(line);
        }
        seen.clone()
    }

    fn story(&self) -> String {
        let told = |line: &Line| format!("{} {} {} {} {}\n", line.at, line.id, line.what, line.to.join(","), line.text);
        self.lines().iter().map(told).collect()
    }

    /// Waits until the mail log of this run says these words about a message: `what: text`.
    pub async fn told(&self, id: QueueId, words: &str) {
        let id = id.to_string();
        let says = |line: &Line| line.id == id && format!("{}: {}", line.what, line.text).contains(words);
        self.until(&format!("the mail log to say {words:?}"), async || self.lines().iter().any(says).then_some(())).await;
    }
}

/// All of one message.
pub fn only(id: QueueId) -> Selector {
    Selector { id: Some(id), ..Selector::default() }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What a server got, as text.
pub fn text(received: &sim::Received) -> String {
    String::from_utf8_lossy(&received.content).into_owned()
}
