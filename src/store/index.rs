//! The index: a copy of the table (`table.rs`) that outlives the process, so that a start need not read the whole journal.
//!
//! It is never asked while the gateway runs and never waited for by a reply. It holds, beside the places, how far in the
//! journal it has come; the next start replays the journal from there. Whatever is wrong with it, the journal has it all:
//! a bad index is wiped and filled again, an index that fails at run time is reported once and given up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use std::collections::BTreeMap;

use crate::mail::QueueId;

use super::lock;
use super::table::{Change, Place};

/// How far the index has come: every durable record before this place is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub segment: u32,
    /// The segment's stamp: another segment of the same number is another segment.
    pub stamp: u64,
    pub offset: u64,
    /// The highest session id before this place, which a start that reads no further must not use again.
    pub highest: u64,
}

/// Where the copy is kept. All calls block; errors are words for the log. Implementors: sled, and memory for simulations.
pub trait Index: Send {
    /// Hands every message to `each`. `None`: it holds no mark, so nothing in it counts.
    fn load(&mut self, each: &mut dyn FnMut(QueueId, Place)) -> Result<Option<Mark>, String>;
    /// Makes the changes, in their order, and the mark last: a crash of the process may leave some changes without the mark, never
    /// the mark without all of them.
    fn apply(&mut self, changes: &[Change], mark: Option<Mark>) -> Result<(), String>;
    /// Forgets everything.
    fn clear(&mut self) -> Result<(), String>;
    /// Hands what is in memory to the kernel.
    fn flush(&mut self) -> Result<(), String>;
    /// Makes everything durable; nothing follows.
    fn close(&mut self) -> Result<(), String>;
}

/// An index in memory, for simulations. Cloning shares it: what one life of the store put in, the next one finds.
#[derive(Clone, Default)]
pub struct MemoryIndex(Arc<Mutex<MemoryState>>);

#[derive(Default)]
struct MemoryState {
    places: BTreeMap<QueueId, Place>,
    mark: Option<Mark>,
}

impl MemoryIndex {
    /// What a kill may leave of this index on its way from what it was `before`: some messages as they are now, the others and
    /// the mark as they were.
    pub fn half_way(&self, before: &MemoryIndex, mut is_now: impl FnMut(QueueId) -> bool) -> MemoryIndex {
        let (before, now) = (lock(&before.0), lock(&self.0));
        let mut places = before.places.clone();
        places.retain(|id, _| now.places.contains_key(id) || !is_now(*id));
        places.extend(now.places.iter().filter(|(id, _)| is_now(**id)));
        MemoryIndex(Arc::new(Mutex::new(MemoryState { places, mark: before.mark })))
    }

    /// What a power cut may leave of an index that never syncs: those messages that `keep` says so about, and the mark.
    pub fn remains(&self, mut keep: impl FnMut(QueueId) -> bool) -> MemoryIndex {
        let state = lock(&self.0);
        let places = state.places.iter().filter(|(id, _)| keep(**id)).map(|(id, place)| (*id, *place)).collect();
        MemoryIndex(Arc::new(Mutex::new(MemoryState { places, mark: state.mark })))
    }
}

impl Index for MemoryIndex {
    fn load(&mut self, each: &mut dyn FnMut(QueueId, Place)) -> Result<Option<Mark>, String> {
        let state = lock(&self.0);
        state.places.iter().for_each(|(id, place)| each(*id, *place));
        Ok(state.mark)
    }

    fn apply(&mut self, changes: &[Change], mark: Option<Mark>) -> Result<(), String> {
        let mut state = lock(&self.0);
        for (id, place) in changes {
            match place {
                Some(place) => state.places.insert(*id, *place),
                None => state.places.remove(id),
            };
        }
        state.mark = mark.or(state.mark);
        Ok(())
    }

