//! The index of a tape says what a replay says, or is not used.

#[path = "support/answers.rs"]
mod answers;
mod support;

use answers::answers;
use heaptape::index::{open, open_within, read, write, IndexPlace, Unusable};
use heaptape::query::{overview, timeline, Query};
use heaptape::replay::replay;
use heaptape::symbols::NoSymbols;
use heaptape::table::Heap;
use heaptape::tape::Tape;
use std::fs::File;
use std::path::{Path, PathBuf};
use support::TempDir;

fn tape_of(bytes: &[u8]) -> Tape {
    Tape::from_source(Box::new(bytes.to_vec()), Path::new("test.tape")).expect("the bytes are a tape")
}

/// A heap from an index that was just written.
fn indexed(bytes: &[u8], folder: &TempDir) -> Heap {
    let tape = tape_of(bytes);
    let place = IndexPlace::Folder(folder.path().to_owned());
    let built = open(&tape, "test.tape", &place, &|_, _| ()).expect("the folder takes files");
    assert!(built.index_path().is_none());
    let heap = open(&tape, "test.tape", &place, &|_, _| ()).expect("the index is there");
    assert!(heap.index_path().is_some());
    heap
}

/// Fails with what stands around the first difference: the whole would be megabytes.
fn assert_same(one: &str, other: &str, tape: usize) {
    let at = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other);
    let from = at.count().saturating_sub(300);
    let around = |text: &str| String::from_utf8_lossy(&text.as_bytes()[from..text.len().min(from + 600)]).into_owned();
    assert!(one == other, "tape {tape}:\n{}\n\n{}", around(one), around(other));
}

fn tapes() -> Vec<Vec<u8>> {
    let mut damaged = support::service();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x11;
    let mut cut = support::python_service();
    cut.truncate(cut.len() * 2 / 3);
    vec![
        support::service(),
        support::python_service(),
        damaged,
        cut,
        support::busy(400_000),
    ]
}

#[test]
fn every_answer_from_an_index_is_that_of_a_replay() {
    let folder = TempDir::new("index-answers");
    for (number, bytes) in tapes().iter().enumerate() {
        let replayed = replay(&tape_of(bytes), "test.tape", &|_, _| ());
        let heap = indexed(bytes, &folder);
        assert_eq!(heap.allocations, replayed.allocations, "tape {number}");
        assert_eq!(heap.clock, replayed.clock, "tape {number}");
        assert_eq!(heap.damage, replayed.damage, "tape {number}");
        assert_eq!(heap.gaps, replayed.gaps, "tape {number}");
        assert_eq!(heap.notes(), replayed.notes(), "tape {number}");
        assert_same(&answers(&heap), &answers(&replayed), number);
        assert!(!heap.index_is_bad(), "tape {number}");
        let (long, short) = (timeline(&heap, &Query::default(), 9, &NoSymbols), overview(&heap));
        assert_eq!((short.peak, short.end), (long.peak, long.end), "tape {number}");
        assert_eq!(short.markers, long.markers, "tape {number}");
    }
}

#[test]
fn a_table_that_is_kept_on_disk_gives_the_same_index_and_answers_and_leaves_nothing() {
    for (number, bytes) in tapes().iter().enumerate() {
        let tape = tape_of(bytes);
        let build = |memory: u64| {
            let folder = TempDir::new(&format!("index-memory-{memory}"));
            let place = IndexPlace::Folder(folder.path().to_owned());
            let heap = open_within(&tape, "test.tape", &place, memory, &|_, _| ()).expect("the folder takes files");
            // What was kept on disk is dropped for the index.
            assert_eq!(heap.index_path().is_some(), memory == 0, "tape {number}");
            let index = std::fs::read(only_file(&folder)).expect("an index was written");
            (answers(&heap), index)
        };
        assert!(build(0) == build(u64::MAX), "tape {number}");
        let folder = TempDir::new("index-memory-none");
        let path = folder.path().join("test.tape");
        let replayed = open_within(&tape, &path, &IndexPlace::Nowhere, 0, &|_, _| ()).expect("it takes files");
        assert!(
            answers(&replayed) == answers(&replay(&tape, &path.to_string_lossy(), &|_, _| ())),
            "tape {number}"
        );
        assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0);
    }
}

