//! Damage: whatever happens to a file, nothing panics or hangs, what is whole is read, and what is not is named.

mod common;

use common::forge::Forged;
use common::{blocks, small_tape, writer, Reading};
use heaptape_format::*;

/// Reads what should be a tape.
fn read(tape: &[u8]) -> Reading {
    Reading::of(tape).expect("it is still a tape")
}

/// The tape without some of its events must be read as exactly that, with exactly these missing.
fn assert_loses(reading: &Reading, whole: &Reading, numbers: impl Fn(u64) -> bool) {
    let kept: Vec<_> = whole
        .events
        .iter()
        .filter(|(number, _)| !numbers(number.get()))
        .copied()
        .collect();
    assert_eq!(reading.events, kept);
    assert_eq!(
        reading.lost(),
        Some((whole.events.len() - kept.len()) as u64),
        "{:?}",
        reading.damage
    );
    assert!(!reading.damage.is_empty());
}

/// The numbers of the events in a block.
fn events_of(block: &Block) -> std::ops::Range<u64> {
    block.first_event.get()..block.first_event.get() + u64::from(block.events)
}

/// Puts bytes of a tape together from blocks.
fn tape_of(blocks: &[Vec<u8>]) -> Vec<u8> {
    blocks.concat()
}

#[test]
fn a_tape_cut_at_any_byte_gives_the_blocks_before_the_cut() {
    let (tape, _) = small_tape();
    let whole = read(&tape);
    let found = scan(&tape).expect("it is a tape").blocks;
    for cut in 0..tape.len() {
        let reading = match Reading::of(&tape[..cut]) {
            Ok(reading) => reading,
            Err(NotATape::Empty | NotATape::Cut { .. }) => {
                assert!(cut < 96, "cut at {cut}");
                continue;
            }
            Err(other) => panic!("cut at {cut}: {other}"),
        };
        let before: Vec<_> = found
            .iter()
            .filter(|block| block.offset + block.length <= cut as u64)
            .collect();
        let events: u64 = before.iter().map(|block| u64::from(block.events)).sum();
        assert_eq!(reading.events, whole.events[..events as usize], "cut at {cut}");
        assert_eq!(
            reading.damage,
            [],
            "cut at {cut}: a tape that is still being written is not damaged"
        );
        let ends = before.last().map_or(0, |block| block.offset + block.length);
        let next = found[before.len()];
        let pending = (cut as u64 - ends >= 96).then_some(next.events);
        let expected = Ending::Unclean {
            whole: ends,
            partial: cut as u64 - ends,
            pending_events: pending,
        };
        assert_eq!(reading.ending, expected, "cut at {cut}");
    }
}

#[test]
fn a_growing_tape_followed_at_every_byte_is_read_as_in_one_scan() {
    let (tape, _) = small_tape();
    let harmed = [
        tape_without(&tape, 400..420),
        flipped(&tape, 8 * 700),
        with_inserted(&tape, 640),
        tape,
    ];
    for tape in harmed {
        let first = (1..tape.len())
            .find(|&length| scan(&tape[..length]).is_ok())
            .expect("some length is enough");
        let mut following = scan(&tape[..first]).expect("it was a tape just now");
        for length in first..=tape.len() {
            resume(&tape[..length], &mut following);
            let fresh = scan(&tape[..length]).expect("it stays a tape");
            assert_eq!(following, fresh, "at length {length}");
        }
    }
}

fn tape_without(tape: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
    [&tape[..range.start], &tape[range.end..]].concat()
}

fn with_inserted(tape: &[u8], at: usize) -> Vec<u8> {
    [&tape[..at], b"some other bytes", &tape[at..]].concat()
}

fn flipped(tape: &[u8], bit: usize) -> Vec<u8> {
    let mut tape = tape.to_vec();
    tape[bit / 8] ^= 1 << (bit % 8);
    tape
}

