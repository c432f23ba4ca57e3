//! Group commit: 64 writers hand messages of 4 KiB to the spool at once, against the same bytes appended and synced in the
//! same batches by a bare loop, on the same disk, in turns. The ratio says what the spool costs beyond the disk.
//!
//! Neither pays for the other: nothing is removed before the end, the index is waited for before the loop's turn, and each turn
//! begins with nothing unwritten in the system.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use feedgate::mail::{Origin, Progress};
use feedgate::store::{ReceivedBody, Store, StoreSettings};

use super::counting::Counting;
use super::envelope;

const WRITERS: usize = 64;
const MESSAGE_BYTES: usize = 4096;
const ROUNDS: u32 = 9;
/// Of the spool's turn; the loop takes as long as it takes for the same batches.
const ROUND: Duration = Duration::from_millis(1500);
const WANTED: f64 = 0.70;

pub fn measure(directory: &Path) {
    let disk = Counting::default();
    let (store, _) = Store::open(directory, Arc::new(disk.clone()), StoreSettings::default()).expect("a new spool opens");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let numbers = Arc::new(AtomicU64::new(1));
    println!(
        "\ngroup commit: {WRITERS} writers, {MESSAGE_BYTES} bytes a message, 1 recipient; wanted: at least {WANTED:.2} of the loop"
    );
    println!("{:>6} {:>14} {:>14} {:>8} {:>16}", "round", "spool msgs/s", "loop msgs/s", "ratio", "messages a sync");
    // The first turn makes the reserve and warms everything up.
    let mut batches = accept(&store, &runtime, &disk, &numbers).batches;
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            // Who comes first changes, so that a disk that gets slower or faster is nobody's gain. The loop then repeats the
            // batches of the round before; what counts is bytes in the time they took.
            let file = directory.join(format!("bare-{round}"));
            let early = (round % 2 == 1).then(|| append(&file, &batches));
            let spool = accept(&store, &runtime, &disk, &numbers);
            let (bare, bytes) = match early {
                Some(took) => (took, batches.iter().sum::<usize>()),
                None => (append(&file, &spool.batches), spool.batches.iter().sum()),
            };
            let message = spool.batches.iter().sum::<usize>() as f64 / spool.messages as f64;
            let its = spool.messages as f64 / spool.took.as_secs_f64();
            let bares = bytes as f64 / message / bare.as_secs_f64();
            let a_sync = spool.messages as f64 / spool.batches.len() as f64;
            println!("{round:>6} {its:>14.0} {bares:>14.0} {:>8.2} {a_sync:>16.1}", its / bares);
            batches = spool.batches;
            its / bares
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    let word = if median >= WANTED { "reached" } else { "MISSED" };
    println!("spool/loop: median {median:.2}, from {:.2} to {:.2}: {word}", ratios[0], ratios[ratios.len() - 1]);
    store.close();
}

struct Accepted {
    messages: u64,
    took: Duration,
    /// What each sync made durable, in bytes.
    batches: Vec<usize>,
}

/// Accepts messages for the length of a round, each writer one after the other.
fn accept(store: &Store, runtime: &tokio::runtime::Runtime, disk: &Counting, numbers: &Arc<AtomicU64>) -> Accepted {
    write_out();
    disk.batches().clear();
    let started = Instant::now();
    let messages = runtime.block_on(async {
        let write = |_| tokio::spawn(write(store.clone(), Arc::clone(numbers), started + ROUND));
        let writers: Vec<_> = (0..WRITERS).map(write).collect();
        let mut messages = 0;
        for writer in writers {
            messages += writer.await.expect("a writer does not panic");
        }
        messages
    });
    let took = started.elapsed();
    let batches = std::mem::take(&mut *disk.batches());
    while store.spool_stats().index_behind > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    Accepted { messages, took, batches }
}

async fn write(store: Store, numbers: Arc<AtomicU64>, end: Instant) -> u64 {
    let content = bytes::Bytes::from(vec![b'x'; MESSAGE_BYTES]);
    let mut count = 0;
    while Instant::now() < end {
        let body = ReceivedBody::from_bytes(content.clone());
        let envelope = envelope(numbers.fetch_add(1, Ordering::Relaxed), "customer.example", MESSAGE_BYTES);
        let progress = Progress::accepted(Origin::Client, 1, envelope.received_at);
        store.accept(envelope, progress, body).await.expect("the spool has room");
        count += 1;
    }
    count
}

/// The least that makes these batches durable: one write and one fdatasync each.
fn append(path: &Path, batches: &[usize]) -> Duration {
    write_out();
    let bytes = vec![b'x'; batches.iter().copied().max().unwrap_or_default()];
    let mut file = File::create_new(path).expect("the file is new");
    let started = Instant::now();
    for batch in batches {
        file.write_all(&bytes[..*batch]).and_then(|()| file.sync_data()).expect("the disk takes it");
    }
    started.elapsed()
}

/// Everything that the system has not written yet.
fn write_out() {
    let _ = Command::new("sync").status();
}
