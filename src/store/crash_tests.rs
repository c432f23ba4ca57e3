//! Crashes at every step of a random history, from one seed each.
//!
//! A history accepts, changes and settles messages and gives up segments; syncs fail now and then; at some step the process is
//! killed or power fails, also while the next start is recovering. Afterwards:
//!
//! - every message whose acceptance was acknowledged and that was not settled is there, once, with the right content, in a
//!   state that was acknowledged or was on its way;
//! - nothing whose settling was acknowledged comes back;
//! - a change that was answered with an error is in no later state of this life;
//! - nothing is there that was never accepted, and no damage is reported where none was made.
//!
//! A failure prints its seed: `FEEDGATE_SEED=n cargo test --lib store::crash_tests`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::index::Index;
use super::testing::{entry, id, settle};
use super::*;
use crate::sim;

const HISTORIES: u64 = 1000;
const LIVES: u32 = 4;
const OPERATIONS: u64 = 25;

#[test]
fn acknowledged_mail_survives_every_crash() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let only = std::env::var("FEEDGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(0..HISTORIES, |seed: u64| seed..seed + 1) {
        let history = || runtime.block_on(History::run(seed));
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(history)) {
            eprintln!("the seed of this failure: {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// What may be found of one message.
#[derive(Clone, Debug)]
struct Expected {
    size: usize,
    /// Its acceptance was acknowledged: it must be there, unless it may be settled.
    is_ours: bool,
    /// The states it may be in, by attempts.
    attempts: BTreeSet<u32>,
    may_be_settled: bool,
    is_settled: bool,
}

struct History {
    disk: sim::Disk,
    index: MemoryIndex,
    store: Store,
    boots: u32,
    next: u32,
    expected: BTreeMap<QueueId, Expected>,
}

impl History {
    async fn run(seed: u64) {
        let disk = sim::Disk::new(seed);
        let index = MemoryIndex::default();
        let (store, _) = open(&disk, &index, 0).unwrap();
        let mut history = History { disk, index, store, boots: 0, next: 1, expected: BTreeMap::new() };
        for _ in 0..LIVES {
            let crash_in = 1 + history.disk.random(60);
            history.disk.fail_power_at(history.disk.steps() + crash_in);
            for _ in 0..OPERATIONS {
                if history.disk.power_failed() {
                    break;
                }
                history.operate().await;
            }
            history.crash();
            history.check().await;
        }
    }

    async fn operate(&mut self) {
        if self.disk.random(20) == 0 {
            self.disk.fail_syncs(1);
        }
        match self.disk.random(16) {
            0..5 => self.accept(1).await,
            5..7 => self.accept(4).await,
            7..9 => self.change(1).await,
            9..11 => self.change(4).await,
            11..15 => self.settle().await,
            _ => {
                // What fails here is tried again later.
                let _ = self.store.housekeep().await;
            }
        }
    }

    /// So many at once, so that batches hold several.
    async fn accept(&mut self, count: u32) {
        let mut work = tokio::task::JoinSet::new();
        for number in self.next..self.next + count {
            // Small, large and in a file; the segments are smaller than the largest.
            let size = [0, 40, 600, 900, 3000][self.disk.random(5) as usize];
            self.expected.insert(
                id(number),
                Expected { size, is_ours: false, attempts: [0].into(), may_be_settled: false, is_settled: false },
            );
            let store = self.store.clone();
            work.spawn(async move { (number, accept(&store, number, size).await.is_ok()) });
        }
        self.next += count;
        for (number, is_ours) in work.join_all().await {
            self.expected.get_mut(&id(number)).unwrap().is_ours = is_ours;
        }
    }

    /// So many changes of one message at once, so that some build upon others that are not durable yet.
    async fn change(&mut self, count: u32) {
        let Some(id) = self.any() else { return };
        let before = match self.store.entry(id).await {
            Ok(entry) => entry.progress.recipients[0].attempts,
            Err(error) => return assert!(self.disk.power_failed(), "{id} cannot be read: {error}"),
        };
        let mut work = tokio::task::JoinSet::new();
        for _ in 0..count {
            let store = self.store.clone();
            let change = |_: &Envelope, progress: &mut Progress| {
                progress.recipients[0].attempts += 1;
                progress.recipients[0].attempts
            };
            work.spawn(async move { store.update(id, change).await.map(|(_, attempts)| attempts) });
        }
        let mut durable: Vec<_> = work.join_all().await.into_iter().filter_map(Result::ok).collect();
        durable.sort_unstable();
        let successes = durable.len() as u32;
        assert_eq!(durable, (before + 1..=before + successes).collect::<Vec<_>>(), "{id}: a failed change lived on");
        let expected = self.expected.get_mut(&id).unwrap();
        if successes > 0 {
            expected.attempts.clear();
        }
        // What failed may still be found after a crash.
        expected.attempts.extend(before + successes..=before + count);
    }

    async fn settle(&mut self) {
        let Some(id) = self.any() else { return };
        let result = self.store.update(id, |_, progress| settle(progress)).await;
        let expected = self.expected.get_mut(&id).unwrap();
        expected.may_be_settled = true;
        expected.is_settled |= result.is_ok();
    }

    /// One of the messages that are ours.
    fn any(&self) -> Option<QueueId> {
        let ours: Vec<_> = self.expected.iter().filter(|(_, expected)| expected.is_ours && !expected.is_settled).collect();
        (!ours.is_empty()).then(|| *ours[self.disk.random(ours.len() as u64) as usize].0)
    }

    /// The end of this life, and a start on what is left of it; some starts crash too.
    fn crash(&mut self) {
        loop {
            let is_power_cut = self.disk.random(3) > 0;
            // The old store ends on the old disk, which is off.
            let next = if is_power_cut { self.disk.after_power_cut() } else { self.disk.after_kill() };
            self.store.close();
            self.disk = next;
            if is_power_cut {
                self.boots += 1;
                self.index = self.damaged_index();
            }
            if self.disk.random(4) == 0 {
                self.disk.fail_power_at(self.disk.random(12));
                if let Ok((store, _)) = open(&self.disk, &self.index, self.boots) {
                    store.close();
                }
                continue;
            }
            let (store, recovery) = open(&self.disk, &self.index, self.boots).unwrap();
            assert_eq!(recovery.damaged, Vec::<String>::new());
            self.store = store;
            return;
        }
    }

    /// What a power cut leaves of an index that never syncs: anything.
    fn damaged_index(&self) -> MemoryIndex {
        let (mut places, mut index) = (Vec::new(), MemoryIndex::default());
        let mark = self.index.clone().load(&mut |id, place| places.push((id, Some(place)))).unwrap();
        places.retain(|_| self.disk.random(2) == 0);
        index.apply(&places, mark).unwrap();
        index
    }

    /// Compares what is there with what may be there; from now on exactly that is expected.
    async fn check(&mut self) {
        let found = self.store.entries(None, 10_000).await.unwrap();
        let ids: BTreeSet<_> = found.iter().map(|entry| entry.envelope.id).collect();
        assert_eq!(ids.len(), found.len(), "each once");
        assert_eq!(self.store.spool_stats().messages as usize, found.len());
        for (id, expected) in &self.expected {
            assert!(ids.contains(id) || !expected.is_ours || expected.may_be_settled, "{id} is lost: {expected:?}");
        }
        for entry in found {
            let id = entry.envelope.id;
            let expected = self.expected.get_mut(&id).expect("it was accepted");
            assert!(!expected.is_settled, "{id} came back: {expected:?}");
            let attempts = entry.progress.recipients[0].attempts;
            assert!(expected.attempts.contains(&attempts), "{id} has {attempts}: {expected:?}");
            let body = self.store.body(id).await.unwrap();
            assert_eq!(body.read(0..body.size()).await.unwrap(), content(id, expected.size), "{id}");
            *expected = Expected { is_ours: true, attempts: [attempts].into(), may_be_settled: false, ..expected.clone() };
        }
        self.expected.retain(|id, _| ids.contains(id));
        for id in self.expected.keys() {
            assert!(self.store.entry(*id).await.is_ok());
        }
    }
}

fn open(disk: &sim::Disk, index: &MemoryIndex, boots: u32) -> Result<(Store, Recovery), StoreError> {
    let settings = StoreSettings { segment_size: 4096, body_in_file: 800, reserve: 0 };
    Store::open_simulated("/data".as_ref(), Arc::new(disk.clone()), settings, index.clone(), &boots.to_string())
}

async fn accept(store: &Store, number: u32, size: usize) -> Result<(), StoreError> {
    let mut writer = store.receive();
    writer.write(&content(id(number), size)).await?;
    let Entry { envelope, progress } = entry(number, 1);
    store.accept(envelope, progress, writer.finish().await?).await.map(drop)
}

fn content(id: QueueId, size: usize) -> Bytes {
    vec![id.session.to_u64() as u8; size].into()
}
