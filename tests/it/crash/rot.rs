//! Bit rot: one bit of what a history left on the disk is inverted while nobody looks.

use std::path::{Path, PathBuf};

use feedgate::mail::QueueId;
use feedgate::outside::Disk as _;
use feedgate::sim;
use feedgate::store::{MemoryIndex, Recovery, Store, StoreError};

use super::{History, accept, content, id, open};

/// A segment's header; a bit in there costs no record, but what it says about the segment before.
const SEGMENT_HEADER: usize = 64;

/// One message at most is lost or falls back to an older state, the start succeeds, and what was hit is set aside and reported.
/// The exception is damage to the very last batch, which looks like an interrupted write; here it holds one message alone.
pub async fn one_bit(history: History) {
    let History { disk, index, store, boots, next, expected, sizes, .. } = history;
    disk.fail_power_at(u64::MAX);
    disk.set_capacity(u64::MAX);
    disk.fail_syncs(0);
    accept(&store, next, 1, 40).await.unwrap();
    let last = id(next);
    store.close();
    let disk = disk.after_kill();
    let (path, byte) = somewhere(&disk);
    disk.flip_bit(&path, byte, disk.random(8) as u8);
    let is_segment = path.extension().is_some_and(|ending| ending == "seg");
    let index = if disk.random(2) == 0 { index } else { MemoryIndex::default() };
    let (store, recovery) = open(&disk, &index, boots).unwrap();
    let at = format!("bit rot in {} at {byte}, {recovery:?}", path.display());

    // A message that was done and is back counts too: its last record was hit.
    let back = store.entries(None, 10_000).await.unwrap().into_iter().map(|entry| entry.envelope.id);
    let back: Vec<_> = back.filter(|id| *id != last && !expected.contains_key(id)).collect();
    // A message whose newest copy was carried in the last batch, beside the last message, cannot be told from an interrupted write;
    // but the ledger misses it, and the start says so.
    let (mut hit, mut reported) = (back.clone(), !recovery.damaged.is_empty() || recovery.missing > 0);
    for id in expected.keys().copied().chain([last]).chain(back) {
        let size = sizes.get(&id).copied().unwrap_or(40);
        match whole(&store, id, size, &at).await {
            Ok(progress) if expected.get(&id).is_none_or(|expected| expected.states.contains(&progress)) => {}
            Err(StoreError::Damaged(_)) => {
                reported = true;
                hit.push(id);
            }
            Ok(_) | Err(StoreError::NotFound) => hit.push(id),
            Err(error) => panic!("{id}: {error}; {at}"),
        }
    }
    hit.sort_unstable();
    hit.dedup();
    if is_segment && byte < SEGMENT_HEADER {
        assert!(reported || hit.is_empty(), "{hit:?} are hit and nothing is said; {at}");
    } else {
        assert!(hit.len() <= 1, "one bit, but {hit:?}; {at}");
        assert!(reported || hit.is_empty() || hit == [last], "{hit:?} is hit and nothing is said; {at}");
    }
    assert!(is_set_aside(&disk, &recovery), "{at}");
}

/// Its state; content that is handed out is right.
async fn whole(store: &Store, id: QueueId, size: usize, at: &str) -> Result<feedgate::mail::Progress, StoreError> {
    let entry = store.entry(id).await?;
    let body = store.body(id).await?;
    let bytes = body.read(0..body.size()).await.unwrap();
    assert_eq!(bytes, content(id, size), "{id}: wrong bytes; {at}");
    Ok(entry.progress.clone())
}

/// A place in a segment or in a content's file.
fn somewhere(disk: &sim::Disk) -> (PathBuf, usize) {
    let spool = Path::new("/data/spool");
    let segments = disk.list(spool).unwrap().into_iter().filter(|name| name.ends_with(".seg")).map(|name| spool.join(name));
    let bodies = spool.join("bodies");
    let files = segments.chain(disk.list(&bodies).unwrap().into_iter().map(|name| bodies.join(name)));
    let files: Vec<_> = files.filter(|path| disk.contents(path).is_some_and(|bytes| !bytes.is_empty())).collect();
    let path = files[disk.random(files.len() as u64) as usize].clone();
    let byte = disk.random(disk.contents(&path).unwrap().len() as u64) as usize;
    (path, byte)
}

/// Every stretch of a segment that is reported lies in `damaged/`.
fn is_set_aside(disk: &sim::Disk, recovery: &Recovery) -> bool {
    let kept = recovery.damaged.iter().filter_map(|line| line.rsplit_once('(')?.1.strip_suffix(')'));
    kept.filter(|path| path.contains("/damaged/")).all(|path| disk.contents(Path::new(path)).is_some())
}
