//! Where the journal holds each message: one small, fixed-size place a message, in memory, and what lives in each segment.
//!
//! This is what every lookup uses: a look into memory, never a wait for the index. Sled holds the same table so that the
//! next start need not read the whole journal (`index.rs`). A million messages take about 80 MB here.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::mail::QueueId;
use crate::outside::DiskFile;

use super::ledger::Ledger;

/// A record in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub segment: u32,
    pub offset: u32,
    /// With its header.
    pub length: u32,
}

/// The records that make up one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// `Accepted` or `Carried`: envelope and content.
    pub whole: Spot,
    /// The newest state; the same as `whole` when nothing came after it.
    pub state: Spot,
    /// The content is a file of its own.
    pub in_file: bool,
}

impl Place {
    /// A message that nothing happened to since.
    pub fn whole(spot: Spot, in_file: bool) -> Place {
        Place { whole: spot, state: spot, in_file }
    }

    /// The bytes it keeps alive, by segment.
    fn shares(&self) -> [(u32, u64); 2] {
        let state = if self.state == self.whole { 0 } else { u64::from(self.state.length) };
        [(self.whole.segment, u64::from(self.whole.length)), (self.state.segment, state)]
    }

    pub fn is_in(&self, segment: u32) -> bool {
        self.whole.segment == segment || self.state.segment == segment
    }
}

/// A change to the table and to its copy in the index: the new place, or `None` when the message left.
pub type Change = (QueueId, Option<Place>);

/// One file of the journal.
#[derive(Clone)]
pub struct Segment {
    pub file: Arc<dyn DiskFile>,
    pub stamp: u64,
    /// What is durable ends here.
    pub end: u64,
    /// Bytes of records that are still needed.
    pub live: u64,
    /// Nothing is appended any more.
    pub sealed: bool,
}

/// What the journal holds.
#[derive(Default)]
pub struct Table {
    messages: BTreeMap<QueueId, Place>,
    pub segments: BTreeMap<u32, Segment>,
    /// Changed together with the places, so that the two always say the same.
    pub ledger: Ledger,
    /// The newest segment whose head holds the ledger's totals. Older ones may go, this one must stay.
    pub ledger_in: Option<u32>,
    /// Messages that changed while somebody compares; `None`: nobody does.
    pub watched: Option<HashSet<QueueId>>,
}

impl Table {
    pub fn get(&self, id: QueueId) -> Option<Place> {
        self.messages.get(&id).copied()
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn apply(&mut self, (id, place): Change) {
        if let Some(watched) = &mut self.watched {
            watched.insert(id);
        }
        let before = match place {
            Some(place) => self.messages.insert(id, place),
            None => self.messages.remove(&id),
        };
        for (segment, bytes) in before.iter().flat_map(Place::shares) {
            if let Some(segment) = self.segments.get_mut(&segment) {
                segment.live = segment.live.saturating_sub(bytes);
            }
        }
        for (segment, bytes) in place.iter().flat_map(Place::shares) {
            if let Some(segment) = self.segments.get_mut(&segment) {
                segment.live += bytes;
            }
        }
    }

    /// Forgets the messages, not the segments: before a rebuild.
    pub fn clear(&mut self) {
        self.messages.clear();
        for segment in self.segments.values_mut() {
            segment.live = 0;
        }
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&QueueId, &Place)> {
        self.messages.iter()
    }

    /// Up to `most` messages after `after`, in the order of their ids.
    pub fn range(&self, after: Option<QueueId>, most: usize) -> Vec<(QueueId, Place)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.messages.range((from, Bound::Unbounded)).take(most).map(|(id, place)| (*id, *place)).collect()
    }

    /// The file a spot is in.
    pub fn file(&self, spot: Spot) -> Option<(Arc<dyn DiskFile>, u64)> {
        self.segments.get(&spot.segment).map(|segment| (Arc::clone(&segment.file), segment.stamp))
    }

    /// Bytes of all segments, and those of them that are still needed.
    pub fn bytes(&self) -> (u64, u64) {
        self.segments.values().fold((0, 0), |(all, live), segment| (all + segment.end, live + segment.live))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::id;
    use super::*;
    use crate::outside::Disk as _;
    use crate::sim;

    fn table(segments: u32) -> Table {
        let disk = sim::Disk::new(1);
        disk.create_dir("/s".as_ref()).unwrap();
        let mut table = Table::default();
        for number in 1..=segments {
            let file = disk.create(format!("/s/{number}").as_ref()).unwrap();
            table.segments.insert(number, Segment { file, stamp: 0, end: 1000, live: 0, sealed: true });
        }
        table
    }

    fn spot(segment: u32, length: u32) -> Spot {
        Spot { segment, offset: 64, length }
    }

    #[test]
    fn what_lives_in_a_segment_is_counted() {
        let mut table = table(2);
        let live = |table: &Table| [table.segments[&1].live, table.segments[&2].live];
        let accepted = Place::whole(spot(1, 100), false);
        table.apply((id(1), Some(accepted)));
        assert_eq!(live(&table), [100, 0]);
        table.apply((id(1), Some(Place { state: spot(2, 30), ..accepted })));
        assert_eq!(live(&table), [100, 30]);
        table.apply((id(1), Some(Place::whole(spot(2, 130), false))));
        assert_eq!(live(&table), [0, 130]);
        table.apply((id(1), None));
        assert_eq!((live(&table), table.len()), ([0, 0], 0));
    }

    #[test]
    fn messages_are_listed_after_an_id() {
        let mut table = table(1);
        for number in [3, 1, 2] {
            table.apply((id(number), Some(Place::whole(spot(1, 10), false))));
        }
        let ids = |after, most| table.range(after, most).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids(None, 10), [id(1), id(2), id(3)]);
        assert_eq!(ids(Some(id(1)), 1), [id(2)]);
    }
}
