//! `queue verify`: the whole spool is read and checked, and nothing is changed.
//!
//! Every record and every content against its checksum, the ledger at the head of each segment against the records before
//! it, the index against the journal, and the ledger against the messages that are there. A segment at a time, in pieces of
//! a megabyte; in memory there is a place for each message, as in the gateway itself.
//!
//! Of a running gateway the journal is read up to where it was durable when the reading began. What changes meanwhile is
//! watched and left out of the comparison. On a stopped one the spool is locked, so that none starts meanwhile.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::mail::QueueId;
use crate::outside::{Disk, DiskFile, read_exact_at};

use super::commit::after_record;
use super::index::{Index, Mark};
use super::journal::{segment_number, segment_path};
use super::ledger::{DomainAccount, Live, Totals, accounts, imbalance};
use super::record::{self, ContentPlace, Kind, Previous, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader};
use super::sled_index::SledIndex;
use super::spool::{Paths, Spool, io_error};
use super::table::{Place, Spot};
use super::{Entry, StoreError, bodies, lock, open, scan, stock, totals};

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// While the gateway ran.
    pub running: bool,
    pub segments: u64,
    pub bytes: u64,
    pub records: u64,
    /// In the queue or in quarantine.
    pub messages: u64,
    pub body_files: u64,
    /// How the index compares, in words.
    pub index: String,
    /// By domain.
    pub ledger: Vec<DomainAccount>,
    /// What is wrong, in words: the first ones.
    pub wrong: Vec<String>,
    /// How many more.
    pub wrong_more: u64,
}

/// Named in one report.
const WRONG_MAX: usize = 200;
/// Places compared under one lock.
const PAGE: usize = 4096;

impl Verification {
    fn wrong(&mut self, what: String) {
        if self.wrong.len() < WRONG_MAX {
            self.wrong.push(what);
        } else {
            self.wrong_more += 1;
        }
    }
}

/// Verifies the spool in a directory that no gateway uses. Blocks.
pub fn verify_stopped(directory: &Path, disk: &dyn Disk) -> Result<Verification, StoreError> {
    let paths = Paths::new(directory);
    let names = disk.list(&paths.spool).map_err(|error| io_error(format!("reading {}", paths.spool.display()), error))?;
    let _lock = open::locked(&paths.spool)?;
    let mut audit = Audit::new(disk, &paths);
    audit.indexed = audit.load_index(&directory.join("index"));
    let numbers = names.iter().filter_map(|name| segment_number(name));
    let mut parts = Vec::new();
    for number in numbers {
        let file = disk.open(&segment_path(&paths.spool, number));
        parts.push((number, file.map_err(|error| io_error(format!("opening segment {number}"), error))?, None));
    }
    audit.journal(parts)?;
    audit.compare_index();
    let live = audit.messages();
    audit.bodies(&|_| false);
    audit.balance(&live);
    Ok(audit.report)
}

/// Verifies the spool of this process.
pub fn running(spool: &Spool) -> Result<Verification, StoreError> {
    let _turn = lock(&spool.verifying);
    let parts = {
        let mut table = lock(&spool.table);
        table.watched = Some(Default::default());
        let parts = table.segments.iter().map(|(number, part)| (*number, Arc::clone(&part.file), Some(part.end)));
        parts.collect()
    };
    let verified = watched(spool, parts);
    lock(&spool.table).watched = None;
    verified
}

fn watched(spool: &Spool, parts: Vec<Part>) -> Result<Verification, StoreError> {
    let mut audit = Audit::new(&*spool.disk, &spool.paths);
    audit.report.running = true;
    audit.journal(parts)?;
    let is_watched = |id: QueueId| lock(&spool.table).watched.as_ref().is_none_or(|watched| watched.contains(&id));
    audit.bodies(&is_watched);
    for id in differing(spool, &audit.places) {
        audit.report.wrong(format!("message {id}: memory and journal do not agree where it is"));
    }
    audit.report.index = match compare_running(spool) {
        Ok(differing) if differing.is_empty() => AGREES.to_owned(),
        Ok(differing) => {
            for id in &differing {
                audit.report.wrong(format!("message {id}: the index does not say where the journal has it"));
            }
            doubt(spool, &mut audit.report);
            DIFFERS.to_owned()
        }
        Err(why) => {
            audit.report.wrong(format!("the index cannot be read: {why}"));
            doubt(spool, &mut audit.report);
            "cannot be read; the next start builds it anew from the journal".to_owned()
        }
    };
    for different in stock::check(spool)? {
        audit.report.wrong(format!("ledger: {different}"));
    }
    let table = lock(&spool.table);
    audit.report.ledger = table.ledger.accounts();
    audit.report.messages = table.len() as u64;
    Ok(audit.report)
}

