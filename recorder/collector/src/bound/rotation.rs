//! A recording in several files: when one is full or old enough, the next begins with a keyframe of all that was before.
//!
//! ```text
//!   svc.000001.tape           | blocks ...        | what comes while the thread works |
//!   .svc.000002.tape.folding  |keyframe of all before the cut| the same |    made by a thread
//!   then the second gets its name, the first its end, and the recording goes on in the second
//! ```
//! Nothing of a file that has its name is ever taken back: what a reader has opened stays as it is, and a power cut at any moment leaves files that can be read as one. What both have
//! is known by what the second says of itself ([`Part`]).

use super::fold::{Fold, Wishes};
use super::{Cut, Exchanged, Folding, Place, Work};
use heaptape_format::Part;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, Instant};

/// When a file has had its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// When it has so many bytes.
    pub size: Option<u64>,
    /// When it has been written to for so long.
    pub time: Option<Duration>,
}

/// Cuts a recording into files.
pub struct Rotation {
    turn: Turn,
    /// So many files are kept, with the one that is being written.
    keep: Option<u32>,
    /// The name of the recording.
    recording: OsString,
    place: Place,
    number: u32,
    begun: Instant,
    /// Bytes of the file that are a keyframe.
    keyframe: u64,
    /// Where the next file begins.
    cut: Option<Cut>,
    work: Option<Work>,
}

impl Rotation {
    /// For a recording whose first file lies at this place and was just begun.
    pub fn new(place: Place, recording: OsString, turn: Turn, keep: Option<u32>) -> Rotation {
        Rotation {
            turn,
            keep,
            recording,
            place,
            number: 1,
            begun: Instant::now(),
            keyframe: 0,
            cut: None,
            work: None,
        }
    }

    fn name(&self, number: u32) -> OsString {
        OsString::from_vec(Part::name(self.recording.as_bytes(), number))
    }

    fn next(&self) -> io::Result<Place> {
        self.place.sibling(self.name(self.number + 1))
    }

    /// The length at which it is full. A keyframe that takes most of the size leaves room for half of it.
    fn full(&self) -> Option<u64> {
        self.turn.size.map(|size| size.max(self.keyframe + size / 2))
    }
}

impl Folding for Rotation {
    fn wants_cut(&self, written: u64) -> bool {
        let is_full = self.full().is_some_and(|full| written >= full);
        let is_old = self.turn.time.is_some_and(|time| self.begun.elapsed() >= time);
        self.cut.is_none() && written > self.keyframe && (is_full || is_old)
    }

    fn cut(&mut self, cut: Cut) {
        self.cut = Some(cut);
    }

