//! The power fails while a tape is folded, or while the next file of a recording is made: a model of the disk is told of every call, and is asked after each of them what
//! could be found. Of what was not waited for, any part may be there: of a file some pages and a length that need not fit, of a folder some of the changes of names.

use super::testing::{address, folder, wait_for, Making};
use super::{Bound, Folding, Place, Rotation, Turn, LEAST};
use heaptape_format::{read_events, scan, BlockKind, Chain, EventColumns, Part, Source};
use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};

/// Bytes that reach the disk together, or not.
const PAGE: usize = 1024;
/// Images that are tried of every state of every file.
const IMAGES: u64 = 3;

/// What is done to the disk. Files are named by their numbers.
#[derive(Clone, Debug)]
enum Act {
    Created(OsString, usize),
    Wrote(usize, Vec<u8>),
    Synced(usize),
    Renamed(OsString, OsString),
    Removed(OsString),
    SyncedFolder,
    /// Whatever happens from now on, so many events are there.
    Promised(u64),
}

#[derive(Debug, Default)]
struct Journal {
    acts: Vec<Act>,
    files: usize,
}

/// Notes what is done.
#[derive(Clone, Debug, Default)]
pub struct Witness(Arc<Mutex<Journal>>);

impl Witness {
    fn note(&self, act: impl FnOnce(&mut Journal) -> Act) {
        let mut journal = self.0.lock().unwrap();
        let act = act(&mut journal);
        journal.acts.push(act);
    }

    /// The file that was made last.
    pub(super) fn latest(&self) -> usize {
        self.0.lock().unwrap().files - 1
    }

    pub(super) fn created(&self, name: &OsStr) {
        self.note(|journal| {
            journal.files += 1;
            Act::Created(name.to_owned(), journal.files - 1)
        });
    }

    pub(super) fn wrote(&self, bytes: &[u8]) {
        self.wrote_to(self.latest(), bytes);
    }

    pub(super) fn wrote_to(&self, file: usize, bytes: &[u8]) {
        self.note(|_| Act::Wrote(file, bytes.to_vec()));
    }

    pub(super) fn synced(&self) {
        self.synced_one(self.latest());
    }

    pub(super) fn synced_one(&self, file: usize) {
        self.note(|_| Act::Synced(file));
    }

    pub(super) fn renamed(&self, from: &OsStr, to: &OsStr) {
        self.note(|_| Act::Renamed(from.to_owned(), to.to_owned()));
    }

    pub(super) fn removed(&self, name: &OsStr) {
        self.note(|_| Act::Removed(name.to_owned()));
    }

    pub(super) fn synced_folder(&self) {
        self.note(|_| Act::SyncedFolder);
    }

    pub(super) fn promised(&self, events: u64) {
        self.note(|_| Act::Promised(events));
    }

    fn acts(&self) -> Vec<Act> {
        self.0.lock().unwrap().acts.clone()
    }
}

