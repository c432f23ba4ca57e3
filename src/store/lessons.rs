//! What somebody called spam or ham: examples (hashed tokens, no text), in one append-only file of their own,
//! `data_dir/lessons/lessons`. They are the truth of what was learned; weights are made anew from them at any time.
//!
//! Not in the journal, because compaction keeps there what belongs to a live message; not in sled, because this cannot be
//! rebuilt. Knows nothing of weights and never decides what to learn.
//!
//! Invariants:
//! - What was answered `Ok` is durable. A call's records are written with one write and one sync, and only then counted.
//! - The last record of a message in a scope wins. What is bounded goes out oldest first, in the order of the file, so that
//!   a start comes to the same examples without any record of what went out.
//! - Everything before the `durable` of a record was synced when it was written: a bad stretch below that is real damage,
//!   one above it is what a crash left of a write that was never answered.
//! - After a failed sync the file is not appended to any more: it is written anew, from what is known to be durable.
//!
//! On failure: the call is an error and nothing was learned. Damage costs the examples it hit, and is reported at every start
//! until the next compaction.
//!
//! Blocks: to be called off the async threads.

mod record;
mod shelf;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::mail::Domain;
use crate::outside::{Disk, DiskFile, read_exact_at};
use crate::spam::{Digest, Example, Label};

use super::StoreError;
use super::open::locked;
use super::spool::io_error;
use record::{Entry, Found, Record};
use shelf::{Key, Shelf, Spot};

/// Written in pieces of about this size when the file is written anew.
const PIECE: usize = 1 << 20;

/// How much is kept. More pushes out the oldest.
#[derive(Clone, Debug)]
pub struct LessonBounds {
    /// Examples of the platform.
    pub platform: usize,
    /// Examples of each domain.
    pub domain: usize,
    /// Of all examples, on disk.
    pub bytes: u64,
    /// A file smaller than this is not written anew, whatever is dead in it.
    pub compact_min: u64,
}

impl Default for LessonBounds {
    fn default() -> LessonBounds {
        LessonBounds { platform: 50_000, domain: 10_000, bytes: 256 << 20, compact_min: 1 << 20 }
    }
}

/// What opening found; logged by the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LessonRecovery {
    pub examples: usize,
    /// Bytes of an interrupted write, cut off or left out: nothing of them was ever answered.
    pub torn: u64,
    /// Damaged stretches, which cost what stood in them: where each is, and how long.
    pub damaged: Vec<String>,
}

