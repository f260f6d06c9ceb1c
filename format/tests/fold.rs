//! A keyframe in the place of the beginning of a tape: whoever replays it comes to the same heap as whoever replays everything.

mod common;

use common::fold::{cuts, family_tape, fold, program_tape, record_process};
use common::Reading;
use heaptape_format::names::NamedCode;
use heaptape_format::record::{FoldedPeak, ProcessOrigin};
use heaptape_format::*;
use std::collections::{BTreeMap, HashMap};

/// A block of memory as a replay finds it.
#[derive(Clone, Debug, PartialEq)]
struct Lived {
    size: u64,
    birth: u64,
    time: u64,
    thread: u32,
    api: u8,
    is_realloc: bool,
    kind: u32,
    frames: Vec<Frame>,
}

/// The simplest replay there is: of every process a map of its own, copied when it forks.
#[derive(Default)]
struct Replay {
    heaps: BTreeMap<u32, HashMap<u64, Lived>>,
    ended: Vec<u32>,
    /// By page: thread that mapped it, and the event that gave its piece its shape.
    pages: BTreeMap<(u32, u64), (u32, u64, Vec<Frame>)>,
    dead_blocks: u64,
    dead_bytes: u64,
    peak: Option<(u64, u128)>,
}

/// Everything about processes that a replay needs.
struct World {
    threads: Vec<u32>,
    /// Forks and ends by event.
    changes: Vec<(u64, u32, Option<u32>)>,
}

impl World {
    fn of(records: &[Placed]) -> World {
        let mut world = World {
            threads: Vec::new(),
            changes: Vec::new(),
        };
        let mut processes = 0;
        for Placed { at, record, .. } in records {
            match record {
                Record::Process(process) => {
                    if let ProcessOrigin::Fork(parent) = process.origin {
                        world.changes.push((at.get(), processes, Some(parent.get())));
                    }
                    processes += 1;
                }
                Record::ProcessEnd { process, .. } => world.changes.push((at.get(), process.get(), None)),
                Record::Thread(thread) => world.threads.push(thread.process.get()),
                _ => {}
            }
        }
        world.changes.sort_by_key(|change| change.0);
        world
    }
}

const PAGE: u64 = 4096;

impl Replay {
    /// What everything before `until` has left.
    fn until(tape: &[u8], until: u64) -> Replay {
        let reading = Reading::of(tape).expect("it is a tape");
        assert_eq!(reading.damage, []);
        let stacks = stacks(tape);
        let mut all = Vec::new();
        let mut columns = EventColumns::default();
        for block in scan(tape)
            .expect("it is a tape")
            .blocks
            .iter()
            .filter(|block| block.events > 0)
        {
            read_events(tape, block, &mut columns).expect("it is whole");
            for (index, event) in columns.iter().enumerate() {
                let is_kept = block.kind == BlockKind::Keyframe;
                all.push((columns.number(index).get(), event, columns.kind[index].get(), is_kept));
            }
        }
        let mut all = all.into_iter();
        let world = World::of(&reading.records);
        let mut replay = Replay::default();
        let mut changes = world.changes.iter().peekable();
        let mut level: HashMap<u32, i128> = HashMap::new();
        loop {
            let next = all.next().filter(|(number, ..)| *number < until);
            let number = next.map_or(until, |(number, ..)| number);
            while let Some(&(_, process, parent)) = changes.next_if(|change| change.0 <= number) {
                match parent {
                    Some(parent) => {
                        let copy = replay.heaps.get(&parent).cloned().unwrap_or_default();
                        replay.heaps.insert(process, copy);
                    }
                    None => {
                        replay.ended.push(process);
                        level.remove(&process);
                    }
                }
            }
            let Some((number, event, kind, is_kept)) = next else {
                break;
            };
            let process = world.threads[event.thread.get() as usize];
            let before: i128 = level.values().sum();
            replay.apply(
                process,
                number,
                kind,
                &event,
                &stacks,
                level.entry(process).or_default(),
            );
            if replay.ended.contains(&process) {
                level.remove(&process);
            }
            let after: i128 = level.values().sum();
            if !is_kept && after > before && replay.peak.is_none_or(|(_, best)| after as u128 > best) {
                replay.peak = Some((number, after as u128));
            }
        }
        for process in &replay.ended {
            replay.heaps.remove(process);
        }
        replay.heaps.retain(|_, heap| !heap.is_empty());
        replay.pages.retain(|(process, _), _| !replay.ended.contains(process));
        replay
    }