/// A change of names in the folder.
#[derive(Clone)]
enum Change {
    Set(OsString, usize),
    Unset(OsString),
    Move(OsString, OsString, usize),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<OsString, usize>) {
        match self {
            Change::Set(name, file) => drop(names.insert(name.clone(), *file)),
            Change::Unset(name) => drop(names.remove(name)),
            Change::Move(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

/// What was written to a file.
#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: usize,
}

impl Content {
    /// What may be found of it.
    fn image(&self, dice: &mut u64) -> Vec<u8> {
        let mut below = |limit: usize| {
            *dice ^= *dice << 13;
            *dice ^= *dice >> 7;
            *dice ^= *dice << 17;
            (*dice >> 11) as usize % limit
        };
        let length = match below(3) {
            0 => self.synced,
            1 => self.bytes.len(),
            _ => self.synced + below(self.bytes.len() - self.synced + 1),
        };
        let mut image = self.bytes[..length].to_vec();
        for page in self.synced / PAGE..length.div_ceil(PAGE) {
            let (from, until) = ((page * PAGE).max(self.synced), ((page + 1) * PAGE).min(length));
            if below(2) == 0 {
                image[from..until].fill(0);
            }
        }
        image
    }
}

/// The disk.
#[derive(Default)]
struct Disk {
    files: Vec<Content>,
    /// Names that are surely there.
    names: BTreeMap<OsString, usize>,
    /// Names as programs see them.
    seen: BTreeMap<OsString, usize>,
    pending: Vec<Change>,
    promised: u64,
}

impl Disk {
    fn take(&mut self, act: Act) {
        let change = match act {
            Act::Created(name, file) => {
                assert_eq!(file, self.files.len());
                self.files.push(Content::default());
                Change::Set(name, file)
            }
            Act::Renamed(from, to) => {
                let file = self.seen[&from];
                Change::Move(from, to, file)
            }
            Act::Removed(name) => Change::Unset(name),
            Act::Wrote(file, bytes) => return self.files[file].bytes.extend_from_slice(&bytes),
            Act::Synced(file) => {
                self.files[file].synced = self.files[file].bytes.len();
                return;
            }
            Act::SyncedFolder => {
                self.pending.clear();
                self.names = self.seen.clone();
                return;
            }
            Act::Promised(events) => {
                self.promised = events;
                return;
            }
        };
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    /// The folders that may be found.
    fn folders(&self) -> HashSet<BTreeMap<OsString, usize>> {
        let changes = self.pending.len();
        assert!(changes < 8, "the folder is never waited for");
        let folder = |chosen: u32| {
            let mut names = self.names.clone();
            let there = self.pending.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1);
            there.for_each(|(_, change)| change.apply(&mut names));
            names
        };
        (0..1 << changes).map(folder).collect()
    }
}

/// So many events of a tape are there without a gap, in a keyframe or as they are; all that are there are as they were written.
fn covered(tape: &[u8]) -> u64 {
    let found = scan(tape).expect("it begins like a tape");
    let mut columns = EventColumns::default();
    let mut next = 0;
    for block in &found.blocks {
        if !matches!(block.kind, BlockKind::Events | BlockKind::Keyframe)
            || read_events(tape, block, &mut columns).is_err()
        {
            continue;
        }
        for (index, event) in columns.iter().enumerate() {
            let number = columns.number(index).get();
            assert_eq!((event.time.get(), columns.address[index]), (number, address(number)));
        }
        if block.first_event.get() == next {
            next += u64::from(block.span());
        }
    }
    next
}

/// Asks, after every call that decides over something, of everything that may be found.
fn fail_everywhere(witness: &Witness, check: impl Fn(&BTreeMap<OsString, usize>, &[Vec<u8>], u64)) -> usize {
    let mut disk = Disk::default();
    let mut acts = witness.acts().into_iter().peekable();
    // The tape was begun before: that, its file and its name are on the disk.
    for act in acts.by_ref() {
        let is_begun = matches!(act, Act::Promised(_));
        disk.take(act);
        if is_begun {
            break;
        }
    }
    let mut dice = 88_172_645_463_325_252;
    let mut tried = HashSet::new();
    while let Some(act) = acts.next() {
        disk.take(act);
        if matches!(acts.peek(), Some(Act::Wrote(..))) {
            // What may be found now may also be found after that.
            continue;
        }
        for names in disk.folders() {
            let tapes = names.iter().filter(|(name, _)| !name.as_bytes().starts_with(b"."));
            let state: Vec<(OsString, usize, usize, usize)> = tapes
                .map(|(name, &file)| {
                    (
                        name.clone(),
                        file,
                        disk.files[file].synced,
                        disk.files[file].bytes.len(),
                    )
                })
                .collect();
            if !tried.insert((state.clone(), disk.promised)) {
                continue;
            }
            for _ in 0..IMAGES {
                let mut images = vec![Vec::new(); disk.files.len()];
                for (_, file, ..) in &state {
                    images[*file] = disk.files[*file].image(&mut dice);
                }
                check(&names, &images, disk.promised);
            }
        }
    }
    tried.len()
}

#[test]
fn whatever_reaches_the_disk_while_a_tape_is_folded_there_is_a_whole_tape_with_what_was_there_before() {
    let folder = folder("power-bound");
    let mut making = Making::new(&folder);
    making.synced();
    let mut place = Place::of(&making.path).unwrap();
    place.witness = making.witness.clone();
    let mut bound = Bound::new(place, 0);
    bound.limit = LEAST / 2;
    let mut exchanges = 0;
    for step in 0.. {
        making.go_on(3000);
        if step % 5 == 0 {
            making.synced();
        }
        if bound.wants_cut(making.written) {
            making.cut(&mut bound);
        }
        bound.start(making.written, false).unwrap();
        if bound.is_done().is_some() {
            making.go_on(800);
            making.synced();
            wait_for(&bound);
            making.go_on(700);
            if making.exchange(&mut bound) {
                // It was waited for as a whole.
                making.witness.promised(making.events);
                exchanges += 1;
            }
        }
        if exchanges == 2 {
            break;
        }
    }
    making.go_on(1500);
    let tried = fail_everywhere(&making.witness, |names, images, promised| {
        let found = covered(&images[names[OsStr::new("a.tape")]]);
        assert!(found >= promised, "{found} events of {promised}");
    });
    assert!(tried > 5, "{tried} states");
    std::fs::remove_dir_all(folder).unwrap();
}

/// Rotates a recording, whose collector waits for the disk or not when a file is closed.
fn rotate(name: &str, keep: Option<u32>, waits: bool) {
    let folder = folder(name);
    let mut making = Making::new(&folder);
    let first = folder.join("a.000001.tape");
    std::fs::rename(&making.path, &first).unwrap();
    making
        .witness
        .renamed(OsStr::new("a.tape"), OsStr::new("a.000001.tape"));
    making.path = first;
    making.waits = waits;
    making.witness.synced_folder();
    making.synced();
    let mut place = Place::of(&making.path).unwrap();
    place.witness = making.witness.clone();
    let turn = Turn {
        size: Some(LEAST / 64),
        time: None,
    };
    let mut rotation = Rotation::new(place, "a.tape".into(), turn, keep);
    let mut exchanges = 0;
    for step in 0.. {
        making.go_on(500);
        if waits && step % 4 == 0 {
            making.synced();
        }
        if rotation.wants_cut(making.written) {
            making.go_on(300);
            making.cut(&mut rotation);
        }
        rotation.start(making.written, false).unwrap();
        if rotation.is_done().is_some() {
            making.go_on(400);
            wait_for(&rotation);
            making.go_on(300);
            assert!(making.exchange(&mut rotation));
            if waits {
                making.witness.promised(making.events);
            }
            exchanges += 1;
        }
        if exchanges == 2 {
            break;
        }
    }
    making.go_on(500);
    let tried = fail_everywhere(&making.witness, |names, images, promised| {
        let numbered = names.iter().filter_map(|(name, &file)| {
            let number = Part::number(b"a.tape", name.as_bytes())?;
            Some((number, &images[file]))
        });
        let files: Vec<(u32, &Vec<u8>)> = numbered.collect();
        let numbers: Vec<u32> = files.iter().map(|(number, _)| *number).collect();
        let first = numbers[0];
        assert!(
            numbers.iter().copied().eq(first..first + files.len() as u32),
            "{numbers:?}"
        );
        assert!(keep.map_or(first == 1, |keep| files.len() >= keep as usize || first == 1));
        // Each is a tape of its own, and the latest has what was promised.
        let each: Vec<u64> = files.iter().map(|(_, image)| covered(image)).collect();
        let latest = each.last().copied().unwrap_or(0);
        assert!(latest >= promised, "{latest} events of {promised}");
        let parts = files
            .iter()
            .map(|(_, image)| ((*image).clone(), scan(image.as_slice()).unwrap()));
        let chain = Chain::new(parts.collect(), first).expect("they are files of one recording");
        let mut together = vec![0; chain.len() as usize];
        chain.read_at(0, &mut together).unwrap();
        let all = covered(&together);
        assert!(all >= promised, "{all} events of {promised} in files {numbers:?}");
    });
    assert!(tried > 5, "{tried} states");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn whatever_reaches_the_disk_while_the_next_file_is_made_all_files_hold_what_was_there_before() {
    rotate("power-rotation", None, true);
    rotate("power-kept", Some(2), true);
}

#[test]
fn a_recording_that_never_waits_for_the_disk_has_whole_files_that_follow_each_other() {
    rotate("power-unsynced", None, false);
}
