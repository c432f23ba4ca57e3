//! The spool: accepted mail and its state, safe on disk, plus memory that may be forgotten.
//!
//! **The journal is the truth, sled is its index.** `docs/STORAGE.md` has the format and the crash arguments in one piece;
//! each stands again above the write it is about. This module is what the rest of the house sees. It knows nothing of when
//! or where a message is delivered: that is `queue`.
//!
//! | file | what |
//! |---|---|
//! | `record`, `scan` | how records look, and reading a segment |
//! | `journal`, `commit` | appending, and one sync for all that wait |
//! | `spool`, `recent`, `table` | looking up and changing messages; what memory knows; where the journal has them |
//! | `bodies` | large contents, in files of their own |
//! | `index`, `sled_index` | the table's copy for the next start |
//! | `open`, `recover`, `damage` | a start, from whatever a crash left |
//! | `keeper`, `segments` | housekeeping, giving up old segments |
//! | `ledger`, `totals`, `stock` | what became of every recipient; counting what is there |
//! | `verify` | reading everything, changing nothing |
//! | `memory`, `history` | what may be forgotten |
//! | `notes` | small files beside the journal that must not be forgotten |
//! | `lessons` | what was learned: examples, in an append-only file of their own |
//! | `disk` | the real disk |
//!
//! On failure: a record that cannot be made durable is an error for whoever asked, and nothing changed. Damage is set aside
//! and reported, never skipped. Without sled mail goes on all the same.

mod bodies;
mod commit;
mod damage;
mod disk;
mod history;
mod index;
mod journal;
mod keeper;
mod ledger;
mod lessons;
mod memory;
mod notes;
mod open;
mod recent;
mod record;
mod recover;
mod scan;
mod segments;
mod sled_index;
mod spool;
mod stock;
mod table;
mod totals;
mod vectors;
mod verify;

#[cfg(test)]
mod compaction_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::mail::{Envelope, Progress, QueueId, SessionId};
use crate::outside::{Body, Disk};

pub use bodies::{BodyWriter, ReceivedBody};
pub use disk::RealDisk;
pub use history::History;
pub use index::MemoryIndex;
pub use ledger::{Account, DomainAccount, DomainStock, NOTICES, Stock};
pub use lessons::{LessonBounds, LessonRecovery, LessonStatistics, Lessons, ScopeStatistics, Taught};
pub use memory::{Memory, Pair};
pub use vectors::Vectors;
pub use verify::{Verification, verify_stopped};

use open::Shared;
use record::{Content, Draft, Kind};

/// What opening the spool found; logged by the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Messages in the queue (waiting, held or quarantined).
    pub messages: u64,
    /// The highest session id in the journal: ids go on above it.
    pub highest: Option<SessionId>,
    /// Why the index was built anew from the journal; `None` when it was used as it stood.
    pub rebuilt: Option<String>,
    /// Messages that the ledger has accepted and the journal does not have, beside those reported as damaged; negative: it
    /// has more.
    pub missing: i64,
    /// Damaged records that were set aside: where each stands and what is wrong.
    pub damaged: Vec<String>,
}

/// One message in the spool.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub envelope: Envelope,
    pub progress: Progress,
}

/// Why something could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Less than the reserve is free: new mail is refused, finishing goes on.
    #[error("the spool's disk is nearly full")]
    Full,
    /// Not in the spool (any more).
    #[error("no such message in the queue")]
    NotFound,
    /// Another process holds the spool.
    #[error("another feedgate already uses {0}")]
    Locked(std::path::PathBuf),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// A record that fails its checksum.
    #[error("damaged record: {0}")]
    Damaged(String),
}

/// Settings of the spool.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// A segment is closed when it has grown past this many bytes; at most 1 GiB.
    pub segment_size: u64,
    /// Content larger than this many bytes becomes a file of its own while it arrives; at most 64 MiB.
    pub body_in_file: u64,
    /// Keep this many bytes of the disk free.
    pub reserve: u64,
}

impl Default for StoreSettings {
    fn default() -> StoreSettings {
        StoreSettings { segment_size: 64 << 20, body_in_file: 1 << 20, reserve: 256 << 20 }
    }
}

/// Numbers for `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolStats {
    pub segments: usize,
    /// Of all segments.
    pub bytes: u64,
    /// Of records that are still needed.
    pub live_bytes: u64,
    pub messages: u64,
    /// Of the disk, as last looked.
    pub free_bytes: u64,
    /// Changes that are durable in the journal and that the index would not have after kill -9: 0 when it has caught up.
    pub index_behind: u64,
}