    fn apply(
        &mut self,
        process: u32,
        number: u64,
        kind: u32,
        event: &Event,
        stacks: &dyn Fn(u64, StackId) -> Vec<Frame>,
        level: &mut i128,
    ) {
        let heap = self.heaps.entry(process).or_default();
        let mut bury = |dead: Option<Lived>| {
            if let Some(dead) = dead {
                self.dead_blocks += 1;
                self.dead_bytes += dead.size;
            }
        };
        let birth = |api: AllocApi, size: Bytes, stack: StackId, is_realloc: bool| Lived {
            size: size.get(),
            birth: number,
            time: event.time.get(),
            thread: event.thread.get(),
            api: api as u8,
            is_realloc,
            kind,
            frames: stacks(number, stack),
        };
        match event.op {
            Op::Alloc {
                api,
                address,
                size,
                stack,
            } => {
                let dead = heap.insert(address.get(), birth(api, size, stack, false));
                *level += i128::from(size.get()) - i128::from(dead.as_ref().map_or(0, |dead| dead.size));
                bury(dead);
            }
            Op::Resize {
                api,
                address,
                size,
                stack,
            }
            | Op::MoveIn {
                api,
                address,
                size,
                stack,
            } => {
                let dead = heap.insert(address.get(), birth(api, size, stack, true));
                *level += i128::from(size.get()) - i128::from(dead.as_ref().map_or(0, |dead| dead.size));
                bury(dead);
            }
            Op::Free { address } | Op::MoveOut { address } => {
                let dead = heap.remove(&address.get());
                *level -= i128::from(dead.as_ref().map_or(0, |dead| dead.size));
                bury(dead);
            }
            Op::Typed { address, kind } => {
                if let Some(lived) = heap.get_mut(&address.get()) {
                    lived.kind = kind.get();
                }
            }
            Op::Map {
                address, length, stack, ..
            } => {
                let frames = stacks(number, stack);
                for page in address.get() / PAGE..(address.get() + length.get()) / PAGE {
                    let mapped = (event.thread.get(), number, frames.clone());
                    self.pages.insert((process, page), mapped);
                }
            }
            Op::Unmap { address, length } => {
                for page in address.get() / PAGE..(address.get() + length.get()) / PAGE {
                    self.pages.remove(&(process, page));
                }
            }
            _ => {}
        }
    }
}

/// The frames of a generation, and by node of its stacks the parent and the frame.
type Trie = (Vec<Frame>, Vec<(StackId, FrameId)>);

/// The frames of the stack that an event names.
fn stacks(tape: &[u8]) -> impl Fn(u64, StackId) -> Vec<Frame> {
    let mut tries: HashMap<u32, Trie> = HashMap::new();
    let mut spans = Vec::new();
    for block in scan(tape).expect("it is a tape").blocks {
        for placed in read_tables(tape, &block).expect("it is whole") {
            if let Record::Stacks(new) = placed.record {
                let (frames, nodes) = tries.entry(new.generation).or_default();
                frames.extend(&new.frames);
                nodes.extend(new.parents.iter().copied().zip(new.frame_ids.iter().copied()));
            }
        }
        if block.span() > 0 {
            spans.push((block.first_event.get(), block.generation));
        }
    }
    move |number, stack| {
        let span = spans.partition_point(|(first, _)| *first <= number) - 1;
        let mut frames = Vec::new();
        let mut node = stack;
        while node != StackId::ROOT {
            let (all, nodes) = &tries[&spans[span].1];
            let (parent, frame) = nodes[node.get() as usize - 1];
            frames.push(all[frame.get() as usize]);
            node = parent;
        }
        frames
    }
}

fn assert_same_from(tape: &[u8], folded: &[u8], from: u64) {
    let whole = Reading::of(tape).expect("it is a tape");
    let reading = Reading::of(folded).expect("it is a tape");
    assert_eq!(reading.damage, []);
    assert_eq!(reading.ending, whole.ending);
    let (same, other) = (&reading.events, &whole.events[from as usize..]);
    assert_eq!(same.len(), other.len());
    for (one, other) in same.iter().zip(other) {
        assert_eq!(
            (one.0, one.1.time, one.1.thread),
            (other.0, other.1.time, other.1.thread)
        );
    }
    let end = whole.events.len() as u64;
    for until in [from, from + 1, from + (end - from) / 3, end] {
        let (one, other) = (Replay::until(folded, until), Replay::until(tape, until));
        assert!(one.heaps.keys().eq(other.heaps.keys()), "before event {until}");
        for (process, heap) in &other.heaps {
            let same = &one.heaps[process];
            for address in heap.keys().chain(same.keys()) {
                let (one, other) = (same.get(address), heap.get(address));
                assert_eq!(one, other, "process {process}, {address:#x} before event {until}");
            }
        }
        assert_eq!(one.pages.len(), other.pages.len(), "before event {until}");
        for (page, (thread, _, frames)) in &one.pages {
            let (other_thread, _, other_frames) = &other.pages[page];
            assert_eq!((thread, frames), (other_thread, other_frames));
        }
    }
}

