//! A disk in memory that can lose power, refuse a sync, fill up, fail to read, read less than asked and flip bits.
//!
//! It keeps two states of everything: what a reader sees now, and what is durable. A power cut leaves what was durable plus
//! a random part of the rest: of the bytes written since the last sync, any set of 512-byte sectors (in any order, so
//! that a later write can survive an earlier one); of the names created, renamed and removed since the last `sync_dir`,
//! any of them. All choices come from one seed. Whoever still holds the old disk or a file of it gets errors only.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::outside::{self, DiskFile};

const SECTOR: usize = 512;

/// The simulated disk. Cloning shares it.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

struct State {
    random: u64,
    files: BTreeMap<u64, Contents>,
    next_file: u64,
    /// What a reader sees.
    names: BTreeMap<PathBuf, u64>,
    /// What a power cut leaves for sure.
    durable_names: BTreeMap<PathBuf, u64>,
    /// Since the last `sync_dir` of their directory, in order.
    pending_names: Vec<NameChange>,
    directories: BTreeSet<PathBuf>,
    capacity: u64,
    steps: u64,
    power_fails_at: Option<u64>,
    syncs_that_fail: u32,
    unreadable: BTreeSet<PathBuf>,
    reads_are_short: bool,
}

#[derive(Clone, Default)]
struct Contents {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone)]
enum NameChange {
    Create(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

struct File {
    disk: Disk,
    number: u64,
    path: PathBuf,
}

impl Disk {
    /// An empty disk without a limit. The seed decides every random choice.
    pub fn new(seed: u64) -> Disk {
        Disk(Arc::new(Mutex::new(State {
            random: seed,
            files: BTreeMap::new(),
            next_file: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            directories: BTreeSet::new(),
            capacity: u64::MAX,
            steps: 0,
            power_fails_at: None,
            syncs_that_fail: 0,
            unreadable: BTreeSet::new(),
            reads_are_short: false,
        })))
    }

    /// A random number below `below`, from the disk's seed: for the test's own choices.
    pub fn random(&self, below: u64) -> u64 {
        self.state().random_below(below)
    }

    /// Changes and syncs so far: the moments at which power can fail.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Power fails at step `step`: that one and everything after it gives an error; what it wrote may survive in part.
    pub fn fail_power_at(&self, step: u64) {
        self.state().power_fails_at = Some(step);
    }

    /// Whether the moment of [`Disk::fail_power_at`] has come.
    pub fn power_failed(&self) -> bool {
        self.state().is_off()
    }

    /// The next `count` syncs of files fail. As on Linux, what they should have written is then neither on disk nor
    /// written by a later sync, while readers still see it.
    pub fn fail_syncs(&self, count: u32) {
        self.state().syncs_that_fail = count;
    }

    /// So many bytes fit on the disk in all.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Whether nothing more fits than a few bytes: less than a sector.
    pub fn is_full(&self) -> bool {
        let state = self.state();
        state.capacity.saturating_sub(state.used()) < SECTOR as u64
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Reading this file fails from now on.
    pub fn fail_reads(&self, path: &Path) {
        self.state().unreadable.insert(path.to_owned());
    }

    /// From now on, also after a crash, a read gives fewer bytes than were asked for whenever it likes.
    pub fn shorten_reads(&self) {
        self.state().reads_are_short = true;
    }

    pub fn is_directory(&self, path: &Path) -> bool {
        self.state().directories.contains(path)
    }

    /// The names of the directories in one; `Disk::list` names its files.
    pub fn directories(&self, directory: &Path) -> Vec<String> {
        let state = self.state();
        let inside = state.directories.iter().filter(|path| path.parent() == Some(directory));
        inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
    }

    /// Removes an empty directory. Like making one, it is durable at once.
    pub fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let is_inside = |inside: &Path| inside.parent() == Some(path);
        if state.names.keys().any(|name| is_inside(name)) || state.directories.iter().any(|name| is_inside(name)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        // A removal of its files that is not durable yet can no more be undone.
        state.pending_names.retain(|change| !change.is_in(path));
        state.durable_names.retain(|name, _| !is_inside(name));
        if state.directories.remove(path) { Ok(()) } else { Err(not_found(path)) }
    }

    /// Inverts one bit, on the disk and in what readers see. Panics when it is not there: a mistake of the test.
    pub fn flip_bit(&self, path: &Path, byte: usize, bit: u8) {
        let mut state = self.state();
        let number = *state.names.get(path).expect("the file exists");
        let contents = state.files.get_mut(&number).expect("a name leads to a file");
        contents.seen[byte] ^= 1 << bit;
        if let Some(durable) = contents.durable.get_mut(byte) {
            *durable ^= 1 << bit;
        }
    }

    /// What a reader sees in this file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        Some(state.files.get(state.names.get(path)?)?.seen.clone())
    }

    /// The disk after the process was killed: the kernel has all that was written and may still lose it to a power cut.
    /// This one is off.
    pub fn after_kill(&self) -> Disk {
        let mut state = self.state();
        let (files, names) = (state.files.clone(), state.names.clone());
        let next = state.successor(files, names);
        let mut after = next.state();
        after.durable_names = state.durable_names.clone();
        after.pending_names = state.pending_names.clone();
        drop(after);
        next
    }

    /// The disk after a power cut: what was durable, and a random part of the rest. This one is off.
    pub fn after_power_cut(&self) -> Disk {
        let mut state = self.state();
        // Some cuts lose everything that was not synced, some nothing, most a part.
        let survives_of_8 = [0, 8, 4, 6, 2][state.random_below(5) as usize];
        let mut files = std::mem::take(&mut state.files);
        for contents in files.values_mut() {
            contents.keep_some(|| state.random_below(8) < survives_of_8);
            contents.seen = contents.durable.clone();
        }
        // A removal that is lost brings the file back, so every file is still here.
        let mut names = state.durable_names.clone();
        for change in std::mem::take(&mut state.pending_names) {
            if state.random_below(8) < survives_of_8 {
                change.apply(&mut names);
            }
        }
        let named: BTreeSet<u64> = names.values().copied().collect();
        files.retain(|number, _| named.contains(number));
        state.successor(files, names)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// splitmix64 (Steele, Lea and Flood, 2014): small, and every seed is a good one.
    fn random_below(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    fn successor(&mut self, files: BTreeMap<u64, Contents>, names: BTreeMap<PathBuf, u64>) -> Disk {
        self.power_fails_at = Some(0);
        let next = Disk::new(self.random_below(u64::MAX));
        let mut state = next.state();
        state.files = files;
        state.next_file = self.next_file;
        state.durable_names = names.clone();
        state.names = names;
        state.directories = self.directories.clone();
        state.capacity = self.capacity;
        state.reads_are_short = self.reads_are_short;
        drop(state);
        next
    }

    fn is_off(&self) -> bool {
        self.power_fails_at.is_some_and(|step| self.steps >= step)
    }

    /// Counts a change; an error from the step on at which power fails.
    fn step(&mut self) -> io::Result<()> {
        self.powered()?;
        self.steps += 1;
        Ok(())
    }

    fn powered(&self) -> io::Result<()> {
        if self.is_off() { Err(io::Error::other("simulated: the power is off")) } else { Ok(()) }
    }

    /// Bytes of the files that have a name.
    fn used(&self) -> u64 {
        self.names.values().filter_map(|number| self.files.get(number)).map(|contents| contents.seen.len() as u64).sum()
    }

    fn file(&self, number: u64) -> io::Result<&Contents> {
        self.files.get(&number).ok_or_else(|| io::Error::other("simulated: a file of an earlier life"))
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Create(path, number) => {
                names.insert(path.clone(), *number);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
            NameChange::Rename(from, to, number) => {
                names.remove(from);
                names.insert(to.clone(), *number);
            }
        }
    }

    fn is_in(&self, directory: &Path) -> bool {
        match self {
            NameChange::Create(path, _) | NameChange::Remove(path) => path.parent() == Some(directory),
            NameChange::Rename(_, to, _) => to.parent() == Some(directory),
        }
    }
}

impl Contents {
    /// Makes those sectors of what is pending durable that `survives` says so about.
    fn keep_some(&mut self, mut survives: impl FnMut() -> bool) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Length(length) => {
                    if survives() {
                        self.durable.resize(length, 0);
                    }
                }
                Change::Write { at, bytes } => {
                    let mut from = 0;
                    while from < bytes.len() {
                        // Up to the next border between sectors of the file, not of the write.
                        let to = (from + SECTOR - (at + from) % SECTOR).min(bytes.len());
                        if survives() {
                            put(&mut self.durable, &bytes[from..to], at + from);
                        }
                        from = to;
                    }
                }
            }
        }
    }
}

/// Writes into a file's bytes; a gap before them reads as zeros.
fn put(into: &mut Vec<u8>, bytes: &[u8], at: usize) {
    let end = at + bytes.len();
    if into.len() < end {
        into.resize(end, 0);
    }
    into[at..end].copy_from_slice(bytes);
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("simulated: no file {}", path.display()))
}

