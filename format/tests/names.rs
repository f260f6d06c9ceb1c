//! Names in the tape: written by a recorder or put into a tape that exists, read whole or not at all.

#[path = "common/forge.rs"]
#[allow(dead_code)]
mod forge;

use forge::Forged;
use heaptape_format::names::{NamedCode, NamedFrame, NamedModule, NamedPlace};
use heaptape_format::record::{End, Frame, Header};
use heaptape_format::{
    read_names, scan, Address, AllocApi, BlockKind, Bytes, Ending, Event, Micros, ModuleIx, Naming, Op, ProcessIx,
    StackId, ThreadIx, Writer, WriterOptions,
};
use proptest::prelude::*;

fn texts() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

fn namings() -> impl Strategy<Value = Naming> {
    let place =
        (texts(), texts(), any::<u32>(), any::<u32>()).prop_map(|(function, file, line, declared)| NamedPlace {
            function,
            file,
            line,
            declared,
        });
    let frame = prop_oneof![
        (any::<u32>(), any::<u64>()).prop_map(|(module, offset)| Frame::Native {
            module: ModuleIx(module),
            offset
        }),
        (any::<u32>(), any::<u64>()).prop_map(|(process, address)| Frame::Raw {
            process: ProcessIx(process),
            address: Address(address)
        }),
    ];
    prop_oneof![
        (any::<u32>(), texts(), texts(), texts()).prop_map(|(module, file, debug_file, problem)| {
            Naming::Module(NamedModule {
                module: ModuleIx(module),
                state: b"found".to_vec(),
                file,
                debug_file,
                problem,
            })
        }),
        (frame, prop::collection::vec(place, 1..5))
            .prop_map(|(frame, places)| Naming::Frame(NamedFrame { frame, places })),
        (any::<u32>(), any::<u64>(), any::<u64>(), texts()).prop_map(|(process, start, length, name)| {
            Naming::Code(NamedCode {
                process: ProcessIx(process),
                start: Address(start),
                length,
                name,
            })
        }),
        (any::<u32>(), any::<u64>()).prop_map(|(process, bytes)| Naming::Cut {
            process: ProcessIx(process),
            bytes
        }),
    ]
}

fn read_all(tape: &[u8]) -> Vec<Naming> {
    let scan = scan(tape).expect("it is a tape");
    assert!(scan.damage.is_empty(), "{:?}", scan.damage);
    let blocks = scan.blocks.iter().filter(|block| block.kind == BlockKind::Names);
    blocks
        .flat_map(|block| read_names(tape, block).expect("it is whole"))
        .collect()
}

/// A tape with a few events; ended or not.
fn tape(ended: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&Header::default(), WriterOptions::tiny(), &mut out);
    for number in 1..50 {
        let op = Op::Alloc {
            api: AllocApi::Malloc,
            address: Address(number * 64),
            size: Bytes(number),
            stack: StackId::ROOT,
        };
        let event = Event {
            thread: ThreadIx(0),
            time: Micros(number),
            op,
        };
        writer.event(&event, &mut out);
    }
    if ended {
        let end = End {
            events: writer.weight(),
            ..End::default()
        };
        writer.finish(&end, &mut out);
    } else {
        writer.flush(&mut out);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_named_is_read(names in prop::collection::vec(namings(), 0..60)) {
        let mut out = Vec::new();
        let mut writer = Writer::new(&Header::default(), WriterOptions::tiny(), &mut out);
        for (number, naming) in names.iter().enumerate() {
            writer.name(naming, &mut out);
            if number % 7 == 0 {
                writer.flush(&mut out);
            }
        }
        writer.finish(&End::default(), &mut out);
        prop_assert_eq!(read_all(&out), names);
    }

    #[test]
    fn names_put_into_a_tape_change_nothing_else(names in prop::collection::vec(namings(), 0..30), ended: bool, cut in 0usize..60) {
        let whole = tape(ended);
        let bytes = if ended { &whole[..] } else { &whole[..whole.len() - cut] };
        let before = scan(bytes).expect("it is a tape");
        let (at, mut annex) = before.annex(bytes.len() as u64).expect("there is a place");
        let mut named = bytes[..at as usize].to_vec();
        names.iter().for_each(|naming| annex.name(naming, &mut named));
        annex.finish(&mut named);
        let after = scan(named.as_slice()).expect("it is a tape");
        let kept = |scan: &heaptape_format::Scan| -> Vec<_> {
            let is_kept = |block: &&heaptape_format::Block| !matches!(block.kind, BlockKind::Names | BlockKind::End);
            scan.blocks.iter().filter(is_kept).copied().collect()
        };
        prop_assert_eq!(kept(&before), kept(&after));
        match (&before.ending, &after.ending) {
            (Ending::Clean(before), Ending::Clean(after)) => prop_assert_eq!(before, after),
            (Ending::Unclean { .. }, Ending::Unclean { partial, .. }) => prop_assert_eq!(*partial, 0),
            endings => prop_assert!(false, "{:?}", endings),
        }
        prop_assert_eq!(read_all(&named), names);
    }

    #[test]
    fn any_bytes_in_a_block_of_names_are_names_or_damage(raw in prop::collection::vec(any::<u8>(), 0..300), records in 0u32..20) {
        let mut bytes = tape(false);
        let place = Forged::like(&bytes);
        let found = scan(bytes.as_slice()).expect("it is a tape");
        let block = Forged {
            kind: 7,
            flags: 1,
            sequence: found.blocks.len() as u64,
            first_event: found.blocks.iter().map(|block| u64::from(block.events)).sum(),
            records,
            ..place
        };
        bytes.extend(block.block(&raw));
        let found = scan(bytes.as_slice()).expect("it is a tape");
        for block in found.blocks.iter().filter(|block| block.kind == BlockKind::Names) {
            if let Ok(names) = read_names(bytes.as_slice(), block) {
                prop_assert_eq!(names.len(), records as usize);
            }
        }
    }
}

#[test]
fn names_without_end_are_cut_to_what_a_block_holds() {
    let place = NamedPlace {
        function: vec![b'f'; 100_000],
        file: vec![b'x'; 100_000],
        line: 1,
        declared: 1,
    };
    let naming = Naming::Frame(NamedFrame {
        frame: Frame::Native {
            module: ModuleIx(0),
            offset: 1,
        },
        places: vec![place; 300],
    });
    let mut out = Vec::new();
    let mut writer = Writer::new(&Header::default(), WriterOptions::tiny(), &mut out);
    (0..5).for_each(|_| writer.name(&naming, &mut out));
    writer.finish(&End::default(), &mut out);
    let read = read_all(&out);
    assert_eq!(read.len(), 5);
    assert!(
        matches!(&read[0], Naming::Frame(named) if named.places.len() > 2 && named.places[0].function.ends_with(b"[...]"))
    );
}

#[test]
fn behind_the_end_of_a_tape_nothing_is_put() {
    let mut bytes = tape(true);
    assert!(scan(bytes.as_slice())
        .expect("it is a tape")
        .annex(bytes.len() as u64)
        .is_some());
    bytes.extend_from_slice(b"something");
    assert!(scan(bytes.as_slice())
        .expect("it is a tape")
        .annex(bytes.len() as u64)
        .is_none());
}
