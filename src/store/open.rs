//! Opening and closing: the lock, whether the index may be believed, the threads, and their end.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::outside::{Disk, read_exact_at};

use super::index::{Feeder, Index, MemoryIndex, NoIndex};
use super::journal::Journal;
use super::memory::MemoryBase;
use super::recover::{IndexState, Recovered, recover};
use super::sled_index::SledIndex;
use super::spool::{Paths, Spool, io_error};
use super::vectors::Vectors;
use super::{Recovery, StoreError, StoreSettings, commit, keeper, lock, stock};

/// Changes handed to the index at a time when it is filled.
const FILL_PIECE: usize = 4096;
const SEGMENT_SIZE_MAX: u64 = 1 << 30;
const BODY_IN_FILE_MAX: u64 = 64 << 20;
/// What the file beside the index says after a proper end.
const CLEAN: &str = "clean";

/// What all clones of a store share.
pub struct Shared {
    pub spool: Arc<Spool>,
    pub memory: MemoryBase,
    pub vectors: Vectors,
    threads: Mutex<Option<Threads>>,
    /// Held while the store is open: nobody else opens it.
    lock: Mutex<Option<File>>,
}

struct Threads {
    commit: JoinHandle<()>,
    keeper: Option<JoinHandle<()>>,
}

/// Everything a store is made of.
struct Parts {
    paths: Paths,
    disk: Arc<dyn Disk>,
    settings: StoreSettings,
    index: Box<dyn Index>,
    /// Why the index is new although there was one.
    doubt: Option<String>,
    /// This run of the machine; `None`: not known.
    boot: Option<String>,
    memory: MemoryBase,
    lock: Option<File>,
    has_keeper: bool,
}

/// The store of the gateway.
pub fn real(directory: &Path, disk: Arc<dyn Disk>, settings: StoreSettings) -> Result<(Shared, Recovery), StoreError> {
    let paths = Paths::new(directory);
    let lock = Some(locked(&paths.spool)?);
    let (index, doubt): (Box<dyn Index>, _) = match SledIndex::open(&directory.join("index")) {
        Ok((index, doubt)) => (Box::new(index), doubt),
        Err(why) => {
            tracing::error!(why, "the queue's index cannot be opened; every start reads the whole journal until it can");
            (Box::new(NoIndex), Some(why))
        }
    };
    let boot = boot();
    let memory = MemoryBase::open(&directory.join("memory"));
    assemble(Parts { paths, disk, settings, index, doubt, boot, memory, lock, has_keeper: true })
}

/// The store of a simulation.
pub fn simulated(
    directory: &Path,
    disk: Arc<dyn Disk>,
    settings: StoreSettings,
    index: MemoryIndex,
    boot: &str,
) -> Result<(Shared, Recovery), StoreError> {
    assemble(Parts {
        paths: Paths::new(directory),
        disk,
        settings,
        index: Box::new(index),
        doubt: None,
        boot: Some(boot.to_owned()),
        memory: MemoryBase::unsaved(),
        lock: None,
        has_keeper: false,
    })
}

fn assemble(parts: Parts) -> Result<(Shared, Recovery), StoreError> {
    let Parts { paths, disk, mut settings, mut index, doubt, boot, memory, lock, has_keeper } = parts;
    settings.segment_size = settings.segment_size.min(SEGMENT_SIZE_MAX);
    settings.body_in_file = settings.body_in_file.min(BODY_IN_FILE_MAX);
    create_directories(&*disk, &paths).map_err(|error| io_error("creating the spool", error))?;

    let state = begin_index(&*disk, &paths, &mut *index, doubt, boot.as_deref())?;
    let Recovered { table, report, last, previous, highest, changes, mark, lacks_ledger } =
        recover(&*disk, &paths, &mut *index, state)?;
    let index = Feeder::start(index).map_err(|error| io_error("starting the index's thread", error))?;
    // The mark comes with the last piece: an index that is filled in part holds none and is not believed.
    let mut pieces = changes.chunks(FILL_PIECE).peekable();
    index.behind().grow(changes.len() as u64);
    while let Some(piece) = pieces.next() {
        index.apply(piece.to_vec(), mark.filter(|_| pieces.peek().is_none()));
    }
    if changes.is_empty() {
        index.apply(Vec::new(), mark);
    }

    let table = Arc::new(Mutex::new(table));
    let (commits, requests) = channel();
    let (size, journal_table) = (settings.segment_size, Arc::clone(&table));
    let journal = Journal::new(Arc::clone(&disk), paths.spool.clone(), size, journal_table, last, previous, highest);
    let spool = Arc::new(Spool::new(disk, paths, settings, table, commits, index));
    spool.look_at_free_bytes();
    if lacks_ledger {
        tracing::warn!(messages = report.messages, "the spool has no ledger; it begins with what is there");
        stock::adopt(&spool)?;
    }

    let starting = |error| io_error("starting the spool's threads", error);
    let its_spool = Arc::clone(&spool);
    let commit = std::thread::Builder::new().name("spool-commit".into());
    let commit = commit.spawn(move || commit::run(&its_spool, journal, &requests)).map_err(starting)?;
    let its_spool = Arc::clone(&spool);
    let keeper = has_keeper.then(|| std::thread::Builder::new().name("spool-keeper".into()));
    let keeper = keeper.map(|keeper| keeper.spawn(move || keeper::run(&its_spool))).transpose().map_err(starting)?;
    let threads = Mutex::new(Some(Threads { commit, keeper }));
    let vectors = Vectors::new(&memory);
    Ok((Shared { spool, memory, vectors, threads, lock: Mutex::new(lock) }, report))
}