impl outside::Disk for Disk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.step()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|parent| state.directories.contains(parent)) {
            return Err(not_found(path));
        }
        let number = state.next_file;
        state.next_file += 1;
        state.files.insert(number, Contents::default());
        state.change(NameChange::Create(path.to_owned(), number));
        Ok(Arc::new(File { disk: self.clone(), number, path: path.to_owned() }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        state.powered()?;
        let number = *state.names.get(path).ok_or_else(|| not_found(path))?;
        Ok(Arc::new(File { disk: self.clone(), number, path: path.to_owned() }))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.powered()?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if !state.names.contains_key(path) {
            return Err(not_found(path));
        }
        state.change(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let number = *state.names.get(from).ok_or_else(|| not_found(from))?;
        state.change(NameChange::Rename(from.to_owned(), to.to_owned(), number));
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        // Directories themselves are durable at once: the store makes them before it promises anything.
        state.directories.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let (now, later) = std::mem::take(&mut state.pending_names).into_iter().partition(|change| change.is_in(path));
        state.pending_names = later;
        let now: Vec<NameChange> = now;
        for change in now {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let state = self.state();
        state.powered()?;
        Ok(state.capacity.saturating_sub(state.used()))
    }
}

impl DiskFile for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        // Power that fails during a write may leave a part of it: it is pending either way.
        let step = state.step();
        let free = state.capacity.saturating_sub(state.used());
        let Some(contents) = state.files.get_mut(&self.number) else {
            return Err(io::Error::other("simulated: a file of an earlier life"));
        };
        let at = at as usize;
        let grows = (at + bytes.len()).saturating_sub(contents.seen.len()) as u64;
        let fits = bytes.len() - grows.saturating_sub(free).min(bytes.len() as u64) as usize;
        if fits > 0 {
            put(&mut contents.seen, &bytes[..fits], at);
            contents.pending.push(Change::Write { at, bytes: bytes[..fits].to_vec() });
        }
        step?;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.powered()?;
        if state.unreadable.contains(&self.path) {
            return Err(io::Error::other("simulated: the sector cannot be read"));
        }
        let is_short = state.reads_are_short && state.random_below(4) == 0;
        let most = if is_short { 1 + state.random_below(into.len() as u64) as usize } else { into.len() };
        let seen = &state.file(self.number)?.seen;
        let rest = seen.get(at as usize..).unwrap_or_default();
        let count = rest.len().min(most);
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.powered()?;
        Ok(state.file(self.number)?.seen.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.step()?;
        let length = len as usize;
        state.file(self.number)?;
        if let Some(contents) = state.files.get_mut(&self.number) {
            contents.seen.resize(length, 0);
            contents.pending.push(Change::Length(length));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.step()?;
        state.file(self.number)?;
        let mut contents = state.files.remove(&self.number).unwrap_or_default();
        let fails = state.syncs_that_fail > 0;
        if fails {
            state.syncs_that_fail -= 1;
            contents.keep_some(|| state.random_below(2) == 0);
        } else {
            contents.keep_some(|| true);
        }
        state.files.insert(self.number, contents);
        if fails { Err(io::Error::other("simulated: the sync failed")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::Disk as _;

    fn disk_with(name: &str, bytes: &[u8]) -> (Disk, Arc<dyn DiskFile>) {
        let disk = Disk::new(1);
        disk.create_dir(Path::new("/d")).unwrap();
        let file = disk.create(&Path::new("/d").join(name)).unwrap();
        file.write_at(bytes, 0).unwrap();
        (disk, file)
    }

    #[test]
    fn what_was_synced_survives_every_power_cut() {
        for seed in 0..50 {
            let (disk, file) = disk_with("a", b"hello");
            disk.state().random = seed;
            file.sync().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            file.write_at(&[b'x'; 2000], 5).unwrap();
            let after = disk.after_power_cut();
            assert!(after.contents(Path::new("/d/a")).unwrap().starts_with(b"hello"));
            assert!(file.write_at(b"late", 0).is_err(), "the old life is over");
        }
    }

    #[test]
    fn a_name_without_sync_of_its_directory_can_be_lost() {
        let survives = |seed| {
            let (disk, file) = disk_with("a", b"hello");
            disk.state().random = seed;
            file.sync().unwrap();
            disk.after_power_cut().contents(Path::new("/d/a")).is_some()
        };
        assert!((0..50).any(survives) && !(0..50).all(survives));
    }

    #[test]
    fn a_failed_sync_is_not_made_good_by_the_next_one() {
        let lost = (0..50).any(|seed| {
            let (disk, file) = disk_with("a", &[b'x'; 4096]);
            disk.state().random = seed;
            disk.sync_dir(Path::new("/d")).unwrap();
            disk.fail_syncs(1);
            assert!(file.sync().is_err());
            assert!(file.sync().is_ok());
            disk.after_power_cut().contents(Path::new("/d/a")).unwrap() != [b'x'; 4096]
        });
        assert!(lost);
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let (disk, file) = disk_with("a", b"hello");
        disk.set_capacity(8);
        assert_eq!(file.write_at(b"123456", 5).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.contents(Path::new("/d/a")).unwrap(), b"hello123");
        assert_eq!(disk.free_bytes(Path::new("/d")).unwrap(), 0);
    }

    #[test]
    fn what_a_killed_process_wrote_is_there_until_a_power_cut() {
        let lost = (0..50).any(|seed| {
            let (disk, _file) = disk_with("a", b"hello");
            disk.state().random = seed;
            let disk = disk.after_kill();
            assert_eq!(disk.contents(Path::new("/d/a")).unwrap(), b"hello");
            disk.after_power_cut().contents(Path::new("/d/a")).is_none()
        });
        assert!(lost);
    }
}