    fn clear(&mut self) -> Result<(), String> {
        *lock(&self.0) = MemoryState::default();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// No index at all: for the day sled cannot be opened. The next start reads the whole journal.
pub struct NoIndex;

impl Index for NoIndex {
    fn load(&mut self, _each: &mut dyn FnMut(QueueId, Place)) -> Result<Option<Mark>, String> {
        Ok(None)
    }

    fn apply(&mut self, _changes: &[Change], _mark: Option<Mark>) -> Result<(), String> {
        Ok(())
    }

    /// What is there is not in our hands, so it must not be believed later.
    fn clear(&mut self) -> Result<(), String> {
        Err("there is no index".to_owned())
    }

    fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        Err("there was none".to_owned())
    }
}

/// What the index thread is told.
struct Work {
    changes: Vec<Change>,
    mark: Option<Mark>,
    /// Changes in it, before those of one message became one.
    count: u64,
    /// Who compares: they are told what the index holds after the changes.
    contents: Vec<SyncSender<Contents>>,
}

/// What an index holds, or why it cannot be read.
pub type Contents = Result<Vec<(QueueId, Place)>, String>;

/// Feeds the index from a thread of its own, the only one that calls it.
pub struct Feeder {
    work: Option<SyncSender<Work>>,
    thread: Option<JoinHandle<bool>>,
    behind: Behind,
}

/// How many durable changes the index does not have yet so that it would have them after kill -9. Of an index that was given up
/// it only grows.
#[derive(Clone, Default)]
pub struct Behind(Arc<AtomicU64>);

impl Behind {
    /// So many changes are durable in the journal; said before anybody is answered, so that who was answered finds them counted.
    pub fn grow(&self, changes: u64) {
        self.0.fetch_add(changes, Ordering::Release);
    }

    fn shrink(&self, changes: u64) {
        self.0.fetch_sub(changes, Ordering::Release);
    }

