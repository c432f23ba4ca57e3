//! The journal's writing end: segments, and the batches appended to them.
//!
//! A segment is `NNNNNNNNNN.seg`: a header, then records. Only the newest is appended to, by one thread, a batch at a time.
//!
//! Invariants:
//! - A segment number is used once, also when creating it failed.
//! - `end` of a segment is where what is durable ends. A batch that failed stands, if at all, behind the end; the header of
//!   the next segment names that end, so recovery does not read past it.
//! - After a failed write or sync a segment is never appended to again: after a failed fsync the kernel may have dropped
//!   the pages and calls them clean (<https://wiki.postgresql.org/wiki/Fsync_Errors>).

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::outside::{Disk, DiskFile};

use super::lock;
use super::record::{Draft, Position, Previous, SEGMENT_HEADER, SegmentHeader};
use super::table::{Segment, Spot, Table};

/// A segment's path.
pub fn segment_path(spool: &Path, number: u32) -> PathBuf {
    spool.join(format!("{number:010}.seg"))
}

/// The number in a segment's file name.
pub fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".seg")?;
    let is_ours = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_ours.then(|| digits.parse().ok()).flatten().filter(|number| *number > 0)
}

/// Appends batches of records.
pub struct Journal {
    disk: Arc<dyn Disk>,
    spool: PathBuf,
    segment_size: u64,
    table: Arc<Mutex<Table>>,
    /// The segment in use; `None`: the next batch begins a new one.
    head: Option<Head>,
    /// The highest number ever used.
    last: u32,
    /// The newest segment with records and its durable end.
    previous: Option<Previous>,
    highest: u64,
    buffer: Vec<u8>,
}

struct Head {
    number: u32,
    stamp: u64,
    file: Arc<dyn DiskFile>,
    end: u64,
}

/// Where a batch stands.
pub struct Written {
    /// In the order of the drafts.
    pub spots: Vec<Spot>,
    pub segment: u32,
    pub stamp: u64,
    /// Everything before it is durable.
    pub end: u64,
    /// The highest session id so far.
    pub highest: u64,
}

/// A large buffer is given back after a batch that needed it.
const BUFFER_KEPT: usize = 4 << 20;

impl Journal {
    /// Goes on after segment `last`. `highest`: the highest session id known.
    pub fn new(
        disk: Arc<dyn Disk>,
        spool: PathBuf,
        segment_size: u64,
        table: Arc<Mutex<Table>>,
        last: u32,
        previous: Option<Previous>,
        highest: u64,
    ) -> Journal {
        Journal { disk, spool, segment_size, table, head: None, last, previous, highest, buffer: Vec::new() }
    }

