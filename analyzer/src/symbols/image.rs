//! An executable, library or debug file, mapped into memory.
//!
//! The path may come from a tape, so anything but a regular file is refused before it is opened: a pipe would block, a device may act.
#![allow(unsafe_code)]

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::path::Path;

/// Larger files are not looked into; no module of a program is.
const LARGEST: u64 = 16 << 30;

/// The bytes of a file.
#[derive(Debug)]
pub struct Image(Mmap);

impl Image {
    /// Maps a regular file.
    ///
    /// # Errors
    /// When the system refuses, or the file is not regular or absurdly large.
    pub fn open(path: &Path) -> io::Result<Image> {
        let refuse = |what| Err(io::Error::other(what));
        if !std::fs::metadata(path)?.is_file() {
            return refuse("not a regular file");
        }
        let file = File::open(path)?;
        if file.metadata()?.len() > LARGEST {
            return refuse("too large for a program's module");
        }
        // SAFETY: the mapping is private and read-only, and its bytes are only ever parsed as untrusted data. What is left is that
        // another program changes or cuts the file meanwhile: the parser tolerates any bytes, and installers replace libraries by
        // renaming, never by truncating them in place.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Image(map))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
