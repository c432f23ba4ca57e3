//! How records and segment headers look on disk. Pure: bytes in, bytes out.
//!
//! All numbers are little-endian. `docs/STORAGE.md` has the tables. A record is
//!
//! ```text
//! header (72 bytes, with its own checksum) · meta (JSON) · content (only when it is inline)
//! ```
//!
//! Meta and content have a checksum each, so that the state of a message is read without its content.
//!
//! Invariants:
//! - A header counts only with its checksum *and* at its own place: it names its segment, its offset there and the
//!   segment's stamp, a random number. Content that imitates a record (somebody mails us a segment file) is therefore
//!   never taken for one, also not when damage before it makes recovery search for the next record.
//! - `durable` says up to where the segment was synced when the record was written: damage below that is real damage,
//!   whatever a crash may explain above it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::mail::{Envelope, Progress, QueueId, SessionId};

use super::Entry;
use super::ledger::{self, Totals};

/// Bytes before the first record of a segment.
pub const SEGMENT_HEADER: usize = 64;
/// Bytes before the meta of a record.
pub const RECORD_HEADER: usize = 72;
/// How every record begins; the last byte is the version of the format.
pub const RECORD_MAGIC: &[u8; 4] = b"FGr1";
const SEGMENT_MAGIC: &[u8; 8] = b"FGsegm01";

/// What a record says. Every kind but `Accepted` and `Carried` holds the whole [`Progress`]: the last one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A new message: envelope, progress, content.
    Accepted = 1,
    /// Its judgement is known.
    Judged = 2,
    /// Recipients settled, attempts made, next try.
    Progress = 3,
    /// An operator did something.
    Steered = 4,
    /// Every recipient is final: the message left the spool.
    Done = 5,
    /// A message that lives on, copied from an old segment with its newest state.
    Carried = 6,
    /// No message: the ledger's totals of everything before the segment that it stands at the head of.
    Ledger = 7,
}

impl Kind {
    /// The record holds envelope and content, so that nothing older of this message is needed.
    pub fn is_whole(self) -> bool {
        matches!(self, Kind::Accepted | Kind::Carried)
    }

    /// The record that the change from `before` to `after` asks for.
    pub fn of_change(before: &Progress, after: &Progress) -> Kind {
        if after.is_settled() {
            Kind::Done
        } else if before.judgement.is_none() && after.judgement.is_some() {
            Kind::Judged
        } else if before.steerings != after.steerings {
            Kind::Steered
        } else {
            Kind::Progress
        }
    }

    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Accepted, Kind::Judged, Kind::Progress, Kind::Steered, Kind::Done, Kind::Carried, Kind::Ledger]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Where the content that belongs to a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ContentPlace {
    /// The record has none.
    Absent = 0,
    /// After the meta.
    Inline = 1,
    /// In `bodies/<queue id>.body`.
    File = 2,
}

/// A record on its way to the journal: all that does not depend on where it will stand.
#[derive(Clone, Debug)]
pub struct Draft {
    pub kind: Kind,
    pub id: QueueId,
    pub meta: Vec<u8>,
    pub content: Content,
    meta_crc: u32,
}

/// The content of a record on its way.
#[derive(Clone, Debug)]
pub enum Content {
    Absent,
    Inline { bytes: Bytes, crc: u32 },
    File { size: u64, crc: u32 },
}

impl Content {
    pub fn place(&self) -> ContentPlace {
        match self {
            Content::Absent => ContentPlace::Absent,
            Content::Inline { .. } => ContentPlace::Inline,
            Content::File { .. } => ContentPlace::File,
        }
    }
}

impl Draft {
    /// A record with envelope, progress and content.
    pub fn whole(kind: Kind, entry: &Entry, content: Content) -> Draft {
        debug_assert!(kind.is_whole());
        let progress = writable(&entry.progress);
        let meta = to_json(&WholeMeta { envelope: &entry.envelope, progress: &progress });
        Draft { kind, id: entry.envelope.id, meta_crc: crc32fast::hash(&meta), meta, content }
    }

