//! Makes everything, in order, hands it over, and takes it down again in the opposite order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::clock::SystemClock;
use super::listener::{Sessions, bind, listen};
use super::reload::{Reload, engine};
use super::{janitor, reload};
use crate::admin;
use crate::checks::{Door, Greylist, ReverseNames};
use crate::config::{Config, Current, Source, watch as watch_files};
use crate::flow::Flow;
use crate::mail::IdSource;
use crate::net::{Dns, Tcp, server_tls};
use crate::outside::{Clock, Resolver, Scanner, Transport};
use crate::queue::Queue;
use crate::scan::Pool;
use crate::smtp::{Timeouts, TlsMemory};
use crate::store::{History, RealDisk, Recovery, Store, StoreSettings};
use crate::telemetry::{Line, MailLog, Metrics};

/// Mail-log lines that may wait for history; more are left out of it (and counted), never out of the log.
const HISTORY_WAITING_MAX: usize = 10_000;
/// Of these, written at a time.
const HISTORY_BATCH_MAX: usize = 2_000;
/// How long a batch waits for more.
const HISTORY_GATHER: Duration = Duration::from_millis(50);
/// What has begun may take this long to end after SIGTERM.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// Runs the gateway until SIGTERM or SIGINT.
pub async fn run(path: PathBuf, config: Config) -> anyhow::Result<()> {
    // Everything that can be wrong with the settings' surroundings is found before anything is opened for others.
    let rules = engine(&config).map_err(|why| anyhow!("{why}"))?;
    let tls = config.smtp.tls.as_ref().map(server_tls).transpose().map_err(|why| anyhow!("{why}"))?;
    let listeners = bind_all(&config)?;
    let http = config
        .admin
        .listen
        .map(|address| bind(address).with_context(|| format!("admin.listen: cannot listen on {address}")))
        .transpose()?;

    let store = open_store(&config).await?;
    let (store, recovery) = store;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids = Arc::new(IdSource::new(recovery.highest));
    let metrics = Arc::new(Metrics::new());
    let history = History::new(&store);
    let (lines, lines_waiting) = mpsc::channel(HISTORY_WAITING_MAX);
    let maillog = MailLog::new(Arc::clone(&metrics), Some(lines));
    let historian = tokio::spawn(keep_history(lines_waiting, history.clone()));

    let resolver: Arc<dyn Resolver> = Arc::new(Dns::new(&config.dns).context("dns: the resolver could not be started")?);
    let transport: Arc<dyn Transport> = Arc::new(Tcp::new());
    let scanner = Arc::new(Pool::new(&config.clamav, Arc::clone(&clock)));
    scanner.prove().await;
    let greylist = Greylist::new(store.memory("greylist"));
    let reverse_names = ReverseNames::new(Arc::clone(&resolver), Arc::clone(&clock));
    let tls = Arc::new(ArcSwapOption::new(tls));
    let current: Current = Arc::new(ArcSwap::from_pointee(config));
    let queue = Queue::load(store.clone(), Arc::clone(&clock), Arc::clone(&current), maillog.clone(), Arc::clone(&ids))
        .await
        .context("the queue could not be loaded")?;

    let flow = Arc::new(Flow {
        config: current,
        clock: Arc::clone(&clock),
        resolver,
        scanner: Arc::clone(&scanner) as Arc<dyn Scanner>,
        transport,
        store: store.clone(),
        queue: queue.clone(),
        greylist: greylist.clone(),
        reverse_names,
        engine: ArcSwap::from_pointee(rules),
        maillog,
        tls_memory: TlsMemory::default(),
        timeouts: Timeouts::default(),
    });
    let reload = Reload { path: path.clone(), flow: Arc::clone(&flow), tls: Arc::clone(&tls) };

    let (stop, stopping) = watch::channel(false);
    let tracker = TaskTracker::new();
    let sessions =
        Sessions { flow: Arc::clone(&flow), door: Door::default(), ids, tls, tracker: tracker.clone(), stop: stopping.clone() };
    for listener in listeners {
        announce(&flow, listener.local_addr()?);
        tracker.spawn(listen(listener, sessions.clone()));
    }
    drop(sessions);
    let worker = tokio::spawn(Arc::clone(&flow).work(stopping.clone(), STOP_PATIENCE));
    tracker.spawn(janitor::run(Arc::clone(&flow), Arc::clone(&scanner), history.clone(), stopping.clone()));

    let operations = admin::Operations {
        queue,
        greylist,
        history,
        store: store.clone(),
        config: Arc::clone(&flow.config),
        scanner: scanner as Arc<dyn Scanner>,
        started_at: clock.now(),
        clock,
        metrics,
        reload: reload_operation(reload.clone()),
    };
    let operations = Arc::new(operations);
    let socket = admin::socket_path(&flow.config().data_dir);
    tracker.spawn(serve_socket(socket, Arc::clone(&operations), stopping.clone()));
    if let Some(listener) = http {
        tracker.spawn(serve_http(listener, operations, stopping.clone()));
    }
    if flow.config().domains.is_empty() {
        tracing::warn!("no domains are configured: every recipient is refused");
    }
    until_told_to_stop(path, reload).await?;

    // Down in the opposite order: no new sessions or attempts; what has begun ends; then the spool is closed.
    tracing::info!("stopping: open transactions come to their end");
    let _ = stop.send(true);
    tracker.close();
    if tokio::time::timeout(STOP_PATIENCE, tracker.wait()).await.is_err() {
        tracing::warn!("some sessions did not end in time; their senders keep the mail");
    }
    let _ = worker.await;
    drop(flow);
    if tokio::time::timeout(STOP_PATIENCE, historian).await.is_err() {
        tracing::warn!("history was not written to its end");
    }
    tokio::task::spawn_blocking(move || store.close()).await.context("closing the spool failed")?;
    tracing::info!("stopped");
    Ok(())
}

