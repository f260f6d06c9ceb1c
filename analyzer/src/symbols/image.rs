//! An executable, library or debug file, mapped into memory.
//!
//! The path may come from a tape or from debug information, so anything but a regular file is refused before it is opened: a pipe would block, a device may act.
#![allow(unsafe_code)]

use memmap2::{Mmap, UncheckedAdvice};
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
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Image::of(&File::open(path)?)
    }

    /// Maps a file that is open.
    ///
    /// # Errors
    /// As for [`Image::open`].
    pub fn of(file: &File) -> io::Result<Image> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        if metadata.len() > LARGEST {
            return Err(io::Error::other("too large for a program's module"));
        }
        // SAFETY: the mapping is private and read-only, and its bytes are only ever parsed as untrusted data. What is left is that
        // another program changes or cuts the file meanwhile: the parser tolerates any bytes, and installers replace libraries by
        // renaming, never by truncating them in place.
        let map = unsafe { Mmap::map(file)? };
        Ok(Image(map))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Gives the memory back that the bytes looked at have taken; they are read from the file again when they are next looked at.
    pub fn release(&self) {
        // SAFETY: the pages of a private read-only mapping of a file are never dirty, so that dropping them changes no byte: the next
        // access reads the same file.
        let advised = unsafe { self.0.unchecked_advise(UncheckedAdvice::DontNeed) };
        // It is advice: without it the memory is given back when the mapping goes.
        drop(advised);
    }
}
