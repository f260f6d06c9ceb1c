//! What is written comes back.

mod common;

use common::program::Program;
use common::{small_tape, Reading};
use heaptape_format::record::{Code, Loss, LossCause, Marker, Module, Process, ProcessEnd, Runtime, Thread};
use heaptape_format::*;
use proptest::prelude::*;
use std::collections::HashMap;

#[test]
fn a_small_tape_comes_back() {
    let (tape, events) = small_tape();
    let reading = Reading::of(&tape).expect("it is a tape");
    assert_eq!(reading.damage, []);
    assert_eq!(
        reading.events.iter().map(|&(_, event)| event).collect::<Vec<_>>(),
        events
    );
    assert!(reading
        .events
        .iter()
        .enumerate()
        .all(|(index, (number, _))| number.get() == index as u64));
    assert_eq!(reading.header.writer, "test");
    assert!(matches!(reading.ending, Ending::Clean(End { events: 34, .. })));
    let markers = reading
        .records
        .iter()
        .filter(|placed| matches!(placed.record, Record::Marker(_)));
    assert_eq!(
        markers.map(|placed| placed.at).collect::<Vec<_>>(),
        [EventNo(20), EventNo(40)]
    );
}

#[test]
fn an_empty_tape_comes_back() {
    let mut tape = Vec::new();
    common::writer(7, &mut tape).finish(&End::default(), &mut tape);
    let reading = Reading::of(&tape).expect("it is a tape");
    assert_eq!(
        (reading.damage.len(), reading.events.len(), reading.is_clean()),
        (0, 0, true)
    );
}

#[test]
fn a_long_tape_of_a_program_comes_back_and_is_small() {
    let mut tape = Vec::new();
    let mut writer = common::writer(20_000, &mut tape);
    writer.record(Micros(0), Record::Process(Process::default()));
    for tid in 0..3 {
        writer.record(
            Micros(0),
            Record::Thread(Thread {
                process: ProcessIx(0),
                tid,
                name: Vec::new(),
            }),
        );
    }
    let events = Program::new(3, 3).events(&mut writer, 100_000);
    for event in &events {
        writer.event(event, &mut tape);
    }
    writer.finish(&End::default(), &mut tape);
    let reading = Reading::of(&tape).expect("it is a tape");
    assert_eq!(reading.damage, []);
    assert!(reading
        .events
        .iter()
        .map(|&(_, event)| event)
        .eq(events.iter().copied()));
    assert!(
        tape.len() < events.len() * 3 / 2,
        "{} bytes for {} events",
        tape.len(),
        events.len()
    );
}

#[test]
fn the_writers_memory_stays_within_what_its_options_say() {
    for (options, limit) in [(WriterOptions::default(), 6 << 20), (WriterOptions::tiny(), 2 << 20)] {
        let mut tape = Vec::new();
        let mut writer = Writer::new(&Header::default(), options, &mut tape);
        let events = Program::new(3, 3).events(&mut writer, 150_000);
        for event in &events {
            writer.event(event, &mut tape);
            assert!(writer.memory() < limit, "{} bytes", writer.memory());
            tape.clear();
        }
    }
}

#[test]
fn records_that_are_too_long_are_cut_and_the_tape_stays_readable() {
    let mut tape = Vec::new();
    let header = Header {
        writer: "é".repeat(1 << 20),
        command: vec![vec![b'x'; 1 << 20]; 3],
        ..Header::default()
    };
    let mut writer = Writer::new(&header, WriterOptions::default(), &mut tape);
    let process = Process {
        command: vec![vec![b'a'; 100]; 100_000],
        ..Process::default()
    };
    for _ in 0..20 {
        writer.record(Micros(0), Record::Process(process.clone()));
        writer.record(
            Micros(1),
            Record::Module(Module {
                path: vec![b'/'; 1 << 20],
                ..Module::default()
            }),
        );
    }
    writer.finish(&End::default(), &mut tape);
    let reading = Reading::of(&tape).expect("it is a tape");
    assert_eq!(reading.damage, []);
    assert_eq!(reading.records.len(), 40);
    let Record::Process(read) = &reading.records[0].record else {
        panic!("the first record is the process")
    };
    assert_eq!(read.command.last().map(Vec::as_slice), Some(b"[...]".as_slice()));
    assert!(read.command.len() > 2000 && reading.header.writer.ends_with("é[...]"));
}