fn bind_all(config: &Config) -> anyhow::Result<Vec<TcpListener>> {
    let bind_one = |address: &std::net::SocketAddr| {
        bind(*address).with_context(|| format!("smtp.listen: cannot listen on {address} (is another mail server running there?)"))
    };
    config.smtp.listen.iter().map(bind_one).collect()
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
    tracing::info!(messages = recovery.messages, "the spool is open");
    Ok((store, recovery))
}

/// Writes the mail log's lines to history. The lines of one message come shortly after each other, and together they cost
/// little more than one of them: so each batch waits a moment for more.
async fn keep_history(mut lines: mpsc::Receiver<Line>, history: History) {
    let mut batch = Vec::new();
    while lines.recv_many(&mut batch, HISTORY_BATCH_MAX).await > 0 {
        if batch.len() < HISTORY_BATCH_MAX {
            tokio::time::sleep(HISTORY_GATHER).await;
        }
        while batch.len() < HISTORY_BATCH_MAX
            && let Ok(line) = lines.try_recv()
        {
            batch.push(line);
        }
        history.record(std::mem::take(&mut batch)).await;
    }
}

async fn serve_socket(path: PathBuf, operations: Arc<admin::Operations>, stop: watch::Receiver<bool>) {
    if let Err(error) = admin::serve_socket(path.clone(), operations, told_to_stop(stop)).await {
        tracing::error!(path = %path.display(), %error, "the admin socket does not work: commands cannot reach this gateway");
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

fn reload_operation(reload: Reload) -> admin::Reload {
    Arc::new(move || {
        let reload = reload.clone();
        Box::pin(async move { reload.reload().await })
    })
}

fn announce(flow: &Flow, address: std::net::SocketAddr) {
    let config = flow.config();
    tracing::info!(%address, hostname = %config.hostname, domains = config.domains.len(), "listening for SMTP");
}

/// Reloads on SIGHUP and when files change; returns on SIGTERM and SIGINT.
async fn until_told_to_stop(path: PathBuf, reload: reload::Reload) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut changes = watch_files(&Source::new(&path));
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => {}
            Some(()) = changes.recv() => {}
        }
        // What is wrong was logged; the old settings stay.
        let _ = reload.reload().await;
    }
}
