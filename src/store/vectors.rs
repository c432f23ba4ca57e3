//! What is kept of judged messages for `feedgate spam replay` and `spam explain`: for each one a [`Vector`], without a word of its
//! text. Part of the memory that may be forgotten (`spam-history`); a message is found by its id, all of them in the order in
//! which they came in.
//!
//! A message is noted when it is judged and complete when it is decided; complete ones are gathered and written together. What
//! was gathered and not written is lost by a crash, and nothing but the explanation of a few messages with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::lock;
use super::memory::{Memory, MemoryBase, VALUE_MAX};
use crate::mail::{Decision, Envelope, Judgement, QueueId, SessionId, Timestamp};
use crate::spam::Vector;

/// Messages that are judged and not decided; when there are more something is wrong, and they are forgotten.
const JUDGED_MAX: usize = 20_000;
/// Gathered ones that are written before their time.
const GATHERED_MANY: usize = 1_000;
/// Gathered ones at most: when writing cannot keep up the next are left out.
const GATHERED_MAX: usize = 50_000;
/// Records removed at a time.
const SWEEP_PIECE: usize = 1_000;

/// The vectors of judged messages. Cloning shares them.
#[derive(Clone)]
pub struct Vectors {
    memory: Memory,
    judged: Arc<Mutex<HashMap<QueueId, Vector>>>,
    gathered: Arc<Mutex<Vec<Vector>>>,
}

impl Vectors {
    pub(super) fn new(base: &MemoryBase) -> Vectors {
        Vectors { memory: base.part("spam-history"), judged: Arc::default(), gathered: Arc::default() }
    }

    /// A message is judged; what becomes of it follows.
    pub fn judged(&self, vector: Vector) {
        let mut judged = lock(&self.judged);
        if judged.len() >= JUDGED_MAX {
            judged.clear();
        }
        judged.insert(vector.id, vector);
    }

    /// It is decided: kept from now on. Nothing happens for one that nobody judged.
    pub fn decided(&self, envelope: &Envelope, judgement: &Judgement, decisions: &[Decision]) {
        let Some(mut vector) = lock(&self.judged).remove(&envelope.id) else { return };
        vector.decided(envelope, judgement, decisions);
        let mut gathered = lock(&self.gathered);
        if gathered.len() < GATHERED_MAX {
            gathered.push(vector);
        }
        if gathered.len() == GATHERED_MANY {
            let this = self.clone();
            tokio::spawn(async move { this.write_gathered().await });
        }
    }

    /// Writes what was gathered.
    pub async fn write_gathered(&self) {
        let gathered = std::mem::take(&mut *lock(&self.gathered));
        if gathered.is_empty() {
            return;
        }
        let pairs = gathered.into_iter().map(|vector| (vector.id.to_bytes().to_vec(), Some(encode(vector))));
        self.memory.change(pairs.collect()).await;
    }

    pub async fn get(&self, id: QueueId) -> Option<Vector> {
        self.write_gathered().await;
        decode(&self.memory.get(id.to_bytes().to_vec()).await?)
    }

    /// Up to `most` in the order in which they came in: those after `after`, or those that came in since `since`; with what to
    /// go on after, `None` at the end.
    pub async fn since(&self, since: Timestamp, after: Option<QueueId>, most: usize) -> (Vec<Vector>, Option<QueueId>) {
        self.write_gathered().await;
        let begin = after.map_or_else(|| first_key(since), |after| after.to_bytes().to_vec());
        let pairs = self.memory.scan(Vec::new(), Some(begin), most).await;
        let more = (pairs.len() == most).then(|| id_of(&pairs.last()?.0)).flatten();
        (pairs.iter().filter_map(|(_, value)| decode(value)).collect(), more)
    }

    /// Removes those that came in before `before`. How many.
    pub async fn sweep(&self, before: Timestamp) -> usize {
        let end = first_key(before);
        let mut removed = 0;
        loop {
            let old = self.memory.scan(Vec::new(), None, SWEEP_PIECE).await;
            let old: Vec<_> = old.into_iter().map(|(key, _)| key).filter(|key| *key < end).collect();
            let is_last = old.len() < SWEEP_PIECE;
            removed += old.len();
            self.memory.change(old.into_iter().map(|key| (key, None)).collect()).await;
            if is_last {
                return removed;
            }
        }
    }
}

/// Where the messages of this moment begin: an id begins with the time of its session (`mail::SessionId`).
fn first_key(at: Timestamp) -> Vec<u8> {
    let session = at.0.checked_shl(15).and_then(SessionId::from_u64);
    session.map_or_else(Vec::new, |session| session.to_u64().to_be_bytes().to_vec())
}

fn id_of(key: &[u8]) -> Option<QueueId> {
    QueueId::from_bytes(key.try_into().ok()?)
}

/// Made to fit: a message to many domains keeps the first ones.
fn encode(mut vector: Vector) -> Vec<u8> {
    loop {
        let json = serde_json::to_vec(&vector).expect("a vector has string keys only");
        if json.len() < VALUE_MAX || vector.domains.pop().is_none() {
            return json;
        }
    }
}

fn decode(value: &[u8]) -> Option<Vector> {
    serde_json::from_slice(value).ok()
}