#[test]
fn any_flipped_bit_is_named_and_costs_no_more_than_its_block() {
    let (tape, _) = small_tape();
    let whole = read(&tape);
    let found = scan(&tape).expect("it is a tape").blocks;
    for bit in 0..8 * tape.len() {
        let reading = read(&flipped(&tape, bit));
        let hit = found
            .iter()
            .find(|block| (bit as u64 / 8) < block.offset + block.length)
            .expect("in a block");
        assert!(!reading.damage.is_empty(), "bit {bit}");
        assert_eq!(reading.header, whole.header, "bit {bit}: the header is there twice");
        let lost = events_of(hit);
        let kept: Vec<_> = whole
            .events
            .iter()
            .filter(|(number, _)| !lost.contains(&number.get()))
            .copied()
            .collect();
        assert_eq!(reading.events, kept, "bit {bit}");
        if hit.kind != BlockKind::End {
            assert_eq!(
                reading.lost(),
                Some(u64::from(hit.events)),
                "bit {bit}: {:?}",
                reading.damage
            );
        }
        assert_eq!(reading.is_clean(), hit.kind != BlockKind::End, "bit {bit}");
        let place = &reading.damage[0];
        assert!(
            (hit.offset..hit.offset + hit.length).contains(&place.offset),
            "bit {bit}: {place}"
        );
    }
}

#[test]
fn any_two_bytes_zeroed_are_named() {
    let (tape, _) = small_tape();
    let whole = read(&tape);
    for at in 0..tape.len() - 1 {
        let mut harmed = tape.clone();
        harmed[at..at + 2].fill(0);
        if harmed != tape {
            let reading = read(&harmed);
            assert!(
                !reading.damage.is_empty() && reading.events.len() < whole.events.len() + 1,
                "at {at}"
            );
        }
    }
}

#[test]
fn a_missing_block_is_counted_by_the_numbers_of_its_neighbours() {
    let (tape, _) = small_tape();
    let whole = read(&tape);
    let found = scan(&tape).expect("it is a tape").blocks;
    for (missing, block) in found.iter().enumerate().take(found.len() - 1).skip(2) {
        let mut parts = blocks(&tape);
        parts.remove(missing);
        let reading = read(&tape_of(&parts));
        let lost = events_of(block);
        assert_loses(&reading, &whole, |number| lost.contains(&number));
        assert_eq!(reading.damage.len(), 1);
        let damage = &reading.damage[0];
        assert_eq!(damage.cause, DamageCause::Missing { blocks: 1 });
        assert_eq!((damage.offset, damage.length), (block.offset, 0));
        assert!(reading.is_clean());
    }
}

#[test]
fn a_block_that_is_there_twice_is_read_once() {
    let (tape, _) = small_tape();
    let whole = read(&tape);
    for twice in 0..blocks(&tape).len() - 1 {
        let mut parts = blocks(&tape);
        parts.insert(twice + 1, parts[twice].clone());
        let reading = read(&tape_of(&parts));
        assert_loses(&reading, &whole, |_| false);
        let (expected, found) = (twice as u64 + 1, twice as u64);
        assert_eq!(reading.damage[0].cause, DamageCause::OutOfSequence { expected, found });
        assert_eq!((reading.damage.len(), &reading.records), (1, &whole.records));
    }
}

#[test]
fn blocks_out_of_their_order_are_named_and_never_read_out_of_order() {
    let (tape, _) = small_tape();
    let whole = read(&tape);
    let count = blocks(&tape).len();
    for (one, other) in (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other))) {
        let mut parts = blocks(&tape);
        parts.swap(one, other);
        let reading = read(&tape_of(&parts));
        if other < 2 {
            // The header may come in either order of its two copies.
            assert!(reading.damage.iter().all(|damage| damage.lost_events == Some(0)));
        }
        assert!(!reading.damage.is_empty(), "{one} and {other}");
        assert!(
            reading.events.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "{one} and {other}"
        );
        assert!(
            reading.events.iter().all(|event| whole.events.contains(event)),
            "{one} and {other}"
        );
    }
}

