//! A tape that is still being written: what is alive at its end, kept up to date by what is new.
//!
//! Costs what is new and what is alive, not how long the recording has run.

use super::{files, OpenError, Tape};
use crate::replay::replay;
use crate::table::Heap;
use heaptape_format::{resume, scan, Ending, Folder, Scan, Source, SourceError, WriterOptions};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A file whose length is that of the moment.
struct GrowingFile(File);

impl Source for GrowingFile {
    fn len(&self) -> u64 {
        self.0.metadata().map_or(0, |facts| facts.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.0.read_exact_at(into, offset).map_err(|error| SourceError {
            message: error.to_string(),
        })
    }
}

/// A tape that may grow, be replaced by a folded one, or go on in another file.
pub struct Growing {
    path: PathBuf,
    /// Of a recording in several files the latest, which begins with all that is alive.
    file: GrowingFile,
    scan: Scan,
    folder: Folder,
    /// Blocks that the folder has.
    taken: usize,
}

impl Growing {
    /// Opens a tape and takes what is there.
    ///
    /// # Errors
    /// As [`Tape::open`].
    pub fn open(path: &Path) -> Result<Growing, OpenError> {
        let io = |cause| OpenError::Io {
            path: path.into(),
            cause,
        };
        let at = files::latest(path);
        if !std::fs::metadata(&at).map_err(io)?.is_file() {
            return Err(OpenError::NotAFile { path: at });
        }
        let file = GrowingFile(File::open(&at).map_err(io)?);
        let scan = scan(&file).map_err(|cause| OpenError::NotATape {
            path: path.into(),
            cause,
        })?;
        let mut growing = Growing {
            path: path.into(),
            file,
            folder: Folder::new(&scan.header),
            scan,
            taken: 0,
        };
        growing.take();
        Ok(growing)
    }

    /// Takes what is new; whether the tape was ended.
    ///
    /// # Errors
    /// As [`Growing::open`], when another tape is there now.
    pub fn update(&mut self) -> Result<bool, OpenError> {
        let is_same = self.is_latest();
        if is_same {
            resume(&self.file, &mut self.scan);
        }
        if !is_same || self.scan.blocks.len() < self.taken {
            *self = Growing::open(&self.path)?;
        }
        self.take();
        // A file that was closed may have another after it by now.
        Ok(matches!(self.scan.ending, Ending::Clean(_)) && self.is_latest())
    }

    /// Whether the file at hand is still the one that is written to.
    fn is_latest(&self) -> bool {
        let identity = |facts: std::fs::Metadata| (facts.dev(), facts.ino());
        match (std::fs::metadata(files::latest(&self.path)), self.file.0.metadata()) {
            (Ok(there), Ok(own)) => identity(there) == identity(own),
            // What was deleted is read to its end.
            _ => true,
        }
    }

    fn take(&mut self) {
        for block in &self.scan.blocks[self.taken..] {
            self.folder.take(&self.file, block);
        }
        self.taken = self.scan.blocks.len();
    }

    /// The heap as it is now: what is alive, and nothing else.
    ///
    /// # Errors
    /// Never, as far as is known: it is read from what was written just before.
    pub fn heap(&self) -> Result<Heap, OpenError> {
        let mut bytes = Vec::new();
        self.folder.clone().finish(WriterOptions::default(), |part| {
            bytes.extend_from_slice(part);
            true
        });
        let tape = Tape::from_source(Box::new(bytes), &self.path)?;
        Ok(replay(&tape, &self.path.to_string_lossy(), &|_, _| ()))
    }
}
