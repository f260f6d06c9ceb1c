//! Tapes of every version stay readable, for ever, and the writer keeps its bytes.

mod common;

use common::{small_tape, Reading};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/golden/v1.tape");
const LISTING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/golden/v1.txt");

const FOLDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/golden/v1-folded.tape");
const FOLDED_LISTING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/golden/v1-folded.txt");

/// Every event and record of a tape, one a line.
fn listing(reading: &Reading) -> String {
    let records = reading.records.iter().map(|placed| format!("{placed:?}"));
    let events = reading
        .events
        .iter()
        .map(|(number, event)| format!("{} {event:?}", number.get()));
    let kept = reading.kept.iter().flat_map(|(events, span)| {
        let events = events
            .iter()
            .map(|(number, event)| format!("kept {} {event:?}", number.get()));
        std::iter::once(format!("keyframe for {span}")).chain(events)
    });
    let folded = reading.folded.iter().map(|folded| format!("{folded:?}"));
    let ending = format!("{:?}", reading.ending);
    let header = format!("{:?}", reading.header);
    std::iter::once(header)
        .chain(records)
        .chain(kept)
        .chain(folded)
        .chain(events)
        .chain([ending])
        .map(|line| line + "\n")
        .collect()
}

/// To make them for a new version: `HEAPTAPE_GOLDEN=write cargo test -p heaptape-format --test golden`.
fn is_writing() -> bool {
    std::env::var_os("HEAPTAPE_GOLDEN").is_some_and(|value| value == "write")
}

#[test]
fn the_golden_tape_of_version_1_is_read_exactly_as_listed() {
    assert_golden(GOLDEN, LISTING, || small_tape().0);
}

#[test]
fn the_golden_tape_that_begins_with_a_keyframe_is_read_exactly_as_listed() {
    assert_golden(FOLDED, FOLDED_LISTING, common::folded_tape);
}

fn assert_golden(golden: &str, listed: &str, make: impl Fn() -> Vec<u8>) {
    if is_writing() {
        let tape = make();
        std::fs::write(listed, listing(&Reading::of(&tape).expect("it is a tape"))).expect("the listing is writable");
        std::fs::write(golden, tape).expect("the golden tape is writable");
    }
    let tape = std::fs::read(golden).expect("the golden tape is there");
    let reading = Reading::of(&tape).expect("it is a tape");
    assert_eq!(reading.damage, []);
    assert_eq!(
        listing(&reading),
        std::fs::read_to_string(listed).expect("its listing is there")
    );
}

#[test]
fn the_writer_still_writes_the_golden_tapes_content() {
    // The compressed bytes may change with zstd; what they hold may not, nor anything in the headers but lengths and checksums.
    let golden = std::fs::read(GOLDEN).expect("the golden tape is there");
    let (tape, events) = small_tape();
    let (old, new) = (common::blocks(&golden), common::blocks(&tape));
    assert_eq!(old.len(), new.len());
    for (old, new) in old.iter().zip(&new) {
        assert_eq!(common::forge::content(old), common::forge::content(new));
        assert_eq!(
            (&old[..12], &old[16..20], &old[24..92]),
            (&new[..12], &new[16..20], &new[24..92])
        );
    }
    let read = Reading::of(&golden).expect("it is a tape").events;
    assert!(read.iter().map(|&(_, event)| event).eq(events));
}
