//! From a tape to the calls of one process.
//!
//! Calls are those that found or made a block: a free of an address where none lives is none; a block born where another still lives shows a lost free, which is
//! performed in front of it. What a forked process inherited is not there. Of a tape whose beginning was folded away, the calls begin with those that made what was alive then.

use super::call::{kind, Call};
use super::threads::MOST_THREADS;
use crate::tape::{Catalog, Tape};
use hashbrown::HashMap;
use heaptape_format::{read_events, AllocApi, BlockKind, EventColumns, OpCode, ProcessIx, ThreadIx};
use serde::Serialize;

/// Largest block that Python's own allocator cuts from its arenas; larger ones are `malloc`'s.
const PYTHON_SMALL: u64 = 512;

/// What the calls of a process come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Calls that give a block, other than of `realloc`.
    pub allocations: u64,
    /// Calls of `realloc`.
    pub reallocations: u64,
    /// Calls of `free`.
    pub frees: u64,
    /// Bytes asked for by all of them.
    pub bytes: u128,
    /// Most bytes alive at once.
    pub peak_live: u128,
    /// Bytes alive after the last call.
    pub end_live: u128,
    /// Most blocks alive at once.
    pub slots: u32,
    /// Threads that call.
    pub threads: u32,
    /// Blocks that Python's own allocator cut from its arenas: they are no calls of `malloc`, and left out.
    pub python_small: u64,
    /// Events that found no block, or would have taken more places than there are.
    pub skipped: u64,
}

/// A live block.
struct Live {
    slot: u32,
    size: u64,
}

/// The calls in the making.
struct Script<F> {
    plan: Plan,
    is_own: Vec<bool>,
    /// Whether Python's small blocks are calls, too.
    python_too: bool,
    live: HashMap<u64, Live>,
    free_slots: Vec<u32>,
    alive: u128,
    /// By thread of the tape, its number among those that call.
    numbers: HashMap<ThreadIx, u32>,
    /// By thread, the block that its `realloc` took away and has not put anywhere yet.
    moving: HashMap<ThreadIx, Live>,
    call: F,
}

/// What the calls of a process come to.
pub fn plan(tape: &Tape, catalog: &Catalog, process: ProcessIx, python_too: bool) -> Plan {
    script(tape, catalog, process, python_too, |_| true)
}

/// Gives out the calls of a process, in their order, until they are no longer taken.
pub(super) fn script(
    tape: &Tape,
    catalog: &Catalog,
    process: ProcessIx,
    python_too: bool,
    call: impl FnMut(Call) -> bool,
) -> Plan {
    let mut script = Script {
        plan: Plan::default(),
        is_own: catalog.threads.iter().map(|info| info.process == process).collect(),
        python_too,
        live: HashMap::new(),
        free_slots: Vec::new(),
        alive: 0,
        numbers: HashMap::new(),
        moving: HashMap::new(),
        call,
    };
    let mut columns = EventColumns::default();
    let blocks = tape.scan().blocks.iter();
    for block in blocks.filter(|block| matches!(block.kind, BlockKind::Events | BlockKind::Keyframe)) {
        // What cannot be read is told of by the heap's notes.
        if read_events(tape.source(), block, &mut columns).is_ok() && !script.block(&columns) {
            break;
        }
    }
    script.plan.end_live = script.alive;
    script.plan
}

