//! The content of a message: held once, shared by everyone who reads it, in memory when small and in a file when large.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{DiskFile, read_exact_at};

/// The content of a message as it came in, byte for byte. Cloning shares it.
#[derive(Clone)]
pub enum Body {
    Memory(Bytes),
    /// A file of the spool that holds the content and nothing else.
    File {
        file: Arc<dyn DiskFile>,
        size: u64,
    },
}

impl Body {
    /// In bytes.
    pub fn size(&self) -> u64 {
        match self {
            Body::Memory(bytes) => bytes.len() as u64,
            Body::File { size, .. } => *size,
        }
    }

    /// The bytes of `range`, which must lie inside the body: without a copy from memory, in one read from a file.
    /// Readers of large bodies ask for [`Body::CHUNK`] bytes at a time.
    pub async fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        if range.start > range.end || range.end > self.size() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "read past the end of the body"));
        }
        match self {
            Body::Memory(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Body::File { file, .. } => {
                let file = Arc::clone(file);
                let read = move || {
                    let mut chunk = vec![0; (range.end - range.start) as usize];
                    read_exact_at(&*file, &mut chunk, range.start).map(|()| chunk.into())
                };
                tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
            }
        }
    }

    /// The first `most` bytes, or all when it is shorter.
    pub async fn head(&self, most: u64) -> io::Result<Bytes> {
        self.read(0..self.size().min(most)).await
    }

    /// What readers ask for at a time, in bytes.
    pub const CHUNK: u64 = 64 * 1024;
}

impl std::fmt::Debug for Body {
    /// The size only: bodies are never logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({} bytes)", self.size())
    }
}
