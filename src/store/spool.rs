//! The spool's shared heart: where messages are looked up, changed and handed to the commit thread.
//!
//! A message is found in three places, asked in this order: `recent` (memory; the only one that knows records on their
//! way), `table` (where the journal holds it), the segment itself.
//!
//! Locks, and the order in which they may be held together: stripe → commits → recent → table. A stripe belongs to the
//! messages whose ids fall into it: who holds it is the only one who changes these messages, so the order of their records
//! in the journal is the order of their changes. Stripes are held during disk reads, therefore never waited for on an
//! async thread. The commit thread takes no stripe.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::mail::{Envelope, Progress, QueueId};
use crate::outside::{Body, Disk, read_exact_at};

use super::bodies::{self, BodyFile};
use super::commit::{Request, Written};
use super::damage::Damage;
use super::index::{Behind, Contents, Feeder, Mark};
use super::keeper::Chores;
use super::recent::{Known, Recent};
use super::record::{self, Content, ContentPlace, Draft, Kind, RECORD_HEADER, RecordHeader};
use super::table::{Change, Place, Spot, Table};
use super::{Entry, StoreError, StoreSettings, lock};

/// Where things are.
#[derive(Clone, Debug)]
pub struct Paths {
    pub spool: PathBuf,
    pub bodies: PathBuf,
    pub damaged: PathBuf,
    /// Room that is given back when the disk is full.
    pub reserve: PathBuf,
    /// Says whether the index was closed properly.
    pub index_state: PathBuf,
}

impl Paths {
    pub fn new(directory: &Path) -> Paths {
        let spool = directory.join("spool");
        Paths {
            bodies: spool.join("bodies"),
            damaged: spool.join("damaged"),
            reserve: spool.join("reserve"),
            index_state: spool.join("index-state"),
            spool,
        }
    }

    /// The content of a message that is a file of its own.
    pub fn body(&self, id: QueueId) -> PathBuf {
        self.bodies.join(format!("{id}.body"))
    }
}

/// Contents and states kept in memory, in bytes.
const RECENT_BYTES_MAX: usize = 64 << 20;
const STRIPES: usize = 256;
/// Header and meta of most records are shorter.
const META_GUESS: u64 = 2048;
/// Records on their way, in units of [`PERMIT_BYTES`]: at most so many records, and so many times that in bytes.
const PERMITS: usize = 1024;
const PERMIT_BYTES: u64 = 32 * 1024;

/// The new state, what the change returned, and when the record is durable.
pub type Changed<T> = (Arc<Entry>, T, Written);

/// Everything the store's threads share.
pub struct Spool {
    pub disk: Arc<dyn Disk>,
    pub paths: Paths,
    pub settings: StoreSettings,
    pub table: Arc<Mutex<Table>>,
    pub recent: Mutex<Recent>,
    pub chores: Chores,
    /// One stocktaking at a time.
    pub stocktaking: Mutex<()>,
    /// One verification at a time.
    pub verifying: Mutex<()>,
    /// Housekeeping asks the commit thread to close the segment in use.
    pub new_segment_wanted: AtomicBool,
    stripes: Vec<Mutex<()>>,
    permits: Arc<Semaphore>,
    /// `None`: closed.
    commits: Mutex<Option<Sender<Request>>>,
    index: Mutex<Option<Feeder>>,
    /// A verification found it wrong: the next start must not believe it.
    pub index_doubted: AtomicBool,
    /// Whether new mail was refused for lack of room at the last look.
    pub was_full: AtomicBool,
    /// How far the index is behind the journal.
    pub index_behind: Behind,
    /// Free bytes of the disk: as last asked, less what was written since.
    free: AtomicU64,
    temporary: AtomicU64,
}

impl Spool {
    pub fn new(
        disk: Arc<dyn Disk>,
        paths: Paths,
        settings: StoreSettings,
        table: Arc<Mutex<Table>>,
        commits: Sender<Request>,
        index: Feeder,
    ) -> Spool {
        Spool {
            disk,
            paths,
            settings,
            table,
            recent: Mutex::new(Recent::new(RECENT_BYTES_MAX)),
            chores: Chores::default(),
            stocktaking: Mutex::default(),
            index_doubted: AtomicBool::new(false),
            was_full: AtomicBool::new(false),
            verifying: Mutex::default(),
            new_segment_wanted: AtomicBool::new(false),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            permits: Arc::new(Semaphore::new(PERMITS)),
            commits: Mutex::new(Some(commits)),
            index_behind: index.behind(),
            index: Mutex::new(Some(index)),
            free: AtomicU64::new(u64::MAX),
            temporary: AtomicU64::new(0),
        }
    }