#[test]
fn a_block_of_another_tape_is_named_and_not_read() {
    let (tape, _) = small_tape();
    let whole = read(&tape);
    let mut other = Vec::new();
    let header = Header {
        writer: "other".into(),
        ..Header::default()
    };
    let mut foreign = Writer::new(&header, WriterOptions::default(), &mut other);
    let op = Op::Free { address: Address(666) };
    foreign.event(
        &Event {
            time: Micros(0),
            thread: ThreadIx(0),
            op,
        },
        &mut other,
    );
    foreign.finish(&End::default(), &mut other);
    let strangers = blocks(&other);
    for at in 1..blocks(&tape).len() {
        for stranger in &strangers {
            let mut parts = blocks(&tape);
            parts.insert(at, stranger.clone());
            let reading = read(&tape_of(&parts));
            assert_loses(&reading, &whole, |_| false);
            assert!(reading.has(|cause| *cause == DamageCause::OtherTape));
            let mut parts = blocks(&tape);
            parts[at] = stranger.clone();
            let reading = read(&tape_of(&parts));
            assert!(reading.has(|cause| *cause == DamageCause::OtherTape));
            assert!(reading.events.iter().all(|event| whole.events.contains(event)));
        }
    }
}

#[test]
fn of_concatenated_tapes_the_first_is_read_and_the_rest_named() {
    let (tape, _) = small_tape();
    let whole = read(&tape);
    let mut other = Vec::new();
    Writer::new(&Header::default(), WriterOptions::default(), &mut other).finish(&End::default(), &mut other);
    let reading = read(&[tape.clone(), other.clone()].concat());
    assert_eq!((&reading.events, reading.is_clean()), (&whole.events, true));
    assert_eq!(reading.damage.len(), 1, "{:?}", reading.damage);
    let damage = &reading.damage[0];
    assert_eq!(damage.cause, DamageCause::OtherTape);
    assert_eq!(
        (damage.offset, damage.length, damage.lost_events),
        (tape.len() as u64, other.len() as u64, Some(0))
    );
    // The same tape twice is a repetition, not an addition.
    let reading = read(&[tape.clone(), tape].concat());
    assert_eq!(reading.events, whole.events);
    assert!(reading
        .damage
        .iter()
        .all(|damage| matches!(damage.cause, DamageCause::OutOfSequence { .. })));
}

#[test]
fn a_tape_inside_a_payload_does_not_confuse_the_search() {
    let (inner, _) = small_tape();
    let mut tape = Vec::new();
    let header = Header {
        writer: "outer".into(),
        ..Header::default()
    };
    // At this level small payloads are stored as they are, so that the inner tape's blocks lie bare in the outer.
    let mut outer = Writer::new(
        &header,
        WriterOptions {
            level: -7,
            ..WriterOptions::default()
        },
        &mut tape,
    );
    let marker = record::Marker {
        process: ProcessIx(0),
        thread: None,
        name: inner.clone(),
    };
    outer.record(Micros(0), Record::Marker(marker));
    let op = Op::Free { address: Address(1) };
    outer.event(
        &Event {
            time: Micros(0),
            thread: ThreadIx(0),
            op,
        },
        &mut tape,
    );
    outer.finish(&End::default(), &mut tape);
    let found = scan(&tape).expect("it is a tape").blocks;
    let records = found
        .iter()
        .find(|block| block.kind == BlockKind::Records)
        .expect("there is one");
    assert!(
        tape.windows(8).filter(|window| **window == block::MAGIC).count() > found.len(),
        "it lies bare"
    );
    let mut harmed = tape.clone();
    harmed[records.offset as usize] ^= 1;
    let reading = read(&harmed);
    assert_eq!(
        (reading.events.len(), reading.damage.len(), reading.is_clean()),
        (1, 1, true)
    );
    assert_eq!(reading.damage[0].length, records.length);
}

#[test]
fn bytes_cut_out_or_put_in_anywhere_cost_no_more_than_the_blocks_they_touch() {
    let (tape, _) = small_tape();
    let whole = read(&tape);
    let found = scan(&tape).expect("it is a tape").blocks;
    let last = found.last().expect("there are blocks");
    for at in 1..last.offset as usize - 40 {
        for harmed in [
            with_inserted(&tape, at),
            tape_without(&tape, at..at + 7),
            tape_without(&tape, at..at + 40),
        ] {
            let reading = read(&harmed);
            assert!(!reading.damage.is_empty(), "at {at}");
            assert!(reading.is_clean(), "at {at}: {:?}", reading.damage);
            let touched = |block: &&Block| block.offset < at as u64 + 40 && block.offset + block.length >= at as u64;
            let lost: u64 = found.iter().filter(touched).map(|block| u64::from(block.events)).sum();
            assert!(
                reading.events.iter().all(|event| whole.events.contains(event)),
                "at {at}"
            );
            assert!(whole.events.len() - reading.events.len() <= lost as usize, "at {at}");
            assert_eq!(
                reading.lost(),
                Some((whole.events.len() - reading.events.len()) as u64),
                "at {at}"
            );
        }
    }
}

