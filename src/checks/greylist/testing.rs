//! What the tests of this room share: a memory on a real disk.

use std::sync::Arc;

use tempfile::TempDir;

use crate::store::{Memory, RealDisk, Store, StoreSettings};

/// A store in a scratch directory.
pub struct Scratch {
    store: Store,
    _directory: TempDir,
}

impl Scratch {
    pub fn new() -> Scratch {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(directory.path(), Arc::new(RealDisk), StoreSettings::default()).unwrap();
        Scratch { store, _directory: directory }
    }

    /// Always the same.
    pub fn memory(&self) -> Memory {
        self.store.memory("greylist")
    }
}