/// The spool. Cloning shares it; the last clone that goes closes it. Async methods do their disk work on the store's own
/// threads or in `spawn_blocking`.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

impl Store {
    /// Opens or creates the spool in `directory`. Blocks; reads the index, or the whole journal when the index is of no use.
    pub fn open(directory: &Path, disk: Arc<dyn Disk>, settings: StoreSettings) -> Result<(Store, Recovery), StoreError> {
        open::real(directory, disk, settings).map(|(shared, recovery)| (Store { shared: Arc::new(shared) }, recovery))
    }

    /// A spool for simulations: nothing of it but threads is outside `disk` and `index`. Housekeeping is done by
    /// [`Store::housekeep`] alone. `boot` stands for one run of the machine: the same after a kill, another after a power cut.
    pub fn open_simulated(
        directory: &Path,
        disk: Arc<dyn Disk>,
        settings: StoreSettings,
        index: MemoryIndex,
        boot: &str,
    ) -> Result<(Store, Recovery), StoreError> {
        let opened = open::simulated(directory, disk, settings, index, boot);
        opened.map(|(shared, recovery)| (Store { shared: Arc::new(shared) }, recovery))
    }

    /// Starts to take a body in.
    pub fn receive(&self) -> BodyWriter {
        BodyWriter::new(Arc::clone(&self.shared.spool))
    }

    /// Makes a message durable: after `Ok`, and not before, it may be answered 250. One sync answers all that wait.
    pub async fn accept(&self, envelope: Envelope, progress: Progress, body: ReceivedBody) -> Result<Arc<Entry>, StoreError> {
        let spool = &self.shared.spool;
        let id = envelope.id;
        let checked = record::check_recipients(&envelope, &progress);
        checked.map_err(|why| spool::io_error("accepting a message", spool::invalid(why)))?;
        if spool.holds(id) {
            return Err(spool::already_there(id));
        }
        if spool.is_full() {
            return Err(StoreError::Full);
        }
        let entry = Arc::new(Entry { envelope, progress });
        let ReceivedBody { body, checksum: crc, file } = body;
        let content = match &body {
            Body::Memory(bytes) if bytes.len() < INLINE_MAX => Content::Inline { bytes: bytes.clone(), crc },
            Body::Memory(_) => return Err(spool::io_error("accepting a message", std::io::ErrorKind::FileTooLarge.into())),
            Body::File { size, .. } => Content::File { size: *size, crc },
        };
        // First the content's file, if it has one, with its name; then the record that names it.
        if let Some(file) = file.clone() {
            blocking(move || file.settle(id).map_err(|error| spool::io_error("syncing a body", error))).await?;
        }
        let draft = Draft::whole(Kind::Accepted, &entry, content);
        let permit = spool.permit(draft.length()).await?;
        let written = spool.submit_new(&entry, draft, body, file, permit)?;
        durable(written).await?;
        Ok(entry)
    }

