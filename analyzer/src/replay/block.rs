//! One block of events, decoded and sorted into what the later stages need. Done for many blocks in parallel.
//!
//! Most blocks of memory are freed within the block of events that they were born in, and the tape says which birth a free belongs to. Those are settled here, without looking
//! anything up. What is left for the shards is what concerns other blocks of events, and the first birth at an address, which may show that a free was missed.

use super::mapping::{self, MappingChange};
use super::matching::{shard_of, Fate, HeapOp, NOBODY, SHARDS};
use crate::table::{ClockBlock, Flags, Marks};
use crate::tape::{Catalog, Generation, Tape};
use heaptape_format::{read_events, Damage, EventColumns, EventNo, OpCode, ProcessIx, ThreadIx, NO_BIRTH};
use heaptape_format::{Address, Block};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The blocks of memory that came to life in a block of events, a column a fact. Events are numbered within the block.
#[derive(Default)]
pub(super) struct Births {
    pub event: Vec<u32>,
    /// [`NO_BIRTH`] when it was not freed within this block.
    pub death: Vec<u32>,
    pub address: Vec<u64>,
    pub size: Vec<u64>,
    pub stack: Vec<u32>,
    pub thread: Vec<u32>,
    pub kind: Vec<u32>,
    pub marks: Vec<u8>,
}

impl Births {
    pub(super) fn len(&self) -> usize {
        self.event.len()
    }

    fn clear(&mut self) {
        self.event.clear();
        self.death.clear();
        self.address.clear();
        self.size.clear();
        self.stack.clear();
        self.thread.clear();
        self.kind.clear();
        self.marks.clear();
    }
}

/// Half of a moving `realloc`, or one in place.
pub(super) enum Move {
    /// The block that this event frees moves; it was born in another block of events, if at all.
    Out(EventNo),
    /// The block with this number moves.
    OutOf(u32),
    /// What moved is the birth with this number now.
    Into(u32),
}

/// Events of one process in a row.
pub(super) struct Run {
    pub from: u32,
    pub process: ProcessIx,
}

/// What one block of events comes to. Kept and used again for other blocks.
#[derive(Default)]
pub(super) struct Digest {
    pub first_event: EventNo,
    pub events: u32,
    pub weight: u64,
    pub unknown_threads: u64,
    pub unknown_types: u64,
    /// Frees of what was born here.
    pub frees: u64,
    pub births: Births,
    pub mappings: Vec<MappingChange>,
    /// Heap operations by address shard, each in the order of events.
    pub ops: Vec<Vec<HeapOp>>,
    /// Moving reallocs in order.
    pub moves: Vec<(ThreadIx, Move)>,
    /// Births here that replace others born here, in place: (new, old).
    pub resized: Vec<(u32, u32)>,
    /// By event, how the number of live bytes changes.
    pub deltas: Vec<AtomicI64>,
    pub runs: Vec<Run>,
    /// Whether any size is beyond what the sums of `deltas` can hold for certain.
    pub is_huge: bool,
    pub clock: Option<ClockBlock>,
}

/// What is needed to digest one block, and then another.
#[derive(Default)]
pub(super) struct Workspace {
    columns: EventColumns,
    scratch: Scratch,
}

/// As many as there are threads at work: each stays in its thread's cache.
#[derive(Default)]
pub(super) struct Workspaces(Mutex<Vec<Workspace>>);

impl Workspaces {
    fn list(&self) -> MutexGuard<'_, Vec<Workspace>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Workspace {
        self.list().pop().unwrap_or_default()
    }

    fn give(&self, workspace: Workspace) {
        self.list().push(workspace);
    }
}

#[derive(Default)]
struct Scratch {
    /// By event: the event that ends what it begins.
    ends: Vec<u32>,
    /// By event: the number of the birth.
    numbers: Vec<u32>,
    quiet: Quiet,
}

/// Larger blocks are no blocks of a real program; with them, levels are summed up in another way.
const HUGE: u64 = 1 << 40;

/// Addresses at which a block was born and freed here, and nothing has happened since: another short life there says nothing new. It may forget.
struct Quiet(Vec<(Address, ProcessIx)>);

const QUIET_BITS: u32 = 13;

impl Default for Quiet {
    fn default() -> Quiet {
        Quiet(vec![(Address(0), NOBODY); 1 << QUIET_BITS])
    }
}