    /// A record with progress alone.
    pub fn state(kind: Kind, id: QueueId, progress: &Progress) -> Draft {
        debug_assert!(!kind.is_whole());
        let meta = to_json(&writable(progress));
        Draft { kind, id, meta_crc: crc32fast::hash(&meta), meta, content: Content::Absent }
    }

    /// A record with progress alone, and for a `Done` the accounts that its recipients are counted in: the ledger needs no
    /// other record for it, also when the one with the envelope is gone.
    /// `is_early`: its `Accepted` is not durable yet, so that both may come to stand in one batch.
    pub fn change(kind: Kind, entry: &Entry, is_early: bool) -> Draft {
        let id = entry.envelope.id;
        if kind != Kind::Done {
            return Draft::state(kind, id, &entry.progress);
        }
        let meta =
            to_json(&DoneMeta { progress: &writable(&entry.progress), rows: ledger::rows_of_done(entry), early: is_early });
        Draft { kind, id, meta_crc: crc32fast::hash(&meta), meta, content: Content::Absent }
    }

    /// The ledger's totals.
    pub fn ledger(totals: &Totals) -> Draft {
        let meta = to_json(totals);
        let id = SessionId::from_u64(0).expect("zero is an id").message(0);
        Draft { kind: Kind::Ledger, id, meta_crc: crc32fast::hash(&meta), meta, content: Content::Absent }
    }

    /// In the journal, in bytes.
    pub fn length(&self) -> u64 {
        let inline = if let Content::Inline { bytes, .. } = &self.content { bytes.len() } else { 0 };
        (RECORD_HEADER + self.meta.len() + inline) as u64
    }

    /// Appends the record as it stands at `at` of a segment. This is the one copy of the content on its way to disk.
    pub fn write_to(&self, buffer: &mut Vec<u8>, at: &Position) {
        let (content_length, content_crc) = match &self.content {
            Content::Absent => (0, 0),
            Content::Inline { bytes, crc } => (bytes.len() as u64, *crc),
            Content::File { size, crc } => (*size, *crc),
        };
        let header = RecordHeader {
            kind: self.kind,
            place: self.content.place(),
            id: self.id,
            durable: at.durable,
            meta_length: u32::try_from(self.meta.len()).expect("recipients are bounded, and so is what is said about each"),
            content_length,
            meta_crc: self.meta_crc,
            content_crc,
        };
        buffer.extend_from_slice(&header.encode(at));
        buffer.extend_from_slice(&self.meta);
        if let Content::Inline { bytes, .. } = &self.content {
            buffer.extend_from_slice(bytes);
        }
    }
}

/// Where a record stands; part of what its header vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub segment: u32,
    pub stamp: u64,
    pub offset: u64,
    /// Up to here the segment was synced when the record was written.
    pub durable: u64,
}

/// The first 72 bytes of a record, without what says where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    pub kind: Kind,
    pub place: ContentPlace,
    pub id: QueueId,
    pub durable: u64,
    pub meta_length: u32,
    pub content_length: u64,
    pub meta_crc: u32,
    pub content_crc: u32,
}

impl RecordHeader {
    /// In the journal, in bytes, header included.
    pub fn length(&self) -> u64 {
        let inline = if self.place == ContentPlace::Inline { self.content_length } else { 0 };
        (RECORD_HEADER as u64 + u64::from(self.meta_length)).saturating_add(inline)
    }