#[test]
fn a_block_of_another_process_at_the_same_address_is_not_taken_for_ones_own() {
    let mut tape = Vec::new();
    let mut writer = common::writer(100, &mut tape);
    for process in 0..2 {
        writer.record(
            Micros(0),
            Record::Thread(Thread {
                process: ProcessIx(process),
                tid: 1,
                name: Vec::new(),
            }),
        );
    }
    let (address, size, stack) = (Address(0x1000), Bytes(8), StackId::ROOT);
    let alloc = Op::Alloc {
        api: AllocApi::Malloc,
        address,
        size,
        stack,
    };
    let ops = [
        (0, alloc),
        (1, Op::Free { address }),
        (1, alloc),
        (0, Op::Free { address }),
        (1, Op::Free { address }),
    ];
    for (thread, op) in ops {
        writer.event(
            &Event {
                time: Micros(0),
                thread: ThreadIx(thread),
                op,
            },
            &mut tape,
        );
    }
    writer.flush(&mut tape);
    let block = *scan(&tape)
        .expect("it is a tape")
        .blocks
        .last()
        .expect("there are events");
    let mut columns = EventColumns::default();
    read_events(&tape, &block, &mut columns).expect("it is whole");
    assert_eq!(columns.birth, [NO_BIRTH, NO_BIRTH, NO_BIRTH, 0, 2]);
}

#[test]
fn a_type_is_written_once_a_block_of_the_tape_and_stack_and_never_of_a_dead_block() {
    let mut tape = Vec::new();
    let mut writer = common::writer(1000, &mut tape);
    let mut write = |op| {
        let before = writer.next_event();
        let event = Event {
            time: Micros(0),
            thread: ThreadIx(0),
            op,
        };
        writer.event(&event, &mut tape);
        writer.next_event() > before
    };
    let (address, stack, kind) = (Address(0x40), StackId::ROOT, TypeIx(5));
    let mut written = 0;
    for _ in 0..900 {
        let api = AllocApi::PyObj;
        let size = Bytes(8);
        assert!(write(Op::Alloc {
            api,
            address,
            size,
            stack
        }));
        written += u32::from(write(Op::Typed { address, kind }));
        assert!(write(Op::Free { address }));
        assert!(!write(Op::Typed {
            address,
            kind: TypeIx(6)
        }));
    }
    // Of the two blocks that these events fill each has one, and one is of the object that lies last in the first of them.
    assert_eq!(written, 3);
}

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Event {
        op: u8,
        api: u8,
        address: u64,
        size: u64,
        second: u64,
        stack: u32,
        thread: u32,
        wait: u64,
    },
    Stack {
        parent: u32,
        frame: u64,
    },
    Record(u8),
    Flush,
    Generation,
}

fn step() -> impl Strategy<Value = Step> {
    // Few addresses so that they meet again, and sometimes any.
    let address = prop_oneof![8 => (0u64..24).prop_map(|n| n * 16), 1 => any::<u64>()];
    let size = prop_oneof![8 => 0u64..200, 1 => any::<u64>()];
    let wait = prop_oneof![6 => Just(0u64), 3 => 0u64..40, 1 => 0u64..1 << 55];
    let event = (
        0u8..13,
        any::<u8>(),
        address,
        size,
        any::<u64>(),
        any::<u32>(),
        0u32..20,
        wait,
    )
        .prop_map(|(op, api, address, size, second, stack, thread, wait)| Step::Event {
            op,
            api,
            address,
            size,
            second,
            stack,
            thread: if thread < 16 { thread % 3 } else { thread },
            wait,
        });
    prop_oneof![
        40 => event,
        6 => (any::<u32>(), any::<u64>()).prop_map(|(parent, frame)| Step::Stack { parent, frame }),
        2 => (0u8..10).prop_map(Step::Record),
        1 => Just(Step::Flush),
        1 => Just(Step::Generation),
    ]
}

