//! The store as the house sees it, on a faulty disk; some on a real one with sled.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::spool::Paths;
use super::testing::{entry, id, settle};
use super::*;
use crate::sim;

const DIRECTORY: &str = "/data";

fn settings() -> StoreSettings {
    StoreSettings { segment_size: 8192, body_in_file: 2048, reserve: 0 }
}

/// One run of the machine with a store in it.
struct Life {
    disk: sim::Disk,
    index: MemoryIndex,
    store: Store,
    recovery: Recovery,
}

impl Life {
    fn begin() -> Life {
        Life::on(sim::Disk::new(1), MemoryIndex::default(), "boot 1", settings())
    }

    fn on(disk: sim::Disk, index: MemoryIndex, boot: &str, settings: StoreSettings) -> Life {
        let opened = Store::open_simulated(DIRECTORY.as_ref(), Arc::new(disk.clone()), settings, index.clone(), boot);
        let (store, recovery) = opened.unwrap();
        Life { disk, index, store, recovery }
    }

    /// The process is killed; the machine runs on.
    fn killed(self) -> Life {
        let disk = self.disk.after_kill();
        drop(self.store);
        Life::on(disk, self.index, "boot 1", settings())
    }

    /// Power fails; the index is as it was, but nobody believes it.
    fn power_cut(self) -> Life {
        let disk = self.disk.after_power_cut();
        drop(self.store);
        Life::on(disk, self.index, "boot 2", settings())
    }

    /// What is on the disk is changed while nobody has it open, and the index is lost.
    fn tampered(self, change: impl FnOnce(&sim::Disk)) -> Life {
        self.store.close();
        let disk = self.disk.after_kill();
        drop(self.store);
        change(&disk);
        Life::on(disk, MemoryIndex::default(), "boot 1", settings())
    }

    async fn accept(&self, number: u32, size: usize) -> Result<(), StoreError> {
        accept(&self.store, number, size).await
    }

    async fn attempt(&self, number: u32) -> Result<u32, StoreError> {
        let attempt = |_: &Envelope, progress: &mut Progress| {
            progress.recipients[0].attempts += 1;
            progress.recipients[0].attempts
        };
        self.store.update(id(number), attempt).await.map(|(_, attempts)| attempts)
    }

    async fn settle(&self, number: u32) -> Result<(), StoreError> {
        self.store.update(id(number), |_, progress| settle(progress)).await.map(drop)
    }

    async fn attempts(&self, number: u32) -> u32 {
        self.store.entry(id(number)).await.unwrap().progress.recipients[0].attempts
    }

    async fn ids(&self) -> Vec<QueueId> {
        self.store.entries(None, 1000).await.unwrap().iter().map(|entry| entry.envelope.id).collect()
    }

    async fn has_content(&self, number: u32, size: usize) -> bool {
        read(&self.store, number).await.unwrap() == content(number, size)
    }

    fn body_files(&self) -> Vec<String> {
        self.disk.list(&paths().bodies).unwrap()
    }
}

fn paths() -> Paths {
    Paths::new(DIRECTORY.as_ref())
}

/// Where the first record of a message stands in the first segment: behind the ledger's totals.
fn first_record() -> usize {
    record::SEGMENT_HEADER + record::Draft::ledger(&super::ledger::Totals::default()).length() as usize
}

/// What is kept of it when it is damaged.
fn first_kept() -> std::path::PathBuf {
    paths().damaged.join(format!("0000000001-{}.part", first_record()))
}

fn segment(number: u32) -> PathBuf {
    journal::segment_path(&paths().spool, number)
}

fn content(number: u32, size: usize) -> Bytes {
    (0..size).map(|at| (at as u32).wrapping_mul(31).wrapping_add(number) as u8).collect()
}

async fn accept(store: &Store, number: u32, size: usize) -> Result<(), StoreError> {
    let mut writer = store.receive();
    for piece in content(number, size).chunks(700) {
        writer.write(piece).await?;
    }
    let Entry { envelope, progress } = entry(number, 1);
    store.accept(envelope, progress, writer.finish().await?).await.map(drop)
}

async fn read(store: &Store, number: u32) -> Result<Bytes, StoreError> {
    let body = store.body(id(number)).await?;
    Ok(body.read(0..body.size()).await.unwrap())
}