    pub fn changes(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Batches that wait for the index. When sled stalls for longer than these last, the commit thread waits for it.
const WAITING_MAX: usize = 1024;
/// Changes are gathered for so long before they are applied: most messages have come and gone by then, and cost nothing.
const GATHER: Duration = Duration::from_millis(100);
/// Messages gathered at most.
const GATHERED_MAX: usize = 16 * 1024;
/// Between two flushes.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

impl Feeder {
    pub fn start(index: Box<dyn Index>) -> std::io::Result<Feeder> {
        let (work, waiting) = sync_channel(WAITING_MAX);
        let behind = Behind::default();
        let its_behind = behind.clone();
        let feed = move || feed(index, &waiting, &its_behind);
        let thread = std::thread::Builder::new().name("spool-index".into()).spawn(feed)?;
        Ok(Feeder { work: Some(work), thread: Some(thread), behind })
    }

    /// To be told of changes before they are handed over with [`Feeder::apply`].
    pub fn behind(&self) -> Behind {
        self.behind.clone()
    }

    /// Takes changes that [`Behind`] was told of.
    pub fn apply(&self, changes: Vec<Change>, mark: Option<Mark>) {
        if let Some(work) = &self.work {
            let count = changes.len() as u64;
            // The thread only ends with us; if it died, the journal still has everything.
            let _ = work.send(Work { changes, mark, count, contents: Vec::new() });
        }
    }

    /// What the index holds, for a comparison. Nothing comes when the index was given up.
    pub fn contents(&self) -> Receiver<Contents> {
        let (answer, contents) = sync_channel(1);
        if let Some(work) = &self.work {
            let _ = work.send(Work { changes: Vec::new(), mark: None, count: 0, contents: vec![answer] });
        }
        contents
    }

    /// Waits until all is applied and durable. Whether it is.
    pub fn close(mut self) -> bool {
        self.work = None;
        self.thread.take().is_some_and(|thread| thread.join().unwrap_or(false))
    }
}

/// This work with what follows shortly after it, as one: of each message the last change, and the last mark. Killed before it is
/// applied, the index is where its mark says, as with any other delay.
fn gather(first: Work, waiting: &Receiver<Work>) -> Work {
    let until = Instant::now() + GATHER;
    let mut changes: BTreeMap<_, _> = first.changes.into_iter().collect();
    let (mut mark, mut count, mut contents) = (first.mark, first.count, first.contents);
    while changes.len() < GATHERED_MAX
        && let Ok(work) = waiting.recv_timeout(until.saturating_duration_since(Instant::now()))
    {
        changes.extend(work.changes);
        mark = work.mark.or(mark);
        count += work.count;
        contents.extend(work.contents);
    }
    Work { changes: changes.into_iter().collect(), mark, count, contents }
}

fn answer_with_contents(index: &mut dyn Index, answer: &SyncSender<Contents>) {
    let mut all = Vec::new();
    let read = index.load(&mut |id, place| all.push((id, place)));
    // Whoever compares may have gone.
    let _ = answer.send(read.map(|_| all));
}

/// The index thread. Ends when the feeder goes; whether the index is complete and durable.
fn feed(mut index: Box<dyn Index>, waiting: &Receiver<Work>, behind: &Behind) -> bool {
    let mut is_dirty = false;
    // Applied, and lost by a kill.
    let mut unflushed = 0;
    let mut flushed_at = Instant::now();
    let outcome = loop {
        let result = match waiting.recv_timeout(FLUSH_EVERY) {
            Ok(work) => {
                is_dirty = true;
                let Work { changes, mark, count, contents } = gather(work, waiting);
                unflushed += count;
                let applied = index.apply(&changes, mark);
                contents.into_iter().for_each(|answer| answer_with_contents(&mut *index, &answer));
                applied
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => break index.close(),
        };
        let is_due = is_dirty && flushed_at.elapsed() >= FLUSH_EVERY;
        if let Err(why) = result.and_then(|()| if is_due { index.flush() } else { Ok(()) }) {
            break Err(why);
        }
        if is_due {
            is_dirty = false;
            behind.shrink(std::mem::take(&mut unflushed));
            flushed_at = Instant::now();
        }
    };
    let Err(why) = outcome else { return true };
    tracing::error!(why, "the queue's index failed; it is built anew from the journal at the next start");
    // An index with holes must not be found by the next start. When even that fails, the missing mark of a proper end does
    // the same after a reboot, and the replay from the last mark before one.
    let _ = index.clear();
    drop(index);
    while waiting.recv().is_ok() {}
    false
}

#[cfg(test)]
mod tests {
    use super::super::sled_index::SledIndex;
    use super::super::table::Spot;
    use super::super::testing::id;
    use super::*;

    fn place(offset: u32) -> Place {
        let spot = Spot { segment: 1, offset, length: 100 };
        Place { whole: spot, state: Spot { segment: 2, ..spot }, in_file: offset % 2 == 1 }
    }

    fn contents(index: &mut dyn Index) -> (Vec<(QueueId, Place)>, Option<Mark>) {
        let mut all = Vec::new();
        let mark = index.load(&mut |id, place| all.push((id, place))).unwrap();
        (all, mark)
    }

    #[test]
    fn both_indexes_answer_alike() {
        let directory = tempfile::tempdir().unwrap();
        let (mut sled, doubt) = SledIndex::open(directory.path()).unwrap();
        assert_eq!(doubt, None);
        let mut memory = MemoryIndex::default();
        let marks = [1, 2, 3].map(|offset| Mark { segment: 1, stamp: u64::MAX, offset, highest: 7 * offset });
        let steps: [(Vec<Change>, Option<Mark>); 4] = [
            ((1..=20).map(|number| (id(number), Some(place(number)))).collect(), Some(marks[0])),
            (vec![(id(3), None), (id(4), Some(place(99)))], None),
            (vec![(id(5), None), (id(5), Some(place(5)))], Some(marks[1])),
            (Vec::new(), Some(marks[2])),
        ];
        assert_eq!(contents(&mut sled), contents(&mut memory));
        for (changes, mark) in steps {
            sled.apply(&changes, mark).unwrap();
            memory.apply(&changes, mark).unwrap();
            assert_eq!(contents(&mut sled), contents(&mut memory));
        }
        sled.close().unwrap();
        drop(sled);
        let (mut sled, doubt) = SledIndex::open(directory.path()).unwrap();
        assert_eq!((contents(&mut sled), doubt), (contents(&mut memory), None));
        sled.clear().unwrap();
        assert_eq!(contents(&mut sled), (Vec::new(), None));
    }

    #[test]
    fn of_what_is_gathered_the_last_counts() {
        let (send, waiting) = sync_channel(8);
        let mark = |offset| Mark { segment: 1, stamp: 0, offset, highest: 0 };
        let work = |changes: Vec<Change>, mark| Work { count: changes.len() as u64, changes, mark, contents: Vec::new() };
        send.send(work(vec![(id(1), None), (id(2), Some(place(20)))], Some(mark(2)))).unwrap();
        send.send(work(vec![(id(3), None)], None)).unwrap();
        drop(send);
        let Work { changes, mark: last, count, .. } =
            gather(work(vec![(id(1), Some(place(10))), (id(3), Some(place(30)))], Some(mark(1))), &waiting);
        assert_eq!(changes, [(id(1), None), (id(2), Some(place(20))), (id(3), None)]);
        assert_eq!((last, count), (Some(mark(2)), 5));
    }

    #[test]
    fn the_index_is_behind_until_what_it_was_told_is_flushed() {
        struct Slow(Receiver<()>, SyncSender<()>);
        impl Index for Slow {
            fn load(&mut self, _: &mut dyn FnMut(QueueId, Place)) -> Result<Option<Mark>, String> {
                Ok(None)
            }
            fn apply(&mut self, _: &[Change], _: Option<Mark>) -> Result<(), String> {
                Ok(())
            }
            fn clear(&mut self) -> Result<(), String> {
                Ok(())
            }
            fn flush(&mut self) -> Result<(), String> {
                self.1.send(()).unwrap();
                self.0.recv().map_err(|error| error.to_string())
            }
            fn close(&mut self) -> Result<(), String> {
                Ok(())
            }
        }
        let (go, wait) = sync_channel(0);
        let (flushing, is_flushing) = sync_channel(0);
        let feeder = Feeder::start(Box::new(Slow(wait, flushing))).unwrap();
        let behind = feeder.behind();
        behind.grow(2);
        feeder.apply(vec![(id(1), Some(place(1))), (id(1), None)], None);
        is_flushing.recv().unwrap();
        assert_eq!(behind.changes(), 2);
        behind.grow(1);
        go.send(()).unwrap();
        // The change that was only announced is not in the index, however often it is flushed.
        feeder.apply(Vec::new(), None);
        is_flushing.recv().unwrap();
        assert_eq!(behind.changes(), 1);
        go.send(()).unwrap();
        assert!(feeder.close());
    }

    #[test]
    fn a_damaged_sled_is_wiped_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let (mut sled, _) = SledIndex::open(directory.path()).unwrap();
        sled.apply(&[(id(1), Some(place(1)))], None).unwrap();
        sled.close().unwrap();
        drop(sled);
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::write(path, [0x5a; 4096]).unwrap();
            }
        }
        let (mut sled, doubt) = SledIndex::open(directory.path()).unwrap();
        assert!(doubt.is_some());
        assert_eq!(contents(&mut sled), (Vec::new(), None));
    }

    #[test]
    fn an_index_that_fails_is_given_up_and_the_feeder_goes_on() {
        struct Failing;
        impl Index for Failing {
            fn load(&mut self, _: &mut dyn FnMut(QueueId, Place)) -> Result<Option<Mark>, String> {
                Ok(None)
            }
            fn apply(&mut self, _: &[Change], _: Option<Mark>) -> Result<(), String> {
                Err("broken".into())
            }
            fn clear(&mut self) -> Result<(), String> {
                Ok(())
            }
            fn flush(&mut self) -> Result<(), String> {
                Ok(())
            }
            fn close(&mut self) -> Result<(), String> {
                Ok(())
            }
        }
        let feeder = Feeder::start(Box::new(Failing)).unwrap();
        for _ in 0..3 * WAITING_MAX {
            feeder.apply(Vec::new(), None);
        }
        assert!(!feeder.close());
    }
}
