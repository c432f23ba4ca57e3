//! The spool: accepted mail and its state, safe on disk, plus memory that may be forgotten.
//!
//! **The journal is the truth, sled is its index.** See `docs/ARCHITECTURE.md` and the files of this folder. This module is
//! what the rest of the house sees. It knows nothing of when or where a message is delivered: that is `queue`.

// (skeleton: types and signatures; the journal, index, bodies and memory come in their own files)

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::mail::{Envelope, Progress, QueueId, SessionId};
use crate::outside::{Body, Disk};

/// What opening the spool found; logged by the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Messages in the queue (waiting, held or quarantined).
    pub messages: u64,
    /// The highest session id in the journal: ids go on above it.
    pub highest: Option<SessionId>,
    /// Why the index was built anew from the journal; `None` when it was used as it stood.
    pub rebuilt: Option<String>,
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
    /// A segment is closed when it has grown past this many bytes.
    pub segment_size: u64,
    /// Content larger than this many bytes becomes a file of its own while it arrives.
    pub body_in_file: u64,
    /// Keep this many bytes of the disk free.
    pub reserve: u64,
}

impl Default for StoreSettings {
    fn default() -> StoreSettings {
        StoreSettings { segment_size: 64 << 20, body_in_file: 1 << 20, reserve: 256 << 20 }
    }
}

/// The spool. Cloning shares it. Async methods do their disk work on the store's own threads or in `spawn_blocking`.
#[derive(Clone)]
pub struct Store {}

impl Store {
    /// Opens or creates the spool in `directory`. Blocks; reads the index, or the whole journal when the index is of no use.
    pub fn open(directory: &Path, disk: Arc<dyn Disk>, settings: StoreSettings) -> Result<(Store, Recovery), StoreError> {
        let _ = (directory, disk, settings);
        todo!()
    }

    /// Starts to take a body in.
    pub fn receive(&self) -> BodyWriter {
        todo!()
    }

    /// Makes a message durable: after `Ok`, and not before, it may be answered 250. One sync answers all that wait.
    pub async fn accept(&self, envelope: Envelope, progress: Progress, body: ReceivedBody) -> Result<Arc<Entry>, StoreError> {
        let _ = (envelope, progress, body);
        todo!()
    }

    /// Changes the state of a message and makes the change durable. `change` sees the newest state, runs once, and no other
    /// change of this message runs meanwhile. When all recipients are final afterwards the message leaves the spool (record
    /// `Done`). Returns the new state with what `change` returned.
    pub async fn update<T: Send + 'static>(
        &self,
        id: QueueId,
        change: impl FnOnce(&Envelope, &mut Progress) -> T + Send + 'static,
    ) -> Result<(Arc<Entry>, T), StoreError> {
        let _ = (id, change);
        todo!()
    }

    /// The newest state of a message.
    pub async fn entry(&self, id: QueueId) -> Result<Arc<Entry>, StoreError> {
        let _ = id;
        todo!()
    }

    /// The content of a message, shared while anybody holds it.
    pub async fn body(&self, id: QueueId) -> Result<Body, StoreError> {
        let _ = id;
        todo!()
    }

    /// Up to `most` messages after `after` in the order of their ids, that is of their arrival.
    pub async fn entries(&self, after: Option<QueueId>, most: usize) -> Result<Vec<Arc<Entry>>, StoreError> {
        let _ = (after, most);
        todo!()
    }

    /// Less than the reserve is free now. Cheap: the last look of the commit thread, at most a second old.
    pub fn is_full(&self) -> bool {
        todo!()
    }

    /// A named part of the memory that may be forgotten (greylist, history). Opening a spool whose memory is damaged starts
    /// with an empty one and says so in the log.
    pub fn memory(&self, name: &str) -> Memory {
        let _ = name;
        todo!()
    }

    /// Writes out what is pending and flushes index and memory. Afterwards every call fails. Blocks.
    pub fn close(&self) {
        todo!()
    }
}

/// Takes a body in as it arrives: in memory first, in a file of the spool once it is larger than `body_in_file`.
/// Dropped without `finish`, it leaves nothing behind.
pub struct BodyWriter {}

impl BodyWriter {
    /// Appends. Bytes are only held until they are in the file.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let _ = bytes;
        todo!()
    }

    /// In bytes so far.
    pub fn size(&self) -> u64 {
        todo!()
    }

    /// All has arrived. The file, when there is one, is synced here or in `Store::accept`, before the record that names it.
    pub async fn finish(self) -> Result<ReceivedBody, StoreError> {
        todo!()
    }
}

/// A body that has arrived and is not yet part of a message. Dropped before `Store::accept`, its file is removed.
pub struct ReceivedBody {}

impl ReceivedBody {
    /// For bounces and tests: a body from memory.
    pub fn from_bytes(bytes: Bytes) -> ReceivedBody {
        let _ = bytes;
        todo!()
    }

    /// To read it, also after it was handed to `Store::accept`.
    pub fn body(&self) -> Body {
        todo!()
    }
}

/// Keys and values in sled that may be forgotten. Values under 4 KiB. A sled that fails answers like an empty one and is
/// reported once.
#[derive(Clone)]
pub struct Memory {}

impl Memory {
    pub async fn get(&self, key: Vec<u8>) -> Option<Vec<u8>> {
        let _ = key;
        todo!()
    }

    pub async fn put(&self, key: Vec<u8>, value: Vec<u8>) {
        let _ = (key, value);
        todo!()
    }

    /// Whether it was there.
    pub async fn remove(&self, key: Vec<u8>) -> bool {
        let _ = key;
        todo!()
    }

    /// Up to `most` pairs whose key starts with `prefix` and is greater than `after`, in the order of their keys.
    pub async fn scan(&self, prefix: Vec<u8>, after: Option<Vec<u8>>, most: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let _ = (prefix, after, most);
        todo!()
    }

    /// Reads, changes and writes one value with no other change in between. `change` may run more than once; `None` removes.
    /// Returns the value written.
    pub async fn update(
        &self,
        key: Vec<u8>,
        change: impl Fn(Option<&[u8]>) -> Option<Vec<u8>> + Send + 'static,
    ) -> Option<Vec<u8>> {
        let _ = (key, change);
        todo!()
    }
}
