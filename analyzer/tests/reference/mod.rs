//! The plainest possible replay: one event after the other, one map per process, copied at a fork. Slow, and easy to believe.

use heaptape::table::MappingKind;
use heaptape_format::record::ProcessOrigin;
use heaptape_format::{MapApi, Op, ThreadIx, TypeIx};
use std::collections::{BTreeMap, BTreeSet};

/// Threads of each process.
pub const THREADS: u32 = 2;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// What happens in a generated history, in order.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A new process image with one thread.
    Start(ProcessOrigin),
    /// A process image ends.
    End(u32),
    /// An event of a thread. Lost events have a number but are unknown; events that are not written have none.
    Event {
        thread: ThreadIx,
        op: Op,
        is_written: bool,
        is_lost: bool,
    },
}

/// A row of the allocation table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub birth: u64,
    pub death: Option<u64>,
    pub size: u64,
    pub thread: u32,
    pub predecessor: Option<usize>,
    pub lost_free: bool,
    /// What was said last of the block while it lived; `None` when nothing was.
    pub kind: Option<TypeIx>,
}

/// The heap of one process: address to row, and whether the row is a copy from a parent.
#[derive(Clone, Default)]
struct Process {
    blocks: BTreeMap<u64, (usize, bool)>,
    seen: BTreeSet<u64>,
    pages: BTreeMap<u64, Page>,
    is_over: bool,
}

/// Who mapped a page, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub thread: u32,
    pub kind: MappingKind,
}

/// The state before an event, as sets of rows by process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub own: BTreeSet<usize>,
    pub inherited: BTreeSet<(u32, usize)>,
    /// By process and number: pages that it mapped.
    pub pages: BTreeMap<(u32, u64), Page>,
}

/// What a replay comes to.
#[derive(Default)]
pub struct Outcome {
    pub rows: Vec<Row>,
    /// By event number; the last is the state at the end.
    pub states: Vec<State>,
    pub frees: u64,
    pub double_frees: u64,
    pub unknown_frees: u64,
    pub lost_frees: u64,
    pub inherited_frees: u64,
}

/// Replays a history; threads are numbered as processes are, [`THREADS`] each.
pub fn replay(history: &[Happening]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut processes: Vec<Process> = Vec::new();
    let mut ending: Vec<u32> = Vec::new();
    let mut moving: BTreeMap<u32, Option<usize>> = BTreeMap::new();
    let mut event = 0;
    for happening in history {
        match happening {
            Happening::Start(origin) => {
                let fresh = match origin {
                    ProcessOrigin::Fork(parent) => {
                        let mut copy = processes[parent.get() as usize].clone();
                        // What a child has of its parent's address space is not told again.
                        copy.pages.clear();
                        copy.blocks.values_mut().for_each(|(_, is_copy)| *is_copy = true);
                        copy
                    }
                    ProcessOrigin::Replace(old) => {
                        ending.push(old.get());
                        Process::default()
                    }
                    ProcessOrigin::Exec => Process::default(),
                };
                processes.push(fresh);
            }
            Happening::End(process) => ending.push(*process),
            Happening::Event {
                thread,
                op,
                is_written,
                is_lost,
            } => {
                if *is_written {
                    outcome.states.push(state(&processes));
                }
                if *is_written {
                    for process in ending.drain(..) {
                        processes[process as usize].is_over = true;
                    }
                }
                if !is_lost {
                    apply(
                        &mut outcome,
                        &mut processes[(thread.get() / THREADS) as usize],
                        &mut moving,
                        event,
                        *thread,
                        *op,
                    );
                }
                event += u64::from(*is_written);
            }
        }
    }
    outcome.states.push(state(&processes));
    outcome
}

fn state(processes: &[Process]) -> State {
    let mut state = State::default();
    for (process, pages) in (0..).zip(processes.iter().map(|process| &process.pages)) {
        state
            .pages
            .extend(pages.iter().map(|(&page, &what)| ((process, page), what)));
    }
    for (index, process) in processes.iter().enumerate().filter(|(_, process)| !process.is_over) {
        for &(row, is_copy) in process.blocks.values() {
            if is_copy {
                state.inherited.insert((index as u32, row));
            } else {
                state.own.insert(row);
            }
        }
    }
    state
}

