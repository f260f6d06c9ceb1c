//! The engine against the plain reference replay, on generated histories.

mod reference;
mod support;
#[path = "support/fold.rs"]
mod tapes;

use heaptape::index::{open, IndexPlace};
use heaptape::query::TimeSpec;
use heaptape::table::{AllocIx, Allocation, Flags, Heap, Level, MappingRow, Moment, NEVER};
use heaptape::tape::Tape;
use heaptape_format::record::{ProcessEnd, ProcessOrigin, Record};
use heaptape_format::{
    read_events, scan, Address, AllocApi, BlockKind, Bytes, EventColumns, EventNo, MapApi, Micros, Op, ProcessIx,
    StackId, ThreadIx, TypeIx,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use reference::{Happening, Outcome, Page, State, PAGE, THREADS};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use support::{heap_of, Recording};
use tapes::{cuts, fold};

/// A step of a history before it is known which processes are there.
#[derive(Clone, Debug)]
enum Step {
    Alloc {
        who: u8,
        slot: u8,
        size: u16,
    },
    Free {
        who: u8,
        slot: u8,
    },
    Resize {
        who: u8,
        slot: u8,
        size: u16,
    },
    Move {
        who: u8,
        from: u8,
        to: u8,
        size: u16,
    },
    MoveOut {
        who: u8,
        slot: u8,
    },
    MoveIn {
        who: u8,
        slot: u8,
        size: u16,
    },
    Fork {
        who: u8,
    },
    Exec {
        who: u8,
    },
    Exit {
        who: u8,
    },
    Typed {
        who: u8,
        slot: u8,
        kind: u8,
    },
    Map {
        who: u8,
        page: u8,
        pages: u8,
        api: u8,
    },
    Unmap {
        who: u8,
        page: u8,
        pages: u8,
    },
    Remap {
        who: u8,
        page: u8,
        pages: u8,
        to: u8,
    },
    Brk {
        who: u8,
        from: u8,
        to: u8,
    },
    /// Other steps take no time.
    Wait,
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let (who, slot, size) = (any::<u8>(), 0..4u8, 0..2000u16);
    prop_oneof![
        8 => (who, slot.clone(), size.clone()).prop_map(|(who, slot, size)| Step::Alloc { who, slot, size }),
        8 => (who, slot.clone()).prop_map(|(who, slot)| Step::Free { who, slot }),
        2 => (who, slot.clone(), size.clone()).prop_map(|(who, slot, size)| Step::Resize { who, slot, size }),
        2 => (who, slot.clone(), slot.clone(), size.clone())
            .prop_map(|(who, from, to, size)| Step::Move { who, from, to, size }),
        1 => (who, slot.clone()).prop_map(|(who, slot)| Step::MoveOut { who, slot }),
        1 => (who, slot.clone(), size).prop_map(|(who, slot, size)| Step::MoveIn { who, slot, size }),
        2 => who.prop_map(|who| Step::Fork { who }),
        1 => who.prop_map(|who| Step::Exec { who }),
        1 => who.prop_map(|who| Step::Exit { who }),
        5 => (any::<u8>(), 0..4u8, 0..4u8).prop_map(|(who, slot, kind)| Step::Typed { who, slot, kind }),
        2 => (any::<u8>(), 0..8u8, 1..5u8, 0..3u8)
            .prop_map(|(who, page, pages, api)| Step::Map { who, page, pages, api }),
        2 => (any::<u8>(), 0..8u8, 1..3u8).prop_map(|(who, page, pages)| Step::Unmap { who, page, pages }),
        1 => (any::<u8>(), 0..8u8, 1..3u8, 0..8u8)
            .prop_map(|(who, page, pages, to)| Step::Remap { who, page, pages, to }),
        1 => (any::<u8>(), 0..8u8, 0..8u8).prop_map(|(who, from, to)| Step::Brk { who, from, to }),
        5 => Just(Step::Wait),
        1 => Just(Step::Flush),
    ]
}

/// Writes the steps as a tape and as a history.
fn write(steps: &[Step], block_events: u32) -> (Vec<u8>, Vec<Happening>) {
    let mut tape = Recording::new(block_events);
    let mut history = Vec::new();
    let mut alive: Vec<u32> = vec![0];
    let mut processes = 1;
    tape.process(1000, ProcessOrigin::Exec, b"/bin/first");
    (0..THREADS).for_each(|number| {
        tape.thread(0, 1000 + number, b"");
    });
    for name in ["dict", "list", "str"] {
        tape.record(Record::Type { name: name.into() });
    }
    history.push(Happening::Start(ProcessOrigin::Exec));
    for step in steps {
        let process_of = |who: &u8| alive.get(*who as usize % alive.len().max(1)).copied();
        // Which thread of the process.
        let pick = |who: &u8| Some(process_of(who)? * THREADS + u32::from(*who >> 7));
        let page = |page: &u8| Address(0x10_0000 + u64::from(*page) * PAGE);
        let length = |pages: &u8| Bytes(u64::from(*pages) * PAGE);
        let address = |slot: &u8| Address(0x1000 + u64::from(*slot) * 16);
        let mut ops: Vec<(u32, Op)> = Vec::new();
        // Half of the blocks are Python's.
        let api = |size: &u16| {
            if size.is_multiple_of(2) {
                AllocApi::PyObj
            } else {
                AllocApi::Malloc
            }
        };
        let stack = StackId::ROOT;
        match step {
            Step::Alloc { who, slot, size } => ops.extend(pick(who).map(|t| {
                (
                    t,
                    Op::Alloc {
                        api: api(size),
                        address: address(slot),
                        size: Bytes(u64::from(*size)),
                        stack,
                    },
                )
            })),
            Step::Free { who, slot } => ops.extend(pick(who).map(|t| (t, Op::Free { address: address(slot) }))),
            Step::Resize { who, slot, size } => ops.extend(pick(who).map(|t| {
                (
                    t,
                    Op::Resize {
                        api: api(size),
                        address: address(slot),
                        size: Bytes(u64::from(*size)),
                        stack,
                    },
                )
            })),
            Step::Move { who, from, to, size } => {
                if let Some(t) = pick(who) {
                    ops.push((t, Op::MoveOut { address: address(from) }));
                    ops.push((
                        t,
                        Op::MoveIn {
                            api: api(size),
                            address: address(to),
                            size: Bytes(u64::from(*size)),
                            stack,
                        },
                    ));
                }
            }
            Step::MoveOut { who, slot } => ops.extend(pick(who).map(|t| (t, Op::MoveOut { address: address(slot) }))),
            Step::MoveIn { who, slot, size } => ops.extend(pick(who).map(|t| {
                (
                    t,
                    Op::MoveIn {
                        api: api(size),
                        address: address(slot),
                        size: Bytes(u64::from(*size)),
                        stack,
                    },
                )
            })),
            Step::Fork { who } | Step::Exec { who } => {
                let Some(parent) = process_of(who) else { continue };
                let origin = match step {
                    Step::Fork { .. } => ProcessOrigin::Fork(ProcessIx(parent)),
                    _ => {
                        alive.retain(|&process| process != parent);
                        ProcessOrigin::Replace(ProcessIx(parent))
                    }
                };
                tape.process(1000 + THREADS * processes, origin, b"/bin/next");
                (0..THREADS).for_each(|number| {
                    tape.thread(processes, 1000 + THREADS * processes + number, b"");
                });
                history.push(Happening::Start(origin));
                alive.push(processes);
                processes += 1;
            }
            Step::Exit { who } => {
                let Some(process) = process_of(who) else { continue };
                alive.retain(|&other| other != process);
                tape.record(Record::ProcessEnd {
                    process: ProcessIx(process),
                    end: ProcessEnd::Exit(0),
                });
                history.push(Happening::End(process));
            }
            Step::Typed { who, slot, kind } => ops.extend(pick(who).map(|t| {
                let (address, kind) = (address(slot), TypeIx(u32::from(*kind)));
                (t, Op::Typed { address, kind })
            })),
            Step::Map {
                who,
                page: at,
                pages,
                api,
            } => ops.extend(pick(who).map(|t| {
                let op = Op::Map {
                    api: [MapApi::Anonymous, MapApi::File, MapApi::PyArena][usize::from(*api)],
                    address: page(at),
                    length: length(pages),
                    stack,
                };
                (t, op)
            })),
            Step::Unmap { who, page: at, pages } => ops.extend(pick(who).map(|t| {
                let (address, length) = (page(at), length(pages));
                (t, Op::Unmap { address, length })
            })),
            Step::Remap {
                who,
                page: at,
                pages,
                to,
            } => ops.extend(pick(who).map(|t| {
                let op = Op::Remap {
                    old_address: page(at),
                    old_length: length(pages),
                    address: page(to),
                    length: length(pages),
                    stack,
                };
                (t, op)
            })),
            Step::Brk { who, from, to } => ops.extend(pick(who).map(|t| {
                let (old_end, new_end) = (page(from), page(to));
                (
                    t,
                    Op::Brk {
                        old_end,
                        new_end,
                        stack,
                    },
                )
            })),
            Step::Wait => {
                tape.wait(7);
            }
            Step::Flush => {
                tape.new_generation();
            }
        }
        for (thread, op) in ops {
            // A type that a reader knows by itself is not written, and has no number.
            let is_written = tape.op(thread, op);
            history.push(Happening::Event {
                thread: ThreadIx(thread),
                op,
                is_written,
                is_lost: false,
            });
        }
    }
    (tape.finish(), history)
}

/// What is alive in each process before an event, by process and birth.
fn living(heap: &Heap, cut: u64) -> BTreeMap<(u32, u64), Allocation> {
    let mut living = BTreeMap::new();
    let state = state_of(heap, cut);
    let own = state.own.iter().map(|&row| (None, row));
    let inherited = state.inherited.iter().map(|&(process, row)| (Some(process), row));
    for (process, row) in own.chain(inherited) {
        let mut row = heap.allocations.get(AllocIx(row as u32));
        let process = process.or(heap.catalog.process_of(row.thread).map(|process| process.get()));
        // Of which rows these are, and what became of them in the process of their birth, the history tells.
        row.predecessor = AllocIx::NONE;
        row.death = NEVER;
        row.flags = Flags(row.flags.0 & Flags::REALLOC.0);
        living.insert((process.unwrap_or(u32::MAX), row.birth.get()), row);
    }
    living
}

/// Destroys one block of events in the tape and forgets its events in the history.
fn lose_a_block(bytes: &mut [u8], history: &mut [Happening], which: usize) {
    let found = scan(&*bytes).expect("it is a tape");
    let blocks: Vec<_> = found
        .blocks
        .iter()
        .filter(|block| block.kind == BlockKind::Events)
        .collect();
    if blocks.is_empty() {
        return;
    }
    let block = blocks[which % blocks.len()];
    bytes[block.payload_offset() as usize + block.payload_length() as usize / 2] ^= 0x55;
    let lost = block.first_event.get()..block.first_event.get() + u64::from(block.events);
    let mut number = 0;
    for happening in history {
        let Happening::Event {
            is_written, is_lost, ..
        } = happening
        else {
            continue;
        };
        // What was not written followed from what the same block holds.
        number += u64::from(*is_written);
        *is_lost = number > 0 && lost.contains(&(number - 1));
    }
}

/// The types that the blocks of a tape let expect of each birth, by its event.
fn expected_types(bytes: &[u8]) -> BTreeMap<u64, TypeIx> {
    let mut types = BTreeMap::new();
    let mut columns = EventColumns::default();
    for block in scan(bytes).expect("it is a tape").blocks {
        if read_events(bytes, &block, &mut columns).is_ok() {
            let births = (0..columns.len()).filter(|&index| columns.op[index].is_birth());
            types.extend(births.map(|index| (block.first_event.get() + index as u64, columns.kind[index])));
        }
    }
    types
}

fn state_of(heap: &Heap, cut: u64) -> State {
    let moment = Moment {
        cut: EventNo(cut),
        time: Micros(0),
        by_time: false,
    };
    let own = (0..heap.allocations.len() as u32)
        .filter(|&row| heap.is_live(row, &moment))
        .map(|row| row as usize);
    let mut state = State {
        own: own.collect(),
        ..State::default()
    };
    for process in 0..heap.catalog.processes.len() as u32 {
        heap.inherited(ProcessIx(process), &moment, |row| {
            assert!(
                state.inherited.insert((process, row as usize)),
                "row {row} twice in process {process}"
            );
        });
    }
    let alive = |row: &&MappingRow| row.birth < moment.cut && row.death >= moment.cut;
    for row in heap.mappings.rows.iter().filter(alive) {
        let process = row.process.expect("all threads are described").get();
        let (thread, kind) = (row.thread.get(), row.kind);
        let start = row.start.get() / PAGE;
        for page in start..start + row.length.get() / PAGE {
            let twice = state.pages.insert((process, page), Page { thread, kind });
            assert!(twice.is_none(), "page {page} twice in process {process}");
        }
    }
    state
}

fn assert_equal(heap: &Heap, expected: &Outcome, types: &BTreeMap<u64, TypeIx>) {
    assert_eq!(heap.allocations.len(), expected.rows.len());
    for (index, row) in expected.rows.iter().enumerate() {
        let found = heap.allocations.get(AllocIx(index as u32));
        assert_eq!(found.birth, EventNo(row.birth));
        assert_eq!(found.death, row.death.map_or(NEVER, EventNo), "death of row {index}");
        assert_eq!(found.size, Bytes(row.size));
        assert_eq!(found.thread, ThreadIx(row.thread));
        assert_eq!(found.flags.has(Flags::LOST_FREE), row.lost_free, "row {index}");
        assert_eq!(found.kind, row.kind.unwrap_or(types[&row.birth]), "type of row {index}");
        let predecessor = row.predecessor.map_or(AllocIx::NONE, |row| AllocIx(row as u32));
        assert_eq!(found.predecessor, predecessor, "predecessor of row {index}");
    }
    let counters = &heap.counters;
    assert_eq!(counters.frees, expected.frees, "frees");
    assert_eq!(counters.double_frees, expected.double_frees, "double frees");
    assert_eq!(counters.unknown_frees, expected.unknown_frees, "unknown frees");
    assert_eq!(counters.lost_frees, expected.lost_frees, "lost frees");
    assert_eq!(counters.inherited_frees, expected.inherited_frees, "inherited frees");
    let mut highest: Option<(u64, u128)> = None;
    for (cut, state) in (0u64..).zip(&expected.states) {
        assert_eq!(&state_of(heap, cut), state, "before event {cut}");
        let bytes: u128 = state.own.iter().map(|&row| u128::from(expected.rows[row].size)).sum();
        if !expected.rows.is_empty() && cut > expected.rows[0].birth && highest.is_none_or(|(_, most)| bytes > most) {
            highest = Some((cut, bytes));
        }
    }
    let peak = heap.peak().map(|(moment, level)| (moment.cut.get(), level.size));
    assert_eq!(peak, highest, "peak");
}

/// The heap of a tape as its index has it.
fn through_index(bytes: &[u8]) -> Heap {
    let folder = support::TempDir::new("history");
    let tape = Tape::from_source(Box::new(bytes.to_vec()), Path::new("test.tape")).expect("the bytes are a tape");
    let place = IndexPlace::Folder(folder.path().to_owned());
    let open = || open(&tape, "test.tape", &place, &|_, _| ()).expect("the folder takes files");
    assert!(open().index_path().is_none());
    let heap = open();
    assert!(heap.index_path().is_some() && !heap.index_is_bad());
    heap
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_history_is_replayed_as_the_reference_does(
        steps in prop::collection::vec(step(), 0..120),
        block_events in 1..20u32,
    ) {
        let (bytes, history) = write(&steps, block_events);
        let types = expected_types(&bytes);
        let heap = heap_of(bytes.clone());
        prop_assert!(heap.damage.is_empty() && heap.ended_cleanly());
        let expected = reference::replay(&history);
        assert_equal(&heap, &expected, &types);
        assert_equal(&through_index(&bytes), &expected, &types);
    }

    #[test]
    fn a_folded_tape_says_the_same_of_every_instant_that_it_knows(
        steps in prop::collection::vec(step(), 20..120),
        block_events in 1..20u32,
        which in any::<usize>(),
    ) {
        let (bytes, _) = write(&steps, block_events);
        let cuts = cuts(&bytes);
        let Some(cut) = which.checked_rem(cuts.len()).map(|which| cuts[which]) else { return Ok(()) };
        let (folded, from) = (fold(&bytes, &cut, 7, None), cut.first_event.get());
        let whole = heap_of(bytes);
        for heap in [heap_of(folded.clone()), through_index(&folded)] {
            prop_assert!(heap.damage.is_empty() && heap.ended_cleanly() && !heap.catalog.stacks_incomplete);
            prop_assert_eq!(heap.start().cut.get(), from);
            prop_assert_eq!(heap.end(), whole.end());
            prop_assert_eq!(heap.counters.events, whole.counters.events);
            prop_assert_eq!(heap.counters.bytes_allocated, whole.counters.bytes_allocated);
            for cut in from..=whole.end().cut.get() {
                let (one, other) = (living(&heap, cut), living(&whole, cut));
                prop_assert_eq!(&one, &other, "before event {}", cut);
                prop_assert_eq!(heap.live_level(&heap.after(EventNo(cut))), whole.live_level(&whole.after(EventNo(cut))));
                for row in other.values() {
                    prop_assert_eq!(heap.clock.time_of(row.birth), whole.clock.time_of(row.birth));
                }
            }
            let peak = whole.peak().map(|(moment, level)| (moment.cut.get(), level));
            let found = match heap.folded_peak() {
                Some(peak) => Some((peak.event.get() + 1, Level { size: u128::from(peak.bytes), count: peak.blocks })),
                None => heap.peak().map(|(moment, level)| (moment.cut.get(), level)),
            };
            prop_assert_eq!(found, peak);
            for event in 0..from {
                let refused = TimeSpec::Event(EventNo(event)).resolve(&heap).unwrap_err().to_string();
                prop_assert!(refused.contains("full history begins at"), "{}", refused);
            }
            prop_assert_eq!(TimeSpec::Event(EventNo(from)).resolve(&heap).map(|moment| moment.cut.get()), Ok(from));
        }
    }

    #[test]
    fn what_is_left_of_a_damaged_tape_is_replayed_exactly_and_the_gap_is_known(
        steps in prop::collection::vec(step(), 20..120),
        block_events in 1..20u32,
        which in any::<usize>(),
    ) {
        let (mut bytes, mut history) = write(&steps, block_events);
        lose_a_block(&mut bytes, &mut history, which);
        let lost = history.iter().filter(|h| matches!(h, Happening::Event { is_written: true, is_lost: true, .. })).count();
        let types = expected_types(&bytes);
        let heap = through_index(&bytes);
        prop_assert_eq!(&heap.damage, &heap_of(bytes).damage);
        let reported: u64 = heap.damage.iter().filter_map(|damage| damage.lost_events).sum();
        prop_assert_eq!(reported, lost as u64);
        prop_assert_eq!(heap.gaps.is_empty(), lost == 0);
        // The last block's numbers are known only to the one after it, so the end may fall short of the history's.
        let mut expected = reference::replay(&history);
        expected.states.truncate(heap.end().cut.get() as usize + 1);
        let tail_is_lost = expected.states.len() != history.iter().filter(|h| matches!(h, Happening::Event { is_written: true, .. })).count() + 1;
        if !tail_is_lost {
            assert_equal(&heap, &expected, &types);
        }
        for row in 0..heap.allocations.len() as u32 {
            let first_gap_after = heap.gaps.iter().find(|gap| gap.at.get() > heap.allocations.birth(row as usize).get());
            let never_freed = heap.allocations.death(row as usize) == NEVER;
            let ended_before = first_gap_after.is_some_and(|gap| heap.effective_death(row) < gap.at);
            let doubtful = never_freed && first_gap_after.is_some() && !ended_before;
            prop_assert_eq!(heap.is_doubtful(row, &heap.end()), doubtful);
        }
    }
}

/// What the generated histories are to hold, so that the comparison above says something of it.
#[test]
fn the_generated_histories_hold_every_case() {
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..100 {
        let steps = prop::collection::vec(step(), 0..120).new_tree(&mut runner);
        let steps = steps.expect("steps can be made").current();
        let (bytes, history) = write(&steps, 10);
        let outcome = reference::replay(&history);
        let mut note = |what, times| *seen.entry(what).or_default() += times;
        note("double frees", outcome.double_frees);
        note("frees of unknown addresses", outcome.unknown_frees);
        note("births over live blocks", outcome.lost_frees);
        note("inherited blocks freed", outcome.inherited_frees);
        let rows = &outcome.rows;
        let reallocs = rows.iter().filter_map(|row| Some((row, &rows[row.predecessor?])));
        let (in_place, moved): (Vec<_>, Vec<_>) = reallocs.partition(|(row, old)| old.death == Some(row.birth));
        note("reallocs in place", in_place.len() as u64);
        note("moving reallocs", moved.len() as u64);
        let chains = in_place
            .iter()
            .chain(&moved)
            .filter(|(_, old)| old.predecessor.is_some());
        note("chains of reallocs", chains.count() as u64);
        // A block of one thread, at whose address another thread of the process has one in the same microsecond.
        let heap = heap_of(bytes);
        let mut ended: BTreeMap<(u32, u64), (u32, Micros)> = BTreeMap::new();
        let mut frees: BTreeMap<u64, usize> = BTreeMap::new();
        frees.extend(rows.iter().enumerate().filter_map(|(row, it)| Some((it.death?, row))));
        for event in 0..heap.end().cut.get() {
            let time = heap.clock.time_of(EventNo(event));
            let address = |row: usize| heap.allocations.address(row).get();
            if let Some(&row) = frees.get(&event) {
                let thread = rows[row].thread;
                ended.insert((thread / THREADS, address(row)), (thread, time));
            }
            for (row, it) in rows.iter().enumerate().filter(|(_, it)| it.birth == event) {
                let before = ended.get(&(it.thread / THREADS, address(row)));
                let is_reuse = before.is_some_and(|&(thread, at)| thread != it.thread && at == time);
                note("reuse by another thread within a microsecond", u64::from(is_reuse));
            }
        }
        // Pieces of one birth on both sides of a hole.
        let cuts = heap
            .mappings
            .rows
            .iter()
            .map(|row| (row.birth, row.process, row.thread));
        let cuts: Vec<_> = cuts.collect();
        let distinct: BTreeSet<_> = cuts.iter().copied().collect();
        note(
            "unmapping in the middle of a mapping",
            (cuts.len() - distinct.len()) as u64,
        );
    }
    assert_eq!(seen.len(), 9, "{seen:?}");
    assert!(seen.values().all(|&times| times >= 10), "{seen:?}");
}

#[test]
fn the_tables_are_the_same_for_any_number_of_threads() {
    for bytes in [support::service(), support::python_service()] {
        assert_same_tables(&bytes);
    }
}

fn assert_same_tables(bytes: &[u8]) {
    let dump = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool");
        pool.install(|| {
            let heap = heap_of(bytes.to_vec());
            format!(
                "{:?} {:?} {:?} {:?}",
                heap.allocations,
                heap.inherited_deaths,
                heap.counters,
                heap.peak()
            )
        })
    };
    let one = dump(1);
    for threads in 2..=16 {
        assert!(dump(threads) == one, "{threads} threads");
    }
}

#[test]
fn a_tape_cut_at_any_byte_is_read_without_a_panic() {
    for bytes in [support::service(), support::python_service()] {
        for length in (0..bytes.len()).step_by(7) {
            let cut = bytes[..length].to_vec();
            if let Ok(tape) = heaptape::tape::Tape::from_source(Box::new(cut), "cut.tape".as_ref()) {
                let heap = heaptape::replay::replay(&tape, "cut.tape", &|_, _| ());
                assert!(!heap.notes().is_empty(), "cut at {length}");
            }
        }
    }
}
