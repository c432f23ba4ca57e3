//! The index in sled 0.34.7, behind everything that is known to go wrong with it.
//!
//! - A `snap.*.generating` left by a kill makes every later open fail; the rename is its commit point, so it may be deleted
//!   (<https://github.com/spacejam/sled/issues/1527>).
//! - Damage can panic instead of returning an error: every call is caught.
//! - `flush` hands data to the kernel without a real sync: what must be durable is synced here, file by file.
//! - `flush_async` deadlocks with many callers: it is not used.

use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::mail::QueueId;

use super::index::{Index, Mark};
use super::table::{Change, Place, Spot};

/// Of sled's page cache, in bytes; its default is 1 GiB. It is only written while the gateway runs.
const CACHE: u64 = 16 << 20;
/// Changes in one batch of sled's. It frees nothing that a batch has replaced before the batch is over: a million messages took
/// gigabytes in batches of 4,096, and take 100 MB in these.
const PIECE: usize = 256;
/// The mark's key. Ids are 12 bytes and begin with a zero bit pattern, so it is never one.
const MARK: &[u8] = b"\xffmark";
const PLACE_LENGTH: usize = 25;
const MARK_LENGTH: usize = 28;

/// A copy of the table in sled.
pub struct SledIndex {
    database: Option<sled::Db>,
    directory: PathBuf,
}

impl SledIndex {
    /// Opens or creates it. When what is there is of no use it is wiped, and the second value says why.
    pub fn open(directory: &Path) -> Result<(SledIndex, Option<String>), String> {
        let (database, doubt) = open_or_wipe(directory)?;
        Ok((SledIndex { database: Some(database), directory: directory.to_owned() }, doubt))
    }

    /// Opens what is there to look at it: nothing is wiped. sled writes all the same; the files stay their owner's, so that
    /// the gateway can open them when it was root who looked.
    pub fn open_as_it_is(directory: &Path) -> Result<SledIndex, String> {
        let opened = open(directory).map(|database| SledIndex { database: Some(database), directory: directory.to_owned() });
        give_to_owner(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        opened
    }

    fn call<T>(&self, call: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, String> {
        let database = self.database.as_ref().ok_or("the index is closed")?;
        caught(|| call(database))
    }
}

impl Index for SledIndex {
    fn load(&mut self, each: &mut dyn FnMut(QueueId, Place)) -> Result<Option<Mark>, String> {
        let mut mark = None;
        let mut odd = None;
        self.call(|database| {
            for pair in database.iter() {
                let (key, value) = pair?;
                if key == MARK {
                    mark = read_mark(&value);
                } else if let (Some(id), Some(place)) = (read_id(&key), read_place(&value)) {
                    each(id, place);
                } else {
                    odd = Some(format!("an entry of {} and {} bytes is none of ours", key.len(), value.len()));
                }
            }
            Ok(())
        })?;
        odd.map_or(Ok(mark), Err)
    }

    fn apply(&mut self, changes: &[Change], mark: Option<Mark>) -> Result<(), String> {
        // The mark comes with the last piece. Killed before: some messages are ahead of the mark, and the replay from there
        // brings all of them to the same state.
        let mut pieces = changes.chunks(PIECE).peekable();
        loop {
            let mut batch = sled::Batch::default();
            for (id, place) in pieces.next().unwrap_or_default() {
                match place {
                    Some(place) => batch.insert(id.to_bytes().to_vec(), write_place(place).to_vec()),
                    None => batch.remove(id.to_bytes().to_vec()),
                }
            }
            let is_last = pieces.peek().is_none();
            if let Some(mark) = mark.filter(|_| is_last) {
                batch.insert(MARK, write_mark(&mark).to_vec());
            }
            self.call(|database| database.apply_batch(batch))?;
            if is_last {
                return Ok(());
            }
        }
    }

    fn clear(&mut self) -> Result<(), String> {
        // Key by key: the file stays open, so nobody comes in between. Its space is used again.
        self.call(|database| database.clear())?;
        self.flush()
    }

    fn flush(&mut self) -> Result<(), String> {
        self.call(|database| database.flush().map(drop))
    }

    fn close(&mut self) -> Result<(), String> {
        self.flush()?;
        let database = self.database.take();
        caught(|| {
            drop(database);
            Ok(())
        })?;
        give_to_owner(&self.directory).and_then(|()| sync_all(&self.directory)).map_err(|error| error.to_string())
    }
}

/// Opens a database. One that is of no use is wiped; then the second value says why. One that somebody else has open is
/// left alone.
pub fn open_or_wipe(directory: &Path) -> Result<(sled::Db, Option<String>), String> {
    match open(directory) {
        Ok(database) => Ok((database, None)),
        Err(why) if why.contains(LOCKED) => Err(why),
        Err(why) => wipe_and_open(directory).map(|database| (database, Some(why))),
    }
}

/// Everything in a directory belongs to who owns the directory.
fn give_to_owner(directory: &Path) -> std::io::Result<()> {
    let owner = std::fs::metadata(directory)?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let is_others = entry.metadata()?.uid() != owner.uid();
        if is_others {
            std::os::unix::fs::lchown(entry.path(), Some(owner.uid()), Some(owner.gid()))?;
        }
        if entry.file_type()?.is_dir() {
            give_to_owner(&entry.path())?;
        }
    }
    Ok(())
}

/// How sled's error begins when the database is locked; it has no kind of its own.
const LOCKED: &str = "could not acquire lock";
/// sled's threads may hold the lock for a moment after the last handle has gone.
const LOCK_TRIES: u32 = 50;
const LOCK_WAIT: Duration = Duration::from_millis(20);

fn wipe_and_open(directory: &Path) -> Result<sled::Db, String> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", directory.display()))
        }
        _ => open(directory),
    }
}