#[tokio::test]
async fn what_was_accepted_is_there_after_a_power_cut() {
    let life = Life::begin();
    let sizes = [0, 1, 2000, 2048, 2049, 100_000];
    for (number, size) in sizes.into_iter().enumerate() {
        life.accept(number as u32, size).await.unwrap();
    }
    let life = life.power_cut();
    assert_eq!(life.recovery.messages, sizes.len() as u64);
    assert_eq!(life.recovery.highest, Some(id(5).session));
    assert_eq!(life.recovery.rebuilt.as_deref(), Some("the machine stopped while the index was in use"));
    assert!(life.recovery.damaged.is_empty(), "{:?}", life.recovery);
    for (number, size) in sizes.into_iter().enumerate() {
        assert!(life.has_content(number as u32, size).await, "{size} bytes");
        assert_eq!(*life.store.entry(id(number as u32)).await.unwrap(), entry(number as u32, 1));
    }
}

#[tokio::test]
async fn the_newest_state_survives_and_what_is_settled_is_gone() {
    let life = Life::begin();
    for number in 1..=3 {
        life.accept(number, 5000).await.unwrap();
    }
    assert_eq!((life.attempt(1).await.unwrap(), life.attempt(1).await.unwrap()), (1, 2));
    life.settle(2).await.unwrap();
    assert!(matches!(life.store.entry(id(2)).await, Err(StoreError::NotFound)));
    assert!(matches!(life.store.body(id(2)).await, Err(StoreError::NotFound)));
    assert!(matches!(life.settle(2).await, Err(StoreError::NotFound)));
    for life in [life.power_cut()] {
        assert_eq!(life.ids().await, [id(1), id(3)]);
        assert_eq!(life.attempts(1).await, 2);
        assert_eq!(life.body_files().len(), 2, "the settled one's content is gone");
        let life = life.killed();
        assert_eq!(life.ids().await, [id(1), id(3)]);
    }
}