fn apply(
    outcome: &mut Outcome,
    process: &mut Process,
    moving: &mut BTreeMap<u32, Option<usize>>,
    event: u64,
    thread: ThreadIx,
    op: Op,
) {
    let thread = thread.get();
    match op {
        Op::Alloc { address, size, .. } => born(outcome, process, event, thread, address.get(), size.get(), None),
        Op::Free { address } => {
            died(outcome, process, event, address.get());
        }
        Op::Resize { address, size, .. } => {
            let old = died(outcome, process, event, address.get());
            born(outcome, process, event, thread, address.get(), size.get(), old);
        }
        Op::MoveOut { address } => {
            let old = died(outcome, process, event, address.get());
            moving.insert(thread, old);
        }
        Op::MoveIn { address, size, .. } => {
            let old = moving.remove(&thread).flatten();
            born(outcome, process, event, thread, address.get(), size.get(), old);
        }
        // What is said of a copy is no fact about the original.
        Op::Typed { address, kind } => {
            if let Some(&(row, false)) = process.blocks.get(&address.get()) {
                outcome.rows[row].kind = Some(kind);
            }
        }
        Op::Map {
            api, address, length, ..
        } => {
            let kind = match api {
                MapApi::Anonymous => MappingKind::Anonymous,
                MapApi::File => MappingKind::File,
                MapApi::PyArena => MappingKind::Arena,
            };
            for page in pages(address.get(), length.get()) {
                process.pages.insert(page, Page { thread, kind });
            }
        }
        Op::Unmap { address, length } => {
            for page in pages(address.get(), length.get()) {
                process.pages.remove(&page);
            }
        }
        Op::Remap {
            old_address,
            old_length,
            address,
            length,
            ..
        } => {
            let gone = pages(old_address.get(), old_length.get()).filter_map(|page| process.pages.remove(&page));
            let gone: Vec<Page> = gone.collect();
            let kind = gone.first().map_or(MappingKind::Anonymous, |page| page.kind);
            for page in pages(address.get(), length.get()) {
                process.pages.insert(page, Page { thread, kind });
            }
        }
        Op::Brk { old_end, new_end, .. } => {
            let (from, until) = (old_end.min(new_end).get(), old_end.max(new_end).get());
            for page in pages(from, until - from) {
                process.pages.remove(&page);
                if new_end > old_end {
                    let kind = MappingKind::Brk;
                    process.pages.insert(page, Page { thread, kind });
                }
            }
        }
    }
}

fn pages(start: u64, length: u64) -> std::ops::Range<u64> {
    start / PAGE..(start + length) / PAGE
}

fn born(
    outcome: &mut Outcome,
    process: &mut Process,
    event: u64,
    thread: u32,
    address: u64,
    size: u64,
    predecessor: Option<usize>,
) {
    process.seen.insert(address);
    let row = outcome.rows.len();
    if let Some((old, is_copy)) = process.blocks.insert(address, (row, false)) {
        outcome.lost_frees += 1;
        if !is_copy {
            outcome.rows[old].death = Some(event);
            outcome.rows[old].lost_free = true;
        }
    }
    outcome.rows.push(Row {
        birth: event,
        death: None,
        size,
        thread,
        predecessor,
        lost_free: false,
        kind: None,
    });
}

/// Ends the block at an address; the row, if it was the process's own.
fn died(outcome: &mut Outcome, process: &mut Process, event: u64, address: u64) -> Option<usize> {
    match process.blocks.remove(&address) {
        Some((row, false)) => {
            outcome.frees += 1;
            outcome.rows[row].death = Some(event);
            Some(row)
        }
        Some((_, true)) => {
            outcome.inherited_frees += 1;
            None
        }
        None if process.seen.contains(&address) => {
            outcome.double_frees += 1;
            None
        }
        None => {
            outcome.unknown_frees += 1;
            None
        }
    }
}
