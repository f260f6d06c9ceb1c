//! What the tests share.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod fold;
pub mod forge;
pub mod program;

use heaptape_format::record::{Code, Folded, Marker, Process, Runtime, Thread};
use heaptape_format::*;

/// Everything that can be read of a tape.
#[derive(Debug, PartialEq)]
pub struct Reading {
    pub header: Header,
    pub events: Vec<(EventNo, Event)>,
    /// Of each keyframe block its events, and the events that it stands for.
    pub kept: Vec<(Vec<(EventNo, Event)>, u32)>,
    pub folded: Option<Folded>,
    pub records: Vec<Placed>,
    pub damage: Vec<Damage>,
    pub ending: Ending,
}

impl Reading {
    /// Reads all of a tape.
    pub fn of(tape: &[u8]) -> Result<Reading, NotATape> {
        Ok(Reading::of_scan(tape, &scan(tape)?))
    }

    pub fn of_scan(tape: &[u8], scan: &Scan) -> Reading {
        let mut columns = EventColumns::default();
        let mut reading = Reading {
            header: scan.header.clone(),
            events: Vec::new(),
            kept: Vec::new(),
            folded: None,
            records: Vec::new(),
            damage: scan.damage.clone(),
            ending: scan.ending.clone(),
        };
        for block in &scan.blocks {
            match read_tables(tape, block) {
                Ok(records) => reading.records.extend(records),
                Err(damage) => reading.damage.push(damage),
            }
            match read_folded(tape, block) {
                Ok(folded) => reading.folded = folded.or(reading.folded),
                Err(damage) => reading.damage.push(damage),
            }
            if matches!(block.kind, BlockKind::Events | BlockKind::Keyframe) {
                match read_events(tape, block, &mut columns) {
                    Ok(()) => {
                        let numbers = (0..columns.len()).map(|index| columns.number(index));
                        let events = numbers.zip(columns.iter());
                        if block.kind == BlockKind::Events {
                            reading.events.extend(events);
                        } else {
                            reading.kept.push((events.collect(), block.span()));
                        }
                    }
                    Err(damage) => reading.damage.push(damage),
                }
            }
        }
        reading
    }

    /// Events that the damage accounts for; `None` when some of it cannot tell.
    pub fn lost(&self) -> Option<u64> {
        self.damage.iter().map(|damage| damage.lost_events).sum()
    }

    pub fn is_clean(&self) -> bool {
        matches!(self.ending, Ending::Clean(_))
    }

    pub fn has(&self, wanted: impl Fn(&DamageCause) -> bool) -> bool {
        self.damage.iter().any(|damage| wanted(&damage.cause))
    }
}

/// A writer with blocks of this many events.
pub fn writer(block_events: u32, out: &mut Vec<u8>) -> Writer {
    let header = Header {
        writer: "test".into(),
        start_unix_nanos: 1_700_000_000_000_000_000,
        ..Header::default()
    };
    Writer::new(
        &header,
        WriterOptions {
            block_events,
            ..WriterOptions::default()
        },
        out,
    )
}