/// What learning did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taught {
    /// Examples that are new, or have another label now.
    pub learned: usize,
    /// Among these: they had the other label before.
    pub changed: usize,
    /// Known already with this label: they count once.
    pub known: usize,
}

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LessonStatistics {
    /// The platform first, then domains by name.
    pub scopes: Vec<ScopeStatistics>,
    /// The file, and what of it counts.
    pub bytes: u64,
    pub live_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeStatistics {
    /// Absent: the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    pub spam: usize,
    pub ham: usize,
    /// In days since 1970.
    pub oldest_day: u32,
    pub newest_day: u32,
}

/// The lessons, open.
pub struct Lessons {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    bounds: LessonBounds,
    file: Arc<dyn DiskFile>,
    /// Up to here the file is synced; the next record goes here.
    end: u64,
    shelf: Shelf,
    /// A sync failed: what the file holds beyond `end`, or what it is called, is not known any more.
    is_doubtful: bool,
    /// Nobody else opens them.
    _lock: Option<File>,
}

impl Lessons {
    /// Opens those of a data directory, for one process at a time.
    pub fn open(data_dir: &Path, disk: Arc<dyn Disk>) -> Result<(Lessons, LessonRecovery), StoreError> {
        let lock = locked(&data_dir.join("lessons"))?;
        Lessons::open_with(data_dir, disk, LessonBounds::default(), Some(lock))
    }

    /// Those of a simulation: nobody is kept out.
    pub fn open_simulated(
        data_dir: &Path,
        disk: Arc<dyn Disk>,
        bounds: LessonBounds,
    ) -> Result<(Lessons, LessonRecovery), StoreError> {
        Lessons::open_with(data_dir, disk, bounds, None)
    }

    fn open_with(
        data_dir: &Path,
        disk: Arc<dyn Disk>,
        bounds: LessonBounds,
        lock: Option<File>,
    ) -> Result<(Lessons, LessonRecovery), StoreError> {
        let directory = data_dir.join("lessons");
        let file = prepared(&*disk, data_dir, &directory).map_err(|error| failed("opening the lessons", error))?;
        let found = record::scan(&*file).map_err(|error| failed("reading the lessons", error))?;
        let mut lessons =
            Lessons { disk, directory, bounds, file, end: found.end, shelf: Shelf::default(), is_doubtful: false, _lock: lock };
        for (spot, entry) in &found.entries {
            lessons.count(entry, *spot);
        }
        lessons.settle(&found)?;
        let recovery = LessonRecovery { examples: lessons.shelf.len(), torn: found.torn, damaged: found.damaged };
        Ok((lessons, recovery))
    }

    /// Makes what was read the file's safe state.
    ///
    /// Killed after a write and before its sync was answered, the kernel has the records and may never have written them (a sync
    /// that failed is not made good by the next one): so what no later record vouches for is written once more, the same bytes
    /// at the same place, and synced. Power fails meanwhile: the bytes are the old ones or the same ones, and were not answered.
    fn settle(&mut self, found: &Found) -> Result<(), StoreError> {
        if found.has_holes {
            // What a crash left between records would look like damage once records after it vouch for it.
            return self.rewrite();
        }
        let settled = || {
            let mut tail = vec![0; usize::try_from(found.end - found.durable).unwrap_or(0)];
            read_exact_at(&*self.file, &mut tail, found.durable)?;
            self.file.set_len(found.end)?;
            self.file.write_at(&tail, found.durable)?;
            self.file.sync()
        };
        if found.torn == 0 && found.end == found.durable {
            return Ok(());
        }
        settled().map_err(|error| failed("settling the lessons", error))
    }

    /// Learns; durable after `Ok`. What is known already with the same label costs nothing.
    pub fn learn(&mut self, examples: &[Example]) -> Result<Taught, StoreError> {
        let (taught, new) = self.plan(examples);
        let entries: Vec<Entry> = new.into_values().map(|example| Entry::Learn(example.clone())).collect();
        self.append(entries)?;
        Ok(taught)
    }

    /// What [`Lessons::learn`] would do.
    pub fn would_learn(&self, examples: &[Example]) -> Taught {
        self.plan(examples).0
    }

    /// Forgets messages in one scope; durable after `Ok`. How many of them were known.
    pub fn forget(&mut self, scope: Option<&Domain>, digests: &[Digest]) -> Result<usize, StoreError> {
        let mut known: Vec<Digest> = digests.iter().copied().filter(|digest| self.knows(scope, *digest).is_some()).collect();
        known.sort_unstable();
        known.dedup();
        let count = known.len();
        self.append(known.into_iter().map(|digest| Entry::Forget((scope.cloned(), digest))).collect())?;
        Ok(count)
    }

    /// What a message is called in this scope.
    pub fn knows(&self, scope: Option<&Domain>, digest: Digest) -> Option<Label> {
        self.shelf.spot(&(scope.cloned(), digest)).map(|spot| spot.label)
    }

    /// All examples, oldest first. The second: records that cannot be read any more, in words.
    pub fn examples(&self) -> Result<(Vec<Example>, Vec<String>), StoreError> {
        let (mut examples, mut damaged) = (Vec::with_capacity(self.shelf.len()), Vec::new());
        for (key, spot) in self.shelf.in_order() {
            match self.read(key, spot) {
                Ok(example) => examples.push(example),
                Err(error) if error.kind() == ErrorKind::InvalidData => damaged.push(format!("lessons at {}: {error}", spot.at)),
                Err(error) => return Err(failed("reading a lesson", error)),
            }
        }
        Ok((examples, damaged))
    }

    pub fn statistics(&self) -> LessonStatistics {
        let mut scopes: BTreeMap<Option<Domain>, ScopeStatistics> = BTreeMap::new();
        for ((scope, _), spot) in self.shelf.in_order() {
            let line = scopes.entry(scope.clone()).or_insert_with(|| ScopeStatistics {
                domain: scope.clone(),
                oldest_day: spot.day,
                newest_day: spot.day,
                ..ScopeStatistics::default()
            });
            match spot.label {
                Label::Spam => line.spam += 1,
                Label::Ham => line.ham += 1,
            }
            line.oldest_day = line.oldest_day.min(spot.day);
            line.newest_day = line.newest_day.max(spot.day);
        }
        LessonStatistics { scopes: scopes.into_values().collect(), bytes: self.end, live_bytes: self.shelf.bytes() }
    }

    /// How many examples there are.
    pub fn len(&self) -> usize {
        self.shelf.len()
    }

    pub fn is_empty(&self) -> bool {
        self.shelf.len() == 0
    }

    /// What is new of these, each once: of a message that is there twice, the last one.
    fn plan<'a>(&self, examples: &'a [Example]) -> (Taught, BTreeMap<Key, &'a Example>) {
        let (mut taught, mut new) = (Taught::default(), BTreeMap::<Key, &Example>::new());
        for example in examples {
            let key = (example.scope.clone(), example.digest);
            let before = new.get(&key).map(|other| other.label).or_else(|| self.shelf.spot(&key).map(|spot| spot.label));
            if before == Some(example.label) {
                taught.known += 1;
                continue;
            }
            taught.learned += 1;
            taught.changed += usize::from(before.is_some());
            new.insert(key, example);
        }
        (taught, new)
    }

    /// Power fails during the write or before the sync is over: some sectors of the new records may be there, in any order, and
    /// nothing before them was touched. Each record has checksums and its own place in them, so the next start takes what is
    /// whole and leaves out the rest; none of it was answered. After the sync: all of it is there.
    fn append(&mut self, entries: Vec<Entry>) -> Result<(), StoreError> {
        if self.is_doubtful {
            // Also when there is nothing to write: what is answered now must not be undone by what an error left behind.
            self.rewrite()?;
        }
        if entries.is_empty() {
            return Ok(());
        }
        let (mut bytes, mut spots) = (Vec::new(), Vec::with_capacity(entries.len()));
        for entry in &entries {
            let at = self.end + bytes.len() as u64;
            record::write(&mut bytes, entry, at, self.end);
            spots.push(Spot::new(entry, at, self.end + bytes.len() as u64 - at));
        }
        if let Err(error) = self.file.write_at(&bytes, self.end) {
            // What is left behind the end would come to life behind a shorter record written over its beginning.
            self.is_doubtful = self.file.set_len(self.end).and_then(|()| self.file.sync()).is_err();
            return Err(failed("writing lessons", error));
        }
        if let Err(error) = self.file.sync() {
            self.is_doubtful = true;
            return Err(failed("writing lessons", error));
        }
        self.end += bytes.len() as u64;
        for (entry, spot) in entries.iter().zip(spots) {
            self.count(entry, spot);
        }
        if self.end > self.bounds.compact_min && self.end > 2 * self.shelf.bytes() {
            // What was asked for is durable; this is tried again the next time.
            if let Err(error) = self.rewrite() {
                tracing::warn!(%error, "the lessons could not be written anew; they go on growing");
            }
        }
        Ok(())
    }

    /// Takes a durable record into account.
    fn count(&mut self, entry: &Entry, spot: Spot) {
        match entry {
            Entry::Learn(example) => {
                let bound = if example.scope.is_some() { self.bounds.domain } else { self.bounds.platform };
                self.shelf.put((example.scope.clone(), example.digest), spot, bound, self.bounds.bytes);
            }
            Entry::Forget(key) => self.shelf.take(key),
        }
    }

    /// Writes what counts into a new file and puts it in the place of the old one.
    ///
    /// Power fails before the rename is durable: the old file has its name and all that was answered, and the next start removes
    /// the half-written new one. After it: the new one has the name, and its bytes were synced before. Either holds the same
    /// examples; but until the directory is synced nobody knows which, so nothing is appended to either.
    fn rewrite(&mut self) -> Result<(), StoreError> {
        let to = self.directory.join("lessons");
        let new = self.directory.join("lessons.new");
        let (file, shelf, end) = self.write_anew(&new).map_err(|error| failed("writing the lessons anew", error))?;
        self.is_doubtful = true;
        let named = self.disk.rename(&new, &to).and_then(|()| self.disk.sync_dir(&self.directory));
        named.map_err(|error| failed("writing the lessons anew", error))?;
        (self.file, self.shelf, self.end, self.is_doubtful) = (file, shelf, end, false);
        Ok(())
    }

    fn write_anew(&self, path: &Path) -> io::Result<(Arc<dyn DiskFile>, Shelf, u64)> {
        remove(&*self.disk, path)?;
        let file = self.disk.create(path)?;
        let (mut shelf, mut piece, mut written) = (Shelf::default(), Vec::new(), 0);
        for (key, spot) in self.shelf.in_order() {
            let example = match self.read(key, spot) {
                Ok(example) => example,
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    tracing::error!(at = spot.at, %error, "a lesson is damaged and was left out");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let entry = Entry::Learn(example);
            let at = written + piece.len() as u64;
            // Under its name this file is only seen when all of it is synced: each record vouches for itself, too.
            record::write_settled(&mut piece, &entry, at);
            let spot = Spot::new(&entry, at, written + piece.len() as u64 - at);
            shelf.put(key.clone(), spot, usize::MAX, u64::MAX);
            if piece.len() >= PIECE {
                file.write_at(&piece, written)?;
                written += piece.len() as u64;
                piece.clear();
            }
        }
        file.write_at(&piece, written)?;
        file.sync()?;
        Ok((file, shelf, written + piece.len() as u64))
    }

    fn read(&self, key: &Key, spot: &Spot) -> io::Result<Example> {
        let damaged = || io::Error::new(ErrorKind::InvalidData, "the record is damaged");
        let mut bytes = vec![0; usize::try_from(spot.length).map_err(|_| damaged())?];
        read_exact_at(&*self.file, &mut bytes, spot.at)?;
        match Record::decode(&bytes, spot.at) {
            Some(Record { entry: Entry::Learn(example), .. }) if (&example.scope, example.digest) == (&key.0, key.1) => {
                Ok(example)
            }
            _ => Err(damaged()),
        }
    }
}

/// The file, under its name for good.
///
/// Killed after a rename and before its directory was synced, the name may go back to the old file in a power cut after the next
/// append: so the directory is synced before anything is read. The same for a file just made.
fn prepared(disk: &dyn Disk, data_dir: &Path, directory: &Path) -> io::Result<Arc<dyn DiskFile>> {
    disk.create_dir(directory)?;
    disk.sync_dir(data_dir)?;
    remove(disk, &directory.join("lessons.new"))?;
    let path = directory.join("lessons");
    let file = match disk.open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => disk.create(&path)?,
        file => file?,
    };
    disk.sync_dir(directory)?;
    Ok(file)
}

fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn failed(what: &str, error: io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::StorageFull => StoreError::Full,
        _ => io_error(what, error),
    }
}
