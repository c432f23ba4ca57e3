//! Reading one segment from front to back: every good record, and every stretch that is none.
//!
//! It tells what stands there, not what that means: whether a bad stretch is damage or the end of an interrupted write is
//! for `recover.rs` to say.

use std::io;
use std::ops::Range;

use crate::mail::QueueId;
use crate::outside::{DiskFile, read_exact_at};

use super::record::{ContentPlace, RECORD_HEADER, RECORD_MAGIC, RecordHeader};
use super::table::Spot;

/// Read at a time, in bytes.
const PIECE: u64 = 1 << 20;
/// What is given up at a time where the disk cannot be read.
const BLOCK: u64 = 4096;

/// A stretch without a good record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    pub range: Range<u64>,
    pub what: String,
    /// The message it belongs to, when the record's header is good.
    pub id: Option<QueueId>,
    /// The disk gave an error: never the trace of a crash.
    pub is_unreadable: bool,
}

/// What a segment holds, beside its records.
#[derive(Debug, Default)]
pub struct Scan {
    pub bad: Vec<Bad>,
    /// The end of the last good record, or where the scan began.
    pub end: u64,
    /// Up to here the segment was synced, as its own records say.
    pub durable: u64,
}

/// Reads the records of `range` in segment `number` and hands each good one to `each`. `stamp`: the segment's; `None` when
/// its header is lost: then the first record says it.
pub fn scan(
    file: &dyn DiskFile,
    number: u32,
    stamp: Option<u64>,
    range: Range<u64>,
    each: &mut dyn FnMut(&RecordHeader, Spot),
) -> io::Result<Scan> {
    let present = range.start..range.end.min(file.len()?);
    let mut window = Window { file, end: present.end, start: 0, bytes: Vec::new(), unreadable: Vec::new() };
    let mut result = Scan { end: range.start, ..Scan::default() };
    let mut stamp = stamp;
    let mut at = present.start;
    while at < present.end {
        let Some((header, its_stamp)) = header_at(&mut window, number, stamp, at) else {
            let next = next_header(&mut window, number, stamp, at + 1);
            result.bad.push(window.bad(at..next, "no record here".to_owned(), None));
            at = next;
            continue;
        };
        stamp = Some(its_stamp);
        let length = header.length();
        result.durable = result.durable.max(header.durable);
        match check(&header, window.get(at, length as usize)) {
            Ok(()) => {
                let spot = Spot { segment: number, offset: at as u32, length: length as u32 };
                each(&header, spot);
                result.end = at + length;
            }
            Err(what) => result.bad.push(window.bad(at..at + length, what, Some(header.id))),
        }
        at += length;
    }
    if present.end < range.end && range.end != u64::MAX {
        let range = present.end.max(range.start)..range.end;
        result.bad.push(Bad { range, what: "the file ends too early".to_owned(), id: None, is_unreadable: false });
    }
    Ok(result)
}

/// The stamp of the first good record: what is left to go by when the segment's header is lost.
pub fn first_stamp(file: &dyn DiskFile, number: u32, from: u64) -> io::Result<Option<u64>> {
    let mut window = Window { file, end: file.len()?, start: 0, bytes: Vec::new(), unreadable: Vec::new() };
    let at = next_header(&mut window, number, None, from);
    Ok(header_at(&mut window, number, None, at).map(|(_, stamp)| stamp))
}

/// Checks meta and content against their checksums.
pub fn check(header: &RecordHeader, record: &[u8]) -> Result<(), String> {
    let (_, rest) = record.split_at_checked(RECORD_HEADER).ok_or("cut off")?;
    let (meta, content) = rest.split_at_checked(header.meta_length as usize).ok_or("cut off")?;
    if crc32fast::hash(meta) != header.meta_crc {
        return Err(format!("{:?} record of {}: its checksum is wrong", header.kind, header.id));
    }
    if header.place == ContentPlace::Inline && crc32fast::hash(content) != header.content_crc {
        return Err(format!("{:?} record of {}: the checksum of the content is wrong", header.kind, header.id));
    }
    Ok(())
}

