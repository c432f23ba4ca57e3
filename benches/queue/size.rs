//! A million messages in the queue: what one more costs, the memory of the process that holds them, and how long a restart
//! takes. Each step is a process of its own, this program called again, so that nothing but the queue is in its memory.
//!
//! Each message is accepted, judged and planned, as the gateway does it. Four fifths are for one domain.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use feedgate::config::Config;
use feedgate::daemon::SystemClock;
use feedgate::mail::{Decision, IdSource, Judgement, SpamLevel, Verdict};
use feedgate::queue::{Queue, Selector};
use feedgate::store::{RealDisk, ReceivedBody, Store, StoreSettings};
use feedgate::telemetry::{MailLog, Metrics};

use super::envelope;

const BODY_BYTES: usize = 512;
const WRITERS: usize = 256;
/// Figures while it is filled.
const STEPS: u64 = 10;
/// One in five messages is for one of these.
const SMALL_DOMAINS: u64 = 20;
const MEMORY_WANTED: u64 = 500;
const RESTART_WANTED: Duration = Duration::from_secs(10);
const REBUILD_WANTED: Duration = Duration::from_secs(60);

pub fn measure(directory: &Path, messages: u64) {
    println!("\n{messages} messages of {BODY_BYTES} bytes, {} domains, one with four fifths of them", SMALL_DOMAINS + 1);
    println!("{:>10} {:>12} {:>12} {:>8}   accepted and judged by {WRITERS} writers", "queued", "msgs/s", "CPU µs each", "MB");
    let path = directory.display().to_string();
    again(&["--fill", &path, "--messages", &messages.to_string()]);
    println!(
        "{:>10} {:>10} {:>10} {:>10} {:>8} {:>11} {:>10}   wanted: {MEMORY_WANTED} MB, {:?} with the index, {:?} without",
        "restart", "spool", "queue", "ready", "MB", "status", "list", RESTART_WANTED, REBUILD_WANTED
    );
    print!("{:>10}", "index");
    again(&["--restart", &path]);
    std::fs::remove_dir_all(directory.join("index")).expect("the index can be removed");
    print!("{:>10}", "no index");
    again(&["--restart", &path]);
}

/// This program once more, for one step.
fn again(arguments: &[&str]) {
    use std::io::Write as _;
    std::io::stdout().flush().expect("standard output");
    let program = std::env::current_exe().expect("this program has a name");
    let status = Command::new(program).args(arguments).status().expect("it starts again");
    assert!(status.success(), "{arguments:?}: {status}");
}

/// Fills an empty queue; a line for each tenth.
pub fn fill(directory: &Path, messages: u64) {
    let runtime = runtime();
    let (store, queue, _) = open(directory, &runtime);
    let step = (messages / STEPS).max(1);
    let numbers = Arc::new(AtomicU64::new(1));
    let mut costs = Vec::new();
    for until in (1..=STEPS).map(|count| count * step) {
        let (started, cpu) = (Instant::now(), cpu_time());
        runtime.block_on(async {
            let writer = |_| tokio::spawn(write(queue.clone(), Arc::clone(&numbers), until));
            for writer in (0..WRITERS).map(writer).collect::<Vec<_>>() {
                writer.await.expect("a writer does not panic");
            }
        });
        numbers.store(until + 1, Ordering::Relaxed);
        let rate = step as f64 / started.elapsed().as_secs_f64();
        let cost = (cpu_time() - cpu).as_secs_f64() * 1e6 / step as f64;
        println!("{:>10} {rate:>12.0} {cost:>12.1} {:>8}", store.spool_stats().messages, resident_mb());
        costs.push((rate, cost));
    }
    let ((rate_first, cost_first), (rate_last, cost_last)) = (costs[0], costs[costs.len() - 1]);
    println!(
        "the last tenth against the first: {:.2} times the time, {:.2} times the CPU time; wanted: flat",
        rate_first / rate_last,
        cost_last / cost_first
    );
    store.close();
}

async fn write(queue: Queue, numbers: Arc<AtomicU64>, until: u64) {
    let content = bytes::Bytes::from(vec![b'x'; BODY_BYTES]);
    loop {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        if number > until {
            return;
        }
        let domain = match number % 5 {
            0 => format!("customer{}.example", number / 5 % SMALL_DOMAINS),
            _ => "big.example".to_owned(),
        };
        let envelope = envelope(number, &domain, BODY_BYTES);
        let (id, at) = (envelope.id, envelope.received_at);
        queue.accept(envelope, ReceivedBody::from_bytes(content.clone())).await.expect("the spool has room");
        let judgement = Judgement {
            at,
            verdict: Verdict::Clean,
            score: 0.0,
            level: SpamLevel::None,
            hits: Vec::new(),
            authentication: Default::default(),
            domains: Vec::new(),
        };
        queue.judged(id, judgement, vec![Decision::Deliver]).await.expect("the spool has room");
    }
}

/// Starts with what is there; its figures in one line.
pub fn restart(directory: &Path) {
    let runtime = runtime();
    let started = Instant::now();
    let (store, queue, opened) = open(directory, &runtime);
    let ready = started.elapsed();
    let time = |work: &mut dyn FnMut()| {
        let started = Instant::now();
        work();
        started.elapsed()
    };
    let status = time(&mut || drop(runtime.block_on(queue.counts()).expect("numbers")));
    let list = time(&mut || {
        let page = runtime.block_on(queue.list(&Selector::default(), None, 1000)).expect("a page");
        assert_eq!(page.len() as u64, store.spool_stats().messages.min(1000));
    });
    println!(
        " {:>8.2} s {:>8.2} s {:>8.2} s {:>8} {:>8.1} ms {:>7.1} ms",
        opened.as_secs_f64(),
        (ready - opened).as_secs_f64(),
        ready.as_secs_f64(),
        resident_mb(),
        status.as_secs_f64() * 1e3,
        list.as_secs_f64() * 1e3,
    );
    store.close();
}

/// The queue that is there, and how long its spool took to open.
fn open(directory: &Path, runtime: &tokio::runtime::Runtime) -> (Store, Queue, Duration) {
    let text = format!("hostname = \"mx1.isp.example\"\ndata_dir = {directory:?}\n");
    let config = Config::parse(&text, Path::new("feedgate.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    let started = Instant::now();
    let (store, recovery) = Store::open(directory, Arc::new(RealDisk), StoreSettings::default()).expect("the spool opens");
    let opened = started.elapsed();
    let ids = Arc::new(IdSource::new(recovery.highest));
    let maillog = MailLog::new(Arc::new(Metrics::new()), None);
    let config = Arc::new(arc_swap::ArcSwap::from_pointee(config));
    let load = Queue::load(store.clone(), Arc::new(SystemClock), config, maillog, ids);
    let queue = runtime.block_on(load).expect("the queue loads");
    (store, queue, opened)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// Of this process, in MB.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kilobytes * 1024 / 1_000_000
}

/// Of this process so far.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().expect("a name in brackets");
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}