    fn start(&mut self, written: u64, _: bool) -> io::Result<()> {
        if let Some(work) = &self.work {
            work.wrote(written);
        }
        let Some(cut) = self.cut.filter(|_| self.work.is_none()) else {
            return Ok(());
        };
        let fold = Fold {
            tape: self.place.open()?,
            to: self.next()?.beside()?,
            cut: cut.offset,
            generation: cut.generation,
            part: Some(Part {
                number: self.number + 1,
                continues: cut.sequence,
            }),
            room: u64::MAX,
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

    /// A file does not grow beyond twice its size while the next one is being made.
    fn is_pressing(&self, written: u64) -> bool {
        self.full().is_some_and(|full| written >= full.saturating_mul(2))
    }

    fn exchange(&mut self, written: u64) -> io::Result<Option<Exchanged>> {
        let Some(work) = self.work.take() else {
            return Ok(None);
        };
        let cut = work.cut;
        let next = self.next()?;
        let made = work.result().and_then(|mut folded| {
            folded.take_rest(self.place.open()?, written, cut.generation)?;
            if next.is_taken() {
                return Err(io::Error::other(
                    "somebody has made a file of the name that the next file of the recording was to have",
                ));
            }
            next.exchange()?;
            Ok(folded)
        });
        let folded = made.inspect_err(|_| next.remove_beside())?;
        self.place = next;
        self.number += 1;
        self.begun = Instant::now();
        self.keyframe = folded.keyframe;
        self.cut = None;
        if let Some(gone) = self.keep.and_then(|keep| self.number.checked_sub(keep)) {
            self.place.remove(&self.name(gone));
        }
        Ok(Some(Exchanged {
            file: folded.file.into_file(),
            length: folded.length,
            stamp: folded.stamp,
            generation: cut.generation,
            goes_on: true,
        }))
    }

    fn end(&mut self) {
        if let (Some(work), Ok(next)) = (self.work.take(), self.next()) {
            work.give_up(&next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{folder, wait_for, Making};
    use super::super::LEAST;
    use super::*;
    use heaptape_format::record::End;
    use heaptape_format::{read_events, scan, Chain, Ending, Event, EventColumns, EventNo, Source};
    use std::fs;
    use std::io::Write;
    use std::path::{Path, PathBuf};

    /// A tape in the making whose file has the name of the first of a recording.
    fn begin(folder: &Path) -> Making {
        let mut making = Making::new(folder);
        let first = folder.join("a.000001.tape");
        fs::rename(&making.path, &first).unwrap();
        making.path = first;
        making
    }

    fn rotation(making: &Making, size: u64, keep: Option<u32>) -> Rotation {
        let turn = Turn {
            size: Some(size),
            time: None,
        };
        Rotation::new(Place::of(&making.path).unwrap(), "a.tape".into(), turn, keep)
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// The files read as one tape.
    fn joined(folder: &Path, first: u32) -> Vec<u8> {
        let read = |file: PathBuf| {
            let bytes = fs::read(file).unwrap();
            let found = scan(&bytes).unwrap();
            assert_eq!(found.damage, []);
            (bytes, found)
        };
        let chain = Chain::new(files(folder).into_iter().map(read).collect(), first).unwrap();
        let mut bytes = vec![0; chain.len() as usize];
        chain.read_at(0, &mut bytes).unwrap();
        bytes
    }

    fn events(tape: &[u8]) -> Vec<(EventNo, Event)> {
        let found = scan(tape).unwrap();
        assert_eq!(found.damage, []);
        let mut columns = EventColumns::default();
        let mut events = Vec::new();
        for block in found.blocks.iter().filter(|block| block.events > 0) {
            read_events(tape, block, &mut columns).unwrap();
            events.extend((0..columns.len()).map(|at| columns.number(at)).zip(columns.iter()));
        }
        events
    }

    /// Writes as the collector does, in steps, until there are so many files.
    fn go_on_until(making: &mut Making, rotation: &mut Rotation, number: u32) {
        while rotation.number < number {
            making.go_on(4000);
            if rotation.wants_cut(making.written) {
                making.cut(rotation);
            }
            rotation.start(making.written, false).unwrap();
            if rotation.is_done().is_some() {
                // What is written meanwhile is in both files.
                making.go_on(1500);
                wait_for(rotation);
                making.go_on(700);
                assert!(!rotation.is_pressing(making.written));
                assert!(making.exchange(rotation));
                making.path.set_file_name(rotation.name(rotation.number));
                making.assert_whole();
            }
        }
    }

    fn finish(mut making: Making) -> u64 {
        let mut last = Vec::new();
        making.writer.finish(&End::default(), &mut last);
        making.file.write_all(&last).unwrap();
        making.events
    }

    #[test]
    fn the_files_of_a_recording_hold_together_what_one_tape_of_the_same_run_holds() {
        let folder = folder("rotated");
        let mut making = begin(&folder);
        let mut rotation = rotation(&making, LEAST / 8, None);
        go_on_until(&mut making, &mut rotation, 6);
        making.go_on(3000);
        let count = finish(making);
        assert_eq!(files(&folder).len(), 6);
        for file in files(&folder) {
            let bytes = fs::read(file).unwrap();
            assert!(matches!(scan(&bytes).unwrap().ending, Ending::Clean(_)));
        }
        let one = super::super::testing::folder("not-rotated");
        let mut whole = Making::new(&one);
        whole.go_on(count);
        let path = whole.path.clone();
        finish(whole);
        let (rotated, whole) = (events(&joined(&folder, 1)), events(&fs::read(path).unwrap()));
        assert_eq!(rotated.len() as u64, count);
        // Stacks are numbered anew in each file.
        let what = |(number, event): &(EventNo, Event)| {
            let words = format!("{:?}", event.op);
            let words = words.split(", stack").next().map(str::to_owned);
            (*number, event.time, event.thread, words)
        };
        assert!(rotated.iter().map(what).eq(whole.iter().map(what)));
        fs::remove_dir_all(folder).unwrap();
        fs::remove_dir_all(one).unwrap();
    }

    #[test]
    fn of_the_files_the_latest_are_kept_and_each_begins_with_all_that_is_alive() {
        let folder = folder("kept");
        let mut making = begin(&folder);
        let mut rotation = rotation(&making, LEAST / 8, Some(2));
        go_on_until(&mut making, &mut rotation, 5);
        finish(making);
        let names = [folder.join("a.000004.tape"), folder.join("a.000005.tape")];
        assert_eq!(files(&folder), names);
        let found = scan(&joined(&folder, 4)[..]).unwrap();
        assert!(found.damage.is_empty() && matches!(found.ending, Ending::Clean(_)));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_somebody_else_has_made_is_not_overwritten() {
        let folder = folder("foreign");
        let mut making = begin(&folder);
        let mut rotation = rotation(&making, LEAST / 8, None);
        fs::write(folder.join("a.000002.tape"), b"precious").unwrap();
        making.go_on(50_000);
        making.cut(&mut rotation);
        rotation.start(making.written, false).unwrap();
        wait_for(&rotation);
        assert!(rotation.exchange(making.written).is_err());
        assert_eq!(fs::read(folder.join("a.000002.tape")).unwrap(), b"precious");
        assert_eq!(files(&folder).len(), 2, "nothing is left beside them");
        making.assert_whole();
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_recording_that_ends_while_the_next_file_is_made_ends_in_the_old_one() {
        let folder = folder("ended");
        let mut making = begin(&folder);
        let mut rotation = rotation(&making, LEAST / 8, None);
        making.go_on(50_000);
        making.cut(&mut rotation);
        rotation.start(making.written, false).unwrap();
        rotation.end();
        making.assert_whole();
        assert_eq!(files(&folder).len(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_is_cut_when_it_is_old_enough_however_small_it_is() {
        let folder = folder("old");
        let making = begin(&folder);
        let turn = |time| Turn {
            size: None,
            time: Some(time),
        };
        let place = || Place::of(&making.path).unwrap();
        let old = Rotation::new(place(), "a.tape".into(), turn(Duration::ZERO), None);
        assert!(old.wants_cut(making.written));
        let young = Rotation::new(place(), "a.tape".into(), turn(Duration::from_secs(3600)), None);
        assert!(!young.wants_cut(u64::MAX / 2) && !young.is_pressing(u64::MAX / 2));
        fs::remove_dir_all(folder).unwrap();
    }
}
