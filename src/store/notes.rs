//! Small files beside the journal, each read and replaced as a whole: what operators ordered for a domain rather than for a
//! message. It is not in the journal because compaction keeps there what belongs to a live message, and nothing else; it is not
//! in the memory because that may be forgotten.
//!
//! On failure: what could not be made durable is an error, and the old content stays.

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::outside::{Disk, read_exact_at};

use super::StoreError;
use super::spool::{Paths, io_error};

/// Of one note, in bytes. More is no note of ours.
const NOTE_MAX: u64 = 16 << 20;

pub fn read(disk: &dyn Disk, paths: &Paths, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let failed = |error| io_error("reading a note", error);
    let file = match disk.open(&path(paths, name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let length = file.len().map_err(failed)?;
    if length > NOTE_MAX {
        return Err(StoreError::Damaged(format!("the note {name} has {length} bytes")));
    }
    let mut bytes = vec![0; usize::try_from(length).expect("NOTE_MAX fits")];
    read_exact_at(&*file, &mut bytes, 0).map_err(failed)?;
    Ok(Some(bytes))
}

/// Power fails before the rename is durable: the old note, whole, and a half-written file that the next writing replaces. After
/// it: the new one, whole, since its bytes were synced before it got its name.
pub fn write(disk: &dyn Disk, paths: &Paths, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let (new, to) = (paths.spool.join(format!("{name}.new")), path(paths, name));
    let written = || {
        match disk.remove(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(&new)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        disk.rename(&new, &to)?;
        disk.sync_dir(&paths.spool)
    };
    written().map_err(|error| match error.kind() {
        ErrorKind::StorageFull => StoreError::Full,
        _ => io_error("writing a note", error),
    })
}

fn path(paths: &Paths, name: &str) -> PathBuf {
    paths.spool.join(format!("{name}.note"))
}

#[cfg(test)]
mod tests {
    use crate::store::{RealDisk, Store, StoreSettings};
    use std::sync::Arc;

    #[test]
    fn a_note_is_replaced_whole_and_outlives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let settings = StoreSettings { reserve: 0, ..StoreSettings::default() };
        let open = || Store::open(directory.path(), Arc::new(RealDisk), settings.clone()).unwrap().0;
        let store = open();
        assert_eq!(store.note("orders").unwrap(), None);
        store.keep_note("orders", &[b'a'; 10_000]).unwrap();
        store.keep_note("orders", b"new").unwrap();
        store.close();
        drop(store);
        // What a crash in the middle of a later writing leaves.
        std::fs::write(directory.path().join("spool/orders.new"), b"torn").unwrap();
        let store = open();
        assert_eq!(store.note("orders").unwrap().as_deref(), Some(&b"new"[..]));
        store.keep_note("orders", b"newer").unwrap();
        assert_eq!(store.note("orders").unwrap().as_deref(), Some(&b"newer"[..]));
    }
}
