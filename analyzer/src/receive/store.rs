//! A file into which a tape is received.

use crate::tape::FileSource;
use heaptape_format::link::BlockHead;
use heaptape_format::{scan, Ending};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Why a tape cannot be received into a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// There is something else.
    Occupied(PathBuf),
    /// It begins with a block that is not the first of its tape.
    NoBeginning(PathBuf),
    /// The system refused.
    Io(PathBuf, io::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Occupied(path) => write!(
                f,
                "{} exists, and is no beginning of this tape: give another name, or --force to overwrite it",
                path.display()
            ),
            StoreError::NoBeginning(path) => write!(
                f,
                "{} does not hold what was received of this tape before: name the file that does",
                path.display()
            ),
            StoreError::Io(path, cause) => write!(f, "{}: {cause}", path.display()),
        }
    }
}

impl std::error::Error for StoreError {}

/// A tape in the making. The file is made with its first block.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    file: Option<File>,
    tape: u64,
    /// The number of the block that comes next.
    next: u64,
    length: u64,
    is_ended: bool,
}

impl Store {
    /// Goes on with the tape of this number in a file, or begins it. `overwrite`: whether another file that is there may be replaced.
    ///
    /// # Errors
    /// When something else is there, or the system refuses.
    pub fn open(path: &Path, tape: u64, overwrite: bool) -> Result<Store, StoreError> {
        let io = |cause| StoreError::Io(path.into(), cause);
        let mut store = Store {
            path: path.into(),
            file: None,
            tape,
            next: 0,
            length: 0,
            is_ended: false,
        };
        let facts = match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(store),
            facts => facts.map_err(io)?,
        };
        let source = FileSource::open(path).ok().filter(|_| facts.is_file());
        let found = source.and_then(|source| scan(&source).ok());
        match found.filter(|found| found.tape() == tape) {
            Some(found) => {
                let file = OpenOptions::new().write(true).open(path).map_err(io)?;
                store.next = found.blocks.last().map_or(0, |block| block.sequence.saturating_add(1));
                match found.ending {
                    Ending::Clean(_) => {
                        store.is_ended = true;
                        store.length = facts.len();
                    }
                    // What a receiver that was killed has written of a block comes again.
                    Ending::Unclean { whole, .. } => {
                        file.set_len(whole).map_err(io)?;
                        store.length = whole;
                    }
                }
                store.file = Some(file);
            }
            None if overwrite && facts.is_file() => {
                let file = OpenOptions::new().write(true).truncate(true).open(path).map_err(io)?;
                store.file = Some(file);
            }
            None => return Err(StoreError::Occupied(path.into())),
        }
        Ok(store)
    }

    /// The number of the block that comes next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Whether it has the end of the tape.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes a whole block, its header and its payload; one that it has already is passed over. Blocks that the sender had no room for are missing, and their numbers show it.
    ///
    /// # Errors
    /// When it does not belong here, or cannot be written: the file ends with the block before then.
    pub fn take(&mut self, head: &BlockHead, block: &[u8]) -> io::Result<()> {
        let is_beginning = self.length == 0;
        // Of the last number there is none that comes next, so that its block would be taken again and again.
        let is_last_number = head.sequence() == u64::MAX;
        if head.tape() != self.tape || is_last_number || (is_beginning && (head.sequence() != 0 || !head.is_header())) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a block that does not belong here",
            ));
        }
        if self.is_ended || head.sequence() < self.next {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().write(true).create_new(true).open(&self.path)?),
        };
        if let Err(error) = file.write_all_at(block, self.length) {
            // A torn block at the end would be found by any reader, too.
            let _ = file.set_len(self.length);
            return Err(error);
        }
        self.length += block.len() as u64;
        self.next = head.sequence().saturating_add(1);
        self.is_ended = head.is_end();
        Ok(())
    }
}
