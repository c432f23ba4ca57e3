//! Group commit: 64 writers hand messages of 4 KiB to the spool at once, against the same bytes appended and synced in the
//! same batches by a bare loop, on the same disk, in turns. The ratio says what the spool costs beyond the disk; it holds on
//! a busy machine too, the rates do not.
//!
//! `cargo bench --bench commit`

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use feedgate::mail::{
    Client, Envelope, MailParameters, Origin, Progress, Protocol, Recipient, ReversePath, SessionId, Timestamp,
};
use feedgate::outside::{Disk, DiskFile};
use feedgate::store::{RealDisk, ReceivedBody, Store, StoreSettings};

const WRITERS: u64 = 64;
const MESSAGE_BYTES: usize = 4096;
const ROUNDS: u64 = 5;
/// Of the spool's turn; the loop takes as long as it takes for the same batches.
const ROUND: Duration = Duration::from_millis(1500);

fn main() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch directory");
    println!("{WRITERS} writers, {MESSAGE_BYTES} bytes a message, 1 recipient, in {}", directory.path().display());
    println!(
        "{:>6} {:>14} {:>14} {:>8} {:>16} {:>16}",
        "round", "spool msgs/s", "loop msgs/s", "ratio", "messages a sync", "bytes a message"
    );
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let spool = accept(&directory.path().join(round.to_string()));
            let bare = append(&directory.path().join("bare"), &spool.batches);
            let rate = |took: Duration| spool.messages as f64 / took.as_secs_f64();
            let ratio = rate(spool.took) / rate(bare);
            let bytes = spool.batches.iter().sum::<usize>() as f64 / spool.messages as f64;
            let batch = spool.messages as f64 / spool.batches.len() as f64;
            println!("{round:>6} {:>14.0} {:>14.0} {ratio:>8.2} {batch:>16.1} {bytes:>16.0}", rate(spool.took), rate(bare));
            ratio
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!("spool/loop: median {:.2}, from {:.2} to {:.2}", ratios[ratios.len() / 2], ratios[0], ratios[ratios.len() - 1]);
}

struct Accepted {
    messages: u64,
    took: Duration,
    /// What each sync made durable, in bytes.
    batches: Vec<usize>,
}

/// Accepts messages for the length of a round, each writer one after the other.
fn accept(directory: &Path) -> Accepted {
    let disk = Counting::default();
    let (store, _) = Store::open(directory, Arc::new(disk.clone()), StoreSettings::default()).expect("a new spool opens");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    disk.batches().clear();
    let started = Instant::now();
    let messages = runtime.block_on(async {
        let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer, started + ROUND))).collect();
        let mut messages = 0;
        for writer in writers {
            messages += writer.await.expect("a writer does not panic");
        }
        messages
    });
    let took = started.elapsed();
    let batches = std::mem::take(&mut *disk.batches());
    store.close();
    std::fs::remove_dir_all(directory).expect("the spool can be removed");
    Accepted { messages, took, batches }
}

async fn write(store: Store, writer: u64, end: Instant) -> u64 {
    let content = vec![b'x'; MESSAGE_BYTES];
    let mut count = 0;
    while Instant::now() < end {
        let body = ReceivedBody::from_bytes(content.clone().into());
        let envelope = envelope(writer << 32 | count);
        let progress = Progress::accepted(Origin::Client, 1, envelope.received_at);
        store.accept(envelope, progress, body).await.expect("the spool has room");
        count += 1;
    }
    count
}

fn envelope(number: u64) -> Envelope {
    Envelope {
        id: SessionId::from_u64(number).expect("less than 60 bits").message(1),
        received_at: Timestamp(1_795_214_160_000),
        client: Client {
            address: [192, 0, 2, 1].into(),
            reverse_name: Some("mail.sender.example".parse().expect("a domain")),
            reverse_confirmed: true,
            helo: "mail.sender.example".to_owned(),
            protocol: Protocol::Esmtp,
            tls: None,
            findings: Vec::new(),
        },
        reverse_path: ReversePath::Null,
        parameters: MailParameters::default(),
        recipients: vec![Recipient::new("jane@customer.example".parse().expect("an address"))],
        size: MESSAGE_BYTES as u64,
    }
}

/// The least that makes these batches durable: one write and one fdatasync each.
fn append(path: &Path, batches: &[usize]) -> Duration {
    let bytes = vec![b'x'; batches.iter().copied().max().unwrap_or_default()];
    let mut file = File::create_new(path).expect("the file is new");
    let started = Instant::now();
    for batch in batches {
        file.write_all(&bytes[..*batch]).and_then(|()| file.sync_data()).expect("the disk takes it");
    }
    let took = started.elapsed();
    std::fs::remove_file(path).expect("the file can be removed");
    took
}

/// The real disk, with a list of what was written to the journal's segments between two syncs.
#[derive(Clone, Default)]
struct Counting {
    batches: Arc<Mutex<Vec<usize>>>,
}

struct Segment {
    file: Arc<dyn DiskFile>,
    batches: Arc<Mutex<Vec<usize>>>,
    unsynced: Mutex<usize>,
}

impl Counting {
    fn batches(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Counting {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = RealDisk.create(path)?;
        if path.extension().is_none_or(|extension| extension != "seg") {
            return Ok(file);
        }
        Ok(Arc::new(Segment { file, batches: Arc::clone(&self.batches), unsynced: Mutex::default() }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(directory)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(path)
    }
}

impl DiskFile for Segment {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner) += bytes.len();
        self.file.write_at(bytes, at)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(into, at)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        let batch = std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
        self.file.sync()
    }
}