impl Shared {
    /// Ends everything, in the order in which things depend on each other. Once.
    pub fn close(&self) {
        let Some(threads) = lock(&self.threads).take() else { return };
        self.spool.stop_commits();
        self.spool.chores.end();
        // A thread that panicked said so itself; the rest is closed all the same.
        let was_written = threads.commit.join().is_ok();
        if let Some(keeper) = threads.keeper {
            let _ = keeper.join();
        }
        keeper::remove_files(&self.spool);
        let is_durable = self.spool.take_index().is_some_and(Feeder::close);
        let is_believed = !self.spool.index_doubted.load(Ordering::Relaxed);
        if was_written && is_durable && is_believed {
            // After the index is durable, not before: a power cut in between finds the old word, and the index is rebuilt.
            if let Err(error) = write_state(&*self.spool.disk, &self.spool.paths, CLEAN) {
                tracing::warn!(%error, "the next start builds the queue's index anew");
            }
        }
        self.memory.close();
        lock(&self.lock).take();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

fn create_directories(disk: &dyn Disk, paths: &Paths) -> io::Result<()> {
    disk.create_dir(&paths.bodies)?;
    disk.create_dir(&paths.damaged)?;
    disk.sync_dir(&paths.spool)?;
    paths.spool.parent().map_or(Ok(()), |directory| disk.sync_dir(directory))
}

/// One process at a time. The kernel gives the lock up when the process ends, however it ends.
pub fn locked(spool: &Path) -> Result<File, StoreError> {
    let path = spool.join("lock");
    let file = std::fs::create_dir_all(spool).and_then(|()| File::options().create(true).append(true).open(&path));
    let file = file.map_err(|error| io_error(format!("opening {}", path.display()), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(spool.parent().unwrap_or(spool).to_owned())),
        Err(TryLockError::Error(error)) => Err(io_error(format!("locking {}", path.display()), error)),
    }
}

/// Says whether the index may be believed, and writes down that it is in use.
///
/// The file beside the index says `clean` after a proper end, and while the index is in use which run of the machine that is.
/// Killed in the same run, the kernel wrote everything that sled had handed over: the index is as it was. After a power
/// cut nobody knows what is left of it (sled does not sync): the file names another run, and the index is wiped *before*
/// the file names this one, so that a second crash in between does not make it trusted.
fn begin_index(
    disk: &dyn Disk,
    paths: &Paths,
    index: &mut dyn Index,
    doubt: Option<String>,
    boot: Option<&str>,
) -> Result<IndexState, StoreError> {
    let in_use = format!("open {}", boot.unwrap_or("?"));
    let before = read_state(disk, paths).map_err(|error| io_error("reading the index's state", error))?;
    let state = match (before, doubt) {
        (_, Some(why)) => IndexState::Doubtful(why),
        (None, None) => IndexState::New,
        (Some(before), None) if before == CLEAN || (boot.is_some() && before == in_use) => IndexState::Trusted,
        (Some(_), None) => IndexState::Doubtful("the machine stopped while the index was in use".to_owned()),
    };
    let is_wiped = match &state {
        IndexState::Trusted => Ok(()),
        IndexState::Doubtful(_) | IndexState::New => index.clear(),
    };
    // An index that cannot even be wiped must not be believed by the next start either.
    let text = if is_wiped.is_ok() { in_use.as_str() } else { "unusable" };
    write_state(disk, paths, text).map_err(|error| io_error("writing the index's state", error))?;
    Ok(state)
}

/// A verification found the index wrong: neither this run's end nor a crash makes the next start believe it.
pub fn doubt_index(spool: &Spool) -> io::Result<()> {
    spool.index_doubted.store(true, Ordering::Relaxed);
    write_state(&*spool.disk, &spool.paths, "doubted")
}

/// Whether the next start would believe the index, as [`begin_index`] decides it.
pub fn is_index_usable(disk: &dyn Disk, paths: &Paths) -> io::Result<bool> {
    let state = read_state(disk, paths)?;
    let in_use = boot().map(|boot| format!("open {boot}"));
    Ok(state.is_some_and(|state| state == CLEAN || Some(state) == in_use))
}

/// This run of the machine.
fn boot() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|boot| boot.trim().to_owned())
}

fn read_state(disk: &dyn Disk, paths: &Paths) -> io::Result<Option<String>> {
    let file = match disk.open(&paths.index_state) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = vec![0; file.len()?.min(200) as usize];
    read_exact_at(&*file, &mut bytes, 0)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Replaces the file as a whole: a crash leaves the old text or the new one.
fn write_state(disk: &dyn Disk, paths: &Paths, text: &str) -> io::Result<()> {
    let new = paths.spool.join("index-state.new");
    match disk.remove(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&new)?;
    file.write_at(text.as_bytes(), 0)?;
    file.sync()?;
    disk.rename(&new, &paths.index_state)?;
    disk.sync_dir(&paths.spool)
}
