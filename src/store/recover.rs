//! Opening a spool: from whatever a crash left to a table that is right.
//!
//! 1. The segments are listed and their headers read. A header says where the segment before it ends: what stands behind
//!    that end was answered with an error and is void.
//! 2. The index is used when it was closed properly, or when only the process died (same boot: the kernel has everything it
//!    wrote). Then the journal is replayed from the index's mark. In every other case the index is wiped and the whole
//!    journal is replayed.
//! 3. A stretch without a good record is *damage* when the segment was durable beyond its beginning, and set aside and
//!    reported; otherwise it is the *end of an interrupted write*, of which nobody was told anything.
//! 4. Body files are compared with the messages: one that is missing is damage, one too many goes.
//!
//! Nothing is appended to an old segment: the first batch begins a new one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::mail::{QueueId, SessionId};
use crate::outside::{Disk, DiskFile, read_exact_at};

use super::commit::after_record;
use super::damage::Damage;
use super::index::{Index, Mark};
use super::journal::{segment_number, segment_path};
use super::record::{Kind, Previous, SEGMENT_HEADER, SegmentHeader};
use super::scan::{self, Bad};
use super::spool::{Paths, io_error};
use super::table::{Change, Place, Segment, Table};
use super::{Recovery, StoreError};

/// What a start found.
pub struct Recovered {
    pub table: Table,
    pub report: Recovery,
    /// The highest segment number in use.
    pub last: u32,
    /// The newest segment and its durable end.
    pub previous: Option<Previous>,
    pub highest: u64,
    /// What the index has to be told, and the mark that is right afterwards.
    pub changes: Vec<Change>,
    pub mark: Option<Mark>,
}

/// Whether and why not the index may be believed.
pub enum IndexState {
    Trusted,
    Doubtful(String),
    /// There has been none.
    New,
}

/// Reads the spool. `index` is wiped when it is of no use.
pub fn recover(disk: &dyn Disk, paths: &Paths, index: &mut dyn Index, index_state: IndexState) -> Result<Recovered, StoreError> {
    let mut start = Start::list(disk, paths)?;
    let used = match index_state {
        IndexState::Trusted => start.use_index(index)?,
        IndexState::Doubtful(why) => Err(why),
        IndexState::New => Err("there is no index yet".to_owned()),
    };
    if let Err(why) = used {
        start.rebuild(index, why)?;
    }
    start.check_bodies()?;
    start.finish()
}

/// A start in progress.
struct Start<'a> {
    disk: &'a dyn Disk,
    damage: Damage<'a>,
    paths: &'a Paths,
    table: Table,
    /// What the headers of later segments say about earlier ones.
    known: BTreeMap<u32, Previous>,
    /// Bad stretches in the newest segment that a crash explains.
    torn: Range<u64>,
    report: Recovery,
    last: u32,
    highest: u64,
    /// Changed since the index's mark.
    touched: BTreeSet<QueueId>,
    /// Messages of which a state was found but no content (yet).
    orphans: BTreeSet<QueueId>,
    is_rebuilt: bool,
    /// Lines of the report that stand whatever becomes of the index.
    found_at_list: usize,
}

/// What a segment's file turned out to be.
enum Opened {
    WithHeader(SegmentHeader),
    WithoutHeader,
    /// No longer than a header, and that is none.
    Empty,
}

