//! Tapes made to hurt: checksums hold, contents lie.

mod common;

use common::forge::{columns, compress, content, joined, put_varint, weight, Forged};
use common::{blocks, small_tape, Reading};
use heaptape_format::*;
use proptest::prelude::*;

/// The number of a kind of block.
const RECORDS: u8 = 2;
const STACKS: u8 = 3;
const EVENTS: u8 = 4;

/// The small tape with its first block of this kind made anew.
fn with(kind: u8, make: impl Fn(Forged, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let (tape, _) = small_tape();
    let mut parts = blocks(&tape);
    let block = parts
        .iter_mut()
        .find(|block| block[8 + 1] == kind)
        .expect("there is one of each kind");
    *block = make(Forged::like(block), content(block));
    parts.concat()
}

/// The damage of a tape of which one block lies.
fn named(tape: &[u8]) -> DamageCause {
    let reading = Reading::of(tape).expect("it is a tape");
    assert!(reading.is_clean(), "{:?}", reading.damage);
    let damage = reading.damage.first().expect("it is named");
    assert!(damage.to_string().contains("byte"));
    damage.cause.clone()
}

fn is_content(cause: &DamageCause) -> bool {
    matches!(cause, DamageCause::Content { .. })
}

/// A varint of this value.
fn varint(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, value);
    out
}

#[test]
fn a_column_that_lies_is_named() {
    const CONTROL: usize = 0;
    const THREADS: usize = 1;
    const TIMES: usize = 2;
    const STACK: usize = 3;
    let overlong = vec![0x82, 0x00];
    let endless = vec![0xff; 11];
    let cases: Vec<(usize, Vec<u8>)> = vec![
        (CONTROL, vec![]),
        (CONTROL, vec![0xff; 7]),
        (CONTROL, vec![0x03; 7]),
        (CONTROL, vec![0x70; 7]),
        (CONTROL, vec![0x80; 7]),
        (CONTROL, vec![0xbc; 7]),
        (CONTROL, vec![0xbd; 7]),
        (CONTROL, vec![0x00; 7]),
        (CONTROL, vec![0xe4; 7]),
        (CONTROL, vec![0xef; 7]),
        (CONTROL, vec![0xf0; 7]),
        (CONTROL, vec![0xfe; 7]),
        (THREADS, vec![]),
        (THREADS, vec![0x0f]),
        (THREADS, vec![0x05, 0x05]),
        (THREADS, [vec![0xf0], varint(1 << 60), vec![0]].concat()),
        (THREADS, [vec![0xf0], varint(u64::MAX), vec![0]].concat()),
        (THREADS, [vec![0x7f], varint(u64::MAX)].concat()),
        (THREADS, [vec![0x70], varint(1 << 40)].concat()),
        (THREADS, [vec![0x70], overlong.clone()].concat()),
        (TIMES, vec![0x10]),
        (TIMES, [vec![0], varint(u64::MAX), varint(1)].concat()),
        (TIMES, [vec![0], varint(1), varint(u64::MAX)].concat()),
        (TIMES, [vec![0], varint(1), endless.clone()].concat()),
        (STACK, varint(1 << 60)),
        (STACK, varint(u64::MAX)),
        (STACK, endless),
        (STACK, overlong),
        (STACK, vec![]),
    ];
    for (column, bytes) in cases {
        let tape = with(EVENTS, |place, raw| {
            let mut all = columns(&place.block(&raw));
            all[column] = bytes.clone();
            place.block(&joined(&all))
        });
        assert!(is_content(&named(&tape)), "column {column} as {bytes:x?}");
    }
    for column in 0..10 {
        let tape = with(EVENTS, |place, raw| {
            let mut all = columns(&place.block(&raw));
            all[column].push(1);
            place.block(&joined(&all))
        });
        assert!(is_content(&named(&tape)), "a byte too many in column {column}");
    }
}

#[test]
fn columns_longer_than_the_payload_are_named() {
    for length in [1 << 20, 1 << 31, 1 << 60, u64::MAX] {
        let tape = with(EVENTS, |place, raw| {
            place.block(&[varint(length), raw[1..].to_vec()].concat())
        });
        assert!(is_content(&named(&tape)));
        let tape = with(STACKS, |place, raw| {
            place.block(&[varint(0), varint(length), raw[2..].to_vec()].concat())
        });
        assert!(is_content(&named(&tape)));
        let tape = with(RECORDS, |place, raw| {
            // A process whose argument claims to be that long.
            place.block(&[&[0, 0, 0, 0, 0, 0], varint(length).as_slice(), &raw].concat())
        });
        assert!(is_content(&named(&tape)));
    }
}

