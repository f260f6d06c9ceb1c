//! From a file to the parts of a tape: blocks found, tables read, nothing replayed yet.

mod catalog;
mod file;
mod stacks;

pub use catalog::{
    Catalog, CodeInfo, ImageEnd, LossInfo, MarkerInfo, ModuleInfo, ProcessInfo, RuntimeInfo, SampleInfo, ThreadInfo,
};
pub use file::{FileSource, OpenError};
pub(crate) use stacks::Generation;
pub use stacks::{FrameIx, PlaceKind, StackIx, StackTable};

use heaptape_format::Damage;
use heaptape_format::Source;
use heaptape_format::{scan, Ending, Scan};
use std::path::Path;

/// An opened tape: its bytes and where its blocks lie.
pub struct Tape {
    source: Box<dyn Source>,
    scan: Scan,
    length: u64,
}

impl Tape {
    /// Opens and scans a file.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a regular file, or does not begin like a tape. Damage further in is no error:
    /// see [`Tape::scan`].
    pub fn open(path: &Path) -> Result<Tape, OpenError> {
        Tape::from_source(Box::new(FileSource::open(path)?), path)
    }

    /// Scans any source; `path` is only for messages.
    ///
    /// # Errors
    /// When the bytes do not begin like a tape.
    pub fn from_source(source: Box<dyn Source>, path: &Path) -> Result<Tape, OpenError> {
        let scan = scan(&*source).map_err(|cause| OpenError::NotATape {
            path: path.into(),
            cause,
        })?;
        let length = source.len();
        Ok(Tape { source, scan, length })
    }

    /// Where the blocks lie, and what is damaged as far as block headers tell.
    pub fn scan(&self) -> &Scan {
        &self.scan
    }

    /// The bytes.
    pub fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// Length of the file in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Number of events, as the block headers say it.
    pub fn events(&self) -> u64 {
        self.scan.blocks.iter().map(|block| u64::from(block.events)).sum()
    }

    /// Whether the tape was ended properly by its writer.
    pub fn ended_cleanly(&self) -> bool {
        matches!(self.scan.ending, Ending::Clean(_))
    }

    /// Damage that the block headers show.
    pub fn damage(&self) -> &[Damage] {
        &self.scan.damage
    }
}
