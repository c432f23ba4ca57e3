//! Makes everything, in order, hands it over, and takes it down again in the opposite order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::alerts;
use super::clock::SystemClock;
use super::janitor;
use super::listener::{Sessions, bind, listen};
use super::reload::{Reload, base, engine};
use crate::admin;
use crate::checks::{Checks, Door};
use crate::config::{Config, Current, Source, watch as watch_files};
use crate::flow::{Base, Flow, LessonKeeper};
use crate::mail::IdSource;
use crate::net::{Dns, Tcp, server_tls};
use crate::outside::{Clock, Resolver, Scanner, Transport};
use crate::queue::Queue;
use crate::scan::Pool;
use crate::smtp::{Timeouts, TlsMemory};
use crate::spam::Engine;
use crate::store::{History, RealDisk, Recovery, Store, StoreSettings};
use crate::telemetry::{Line, MailLog, Metrics};

/// Mail-log lines that may wait for history; more are left out of it (and counted), never out of the log.
const HISTORY_WAITING_MAX: usize = 10_000;
/// Of these, written at a time.
const HISTORY_BATCH_MAX: usize = 2_000;
/// How long lines are gathered.
const HISTORY_GATHER: Duration = Duration::from_millis(50);
/// What has begun may take this long to end after SIGTERM.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// Runs the gateway until SIGTERM or SIGINT.
pub async fn run(source: Source, config: Config) -> anyhow::Result<()> {
    // Everything that can be wrong with the settings' surroundings is found before anything is opened for others.
    let rules = engine(&config).map_err(|why| anyhow!("{why}"))?;
    let tls = config.smtp.tls.as_ref().map(server_tls).transpose().map_err(|why| anyhow!("{why}"))?;
    let doors = Doors::open(&config)?;
    let gateway = assemble(config, rules).await?;
    let (stop, stopping) = watch::channel(false);
    let (running, mut failures) = start(&gateway, source, doors, tls, stopping)?;
    let ended = until_told_to_stop(&running.reload, &mut failures).await;
    tracing::info!("stopping: open transactions come to their end");
    let _ = stop.send(true);
    take_down(gateway, running).await?;
    ended
}

/// The listening sockets, taken before anything else: a taken port ends the start early.
struct Doors {
    smtp: Vec<TcpListener>,
    http: Option<TcpListener>,
}

impl Doors {
    fn open(config: &Config) -> anyhow::Result<Doors> {
        let smtp = |address: &SocketAddr| {
            bind(*address)
                .with_context(|| format!("smtp.listen: cannot listen on {address} (is another mail server running there?)"))
        };
        let http = |address| bind(address).with_context(|| format!("admin.listen: cannot listen on {address}"));
        let smtp = config.smtp.listen.iter().map(smtp).collect::<anyhow::Result<_>>()?;
        Ok(Doors { smtp, http: config.admin.listen.map(http).transpose()? })
    }
}

/// Everything that is made once.
struct Gateway {
    flow: Arc<Flow>,
    scanner: Arc<Pool>,
    history: History,
    metrics: Arc<Metrics>,
    ids: Arc<IdSource>,
    historian: JoinHandle<()>,
}

async fn assemble(config: Config, rules: Engine) -> anyhow::Result<Gateway> {
    let (store, recovery) = open_store(&config).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids = Arc::new(IdSource::new(recovery.highest));
    let metrics = Arc::new(Metrics::new());
    let history = History::new(&store);
    let (lines, lines_waiting) = mpsc::channel(HISTORY_WAITING_MAX);
    let maillog = MailLog::new(Arc::clone(&metrics), Some(lines));
    let historian = tokio::spawn(keep_history(lines_waiting, history.clone()));
    let resolver: Arc<dyn Resolver> = Arc::new(Dns::new(&config.dns).context("dns: the resolver could not be started")?);
    let scanner = Arc::new(Pool::new(&config.clamav, Arc::clone(&clock)));
    scanner.prove().await;
    let lessons = open_lessons(&config, base(&rules), &clock, &metrics).await?;
    let current: Current = Arc::new(ArcSwap::from_pointee(config));
    let queue = Queue::load(store.clone(), Arc::clone(&clock), Arc::clone(&current), maillog.clone(), Arc::clone(&ids))
        .await
        .context("the queue could not be loaded")?;
    janitor::ledger(&metrics, &store.ledger_differences());
    let transport: Arc<dyn Transport> = Arc::new(Tcp::new());
    let checks = Checks::new(&store, Arc::clone(&clock), Arc::clone(&resolver), Arc::clone(&transport));
    checks.limiter.load(clock.now()).await;
    // Mistakes in lists of recipients are told at the start, not with the first mail.
    let (recipients, settings) = (checks.recipients.clone(), current.load_full());
    tokio::task::spawn_blocking(move || recipients.reload(&settings)).await.context("reading the lists of recipients failed")?;
    let flow = Arc::new(Flow {
        config: current,
        checks,
        clock,
        resolver,
        scanner: Arc::clone(&scanner) as Arc<dyn Scanner>,
        transport,
        store,
        queue,
        engine: ArcSwap::from_pointee(rules),
        lessons,
        maillog,
        tls_memory: TlsMemory::default(),
        timeouts: Timeouts::default(),
    });
    Ok(Gateway { flow, scanner, history, metrics, ids, historian })
}

