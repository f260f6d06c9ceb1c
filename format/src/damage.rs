//! What is wrong with a tape: where, what, and how much is missing because of it.

use crate::id::EventNo;
use std::fmt;

/// One damaged or missing part of a tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where in the file it begins.
    pub offset: u64,
    /// Bytes of the file it covers; 0 when the bytes are missing altogether.
    pub length: u64,
    /// What is wrong.
    pub cause: DamageCause,
    /// Number of events that are missing because of it; `None` when it cannot be known.
    pub lost_events: Option<u64>,
    /// Number of the first missing event, when known.
    pub events_at: Option<EventNo>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageCause {
    /// These bytes are no block: the magic or the checksum of a block header does not hold.
    NoBlock,
    /// The blocks that were here are gone.
    Missing {
        /// How many.
        blocks: u64,
    },
    /// A block that was read already, or that comes too late to be used.
    OutOfSequence {
        /// The block number that belongs here.
        expected: u64,
        /// The one that is here.
        found: u64,
    },
    /// A block of another tape.
    OtherTape,
    /// The next block begins inside this one: bytes were cut out of it.
    CutShort,
    /// A block of a kind that this version must understand but does not.
    UnknownKind {
        /// The kind's number.
        kind: u8,
    },
    /// A block of a newer version of the format.
    NewerVersion {
        /// The version.
        version: u8,
    },
    /// A reserved bit of a block header is set.
    Reserved,
    /// The header of a block contradicts the format or the blocks before it.
    Header {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The block's bytes do not have their checksum.
    Checksum,
    /// The block's bytes do not decompress.
    Compression {
        /// What is wrong.
        what: &'static str,
    },
    /// The decompressed bytes are not what the format says.
    Content {
        /// What is wrong.
        what: &'static str,
    },
    /// The file could not be read here.
    Unreadable {
        /// What the medium said.
        message: String,
    },
    /// There is so much damage that the rest of it is not listed.
    TooMuch,
}

impl DamageCause {
    /// Whether there is something too much, rather than something missing.
    const fn is_surplus(&self) -> bool {
        matches!(
            self,
            DamageCause::OutOfSequence { .. } | DamageCause::OtherTape | DamageCause::CutShort
        )
    }
}

impl fmt::Display for DamageCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DamageCause::NoBlock => write!(f, "these bytes are no valid block header"),
            DamageCause::Missing { blocks: 1 } => write!(f, "a block is missing"),
            DamageCause::Missing { blocks } => write!(f, "{blocks} blocks are missing"),
            DamageCause::OutOfSequence { expected, found } => {
                write!(
                    f,
                    "block number {found} is here again or out of its order (number {expected} was expected)"
                )
            }
            DamageCause::OtherTape => write!(f, "this is a part of another tape"),
            DamageCause::CutShort => write!(
                f,
                "bytes were cut out of the block before, the next one begins inside it"
            ),
            DamageCause::UnknownKind { kind } => write!(f, "a block of the unknown kind {kind}"),
            DamageCause::NewerVersion { version } => {
                write!(f, "a block of format version {version}, newer than this program")
            }
            DamageCause::Reserved => write!(f, "a reserved bit is set in a block header"),
            DamageCause::Header { what } => write!(f, "a block header contradicts itself or its place: {what}"),
            DamageCause::Checksum => write!(f, "the bytes of a block do not have their checksum"),
            DamageCause::Compression { what } => write!(f, "a block does not decompress: {what}"),
            DamageCause::Content { what } => write!(f, "the content of a block is invalid: {what}"),
            DamageCause::Unreadable { message } => write!(f, "the file could not be read: {}", message.escape_debug()),
            DamageCause::TooMuch => write!(f, "too much damage to list: more follows"),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}", self.offset)?;
        if self.length > 0 {
            write!(f, " ({} bytes)", self.length)?;
        }
        write!(f, ": {}; ", self.cause)?;
        match (self.lost_events, self.events_at) {
            (Some(0), _) if self.cause.is_surplus() => write!(f, "nothing is lost"),
            (Some(0), _) => write!(f, "no event is lost, but a block of records or stacks may be"),
            (Some(1), Some(at)) => write!(f, "event #{} is lost", at.get()),
            (Some(lost), Some(at)) => {
                write!(
                    f,
                    "{lost} events are lost, #{} to #{}",
                    at.get(),
                    at.get().saturating_add(lost - 1)
                )
            }
            (Some(lost), None) => write!(f, "{lost} events are lost"),
            (None, Some(at)) => write!(f, "an unknown number of events is lost from #{} on", at.get()),
            (None, None) => write!(f, "an unknown number of events is lost"),
        }
    }
}

impl std::error::Error for Damage {}