impl Quiet {
    fn slot(&mut self, address: Address, process: ProcessIx) -> &mut (Address, ProcessIx) {
        let mixed = (address.get() ^ u64::from(process.get()) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &mut self.0[(mixed >> (64 - QUIET_BITS)) as usize]
    }

    fn has(&mut self, address: Address, process: ProcessIx) -> bool {
        process != NOBODY && *self.slot(address, process) == (address, process)
    }

    fn remember(&mut self, address: Address, process: ProcessIx) {
        *self.slot(address, process) = (address, process);
    }

    fn forget(&mut self, address: Address, process: ProcessIx) {
        if self.has(address, process) {
            *self.slot(address, process) = (Address(0), NOBODY);
        }
    }

    fn clear(&mut self) {
        self.0.fill((Address(0), NOBODY));
    }
}

impl Digest {
    pub(super) fn read(
        &mut self,
        tape: &Tape,
        block: &Block,
        catalog: &Catalog,
        workspaces: &Workspaces,
    ) -> Result<(), Damage> {
        self.clear();
        let mut workspace = workspaces.take();
        let Workspace { columns, scratch } = &mut workspace;
        let read = read_events(tape.source(), block, columns);
        if read.is_ok() {
            // The reader has checked it.
            self.weight = u64::from(block.weight);
            let stacks = catalog.stacks.of_generation(block.generation);
            self.digest(columns, catalog, stacks, scratch);
        }
        workspaces.give(workspace);
        read
    }

    fn clear(&mut self) {
        self.weight = 0;
        self.unknown_threads = 0;
        self.unknown_types = 0;
        self.frees = 0;
        self.is_huge = false;
        self.births.clear();
        self.mappings.clear();
        self.ops.resize_with(SHARDS, Vec::new);
        self.ops.iter_mut().for_each(Vec::clear);
        self.moves.clear();
        self.resized.clear();
        self.deltas.clear();
        self.runs.clear();
        self.clock = None;
        self.events = 0;
    }

    /// Leaves out all heap operations, as when the table has no room for them.
    pub(super) fn drop_heap(&mut self) {
        self.births.clear();
        self.moves.clear();
        self.resized.clear();
        self.frees = 0;
        self.ops.iter_mut().for_each(Vec::clear);
    }

    fn digest(&mut self, columns: &EventColumns, catalog: &Catalog, stacks: Generation<'_>, scratch: &mut Scratch) {
        let events = columns.len();
        self.first_event = columns.first_event;
        self.events = events as u32;
        self.clock = Some(ClockBlock::new(self.first_event, columns.time.iter().copied()));
        self.deltas.resize_with(events, || AtomicI64::new(0));
        scratch.quiet.clear();
        // What is left of the last block is not looked at.
        scratch.numbers.resize(events.max(scratch.numbers.len()), 0);
        find_ends(columns, catalog, &mut scratch.ends);
        let mut thread = None;
        let mut process = NOBODY;
        for at in 0..events {
            if thread != Some(columns.thread[at]) {
                thread = Some(columns.thread[at]);
                let home = catalog.process_of(columns.thread[at]);
                let new = home.unwrap_or(NOBODY);
                if self.runs.is_empty() || new != process {
                    self.runs.push(Run {
                        from: at as u32,
                        process: new,
                    });
                }
                process = new;
            }
            self.event(columns, at, process, catalog, stacks, scratch);
        }
        let nexts = self.runs.iter().skip(1).map(|run| run.from).chain([self.events]);
        let unknown = self.runs.iter().zip(nexts).filter(|(run, _)| run.process == NOBODY);
        self.unknown_threads = unknown.map(|(run, next)| u64::from(next - run.from)).sum();
    }