#[test]
fn stacks_that_hang_in_the_air_are_named() {
    // One new frame (truncated) and stacks on it: first frame, frames, first stack, stacks, frame, (parent, frame)...
    let cases: [&[u8]; 9] = [
        &[0, 1, 1, 1, 2, 1, 0],       // A parent below the root.
        &[0, 1, 1, 1, 2, 0, 9],       // A frame before the first.
        &[0, 1, 1, 1, 2, 0, 1],       // A frame that is expected, though nothing is.
        &[0, 1, 1, 2, 2, 0, 0, 0, 0], // A new frame where none is left.
        &[0, 1, 0, 1, 2, 0, 0],       // The root anew.
        &[1, 1, 1, 1, 2, 0, 0],       // Frames out of place.
        &[0, 1, 2, 1, 2, 0, 0],       // Stacks out of place.
        &[0, 1, 1, 1, 4, 0, 0],       // An unknown kind of frame.
        &[0, 1, 1, 1, 2, 0, 0, 0],    // A byte too many.
    ];
    for raw in cases {
        let stacks = if raw[3] == 2 { 2 } else { 1 };
        let tape = forged_alone(
            Forged {
                kind: STACKS,
                frames: 1,
                stacks,
                records: 0,
                ..first_place()
            },
            raw,
        );
        let reading = Reading::of(&tape).expect("it is a tape");
        assert!(reading.has(is_content), "{raw:?}: {:?}", reading.damage);
    }
    let good = forged_alone(
        Forged {
            kind: STACKS,
            frames: 1,
            stacks: 1,
            ..first_place()
        },
        &[0, 1, 1, 1, 2, 0, 0],
    );
    assert_eq!(Reading::of(&good).expect("it is a tape").damage, []);
}

#[test]
fn events_with_stacks_that_are_not_defined_are_named() {
    let tape = with(EVENTS, |place, raw| Forged { stacks: 1, ..place }.block(&raw));
    let reading = Reading::of(&tape).expect("it is a tape");
    assert!(!reading.damage.is_empty());
    // A header that defines more than the blocks before it is of no use to the events after it.
    let one = Forged {
        kind: EVENTS,
        events: 1,
        weight: 1,
        stacks: 5,
        ..first_place()
    };
    // Control "stack given, call and size as expected, address given", then thread, stack 6, address 1.
    let given = |stack: u64| {
        let mut all = vec![Vec::new(); 10];
        all[0] = vec![0x62];
        all[1] = vec![0x10, 0];
        all[3] = varint(stack * 2);
        all[5] = vec![0x10];
        joined(&all)
    };
    assert_eq!(
        Reading::of(&forged_alone(one, &given(5))).expect("it is a tape").damage,
        []
    );
    assert!(Reading::of(&forged_alone(one, &given(6)))
        .expect("it is a tape")
        .has(is_content));
}

/// The fields of the first block after the two headers of an otherwise empty tape.
fn first_place() -> Forged {
    let mut tape = Vec::new();
    drop(common::writer(1, &mut tape));
    Forged {
        sequence: 2,
        kind: 0,
        ..Forged::like(&tape)
    }
}

/// A tape of headers and this block.
fn forged_alone(place: Forged, raw: &[u8]) -> Vec<u8> {
    let mut tape = Vec::new();
    drop(common::writer(1, &mut tape));
    tape.extend(place.block(raw));
    tape
}

#[test]
fn headers_that_contradict_themselves_or_their_place_are_named() {
    type Lie = fn(Forged) -> Forged;
    let lies: [Lie; 12] = [
        |place| Forged {
            events: u32::MAX,
            weight: u32::MAX,
            ..place
        },
        |place| Forged {
            events: 0,
            weight: 0,
            ..place
        },
        |place| Forged {
            weight: place.events * 2 + 1,
            ..place
        },
        |place| Forged {
            first_event: 1 << 60,
            ..place
        },
        |place| Forged {
            first_event: u64::MAX,
            ..place
        },
        |place| Forged {
            first_time: u64::MAX,
            ..place
        },
        |place| Forged {
            raw_length: Some(u32::MAX),
            ..place
        },
        |place| Forged {
            raw_length: Some((8 << 20) + 1),
            ..place
        },
        |place| Forged { frames: 0, ..place },
        |place| Forged { stacks: 0, ..place },
        |place| Forged { kind: RECORDS, ..place },
        |place| Forged { version: 0, ..place },
    ];
    for (number, lie) in lies.iter().enumerate() {
        let cause = named(&with(EVENTS, |place, raw| lie(place).block(&raw)));
        let header = matches!(cause, DamageCause::Header { .. } | DamageCause::NewerVersion { .. });
        assert!(header, "lie {number}: {cause}");
    }
    for lie in [
        |place: Forged| Forged {
            events: place.events - 1,
            weight: place.weight - 1,
            ..place
        },
        |place: Forged| Forged { weight: 0, ..place },
        |place: Forged| Forged {
            last_time: place.last_time + 1,
            ..place
        },
    ] {
        let reading = Reading::of(&with(EVENTS, |place, raw| lie(place).block(&raw))).expect("it is a tape");
        assert!(reading.has(is_content), "{:?}", reading.damage);
    }
    // A number of the sequence at its end does not overflow.
    let last = Forged {
        kind: EVENTS,
        sequence: u64::MAX,
        first_event: u64::MAX,
        events: 1,
        weight: 1,
        ..first_place()
    };
    assert!(!Reading::of(&forged_alone(last, &[]))
        .expect("it is a tape")
        .damage
        .is_empty());
}

