//! From a file to the parts of a tape: blocks found, tables read, nothing replayed yet.

mod catalog;
mod file;
mod files;
mod growing;
mod names;
mod stacks;

pub use catalog::{
    Catalog, CodeInfo, FoldedInfo, ImageEnd, LossInfo, MarkerInfo, ModuleInfo, ProcessInfo, RuntimeInfo, SampleInfo,
    ThreadInfo,
};
pub use file::{FileSource, OpenError};
pub use files::is_tape;
pub use growing::Growing;
pub use names::{KeptModule, KeptNames, KeptPlace};
pub(crate) use stacks::Generation;
pub use stacks::{FrameIx, PlaceKind, StackIx, StackTable};

use heaptape_format::Damage;
use heaptape_format::Source;
use heaptape_format::{scan, Ending, Scan};
use std::path::{Path, PathBuf};

/// An opened tape: its bytes and where its blocks lie.
pub struct Tape {
    source: Box<dyn Source>,
    scan: Scan,
    length: u64,
    file: PathBuf,
}

impl Tape {
    /// Opens and scans a file, or the files that a recording of this name was cut into.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a regular file, or does not begin like a tape; when a file between others is missing. Damage further in is no error:
    /// see [`Tape::scan`].
    pub fn open(path: &Path) -> Result<Tape, OpenError> {
        let (source, file) = files::open(path)?;
        Ok(Tape {
            file,
            ..Tape::from_source(source, path)?
        })
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
        Ok(Tape {
            source,
            scan,
            length,
            file: path.into(),
        })
    }

    /// Where the blocks lie, and what is damaged as far as block headers tell.
    pub fn scan(&self) -> &Scan {
        &self.scan
    }

    /// The bytes.
    pub fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// The file, or the first of several.
    pub fn file(&self) -> &Path {
        &self.file
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
