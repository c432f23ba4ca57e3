//! Memory that may be forgotten: greylist and history. In a sled database of its own, so that the queue's index can be wiped
//! without forgetting the greylist.
//!
//! Nothing here is durable before the next flush (twice a second, and at the end), and nothing of it is needed to keep mail
//! safe: whatever fails answers as if nothing were known, and is reported once.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::lock;
use super::sled_index::{caught, open_or_wipe};

/// Values stay under this many bytes: sled keeps larger things in files that it never syncs.
pub const VALUE_MAX: usize = 4096;
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// Pairs in each part when there is no sled.
const UNSAVED_MAX: usize = 100_000;

/// A part that is not saved.
type Unsaved = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

/// The whole memory, from which [`Memory`] are parts.
pub struct MemoryBase {
    database: Option<sled::Db>,
    /// Parts, when there is no database.
    unsaved: Mutex<BTreeMap<String, Unsaved>>,
    has_failed: Arc<AtomicBool>,
    flusher: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl MemoryBase {
    /// Opens the memory; a damaged one is wiped. Without any, it lives as long as the process.
    pub fn open(directory: &Path) -> MemoryBase {
        let database = match open_or_wipe(directory) {
            Ok((database, doubt)) => {
                if let Some(why) = doubt {
                    tracing::error!(why, "greylist and history were damaged: they begin anew");
                }
                Some(database)
            }
            Err(why) => {
                tracing::error!(why, "greylist and history cannot be opened: they last until the next restart");
                None
            }
        };
        let base = MemoryBase { database, ..MemoryBase::unsaved() };
        base.start_flusher();
        base
    }

    /// One that is never saved.
    pub fn unsaved() -> MemoryBase {
        MemoryBase { database: None, unsaved: Mutex::default(), has_failed: Arc::default(), flusher: Mutex::default() }
    }

    pub fn part(&self, name: &str) -> Memory {
        let tree = self.database.as_ref().and_then(|database| reported(&self.has_failed, || database.open_tree(name)));
        let pairs = match tree {
            Some(tree) => Pairs::Sled(tree),
            None => Pairs::Unsaved(Arc::clone(lock(&self.unsaved).entry(name.to_owned()).or_default())),
        };
        Memory { pairs, has_failed: Arc::clone(&self.has_failed) }
    }

    /// Flushes and ends the flusher. Blocks.
    pub fn close(&self) {
        if let Some((stop, thread)) = lock(&self.flusher).take() {
            drop(stop);
            let _ = thread.join();
        }
    }

    /// The only thread that flushes.
    fn start_flusher(&self) {
        let Some(database) = self.database.clone() else { return };
        let has_failed = Arc::clone(&self.has_failed);
        let (stop, stopped) = channel::<()>();
        let flush = move || {
            loop {
                let is_over = stopped.recv_timeout(FLUSH_EVERY) == Err(RecvTimeoutError::Disconnected);
                reported(&has_failed, || database.flush());
                if is_over {
                    return;
                }
            }
        };
        match std::thread::Builder::new().name("memory-flush".into()).spawn(flush) {
            Ok(thread) => *lock(&self.flusher) = Some((stop, thread)),
            Err(error) => tracing::error!(%error, "greylist and history are only saved when the gateway stops"),
        }
    }
}

/// The result of a call to sled; `None` when it failed, which is reported once.
fn reported<T>(has_failed: &AtomicBool, call: impl FnOnce() -> sled::Result<T>) -> Option<T> {
    match caught(call) {
        Ok(value) => Some(value),
        Err(why) => {
            if !has_failed.swap(true, Ordering::Relaxed) {
                tracing::error!(why, "greylist and history fail: what they cannot answer counts as unknown");
            }
            None
        }
    }
}

/// Keys and values in sled that may be forgotten. Values under 4 KiB; larger ones are not kept. A sled that fails answers
/// like an empty one and is reported once.
#[derive(Clone)]
pub struct Memory {
    pairs: Pairs,
    has_failed: Arc<AtomicBool>,
}

#[derive(Clone)]
enum Pairs {
    Sled(sled::Tree),
    Unsaved(Unsaved),
}

#[derive(Clone, Copy)]
enum Direction {
    Forwards,
    Backwards,
}

impl Direction {
    fn next_of<I: DoubleEndedIterator>(self, iterator: &mut I) -> Option<I::Item> {
        match self {
            Direction::Forwards => iterator.next(),
            Direction::Backwards => iterator.next_back(),
        }
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

impl Memory {
    pub async fn get(&self, key: Vec<u8>) -> Option<Vec<u8>> {
        let get = move |memory: &Memory| match &memory.pairs {
            Pairs::Sled(tree) => memory.call(|| tree.get(&key)).flatten().map(|value| value.to_vec()),
            Pairs::Unsaved(pairs) => lock(pairs).get(&key).cloned(),
        };
        self.blocking(get).await.flatten()
    }

    pub async fn put(&self, key: Vec<u8>, value: Vec<u8>) {
        self.change(vec![(key, Some(value))]).await;
    }

    /// Whether it was there.
    pub async fn remove(&self, key: Vec<u8>) -> bool {
        let remove = move |memory: &Memory| match &memory.pairs {
            Pairs::Sled(tree) => memory.call(|| tree.remove(&key)).flatten().is_some(),
            Pairs::Unsaved(pairs) => lock(pairs).remove(&key).is_some(),
        };
        self.blocking(remove).await.unwrap_or_default()
    }

    /// Puts (`Some`) and removes (`None`) many at once.
    pub async fn change(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
        self.blocking(move |memory| memory.change_now(changes)).await;
    }

    /// Up to `most` pairs whose key starts with `prefix` and is greater than `after`, in the order of their keys.
    pub async fn scan(&self, prefix: Vec<u8>, after: Option<Vec<u8>>, most: usize) -> Vec<Pair> {
        let scan = move |memory: &Memory| {
            let from = match after {
                Some(after) if after >= prefix => Bound::Excluded(after),
                _ => Bound::Included(prefix.clone()),
            };
            memory.range((from, Bound::Unbounded), Direction::Forwards, most, &prefix)
        };
        self.blocking(scan).await.unwrap_or_default()
    }

    /// The last `most` pairs whose key starts with `prefix`, the last one first.
    pub async fn scan_back(&self, prefix: Vec<u8>, most: usize) -> Vec<Pair> {
        let scan = move |memory: &Memory| {
            let end = after_prefix(&prefix).map_or(Bound::Unbounded, Bound::Excluded);
            memory.range((Bound::Included(prefix.clone()), end), Direction::Backwards, most, &prefix)
        };
        self.blocking(scan).await.unwrap_or_default()
    }

    /// Reads, changes and writes one value with no other change in between. `change` may run more than once; `None` removes.
    /// Returns the value written.
    pub async fn update(
        &self,
        key: Vec<u8>,
        change: impl Fn(Option<&[u8]>) -> Option<Vec<u8>> + Send + 'static,
    ) -> Option<Vec<u8>> {
        let change = move |before: Option<&[u8]>| change(before).filter(|value| fits(value));
        let update = move |memory: &Memory| match &memory.pairs {
            Pairs::Sled(tree) => {
                let written = memory.call(|| tree.update_and_fetch(&key, &change));
                written.flatten().map(|value| value.to_vec())
            }
            Pairs::Unsaved(pairs) => {
                let mut pairs = lock(pairs);
                let value = change(pairs.get(&key).map(Vec::as_slice));
                match &value {
                    Some(value) => put_bounded(&mut pairs, key, value.clone()),
                    None => drop(pairs.remove(&key)),
                }
                value
            }
        };
        self.blocking(update).await.flatten()
    }

    fn change_now(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
        let changes = changes.into_iter().filter(|(_, value)| value.as_deref().is_none_or(fits));
        match &self.pairs {
            Pairs::Sled(tree) => {
                let mut batch = sled::Batch::default();
                for (key, value) in changes {
                    match value {
                        Some(value) => batch.insert(key, value),
                        None => batch.remove(key),
                    }
                }
                self.call(|| tree.apply_batch(batch));
            }
            Pairs::Unsaved(pairs) => {
                let mut pairs = lock(pairs);
                for (key, value) in changes {
                    match value {
                        Some(value) => put_bounded(&mut pairs, key, value),
                        None => drop(pairs.remove(&key)),
                    }
                }
            }
        }
    }

    /// Up to `most` pairs of the range while their keys start with `prefix`.
    fn range(&self, range: (Bound<Vec<u8>>, Bound<Vec<u8>>), direction: Direction, most: usize, prefix: &[u8]) -> Vec<Pair> {
        match &self.pairs {
            Pairs::Sled(tree) => {
                let read = || {
                    let mut iterator = tree.range::<Vec<u8>, _>(range);
                    let mut pairs = Vec::new();
                    // By hand: after an error sled's iterator gives errors for ever.
                    while pairs.len() < most
                        && let Some(pair) = direction.next_of(&mut iterator)
                    {
                        let (key, value) = pair?;
                        if !key.starts_with(prefix) {
                            break;
                        }
                        pairs.push((key.to_vec(), value.to_vec()));
                    }
                    Ok(pairs)
                };
                self.call(read).unwrap_or_default()
            }
            Pairs::Unsaved(pairs) => {
                let pairs = lock(pairs);
                let mut iterator = pairs.range(range);
                std::iter::from_fn(|| direction.next_of(&mut iterator))
                    .take_while(|(key, _)| key.starts_with(prefix))
                    .take(most)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect()
            }
        }
    }

    fn call<T>(&self, call: impl FnOnce() -> sled::Result<T>) -> Option<T> {
        reported(&self.has_failed, call)
    }

    /// `None` only when the runtime is shutting down.
    async fn blocking<T: Send + 'static>(&self, call: impl FnOnce(&Memory) -> T + Send + 'static) -> Option<T> {
        let memory = self.clone();
        tokio::task::spawn_blocking(move || call(&memory)).await.ok()
    }
}

fn fits(value: &[u8]) -> bool {
    let fits = value.len() < VALUE_MAX;
    if !fits {
        tracing::warn!(bytes = value.len(), "a value is too large for greylist and history, and is not kept");
    }
    fits
}

/// The first key after all that start with `prefix`.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

/// Without sled the memory is bounded: the first key makes room.
fn put_bounded(pairs: &mut BTreeMap<Vec<u8>, Vec<u8>>, key: Vec<u8>, value: Vec<u8>) {
    pairs.insert(key, value);
    if pairs.len() > UNSAVED_MAX {
        pairs.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both kinds of memory behave alike.
    async fn both(check: impl AsyncFn(Memory)) {
        let directory = tempfile::tempdir().unwrap();
        let base = MemoryBase::open(directory.path());
        check(base.part("a")).await;
        base.close();
        check(MemoryBase::unsaved().part("a")).await;
    }

    #[tokio::test]
    async fn pairs_are_kept_listed_and_removed() {
        both(async |memory| {
            for key in ["b1", "a1", "b3", "b2", "c"] {
                memory.put(key.into(), key.to_uppercase().into()).await;
            }
            assert_eq!(memory.get(b"b2".to_vec()).await.as_deref(), Some(&b"B2"[..]));
            let keys = |pairs: Vec<Pair>| pairs.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect::<Vec<_>>();
            assert_eq!(keys(memory.scan(b"b".to_vec(), None, 10).await), ["b1", "b2", "b3"]);
            assert_eq!(keys(memory.scan(b"b".to_vec(), Some(b"b1".to_vec()), 1).await), ["b2"]);
            assert_eq!(keys(memory.scan_back(b"b".to_vec(), 2).await), ["b3", "b2"]);
            assert_eq!(keys(memory.scan(Vec::new(), None, 2).await), ["a1", "b1"]);
            assert!(memory.remove(b"b2".to_vec()).await);
            assert!(!memory.remove(b"b2".to_vec()).await);
            assert_eq!(memory.get(b"b2".to_vec()).await, None);
        })
        .await;
    }

    #[tokio::test]
    async fn an_update_sees_the_value_before_it() {
        both(async |memory| {
            let count = |before: Option<&[u8]>| Some(vec![before.map_or(0, |before| before[0]) + 1]);
            let updates: Vec<_> = (0..20).map(|_| memory.update(b"n".to_vec(), count)).collect();
            for update in updates {
                update.await;
            }
            assert_eq!(memory.get(b"n".to_vec()).await, Some(vec![20]));
            assert_eq!(memory.update(b"n".to_vec(), |_| None).await, None);
            assert_eq!(memory.get(b"n".to_vec()).await, None);
        })
        .await;
    }

    #[tokio::test]
    async fn a_value_that_is_too_large_is_not_kept() {
        both(async |memory| {
            memory.put(b"k".to_vec(), vec![0; VALUE_MAX]).await;
            assert_eq!(memory.get(b"k".to_vec()).await, None);
        })
        .await;
    }

    #[tokio::test]
    async fn memory_outlives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let base = MemoryBase::open(directory.path());
        base.part("greylist").put(b"k".to_vec(), b"v".to_vec()).await;
        base.close();
        drop(base);
        let base = MemoryBase::open(directory.path());
        assert_eq!(base.part("greylist").get(b"k".to_vec()).await.as_deref(), Some(&b"v"[..]));
        assert_eq!(base.part("other").get(b"k".to_vec()).await, None);
    }

    #[test]
    fn the_key_after_a_prefix() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(&[1, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255]), None);
    }
}
