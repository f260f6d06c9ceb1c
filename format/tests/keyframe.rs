//! Keyframes under damage and in hostile tapes: nothing panics, and what is wrong is named.

mod common;

use common::forge::{content, put_varint, Forged};
use common::{blocks, folded_tape, Reading};
use heaptape_format::*;

const KEYFRAME: u8 = 6;
const FOLDED: u8 = 8;
const EVENTS: u8 = 4;

fn read(tape: &[u8]) -> Reading {
    Reading::of(tape).expect("it is a tape")
}

/// The folded tape with its first block of this kind made anew.
fn with(kind: u8, make: impl Fn(Forged, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let mut parts = blocks(&folded_tape());
    let block = parts.iter_mut().find(|block| block[9] == kind);
    let block = block.expect("there is one of each kind");
    *block = make(Forged::like(block), content(block));
    parts.concat()
}

fn causes(tape: &[u8]) -> Vec<DamageCause> {
    read(tape).damage.into_iter().map(|damage| damage.cause).collect()
}

fn is_header(cause: &DamageCause) -> bool {
    matches!(cause, DamageCause::Header { .. })
}

fn is_content(cause: &DamageCause) -> bool {
    matches!(cause, DamageCause::Content { .. })
}

/// The numbers of a keyframe's payload, and what follows them.
fn numbers(raw: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let length = raw[0] as usize;
    assert!(length < 0x80);
    (raw[1..=length].to_vec(), raw[1 + length..].to_vec())
}

fn payload(numbers: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    put_varint(&mut raw, numbers.len() as u64);
    [&raw, numbers, rest].concat()
}

#[test]
fn a_folded_tape_cut_at_any_byte_gives_the_blocks_before_the_cut() {
    let tape = folded_tape();
    let whole = read(&tape);
    let found = scan(&tape).expect("it is a tape").blocks;
    for cut in 96..tape.len() {
        let reading = read(&tape[..cut]);
        let before = found.iter().filter(|block| block.offset + block.length <= cut as u64);
        let (mut events, mut kept) = (0, 0);
        for block in before {
            match block.kind {
                BlockKind::Events => events += block.events as usize,
                BlockKind::Keyframe => kept += 1,
                _ => {}
            }
        }
        assert_eq!(reading.events, whole.events[..events], "cut at {cut}");
        assert_eq!(reading.kept, whole.kept[..kept], "cut at {cut}");
        assert_eq!(reading.damage, [], "cut at {cut}");
        assert!(!reading.is_clean(), "cut at {cut}");
    }
}

#[test]
fn any_flipped_bit_of_a_folded_tape_is_named_and_costs_no_more_than_its_block() {
    let tape = folded_tape();
    let whole = read(&tape);
    let found = scan(&tape).expect("it is a tape").blocks;
    for bit in 0..8 * tape.len() {
        let mut flipped = tape.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let reading = read(&flipped);
        assert!(!reading.damage.is_empty(), "bit {bit}");
        let hit = found
            .iter()
            .find(|block| (bit as u64 / 8) < block.offset + block.length);
        let hit = hit.expect("in a block");
        let lost = hit.first_event.get()..hit.first_event.get() + u64::from(hit.span());
        let left = whole.events.iter().filter(|(number, _)| !lost.contains(&number.get()));
        assert!(reading.events.iter().eq(left), "bit {bit}");
        let kept = whole
            .kept
            .iter()
            .filter(|(events, _)| !events.iter().any(|(number, _)| lost.contains(&number.get())));
        assert!(reading.kept.iter().eq(kept), "bit {bit}");
        assert_eq!(reading.folded.is_some(), hit.kind != BlockKind::Folded, "bit {bit}");
    }
}

/// What is done to the bytes of a block.
type Change = fn(&[u8]) -> Vec<u8>;

#[test]
fn numbers_that_cannot_be_are_named() {
    let cases: [Change; 7] = [
        // None, one too few, one too many.
        |_| Vec::new(),
        |numbers| numbers[..numbers.len() - 1].to_vec(),
        |numbers| [numbers, &[0]].concat(),
        // Beyond the span, and beyond all bounds.
        |numbers| [&numbers[..numbers.len() - 1], &[0x7f]].concat(),
        |numbers| [&numbers[..numbers.len() - 1], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat(),
        |numbers| [&numbers[..numbers.len() - 1], &[0xff; 11]].concat(),
        // Everything is done by one event.
        |numbers| vec![0; numbers.len()],
    ];
    for (case, lie) in cases.iter().enumerate() {
        let tape = with(KEYFRAME, |place, raw| {
            let (numbers, rest) = numbers(&raw);
            place.block(&payload(&lie(&numbers), &rest))
        });
        let causes = causes(&tape);
        assert!(causes.len() == 1 && is_content(&causes[0]), "case {case}: {causes:?}");
    }
    for length in [1 << 20, 1 << 60, u64::MAX] {
        let tape = with(KEYFRAME, |place, raw| {
            let mut lie = Vec::new();
            put_varint(&mut lie, length);
            place.block(&[&lie, &raw[1..]].concat())
        });
        assert!(causes(&tape).iter().all(is_content));
    }
    let of_none = with(KEYFRAME, |place, raw| Forged { events: 0, ..place }.block(&raw));
    assert!(causes(&of_none).iter().any(is_content));
}

#[test]
fn keyframes_that_contradict_themselves_or_their_place_are_named() {
    let lies: [fn(Forged) -> Forged; 5] = [
        |place| Forged { records: 0, ..place },
        |place| Forged {
            records: (1 << 31) + 1,
            ..place
        },
        |place| Forged {
            weight: 2 * place.records + 1,
            ..place
        },
        |place| Forged {
            first_event: u64::MAX,
            ..place
        },
        |place| Forged {
            events: (1 << 20) + 1,
            ..place
        },
    ];
    for (number, lie) in lies.iter().enumerate() {
        let causes = causes(&with(KEYFRAME, |place, raw| lie(place).block(&raw)));
        assert!(causes.iter().any(is_header), "lie {number}: {causes:?}");
    }
    // After events a keyframe cannot tell what has lived until then.
    let late = with(EVENTS, |place, raw| {
        let events = place.block(&raw);
        let after = Forged {
            kind: KEYFRAME,
            sequence: place.sequence + 1,
            first_event: place.first_event + u64::from(place.events),
            first_time: place.last_time,
            events: 0,
            weight: 0,
            records: 1,
            ..place
        };
        [events, after.block(&[])].concat()
    });
    assert!(causes(&late).iter().any(is_header));
    for raw in [&[][..], &[0xff; 20], &[0, 0x80, 0x80, 0x80, 0x80, 0x08, 0, 0]] {
        let causes = causes(&with(FOLDED, |place, _| place.block(raw)));
        assert!(causes.iter().all(is_content) && !causes.is_empty(), "{causes:?}");
    }
}