/// What runs: to be waited for at the end.
struct Running {
    reload: Reload,
    /// Listeners, sessions, servers for operators, the janitor.
    tracker: TaskTracker,
    /// The deliveries.
    worker: JoinHandle<()>,
}

/// A server that cannot go on ends the gateway; why.
type Failures = mpsc::Receiver<anyhow::Error>;

fn start(
    gateway: &Gateway,
    source: Source,
    doors: Doors,
    tls: Option<Arc<rustls::ServerConfig>>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<(Running, Failures)> {
    let Gateway { flow, scanner, history, ids, .. } = gateway;
    let tls = Arc::new(ArcSwapOption::new(tls));
    let reload = Reload { source, flow: Arc::clone(flow), tls: Arc::clone(&tls) };
    let tracker = TaskTracker::new();
    let sessions = Sessions {
        flow: Arc::clone(flow),
        door: Door::default(),
        ids: Arc::clone(ids),
        tls,
        tracker: tracker.clone(),
        stop: stop.clone(),
    };
    for listener in doors.smtp {
        announce(flow, listener.local_addr()?);
        tracker.spawn(listen(listener, sessions.clone()));
    }
    let worker = tokio::spawn(Arc::clone(flow).work(stop.clone(), STOP_PATIENCE));
    tracker.spawn(alerts::run(Arc::clone(flow), stop.clone()));
    tracker.spawn(janitor::run(Arc::clone(flow), Arc::clone(scanner), history.clone(), stop.clone()));
    let (failed, failures) = mpsc::channel(1);
    tracker.spawn(gateway.flow.lessons.clone().run(stop.clone()));
    let operations = Arc::new(operations(gateway, reload.clone()));
    tracker.spawn(serve_operators(Arc::clone(&operations), admin::socket_path(&flow.config().data_dir), failed, stop.clone()));
    if let Some(listener) = doors.http {
        tracker.spawn(serve_http(listener, operations, stop));
    }
    if flow.config().domains.is_empty() {
        tracing::warn!("no domains are configured: every recipient is refused");
    }
    Ok((Running { reload, tracker, worker }, failures))
}

fn operations(gateway: &Gateway, reload: Reload) -> admin::Operations {
    let Gateway { flow, history, metrics, .. } = gateway;
    admin::Operations {
        queue: flow.queue.clone(),
        checks: flow.checks.clone(),
        resolver: Arc::clone(&flow.resolver),
        history: history.clone(),
        store: flow.store.clone(),
        config: Arc::clone(&flow.config),
        scanner: Arc::clone(&flow.scanner),
        clock: Arc::clone(&flow.clock),
        metrics: Arc::clone(metrics),
        lessons: gateway.flow.lessons.clone(),
        reload: Arc::new(move || {
            let reload = reload.clone();
            Box::pin(async move { reload.reload().await })
        }),
        engine: {
            let flow = Arc::clone(flow);
            Arc::new(move || flow.engine.load_full())
        },
        started_at: flow.now(),
    }
}

/// Down in the opposite order: no new sessions or attempts; what has begun ends; then the spool is closed.
async fn take_down(gateway: Gateway, running: Running) -> anyhow::Result<()> {
    let Running { reload, tracker, worker } = running;
    drop(reload);
    tracker.close();
    if tokio::time::timeout(STOP_PATIENCE, tracker.wait()).await.is_err() {
        tracing::warn!("some sessions did not end in time; their senders keep the mail");
    }
    let _ = worker.await;
    let Gateway { flow, historian, .. } = gateway;
    let store = flow.store.clone();
    flow.checks.greylist.save(flow.now()).await;
    store.vectors().write_gathered().await;
    // The last who writes the mail log: history ends when it has all of it.
    drop(flow);
    if tokio::time::timeout(STOP_PATIENCE, historian).await.is_err() {
        tracing::warn!("history was not written to its end");
    }
    tokio::task::spawn_blocking(move || store.close()).await.context("closing the spool failed")?;
    tracing::info!("stopped");
    Ok(())
}

/// Opens what was learned. Lessons that do not open stop no mail.
async fn open_lessons(
    config: &Config,
    base: Base,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<LessonKeeper> {
    let (data_dir, clock, metrics) = (config.data_dir.clone(), Arc::clone(clock), Arc::clone(metrics));
    let open = move || LessonKeeper::open(&data_dir, Arc::new(RealDisk), clock, base, metrics);
    tokio::task::spawn_blocking(open).await.context("opening the lessons failed")
}

/// Opens the spool and says what was found.
async fn open_store(config: &Config) -> anyhow::Result<(Store, Recovery)> {
    let directory = config.data_dir.clone();
    let settings = StoreSettings { reserve: config.queue.reserve, ..StoreSettings::default() };
    let open = move || Store::open(&directory, Arc::new(RealDisk), settings);
    let (store, recovery) = tokio::task::spawn_blocking(open)
        .await
        .context("opening the spool failed")?
        .with_context(|| format!("data_dir: the spool in {} cannot be opened", config.data_dir.display()))?;
    if let Some(why) = &recovery.rebuilt {
        tracing::warn!(%why, "the queue's index was built anew from the journal; nothing is lost by that");
    }
    for damaged in &recovery.damaged {
        tracing::error!(%damaged, "a damaged record was set aside (see docs/STORAGE.md)");
    }
    if recovery.missing != 0 {
        let missing = recovery.missing;
        tracing::error!(
            missing,
            "messages that were accepted and did not leave are not in the journal (see feedgate queue verify)"
        );
    }
    tracing::info!(messages = recovery.messages, "the spool is open");
    Ok((store, recovery))
}

/// Writes the mail log's lines to history. The lines of one message come shortly after each other, and together they cost
/// little more than one of them: so they are gathered for a moment.
async fn keep_history(mut lines: mpsc::Receiver<Line>, history: History) {
    let mut batch = Vec::new();
    while lines.recv_many(&mut batch, HISTORY_BATCH_MAX).await > 0 {
        let mut gathered = history.gather(std::mem::take(&mut batch));
        let mut moment = pin!(tokio::time::sleep(HISTORY_GATHER));
        while gathered < HISTORY_BATCH_MAX {
            let count = tokio::select! {
                biased;
                () = &mut moment => break,
                count = lines.recv_many(&mut batch, HISTORY_BATCH_MAX - gathered) => count,
            };
            if count == 0 {
                break;
            }
            gathered = history.gather(std::mem::take(&mut batch));
        }
        history.write_gathered().await;
    }
}

/// A gateway that nobody can steer must not take mail: when the socket cannot be opened, it ends.
async fn serve_operators(
    operations: Arc<admin::Operations>,
    path: PathBuf,
    failed: mpsc::Sender<anyhow::Error>,
    stop: watch::Receiver<bool>,
) {
    if let Err(error) = admin::serve_socket(path.clone(), operations, told_to_stop(stop)).await {
        let why =
            anyhow::Error::new(error).context(format!("data_dir: commands cannot reach this gateway on {}", path.display()));
        let _ = failed.send(why).await;
    }
}

async fn serve_http(listener: TcpListener, operations: Arc<admin::Operations>, stop: watch::Receiver<bool>) {
    if let Err(error) = admin::serve_http(listener, operations, told_to_stop(stop)).await {
        tracing::error!(%error, "/metrics and /healthz are not served any more");
    }
}

async fn told_to_stop(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, and so is everything else.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn announce(flow: &Flow, address: SocketAddr) {
    let config = flow.config();
    tracing::info!(%address, hostname = %config.hostname, domains = config.domains.len(), "listening for SMTP");
}

/// Reloads on SIGHUP and when files change; returns on SIGTERM and SIGINT.
async fn until_told_to_stop(reload: &Reload, failures: &mut Failures) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut changes = watch_files(&reload.source);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            Some(failure) = failures.recv() => return Err(failure),
            _ = hangup.recv() => {}
            Some(()) = changes.recv() => {}
        }
        // What is wrong was logged; the old settings stay.
        let _ = reload.reload().await;
    }
}
