//! A tape that stays below a size for ever: when it is half full, its oldest part is folded into a keyframe.
//!
//! ```text
//!   tape        |keyframe| ... oldest ... | ... latest ... |   half of the limit
//!   beside it   |keyframe of all before the cut| ... latest ... |   made by a thread, while the tape goes on
//!   then        the second is renamed over the first
//! ```
//! Of the limit, the tape has a half, what is written while the thread works an eighth, and the file beside it the rest: so both together are never more. At no moment is there anything
//! else under the tape's name than a whole tape. The thread needs the memory that [`heaptape_format::fold`] says, two megabytes and what a block of events takes.

mod fold;
mod place;
#[cfg(test)]
mod power;
mod rotation;
#[cfg(test)]
mod testing;
mod witness;

pub use place::Place;
pub use rotation::{Rotation, Turn};

use fold::{Fold, Folded, Wishes};
use heaptape_format::fold::Restamp;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread::JoinHandle;

/// The least limit that makes sense.
pub const LEAST: u64 = 1 << 20;
/// The tape can be cut at so many places.
const CUTS: u64 = 32;

/// A place between two blocks at which a generation of stacks begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes before it.
    pub offset: u64,
    /// The generation that begins there, as the file has it.
    pub generation: u32,
    /// The sequence number of the block that begins there.
    pub sequence: u64,
}

/// Who says when a tape is cut, has a thread fold what lies before the cut, and puts another file in the place of the tape.
pub trait Folding {
    /// Whether the tape, of this length, should begin a new generation, so that it can be cut here.
    fn wants_cut(&self, written: u64) -> bool;
    /// A generation begins at the end of what is written.
    fn cut(&mut self, cut: Cut);
    /// Most bytes that the tape may have.
    fn room(&self) -> u64 {
        u64::MAX
    }
    /// Starts the thread if it is time, or if it must be.
    ///
    /// # Errors
    /// When that fails.
    fn start(&mut self, written: u64, is_urgent: bool) -> io::Result<()>;
    /// Whether a thread is at work, and whether it is done.
    fn is_done(&self) -> Option<bool>;
    /// Somebody waits for the thread.
    fn hurry(&self);
    /// Whether nothing more is to be written, to a tape of this length, before the thread is done.
    fn is_pressing(&self, written: u64) -> bool {
        let _ = written;
        false
    }
    /// The file that takes the place of the tape, of which `written` bytes are there. `None` when it has not come about for want of room.
    ///
    /// # Errors
    /// When the system refuses.
    fn exchange(&mut self, written: u64) -> io::Result<Option<Exchanged>>;
    /// Nothing more is folded; what is beside the tape is taken away.
    fn end(&mut self);
}

/// What goes on beside the recording.
struct Work {
    thread: JoinHandle<io::Result<Folded>>,
    wishes: Arc<Wishes>,
    cut: Cut,
}

impl Work {
    fn begin(fold: Fold, cut: Cut) -> io::Result<Work> {
        let wishes = Arc::clone(&fold.wishes);
        let thread = fold.spawn()?;
        Ok(Work { thread, wishes, cut })
    }

    fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// Nothing is written to the tape until it is done.
    fn hurry(&self) {
        self.wishes.hurry.store(true, Ordering::Relaxed);
    }

    /// The tape has come to this length.
    fn wrote(&self, written: u64) {
        self.wishes.written.store(written, Ordering::Release);
    }

    /// Waits for it.
    fn result(self) -> io::Result<Folded> {
        let failed = |_| Err(io::Error::other("the thread that folds the tape has failed"));
        self.thread.join().unwrap_or_else(failed)
    }

    /// Whatever it has come to, it is not wanted any more.
    fn give_up(self, place: &Place) {
        self.wishes.stop.store(true, Ordering::Relaxed);
        drop(self.thread.join());
        place.remove_beside();
    }
}

/// Keeps a tape below its limit.
pub struct Bound {
    limit: u64,
    place: Place,
    cuts: VecDeque<Cut>,
    /// Where the latest cut was made.
    latest: u64,
    work: Option<Work>,
    /// What a keyframe takes, as far as is known.
    keyframe: u64,
    /// Since the last fold failed for want of room, the tape must have a later cut.
    not_before: u64,
}

/// A tape in the place of the old one.
pub struct Exchanged {
    /// To write to, at its end.
    pub file: File,
    /// Its length.
    pub length: u64,
    /// How the next blocks are numbered.
    pub stamp: Restamp,
    /// The generation of the old file that becomes `stamp.generation`.
    pub generation: u32,
    /// The old file stays, and is to be ended.
    pub goes_on: bool,
}

impl Bound {
    /// A bound for a tape that was just begun.
    pub fn new(place: Place, limit: u64) -> Bound {
        Bound {
            limit: limit.max(LEAST),
            place,
            cuts: VecDeque::new(),
            latest: 0,
            work: None,
            keyframe: 0,
            not_before: 0,
        }
    }