impl<F: FnMut(Call) -> bool> Script<F> {
    /// The events of a block; whether more are wanted.
    fn block(&mut self, columns: &EventColumns) -> bool {
        for index in 0..columns.len() {
            let thread = columns.thread[index];
            if !self.is_own.get(thread.get() as usize).copied().unwrap_or(false) {
                continue;
            }
            let (address, size) = (columns.address[index].get(), columns.size[index].get());
            let api = AllocApi::from_u8(columns.api[index]).unwrap_or(AllocApi::Malloc);
            let is_wanted = match columns.op[index] {
                OpCode::Alloc => self.alloc(thread, address, size, api),
                OpCode::Free => match self.live.remove(&address) {
                    Some(block) => self.free(thread, block),
                    None => self.skip(),
                },
                OpCode::Resize => {
                    let old = self.live.remove(&address);
                    self.realloc(thread, old, address, size, api)
                }
                OpCode::MoveOut => {
                    let before = match self.live.remove(&address) {
                        Some(block) => self.moving.insert(thread, block),
                        None => self.moving.remove(&thread),
                    };
                    // One that never came anywhere was freed.
                    before.is_none_or(|block| self.free(thread, block))
                }
                OpCode::MoveIn => {
                    let old = self.moving.remove(&thread);
                    self.realloc(thread, old, address, size, api)
                }
                _ => true,
            };
            if !is_wanted {
                return false;
            }
        }
        true
    }

    fn skip(&mut self) -> bool {
        self.plan.skipped += 1;
        true
    }

    /// Whether the C library's allocator gave the block.
    fn is_malloc(&self, api: AllocApi, size: u64) -> bool {
        self.python_too || !matches!(api, AllocApi::PyMem | AllocApi::PyObj) || size > PYTHON_SMALL
    }

    fn alloc(&mut self, thread: ThreadIx, address: u64, size: u64, api: AllocApi) -> bool {
        if !self.is_malloc(api, size) {
            self.plan.python_small += 1;
            return true;
        }
        if let Some(lost) = self.live.remove(&address) {
            if !self.free(thread, lost) {
                return false;
            }
        }
        let slot = match self.free_slots.pop() {
            Some(slot) => slot,
            None if self.plan.slots == u32::MAX => return self.skip(),
            None => {
                self.plan.slots += 1;
                self.plan.slots - 1
            }
        };
        self.plan.allocations += 1;
        let (kind, alignment_log2) = match api {
            AllocApi::Calloc => (kind::CALLOC, 0),
            AllocApi::PosixMemalign | AllocApi::AlignedAlloc | AllocApi::Memalign => {
                // It is not recorded; an address tells at most it.
                (kind::ALIGNED, address.trailing_zeros().clamp(4, 12))
            }
            AllocApi::Valloc | AllocApi::Pvalloc => (kind::ALIGNED, 12),
            _ => (kind::MALLOC, 0),
        };
        self.live.insert(address, Live { slot, size });
        self.born(size);
        self.send(thread, slot, size, kind, alignment_log2)
    }

    fn realloc(&mut self, thread: ThreadIx, old: Option<Live>, address: u64, size: u64, api: AllocApi) -> bool {
        let Some(old) = old else {
            // What it was made of is not known.
            return self.alloc(thread, address, size, api);
        };
        if !self.is_malloc(api, size) {
            self.plan.python_small += 1;
            return self.free(thread, old);
        }
        if let Some(lost) = self.live.remove(&address) {
            if !self.free(thread, lost) {
                return false;
            }
        }
        self.plan.reallocations += 1;
        self.alive -= u128::from(old.size);
        self.born(size);
        self.live.insert(address, Live { slot: old.slot, size });
        self.send(thread, old.slot, size, kind::REALLOC, 0)
    }

    fn free(&mut self, thread: ThreadIx, block: Live) -> bool {
        self.plan.frees += 1;
        self.alive -= u128::from(block.size);
        self.free_slots.push(block.slot);
        self.send(thread, block.slot, 0, kind::FREE, 0)
    }

    fn born(&mut self, size: u64) {
        self.plan.bytes += u128::from(size);
        self.alive += u128::from(size);
        self.plan.peak_live = self.plan.peak_live.max(self.alive);
    }

    fn send(&mut self, thread: ThreadIx, slot: u32, size: u64, kind: u32, alignment_log2: u32) -> bool {
        let next = self.numbers.len() as u32;
        let number = *self.numbers.entry(thread).or_insert(next);
        self.plan.threads = self.numbers.len() as u32;
        (self.call)(Call {
            size,
            slot,
            thread: number % MOST_THREADS,
            kind,
            alignment_log2,
        })
    }
}
