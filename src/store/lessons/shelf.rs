//! Where the examples are in their file, and which go out when there are too many. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::record::Entry;
use crate::mail::Domain;
use crate::spam::{Digest, Label};

/// A message in a scope.
pub type Key = (Option<Domain>, Digest);

/// Where an example stands, and what is asked about it often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub at: u64,
    pub length: u64,
    pub label: Label,
    pub day: u32,
}

impl Spot {
    pub fn new(entry: &Entry, at: u64, length: u64) -> Spot {
        match entry {
            Entry::Learn(example) => Spot { at, length, label: example.label, day: example.day },
            // Only counted, never kept.
            Entry::Forget(_) => Spot { at, length, label: Label::Ham, day: 0 },
        }
    }
}

/// The examples that count.
#[derive(Debug, Default)]
pub struct Shelf {
    spots: HashMap<Key, Spot>,
    /// By place in the file, which is by age.
    order: BTreeMap<u64, Key>,
    of_scope: HashMap<Option<Domain>, BTreeSet<u64>>,
    bytes: u64,
}

impl Shelf {
    pub fn len(&self) -> usize {
        self.spots.len()
    }

    /// Of the records that count.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn spot(&self, key: &Key) -> Option<&Spot> {
        self.spots.get(key)
    }

    /// Oldest first.
    pub fn in_order(&self) -> impl Iterator<Item = (&Key, &Spot)> {
        self.order.values().filter_map(|key| Some((key, self.spots.get(key)?)))
    }

    /// Puts an example in, in the place of an older one of the same message. `most`: of its scope; `bytes`: of all.
    pub fn put(&mut self, key: Key, spot: Spot, most: usize, bytes: u64) {
        self.take(&key);
        let of_scope = self.of_scope.entry(key.0.clone()).or_default();
        of_scope.insert(spot.at);
        let too_many = (of_scope.len() > most).then(|| of_scope.first().copied()).flatten();
        self.order.insert(spot.at, key.clone());
        self.spots.insert(key, spot);
        self.bytes += spot.length;
        if let Some(key) = too_many.and_then(|at| self.order.get(&at).cloned()) {
            self.take(&key);
        }
        while self.bytes > bytes {
            let Some(key) = self.order.values().next().cloned() else { break };
            self.take(&key);
        }
    }

    pub fn take(&mut self, key: &Key) {
        let Some(spot) = self.spots.remove(key) else { return };
        self.order.remove(&spot.at);
        self.bytes -= spot.length;
        if let Some(of_scope) = self.of_scope.get_mut(&key.0) {
            of_scope.remove(&spot.at);
            if of_scope.is_empty() {
                self.of_scope.remove(&key.0);
            }
        }
    }
}
