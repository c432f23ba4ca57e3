//! Giving up old segments.
//!
//! Only the oldest segment goes, and only when nothing in it is needed. So a `Done` in a newer segment always outlives the
//! `Accepted` it cancels, and no settled message can come back. When little lives in the oldest segment, or the spool has
//! grown to twice what lives in it and one segment, its messages are copied to the journal's head first, each with its newest
//! state. The second segment that the spool may have is for what is written until the next round of housekeeping, and for
//! the copies while the oldest segment is still there.
//!
//! What that costs: as much must have been given up as lives before all that lives has been copied once, so a byte that is
//! written is copied once on average, however long a message waits.
//!
//! The newest segment always stays: it holds the numbers that must not be used again.

use super::commit::Written;
use super::damage::Damage;
use super::journal::segment_path;
use super::spool::{Spool, closed, io_error};
use super::table::{Spot, Table};
use super::{StoreError, StoreSettings, lock};

/// Copies on their way at a time.
const COPIES: usize = 64;
const COPIES_BYTES: u64 = 4 << 20;
/// Messages looked at under one lock.
const LOOKS: usize = 4096;

/// Gives up the oldest segment if its time has come. Whether it did.
pub fn reclaim(spool: &Spool) -> Result<bool, StoreError> {
    let Some(oldest) = due(&lock(&spool.table), &spool.settings) else { return Ok(false) };
    if oldest.live > 0 {
        if spool.free_bytes() < 2 * oldest.live {
            return Ok(false);
        }
        carry_all(spool, oldest.number)?;
    }
    let is_empty = |table: &Table| table.segments.get(&oldest.number).is_some_and(|segment| segment.live == 0);
    if !is_empty(&lock(&spool.table)) {
        // A copy failed, or a `Done` is still on its way.
        return Ok(false);
    }
    // Everything that lived in it is durable at the head. Power fails before the removal is durable: the old records are
    // replayed first and the copies after them, which say the same or newer. A `Done` of any of its messages is in a newer
    // segment, and that one stays until this one is gone for good: hence the sync before the next one's turn.
    spool
        .disk
        .remove(&segment_path(&spool.paths.spool, oldest.number))
        .and_then(|()| spool.disk.sync_dir(&spool.paths.spool))
        .map_err(|error| io_error(format!("removing segment {}", oldest.number), error))?;
    lock(&spool.table).segments.remove(&oldest.number);
    Ok(true)
}

struct Oldest {
    number: u32,
    live: u64,
}

/// The oldest segment, when it is its turn.
fn due(table: &Table, settings: &StoreSettings) -> Option<Oldest> {
    let (number, oldest) = table.segments.first_key_value()?;
    if table.segments.len() < 2 || !oldest.sealed {
        return None;
    }
    let (all, live) = table.bytes();
    let is_sparse = oldest.live.saturating_mul(4) < oldest.end;
    let is_too_much = all > live.saturating_mul(2).saturating_add(settings.segment_size);
    (oldest.live == 0 || is_sparse || is_too_much).then_some(Oldest { number: *number, live: oldest.live })
}

/// Copies what lives in the segment to the head and waits until it is durable there.
fn carry_all(spool: &Spool, segment: u32) -> Result<(), StoreError> {
    let mut after = None;
    let mut copies = Vec::new();
    let mut bytes = 0;
    loop {
        let messages = lock(&spool.table).range(after, LOOKS);
        let Some((last, _)) = messages.last() else { break };
        after = Some(*last);
        for (id, place) in messages.into_iter().filter(|(_, place)| place.is_in(segment)) {
            match spool.carry(id, segment) {
                Ok(copy) => copies.extend(copy),
                Err(StoreError::Damaged(what)) => {
                    // Its bytes are kept for an operator; without it the segment can go.
                    set_aside(spool, place.whole)?;
                    set_aside(spool, place.state)?;
                    tracing::error!(id = %id, what, "a message of the queue is damaged and was taken out of it");
                    spool.forget(id);
                }
                Err(error) => return Err(error),
            }
            bytes += u64::from(place.whole.length);
            if copies.len() >= COPIES || bytes >= COPIES_BYTES {
                wait(&mut copies)?;
                bytes = 0;
            }
        }
    }
    wait(&mut copies)
}

/// A record of a damaged message.
fn set_aside(spool: &Spool, spot: Spot) -> Result<(), StoreError> {
    let Some((file, _)) = lock(&spool.table).file(spot) else { return Ok(()) };
    let damage = Damage { disk: &*spool.disk, paths: &spool.paths };
    let from = u64::from(spot.offset);
    let kept = damage.set_aside(&*file, spot.segment, from..from + u64::from(spot.length));
    kept.map(drop).map_err(|error| io_error("setting a damaged message aside", error))
}

fn wait(copies: &mut Vec<Written>) -> Result<(), StoreError> {
    copies.drain(..).try_for_each(|copy| copy.blocking_recv().unwrap_or_else(|_| Err(closed())))
}