fn operation(op: u8, api: u8, address: u64, size: u64, second: u64, stack: StackId) -> Op {
    let alloc_api = AllocApi::ALL[usize::from(api) % AllocApi::ALL.len()];
    let (address, size) = (Address(address), Bytes(size));
    match op {
        0 => Op::Alloc {
            api: alloc_api,
            address,
            size,
            stack,
        },
        1 => Op::Free { address },
        2 => Op::Resize {
            api: alloc_api,
            address,
            size,
            stack,
        },
        3 => Op::MoveOut { address },
        4 => Op::MoveIn {
            api: alloc_api,
            address,
            size,
            stack,
        },
        5 => Op::Map {
            api: MapApi::from_u8(api % 3).expect("there are three"),
            address,
            length: size,
            stack,
        },
        6 => Op::Unmap { address, length: size },
        7 => Op::Remap {
            old_address: Address(second),
            old_length: size,
            address,
            length: Bytes(second),
            stack,
        },
        8 => Op::Brk {
            old_end: Address(second),
            new_end: address,
            stack,
        },
        9 => Op::Alloc {
            api: AllocApi::PyObj,
            address,
            size,
            stack,
        },
        _ => Op::Typed {
            address,
            kind: TypeIx(second as u32 % 3),
        },
    }
}

fn frame(number: u64) -> Frame {
    match number % 9 {
        8 => Frame::Python {
            code: CodeIx((number >> 8) as u32 % 7),
            line: (number >> 40) as u32,
        },
        0 => Frame::Truncated,
        1 => Frame::Raw {
            process: ProcessIx((number >> 8) as u32 % 3),
            address: Address(number),
        },
        _ => Frame::Native {
            module: ModuleIx((number >> 8) as u32 % 5),
            offset: number >> 40,
        },
    }
}

/// What the births of a block must be, found the plain way.
fn births(columns: &EventColumns, process: impl Fn(ThreadIx) -> u32) -> Vec<u32> {
    let mut live = HashMap::new();
    (0..columns.len())
        .map(|index| {
            let key = (process(columns.thread[index]), columns.address[index]);
            let birth = match columns.op[index] {
                OpCode::Typed => live.get(&key).copied(),
                op if op.is_death() => live.remove(&key),
                _ => None,
            };
            if columns.op[index].is_birth() {
                live.insert(key, index as u32);
            }
            birth.unwrap_or(NO_BIRTH)
        })
        .collect()
}

/// What the types of a block must be, found by the words of the specification.
fn kinds(columns: &EventColumns) -> Vec<TypeIx> {
    let mut kept: HashMap<u32, TypeIx> = HashMap::new();
    let is_object = |index: usize| columns.op[index].is_birth() && columns.api[index] == AllocApi::PyObj as u8;
    let entry = |index: usize| columns.stack[index].get() % 16384;
    (0..columns.len())
        .map(|index| match columns.op[index] {
            OpCode::Typed => {
                let birth = columns.birth[index] as usize;
                if columns.birth[index] != NO_BIRTH && is_object(birth) {
                    kept.insert(entry(birth), columns.kind[index]);
                }
                columns.kind[index]
            }
            _ if is_object(index) => kept.get(&entry(index)).copied().unwrap_or_default(),
            _ => TypeIx::UNKNOWN,
        })
        .collect()
}

fn process_of(thread: ThreadIx) -> u32 {
    thread.get() % 2
}

/// The type that was said last of each block, by the number of its birth.
#[derive(Debug, Default)]
struct Said {
    births: u64,
    live: HashMap<(u32, Address), u64>,
    kinds: HashMap<u64, TypeIx>,
}

impl Said {
    /// Takes in an event that was given to the writer.
    fn note(&mut self, event: &Event) {
        let process = process_of(event.thread);
        match event.op {
            Op::Alloc { address, .. } | Op::Resize { address, .. } | Op::MoveIn { address, .. } => {
                self.live.insert((process, address), self.births);
                self.births += 1;
            }
            Op::Free { address } | Op::MoveOut { address } => {
                self.live.remove(&(process, address));
            }
            Op::Typed { address, kind } => {
                if let Some(&birth) = self.live.get(&(process, address)) {
                    self.kinds.insert(birth, kind);
                }
            }
            _ => {}
        }
    }
}

/// The type of each block as a reader finds it, by the number of its birth.
#[derive(Debug, Default)]
struct Read {
    live: HashMap<(u32, Address), u64>,
    kinds: Vec<TypeIx>,
}