    fn encode(&self, at: &Position) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        bytes[..4].copy_from_slice(RECORD_MAGIC);
        bytes[4] = self.kind as u8;
        bytes[5] = self.place as u8;
        bytes[8..12].copy_from_slice(&at.segment.to_le_bytes());
        bytes[12..24].copy_from_slice(&self.id.to_bytes());
        bytes[24..32].copy_from_slice(&at.stamp.to_le_bytes());
        bytes[32..40].copy_from_slice(&at.offset.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.durable.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.meta_length.to_le_bytes());
        bytes[52..60].copy_from_slice(&self.content_length.to_le_bytes());
        bytes[60..64].copy_from_slice(&self.meta_crc.to_le_bytes());
        bytes[64..68].copy_from_slice(&self.content_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..68]);
        bytes[68..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` unless this is a header, whole, and written for this very place. `stamp: None` when the segment's own
    /// header is lost: then the second value says which stamp it carries.
    pub fn decode(bytes: &[u8], segment: u32, offset: u64, stamp: Option<u64>) -> Option<(RecordHeader, u64)> {
        let bytes: &[u8; RECORD_HEADER] = bytes.get(..RECORD_HEADER)?.try_into().ok()?;
        if !bytes.starts_with(RECORD_MAGIC) || crc32fast::hash(&bytes[..68]) != u32_at(bytes, 68) {
            return None;
        }
        let its_stamp = u64_at(bytes, 24);
        if u32_at(bytes, 8) != segment || u64_at(bytes, 32) != offset || stamp.is_some_and(|stamp| stamp != its_stamp) {
            return None;
        }
        let place = match bytes[5] {
            0 => ContentPlace::Absent,
            1 => ContentPlace::Inline,
            2 => ContentPlace::File,
            _ => return None,
        };
        let header = RecordHeader {
            kind: Kind::from_byte(bytes[4])?,
            place,
            id: QueueId::from_bytes(bytes[12..24].try_into().ok()?)?,
            durable: u64_at(bytes, 40),
            meta_length: u32_at(bytes, 48),
            content_length: u64_at(bytes, 52),
            meta_crc: u32_at(bytes, 60),
            content_crc: u32_at(bytes, 64),
        };
        // What this version never writes is not a record of this version.
        (header.kind.is_whole() == (header.place != ContentPlace::Absent)).then_some((header, its_stamp))
    }
}

/// The first 64 bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub number: u32,
    pub stamp: u64,
    /// `None` in the first one.
    pub previous: Option<Previous>,
    /// The highest session id known when the segment was begun.
    pub highest: u64,
}

/// What a segment says about the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    pub number: u32,
    /// Where it ends: what stands behind that was answered with an error and is void.
    pub end: u64,
    /// Bad stretches in between are known to be the holes of an interrupted write; empty when there are none.
    pub torn_from: u64,
    pub torn_to: u64,
}

impl Previous {
    pub fn new(number: u32, end: u64) -> Previous {
        Previous { number, end, torn_from: 0, torn_to: 0 }
    }
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        let previous = self.previous.unwrap_or(Previous::new(0, 0));
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&self.number.to_le_bytes());
        bytes[12..16].copy_from_slice(&previous.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&previous.end.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.stamp.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.highest.to_le_bytes());
        bytes[40..48].copy_from_slice(&previous.torn_from.to_le_bytes());
        bytes[48..56].copy_from_slice(&previous.torn_to.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` unless this is the whole header of segment `number`.
    pub fn decode(bytes: &[u8], number: u32) -> Option<SegmentHeader> {
        let bytes: &[u8; SEGMENT_HEADER] = bytes.get(..SEGMENT_HEADER)?.try_into().ok()?;
        let whole = bytes.starts_with(SEGMENT_MAGIC) && crc32fast::hash(&bytes[..60]) == u32_at(bytes, 60);
        let previous = Previous {
            number: u32_at(bytes, 12),
            end: u64_at(bytes, 16),
            torn_from: u64_at(bytes, 40),
            torn_to: u64_at(bytes, 48),
        };
        (whole && u32_at(bytes, 8) == number).then(|| SegmentHeader {
            number,
            stamp: u64_at(bytes, 24),
            previous: (previous.number != 0).then_some(previous),
            highest: u64_at(bytes, 32),
        })
    }
}

