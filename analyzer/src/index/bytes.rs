//! An index file, mapped.
#![allow(unsafe_code)]

use memmap2::Mmap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The bytes of an index file.
pub struct IndexBytes {
    map: Mmap,
    path: PathBuf,
    is_bad: AtomicBool,
}

impl IndexBytes {
    /// Maps a regular file.
    pub(super) fn open(path: &Path) -> io::Result<IndexBytes> {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let file = File::open(path)?;
        // SAFETY: the mapping is private and read-only, and its bytes are numbers that are checked before use. An index is written under another name and
        // renamed when it is whole, and never written again, so no heaptape changes or cuts what is mapped here. What another program does to the file can
        // change numbers after their check, which every reader of them survives, or cut it, which ends the process as it would with any mapped file.
        let map = unsafe { Mmap::map(&file)? };
        Ok(IndexBytes {
            map,
            path: path.to_owned(),
            is_bad: AtomicBool::new(false),
        })
    }

    /// The bytes.
    pub fn get(&self) -> &[u8] {
        &self.map
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn mark_bad(&self) {
        self.is_bad.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_bad(&self) -> bool {
        self.is_bad.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for IndexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.path.display(), self.map.len())
    }
}
