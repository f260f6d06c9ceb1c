//! A tape file read by offset. It is never mapped: a file that shrinks while it is read must be an error, not a SIGBUS.

use heaptape_format::{NotAChain, NotATape};
use heaptape_format::{Source, SourceError};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Why a tape could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The system refused.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It is a directory, a pipe or a device.
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It does not begin like a tape.
    NotATape {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        cause: NotATape,
    },
    /// Of the files that a recording was cut into, some between others are missing.
    Missing {
        /// The first of them.
        files: Vec<PathBuf>,
        /// How many there are besides.
        more: usize,
    },
    /// It is not the file of a recording that its name says.
    NotInPlace {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: NotAChain,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io { path, cause } => write!(f, "cannot open {}: {cause}", path.display()),
            OpenError::NotAFile { path } => {
                write!(
                    f,
                    "{} is not a regular file: a tape is read by offset, so copy it to a file first",
                    path.display()
                )
            }
            OpenError::Missing { files, more } => {
                let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
                let names = names.join(", ");
                let more = if *more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                write!(
                    f,
                    "missing: {names}{more}; what was freed there is not known. Bring the files back, or move those before away, or read one file: each is exact for what is alive in it"
                )
            }
            OpenError::NotInPlace { path, cause } => write!(f, "{}: {cause}", path.display()),
            OpenError::NotATape { path, cause } => write!(f, "{} is not a tape: {cause}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}

/// A file as a source of bytes. Its length is that of the moment of opening: a tape may be growing.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    length: u64,
}

impl FileSource {
    /// Opens a regular file.
    ///
    /// # Errors
    /// When the system refuses, or the path leads to something else than a regular file (opening a pipe could block for ever).
    pub fn open(path: &Path) -> Result<FileSource, OpenError> {
        let io = |cause| OpenError::Io {
            path: path.into(),
            cause,
        };
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(OpenError::NotAFile { path: path.into() });
        }
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        Ok(FileSource { file, length })
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.file.read_exact_at(into, offset).map_err(|error| SourceError {
            message: error.to_string(),
        })
    }
}
