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
//!
//! What a tape says beside its events (processes, modules, stacks) is not in the index: it is read from the tape, which takes little time.
//! So an index can only tell wrong numbers, never names, and only to someone who lets others write beside his tapes.

mod bytes;
mod layout;
mod place;
mod read;
mod stamp;
mod write;

pub use bytes::IndexBytes;
pub use place::{IndexPlace, PlaceError};
pub use read::{read, Unusable};
pub use write::write;

use crate::replay::{replay, Progress};
use crate::table::{Heap, Strata};
use crate::tape::Tape;
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
    let path = path.as_ref();
    let name = path.to_string_lossy();
    let is_worth_it = tape.events() >= FEWEST_EVENTS || matches!(place, IndexPlace::Folder(_));
    let candidates = if is_worth_it {
        place.candidates(path)
    } else {
        Vec::new()
    };
    if let Some(heap) = candidates.iter().find_map(|file| read(tape, &name, file).ok()) {
        return Ok(heap);
    }
    let mut heap = replay(tape, &name, progress);
    if !candidates.is_empty() {
        heap.strata = Some(Strata::of(&heap.allocations));
        let written = place.write(&candidates, |file| write(tape, &heap, file));
        if let (Err(error), IndexPlace::Folder(_)) = (written, place) {
            return Err(error);
        }
    }
    Ok(heap)
}
