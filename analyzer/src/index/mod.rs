//! The tables of a tape in a file beside it, so that it is replayed once and asked often.
//!
//! | module | |
//! |---|---|
//! | `bytes` | a file, mapped |
//! | `stamp` | which tape, and which state of it, an index belongs to |
//! | `layout` | what lies where in the file |
//! | `write` | from a replayed heap to a file |
//! | `read` | from a file to a heap |
//! | `place` | where the file goes |
//! | `seal` | makes a hostile file's checksums hold, for fuzzing |
//!
//! What a tape says beside its events (processes, modules, stacks) is not in the index: it is read from the tape, which takes little time.
//! So an index can only tell wrong numbers, never names, and only to someone who lets others write beside his tapes.

mod bytes;
mod layout;
mod place;
mod read;
#[cfg(fuzzing)]
mod seal;
mod stamp;
mod write;

pub use bytes::IndexBytes;
pub use place::{IndexPlace, PlaceError};
pub use read::{read, Unusable};
#[cfg(fuzzing)]
pub use seal::seal;
pub use write::write;
use write::write_out;

use crate::replay::{replay_within, Limits, Progress, ReplayError};
use crate::table::{Heap, Lives};
use crate::tape::Tape;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::path::Path;

/// Tapes with fewer events are replayed faster than a file is worth.
pub const FEWEST_EVENTS: u64 = 1 << 20;

/// The heap of a tape: from its index, or replayed, and then with an index for the next time if there is a place for one.
///
/// ```
/// # use heaptape_format::{record::{End, Header}, Writer, WriterOptions};
/// # let mut bytes = Vec::new();
/// # let writer = Writer::new(&Header::default(), WriterOptions::default(), &mut bytes);
/// # writer.finish(&End::default(), &mut bytes);
/// use heaptape::{index::{open, IndexPlace}, tape::Tape};
/// let tape = Tape::from_source(Box::new(bytes), "empty.tape".as_ref()).unwrap();
/// let heap = open(&tape, "empty.tape", &IndexPlace::Nowhere, &|_, _| ());
/// assert!(heap.unwrap().allocations.is_empty());
/// ```
///
/// # Errors
/// When the index cannot be written to a folder that was named for it.
pub fn open(
    tape: &Tape,
    path: impl AsRef<Path>,
    place: &IndexPlace,
    progress: Progress<'_>,
) -> Result<Heap, PlaceError> {
    open_within(tape, path, place, u64::MAX, progress).map_err(|error| match error {
        OpenIndexError::Place(error) => error,
        OpenIndexError::Replay(error) => unreachable!("without a bound nothing is refused: {error}"),
    })
}

/// The same in bounded memory: a table that could take more than so many bytes is kept on disk while the tape is replayed, in the folder of the index or else beside the tape.
///
/// # Errors
/// When the index cannot be written to a folder that was named for it; when the tape cannot be replayed within the bound.
pub fn open_within(
    tape: &Tape,
    path: impl AsRef<Path>,
    place: &IndexPlace,
    memory: u64,
    progress: Progress<'_>,
) -> Result<Heap, OpenIndexError> {
    let path = path.as_ref();
    let name = path.to_string_lossy();
    let is_worth_it = tape.events() >= FEWEST_EVENTS || matches!(place, IndexPlace::Folder(_));
    let candidates = if is_worth_it {
        place.candidates(path)
    } else {
        Vec::new()
    };
    let find = || candidates.iter().find_map(|file| read(tape, &name, file).ok());
    if let Some(heap) = find() {
        return Ok(heap);
    }
    let limits = Limits {
        memory,
        folders: place.folders(path),
    };
    let replayed = |strata| replay_within(tape, &name, &limits, strata, progress).map_err(OpenIndexError::Replay);
    if candidates.is_empty() {
        return replayed(false);
    }
    let mut heap = replayed(true)?;
    heap.lives = Some(Lives::of(&heap, limits.groups()));
    // A table on disk is moved rather than copied.
    let moves = limits.spills(tape.events());
    let is_begun = Cell::new(false);
    let written = place.write(&candidates, |file| {
        if moves && is_begun.replace(true) {
            // Where the first attempt stopped, part of the table is gone.
            return Err(io::Error::other("the table was given up for another index"));
        }
        write_out(tape, &heap, file, moves)
    });
    match (written, place) {
        (Err(error), IndexPlace::Folder(_)) => Err(OpenIndexError::Place(error)),
        (Ok(()), _) if moves => find().map_or_else(|| replayed(false), Ok),
        (Err(_), _) if moves => replayed(false),
        _ => Ok(heap),
    }
}

/// Why a tape was not opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenIndexError {
    /// Its index cannot be written.
    Place(PlaceError),
    /// It cannot be replayed.
    Replay(ReplayError),
}

impl fmt::Display for OpenIndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenIndexError::Place(error) => error.fmt(f),
            OpenIndexError::Replay(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenIndexError {}