fn doubt(spool: &Spool, report: &mut Verification) {
    if let Err(error) = open::doubt_index(spool) {
        report.wrong(format!("the next start may believe the index: its state cannot be written: {error}"));
    }
}

const AGREES: &str = "agrees with the journal";
const DIFFERS: &str = "does not agree with the journal; the next start builds it anew";

/// Messages whose place in memory is another one, and that did not change since the journal was read.
fn differing(spool: &Spool, places: &BTreeMap<QueueId, Place>) -> Vec<QueueId> {
    let mut differing = Vec::new();
    let mut after = None;
    loop {
        let table = lock(&spool.table);
        let page = table.range(after, PAGE);
        let last = page.last().map(|(id, _)| *id);
        let here: BTreeMap<_, _> = page.into_iter().collect();
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let to = last.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Included);
        let there = places.range((from, to));
        let gone = there.filter(|(id, place)| here.get(id) != Some(place)).map(|(id, _)| *id);
        let new = here.keys().filter(|id| !places.contains_key(id)).copied();
        let is_watched = |id: &QueueId| table.watched.as_ref().is_some_and(|watched| watched.contains(id));
        differing.extend(gone.chain(new).filter(|id| !is_watched(id)));
        if last.is_none() {
            return differing;
        }
        after = last;
    }
}

/// The index's copy. It comes after the table, so a change may be in one and on its way to the other: asked twice, and only
/// what differs both times does.
fn compare_running(spool: &Spool) -> Result<Vec<QueueId>, String> {
    let compare = || {
        let contents = spool.index_contents().ok_or("the spool is closed")?;
        let contents = contents.recv().map_err(|_| "it failed and was given up")??;
        Ok::<_, String>(differing(spool, &contents.into_iter().collect()))
    };
    let first = compare()?;
    if first.is_empty() {
        return Ok(first);
    }
    let second = compare()?;
    Ok(first.into_iter().filter(|id| second.contains(id)).collect())
}

/// A segment to be read; up to where, when more may follow that does not count yet.
type Part = (u32, Arc<dyn DiskFile>, Option<u64>);

/// A verification in progress.
struct Audit<'a> {
    disk: &'a dyn Disk,
    paths: &'a Paths,
    files: BTreeMap<u32, (Arc<dyn DiskFile>, Option<u64>)>,
    /// What the journal says.
    places: BTreeMap<QueueId, Place>,
    /// States whose message is not there (yet).
    orphans: BTreeMap<QueueId, Spot>,
    /// As counted from the first head that holds them; `None` before that.
    totals: Option<Totals>,
    indexed: Option<(BTreeMap<QueueId, Place>, Mark)>,
    report: Verification,
}