#[tokio::test]
async fn messages_are_listed_in_the_order_of_their_ids() {
    let life = Life::begin();
    for number in [5, 3, 4, 1, 2] {
        life.accept(number, 10).await.unwrap();
    }
    life.settle(3).await.unwrap();
    let page = async |after, most| {
        let entries = life.store.entries(after, most).await.unwrap();
        entries.iter().map(|entry| entry.envelope.id).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2).await, [id(1), id(2)]);
    assert_eq!(page(Some(id(2)), 2).await, [id(4), id(5)]);
    assert!(page(Some(id(5)), 2).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sync_answers_many() {
    // How many find each other in a batch depends on the machine's mood; that none do would show every time.
    let mut fewest = u64::MAX;
    for _ in 0..5 {
        fewest = fewest.min(steps_of_64_at_once().await);
    }
    assert!(fewest < 128, "{fewest} writes and syncs for 64 messages");
}

async fn steps_of_64_at_once() -> u64 {
    let life = Life::begin();
    life.accept(0, 10).await.unwrap();
    let before = life.disk.steps();
    let writers: Vec<_> = (1..=64)
        .map(|number| {
            let store = life.store.clone();
            tokio::spawn(async move { accept(&store, number, 10).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let steps = life.disk.steps() - before;
    assert_eq!(life.power_cut().ids().await.len(), 65);
    steps
}

#[tokio::test]
async fn a_failed_sync_is_an_error_and_nothing_has_changed() {
    let life = Life::begin();
    life.accept(1, 10).await.unwrap();
    life.attempt(1).await.unwrap();
    life.disk.fail_syncs(1);
    assert!(matches!(life.accept(2, 10).await, Err(StoreError::Io { .. })));
    life.disk.fail_syncs(1);
    assert!(life.attempt(1).await.is_err());
    life.disk.fail_syncs(1);
    assert!(life.settle(1).await.is_err());
    assert_eq!((life.ids().await, life.attempts(1).await), (vec![id(1)], 1));
    // The same may be tried again.
    life.accept(2, 10).await.unwrap();
    assert_eq!(life.attempt(1).await.unwrap(), 2);
    let life = life.power_cut();
    assert_eq!((life.ids().await, life.attempts(1).await), (vec![id(1), id(2)], 2));
    assert!(life.recovery.damaged.is_empty(), "{:?}", life.recovery);
}

#[tokio::test]
async fn a_large_body_whose_sync_fails_is_not_accepted() {
    let life = Life::begin();
    life.disk.fail_syncs(1);
    assert!(life.accept(1, 10_000).await.is_err());
    life.store.housekeep().await.unwrap();
    assert!(life.body_files().is_empty());
    life.accept(1, 10_000).await.unwrap();
    assert!(life.power_cut().has_content(1, 10_000).await);
}

#[tokio::test]
async fn a_body_that_is_given_up_leaves_nothing() {
    let life = Life::begin();
    let mut writer = life.store.receive();
    writer.write(&[0; 10_000]).await.unwrap();
    assert_eq!(writer.size(), 10_000);
    assert_eq!(life.body_files().len(), 1);
    drop(writer);
    life.store.housekeep().await.unwrap();
    assert!(life.body_files().is_empty());
    let mut writer = life.store.receive();
    writer.write(&[0; 10_000]).await.unwrap();
    let received = writer.finish().await.unwrap();
    let life = life.killed();
    assert!(life.body_files().is_empty(), "the next start removes what was arriving");
    drop(received);
}

#[tokio::test]
async fn an_id_is_used_once() {
    let life = Life::begin();
    life.accept(1, 10).await.unwrap();
    assert!(matches!(life.accept(1, 20).await, Err(StoreError::Io { .. })));
    assert!(life.has_content(1, 10).await);
}

#[tokio::test]
async fn a_change_that_loses_a_recipient_is_refused() {
    let life = Life::begin();
    life.accept(1, 10).await.unwrap();
    assert!(life.store.update(id(1), |_, progress| progress.recipients.clear()).await.is_err());
    assert_eq!(life.attempts(1).await, 0);
}

#[tokio::test]
async fn a_full_disk_refuses_new_mail_and_finishes_the_old() {
    let reserve = 64 << 10;
    let disk = sim::Disk::new(1);
    disk.set_capacity(200 << 10);
    let life = Life::on(disk, MemoryIndex::default(), "boot 1", StoreSettings { reserve, ..settings() });
    life.store.housekeep().await.unwrap();
    assert!(life.disk.contents(&paths().reserve).is_some());
    let mut accepted = 0;
    while life.accept(accepted, 1500).await.is_ok() {
        accepted += 1;
    }
    assert!(life.store.is_full());
    assert!(matches!(life.accept(900, 10).await, Err(StoreError::Full)));
    assert!(matches!(life.accept(901, 10_000).await, Err(StoreError::Full)));
    // Somebody else fills the rest.
    life.disk.set_capacity(life.disk.used());
    assert_eq!(life.attempt(0).await.unwrap(), 1, "finishing uses the reserve");
    life.settle(1).await.unwrap();
    assert!(life.disk.contents(&paths().reserve).is_none());
    // Room again: new mail again.
    life.disk.set_capacity(1 << 20);
    life.store.housekeep().await.unwrap();
    assert!(life.disk.contents(&paths().reserve).is_some());
    life.accept(902, 10).await.unwrap();
    let life = life.power_cut();
    assert_eq!(life.recovery.messages, u64::from(accepted));
    assert_eq!(life.attempts(0).await, 1);
}

#[tokio::test]
async fn the_end_of_an_interrupted_write_is_no_damage() {
    let life = Life::begin();
    life.accept(1, 500).await.unwrap();
    life.accept(2, 500).await.unwrap();
    let life = life.tampered(|disk| {
        let length = disk.contents(&segment(1)).unwrap().len() as u64;
        disk.open(&segment(1)).unwrap().set_len(length - 100).unwrap();
    });
    assert_eq!(life.ids().await, [id(1)]);
    assert!(life.recovery.damaged.is_empty());
    assert_eq!(life.recovery.rebuilt.as_deref(), Some("the index is not complete"));
}

#[tokio::test]
async fn damage_in_the_middle_is_set_aside_and_reported_and_costs_one_message() {
    let life = Life::begin();
    for number in 1..=3 {
        life.accept(number, 500).await.unwrap();
    }
    let at = life.disk.contents(&segment(1)).unwrap().windows(4).rposition(|bytes| bytes == record::RECORD_MAGIC).unwrap();
    // In the header of the first record.
    let life = life.tampered(|disk| disk.flip_bit(&segment(1), first_record() + 20, 1));
    assert_eq!(life.ids().await, [id(2), id(3)]);
    let [line] = &life.recovery.damaged[..] else { panic!("{:?}", life.recovery) };
    assert!(line.starts_with("segment 1, ") && line.contains(&format!("at {}: no record here", first_record())), "{line}");
    let kept = life.disk.contents(&first_kept()).unwrap();
    assert!(kept.starts_with(record::RECORD_MAGIC) && kept.len() < at);
}

#[tokio::test]
async fn a_damaged_content_is_never_handed_out() {
    let life = Life::begin();
    life.accept(1, 1500).await.unwrap();
    life.accept(2, 1500).await.unwrap();
    life.accept(3, 5000).await.unwrap();
    let end_of_first = {
        let bytes = life.disk.contents(&segment(1)).unwrap();
        let first = first_record() + 1;
        bytes.windows(4).skip(first).position(|bytes| bytes == record::RECORD_MAGIC).unwrap() + first
    };
    // The index is good, so nothing is read at the start.
    life.store.close();
    let disk = life.disk.after_kill();
    disk.flip_bit(&segment(1), end_of_first - 10, 0);
    disk.flip_bit(&paths().body(id(3)), 4000, 0);
    let life = Life::on(disk, life.index.clone(), "boot 1", settings());
    assert_eq!(life.recovery.rebuilt, None);
    assert!(matches!(life.store.body(id(1)).await, Err(StoreError::Damaged(_))));
    assert!(matches!(life.store.body(id(3)).await, Err(StoreError::Damaged(_))));
    assert!(life.has_content(2, 1500).await);
    assert!(life.store.entry(id(1)).await.is_ok(), "an operator sees it");
    assert!(life.disk.contents(&first_kept()).is_some());
    // Read as a whole, the journal reports it.
    let life = life.tampered(|_| {});
    assert_eq!(life.ids().await, [id(2), id(3)]);
    assert!(life.recovery.damaged[0].contains(&id(1).to_string()), "{:?}", life.recovery);
}

#[tokio::test]
async fn a_missing_content_file_is_reported() {
    let life = Life::begin();
    life.accept(1, 5000).await.unwrap();
    life.accept(2, 5000).await.unwrap();
    let life = life.tampered(|disk| disk.remove(&paths().body(id(1))).unwrap());
    assert_eq!(life.ids().await, [id(2)]);
    assert_eq!(life.recovery.damaged, [format!("message {}: the file with its content is missing", id(1))]);
}

#[tokio::test]
async fn after_damage_a_content_without_a_message_is_kept() {
    let life = Life::begin();
    life.accept(1, 5000).await.unwrap();
    life.accept(2, 10).await.unwrap();
    let life = life.tampered(|disk| disk.flip_bit(&segment(1), first_record() + 20, 1));
    assert_eq!(life.ids().await, [id(2)]);
    let kept = life.disk.contents(&paths().damaged.join(format!("{}.body", id(1)))).unwrap();
    assert_eq!(kept, content(1, 5000));
}

#[tokio::test]
async fn a_lost_segment_and_a_lost_header_are_reported() {
    let life = Life::begin();
    for number in 1..=30 {
        life.accept(number, 1500).await.unwrap();
    }
    assert!(life.store.spool_stats().segments > 4);
    let life = life.tampered(|disk| {
        disk.remove(&segment(2)).unwrap();
        disk.flip_bit(&segment(5), 30, 0);
    });
    let report = life.recovery.damaged.join("\n");
    assert!(report.contains("segment 2 is missing"), "{report}");
    assert!(report.contains("segment 5: its header is damaged, its records are used"), "{report}");
    assert!((20..30).contains(&life.recovery.messages), "{:?}", life.recovery);
}

#[tokio::test]
async fn a_segment_without_records_is_damage_only_when_the_next_one_names_it() {
    let life = Life::begin();
    life.accept(1, 500).await.unwrap();
    life.disk.fail_syncs(1);
    assert!(life.accept(2, 500).await.is_err());
    // Segment 2 is begun, with the ledger at its head; then there is no room for its first batch.
    life.disk.set_capacity(life.disk.used() + 700);
    assert!(life.accept(3, 500).await.is_err());
    life.disk.set_capacity(u64::MAX);
    life.accept(4, 500).await.unwrap();
    let life = life.tampered(|disk| {
        // As it is when the power fails between the header and the ledger.
        let second = disk.open(&segment(2)).unwrap();
        second.set_len(record::SEGMENT_HEADER as u64).and_then(|()| second.sync()).unwrap();
        disk.flip_bit(&segment(2), 34, 1);
        disk.create(&segment(4)).unwrap().write_at(&[0; 64], 0).unwrap();
    });
    let [line] = &life.recovery.damaged[..] else { panic!("{:?}", life.recovery) };
    assert!(line.starts_with("segment 2: its header is damaged, it held no record"), "{line}");
    assert!(life.disk.contents(&paths().damaged.join("0000000002.seg")).is_some());
    assert!(life.disk.contents(&segment(4)).is_none());
    assert_eq!(life.ids().await.last(), Some(&id(4)));
}

#[tokio::test]
async fn the_index_is_used_after_a_kill_and_after_a_proper_end() {
    let life = Life::begin();
    for number in 1..=20 {
        life.accept(number, 1000).await.unwrap();
    }
    life.settle(4).await.unwrap();
    let life = life.killed();
    assert_eq!((life.recovery.rebuilt.clone(), life.recovery.messages), (None, 19));
    life.settle(5).await.unwrap();
    life.store.close();
    let (disk, index) = (life.disk.after_power_cut(), life.index.clone());
    let life = Life::on(disk, index, "boot 2", settings());
    assert_eq!((life.recovery.rebuilt.clone(), life.recovery.messages), (None, 18));
    assert_eq!(life.recovery.highest, Some(id(20).session));
    assert!(life.has_content(6, 1000).await);
}

#[tokio::test]
async fn an_index_of_another_journal_is_not_believed() {
    let other = Life::begin();
    other.accept(7, 10).await.unwrap();
    other.store.close();
    let life = Life::begin();
    life.accept(1, 10).await.unwrap();
    life.store.close();
    let life = Life::on(life.disk.after_kill(), other.index.clone(), "boot 1", settings());
    assert_eq!(life.recovery.rebuilt.as_deref(), Some("the index and the journal do not belong together"));
    assert_eq!(life.ids().await, [id(1)]);
}

#[tokio::test]
async fn an_index_that_lags_behind_is_brought_up() {
    let life = Life::begin();
    life.accept(1, 10).await.unwrap();
    life.accept(2, 10).await.unwrap();
    life.store.close();
    // A copy of the index of this moment.
    let mut lagging = MemoryIndex::default();
    let mut places = Vec::new();
    let mark = index::Index::load(&mut life.index.clone(), &mut |id, place| places.push((id, Some(place)))).unwrap();
    index::Index::apply(&mut lagging, &places, mark).unwrap();
    let life = Life::on(life.disk.after_kill(), life.index.clone(), "boot 1", settings());
    life.settle(1).await.unwrap();
    life.attempt(2).await.unwrap();
    life.accept(3, 3000).await.unwrap();
    let disk = life.disk.after_kill();
    drop(life.store);
    let life = Life::on(disk, lagging, "boot 1", settings());
    assert_eq!(life.recovery.rebuilt, None);
    assert_eq!((life.ids().await, life.attempts(2).await), (vec![id(2), id(3)], 1));
}

#[tokio::test]
async fn an_index_killed_half_way_between_two_marks_is_brought_up() {
    for kept in 0..32u32 {
        let life = Life::begin();
        for number in 1..=3 {
            life.accept(number, 10).await.unwrap();
        }
        life.store.close();
        let before = life.index.remains(|_| true);
        let life = Life::on(life.disk.after_kill(), life.index.clone(), "boot 1", settings());
        life.attempt(1).await.unwrap();
        life.attempt(2).await.unwrap();
        life.settle(2).await.unwrap();
        life.accept(4, 3000).await.unwrap();
        life.accept(5, 10).await.unwrap();
        life.settle(5).await.unwrap();
        life.attempt(3).await.unwrap();
        life.attempt(3).await.unwrap();
        life.store.close();
        // As after a kill: the journal of then, and of the index some messages.
        let disk = life.disk.after_kill();
        let half_way = life.index.half_way(&before, |message| kept >> (message.session.to_u64() % 5) & 1 == 1);
        drop(life.store);
        let life = Life::on(disk, half_way, "boot 1", settings());
        assert_eq!((&life.recovery.rebuilt, &life.recovery.damaged), (&None, &Vec::new()), "{kept:b}");
        assert_eq!(life.ids().await, [id(1), id(3), id(4)], "{kept:b}");
        assert_eq!((life.attempts(1).await, life.attempts(3).await), (1, 2), "{kept:b}");
        // The first look counts what a queue would have counted in.
        let _ = life.store.check_ledger().await.unwrap();
        assert_eq!(life.store.check_ledger().await.unwrap(), Vec::<String>::new(), "{kept:b}");
    }
}

#[tokio::test]
async fn old_segments_go_and_what_lives_in_them_is_carried_on() {
    let life = Life::begin();
    life.accept(0, 1000).await.unwrap();
    life.attempt(0).await.unwrap();
    life.accept(1, 5000).await.unwrap();
    for number in 2..100 {
        life.accept(number, 1500).await.unwrap();
        life.settle(number).await.unwrap();
    }
    let before = life.store.spool_stats();
    while life.store.spool_stats().segments > 3 {
        let segments = life.store.spool_stats().segments;
        life.store.housekeep().await.unwrap();
        assert!(life.store.spool_stats().segments < segments, "it goes on");
    }
    assert!(life.store.spool_stats().bytes < before.bytes / 4);
    assert!(life.disk.contents(&segment(1)).is_none());
    let life = life.power_cut();
    assert_eq!((life.ids().await, life.attempts(0).await), (vec![id(0), id(1)], 1));
    assert!(life.has_content(0, 1000).await && life.has_content(1, 5000).await);
    assert!(life.recovery.damaged.is_empty(), "{:?}", life.recovery);
    assert_eq!(life.recovery.highest, Some(id(99).session), "no id is used again");
}

#[tokio::test]
async fn a_damaged_message_does_not_keep_its_segment_for_ever() {
    let life = Life::begin();
    life.accept(0, 1000).await.unwrap();
    for number in 1..40 {
        life.accept(number, 1500).await.unwrap();
        life.settle(number).await.unwrap();
    }
    life.store.close();
    let disk = life.disk.after_kill();
    disk.flip_bit(&segment(1), first_record() + 72 + 10, 0);
    let life = Life::on(disk, life.index.clone(), "boot 1", settings());
    life.store.housekeep().await.unwrap();
    assert!(life.disk.contents(&segment(1)).is_none());
    assert!(life.disk.contents(&first_kept()).is_some());
    assert!(life.ids().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_message_follow_each_other() {
    let life = Life::begin();
    life.accept(1, 10).await.unwrap();
    let life = Arc::new(life);
    let changes: Vec<_> = (0..50)
        .map(|_| {
            let life = Arc::clone(&life);
            tokio::spawn(async move { life.attempt(1).await.unwrap() })
        })
        .collect();
    let mut seen = Vec::new();
    for change in changes {
        seen.push(change.await.unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=50).collect::<Vec<_>>());
    let life = Arc::into_inner(life).unwrap().power_cut();
    assert_eq!(life.attempts(1).await, 50);
}

#[tokio::test]
async fn after_close_every_call_fails() {
    let life = Life::begin();
    life.accept(1, 10).await.unwrap();
    life.store.close();
    assert!(matches!(life.accept(2, 10).await, Err(StoreError::Io { .. })));
    assert!(matches!(life.attempt(1).await, Err(StoreError::Io { .. })));
    life.store.close();
}

fn open_real(directory: &Path) -> Result<(Store, Recovery), StoreError> {
    Store::open(directory, Arc::new(RealDisk), settings())
}

#[tokio::test]
async fn on_a_real_disk_a_restart_uses_the_index() {
    let directory = tempfile::tempdir().unwrap();
    let (store, recovery) = open_real(directory.path()).unwrap();
    assert_eq!(recovery, Recovery::default());
    for number in 1..=50 {
        accept(&store, number, 100 * number as usize).await.unwrap();
    }
    for number in 1..=40 {
        store.update(id(number), |_, progress| settle(progress)).await.unwrap();
    }
    store.memory("greylist").put(b"k".to_vec(), b"v".to_vec()).await;
    assert!(matches!(open_real(directory.path()), Err(StoreError::Locked(_))));
    store.close();
    drop(store);
    let (store, recovery) = open_real(directory.path()).unwrap();
    assert_eq!(recovery, Recovery { messages: 10, highest: Some(id(50).session), ..Recovery::default() });
    for number in 41..=50 {
        assert_eq!(read(&store, number).await.unwrap(), content(number, 100 * number as usize));
    }
    assert_eq!(store.memory("greylist").get(b"k".to_vec()).await.as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn on_a_real_disk_a_broken_or_missing_index_is_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    let index = directory.path().join("index");
    let (store, _) = open_real(directory.path()).unwrap();
    for number in 1..=10 {
        accept(&store, number, 100).await.unwrap();
    }
    drop(store);
    std::fs::remove_dir_all(&index).unwrap();
    let (store, recovery) = open_real(directory.path()).unwrap();
    assert_eq!((recovery.messages, recovery.rebuilt.is_some()), (10, true));
    drop(store);
    for entry in std::fs::read_dir(&index).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::write(path, [0xa5; 5000]).unwrap();
        }
    }
    std::fs::write(index.join("snap.1.generating"), b"left by a kill").unwrap();
    let (store, recovery) = open_real(directory.path()).unwrap();
    assert_eq!((recovery.messages, recovery.rebuilt.is_some()), (10, true));
    drop(store);
    let (store, recovery) = open_real(directory.path()).unwrap();
    assert_eq!((recovery.messages, recovery.rebuilt), (10, None));
    // As a verification does that finds it wrong while the gateway runs.
    super::open::doubt_index(&store.shared.spool).unwrap();
    drop(store);
    let (_store, recovery) = open_real(directory.path()).unwrap();
    assert_eq!((recovery.messages, recovery.rebuilt.is_some()), (10, true));
}

#[tokio::test]
async fn the_ledger_says_what_the_journal_says_whatever_the_end() {
    let life = Life::begin();
    for number in 1..=60 {
        life.accept(number, 700).await.unwrap();
        if number % 3 != 0 {
            life.settle(number).await.unwrap();
        }
    }
    let check = async |life: &Life| {
        // Nobody has counted what the spool held when it was opened; the stocktaking does, and corrects that.
        let _ = life.store.check_ledger().await.unwrap();
        assert_eq!(life.store.check_ledger().await.unwrap(), Vec::<String>::new());
        let [line] = &life.store.ledger()[..] else { panic!("{:?}", life.store.ledger()) };
        assert_eq!((line.account.accepted, line.account.delivered, line.account.waiting), (60, 40, 20));
        assert_eq!(life.recovery.missing, 0);
        let verified = life.store.verify().await.unwrap();
        assert!(verified.wrong.is_empty() && verified.messages == 20, "{verified:?}");
        verified.segments
    };
    let before = check(&life).await;
    assert!(before > 2);
    let life = life.killed();
    check(&life).await;
    let life = life.power_cut();
    assert!(life.recovery.rebuilt.is_some());
    check(&life).await;
    // Old segments go, and what was counted in them stays.
    for number in 1..=20 {
        life.settle(3 * number).await.unwrap();
    }
    for _ in 0..20 {
        life.store.housekeep().await.unwrap();
    }
    assert!(life.store.spool_stats().segments < before as usize);
    let life = life.power_cut();
    let accounts = life.store.ledger();
    assert_eq!((accounts[0].account.accepted, accounts[0].account.delivered), (60, 60));
}

#[tokio::test]
async fn a_message_that_was_damaged_is_missing_in_the_ledger() {
    let life = Life::begin();
    for number in 1..=3 {
        life.accept(number, 500).await.unwrap();
    }
    // In the content of the second message.
    let bytes = life.disk.contents(&segment(1)).unwrap();
    let last = bytes.windows(4).rposition(|bytes| bytes == record::RECORD_MAGIC).unwrap();
    let life = life.tampered(|disk| disk.flip_bit(&segment(1), last - 10, 1));
    assert_eq!((life.recovery.damaged.len(), life.recovery.missing), (1, 1));
    let _ = life.store.check_ledger().await.unwrap();
    let [different] = &life.store.check_ledger().await.unwrap()[..] else { panic!("one account does not balance") };
    assert!(different.starts_with("customer.example: accepted 3 but") && different.ends_with("1 missing"), "{different}");
    let verified = life.store.verify().await.unwrap();
    assert!(verified.wrong.iter().any(|wrong| wrong.contains("checksum of the content is wrong")), "{verified:?}");
    // Known from now on: it is no reason to doubt the index again.
    life.accept(4, 500).await.unwrap();
    let life = life.killed();
    assert_eq!((life.recovery.rebuilt.clone(), life.recovery.missing), (None, 0));
}