    /// Whether the tape is so long that it should be folded, and can be.
    fn cut_for(&self, written: u64, is_urgent: bool) -> Option<Cut> {
        if self.work.is_some() || written < self.limit / 2 && !is_urgent {
            return None;
        }
        // The keyframe may grow by a quarter; what is left of the room is for the latest part.
        let keep = (self.limit / 4).saturating_sub(self.keyframe / 4 * 5);
        let mut later = self.cuts.iter().filter(|cut| cut.offset > self.not_before);
        let latest = later.clone().next_back();
        later.find(|cut| written - cut.offset <= keep).or(latest).copied()
    }
}

impl Folding for Bound {
    fn wants_cut(&self, written: u64) -> bool {
        written >= self.latest + self.limit / CUTS
    }

    fn cut(&mut self, cut: Cut) {
        self.latest = cut.offset;
        self.cuts.push_back(cut);
    }

    /// The rest is for the file beside it.
    fn room(&self) -> u64 {
        self.limit / 8 * 5
    }

    fn start(&mut self, written: u64, is_urgent: bool) -> io::Result<()> {
        if let Some(work) = &self.work {
            work.wrote(written);
        }
        let Some(cut) = self.cut_for(written, is_urgent) else {
            return Ok(());
        };
        let fold = Fold {
            tape: self.place.open()?,
            to: self.place.beside()?,
            cut: cut.offset,
            generation: cut.generation,
            part: None,
            // While it works, the tape may grow by an eighth, which is written twice.
            room: self.limit - self.room(),
            wishes: Wishes::at(written),
        };
        self.work = Some(Work::begin(fold, cut)?);
        Ok(())
    }

    fn is_done(&self) -> Option<bool> {
        self.work.as_ref().map(Work::is_done)
    }

    fn hurry(&self) {
        self.work.iter().for_each(Work::hurry);
    }

    /// When there is no room, the next try keeps less.
    fn exchange(&mut self, written: u64) -> io::Result<Option<Exchanged>> {
        let Some(work) = self.work.take() else {
            return Ok(None);
        };
        let cut = work.cut;
        let mut folded = work.result().inspect_err(|_| self.place.remove_beside())?;
        let keyframe = folded.keyframe;
        self.keyframe = keyframe;
        let rest = written - folded.copied;
        if !folded.is_whole || folded.length + rest > self.limit - self.room() {
            self.place.remove_beside();
            self.not_before = cut.offset;
            return Ok(None);
        }
        // What was on the disk under this name must not be less on it afterwards.
        let exchanged = folded
            .take_rest(self.place.open()?, written, cut.generation)
            .and_then(|()| self.place.exchange());
        exchanged.inspect_err(|_| self.place.remove_beside())?;
        let moved = cut.offset;
        self.cuts.retain(|other| other.offset > moved);
        for other in &mut self.cuts {
            other.offset = other.offset - moved + keyframe;
            other.generation = other.generation - cut.generation + 1;
        }
        self.latest = self.latest - moved + keyframe;
        self.not_before = keyframe;
        Ok(Some(Exchanged {
            file: folded.file.into_file(),
            length: folded.length,
            stamp: folded.stamp,
            generation: cut.generation,
            goes_on: false,
        }))
    }

    fn end(&mut self) {
        if let Some(work) = self.work.take() {
            work.give_up(&self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{folder, wait_for, Making};
    use super::*;
    use heaptape_format::record::End;
    use heaptape_format::{scan, BlockKind, Ending};
    use std::io::Write;

    #[test]
    fn under_the_tape_s_name_there_is_a_whole_tape_at_any_moment_and_never_a_large_one() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder("whole");
        let mut making = Making::new(&folder);
        // Left there by somebody who was killed.
        std::fs::write(folder.join(".a.tape.folding"), b"half of a tape").unwrap();
        let mut bound = Bound::new(Place::of(&making.path).unwrap(), LEAST);
        let mut exchanges = 0;
        while exchanges < 4 {
            making.go_on(4000);
            making.assert_whole();
            if bound.wants_cut(making.written) {
                making.cut(&mut bound);
            }
            bound.start(making.written, false).unwrap();
            assert!(making.written <= bound.room());
            if bound.is_done().is_some() {
                // What is written meanwhile is in the new one, too.
                making.go_on(1500);
                bound.start(making.written, false).unwrap();
                making.assert_whole();
                wait_for(&bound);
                making.go_on(700);
                making.assert_whole();
                assert!(making.exchange(&mut bound));
                making.assert_whole();
                assert!(making.written < LEAST / 2);
                exchanges += 1;
            }
        }
        assert_eq!(
            std::fs::metadata(&making.path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        let mut last = Vec::new();
        making.writer.finish(&End::default(), &mut last);
        making.file.write_all(&last).unwrap();
        let bytes = std::fs::read(&making.path).unwrap();
        let found = scan(&bytes[..]).unwrap();
        assert!(found.damage.is_empty() && matches!(found.ending, Ending::Clean(_)));
        assert!(found.blocks.iter().any(|block| block.kind == BlockKind::Folded));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn when_the_recording_ends_while_a_tape_is_folded_nothing_is_left_beside_it() {
        let folder = folder("end");
        let mut making = Making::new(&folder);
        let mut bound = Bound::new(Place::of(&making.path).unwrap(), LEAST);
        making.go_on(50_000);
        making.cut(&mut bound);
        bound.start(making.written, true).unwrap();
        assert!(bound.is_done().is_some());
        bound.end();
        making.assert_whole();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