    /// Changes the state of a message and makes the change durable. `change` sees the newest state, runs once, and no other
    /// change of this message runs meanwhile. When all recipients are final afterwards the message leaves the spool (record
    /// `Done`). Returns the new state with what `change` returned. After an error nothing has changed.
    pub async fn update<T: Send + 'static>(
        &self,
        id: QueueId,
        change: impl FnOnce(&Envelope, &mut Progress) -> T + Send + 'static,
    ) -> Result<(Arc<Entry>, T), StoreError> {
        let spool = Arc::clone(&self.shared.spool);
        let permit = spool.permit(0).await?;
        let (entry, answer, written) = match spool.change_at_once(id, change, permit) {
            Ok(changed) => changed?,
            Err((change, permit)) => blocking(move || spool.change(id, change, permit)).await?,
        };
        durable(written).await?;
        Ok((entry, answer))
    }

    /// The newest state of a message.
    pub async fn entry(&self, id: QueueId) -> Result<Arc<Entry>, StoreError> {
        let spool = Arc::clone(&self.shared.spool);
        match spool.entry_in_memory(id) {
            Some(entry) => entry,
            None => blocking(move || spool.entry(id)).await,
        }
    }

    /// The content of a message, shared while anybody holds it.
    pub async fn body(&self, id: QueueId) -> Result<Body, StoreError> {
        let spool = Arc::clone(&self.shared.spool);
        match spool.body_in_memory(id) {
            Some(body) => Ok(body),
            None => blocking(move || spool.body(id)).await,
        }
    }

    /// Up to `most` messages after `after` in the order of their ids, that is of their arrival; fewer only at the end.
    pub async fn entries(&self, after: Option<QueueId>, most: usize) -> Result<Vec<Arc<Entry>>, StoreError> {
        let spool = Arc::clone(&self.shared.spool);
        blocking(move || spool.entries(after, most)).await
    }

    /// Less than the reserve is free now. Cheap: the last look, at most a second old, less what was written since.
    pub fn is_full(&self) -> bool {
        self.shared.spool.is_full()
    }

    pub fn spool_stats(&self) -> SpoolStats {
        let spool = &self.shared.spool;
        let table = lock(&spool.table);
        let (bytes, live_bytes) = table.bytes();
        let messages = table.len() as u64;
        let index_behind = spool.index_behind.changes();
        SpoolStats { segments: table.segments.len(), bytes, live_bytes, messages, free_bytes: spool.free_bytes(), index_behind }
    }

    /// Counts messages in that the spool held when it was opened: each once, before anything is changed.
    pub fn count_in(&self, entries: &[Arc<Entry>]) {
        let mut table = lock(&self.shared.spool.table);
        entries.iter().for_each(|entry| table.ledger.count_in(entry));
    }

    /// What is in the spool, from the numbers that are kept up; nothing is read.
    pub fn stock(&self) -> Stock {
        lock(&self.shared.spool.table).ledger.stock()
    }

    /// What became of every recipient ever accepted, by domain. Nothing is read.
    pub fn ledger(&self) -> Vec<DomainAccount> {
        lock(&self.shared.spool.table).ledger.accounts()
    }

    /// The accounts that do not balance, in words. Nothing is read.
    pub fn ledger_differences(&self) -> Vec<String> {
        self.ledger().iter().filter_map(ledger::imbalance).collect()
    }

    /// Counts the messages in the spool from their records, a piece at a time while mail flows, and compares: with what was
    /// kept up, and with what was accepted. What is different, in words; nothing is different when all is well.
    pub async fn check_ledger(&self) -> Result<Vec<String>, StoreError> {
        let spool = Arc::clone(&self.shared.spool);
        blocking(move || stock::check(&spool)).await
    }

    /// Reads the whole spool and checks it while mail flows.
    pub async fn verify(&self) -> Result<Verification, StoreError> {
        let spool = Arc::clone(&self.shared.spool);
        blocking(move || verify::running(&spool)).await
    }

    /// A named part of the memory that may be forgotten (greylist, history). Opening a spool whose memory is damaged starts
    /// with an empty one and says so in the log.
    pub fn memory(&self, name: &str) -> Memory {
        self.shared.memory.part(name)
    }

    /// What is kept of judged messages.
    pub fn vectors(&self) -> &Vectors {
        &self.shared.vectors
    }

    /// What was last kept under this name, whole; `None` when nothing ever was. Blocks.
    pub fn note(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let spool = &self.shared.spool;
        notes::read(&*spool.disk, &spool.paths, name)
    }

    /// Replaces what is kept under this name; durable after `Ok`. Two calls for one name at a time are the caller's to avoid.
    /// Blocks.
    pub fn keep_note(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let spool = &self.shared.spool;
        notes::write(&*spool.disk, &spool.paths, name, bytes)
    }

    /// One round of housekeeping, for a spool opened by [`Store::open_simulated`]; others do it by themselves every second.
    pub async fn housekeep(&self) -> Result<(), StoreError> {
        let spool = Arc::clone(&self.shared.spool);
        blocking(move || keeper::housekeep(&spool, true)).await
    }

    /// Writes out what is pending and flushes index and memory. Afterwards every call fails. Blocks.
    pub fn close(&self) {
        self.shared.close();
    }
}

/// A body in memory that is larger belongs into a file.
const INLINE_MAX: usize = 1 << 30;

/// Waits until the commit thread has answered.
async fn durable(written: commit::Written) -> Result<(), StoreError> {
    written.await.unwrap_or_else(|_| Err(spool::closed()))
}

/// Runs disk work off the async threads. Once begun it is done, also when nobody waits for it any more.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(spool::io_error("the spool's work", std::io::Error::other(error))))
}

/// Locks; a panic of somebody who held it is theirs, and left nothing half done: changes under these locks are single steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