fn open(directory: &Path) -> Result<sled::Db, String> {
    // The directory may be new.
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.as_encoded_bytes().ends_with(b".generating") {
            std::fs::remove_file(entry.path()).map_err(|error| format!("cannot remove {}: {error}", name.display()))?;
        }
    }
    // Flushed by one thread of ours, so not by sled's own.
    let once = || caught(|| sled::Config::new().path(directory).cache_capacity(CACHE).flush_every_ms(None).open());
    let mut result = once();
    for _ in 0..LOCK_TRIES {
        match &result {
            Err(why) if why.contains(LOCKED) => std::thread::sleep(LOCK_WAIT),
            _ => break,
        }
        result = once();
    }
    result
}

/// The result of a call to sled, a panic turned into an error.
pub fn caught<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("sled panicked: {}", text.unwrap_or_default()))
        }
    }
}

/// Syncs every file below, then the directory.
fn sync_all(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            std::fs::File::open(entry.path())?.sync_all()?;
        }
    }
    std::fs::File::open(directory)?.sync_all()
}

fn read_id(key: &[u8]) -> Option<QueueId> {
    QueueId::from_bytes(key.try_into().ok()?)
}

fn write_place(place: &Place) -> [u8; PLACE_LENGTH] {
    let mut bytes = [0; PLACE_LENGTH];
    for (slot, spot) in [place.whole, place.state].iter().enumerate() {
        let numbers = [spot.segment, spot.offset, spot.length];
        for (field, number) in numbers.iter().enumerate() {
            let at = slot * 12 + field * 4;
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
    }
    bytes[24] = u8::from(place.in_file);
    bytes
}

fn read_place(bytes: &[u8]) -> Option<Place> {
    let bytes: &[u8; PLACE_LENGTH] = bytes.try_into().ok()?;
    let spot = |at: usize| Spot { segment: number(bytes, at), offset: number(bytes, at + 4), length: number(bytes, at + 8) };
    Some(Place { whole: spot(0), state: spot(12), in_file: bytes[24] == 1 })
}

fn write_mark(mark: &Mark) -> [u8; MARK_LENGTH] {
    let mut bytes = [0; MARK_LENGTH];
    bytes[..4].copy_from_slice(&mark.segment.to_le_bytes());
    bytes[4..12].copy_from_slice(&mark.stamp.to_le_bytes());
    bytes[12..20].copy_from_slice(&mark.offset.to_le_bytes());
    bytes[20..].copy_from_slice(&mark.highest.to_le_bytes());
    bytes
}

fn read_mark(bytes: &[u8]) -> Option<Mark> {
    let bytes: &[u8; MARK_LENGTH] = bytes.try_into().ok()?;
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    Some(Mark { segment: number(bytes, 0), stamp: long(4), offset: long(12), highest: long(20) })
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