#[test]
fn a_folded_tape_replays_to_the_same_heap_at_every_later_instant() {
    for of_objects in [false, true] {
        let tape = program_tape(3, of_objects);
        let cuts = cuts(&tape);
        assert_eq!(cuts.len(), 6);
        for (cut, from) in cuts {
            let folded = fold(&tape, cut);
            assert!(folded.len() < tape.len());
            assert_same_from(&tape, &folded, from);
            let reading = Reading::of(&folded).expect("it is a tape");
            let span: u64 = reading.kept.iter().map(|(_, span)| u64::from(*span)).sum();
            assert_eq!(span, from);
            let before = Replay::until(&tape, from);
            let gone = reading.folded.expect("it has totals");
            let sum = |of: fn(&record::FoldedSite) -> u64| gone.sites.iter().map(of).sum::<u64>();
            assert_eq!(
                (
                    sum(|site| site.blocks) + gone.other_blocks,
                    sum(|site| site.bytes) + gone.other_bytes
                ),
                (before.dead_blocks, before.dead_bytes)
            );
            let FoldedPeak { event, bytes, .. } = gone.peak.expect("something lived");
            assert_eq!(Some((event.get(), u128::from(bytes))), before.peak);
        }
    }
}

#[test]
fn families_of_forks_keep_what_any_of_them_has() {
    for seed in 0..4 {
        let tape = family_tape(seed);
        for (cut, from) in cuts(&tape) {
            let folded = fold(&tape, cut);
            assert_same_from(&tape, &folded, from);
        }
    }
}

#[test]
fn folding_again_and_again_comes_to_the_same_as_folding_once() {
    for tape in [program_tape(5, true), family_tape(7)] {
        let places = cuts(&tape);
        let (last, from) = places[4];
        let once = fold(&tape, last);
        let mut often = tape.clone();
        for &(_, first_event) in &places[..5] {
            let found = scan(&often).expect("it is a tape").blocks;
            let begins = found
                .windows(2)
                .find(|pair| pair[1].generation > pair[0].generation && pair[1].first_event.get() == first_event);
            often = fold(&often, begins.expect("that generation is there")[1].offset);
        }
        assert_same_from(&tape, &often, from);
        let (once, often) = (Reading::of(&once).unwrap(), Reading::of(&often).unwrap());
        let (one, other) = (once.folded.unwrap(), often.folded.unwrap());
        assert_eq!(one.peak, other.peak);
        let sum =
            |folded: &record::Folded| folded.sites.iter().map(|site| site.bytes).sum::<u64>() + folded.other_bytes;
        assert_eq!(sum(&one), sum(&other));
    }
}

/// A piece of code with the name of its start.
fn code(process: u32, start: u64) -> Naming {
    Naming::Code(NamedCode {
        process: ProcessIx(process),
        start: Address(start),
        length: 0x20,
        name: format!("{start:x}").into_bytes(),
    })
}

#[test]
fn names_stay_with_the_frames_that_they_name() {
    let mut out = Vec::new();
    let mut writer = common::writer(100, &mut out);
    record_process(&mut writer, 0, ProcessOrigin::Exec, 1);
    // The return address right behind a piece of code belongs to it.
    for (number, address) in [(1, 0x1001), (2, 0x2020)] {
        let process = ProcessIx(0);
        let address = Address(address);
        let frame = writer.frame(Frame::Raw { process, address });
        let op = Op::Alloc {
            api: AllocApi::Malloc,
            address: Address(number << 20),
            size: Bytes(8),
            stack: writer.stack(StackId::ROOT, frame),
        };
        let (time, thread) = (Micros(number), ThreadIx(0));
        writer.event(&Event { time, thread, op }, &mut out);
    }
    let cut = |process, bytes| Naming::Cut {
        process: ProcessIx(process),
        bytes,
    };
    let met = [code(0, 0x1000), code(0, 0x2000)];
    // Of a neighbour, of what begins where a return address stands, and of another process with the same addresses.
    let unmet = [code(0, 0xfe0), code(0, 0x2020), code(1, 0x1000), cut(1, 4)];
    for naming in met.iter().chain(&unmet).chain(&[cut(0, 5), cut(0, 6)]) {
        writer.name(naming, &mut out);
    }
    writer.new_generation(&mut out);
    writer.name(&code(0, 0x5000), &mut out);
    writer.finish(&End::default(), &mut out);

    let (at, _) = *cuts(&out).first().expect("a generation begins");
    let folded = fold(&out, at);
    let found = scan(folded.as_slice()).expect("it is a tape");
    assert_eq!(found.damage, []);
    let names = found.blocks.iter().map(|block| read_names(folded.as_slice(), block));
    let names: Vec<Naming> = names.flat_map(|names| names.expect("it is whole")).collect();
    let [first, second] = met;
    assert_eq!(names, [first, second, cut(0, 11), code(0, 0x5000)]);
}
