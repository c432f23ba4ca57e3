//! What cannot be read is set aside under `damaged/`, byte for byte, before anything forgets it: for an operator, and for
//! whoever can still read a message out of it.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use crate::outside::{Disk, DiskFile, read_exact_at};

use super::spool::Paths;

/// Copied at a time, in bytes.
const PIECE: u64 = 1 << 20;
/// Given up at a time where the disk does not answer.
const BLOCK: usize = 4096;

pub struct Damage<'a> {
    pub disk: &'a dyn Disk,
    pub paths: &'a Paths,
}

impl Damage<'_> {
    /// Copies a stretch of a segment to `damaged/SEGMENT-OFFSET.part` and makes the copy durable. One that was made before
    /// stays as it is. What cannot be read is zeros in the copy.
    pub fn set_aside(&self, file: &dyn DiskFile, segment: u32, range: Range<u64>) -> io::Result<PathBuf> {
        let path = self.paths.damaged.join(format!("{segment:010}-{}.part", range.start));
        let copy = match self.disk.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(path),
            copy => copy?,
        };
        let end = range.end.min(file.len()?).max(range.start);
        let mut at = range.start;
        while at < end {
            let mut piece = vec![0; PIECE.min(end - at) as usize];
            for (number, block) in piece.chunks_mut(BLOCK).enumerate() {
                if read_exact_at(file, block, at + (number * BLOCK) as u64).is_err() {
                    block.fill(0);
                }
            }
            copy.write_at(&piece, at - range.start)?;
            at += piece.len() as u64;
        }
        copy.sync()?;
        self.disk.sync_dir(&self.paths.damaged)?;
        Ok(path)
    }

    /// Moves a file of the spool to `damaged/`.
    pub fn move_aside(&self, from: &std::path::Path) -> io::Result<PathBuf> {
        let name = from.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let to = self.paths.damaged.join(name);
        self.disk.rename(from, &to)?;
        self.disk.sync_dir(&self.paths.damaged)?;
        Ok(to)
    }
}
