//! The size of the spool over nine days in which one customer is away and the others are busy.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::spool::Paths;
use super::testing::{entry, id, settle};
use super::*;
use crate::sim;

const SEGMENT: u64 = 64 << 10;
const LARGE: usize = 8 << 10;
/// Half an hour each.
const STEPS: u32 = 9 * 24 * 2;

struct Spool {
    disk: sim::Disk,
    store: Store,
    index: MemoryIndex,
    numbers: u32,
    /// The dead customer's, with the size of their contents.
    waiting: Vec<(u32, usize)>,
}

fn open(disk: &sim::Disk, index: &MemoryIndex, boot: &str) -> Store {
    let settings = StoreSettings { segment_size: SEGMENT, body_in_file: LARGE as u64 - 1, reserve: 0 };
    let disk = Arc::new(disk.clone());
    Store::open_simulated("/data".as_ref(), disk, settings, index.clone(), boot).unwrap().0
}

fn content(number: u32, size: usize) -> Bytes {
    (0..size).map(|at| (at as u32).wrapping_mul(7).wrapping_add(number) as u8).collect()
}

impl Spool {
    fn begin() -> Spool {
        let (disk, index) = (sim::Disk::new(9), MemoryIndex::default());
        let store = open(&disk, &index, "boot 1");
        Spool { disk, store, index, numbers: 0, waiting: Vec::new() }
    }

    async fn accept(&mut self, size: usize) -> u32 {
        self.numbers += 1;
        let mut writer = self.store.receive();
        writer.write(&content(self.numbers, size)).await.unwrap();
        let Entry { envelope, progress } = entry(self.numbers, 1);
        self.store.accept(envelope, progress, writer.finish().await.unwrap()).await.unwrap();
        self.numbers
    }

    /// The bound, by what the table counts and by what is on the disk.
    #[track_caller]
    fn is_small(&self, when: &str) {
        let stats = self.store.spool_stats();
        let bound = 2 * stats.live_bytes + 2 * SEGMENT;
        assert!(
            stats.bytes <= bound,
            "{when}: {} bytes with {} live in {} segments",
            stats.bytes,
            stats.live_bytes,
            stats.segments
        );
        let paths = Paths::new("/data".as_ref());
        let size = |folder: &Path, name: &str| self.disk.contents(&folder.join(name)).map_or(0, |bytes| bytes.len() as u64);
        let all = |folder: &Path, ending: &str| {
            let names = self.disk.list(folder).unwrap();
            names.iter().filter(|name| name.ends_with(ending)).map(|name| size(folder, name)).sum::<u64>()
        };
        let bodies: u64 = self.waiting.iter().filter(|(_, size)| *size >= LARGE).map(|(_, size)| *size as u64).sum();
        assert!(all(&paths.spool, ".seg") <= bound, "{when}: {bound}");
        assert_eq!(all(&paths.bodies, ".body"), bodies, "{when}: files of contents");
    }

    async fn attempt(&self, number: u32) {
        let attempt = |_: &Envelope, progress: &mut Progress| {
            progress.recipients[0].attempts += 1;
            progress.recipients[0].last_reply = "connection refused".into();
        };
        self.store.update(id(number), attempt).await.unwrap();
    }

    async fn housekeep(&self, when: &str) {
        self.store.housekeep().await.unwrap();
        self.is_small(when);
    }
}

#[tokio::test]
async fn the_spool_stays_under_twice_what_lives_and_two_segments() {
    let mut spool = Spool::begin();
    for step in 0..STEPS {
        let when = format!("day {}, step {step}", step / 48);
        // One for the dead customer, a large one now and then; its host is probed with one message.
        let size = if step % 50 == 0 { LARGE } else { 200 + (step as usize * 37) % 1500 };
        let number = spool.accept(size).await;
        spool.waiting.push((number, size));
        spool.attempt(spool.waiting[0].0).await;
        spool.attempt(number).await;
        // The others: much, gone at once, and something that waits a while.
        for busy in 0..12 {
            let number = spool.accept(500 + busy * 150).await;
            spool.store.update(id(number), |_, progress| settle(progress)).await.unwrap();
            if busy % 4 == 3 {
                spool.housekeep(&when).await;
            }
        }
    }
    // A power cut, and the host comes back: the backlog goes, oldest first, and the spool shrinks with it.
    let disk = spool.disk.after_power_cut();
    drop(spool.store);
    spool.store = open(&disk, &spool.index, "boot 2");
    spool.disk = disk;
    for (place, (number, size)) in std::mem::take(&mut spool.waiting).into_iter().enumerate() {
        let body = spool.store.body(id(number)).await.unwrap();
        assert_eq!(body.read(0..body.size()).await.unwrap(), content(number, size), "message {number}");
        spool.store.update(id(number), |_, progress| settle(progress)).await.unwrap();
        if place % 10 == 0 {
            spool.store.housekeep().await.unwrap();
            let stats = spool.store.spool_stats();
            assert!(stats.bytes <= 2 * stats.live_bytes + 2 * SEGMENT, "draining: {stats:?}");
        }
    }
    spool.housekeep("the end").await;
    assert_eq!(spool.store.spool_stats().messages, 0);
}
