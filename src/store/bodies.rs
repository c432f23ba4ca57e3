//! Bodies on their way in: in memory while they are small, in a file of the spool once they are large.
//!
//! A large body is `bodies/tmp-N.body` while it arrives and `bodies/<queue id>.body` from the moment on at which it becomes
//! part of a message. Content, then name, then the record that names it become durable, in this order. A file that no
//! message names is removed: by its writer when that is dropped, by the next start after a crash.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::mail::QueueId;
use crate::outside::{Body, Disk, DiskFile, read_exact_at};

use super::spool::{Spool, io_error};
use super::{StoreError, blocking, lock};

/// Written to a body's file at a time, at least, in bytes.
const PIECE: usize = 256 * 1024;

/// Takes a body in as it arrives: in memory first, in a file of the spool once it is larger than `body_in_file`.
/// Dropped without `finish`, it leaves nothing behind.
pub struct BodyWriter {
    spool: Arc<Spool>,
    /// What is not in the file.
    buffer: Vec<u8>,
    file: Option<Arc<BodyFile>>,
    in_file: u64,
    checksum: crc32fast::Hasher,
}

impl BodyWriter {
    pub(super) fn new(spool: Arc<Spool>) -> BodyWriter {
        BodyWriter { spool, buffer: Vec::new(), file: None, in_file: 0, checksum: crc32fast::Hasher::new() }
    }

    /// Appends. Bytes are only held until they are in the file.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.checksum.update(bytes);
        self.buffer.extend_from_slice(bytes);
        let is_large = self.file.is_some() || self.size() > self.spool.settings.body_in_file;
        if is_large && (self.file.is_none() || self.buffer.len() >= PIECE) { self.write_out().await } else { Ok(()) }
    }

    /// In bytes so far.
    pub fn size(&self) -> u64 {
        self.in_file + self.buffer.len() as u64
    }

    /// All has arrived. The file, when there is one, is synced in `Store::accept`, before the record that names it.
    pub async fn finish(mut self) -> Result<ReceivedBody, StoreError> {
        if self.file.is_some() && !self.buffer.is_empty() {
            self.write_out().await?;
        }
        let checksum = self.checksum.finalize();
        Ok(match self.file {
            Some(file) => {
                ReceivedBody { body: Body::File { file: Arc::clone(&file.file), size: self.in_file }, checksum, file: Some(file) }
            }
            None => {
                // Kept as long as the message is recent: without the room it could have grown into.
                self.buffer.shrink_to_fit();
                ReceivedBody { body: Body::Memory(self.buffer.into()), checksum, file: None }
            }
        })
    }

    async fn write_out(&mut self) -> Result<(), StoreError> {
        if self.spool.is_full() {
            return Err(StoreError::Full);
        }
        let spool = Arc::clone(&self.spool);
        let file = self.file.clone();
        let at = self.in_file;
        let mut buffer = std::mem::take(&mut self.buffer);
        let length = buffer.len() as u64;
        let (file, buffer) = blocking(move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(BodyFile::create(&spool).map_err(full_or("creating a body's file"))?),
            };
            // Not durable yet and named by nothing: a crash here leaves a file that the next start removes.
            file.file.write_at(&buffer, at).map_err(full_or("writing a body"))?;
            spool.spend(buffer.len() as u64);
            buffer.clear();
            Ok((file, buffer))
        })
        .await?;
        self.in_file = at + length;
        self.file = Some(file);
        self.buffer = buffer;
        Ok(())
    }
}

fn full_or(what: &'static str) -> impl FnOnce(std::io::Error) -> StoreError {
    move |error| match error.kind() {
        std::io::ErrorKind::StorageFull => StoreError::Full,
        _ => io_error(what, error),
    }
}

/// A body that has arrived and is not yet part of a message. Dropped before `Store::accept`, its file is removed.
pub struct ReceivedBody {
    pub(super) body: Body,
    pub(super) checksum: u32,
    pub(super) file: Option<Arc<BodyFile>>,
}

impl ReceivedBody {
    /// For bounces and tests: a body from memory.
    pub fn from_bytes(bytes: Bytes) -> ReceivedBody {
        ReceivedBody { checksum: crc32fast::hash(&bytes), body: Body::Memory(bytes), file: None }
    }

    /// To read it, also after it was handed to `Store::accept`.
    pub fn body(&self) -> Body {
        self.body.clone()
    }
}

/// A body's file that no durable record names yet.
pub struct BodyFile {
    spool: Arc<Spool>,
    file: Arc<dyn DiskFile>,
    path: std::sync::Mutex<PathBuf>,
    is_kept: AtomicBool,
}

impl BodyFile {
    fn create(spool: &Arc<Spool>) -> std::io::Result<BodyFile> {
        let path = spool.temporary_body();
        let file = spool.disk.create(&path)?;
        Ok(BodyFile { spool: Arc::clone(spool), file, path: path.into(), is_kept: AtomicBool::new(false) })
    }

    /// Makes content and name durable, before the record that names them is written. Blocks.
    ///
    /// Power fails before the rename is durable: a temporary file, removed by the next start. After it and before the record
    /// is durable: a file of a message that does not exist, removed too. The sender was not answered in either case. A sync
    /// that fails is an error here, and no record is written.
    pub fn settle(&self, id: QueueId) -> std::io::Result<()> {
        self.file.sync()?;
        let to = self.spool.paths.body(id);
        let mut path = lock(&self.path);
        self.spool.disk.rename(&path, &to)?;
        *path = to;
        self.spool.disk.sync_dir(&self.spool.paths.bodies)
    }

    /// The record that names it is durable.
    pub fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::Relaxed) {
            self.spool.chores.remove_later(lock(&self.path).clone());
        }
    }
}

/// Opens a body's file and checks it against what its record says, once.
pub fn open_checked(disk: &dyn Disk, path: &Path, size: u64, checksum: u32) -> Result<Body, StoreError> {
    let damaged = |why: String| StoreError::Damaged(format!("{}: {why}", path.display()));
    let file = match disk.open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(damaged("the file is missing".into())),
        file => file.map_err(|error| io_error(format!("opening {}", path.display()), error))?,
    };
    let reading = |error| io_error(format!("reading {}", path.display()), error);
    let length = file.len().map_err(reading)?;
    if length != size {
        return Err(damaged(format!("{length} bytes instead of {size}")));
    }
    let mut found = crc32fast::Hasher::new();
    let mut piece = vec![0; PIECE.min(size as usize)];
    let mut at = 0;
    while at < size {
        let count = piece.len().min((size - at) as usize);
        read_exact_at(&*file, &mut piece[..count], at).map_err(reading)?;
        found.update(&piece[..count]);
        at += count as u64;
    }
    if found.finalize() != checksum {
        return Err(damaged("the checksum of the content is wrong".into()));
    }
    Ok(Body::File { file, size })
}
