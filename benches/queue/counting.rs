//! A disk that remembers how much each sync of the journal made durable.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use feedgate::outside::{Disk, DiskFile};
use feedgate::store::RealDisk;

/// The real disk, with a list of what was written to the journal's segments between two syncs.
#[derive(Clone, Default)]
pub struct Counting {
    batches: Arc<Mutex<Vec<usize>>>,
}

struct Segment {
    file: Arc<dyn DiskFile>,
    batches: Arc<Mutex<Vec<usize>>>,
    unsynced: Mutex<usize>,
}

impl Counting {
    pub fn batches(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Counting {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = RealDisk.create(path)?;
        if path.extension().is_none_or(|extension| extension != "seg") {
            return Ok(file);
        }
        Ok(Arc::new(Segment { file, batches: Arc::clone(&self.batches), unsynced: Mutex::default() }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(directory)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(path)
    }
}

impl DiskFile for Segment {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner) += bytes.len();
        self.file.write_at(bytes, at)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(into, at)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        let batch = std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
        self.file.sync()
    }
}