impl Read {
    fn follow(&mut self, columns: &EventColumns) {
        for (index, event) in columns.iter().enumerate() {
            let key = (process_of(event.thread), columns.address[index]);
            if columns.op[index].is_death() {
                self.live.remove(&key);
            }
            if columns.op[index].is_birth() {
                self.live.insert(key, self.kinds.len() as u64);
                self.kinds.push(columns.kind[index]);
            }
            if let (OpCode::Typed, Some(&birth)) = (columns.op[index], self.live.get(&key)) {
                self.kinds[birth as usize] = columns.kind[index];
            }
        }
    }

    /// Whether it finds everything that was said.
    fn holds(&self, said: &Said) -> bool {
        self.kinds.len() as u64 == said.births
            && said
                .kinds
                .iter()
                .all(|(&birth, &kind)| self.kinds[birth as usize] == kind)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Few stacks, addresses and types, so that much of what is said is known already.
    #[test]
    fn every_type_that_is_said_is_read_though_most_are_not_written(
        ops in prop::collection::vec((0u8..40, 0u64..4, 0u32..2, 0u32..2, 0u32..3), 0..200),
        block_events in 1u32..60,
    ) {
        let mut tape = Vec::new();
        let mut writer = common::writer(block_events, &mut tape);
        for thread in 0..2 {
            writer.record(Micros(0), Record::Thread(Thread { process: ProcessIx(thread), tid: thread, name: Vec::new() }));
        }
        let frame = writer.frame(Frame::Truncated);
        writer.stack(StackId::ROOT, frame);
        let mut said = Said::default();
        let mut latest = [Address(0); 2];
        for (op, address, stack, thread, kind) in ops {
            let address = Address(address * 16);
            let (size, stack, kind) = (Bytes(8), StackId(stack), TypeIx(kind));
            let is_live = said.live.contains_key(&(thread, address));
            let op = match op {
                0..=19 if is_live => Op::Free { address },
                // Now and then one is born where another lives.
                0..=12 | 20 => Op::Alloc { api: AllocApi::PyObj, address, size, stack },
                13..=19 => Op::Alloc { api: AllocApi::Malloc, address, size, stack },
                21 => Op::Free { address },
                22..=23 => Op::Resize { api: AllocApi::PyObj, address, size, stack },
                24..=28 => Op::Typed { address, kind },
                // The block that was born last, as a recorder does it.
                _ => Op::Typed { address: latest[thread as usize], kind },
            };
            if let Op::Alloc { address, .. } = op {
                latest[thread as usize] = address;
            }
            let event = Event { time: Micros(0), thread: ThreadIx(thread), op };
            writer.event(&event, &mut tape);
            said.note(&event);
        }
        writer.finish(&End::default(), &mut tape);
        let mut columns = EventColumns::default();
        let mut read = Read::default();
        for block in scan(&tape).expect("it is a tape").blocks.iter().filter(|block| block.kind == BlockKind::Events) {
            read_events(&tape, block, &mut columns).expect("it is whole");
            prop_assert_eq!(&columns.birth, &births(&columns, process_of));
            prop_assert_eq!(&columns.kind, &kinds(&columns));
            read.follow(&columns);
        }
        prop_assert!(read.holds(&said), "{read:?} is not {said:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_comes_back(steps in prop::collection::vec(step(), 0..300), block_events in 1u32..90) {
        let mut tape = Vec::new();
        let mut writer = common::writer(block_events, &mut tape);
        let (mut events, mut records, mut stacks) = (Vec::new(), Vec::new(), Vec::new());
        let mut paths: Vec<Vec<Vec<Frame>>> = vec![vec![Vec::new()]];
        let mut said = Said::default();
        let mut time = 0u64;
        for thread in 0..20 {
            let record = Record::Thread(Thread { process: ProcessIx(thread % 2), tid: thread, name: Vec::new() });
            writer.record(Micros(0), record.clone());
            records.push(Placed { at: EventNo(0), time: Micros(0), record });
        }
        for step in steps {
            let at = writer.next_event();
            let generation = paths.last_mut().expect("there is one");
            match step {
                Step::Event { op, api, address, size, second, stack, thread, wait } => {
                    time = time.saturating_add(wait);
                    let stack = StackId(stack % generation.len() as u32);
                    let op = operation(op, api, address, size, second, stack);
                    let event = Event { time: Micros(time), thread: ThreadIx(thread), op };
                    writer.event(&event, &mut tape);
                    said.note(&event);
                    if writer.next_event() > at {
                        events.push((at, event));
                    } else {
                        let is_typed = matches!(event.op, Op::Typed { .. });
                        prop_assert!(is_typed, "only a type may be known already");
                    }
                }
                Step::Stack { parent, frame: number } => {
                    let parent = StackId(parent % generation.len() as u32);
                    let frame = frame(number);
                    let id = writer.frame(frame);
                    let stack = writer.stack(parent, id);
                    let mut path = generation[parent.get() as usize].clone();
                    path.push(frame);
                    if stack.get() as usize == generation.len() {
                        generation.push(path);
                    } else {
                        prop_assert_eq!(&generation[stack.get() as usize], &path);
                    }
                }
                Step::Record(which) => {
                    let record = match which {
                        0 => Record::Marker(Marker { process: ProcessIx(1), thread: None, name: vec![0, 255] }),
                        1 => Record::Loss(Loss { thread: None, events: u64::MAX, cause: LossCause::Late }),
                        2 => Record::ProcessEnd { process: ProcessIx(0), end: ProcessEnd::Signal(-9) },
                        3 => Record::Module(Module { path: b"/lib".to_vec(), ..Module::default() }),
                        4 => Record::Code(Code { name: vec![0xff], first_line: u32::MAX, ..Code::default() }),
                        5 => Record::Type { name: b"dict".to_vec() },
                        6 => Record::Runtime(Runtime { frames: true, note: b"none".to_vec(), ..Runtime::default() }),
                        7 => Record::Unwind { module: ModuleIx(3), tables: which == 7 },
                        8 => Record::Libc { process: ProcessIx(1), name: b"glibc 2.36".to_vec() },
                        _ => Record::ThreadName { thread: ThreadIx(1), name: Vec::new() },
                    };
                    writer.record(Micros(time), record.clone());
                    records.push(Placed { at, time: Micros(time), record });
                }
                Step::Flush => writer.flush(&mut tape),
                Step::Generation => {
                    writer.new_generation(&mut tape);
                    paths.push(vec![Vec::new()]);
                }
            }
        }
        let weight: u64 = events.iter().map(|(_, event)| event.op.weight()).sum();
        prop_assert_eq!(writer.weight(), weight);
        let generation = writer.generation();
        prop_assert_eq!(generation as usize + 1, paths.len());
        writer.finish(&End::default(), &mut tape);

        let scan = scan(&tape).expect("it is a tape");
        prop_assert_eq!(scan.blocks.iter().map(|block| u64::from(block.weight)).sum::<u64>(), weight);
        let mut columns = EventColumns::default();
        let mut read = Read::default();
        for block in scan.blocks.iter().filter(|block| block.kind == BlockKind::Events) {
            read_events(&tape, block, &mut columns).expect("it is whole");
            prop_assert_eq!(&columns.birth, &births(&columns, process_of));
            prop_assert_eq!(&columns.kind, &kinds(&columns));
            read.follow(&columns);
        }
        prop_assert!(read.holds(&said), "{read:?}\nis not\n{said:?}");
        let reading = Reading::of_scan(&tape, &scan);
        prop_assert_eq!(&reading.damage, &[]);
        prop_assert!(reading.is_clean());
        prop_assert_eq!(&reading.events, &events);
        let mut read_paths: Vec<Vec<Vec<Frame>>> = vec![vec![Vec::new()]; paths.len()];
        for placed in reading.records {
            match placed.record {
                Record::Stacks(new) => {
                    let generation = &mut read_paths[new.generation as usize];
                    let frames = stacks_frames(&mut stacks, &new);
                    prop_assert_eq!(new.first_stack.get() as usize, generation.len());
                    for (parent, frame) in new.parents.iter().zip(&new.frame_ids) {
                        let mut path = generation[parent.get() as usize].clone();
                        path.push(frames[frame.get() as usize]);
                        generation.push(path);
                    }
                }
                _ => prop_assert_eq!(placed, records.remove(0)),
            }
        }
        prop_assert_eq!(records, &[]);
        prop_assert_eq!(read_paths, paths);
    }
}

/// All frames of the generation of these stacks so far.
fn stacks_frames<'a>(all: &'a mut Vec<Vec<Frame>>, new: &record::Stacks) -> &'a [Frame] {
    all.resize(all.len().max(new.generation as usize + 1), Vec::new());
    let frames = &mut all[new.generation as usize];
    assert_eq!(new.first_frame.get() as usize, frames.len());
    frames.extend(&new.frames);
    frames
}
