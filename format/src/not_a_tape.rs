//! Why a file cannot be read as a tape.

use crate::block::{MAGIC, VERSION};
use crate::source::SourceError;
use std::fmt;

/// Why a file cannot be read as a tape at all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotATape {
    /// It is empty.
    Empty,
    /// It begins like a tape but ends within the first block.
    Cut {
        /// Its length.
        length: u64,
    },
    /// It is compressed as a whole.
    Compressed {
        /// The program that unpacks it.
        with: &'static str,
    },
    /// It is a tape of a newer version of the format.
    NewerVersion {
        /// The version.
        version: u8,
    },
    /// It is something else.
    NoTape {
        /// Its first bytes.
        begins: Vec<u8>,
    },
    /// It could not be read.
    Unreadable(SourceError),
}

impl fmt::Display for NotATape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotATape::Empty => write!(f, "it is empty: nothing was recorded into it yet"),
            NotATape::Cut { length } => write!(
                f,
                "it begins like a tape, but ends after {length} bytes, within its first block"
            ),
            NotATape::Compressed { with } => write!(f, "it is compressed as a whole; unpack it first ({with})"),
            NotATape::NewerVersion { version } => {
                write!(f, "it is a tape of format version {version}, this program reads version {VERSION}; use a newer heaptape")
            }
            NotATape::NoTape { begins } => {
                write!(
                    f,
                    "it is no tape: a tape begins with \"{}\", this with \"{}\"",
                    MAGIC.escape_ascii(),
                    begins.escape_ascii()
                )
            }
            NotATape::Unreadable(error) => write!(f, "it could not be read: {}", error.message.escape_debug()),
        }
    }
}

impl std::error::Error for NotATape {}
