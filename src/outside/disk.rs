//! The disk, as narrow as the journal needs it. All calls block: they run on the store's own threads or through
//! `spawn_blocking`, never on an async thread.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// A file system. What is durable when: file contents after `DiskFile::sync`, a name (created, renamed, removed) after
/// `sync_dir` of its directory.
pub trait Disk: Send + Sync + 'static {
    /// Creates a file that must not exist, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file that must exist, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// The names in a directory, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Replaces `to` when it exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// With its parents; fine when it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes that this process may still write there.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// An open file. Positions are in bytes from its start.
#[expect(clippy::len_without_is_empty, reason = "a file is not a collection")]
pub trait DiskFile: Send + Sync {
    /// Writes all of `bytes`; extends the file when needed.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Reads up to `into.len()` bytes; 0 at the end.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
    fn len(&self) -> io::Result<u64>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// fdatasync: contents and size are durable after `Ok`. After an error nothing written since the last success may be
    /// trusted, and asking again proves nothing.
    fn sync(&self) -> io::Result<()>;
}

/// Reads exactly `into.len()` bytes.
pub fn read_exact_at(file: &dyn DiskFile, into: &mut [u8], at: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(&mut into[filled..], at + filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(())
}