/// Envelope and progress out of the meta of an `Accepted` or `Carried` record. The reason in words when it is not that.
pub fn read_whole(header: &RecordHeader, meta: &[u8]) -> Result<Entry, String> {
    let whole: WholeMetaRead = serde_json::from_slice(meta).map_err(|error| format!("not an envelope: {error}"))?;
    let WholeMetaRead { envelope, progress } = whole;
    if envelope.id != header.id {
        return Err(format!("the header says {} and the envelope {}", header.id, envelope.id));
    }
    check_recipients(&envelope, &progress)?;
    Ok(Entry { envelope, progress })
}

/// Progress out of the meta of any other record.
pub fn read_state(meta: &[u8]) -> Result<Progress, String> {
    serde_json::from_slice(meta).map_err(|error| format!("not a state: {error}"))
}

/// What the ledger needs of a `Done`: the accounts of its recipients, and the last state.
pub fn read_done(meta: &[u8]) -> Result<(Vec<String>, Progress), String> {
    let rows: DoneRows = serde_json::from_slice(meta).map_err(|error| format!("not an end: {error}"))?;
    Ok((rows.rows, read_state(meta)?))
}

/// Whether a `Done` was written when its `Accepted` was not durable yet.
pub fn is_early(meta: &[u8]) -> bool {
    serde_json::from_slice::<DoneRows>(meta).is_ok_and(|done| done.early)
}

/// The ledger's totals out of the meta of their record.
pub fn read_ledger(meta: &[u8]) -> Result<Totals, String> {
    serde_json::from_slice(meta).map_err(|error| format!("not a ledger: {error}"))
}

/// Every recipient has its state: everybody indexes one with the other.
pub fn check_recipients(envelope: &Envelope, progress: &Progress) -> Result<(), String> {
    let (recipients, states) = (envelope.recipients.len(), progress.recipients.len());
    if recipients == states { Ok(()) } else { Err(format!("{states} states for {recipients} recipients")) }
}

#[derive(Serialize)]
struct WholeMeta<'a> {
    envelope: &'a Envelope,
    progress: &'a Progress,
}

#[derive(Serialize)]
struct DoneMeta<'a> {
    #[serde(flatten)]
    progress: &'a Progress,
    rows: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    early: bool,
}

#[derive(Deserialize)]
struct DoneRows {
    #[serde(default)]
    rows: Vec<String>,
    #[serde(default)]
    early: bool,
}

#[derive(Deserialize)]
struct WholeMetaRead {
    envelope: Envelope,
    progress: Progress,
}