#[test]
fn an_index_is_the_same_for_any_number_of_threads() {
    let bytes = support::busy(200_000);
    let tape = tape_of(&bytes);
    let build = |threads: usize| {
        let folder = TempDir::new(&format!("index-threads-{threads}"));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool");
        pool.install(|| {
            let place = IndexPlace::Folder(folder.path().to_owned());
            open(&tape, "test.tape", &place, &|_, _| ()).expect("the folder takes files");
        });
        std::fs::read(only_file(&folder)).expect("an index was written")
    };
    let one = build(1);
    for threads in [2, 3, 4, 8, 16] {
        assert!(build(threads) == one, "{threads} threads");
    }
}

fn only_file(folder: &TempDir) -> PathBuf {
    let mut files = std::fs::read_dir(folder.path()).expect("the folder is there");
    let file = files.next().expect("it has a file").expect("that can be listed").path();
    assert!(files.next().is_none(), "one file and nothing else");
    file
}

#[test]
fn an_index_of_another_state_of_the_tape_is_not_used() {
    let folder = TempDir::new("index-stale");
    let bytes = support::service();
    indexed(&bytes, &folder);
    let file = only_file(&folder);
    let grown = [&bytes[..], &[0; 10]].concat();
    let mut flipped = bytes.clone();
    let last = flipped.len() - 100;
    flipped[last] ^= 1;
    for other in [grown, flipped, support::python_service()] {
        let found = read(&tape_of(&other), "test.tape", &file);
        assert!(matches!(found, Err(Unusable::Stale)), "{:?}", found.err());
    }
}

#[test]
fn a_damaged_index_is_noticed_and_never_panics() {
    let folder = TempDir::new("index-damaged");
    let bytes = support::service();
    let good = answers(&indexed(&bytes, &folder));
    let file = only_file(&folder);
    let index = std::fs::read(&file).expect("it can be read");
    let tape = tape_of(&bytes);
    let other = folder.path().join("other");
    let mut refused = 0;
    for at in (0..index.len()).step_by(5) {
        let mut broken = index.clone();
        broken[at] ^= 0x80;
        std::fs::write(&other, &broken).expect("it can be written");
        match read(&tape, "test.tape", &other) {
            Err(_) => refused += 1,
            // Flips between two columns hurt nobody; all others are seen when their column is used.
            Ok(heap) if at % 95 == 0 => assert!(answers(&heap) == good || heap.index_is_bad(), "byte {at}"),
            Ok(_) => {}
        }
    }
    assert!(refused > 20);
    for length in (0..index.len()).step_by(101) {
        std::fs::write(&other, &index[..length]).expect("it can be written");
        assert!(read(&tape, "test.tape", &other).is_err(), "cut at {length}");
    }
}

#[test]
fn numbers_that_the_tape_does_not_have_are_refused_even_with_good_checksums() {
    // The index of a tape with more stacks and types, stamped as that of another.
    let folder = TempDir::new("index-hostile");
    let (rich, poor) = (support::python_service(), support::busy(1));
    let heap = replay(&tape_of(&rich), "test.tape", &|_, _| ());
    let file = folder.path().join("hostile");
    let tape = tape_of(&poor);
    write(&tape, &heap, &mut File::create(&file).expect("it can be made")).expect("it can be written");
    let found = read(&tape, "test.tape", &file);
    let noticed = match found {
        Err(_) => true,
        Ok(heap) => {
            answers(&heap);
            heap.index_is_bad()
        }
    };
    assert!(noticed);
}

#[test]
fn builders_at_once_leave_one_whole_index_and_what_a_killed_one_left_is_removed() {
    let folder = TempDir::new("index-race");
    let bytes = support::service();
    let place = IndexPlace::Folder(folder.path().to_owned());
    let tape = tape_of(&bytes);
    let file = place.candidates(Path::new("test.tape")).remove(0);
    let mut left = file.clone().into_os_string();
    // No process has this number.
    left.push(".4294967295-0.tmp");
    std::fs::write(&left, b"HTINDEX").expect("it can be written");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| open(&tape, "test.tape", &place, &|_, _| ()).expect("the folder takes files"));
        }
    });
    assert_eq!(only_file(&folder), file);
    assert!(read(&tape, "test.tape", &file).is_ok());
}

#[test]
fn a_file_that_is_no_index_is_not_overwritten() {
    let folder = TempDir::new("index-foreign");
    let place = IndexPlace::Folder(folder.path().to_owned());
    let file = place.candidates(Path::new("test.tape")).remove(0);
    std::fs::write(&file, b"somebody's").expect("it can be written");
    let refused = open(&tape_of(&support::service()), "test.tape", &place, &|_, _| ()).expect_err("it is refused");
    assert!(refused.to_string().contains("no index"), "{refused}");
    assert_eq!(std::fs::read(&file).expect("it is there"), b"somebody's");
}