#[test]
fn any_range_filled_with_zeros_or_ones_is_passed_over() {
    let (tape, _) = small_tape();
    let whole = read(&tape);
    for start in (0..tape.len()).step_by(13) {
        for length in [96, 300] {
            for fill in [0, 0xff] {
                let mut harmed = tape.clone();
                let end = (start + length).min(harmed.len());
                harmed[start..end].fill(fill);
                let reading = read(&harmed);
                assert!(!reading.damage.is_empty(), "at {start}");
                assert!(reading.events.iter().all(|event| whole.events.contains(event)));
                if reading.is_clean() {
                    assert_eq!(reading.lost(), Some((whole.events.len() - reading.events.len()) as u64));
                }
            }
        }
    }
}

#[test]
fn a_lost_header_leaves_the_events_readable() {
    let (tape, _) = small_tape();
    let whole = read(&tape);
    let found = scan(&tape).expect("it is a tape").blocks;
    let harmed = &tape[found[2].offset as usize..];
    let lost = scan(harmed).expect("its blocks are there");
    assert!(lost.header_is_lost && lost.header == Header::default());
    let reading = Reading::of_scan(harmed, &lost);
    assert_eq!(reading.events, whole.events);
    assert!(reading.has(|cause| *cause == DamageCause::Missing { blocks: 2 }));
}

#[test]
fn two_writers_on_one_file_leave_one_readable_tape_and_a_named_mess() {
    let (tape, _) = small_tape();
    let whole = read(&tape);
    let mut other = Vec::new();
    Writer::new(&Header::default(), WriterOptions::default(), &mut other).finish(&End::default(), &mut other);
    let (mine, theirs) = (blocks(&tape), blocks(&other));
    let mixed: Vec<Vec<u8>> = mine
        .iter()
        .enumerate()
        .flat_map(|(at, block)| [Some(block), theirs.get(at)])
        .flatten()
        .cloned()
        .collect();
    let reading = read(&tape_of(&mixed));
    assert_loses(&reading, &whole, |_| false);
    assert_eq!(reading.damage.len(), theirs.len());
}

#[test]
fn a_writer_killed_between_any_two_of_its_writes_leaves_what_it_wrote() {
    let mut out = Vec::new();
    let mut tape = Vec::new();
    let mut writer = writer(5, &mut out);
    let mut images = Vec::new();
    for number in 0..60u64 {
        let frame = writer.frame(Frame::Raw {
            process: ProcessIx(0),
            address: Address(number),
        });
        let stack = writer.stack(StackId::ROOT, frame);
        let op = Op::Alloc {
            api: AllocApi::Malloc,
            address: Address(number),
            size: Bytes(1),
            stack,
        };
        writer.event(
            &Event {
                time: Micros(number),
                thread: ThreadIx(0),
                op,
            },
            &mut out,
        );
        if number % 11 == 0 {
            writer.flush(&mut out);
        }
        tape.append(&mut out);
        images.push((number, tape.clone()));
    }
    for (number, image) in images {
        let reading = read(&image);
        assert_eq!(reading.damage, []);
        assert!(matches!(reading.ending, Ending::Unclean { partial: 0, .. }));
        // Full blocks and flushes are there, only what is pending is not.
        let pending = number + 1 - reading.events.len() as u64;
        assert!(
            pending < 5
                && reading
                    .events
                    .iter()
                    .zip(0..)
                    .all(|((number, _), at)| number.get() == at)
        );
        let stacks = scan(&image)
            .expect("it is a tape")
            .blocks
            .last()
            .map_or(0, |block| block.stacks);
        let highest = reading.events.iter().map(|(_, event)| match event.op {
            Op::Alloc { stack, .. } => stack.get(),
            _ => 0,
        });
        assert!(
            highest.max().unwrap_or(0) <= stacks,
            "stacks come before the events that use them"
        );
    }
}