#[test]
fn a_payload_that_lies_about_its_length_is_named_without_being_unpacked() {
    let bomb = vec![0; 100 << 20];
    let bomb = compress(&bomb);
    assert!(bomb.len() < 64 << 10);
    for raw_length in [0, 100, 8 << 20] {
        let tape = with(EVENTS, |place, _| {
            Forged {
                raw_length: Some(raw_length),
                ..place
            }
            .stored(&bomb)
        });
        assert!(matches!(named(&tape), DamageCause::Compression { .. }));
    }
    let tape = with(EVENTS, |place, raw| {
        Forged {
            raw_length: Some(raw.len() as u32 + 1),
            ..place
        }
        .block(&raw)
    });
    assert!(matches!(named(&tape), DamageCause::Compression { .. }));
}

#[test]
fn a_payload_that_is_not_one_zstd_frame_with_a_checksum_is_named() {
    let empty_frames: Vec<u8> = (0..10_000).flat_map(|_| compress(b"")).collect();
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    type Make<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let payloads: [Make<'_>; 8] = [
        &|_| Vec::new(),
        &|_| vec![0x28, 0xb5, 0x2f, 0xfd],
        &|raw| raw.to_vec(),
        &|raw| zstd::bulk::compress(raw, 1).expect("it compresses"),
        &|raw| [compress(raw), compress(b"")].concat(),
        &|raw| [compress(raw), skippable.to_vec()].concat(),
        &|_| skippable.to_vec(),
        &|_| empty_frames.clone(),
    ];
    for (number, make) in payloads.iter().enumerate() {
        let tape = with(EVENTS, |place, raw| {
            Forged {
                raw_length: Some(raw.len() as u32),
                ..place
            }
            .stored(&make(&raw))
        });
        assert!(
            matches!(named(&tape), DamageCause::Compression { .. }),
            "payload {number}"
        );
    }
    // A frame that asks for a window of 2 GiB.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x04, 0xa8, 0x01, 0x00, 0x00, 0, 0, 0, 0];
    let tape = with(EVENTS, |place, _| {
        Forged {
            raw_length: Some(10),
            ..place
        }
        .stored(&window)
    });
    assert!(matches!(named(&tape), DamageCause::Compression { .. }));
}

#[test]
fn stacks_among_the_records_are_named() {
    let placed = Placed {
        at: EventNo(0),
        time: Micros(0),
        record: Record::Stacks(record::Stacks::default()),
    };
    let raw = postcard::to_allocvec(&placed).expect("it serializes");
    let tape = forged_alone(
        Forged {
            kind: RECORDS,
            records: 1,
            ..first_place()
        },
        &raw,
    );
    assert!(Reading::of(&tape).expect("it is a tape").has(is_content));
}

#[test]
fn a_file_of_nothing_but_headers_is_scanned_in_little_time() {
    // Each claims the longest payload there is, and the next begins right behind it: no quadratic search.
    let mut tape = Vec::new();
    drop(common::writer(1, &mut tape));
    for sequence in 2..20_000 {
        let mut block = Forged {
            kind: EVENTS,
            sequence,
            events: 1,
            weight: 1,
            ..first_place()
        }
        .stored(&[]);
        block[12..16].copy_from_slice(&(9u32 << 20).to_le_bytes());
        let checksum = crc32fast::hash(&block[..92]);
        block[92..].copy_from_slice(&checksum.to_le_bytes());
        tape.extend(block);
    }
    let found = scan(&tape).expect("it begins as a tape");
    assert!(found.damage.len() <= scan::MAX_DAMAGE && !found.damage.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn columns_of_any_bytes_never_panic_and_give_valid_births(
        all in prop::collection::vec(prop::collection::vec(prop_oneof![any::<u8>(), 0u8..8, Just(0x80u8)], 0..60), 10),
    ) {
        let events = all[0].len() as u32;
        prop_assume!(events > 0);
        let place = Forged { kind: EVENTS, events, weight: weight(&all[0]), stacks: 9, ..first_place() };
        let tape = forged_alone(place, &joined(&all));
        let found = scan(&tape).expect("it is a tape");
        let mut columns = EventColumns::default();
        if read_events(&tape, found.blocks.last().expect("it has blocks"), &mut columns).is_ok() {
            for (index, &birth) in columns.birth.iter().enumerate() {
                prop_assert!(birth == NO_BIRTH || ((birth as usize) < index && columns.op[birth as usize].is_birth()));
            }
            prop_assert_eq!(columns.iter().count(), columns.len());
        }
    }

    #[test]
    fn contents_of_real_blocks_with_any_bytes_changed_never_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (tape, _) = small_tape();
        let mut parts = blocks(&tape);
        let block = which.get_mut(parts.as_mut_slice());
        let mut raw = content(block);
        for (at, byte) in changes {
            *at.get_mut(raw.as_mut_slice()) = byte;
        }
        *block = Forged::like(block).block(&raw);
        if let Ok(reading) = Reading::of(&parts.concat()) {
            prop_assert!(reading.events.len() <= 40);
        }
    }
}