    /// Waits until a record of `bytes` may be handed to the commit thread.
    pub async fn permit(&self, bytes: u64) -> Result<OwnedSemaphorePermit, StoreError> {
        let count = (bytes / PERMIT_BYTES).clamp(1, PERMITS as u64) as u32;
        Arc::clone(&self.permits).acquire_many_owned(count).await.map_err(|_| closed())
    }

    /// Hands a new message to the commit thread. Its id is new, so no stripe is needed.
    pub fn submit_new(
        &self,
        entry: &Arc<Entry>,
        draft: Draft,
        body: Body,
        file: Option<Arc<BodyFile>>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Written, StoreError> {
        let id = entry.envelope.id;
        // Held from the moment on at which others see the message, so that no record of theirs comes before this one.
        let commits = lock(&self.commits);
        let generation = {
            let mut recent = lock(&self.recent);
            if !matches!(recent.get(id), Known::Unknown) || lock(&self.table).get(id).is_some() {
                return Err(already_there(id));
            }
            recent.accepting(Arc::clone(entry), body)
        };
        let (reply, written) = oneshot::channel();
        let (before, permit) = (None, Some(permit));
        let request = Request { draft, entry: Arc::clone(entry), before, generation, file, permit, reply };
        self.send(&commits, request).map(|()| written)
    }

    /// Whether the spool holds this message or is about to.
    pub fn holds(&self, id: QueueId) -> bool {
        !matches!(lock(&self.recent).get(id), Known::Unknown) || lock(&self.table).get(id).is_some()
    }

    /// Changes a message and hands the record to the commit thread. Blocks while it reads.
    pub fn change<T>(
        &self,
        id: QueueId,
        change: impl FnOnce(&Envelope, &mut Progress) -> T,
        permit: OwnedSemaphorePermit,
    ) -> Result<Changed<T>, StoreError> {
        let _stripe = self.stripe(id);
        let before = self.newest(id)?;
        self.change_from(&before, change, permit)
    }

    /// The same without blocking, when memory knows the message and nobody else is at its stripe. `Err` gives back what
    /// [`Spool::change`] needs. Only a message that is evicted right after it was found, against its second chance, is read here.
    pub fn change_at_once<T, C: FnOnce(&Envelope, &mut Progress) -> T>(
        &self,
        id: QueueId,
        change: C,
        permit: OwnedSemaphorePermit,
    ) -> Result<Result<Changed<T>, StoreError>, (C, OwnedSemaphorePermit)> {
        let _stripe = match self.stripe_of(id).try_lock() {
            Ok(stripe) => stripe,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err((change, permit)),
        };
        match self.entry_in_memory(id) {
            Some(before) => Ok(before.and_then(|before| self.change_from(&before, change, permit))),
            None => Err((change, permit)),
        }
    }

    /// The stripe is held, and `before` was looked up under it.
    fn change_from<T>(
        &self,
        before: &Arc<Entry>,
        change: impl FnOnce(&Envelope, &mut Progress) -> T,
        permit: OwnedSemaphorePermit,
    ) -> Result<Changed<T>, StoreError> {
        let id = before.envelope.id;
        let mut progress = before.progress.clone();
        let answer = change(&before.envelope, &mut progress);
        record::check_recipients(&before.envelope, &progress).map_err(|why| io_error("changing a message", invalid(why)))?;
        let kind = Kind::of_change(&before.progress, &progress);
        let entry = Arc::new(Entry { envelope: before.envelope.clone(), progress });
        let is_early = lock(&self.table).get(id).is_none();
        let draft = Draft::change(kind, &entry, is_early);
        let generation = self.begin_change(before, &entry, kind == Kind::Done)?;
        let (reply, written) = oneshot::channel();
        let (before, permit) = (Some(Arc::clone(before)), Some(permit));
        let request = Request { draft, entry: Arc::clone(&entry), before, generation, file: None, permit, reply };
        self.send(&lock(&self.commits), request)?;
        Ok((entry, answer, written))
    }

    /// Hands a copy of a message, if it is still in `segment`, to the commit thread. The stripe makes sure that no `Done` is
    /// in front of the copy: that would bring a settled message back.
    pub fn carry(&self, id: QueueId, segment: u32) -> Result<Option<Written>, StoreError> {
        let _stripe = self.stripe(id);
        let place = lock(&self.table).get(id).filter(|place| place.is_in(segment));
        let Some(place) = place else { return Ok(None) };
        let entry = match self.newest(id) {
            Err(StoreError::NotFound) => return Ok(None),
            entry => entry?,
        };
        let content = self.content(id, place)?;
        let draft = Draft::whole(Kind::Carried, &entry, content);
        let generation = self.begin_change(&entry, &entry, false)?;
        let (reply, written) = oneshot::channel();
        let request = Request { draft, entry, before: None, generation, file: None, permit: None, reply };
        self.send(&lock(&self.commits), request)?;
        Ok(Some(written))
    }

    /// The newest state, as readers see it.
    pub fn entry(&self, id: QueueId) -> Result<Arc<Entry>, StoreError> {
        self.entry_in_memory(id).unwrap_or_else(|| self.read_entry(id).map(Arc::new))
    }

    /// The same without blocking; `None` when only the disk knows.
    pub fn entry_in_memory(&self, id: QueueId) -> Option<Result<Arc<Entry>, StoreError>> {
        match lock(&self.recent).get(id) {
            Known::Here(entry) => Some(Ok(entry)),
            Known::Gone => Some(Err(StoreError::NotFound)),
            Known::Unknown => None,
        }
    }

    /// The content, when it is in memory or open.
    pub fn body_in_memory(&self, id: QueueId) -> Option<Body> {
        lock(&self.recent).body(id)
    }

    /// Up to `most` messages after `after`. One that cannot be read is reported and left out: it must not hide the others.
    pub fn entries(&self, mut after: Option<QueueId>, most: usize) -> Result<Vec<Arc<Entry>>, StoreError> {
        let mut entries = Vec::new();
        while entries.len() < most {
            let ids = lock(&self.table).range(after, (most - entries.len()).min(1024));
            let Some((last, _)) = ids.last() else { break };
            after = Some(*last);
            for (id, _) in ids {
                match self.entry(id) {
                    Ok(entry) => entries.push(entry),
                    // It left meanwhile.
                    Err(StoreError::NotFound) => {}
                    Err(StoreError::Damaged(what)) => tracing::error!(id = %id, what, "a message in the queue cannot be read"),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(entries)
    }

    /// The content, read and checked once and then shared; from memory when another reader was faster.
    pub fn body(&self, id: QueueId) -> Result<Body, StoreError> {
        let _stripe = self.stripe(id);
        self.newest(id)?;
        if let Some(body) = self.body_in_memory(id) {
            return Ok(body);
        }
        let place = lock(&self.table).get(id).ok_or(StoreError::NotFound)?;
        let body = if place.in_file {
            let header = self.read_header(id, place.whole)?;
            bodies::open_checked(&*self.disk, &self.paths.body(id), header.content_length, header.content_crc)?
        } else {
            match self.content(id, place)? {
                Content::Inline { bytes, .. } => Body::Memory(bytes),
                Content::Absent | Content::File { .. } => return Err(StoreError::NotFound),
            }
        };
        lock(&self.recent).remember_body(id, body.clone());
        Ok(body)
    }

    /// Takes a message out that cannot be read any more; its bytes were set aside before.
    pub fn forget(&self, id: QueueId) {
        lock(&self.recent).forget(id);
        {
            let mut table = lock(&self.table);
            table.apply((id, None));
            table.ledger.totals.lost += 1;
        }
        self.index_behind.grow(1);
        self.index(vec![(id, None)], None);
    }

    /// Tells the index what `index_behind` was told of. Does not wait for it, unless it is far behind.
    pub fn index(&self, changes: Vec<Change>, mark: Option<Mark>) {
        if let Some(index) = &*lock(&self.index) {
            index.apply(changes, mark);
        }
    }

    /// What the index holds now, when it still works; the answer comes after what was handed over before.
    pub fn index_contents(&self) -> Option<Receiver<Contents>> {
        lock(&self.index).as_ref().map(Feeder::contents)
    }

    /// Takes no more records; what was handed over is still written.
    pub fn stop_commits(&self) {
        lock(&self.commits).take();
        self.permits.close();
    }

    /// The index's thread, to be closed last.
    pub fn take_index(&self) -> Option<Feeder> {
        lock(&self.index).take()
    }

    /// Less than the reserve is free.
    pub fn is_full(&self) -> bool {
        self.free_bytes() < self.settings.reserve
    }

    pub fn free_bytes(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Asks the disk.
    pub fn look_at_free_bytes(&self) {
        match self.disk.free_bytes(&self.paths.spool) {
            Ok(free) => self.free.store(free, Ordering::Relaxed),
            // A spool whose directory is gone still takes bytes, into files without a name: nothing new may be trusted to it.
            Err(error) => {
                if self.free.swap(0, Ordering::Relaxed) > 0 {
                    let path = self.paths.spool.display();
                    tracing::error!(%error, %path, "the spool's disk cannot be asked for room: no mail is taken until it can");
                }
            }
        }
    }

    /// Between two looks: so much was written.
    pub fn spend(&self, bytes: u64) {
        let less = |free: u64| Some(free.saturating_sub(bytes));
        let _ = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// A name for a body that is arriving.
    pub fn temporary_body(&self) -> PathBuf {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        self.paths.bodies.join(format!("tmp-{number}.body"))
    }

    fn send(&self, commits: &Option<Sender<Request>>, request: Request) -> Result<(), StoreError> {
        let (id, generation) = (request.draft.id, request.generation);
        let sent = commits.as_ref().is_some_and(|commits| commits.send(request).is_ok());
        if !sent {
            lock(&self.recent).failed(id, generation);
            return Err(closed());
        }
        Ok(())
    }

    fn stripe(&self, id: QueueId) -> MutexGuard<'_, ()> {
        self.stripe_of(id).lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stripe_of(&self, id: QueueId) -> &Mutex<()> {
        // The low bits of a session id count within a millisecond, the number counts in the session: mix both.
        let mixed = (id.session.to_u64() ^ u64::from(id.number).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.stripes[(mixed >> 56) as usize % STRIPES]
    }

    /// The newest state, read into memory when it is not there. The stripe is held.
    fn newest(&self, id: QueueId) -> Result<Arc<Entry>, StoreError> {
        let entry = self.entry(id)?;
        lock(&self.recent).remember(&entry);
        Ok(entry)
    }

    /// Puts the new state in, unless `before`, which it was made from, turned out to be one whose record failed. The stripe is
    /// held; looked up again because it may have been evicted since.
    fn begin_change(&self, before: &Arc<Entry>, entry: &Arc<Entry>, is_done: bool) -> Result<u64, StoreError> {
        loop {
            let newest = self.newest(before.envelope.id)?;
            if newest.progress != before.progress {
                return Err(io_error("changing a message", io::Error::other("a change before this one could not be written")));
            }
            if let Some(generation) = lock(&self.recent).changing(&newest, Arc::clone(entry), is_done) {
                return Ok(generation);
            }
        }
    }

    /// The state that is durable.
    pub fn read_entry(&self, id: QueueId) -> Result<Entry, StoreError> {
        let place = lock(&self.table).get(id).ok_or(StoreError::NotFound)?;
        let (header, meta) = self.read_meta(id, place.whole)?;
        let mut entry = record::read_whole(&header, &meta).map_err(|why| self.damaged(id, place.whole, why))?;
        if place.state != place.whole {
            let (_, meta) = self.read_meta(id, place.state)?;
            let state = record::read_state(&meta);
            let state = state.and_then(|state| record::check_recipients(&entry.envelope, &state).map(|()| state));
            entry.progress = state.map_err(|why| self.damaged(id, place.state, why))?;
        }
        Ok(entry)
    }

    /// The content as a record needs it: read and checked when it is inline, only named when it is a file.
    fn content(&self, id: QueueId, place: Place) -> Result<Content, StoreError> {
        let header = self.read_header(id, place.whole)?;
        match header.place {
            ContentPlace::File => Ok(Content::File { size: header.content_length, crc: header.content_crc }),
            ContentPlace::Absent => Ok(Content::Absent),
            ContentPlace::Inline => {
                let at = RECORD_HEADER as u64 + u64::from(header.meta_length);
                let bytes = self.read(place.whole, at, header.content_length)?;
                if crc32fast::hash(&bytes) != header.content_crc {
                    return Err(self.damaged(id, place.whole, "the checksum of the content is wrong".to_owned()));
                }
                Ok(Content::Inline { bytes: bytes.into(), crc: header.content_crc })
            }
        }
    }

    /// One read where it can be: a start does this for every message.
    fn read_meta(&self, id: QueueId, spot: Spot) -> Result<(RecordHeader, Vec<u8>), StoreError> {
        let mut bytes = self.read(spot, 0, META_GUESS)?;
        let header = self.header_of(id, spot, &bytes)?;
        let length = RECORD_HEADER as u64 + u64::from(header.meta_length);
        if (bytes.len() as u64) < length {
            bytes.extend(self.read(spot, bytes.len() as u64, length - bytes.len() as u64)?);
        }
        bytes.truncate(length as usize);
        let meta = bytes.split_off(RECORD_HEADER);
        if crc32fast::hash(&meta) != header.meta_crc {
            return Err(self.damaged(id, spot, "its checksum is wrong".to_owned()));
        }
        Ok((header, meta))
    }

    fn read_header(&self, id: QueueId, spot: Spot) -> Result<RecordHeader, StoreError> {
        let bytes = self.read(spot, 0, RECORD_HEADER as u64)?;
        self.header_of(id, spot, &bytes)
    }

    /// The header at the beginning of what stands there.
    fn header_of(&self, id: QueueId, spot: Spot, bytes: &[u8]) -> Result<RecordHeader, StoreError> {
        let stamp = lock(&self.table).file(spot).map(|(_, stamp)| stamp);
        let header = RecordHeader::decode(bytes, spot.segment, u64::from(spot.offset), stamp);
        let header = header.map(|(header, _)| header);
        header
            .filter(|header| header.id == id && header.length() == u64::from(spot.length))
            .ok_or_else(|| self.damaged(id, spot, "there is no record of this message".to_owned()))
    }

    /// `length` bytes of a record, from `from` on. Within the record's own length, so that a wrong number cannot ask for more.
    fn read(&self, spot: Spot, from: u64, length: u64) -> Result<Vec<u8>, StoreError> {
        let (file, _) = lock(&self.table).file(spot).ok_or(StoreError::NotFound)?;
        let length = length.min(u64::from(spot.length).saturating_sub(from));
        let mut bytes = vec![0; length as usize];
        let read = read_exact_at(&*file, &mut bytes, u64::from(spot.offset) + from);
        read.map_err(|error| io_error(format!("reading segment {}", spot.segment), error))?;
        Ok(bytes)
    }

    /// Sets the record aside and makes the error. The message stays in the queue, where every try meets this error, until an
    /// operator drops it or its segment is given up.
    fn damaged(&self, id: QueueId, spot: Spot, why: String) -> StoreError {
        let from = u64::from(spot.offset);
        let kept = match lock(&self.table).file(spot) {
            Some((file, _)) => {
                let damage = Damage { disk: &*self.disk, paths: &self.paths };
                damage.set_aside(&*file, spot.segment, from..from + u64::from(spot.length))
            }
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let kept = kept.map_or_else(|error| format!("could not be set aside: {error}"), |path| path.display().to_string());
        StoreError::Damaged(format!("message {id}, segment {} at {}: {why} ({kept})", spot.segment, spot.offset))
    }
}

pub fn io_error(what: impl Into<String>, source: io::Error) -> StoreError {
    StoreError::Io { what: what.into(), source }
}

pub fn closed() -> StoreError {
    io_error("the spool", io::Error::other("it is closed"))
}

pub fn already_there(id: QueueId) -> StoreError {
    io_error(format!("accepting {id}"), io::ErrorKind::AlreadyExists.into())
}

pub fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