/// The header at `at`, when it is one and its record ends inside the file.
fn header_at(window: &mut Window<'_>, number: u32, stamp: Option<u64>, at: u64) -> Option<(RecordHeader, u64)> {
    let end = window.end;
    let (header, stamp) = RecordHeader::decode(window.get(at, RECORD_HEADER), number, at, stamp)?;
    let ends_inside = at.checked_add(header.length()).is_some_and(|record_end| record_end <= end);
    (ends_inside && header.length() <= u64::from(u32::MAX)).then_some((header, stamp))
}

/// The first place from `at` on where a record begins, or the end. One pass over the bytes.
fn next_header(window: &mut Window<'_>, number: u32, stamp: Option<u64>, mut at: u64) -> u64 {
    let end = window.end;
    while at + (RECORD_HEADER as u64) <= end {
        let piece = window.get(at, BLOCK as usize);
        let Some(found) = memchr::memmem::find(piece, RECORD_MAGIC) else {
            // The magic may begin in the last three bytes.
            at += (piece.len() as u64).saturating_sub(RECORD_MAGIC.len() as u64 - 1).max(1);
            continue;
        };
        at += found as u64;
        if header_at(window, number, stamp, at).is_some() {
            return at;
        }
        at += 1;
    }
    end
}

/// A part of the file in memory, read ahead.
struct Window<'a> {
    file: &'a dyn DiskFile,
    end: u64,
    start: u64,
    bytes: Vec<u8>,
    /// Blocks that the disk did not give; they read as zeros.
    unreadable: Vec<u64>,
}

