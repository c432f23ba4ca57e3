//! Housekeeping, once a second and when woken: files that may go, room on the disk, the reserve, old segments.
//!
//! A thread of its own, so that none of it is in the way of a reply. What fails is tried again a minute later.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::spool::Spool;
use super::{lock, segments};

const EVERY: Duration = Duration::from_secs(1);
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// Segments given up in one round, so that other chores get their turn.
const SEGMENTS_A_ROUND: usize = 4;
/// The reserve file is this part of the reserve, but at most so many bytes.
const RESERVE_PART: u64 = 16;
const RESERVE_FILE_MAX: u64 = 16 << 20;

/// What waits for the keeper.
#[derive(Default)]
pub struct Chores {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    removals: Vec<PathBuf>,
    is_over: bool,
}

impl Chores {
    /// Removes a file that nothing names any more.
    pub fn remove_later(&self, path: PathBuf) {
        lock(&self.waiting).removals.push(path);
        self.wake.notify_one();
    }

    /// Ends the keeper's thread.
    pub fn end(&self) {
        lock(&self.waiting).is_over = true;
        self.wake.notify_one();
    }

    fn take(&self) -> Vec<PathBuf> {
        std::mem::take(&mut lock(&self.waiting).removals)
    }

    /// Waits until there is something to do or a second is over. `false`: it is over.
    fn wait(&self) -> bool {
        let idle = |waiting: &mut Waiting| waiting.removals.is_empty() && !waiting.is_over;
        let waiting = self.wake.wait_timeout_while(lock(&self.waiting), EVERY, idle);
        let (waiting, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        !waiting.is_over
    }
}

/// The keeper's thread.
pub fn run(spool: &Spool) {
    let mut segments_from = Instant::now();
    while spool.chores.wait() {
        if let Err(error) = housekeep(spool, Instant::now() >= segments_from) {
            tracing::warn!(%error, "housekeeping of the spool failed; it is tried again in a minute");
            segments_from = Instant::now() + AFTER_FAILURE;
        }
    }
}

/// One round.
pub fn housekeep(spool: &Spool, with_segments: bool) -> Result<(), super::StoreError> {
    remove_files(spool);
    spool.look_at_free_bytes();
    tell_of_room(spool);
    fill_reserve(spool);
    if spool.is_full() && segments::newest_is_sparse(spool) {
        // No new mail comes that would fill it up: its room would never be free again.
        spool.new_segment_wanted.store(true, Ordering::Relaxed);
    }
    let mut rounds = if with_segments { SEGMENTS_A_ROUND } else { 0 };
    while rounds > 0 && segments::reclaim(spool)? {
        rounds -= 1;
    }
    Ok(())
}

/// Says when new mail begins to be refused for lack of room, and when it is taken again.
fn tell_of_room(spool: &Spool) {
    let is_full = spool.is_full();
    if spool.was_full.swap(is_full, Ordering::Relaxed) == is_full {
        return;
    }
    let (free, reserve) = (spool.free_bytes(), spool.settings.reserve);
    match is_full {
        true => tracing::error!(
            free,
            reserve,
            "the spool's disk has less room than queue.reserve: new mail is answered 452 until there is more; delivery goes on"
        ),
        false => tracing::info!(free, reserve, "the spool's disk has room again: new mail is taken"),
    }
}

/// Not made durable: what comes back after a crash is removed by the next start.
pub fn remove_files(spool: &Spool) {
    for path in spool.chores.take() {
        match spool.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %path.display(), "cannot remove a body's file; the next start does");
            }
            _ => {}
        }
    }
}

/// Gives the reserve's room back to the disk, so that what was begun can be finished. Whether there was one.
pub fn give_up_reserve(spool: &Spool) -> bool {
    let given = spool.disk.remove(&spool.paths.reserve).is_ok();
    if given {
        tracing::error!("the spool's disk is full: its reserve is used to finish mail, new mail is refused");
    }
    given
}

/// Makes the reserve (again) when there is plenty of room. Real bytes, not a hole: room that is only promised is none.
fn fill_reserve(spool: &Spool) {
    let size = (spool.settings.reserve / RESERVE_PART).min(RESERVE_FILE_MAX);
    let has_room = spool.free_bytes() > spool.settings.reserve.saturating_add(2 * size);
    if size == 0 || !has_room {
        return;
    }
    let made = spool.disk.create(&spool.paths.reserve).and_then(|file| {
        let zeros = vec![0; size.min(1 << 20) as usize];
        let mut at = 0;
        while at < size {
            file.write_at(&zeros, at)?;
            at += zeros.len() as u64;
        }
        file.sync()
    });
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            tracing::warn!(%error, "cannot make the spool's reserve");
            let _ = spool.disk.remove(&spool.paths.reserve);
        }
        _ => {}
    }
}