    #[inline]
    fn event(
        &mut self,
        columns: &EventColumns,
        at: usize,
        process: ProcessIx,
        catalog: &Catalog,
        stacks: Generation<'_>,
        scratch: &mut Scratch,
    ) {
        let op = columns.op[at];
        let kind = catalog.known_type(columns.kind[at]);
        self.unknown_types += u64::from(kind != columns.kind[at]);
        let address = columns.address[at];
        // The birth here whose block this event ends, if it is one of the same process.
        let old =
            Some(columns.birth[at]).filter(|&birth| birth != NO_BIRTH && scratch.ends[birth as usize] == at as u32);
        if op.is_birth() {
            let is_realloc = op != OpCode::Alloc;
            let end = scratch.ends[at];
            let number = self.births.len() as u32;
            scratch.numbers[at] = number;
            let size = columns.size[at].get();
            self.is_huge |= size > HUGE;
            let births = &mut self.births;
            births.event.push(at as u32);
            births.death.push(end);
            births.address.push(address.get());
            births.size.push(size);
            births.stack.push(stacks.resolve(columns.stack[at]).0);
            births.thread.push(columns.thread[at].get());
            births.kind.push(kind.get());
            let flags = if is_realloc { Flags::REALLOC } else { Flags::default() };
            births.marks.push(Marks::new(columns.api[at], flags).0);
            *self.deltas[at].get_mut() += size as i64;
            if op == OpCode::MoveIn {
                self.moves.push((columns.thread[at], Move::Into(number)));
            }
            let is_alive = end == NO_BIRTH;
            match (op, old) {
                (OpCode::Resize, Some(old)) => {
                    let old = self.end_of(scratch.numbers[old as usize], at);
                    self.resized.push((number, old));
                    if is_alive {
                        self.push(at, process, address, Fate::Born { number, is_alive, size });
                    }
                }
                (OpCode::Resize, None) => {
                    self.push(at, process, address, Fate::Resized { number, is_alive, size });
                }
                _ if is_alive || !scratch.quiet.has(address, process) => {
                    self.push(at, process, address, Fate::Born { number, is_alive, size });
                }
                _ => {}
            }
            if is_alive {
                scratch.quiet.forget(address, process);
            }
            return;
        }
        match op {
            OpCode::Free | OpCode::MoveOut => match old {
                Some(old) => {
                    let old = self.end_of(scratch.numbers[old as usize], at);
                    scratch.quiet.remember(address, process);
                    if op == OpCode::MoveOut {
                        self.moves.push((columns.thread[at], Move::OutOf(old)));
                    }
                }
                None if op == OpCode::MoveOut => {
                    self.moves.push((columns.thread[at], Move::Out(self.number(at))));
                    self.push(at, process, address, Fate::MovedOut);
                }
                None => self.push(at, process, address, Fate::Freed),
            },
            OpCode::Typed => {
                let birth = columns.birth[at] as usize;
                let is_own = birth < at
                    && scratch.ends[birth] >= at as u32
                    && columns.op[birth].is_birth()
                    && home(catalog, columns.thread[birth]) == process;
                if is_own {
                    self.births.kind[scratch.numbers[birth] as usize] = kind.get();
                } else {
                    self.push(at, process, address, Fate::Typed(kind));
                }
            }
            _ => {
                let process = Some(process).filter(|&process| process != NOBODY);
                let change = mapping::change(columns, at, process, stacks);
                self.mappings.extend(change);
            }
        }
    }

    fn number(&self, at: usize) -> EventNo {
        EventNo(self.first_event.get() + at as u64)
    }

    /// A block that was born here is freed.
    fn end_of(&mut self, number: u32, at: usize) -> u32 {
        self.frees += 1;
        *self.deltas[at].get_mut() -= self.births.size[number as usize] as i64;
        number
    }

    fn push(&mut self, at: usize, process: ProcessIx, address: Address, fate: Fate) {
        self.ops[shard_of(process, address)].push(HeapOp {
            event: at as u32,
            process,
            address,
            fate,
        });
    }

    /// A block that was born elsewhere is freed. Every event is that of one shard, so nobody else writes here.
    pub(super) fn subtract(&self, event: u32, size: u64) {
        let delta = &self.deltas[event as usize];
        delta.store(
            delta.load(Ordering::Relaxed).wrapping_sub(size as i64),
            Ordering::Relaxed,
        );
    }
}

fn home(catalog: &Catalog, thread: ThreadIx) -> ProcessIx {
    catalog.process_of(thread).unwrap_or(NOBODY)
}

/// By event: the event of this block that ends what it begins.
fn find_ends(columns: &EventColumns, catalog: &Catalog, ends: &mut Vec<u32>) {
    ends.clear();
    ends.resize(columns.len(), NO_BIRTH);
    for (at, &birth) in columns.birth.iter().enumerate() {
        if birth == NO_BIRTH || !columns.op[at].is_death() || birth as usize >= at {
            continue;
        }
        let (mine, its) = (columns.thread[at], columns.thread[birth as usize]);
        // The catalog may know the threads otherwise than the writer did, if some of its records are lost.
        let is_same = mine == its || home(catalog, mine) == home(catalog, its);
        if is_same && columns.op[birth as usize].is_birth() {
            ends[birth as usize] = at as u32;
        }
    }
}