/// A score that is not a number has no form in JSON: it would be written as `null` and never be read again, and the message
/// with it. The decisions have been made from it already, so zero is as good as any.
fn writable(progress: &Progress) -> std::borrow::Cow<'_, Progress> {
    let is_writable = |progress: &Progress| {
        progress
            .judgement
            .as_ref()
            .is_none_or(|judgement| judgement.score.is_finite() && judgement.hits.iter().all(|hit| hit.points.is_finite()))
    };
    if is_writable(progress) {
        return std::borrow::Cow::Borrowed(progress);
    }
    let mut progress = progress.clone();
    if let Some(judgement) = &mut progress.judgement {
        let points = judgement.hits.iter_mut().map(|hit| &mut hit.points);
        for number in points.chain([&mut judgement.score]).filter(|number| !number.is_finite()) {
            *number = 0.0;
        }
    }
    std::borrow::Cow::Owned(progress)
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our own types have string keys only and cannot fail to serialise")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entry, settle};
    use super::*;
    use crate::mail::{Judgement, RuleHit, SpamLevel, Timestamp, Verdict};

    const AT: Position = Position { segment: 7, stamp: 99, offset: 4096, durable: 64 };

    fn written(draft: &Draft) -> Vec<u8> {
        let mut bytes = Vec::new();
        draft.write_to(&mut bytes, &AT);
        bytes
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let entry = entry(3, 2);
        let bytes = Bytes::from_static(b"Subject: hi\r\n\r\nhello\r\n");
        let crc = crc32fast::hash(&bytes);
        let draft = Draft::whole(Kind::Accepted, &entry, Content::Inline { bytes: bytes.clone(), crc });
        let record = written(&draft);
        assert_eq!(record.len() as u64, draft.length());
        let (header, stamp) = RecordHeader::decode(&record, 7, 4096, Some(99)).unwrap();
        assert_eq!((header.kind, header.id, header.length(), stamp), (Kind::Accepted, entry.envelope.id, draft.length(), 99));
        let meta = &record[RECORD_HEADER..][..header.meta_length as usize];
        assert_eq!(crc32fast::hash(meta), header.meta_crc);
        assert_eq!(read_whole(&header, meta).unwrap(), entry);
        assert_eq!(&record[RECORD_HEADER + meta.len()..], &bytes[..]);
        assert_eq!(header.content_crc, crc);
    }

    #[test]
    fn any_flipped_bit_of_a_header_is_noticed() {
        let record = written(&Draft::state(Kind::Progress, entry(1, 1).envelope.id, &entry(1, 1).progress));
        for bit in 0..RECORD_HEADER * 8 {
            let mut bad = record.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&bad, 7, 4096, Some(99)), None, "bit {bit}");
        }
        assert_eq!(RecordHeader::decode(&record[..RECORD_HEADER - 1], 7, 4096, Some(99)), None);
    }

    #[test]
    fn a_record_counts_only_at_its_own_place() {
        let record = written(&Draft::state(Kind::Progress, entry(1, 1).envelope.id, &entry(1, 1).progress));
        assert!(RecordHeader::decode(&record, 7, 4096, None).is_some());
        assert_eq!(RecordHeader::decode(&record, 8, 4096, Some(99)), None, "another segment");
        assert_eq!(RecordHeader::decode(&record, 7, 4097, Some(99)), None, "another offset");
        assert_eq!(RecordHeader::decode(&record, 7, 4096, Some(98)), None, "another stamp");
    }

    #[test]
    fn segment_headers_lead_back() {
        for previous in [None, Some(Previous { torn_from: 100, torn_to: 200, ..Previous::new(6, 12345) })] {
            let header = SegmentHeader { number: 7, stamp: u64::MAX, previous, highest: 42 };
            assert_eq!(SegmentHeader::decode(&header.encode(), 7), Some(header));
            assert_eq!(SegmentHeader::decode(&header.encode(), 8), None);
        }
        assert_eq!(SegmentHeader::decode(&[0; SEGMENT_HEADER], 0), None);
    }

    #[test]
    fn a_score_that_is_no_number_does_not_cost_the_message() {
        let mut progress = entry(1, 1).progress;
        let hit = RuleHit { rule: "odd".into(), points: f32::INFINITY, evidence: String::new() };
        progress.judgement = Some(Judgement {
            at: Timestamp(1),
            verdict: Verdict::Clean,
            score: f32::NAN,
            level: SpamLevel::None,
            hits: vec![hit],
            authentication: Default::default(),
            domains: Vec::new(),
        });
        let draft = Draft::state(Kind::Judged, entry(1, 1).envelope.id, &progress);
        assert_eq!(read_state(&draft.meta).unwrap().judgement.unwrap().score, 0.0);
    }

    #[test]
    fn the_kind_follows_from_the_change() {
        let before = entry(1, 2).progress;
        let mut after = before.clone();
        after.recipients[0].attempts = 1;
        assert_eq!(Kind::of_change(&before, &after), Kind::Progress);
        after.steered(Timestamp(5), "anna", "hold", "");
        assert_eq!(Kind::of_change(&before, &after), Kind::Steered);
        settle(&mut after);
        assert_eq!(Kind::of_change(&before, &after), Kind::Done);
    }
}