impl<'a> Start<'a> {
    /// Finds the segments and reads their headers.
    fn list(disk: &'a dyn Disk, paths: &'a Paths) -> Result<Start<'a>, StoreError> {
        let mut start = Start {
            disk,
            damage: Damage { disk, paths },
            paths,
            table: Table::default(),
            known: BTreeMap::new(),
            torn: 0..0,
            report: Recovery::default(),
            last: 0,
            highest: 0,
            touched: BTreeSet::new(),
            orphans: BTreeSet::new(),
            is_rebuilt: false,
            found_at_list: 0,
        };
        let names = disk.list(&paths.spool).map_err(|error| io_error("listing the spool", error))?;
        let numbers: BTreeSet<u32> = names.iter().filter_map(|name| segment_number(name)).collect();
        start.last = numbers.last().copied().unwrap_or_default();
        let (mut previous, mut empty) = (Vec::new(), Vec::new());
        for number in &numbers {
            match start.open_segment(*number).map_err(|error| io_error(format!("opening segment {number}"), error))? {
                Opened::WithHeader(header) => previous.extend(header.previous),
                Opened::WithoutHeader => {}
                Opened::Empty => empty.push(*number),
            }
        }
        for number in empty {
            let is_named = previous.iter().any(|previous| previous.number == number);
            start.remove_empty(number, is_named).map_err(|error| io_error(format!("removing segment {number}"), error))?;
        }
        let oldest = numbers.first().copied().unwrap_or_default();
        for previous in previous {
            let number = previous.number;
            // Segments go in the order of their numbers: one that is gone while an older one is there was lost.
            if number > oldest && !numbers.contains(&number) {
                start.report.damaged.push(format!("segment {number} is missing"));
            }
            // A segment that could not be begun may say it too, and says the same.
            start.known.insert(number, previous);
        }
        start.found_at_list = start.report.damaged.len();
        Ok(start)
    }

    /// Takes a segment into the table, unless there is nothing in it.
    fn open_segment(&mut self, number: u32) -> io::Result<Opened> {
        let path = segment_path(&self.paths.spool, number);
        let file = self.disk.open(&path)?;
        let mut bytes = [0; SEGMENT_HEADER];
        let is_read = read_exact_at(&*file, &mut bytes, 0).is_ok();
        let header = SegmentHeader::decode(&bytes, number).filter(|_| is_read);
        let stamp = match header {
            Some(header) => {
                self.highest = self.highest.max(header.highest);
                header.stamp
            }
            None => match scan::first_stamp(&*file, number, SEGMENT_HEADER as u64)? {
                Some(stamp) => {
                    let kept = self.damage.set_aside(&*file, number, 0..SEGMENT_HEADER as u64)?;
                    let kept = kept.display();
                    self.report.damaged.push(format!("segment {number}: its header is damaged, its records are used ({kept})"));
                    stamp
                }
                // Begun when the power failed: a header is durable before the first record is written. A file with more
                // in it than that is no beginning.
                None if file.len()? <= SEGMENT_HEADER as u64 => return Ok(Opened::Empty),
                None => {
                    let kept = self.damage.move_aside(&path)?;
                    let kept = kept.display();
                    self.report.damaged.push(format!("segment {number} holds no record that can be read ({kept})"));
                    return Ok(Opened::WithoutHeader);
                }
            },
        };
        let end = file.len()?;
        self.table.segments.insert(number, Segment { file, stamp, end, live: 0, sealed: true });
        Ok(header.map_or(Opened::WithoutHeader, Opened::WithHeader))
    }

    /// A segment without header and record: either it was being begun when the power failed, or its header was damaged. Only
    /// one that was begun for good is named by the next one.
    fn remove_empty(&mut self, number: u32, is_named: bool) -> io::Result<()> {
        let path = segment_path(&self.paths.spool, number);
        if !is_named {
            return self.disk.remove(&path);
        }
        let kept = self.damage.move_aside(&path)?;
        self.report.damaged.push(format!("segment {number}: its header is damaged, it held no record ({})", kept.display()));
        Ok(())
    }

    /// Loads the index and replays what is newer. The inner error says why it is of no use.
    fn use_index(&mut self, index: &mut dyn Index) -> Result<Result<(), String>, StoreError> {
        let table = &mut self.table;
        let mark = match index.load(&mut |id, place| table.apply((id, Some(place)))) {
            Ok(Some(mark)) => mark,
            Ok(None) => return Ok(Err("the index is not complete".to_owned())),
            Err(why) => return Ok(Err(format!("the index cannot be read: {why}"))),
        };
        let fits = |segment: &&Segment| segment.stamp == mark.stamp && mark.offset <= segment.end;
        if self.table.segments.get(&mark.segment).filter(fits).is_none() {
            self.report_cut_off(mark);
            return Ok(Err("the index and the journal do not belong together".to_owned()));
        }
        self.highest = self.highest.max(mark.highest);
        for (number, segment) in self.table.segments.range_mut(..mark.segment) {
            segment.end = self.known.get(number).map_or(segment.end, |known| known.end.min(segment.end));
        }
        self.replay(Some(mark))?;
        let fits = |place: &Place| {
            [place.whole, place.state].iter().all(|spot| {
                let end = u64::from(spot.offset) + u64::from(spot.length);
                self.table.segments.get(&spot.segment).is_some_and(|segment| end <= segment.end)
            })
        };
        let all_fit = self.table.iter().all(|(_, place)| fits(place));
        Ok(if all_fit { Ok(()) } else { Err("the index names records that the journal does not have".to_owned()) })
    }

    /// The index knows how far the journal was durable. A segment that ends before that was cut off by somebody else, and
    /// what stood there is lost: nothing of it can be set aside, so all there is to do is to say it.
    fn report_cut_off(&mut self, mark: Mark) {
        let Some(segment) = self.table.segments.get(&mark.segment).filter(|segment| segment.stamp == mark.stamp) else { return };
        let (number, end, lost) = (mark.segment, segment.end, mark.offset.saturating_sub(segment.end));
        self.report.damaged.push(format!("segment {number} was cut off at {end}: at least {lost} bytes of it are lost"));
        self.found_at_list = self.report.damaged.len();
    }

    /// Forgets the index and replays the whole journal.
    fn rebuild(&mut self, index: &mut dyn Index, why: String) -> Result<(), StoreError> {
        if let Err(error) = index.clear() {
            tracing::error!(error, "the queue's index cannot be wiped");
        }
        self.is_rebuilt = true;
        // A new spool has nothing to rebuild.
        self.report.rebuilt = (!self.table.segments.is_empty()).then_some(why);
        // What the attempt with the index found is found again.
        self.report.damaged.truncate(self.found_at_list);
        self.table.clear();
        self.touched.clear();
        self.orphans.clear();
        self.replay(None)
    }

    /// Reads the segments in order, from the mark or from the beginning.
    fn replay(&mut self, mark: Option<Mark>) -> Result<(), StoreError> {
        let from = mark.map_or(0, |mark| mark.segment);
        let segments: Vec<_> = self.table.segments.range(from..).map(|(number, segment)| (*number, segment.clone())).collect();
        for (number, segment) in segments {
            let mark = mark.filter(|mark| mark.segment == number);
            let start = mark.map_or(SEGMENT_HEADER as u64, |mark| mark.offset);
            self.torn = 0..0;
            let end = self
                .replay_segment(number, &segment, start)
                .map_err(|error| io_error(format!("reading segment {number}"), error))?;
            if let Some(segment) = self.table.segments.get_mut(&number) {
                segment.end = end;
            }
        }
        // A state without content: either the content is in a stretch that was damaged, or in a segment that is lost.
        for id in std::mem::take(&mut self.orphans) {
            self.report.damaged.push(format!("message {id}: its state is there, its content is not"));
        }
        Ok(())
    }

    /// Where what counts in the segment ends.
    fn replay_segment(&mut self, number: u32, segment: &Segment, start: u64) -> io::Result<u64> {
        let known = self.known.get(&number).copied();
        let known_end = known.map(|known| known.end);
        let torn = known.map_or(0..0, |known| known.torn_from..known.torn_to);
        let file = Arc::clone(&segment.file);
        let range = start..known_end.unwrap_or(u64::MAX).max(start);
        let mut found = Vec::new();
        // Collected first: what a record means depends on how far the segment is durable, and that its last record says.
        let scan = scan::scan(&*file, number, Some(segment.stamp), range, &mut |header, spot| {
            found.push((header.id, header.kind, header.place, spot));
        })?;
        let durable = known_end.unwrap_or(0).max(scan.durable).max(start);
        for (id, kind, content, spot) in found {
            self.highest = self.highest.max(id.session.to_u64());
            let before = self.table.get(id);
            let place = after_record(before, kind, content, spot);
            match (place, kind) {
                (None, Kind::Done) => drop(self.orphans.remove(&id)),
                // Both in one interrupted batch, of which only the second part survived: nobody was told anything.
                (None, _) if u64::from(spot.offset) >= durable => {}
                (None, _) => drop(self.orphans.insert(id)),
                (Some(_), _) => drop(self.orphans.remove(&id)),
            }
            self.table.apply((id, place));
            self.touched.insert(id);
        }
        for bad in scan.bad {
            let is_torn = bad.range.start >= durable || torn.start <= bad.range.start && bad.range.end <= torn.end;
            if is_torn && !bad.is_unreadable {
                // Behind what was synced when the last batch began: nobody was told that any of it is safe.
                tracing::info!(segment = number, range = ?bad.range, "the end of an interrupted write was left out");
                // Good records may stand behind it, and then the next segment says that it is none.
                let from = if self.torn.is_empty() { bad.range.start } else { self.torn.start };
                self.torn = from..bad.range.end;
            } else {
                self.report(number, &*file, bad)?;
            }
        }
        if known_end.is_none() {
            // Header and interrupted batch may be in the kernel's memory only. From now on it counts, so it must not go away in a
            // power cut to come. Written again before the sync: if the sync that the last process died in has failed, the
            // kernel calls these pages clean, and another sync would do nothing. A crash in between: it is still the
            // interrupted batch that nobody was told anything about.
            write_again(&*file, 0..SEGMENT_HEADER as u64)?;
            write_again(&*file, durable.max(SEGMENT_HEADER as u64)..scan.end)?;
            file.sync()?;
        }
        Ok(known_end.unwrap_or(scan.end))
    }

    /// Damage: set aside and reported.
    fn report(&mut self, number: u32, file: &dyn DiskFile, bad: Bad) -> io::Result<()> {
        let Range { start, end } = bad.range;
        let what = format!("segment {number}, {} bytes at {start}: {}", end - start, bad.what);
        // Set aside before the report and before anything forgets it. If that fails, so does the start: better no gateway
        // for a while than a message that is lost without a trace.
        let kept = self.damage.set_aside(file, number, start..end)?;
        self.report.damaged.push(format!("{what} ({})", kept.display()));
        if let Some(id) = bad.id {
            self.orphans.remove(&id);
        }
        Ok(())
    }

    /// Compares body files and messages.
    fn check_bodies(&mut self) -> Result<(), StoreError> {
        let names = self.disk.list(&self.paths.bodies).map_err(|error| io_error("listing the bodies", error))?;
        let mut names: HashSet<String> = names.into_iter().collect();
        let in_files: Vec<_> = self.table.iter().filter(|(_, place)| place.in_file).map(|(id, _)| *id).collect();
        for id in in_files {
            if !names.remove(&format!("{id}.body")) {
                self.report.damaged.push(format!("message {id}: the file with its content is missing"));
                self.table.apply((id, None));
                self.touched.insert(id);
            }
        }
        let is_damaged = !self.report.damaged.is_empty();
        for name in names {
            let path = self.paths.bodies.join(&name);
            // Without damage it is sure that no message has this file: it was arriving, or its message is done. With
            // damage its message may be what was lost.
            let is_message = name.strip_suffix(".body").is_some_and(|id| id.parse::<QueueId>().is_ok());
            let result = if is_damaged && is_message {
                let kept = self.damage.move_aside(&path);
                kept.map(|kept| self.report.damaged.push(format!("a content without a message ({})", kept.display())))
            } else {
                self.disk.remove(&path)
            };
            result.map_err(|error| io_error(format!("removing {name}"), error))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Recovered, StoreError> {
        let syncing = |error| io_error("syncing the spool", error);
        self.disk.sync_dir(&self.paths.spool).map_err(syncing)?;
        self.disk.sync_dir(&self.paths.bodies).map_err(syncing)?;
        self.report.messages = self.table.len() as u64;
        self.report.highest = SessionId::from_u64(self.highest).filter(|_| self.highest > 0);
        let newest = self.table.segments.last_key_value();
        let previous = newest.map(|(number, segment)| Previous {
            torn_from: self.torn.start,
            torn_to: self.torn.end.min(segment.end),
            ..Previous::new(*number, segment.end)
        });
        // In front of the holes, so that a start before the next segment is begun finds them again.
        let torn_from = if self.torn.is_empty() { u64::MAX } else { self.torn.start };
        let highest = self.highest;
        let mark = newest.map(|(number, segment)| {
            let offset = segment.end.min(torn_from);
            Mark { segment: *number, stamp: segment.stamp, offset, highest }
        });
        let changes = if self.is_rebuilt {
            self.table.iter().map(|(id, place)| (*id, Some(*place))).collect()
        } else {
            self.touched.iter().map(|id| (*id, self.table.get(*id))).collect()
        };
        Ok(Recovered { previous, mark, changes, last: self.last, highest: self.highest, table: self.table, report: self.report })
    }
}

/// Writes what stands there in the same place.
fn write_again(file: &dyn DiskFile, range: Range<u64>) -> io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let mut at = range.start;
    while at < range.end {
        let mut piece = vec![0; PIECE.min(range.end - at) as usize];
        read_exact_at(file, &mut piece, at)?;
        file.write_at(&piece, at)?;
        at += piece.len() as u64;
    }
    Ok(())
}