impl<'a> Audit<'a> {
    fn new(disk: &'a dyn Disk, paths: &'a Paths) -> Audit<'a> {
        Audit {
            disk,
            paths,
            files: BTreeMap::new(),
            places: BTreeMap::new(),
            orphans: BTreeMap::new(),
            totals: None,
            indexed: None,
            report: Verification::default(),
        }
    }

    /// Reads the segments in order.
    fn journal(&mut self, mut parts: Vec<Part>) -> Result<(), StoreError> {
        parts.sort_by_key(|(number, ..)| *number);
        let mut known = BTreeMap::new();
        for (number, file, _) in &parts {
            let mut bytes = [0; SEGMENT_HEADER];
            let header = read_exact_at(&**file, &mut bytes, 0).ok().and_then(|()| SegmentHeader::decode(&bytes, *number));
            // A file without header and record was being begun.
            let is_begun = file.len().is_ok_and(|length| length > SEGMENT_HEADER as u64);
            if header.is_none() && is_begun {
                self.report.wrong(format!("segment {number}: its header is damaged"));
            }
            if let Some(previous) = header.and_then(|header| header.previous) {
                known.insert(previous.number, previous);
            }
            self.files.insert(*number, (Arc::clone(file), header.map(|header| header.stamp)));
        }
        let oldest = parts.first().map(|(number, ..)| *number).unwrap_or_default();
        for number in known.keys().filter(|number| **number > oldest && !self.files.contains_key(number)) {
            self.report.wrong(format!("segment {number} is missing"));
        }
        for part in parts {
            let number = part.0;
            let read = self.segment(part, known.get(&number).copied());
            read.map_err(|error| io_error(format!("reading segment {number}"), error))?;
        }
        for id in std::mem::take(&mut self.orphans).into_keys() {
            self.report.wrong(format!("message {id}: its state is there, its content is not"));
        }
        self.report.messages = self.places.len() as u64;
        Ok(())
    }

    /// As a start reads it (`recover.rs`), but that nothing is repaired.
    fn segment(&mut self, (number, file, durable_end): Part, known: Option<Previous>) -> io::Result<()> {
        let stamp = self.files.get(&number).and_then(|(_, stamp)| *stamp);
        let end = known.map(|known| known.end).or(durable_end);
        let torn = known.map_or(0..0, |known| known.torn_from..known.torn_to);
        let range = SEGMENT_HEADER as u64..end.unwrap_or(u64::MAX).max(SEGMENT_HEADER as u64);
        let mut found = Vec::new();
        let scan = scan::scan(&*file, number, stamp, range, &mut |header, spot| found.push((*header, spot)))?;
        let durable = known.map_or(0, |known| known.end).max(scan.durable);
        self.report.segments += 1;
        self.report.bytes += scan.end;
        let is_interrupted = |at: u64| at >= durable || !torn.is_empty() && at >= torn.start;
        for (header, spot) in found {
            self.record(&file, &header, spot, is_interrupted(u64::from(spot.offset)))?;
        }
        for bad in scan.bad {
            let Range { start, end } = bad.range;
            let is_torn = start >= durable || torn.start <= start && end <= torn.end;
            if !is_torn || bad.is_unreadable {
                self.report.wrong(format!("segment {number}, {} bytes at {start}: {}", end - start, bad.what));
            }
        }
        Ok(())
    }

    fn record(&mut self, file: &Arc<dyn DiskFile>, header: &RecordHeader, spot: Spot, is_interrupted: bool) -> io::Result<()> {
        self.report.records += 1;
        if header.kind == Kind::Ledger {
            return self.head(file, header, spot);
        }
        let id = header.id;
        let before = self.places.get(&id).copied();
        let place = after_record(before, header.kind, header.place, spot);
        put(&mut self.places, id, place);
        match (place, header.kind) {
            (None, Kind::Done) | (Some(_), _) => drop(self.orphans.remove(&id)),
            (None, _) if is_interrupted => {}
            (None, _) => drop(self.orphans.insert(id, spot)),
        }
        let is_void = header.kind == Kind::Done && before.is_none() && is_interrupted && totals::is_void(&**file, header, spot);
        if let Some(totals) = self.totals.as_mut().filter(|_| !is_void) {
            totals::count_record(&**file, header, spot, totals)?;
        }
        if let Some((indexed, mark)) = &mut self.indexed
            && (spot.segment, u64::from(spot.offset)) >= (mark.segment, mark.offset)
        {
            let place = after_record(indexed.get(&id).copied(), header.kind, header.place, spot);
            put(indexed, id, place);
        }
        Ok(())
    }

    /// Totals that were written down: the records before them must lead to the same.
    fn head(&mut self, file: &Arc<dyn DiskFile>, header: &RecordHeader, spot: Spot) -> io::Result<()> {
        let written = totals::meta(&**file, header, u64::from(spot.offset)).map(|meta| record::read_ledger(&meta))?;
        match written {
            Ok(written) => {
                let differences = self.totals.as_ref().map(|counted| written.differences(counted)).unwrap_or_default();
                for different in differences {
                    self.report.wrong(format!("the ledger at the head of segment {}: {different}", spot.segment));
                }
                self.totals = Some(written);
            }
            Err(why) => self.report.wrong(format!("the ledger at the head of segment {}: {why}", spot.segment)),
        }
        Ok(())
    }

    /// Reads the state of every message.
    fn messages(&mut self) -> Live {
        let mut live = Live::default();
        for (id, place) in &self.places {
            match self.entry(*id, place) {
                Ok(entry) => live.add(&entry),
                Err(why) => self.report.wrong(format!("message {id}: {why}")),
            }
        }
        live
    }

    fn entry(&self, id: QueueId, place: &Place) -> Result<Entry, String> {
        let (header, meta) = self.meta(id, place.whole)?;
        let mut entry = record::read_whole(&header, &meta)?;
        if place.state != place.whole {
            entry.progress = record::read_state(&self.meta(id, place.state)?.1)?;
            record::check_recipients(&entry.envelope, &entry.progress)?;
        }
        Ok(entry)
    }

    fn meta(&self, id: QueueId, spot: Spot) -> Result<(RecordHeader, Vec<u8>), String> {
        let (file, header) = self.header(id, spot)?;
        let meta = totals::meta(&**file, &header, u64::from(spot.offset)).map_err(|error| error.to_string())?;
        Ok((header, meta))
    }

    fn header(&self, id: QueueId, spot: Spot) -> Result<(&Arc<dyn DiskFile>, RecordHeader), String> {
        let (file, stamp) = self.files.get(&spot.segment).ok_or("its segment is missing")?;
        let mut bytes = [0; RECORD_HEADER];
        read_exact_at(&**file, &mut bytes, u64::from(spot.offset)).map_err(|error| error.to_string())?;
        let header = RecordHeader::decode(&bytes, spot.segment, u64::from(spot.offset), *stamp);
        let header = header.map(|(header, _)| header).filter(|header| header.id == id);
        Ok((file, header.ok_or("there is no record of it")?))
    }

    /// Contents in files of their own. One of a message that changed meanwhile may be gone.
    fn bodies(&mut self, has_changed: &dyn Fn(QueueId) -> bool) {
        let in_files: Vec<_> = self.places.iter().filter(|(_, place)| place.in_file).map(|(id, place)| (*id, *place)).collect();
        for (id, place) in in_files {
            let checked = self.body(id, place);
            self.report.body_files += 1;
            match checked {
                Err(why) if !has_changed(id) => self.report.wrong(format!("message {id}: its content: {why}")),
                _ => {}
            }
        }
    }

    fn body(&self, id: QueueId, place: Place) -> Result<(), String> {
        let (_, header) = self.header(id, place.whole)?;
        if header.place != ContentPlace::File {
            return Err("its record names no file".to_owned());
        }
        let path = self.paths.body(id);
        let opened = bodies::open_checked(self.disk, &path, header.content_length, header.content_crc);
        opened.map(drop).map_err(|error| error.to_string())
    }

    /// The index as it stands, when the next start would use it.
    fn load_index(&mut self, directory: &Path) -> Option<(BTreeMap<QueueId, Place>, Mark)> {
        match open::is_index_usable(self.disk, self.paths) {
            Ok(true) if directory.exists() => {}
            Ok(_) => {
                self.report.index = "not used by the next start, which builds it anew from the journal".to_owned();
                return None;
            }
            Err(error) => {
                self.report.wrong(format!("the index's state cannot be read: {error}"));
                return None;
            }
        }
        let mut places = BTreeMap::new();
        let loaded = SledIndex::open_as_it_is(directory).and_then(|mut index| {
            let mark = index.load(&mut |id, place| {
                places.insert(id, place);
            })?;
            index.close()?;
            Ok(mark)
        });
        match loaded {
            Ok(Some(mark)) => Some((places, mark)),
            Ok(None) => {
                self.report.index = "not complete; the next start builds it anew from the journal".to_owned();
                None
            }
            Err(why) => {
                self.report.index = "cannot be read; the next start builds it anew from the journal".to_owned();
                self.report.wrong(format!("the index cannot be read: {why}"));
                None
            }
        }
    }

    /// The index, with the records after its mark, against the journal.
    fn compare_index(&mut self) {
        let Some((indexed, _)) = self.indexed.take() else { return };
        self.report.index = if indexed == self.places { AGREES } else { DIFFERS }.to_owned();
        let ids: std::collections::BTreeSet<_> = indexed.keys().chain(self.places.keys()).copied().collect();
        for id in ids.into_iter().filter(|id| indexed.get(id) != self.places.get(id)) {
            let what = match (indexed.contains_key(&id), self.places.contains_key(&id)) {
                (true, false) => "is in the index and not in the journal",
                (false, true) => "is in the journal and not in the index",
                _ => "is not where the index says",
            };
            self.report.wrong(format!("message {id} {what}"));
        }
    }

    /// The ledger against the messages that are there.
    fn balance(&mut self, live: &Live) {
        let Some(totals) = &self.totals else { return };
        let (expected, found) = (totals.expected(), self.places.len());
        self.report.ledger = accounts(totals, live);
        if expected != found as i64 {
            self.report.wrong(format!("the ledger has {expected} messages, the journal {found}"));
        }
        let wrong: Vec<_> = self.report.ledger.iter().filter_map(imbalance).collect();
        wrong.into_iter().for_each(|wrong| self.report.wrong(format!("ledger: {wrong}")));
    }
}

fn put(places: &mut BTreeMap<QueueId, Place>, id: QueueId, place: Option<Place>) {
    match place {
        Some(place) => places.insert(id, place),
        None => places.remove(&id),
    };
}
