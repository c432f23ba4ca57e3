//! Reading the ledger's totals out of the journal: the head of a segment holds them, and each record after it changes them.

use std::collections::BTreeMap;
use std::io;

use crate::mail::QueueId;
use crate::outside::{DiskFile, read_exact_at};

use super::ledger::Totals;
use super::record::{self, Kind, RECORD_HEADER, RecordHeader, SEGMENT_HEADER};
use super::scan;
use super::table::{Segment, Spot};

/// The newest segment with totals at its head.
pub fn newest_head(segments: &BTreeMap<u32, Segment>) -> Option<(u32, Totals)> {
    segments.iter().rev().find_map(|(number, segment)| Some((*number, at_head(&*segment.file, *number, segment.stamp)?)))
}

/// The totals at the head of a segment. `None` when they are not there or damaged: an older segment has them, and the
/// records since then lead to the same.
fn at_head(file: &dyn DiskFile, number: u32, stamp: u64) -> Option<Totals> {
    let at = SEGMENT_HEADER as u64;
    let mut header = [0; RECORD_HEADER];
    read_exact_at(file, &mut header, at).ok()?;
    let (header, _) = RecordHeader::decode(&header, number, at, Some(stamp))?;
    if header.kind != Kind::Ledger || at + header.length() > file.len().ok()? {
        return None;
    }
    record::read_ledger(&meta(file, &header, at).ok()?).ok()
}

/// Counts the records of a segment. `durable`: it was synced at least up to here. `counts` says of the `Done` of a message
/// whether it does.
pub fn count(
    segment: &Segment,
    number: u32,
    durable: u64,
    totals: &mut Totals,
    counts: &dyn Fn(QueueId) -> bool,
) -> io::Result<()> {
    let file = &*segment.file;
    let mut failed = None;
    let range = SEGMENT_HEADER as u64..segment.end;
    let mut each = |header: &RecordHeader, spot: Spot| {
        if header.kind == Kind::Done && !counts(header.id) {
            return;
        }
        if let Err(error) = count_record(file, header, spot, totals) {
            failed.get_or_insert(error);
        }
    };
    let scan = scan::scan(file, number, Some(segment.stamp), range, &mut each)?;
    failed.map_or(Ok(()), Err)?;
    let durable = durable.max(scan.durable);
    let damaged = scan.bad.iter().filter(|bad| bad.range.start < durable && bad.id.is_some());
    damaged.for_each(|bad| count_damaged(segment, number, bad.range.start, totals));
    Ok(())
}

/// A message whose content is damaged was accepted all the same, when its envelope can still be read: so that it is missed.
pub fn count_damaged(segment: &Segment, number: u32, at: u64, totals: &mut Totals) {
    let mut bytes = [0; RECORD_HEADER];
    let read = read_exact_at(&*segment.file, &mut bytes, at).ok();
    let header = read.and_then(|()| RecordHeader::decode(&bytes, number, at, Some(segment.stamp)));
    if let Some((header, _)) = header.filter(|(header, _)| header.kind == Kind::Accepted)
        && let Ok(meta) = meta(&*segment.file, &header, at)
        && let Ok(entry) = record::read_whole(&header, &meta)
    {
        totals.accept(&entry);
    }
}

/// What one good record changes.
pub fn count_record(file: &dyn DiskFile, header: &RecordHeader, spot: Spot, totals: &mut Totals) -> io::Result<()> {
    let read = || meta(file, header, u64::from(spot.offset));
    match header.kind {
        Kind::Accepted => {
            if let Ok(entry) = record::read_whole(header, &read()?) {
                totals.accept(&entry);
            }
        }
        Kind::Done => {
            if let Ok((rows, progress)) = record::read_done(&read()?) {
                totals.leave(&rows, &progress);
            }
        }
        Kind::Ledger => {
            if let Ok(written) = record::read_ledger(&read()?) {
                *totals = written;
            }
        }
        Kind::Judged | Kind::Progress | Kind::Steered | Kind::Carried => {}
    }
    Ok(())
}

/// Whether a `Done` that stands in an interrupted write, and whose message is nowhere, means nothing: its `Accepted` was in
/// the same batch and did not survive it. Any other `Done` was written for a message that was durable then, and its segment
/// has been given up since.
pub fn is_void(file: &dyn DiskFile, header: &RecordHeader, spot: Spot) -> bool {
    meta(file, header, u64::from(spot.offset)).is_ok_and(|meta| record::is_early(&meta))
}

/// The meta of a record; checked by the scan that found it, and here again.
pub fn meta(file: &dyn DiskFile, header: &RecordHeader, at: u64) -> io::Result<Vec<u8>> {
    let mut meta = vec![0; header.meta_length as usize];
    read_exact_at(file, &mut meta, at + RECORD_HEADER as u64)?;
    if crc32fast::hash(&meta) == header.meta_crc { Ok(meta) } else { Err(io::ErrorKind::InvalidData.into()) }
}