#[test]
fn what_is_no_tape_is_named_for_what_it_is() {
    let (tape, _) = small_tape();
    let error = |bytes: &[u8]| scan(bytes).expect_err("it is no tape");
    assert_eq!(error(b""), NotATape::Empty);
    assert_eq!(error(b"\x89HTA"), NotATape::Cut { length: 4 });
    assert_eq!(error(b"\x1f\x8b\x08some gzip"), NotATape::Compressed { with: "gunzip" });
    assert_eq!(
        error(&common::forge::compress(&tape)),
        NotATape::Compressed { with: "unzstd" }
    );
    assert!(matches!(error(&[0; 5000]), NotATape::NoTape { .. }));
    assert!(
        error(b"\x1b]52;c;evil\x07").to_string().contains("\\x1b]52"),
        "nothing raw comes out"
    );
    let newer = Forged {
        version: 2,
        ..Forged::like(&tape)
    }
    .block(b"whatever is in there");
    assert_eq!(error(&newer), NotATape::NewerVersion { version: 2 });
    // A tape sent as text: the line ends in the magic changed.
    let text: Vec<u8> = tape.iter().copied().filter(|&byte| byte != b'\r').collect();
    assert!(matches!(error(&text), NotATape::NoTape { .. }));
}

/// The tape with this block put in before its end, in sequence, and the end renumbered.
fn with_block(tape: &[u8], make: impl Fn(Forged) -> Vec<u8>) -> Vec<u8> {
    let mut parts = blocks(tape);
    let end = parts.pop().expect("it has an end");
    let place = Forged::like(&end);
    let made = make(place);
    let next = Forged::like(&made);
    parts.push(made);
    let content = common::forge::content(&end);
    let first_event = place.first_event + u64::from(next.events);
    parts.push(
        Forged {
            sequence: place.sequence + 1,
            first_event,
            ..place
        }
        .block(&content),
    );
    tape_of(&parts)
}

#[test]
fn unknown_optional_blocks_are_skipped_and_unknown_mandatory_ones_named() {
    let (tape, _) = small_tape();
    let whole = read(&tape);
    let optional = with_block(&tape, |place| {
        Forged {
            kind: 77,
            flags: 1,
            ..place
        }
        .block(b"from the future")
    });
    let reading = read(&optional);
    assert_eq!(
        (&reading.events, reading.damage.len(), reading.is_clean()),
        (&whole.events, 0, true)
    );
    for (forged, cause) in [
        (
            Forged {
                kind: 77,
                ..Forged::like(&tape)
            },
            DamageCause::UnknownKind { kind: 77 },
        ),
        (
            Forged {
                version: 9,
                ..Forged::like(&tape)
            },
            DamageCause::NewerVersion { version: 9 },
        ),
        (
            Forged {
                flags: 2,
                ..Forged::like(&tape)
            },
            DamageCause::Reserved,
        ),
        (
            Forged {
                reserved: 1,
                ..Forged::like(&tape)
            },
            DamageCause::Reserved,
        ),
    ] {
        let harmed = with_block(&tape, |place| {
            let Forged {
                kind,
                version,
                flags,
                reserved,
                ..
            } = forged;
            Forged {
                kind,
                version,
                flags,
                reserved,
                ..place
            }
            .block(b"from the future")
        });
        let reading = read(&harmed);
        assert_eq!(reading.damage.len(), 1);
        assert_eq!(reading.damage[0].cause, cause);
        assert_eq!(
            (reading.events.clone(), reading.lost(), reading.is_clean()),
            (whole.events.clone(), Some(0), true)
        );
    }
    let events = with_block(&tape, |place| {
        Forged {
            kind: 77,
            events: 12,
            ..place
        }
        .block(b"events of the future")
    });
    let reading = read(&events);
    assert_eq!(
        (reading.lost(), reading.damage[0].events_at),
        (Some(12), Some(EventNo(whole.events.len() as u64)))
    );
}