/// A small tape with every kind of event, record and block, two processes and two generations, in several blocks.
pub fn small_tape() -> (Vec<u8>, Vec<Event>) {
    let mut out = Vec::new();
    let mut writer = writer(7, &mut out);
    let mut events = Vec::new();
    let mut time = 0;
    for pid in 0..2 {
        writer.record(
            Micros(pid),
            Record::Process(Process {
                pid: pid as u32,
                ..Process::default()
            }),
        );
        let thread = Thread {
            process: ProcessIx(pid as u32),
            tid: 7,
            name: b"main".to_vec(),
        };
        writer.record(Micros(pid), Record::Thread(thread));
    }
    let process = ProcessIx(0);
    let runtime = Runtime {
        process,
        name: b"CPython 3.11.2".to_vec(),
        frames: true,
        types: false,
        note: b"as a test".to_vec(),
    };
    let code = Code {
        process,
        name: b"Session.open".to_vec(),
        file: b"/srv/service.py".to_vec(),
        first_line: 40,
    };
    let name = |name: &str| Record::Type { name: name.into() };
    for record in [
        Record::Runtime(runtime),
        Record::Code(code),
        name("dict"),
        name("service.Session"),
    ] {
        writer.record(Micros(1), record);
    }
    for generation in 0..2 {
        let outer = writer.frame(Frame::Native {
            module: ModuleIx(0),
            offset: 0x1234,
        });
        let inner = writer.frame(Frame::Raw {
            process: ProcessIx(1),
            address: Address(0xffff_8000_0000_0000),
        });
        let cut = writer.frame(Frame::Truncated);
        let root = writer.stack(StackId::ROOT, outer);
        let stack = writer.stack(root, inner);
        let other = writer.stack(StackId::ROOT, cut);
        let python = writer.frame(Frame::Python {
            code: CodeIx(0),
            line: 42,
        });
        let object = writer.stack(root, python);
        let at_object = |address, kind| Op::Typed {
            address: Address(address),
            kind: TypeIx(kind),
        };
        let new_object = |address| Op::Alloc {
            api: AllocApi::PyObj,
            address: Address(address),
            size: Bytes(56),
            stack: object,
        };
        let a = |n: u64| Address(0x5000 + n * 48);
        let ops = [
            Op::Alloc {
                api: AllocApi::Malloc,
                address: a(0),
                size: Bytes(40),
                stack,
            },
            Op::Alloc {
                api: AllocApi::Calloc,
                address: a(1),
                size: Bytes(40),
                stack,
            },
            Op::Free { address: a(0) },
            Op::Alloc {
                api: AllocApi::Malloc,
                address: a(0),
                size: Bytes(33),
                stack: other,
            },
            Op::Resize {
                api: AllocApi::Realloc,
                address: a(0),
                size: Bytes(39),
                stack: root,
            },
            Op::MoveOut { address: a(1) },
            Op::MoveIn {
                api: AllocApi::Reallocarray,
                address: Address(u64::MAX),
                size: Bytes(u64::MAX),
                stack,
            },
            Op::Free { address: Address(3) },
            Op::Map {
                api: MapApi::File,
                address: Address(0),
                length: Bytes(1 << 40),
                stack: StackId::ROOT,
            },
            Op::Remap {
                old_address: a(5),
                old_length: Bytes(1),
                address: a(6),
                length: Bytes(2),
                stack,
            },
            Op::Unmap {
                address: a(6),
                length: Bytes(2),
            },
            Op::Brk {
                old_end: a(7),
                new_end: a(9),
                stack: other,
            },
            Op::Alloc {
                api: AllocApi::PyObj,
                address: Address(3),
                size: Bytes(0),
                stack,
            },
            at_object(3, 1),
            Op::Map {
                api: MapApi::PyArena,
                address: Address(0x10_0000),
                length: Bytes(1 << 18),
                stack: object,
            },
            new_object(0x9000),
            at_object(0x9000, 2),
            new_object(0x9040),
            // Nothing new, since a block of the same stack was one: it is not written.
            at_object(0x9040, 2),
            // Of a block that an earlier block of the tape holds, and of one that another thread made.
            at_object(3, 0),
            at_object(0x9000, 1),
        ];
        for (index, &op) in ops.iter().enumerate() {
            time += [0, 0, 1, 30, 0, 5_000_000][(index + generation) % 6];
            let event = Event {
                time: Micros(time),
                thread: ThreadIx((index as u32 / 5) % 2),
                op,
            };
            let number = writer.next_event();
            writer.event(&event, &mut out);
            if writer.next_event() > number {
                events.push(event);
            }
        }
        let marker = Marker {
            process: ProcessIx(0),
            thread: None,
            name: b"half".to_vec(),
        };
        writer.record(Micros(time), Record::Marker(marker));
        if generation == 0 {
            writer.new_generation(&mut out);
        }
    }
    writer.finish(
        &End {
            events: writer_weight(&events),
            ..End::default()
        },
        &mut out,
    );
    (out, events)
}

fn writer_weight(events: &[Event]) -> u64 {
    events.iter().map(|event| event.op.weight()).sum()
}

/// The blocks of a whole tape, as bytes.
pub fn blocks(tape: &[u8]) -> Vec<Vec<u8>> {
    let scan = scan(tape).expect("it is a tape");
    scan.blocks
        .iter()
        .map(|block| tape[block.offset as usize..(block.offset + block.length) as usize].to_vec())
        .collect()
}

/// The small tape with its first generation folded.
pub fn folded_tape() -> Vec<u8> {
    let (tape, _) = small_tape();
    let (cut, _) = fold::cuts(&tape)[0];
    fold::fold(&tape, cut)
}
