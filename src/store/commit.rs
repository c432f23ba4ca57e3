//! Group commit: one thread takes every record that waits, writes them with one call, syncs once, and answers all.
//!
//! While one sync runs, the next batch gathers: the more there is to do, the fewer syncs a message costs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::bodies::BodyFile;
use super::index::Mark;
use super::journal::{self, Journal};
use super::keeper;
use super::record::{ContentPlace, Draft, Kind};
use super::spool::{Spool, io_error};
use super::table::{Change, Place, Spot};
use super::{Entry, StoreError, lock};

/// Whether a record has become durable.
pub type Written = oneshot::Receiver<Result<(), StoreError>>;

/// A record that is to become durable.
pub struct Request {
    pub draft: Draft,
    /// The state that the record brings about.
    pub entry: Arc<Entry>,
    /// The state that it takes the place of; `None`: the message is new.
    pub before: Option<Arc<Entry>>,
    /// Of the message, when the record was made: no more written when a record before it has failed.
    pub generation: u64,
    /// The content's file, removed when this fails.
    pub file: Option<Arc<BodyFile>>,
    /// Given back when this is answered.
    pub permit: Option<OwnedSemaphorePermit>,
    pub reply: oneshot::Sender<Result<(), StoreError>>,
}

/// A batch takes no more records beyond these.
const BATCH_BYTES: u64 = 8 << 20;
const BATCH_RECORDS: usize = 1024;

/// Without a record for so long, it is looked whether the segment is to be closed.
const IDLE: Duration = Duration::from_millis(500);

/// The commit thread: ends when nobody can send any more and all is written.
pub fn run(spool: &Spool, mut journal: Journal, requests: &Receiver<Request>) {
    loop {
        if spool.new_segment_wanted.swap(false, Ordering::Relaxed) {
            journal.close_segment();
        }
        let first = match requests.recv_timeout(IDLE) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut bytes = first.draft.length();
        let mut batch = vec![first];
        while bytes < BATCH_BYTES && batch.len() < BATCH_RECORDS {
            let Ok(request) = requests.try_recv() else { break };
            bytes += request.draft.length();
            batch.push(request);
        }
        commit(spool, &mut journal, batch);
    }
}

/// Makes a batch durable, or answers it with an error. A full disk refuses new mail first: the finishing records of the batch
/// are tried once more with the reserve's room.
fn commit(spool: &Spool, journal: &mut Journal, batch: Vec<Request>) {
    let batch = without_stale(spool, batch);
    let Err((batch, error)) = write(spool, journal, batch) else { return };
    let is_full = error.kind() == io::ErrorKind::StorageFull;
    if is_full {
        spool.look_at_free_bytes();
    }
    let (new, finishing): (Vec<_>, Vec<_>) = batch.into_iter().partition(|request| request.draft.kind.is_whole());
    new.into_iter().for_each(|request| fail(spool, request, &error));
    if is_full && !finishing.is_empty() && keeper::give_up_reserve(spool) {
        let finishing = without_stale(spool, finishing);
        if let Err((batch, error)) = write(spool, journal, finishing) {
            batch.into_iter().for_each(|request| fail(spool, request, &error));
        }
    } else {
        finishing.into_iter().for_each(|request| fail(spool, request, &error));
    }
}

/// Records built upon a record that failed are not written: a state on disk would then hold a change that was answered
/// with an error.
fn without_stale(spool: &Spool, batch: Vec<Request>) -> Vec<Request> {
    let (current, stale): (Vec<_>, Vec<_>) = {
        let recent = lock(&spool.recent);
        batch.into_iter().partition(|request| recent.is_current(request.draft.id, request.generation))
    };
    let error = io::Error::other("a change before this one could not be written");
    stale.into_iter().for_each(|request| fail(spool, request, &error));
    current
}

fn write(spool: &Spool, journal: &mut Journal, batch: Vec<Request>) -> Result<(), (Vec<Request>, io::Error)> {
    if batch.is_empty() {
        return Ok(());
    }
    let drafts: Vec<_> = batch.iter().map(|request| &request.draft).collect();
    match journal.append(&drafts) {
        Ok(written) => {
            succeed(spool, batch, &written);
            Ok(())
        }
        Err(error) => {
            tracing::error!(%error, records = batch.len(), "the journal could not be written; the segment is closed");
            Err((batch, error))
        }
    }
}

/// Everything here is about memory: the batch is on disk. Table first, then memory, then the answers, so that whoever got
/// an answer finds what it says; the index last, nobody waits for it.
///
/// Killed here, before the answers: the records count at the next start. A new message is then delivered although its
/// sender was not answered and sends it again: a duplicate, which SMTP allows (RFC 5321 §6.1), never a loss.
fn succeed(spool: &Spool, batch: Vec<Request>, written: &journal::Written) {
    spool.spend(batch.iter().map(|request| request.draft.length()).sum());
    spool.index_behind.grow(batch.len() as u64);
    let mut changes: Vec<Change> = Vec::with_capacity(batch.len());
    {
        let mut table = lock(&spool.table);
        for (request, spot) in batch.iter().zip(&written.spots) {
            let id = request.draft.id;
            let before = table.get(id);
            let place = after_record(before, request.draft.kind, request.draft.content.place(), *spot);
            if request.draft.kind == Kind::Done && before.is_some_and(|place| place.in_file) {
                // The file goes after the `Done` is durable. Killed in between, it is a file without a message, which the
                // next start removes.
                spool.chores.remove_later(spool.paths.body(id));
            }
            table.apply((id, place));
            table.ledger.record(request.draft.kind, request.before.as_deref(), &request.entry);
            changes.push((id, place));
        }
    }
    {
        let mut recent = lock(&spool.recent);
        for request in &batch {
            recent.committed(&request.entry, request.draft.kind == Kind::Done);
        }
    }
    for request in batch {
        if let Some(file) = request.file {
            file.keep();
        }
        drop(request.permit);
        // Whoever asked may have gone away: a session that was cut off.
        let _ = request.reply.send(Ok(()));
    }
    let journal::Written { segment, stamp, end, highest, .. } = *written;
    let mark = Mark { segment, stamp, offset: end, highest };
    spool.index(changes, Some(mark));
}

fn fail(spool: &Spool, request: Request, error: &io::Error) {
    lock(&spool.recent).failed(request.draft.id, request.generation);
    let is_full = error.kind() == io::ErrorKind::StorageFull;
    let error = if is_full && request.draft.kind == Kind::Accepted {
        StoreError::Full
    } else {
        // An error of the system cannot be cloned: its kind and its words can.
        io_error("writing the journal", io::Error::new(error.kind(), error.to_string()))
    };
    // The message's file, when it has one, goes with the request.
    drop(request.file);
    let _ = request.reply.send(Err(error));
}

/// Where a message is after a record; `before` it was there. Recovery asks the same.
pub fn after_record(before: Option<Place>, kind: Kind, content: ContentPlace, spot: Spot) -> Option<Place> {
    match kind {
        Kind::Accepted | Kind::Carried => Some(Place::whole(spot, content == ContentPlace::File)),
        Kind::Done => None,
        Kind::Ledger => before,
        // `None` when the message is not there: its content is damaged, and it stays away.
        Kind::Judged | Kind::Progress | Kind::Steered => before.map(|place| Place { state: spot, ..place }),
    }
}