    /// Appends the records with one write and one sync. After `Ok`, and not before, all of them are durable. After an error
    /// none of them counts.
    pub fn append(&mut self, drafts: &[&Draft]) -> io::Result<Written> {
        let mut head = match self.head.take() {
            Some(head) => head,
            None => self.begin_segment()?,
        };
        self.buffer.clear();
        let mut spots = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let offset = head.end + self.buffer.len() as u64;
            let position = Position { segment: head.number, stamp: head.stamp, offset, durable: head.end };
            draft.write_to(&mut self.buffer, &position);
            let offset = u32::try_from(offset).expect("segment size and batch size are bounded");
            let length = u32::try_from(draft.length()).expect("the size of a record is bounded");
            spots.push(Spot { segment: head.number, offset, length });
        }
        // Power may fail at any moment of these two calls. Before the sync has returned nobody was told anything: whatever
        // part of the batch survives is a torn end, or whole records whose message the sender still has too (it was not
        // answered 250 and comes again: a duplicate at worst), or a state that is true anyhow. After it has returned the
        // batch is whole on disk. The records before `head.end` are not touched by either call.
        let written = head.file.write_at(&self.buffer, head.end).and_then(|()| head.file.sync());
        let length = self.buffer.len() as u64;
        if self.buffer.capacity() > BUFFER_KEPT {
            self.buffer = Vec::new();
        }
        if let Err(error) = written {
            // `head` is dropped here: this segment is closed for good.
            self.close(&head);
            return Err(error);
        }
        head.end += length;
        self.previous = Some(Previous::new(head.number, head.end));
        let session = |draft: &&Draft| draft.id.session.to_u64();
        self.highest = self.highest.max(drafts.iter().map(session).max().unwrap_or_default());
        let result = Written { spots, segment: head.number, stamp: head.stamp, end: head.end, highest: self.highest };
        let is_over = head.end >= self.segment_size;
        if let Some(segment) = lock(&self.table).segments.get_mut(&head.number) {
            segment.end = head.end;
            segment.sealed = is_over;
        }
        if !is_over {
            self.head = Some(head);
        }
        Ok(result)
    }

    /// Creates the next segment and makes header and name durable before anything is appended.
    ///
    /// Power may fail in between: then there is a file without a header or none at all; it holds no record, and recovery
    /// removes it. The end of the previous segment in the header voids what a failed batch may have left there, and that
    /// is right from the moment on at which the header is durable: later batches, which may contradict the failed one,
    /// come after it.
    fn begin_segment(&mut self) -> io::Result<Head> {
        self.last = self.last.checked_add(1).ok_or_else(|| io::Error::other("no segment numbers are left"))?;
        let number = self.last;
        let path = segment_path(&self.spool, number);
        let stamp = RandomState::new().hash_one(number);
        let header = SegmentHeader { number, stamp, previous: self.previous, highest: self.highest };
        let begin = || -> io::Result<Arc<dyn DiskFile>> {
            let file = self.disk.create(&path)?;
            file.write_at(&header.encode(), 0)?;
            file.sync()?;
            self.disk.sync_dir(&self.spool)?;
            Ok(file)
        };
        let file = begin().inspect_err(|_| {
            // Best effort: an empty segment that stays does no harm, and its number is not used again.
            let _ = self.disk.remove(&path);
        })?;
        let end = SEGMENT_HEADER as u64;
        let segment = Segment { file: Arc::clone(&file), stamp, end, live: 0, sealed: false };
        lock(&self.table).segments.insert(number, segment);
        self.previous = Some(Previous::new(number, end));
        Ok(Head { number, stamp, file, end })
    }

    /// A segment that failed: nothing more is appended. Cutting off what may stand behind its end is not relied upon (the
    /// next header says where it ends); it makes an early restart see fewer records that count for nothing.
    fn close(&self, head: &Head) {
        let _ = head.file.set_len(head.end);
        if let Some(segment) = lock(&self.table).segments.get_mut(&head.number) {
            segment.sealed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Kind;
    use super::super::scan::scan;
    use super::super::testing::{entry, id};
    use super::*;
    use crate::mail::QueueId;
    use crate::sim;

    const SPOOL: &str = "/spool";

    fn journal(disk: &sim::Disk, segment_size: u64) -> Journal {
        disk.create_dir(SPOOL.as_ref()).unwrap();
        let table = Arc::new(Mutex::new(Table::default()));
        Journal::new(Arc::new(disk.clone()), SPOOL.into(), segment_size, table, 0, None, 0)
    }

    fn append(journal: &mut Journal, numbers: &[u32]) -> io::Result<Written> {
        let drafts: Vec<_> =
            numbers.iter().map(|number| Draft::state(Kind::Progress, id(*number), &entry(*number, 1).progress)).collect();
        journal.append(&drafts.iter().collect::<Vec<_>>())
    }

    fn ids_in(disk: &sim::Disk, number: u32) -> (SegmentHeader, Vec<QueueId>) {
        let path = segment_path(SPOOL.as_ref(), number);
        let header = SegmentHeader::decode(&disk.contents(&path).unwrap(), number).unwrap();
        let file = disk.open(&path).unwrap();
        let mut ids = Vec::new();
        let range = SEGMENT_HEADER as u64..u64::MAX;
        scan(&*file, number, Some(header.stamp), range, &mut |header, _| ids.push(header.id)).unwrap();
        (header, ids)
    }

    #[test]
    fn a_batch_costs_one_sync() {
        let disk = sim::Disk::new(1);
        let mut journal = journal(&disk, 1 << 20);
        append(&mut journal, &[1]).unwrap();
        let before = disk.steps();
        append(&mut journal, &[2, 3, 4, 5]).unwrap();
        assert_eq!(disk.steps() - before, 2, "one write and one sync");
        assert_eq!(ids_in(&disk.after_power_cut(), 1).1, [1, 2, 3, 4, 5].map(id));
    }

    #[test]
    fn a_full_segment_is_followed_by_a_new_one_that_names_its_end() {
        let disk = sim::Disk::new(1);
        let mut journal = journal(&disk, 300);
        let first = append(&mut journal, &[1, 2]).unwrap();
        let second = append(&mut journal, &[3]).unwrap();
        assert_eq!((first.segment, second.segment), (1, 2));
        let (header, ids) = ids_in(&disk, 2);
        assert_eq!(header.previous, Some(Previous::new(1, first.end)));
        assert_eq!(header.highest, id(2).session.to_u64());
        assert_eq!(ids, [id(3)]);
    }

    #[test]
    fn after_a_failed_sync_the_segment_is_never_used_again() {
        let disk = sim::Disk::new(1);
        let mut journal = journal(&disk, 1 << 20);
        let good = append(&mut journal, &[1]).unwrap();
        disk.fail_syncs(1);
        assert!(append(&mut journal, &[2]).is_err());
        assert_eq!(append(&mut journal, &[3]).unwrap().segment, 2);
        assert_eq!(ids_in(&disk, 2).0.previous, Some(Previous::new(1, good.end)));
    }

    #[test]
    fn a_segment_that_cannot_be_begun_leaves_its_number_unused() {
        let disk = sim::Disk::new(1);
        let mut journal = journal(&disk, 1 << 20);
        disk.fail_syncs(1);
        assert!(append(&mut journal, &[1]).is_err());
        assert_eq!(append(&mut journal, &[1]).unwrap().segment, 2);
        assert!(disk.contents(&segment_path(SPOOL.as_ref(), 1)).is_none());
    }

    #[test]
    fn only_our_names_are_segments() {
        assert_eq!(segment_number("0000000012.seg"), Some(12));
        for name in ["12.seg", "0000000000.seg", "00000000+2.seg", "0000000012.seg~", "reserve", "9999999999.seg"] {
            assert_eq!(segment_number(name), None, "{name}");
        }
        assert_eq!(segment_path("/s".as_ref(), 12), Path::new("/s/0000000012.seg"));
    }
}