impl Window<'_> {
    /// Up to `length` bytes from `at` on; fewer only at the end of the file.
    fn get(&mut self, at: u64, length: usize) -> &[u8] {
        let wanted = (length as u64).min(self.end.saturating_sub(at));
        let have = self.start..self.start + self.bytes.len() as u64;
        if !(have.contains(&at) || wanted == 0) || at + wanted > have.end {
            self.fill(at, wanted.max(PIECE.min(self.end.saturating_sub(at))));
        }
        let from = at.saturating_sub(self.start) as usize;
        self.bytes.get(from..from + wanted as usize).unwrap_or_default()
    }

    fn fill(&mut self, at: u64, length: u64) {
        self.start = at;
        self.bytes.clear();
        self.bytes.resize(length as usize, 0);
        if read_exact_at(self.file, &mut self.bytes, at).is_ok() {
            return;
        }
        // Something in there cannot be read: take what can be, block by block.
        for (number, block) in self.bytes.chunks_mut(BLOCK as usize).enumerate() {
            let block_at = at + number as u64 * BLOCK;
            if read_exact_at(self.file, block, block_at).is_err() {
                block.fill(0);
                self.unreadable.push(block_at);
            }
        }
    }

    fn bad(&self, range: Range<u64>, what: String, id: Option<QueueId>) -> Bad {
        let is_unreadable = self.unreadable.iter().any(|block| *block < range.end && block + BLOCK > range.start);
        let what = if is_unreadable { format!("the disk cannot be read; {what}") } else { what };
        Bad { range, what, id, is_unreadable }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::record::{Content, Draft, Kind, Position};
    use super::super::testing::{entry, id};
    use super::*;
    use crate::outside::Disk as _;
    use crate::sim;

    /// A segment 1 with stamp 9: the messages 1 to `count`, all in one batch. And where each begins, and the last ends.
    fn segment(count: u32) -> (sim::Disk, Arc<dyn DiskFile>, Vec<u64>) {
        let disk = sim::Disk::new(1);
        disk.create_dir("/s".as_ref()).unwrap();
        let file = disk.create("/s/1".as_ref()).unwrap();
        let (mut bytes, mut starts) = (Vec::new(), vec![0]);
        for number in 1..=count {
            let content = Bytes::from(vec![b'a' + number as u8; 3000]);
            let crc = crc32fast::hash(&content);
            let draft = Draft::whole(Kind::Accepted, &entry(number, 1), Content::Inline { bytes: content, crc });
            let offset = bytes.len() as u64;
            draft.write_to(&mut bytes, &Position { segment: 1, stamp: 9, offset, durable: 0 });
            starts.push(bytes.len() as u64);
        }
        file.write_at(&bytes, 0).unwrap();
        (disk, file, starts)
    }

    fn scanned(file: &dyn DiskFile, end: u64) -> (Vec<QueueId>, Scan) {
        let mut ids = Vec::new();
        let scan = scan(file, 1, Some(9), 0..end, &mut |header, _| ids.push(header.id)).unwrap();
        (ids, scan)
    }

    #[test]
    fn all_records_are_found() {
        let (_disk, file, starts) = segment(5);
        let (ids, scan) = scanned(&*file, u64::MAX);
        assert_eq!(ids, (1..=5).map(id).collect::<Vec<_>>());
        assert_eq!((scan.bad.len(), scan.end), (0, starts[5]));
    }

    #[test]
    fn a_torn_end_is_one_bad_stretch() {
        let (_disk, file, starts) = segment(3);
        file.set_len(starts[3] - 1).unwrap();
        let (ids, scan) = scanned(&*file, u64::MAX);
        assert_eq!(ids, [id(1), id(2)]);
        assert_eq!(scan.end, starts[2]);
        assert_eq!(scan.bad[0].range, starts[2]..starts[3] - 1);
    }

    #[test]
    fn after_a_broken_header_the_next_record_is_found() {
        let (disk, file, starts) = segment(3);
        disk.flip_bit("/s/1".as_ref(), starts[1] as usize + 50, 3);
        let (ids, scan) = scanned(&*file, u64::MAX);
        assert_eq!(ids, [id(1), id(3)]);
        assert_eq!(scan.bad[0].range, starts[1]..starts[2]);
        assert_eq!(scan.bad[0].id, None);
    }

    #[test]
    fn a_broken_content_names_its_message() {
        let (disk, file, starts) = segment(3);
        disk.flip_bit("/s/1".as_ref(), starts[2] as usize - 10, 3);
        let (ids, scan) = scanned(&*file, u64::MAX);
        assert_eq!(ids, [id(1), id(3)]);
        assert_eq!((scan.bad[0].range.clone(), scan.bad[0].id), (starts[1]..starts[2], Some(id(2))));
    }

    #[test]
    fn a_file_that_ends_before_its_promised_end_is_noticed() {
        let (_disk, file, starts) = segment(3);
        file.set_len(starts[2]).unwrap();
        let (ids, scan) = scanned(&*file, starts[3]);
        assert_eq!(ids.len(), 2);
        assert_eq!(scan.bad[0].range, starts[2]..starts[3]);
    }

    #[test]
    fn content_that_imitates_a_record_is_never_taken_for_one() {
        // The content of message 2 is a whole segment of somebody's with the same number; then its header breaks.
        let (disk, file, starts) = segment(1);
        let mut forged = Vec::new();
        let at = starts[1] + 1000;
        let draft = Draft::whole(Kind::Accepted, &entry(666, 1), Content::Inline { bytes: Bytes::new(), crc: 0 });
        for offset in at..at + 2000 {
            draft.write_to(&mut forged, &Position { segment: 1, stamp: 10, offset, durable: 0 });
        }
        let crc = crc32fast::hash(&forged);
        let mut bytes = Vec::new();
        let carrier = Draft::whole(Kind::Accepted, &entry(2, 1), Content::Inline { bytes: forged.into(), crc });
        carrier.write_to(&mut bytes, &Position { segment: 1, stamp: 9, offset: starts[1], durable: 0 });
        file.write_at(&bytes, starts[1]).unwrap();
        disk.flip_bit("/s/1".as_ref(), starts[1] as usize + 5, 0);
        let (ids, scan) = scanned(&*file, u64::MAX);
        assert_eq!(ids, [id(1)]);
        assert_eq!(scan.bad.len(), 1);
    }

    #[test]
    fn what_the_disk_does_not_give_is_bad_and_said_so() {
        let (disk, file, _starts) = segment(2);
        disk.fail_reads("/s/1".as_ref());
        let (ids, scan) = scanned(&*file, u64::MAX);
        assert!(ids.is_empty());
        assert!(scan.bad[0].is_unreadable);
    }
}
