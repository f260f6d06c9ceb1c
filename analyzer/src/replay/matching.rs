//! Frees matched to allocations of other blocks of events, in parallel by address.
//!
//! All operations on one address of one process go to one shard, which does them in the order of events and knows the row that lives there. So a free finds its block however
//! far back it was born, and the result cannot depend on the number of threads. A shard needs no knowledge of the others: a moving `realloc` touches two of them, and its halves are
//! joined afterwards by their events.
//!
//! A shard forgets an address when the block there dies; only for forked processes it remembers that there was one, since the first operation on an address may concern an inherited
//! block. What a free did that found nothing is found out in the end, see `inherit`.

use super::block::{Digest, Move, Numbers};
use super::inherit::{self, Touch};
use super::rows::{Deaths, Rows};
use crate::table::{AllocIx, Allocations, Counters, InheritedDeath};
use crate::tape::Catalog;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use heaptape_format::record::ProcessOrigin;
use heaptape_format::{Address, EventNo, ProcessIx, ThreadIx, TypeIx};
use rayon::prelude::*;
use std::hash::BuildHasher;
use std::io;

/// Number of shards: enough for the threads of a workstation, few enough that the lists of a block stay long.
pub(super) const SHARDS: usize = 32;

/// The address space of threads that the tape does not describe.
pub(super) const NOBODY: ProcessIx = ProcessIx(u32::MAX);

/// What an operation does to the block at its address. Births have a number within their block of events, and may be dead again at its end.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    /// A block is born.
    Born { number: u32, is_alive: bool },
    /// Freed.
    Freed,
    /// Freed by a `realloc` that moves it.
    MovedOut,
    /// Replaced where it is by a `realloc`.
    Resized { number: u32, is_alive: bool },
    /// It lives on, and what it holds is known now.
    Typed(TypeIx),
}

#[derive(Clone, Copy)]
pub(super) struct HeapOp {
    /// Within its block.
    pub event: u32,
    pub process: ProcessIx,
    pub address: Address,
    /// Of what is born; once it is done, of what it ended.
    pub size: u64,
    pub fate: Fate,
}

impl HeapOp {
    /// The same, of a birth of which it is known now whether it is alive at the end of its block of events.
    pub(super) fn with_life(mut self, now: bool) -> HeapOp {
        if let Fate::Born { is_alive, .. } | Fate::Resized { is_alive, .. } = &mut self.fate {
            *is_alive = now;
        }
        self
    }
}

/// The shard of an address. Low bits are alignment, so they are mixed with higher ones.
#[inline]
pub(super) fn shard_of(process: ProcessIx, address: Address) -> usize {
    let mixed = (address.get() ^ u64::from(process.get()) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 59) as usize
}

/// What a shard knows of an address.
#[derive(Clone, Copy)]
struct Known {
    address: Address,
    process: ProcessIx,
    /// The row that lives there; [`AllocIx::NONE`]: none, but something was done there.
    row: AllocIx,
    size: u64,
}

#[derive(Default)]
struct Shard {
    known: HashTable<Known>,
    hasher: DefaultHashBuilder,
    /// Rows that died, of those whose death has to be noted elsewhere than in its column.
    wide_deaths: Vec<(u32, u64)>,
    /// Rows whose end was no free: something else was born at their address.
    lost: Vec<AllocIx>,
    /// Rows that succeed another in place: (new, old).
    resized: Vec<(AllocIx, AllocIx)>,
    /// Which row a `MoveOut` ended.
    moved_out: Vec<(EventNo, AllocIx)>,
    /// Rows whose type became known, in order.
    typed: Vec<(AllocIx, TypeIx)>,
    /// Frees that found nothing, and births of forked processes at addresses where they may have inherited a block.
    touches: Vec<Touch>,
    frees: u64,
    lost_frees: u64,
}

impl Shard {
    /// Puts what is known of an address from now on into the table; what was known before.
    #[inline]
    fn know(
        &mut self,
        process: ProcessIx,
        address: Address,
        now: Option<(AllocIx, u64)>,
        is_forked: bool,
    ) -> Option<Known> {
        let hasher = &self.hasher;
        let hash = |process: ProcessIx, address: Address| hasher.hash_one((address.get(), process.get()));
        let is_it = |known: &Known| known.address == address && known.process == process;
        let (row, size) = now.unwrap_or((AllocIx::NONE, 0));
        let new = Known {
            address,
            process,
            row,
            size,
        };
        let keeps = now.is_some() || is_forked;
        match self.known.find_entry(hash(process, address), is_it) {
            Ok(mut entry) if keeps => Some(std::mem::replace(entry.get_mut(), new)),
            Ok(entry) => Some(entry.remove().0),
            Err(_) => {
                if keeps {
                    let hash_of = |known: &Known| hash(known.process, known.address);
                    self.known.insert_unique(hash(process, address), new, hash_of);
                }
                None
            }
        }
    }

    /// Looks at the memory that some operations will need: as none of these looks depends on another, the processor does not wait for each.
    #[inline]
    fn warm(&self, ops: &[HeapOp], rows: &Deaths<'_>) {
        let mut seen = 0;
        for op in ops {
            let hash = self.hasher.hash_one((op.address.get(), op.process.get()));
            let found = self.known.find(hash, |known| known.address == op.address);
            seen ^= found.map_or(0, |known| rows.peek(known.row));
        }
        std::hint::black_box(seen);
    }

    /// Does one operation of a digest; `first_row` is the row of its birth number 0.
    #[inline]
    fn apply(&mut self, op: &mut HeapOp, (numbers, first_row): (Numbers<'_>, u32), is_forked: bool, rows: &Deaths<'_>) {
        let HeapOp {
            process, address, fate, ..
        } = *op;
        let event = numbers.of(op.event);
        let size = std::mem::take(&mut op.size);
        let born = |number: u32| (AllocIx(first_row + number), size);
        let (is_free, now) = match fate {
            Fate::Typed(kind) => {
                // What a forked process says of a block that it inherited, its parent says of the original.
                let hash = self.hasher.hash_one((address.get(), process.get()));
                let is_it = |known: &Known| known.address == address && known.process == process;
                let live = self.known.find(hash, is_it).filter(|known| known.row != AllocIx::NONE);
                self.typed.extend(live.map(|known| (known.row, kind)));
                return;
            }
            Fate::Born { number, is_alive } => (false, is_alive.then(|| born(number))),
            Fate::Resized { number, is_alive } => (true, is_alive.then(|| born(number))),
            Fate::Freed | Fate::MovedOut => (true, None),
        };
        match self.know(process, address, now, is_forked) {
            Some(Known { row, size, .. }) if row != AllocIx::NONE => {
                self.wide_deaths.extend(rows.die(row, event));
                op.size = size;
                match fate {
                    Fate::Resized { number, .. } => self.resized.push((born(number).0, row)),
                    Fate::MovedOut => self.moved_out.push((event, row)),
                    _ => {}
                }
                if is_free {
                    self.frees += 1;
                } else {
                    self.lost.push(row);
                    self.lost_frees += 1;
                }
            }
            // The block may be inherited, or have been freed before, which is found out when all rows are known.
            before if is_free || is_forked && before.is_none() => self.touches.push(Touch {
                process,
                address,
                event,
                is_free,
            }),
            _ => {}
        }
    }
}

/// The operations of a digest that a shard does; how its events are numbered, and its first row.
type Ops<'a> = ((Numbers<'a>, u32), &'a mut Vec<HeapOp>);

/// Operations whose memory is asked for at once.
const AT_ONCE: usize = 16;

/// Matches the digests of blocks, which come in the order of events.
pub(super) struct Matcher {
    shards: Vec<Shard>,
    /// By process: whether it began as a copy of another's heap.
    forked: Vec<bool>,
    /// What the last `MoveOut` of each thread ended, until its `MoveIn` comes.
    moving: HashMap<ThreadIx, Option<AllocIx>>,
    frees: u64,
}

impl Matcher {
    pub(super) fn new(catalog: &Catalog) -> Matcher {
        let forked = catalog
            .processes
            .iter()
            .map(|info| matches!(info.origin, ProcessOrigin::Fork(_)))
            .collect();
        Matcher {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            forked,
            moving: HashMap::new(),
            frees: 0,
        }
    }

    /// Takes the next blocks of events, in their order, whose births are rows already: each from its first row on.
    pub(super) fn take(&mut self, digests: &mut [Digest], first_rows: &[u32], rows: &mut Rows) -> io::Result<()> {
        let any_forked = self.forked.contains(&true);
        let forked = &self.forked;
        let is_forked = |process: ProcessIx| forked.get(process.get() as usize).copied().unwrap_or(false);
        let shared = &rows.deaths();
        let mut ops: Vec<Vec<Ops>> = (0..SHARDS).map(|_| Vec::with_capacity(digests.len())).collect();
        for (digest, &first) in digests.iter_mut().zip(first_rows) {
            let numbers = Numbers {
                first: digest.first_event,
                offsets: &digest.offsets,
            };
            for (of_shard, list) in ops.iter_mut().zip(&mut digest.ops) {
                of_shard.push(((numbers, first), list));
            }
        }
        self.shards.par_iter_mut().zip(ops).for_each(|(shard, ops)| {
            for (first, list) in ops {
                for some in list.chunks_mut(AT_ONCE) {
                    shard.warm(some, shared);
                    for op in some {
                        shard.apply(op, first, any_forked && is_forked(op.process), shared);
                    }
                }
            }
        });
        let mut ended: HashMap<EventNo, AllocIx> = HashMap::new();
        for shard in &mut self.shards {
            shard.lost.drain(..).for_each(|row| rows.lose(row));
            for (row, kind) in shard.typed.drain(..) {
                rows.set_kind(row, kind)?;
            }
            rows.wide_death.append(&mut shard.wide_deaths);
            rows.predecessor.append(&mut shard.resized);
            ended.extend(shard.moved_out.drain(..));
        }
        for (digest, &first) in digests.iter().zip(first_rows) {
            self.frees += digest.frees;
            let row = |number: u32| AllocIx(first + number);
            let resized = digest.resized.iter();
            rows.predecessor.extend(resized.map(|&(new, old)| (row(new), row(old))));
            for (thread, half) in &digest.moves {
                match *half {
                    Move::Out(event) => {
                        self.moving.insert(*thread, ended.get(&event).copied());
                    }
                    Move::OutOf(number) => {
                        self.moving.insert(*thread, Some(row(number)));
                    }
                    Move::Into(number) => {
                        if let Some(old) = self.moving.remove(thread).flatten() {
                            rows.predecessor.push((row(number), old));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        let of = |shard: &Shard| shard.known.allocation_size() + shard.touches.capacity() * size_of::<Touch>();
        self.shards.iter().map(of).sum()
    }

    /// Finds the inherited blocks that forked children ended; adds up what was counted.
    pub(super) fn finish(self, rows: &Allocations, catalog: &Catalog, counters: &mut Counters) -> Vec<InheritedDeath> {
        let mut touches = Vec::new();
        counters.frees += self.frees;
        for shard in self.shards {
            counters.frees += shard.frees;
            counters.lost_frees += shard.lost_frees;
            touches.extend(shard.touches);
        }
        inherit::settle(touches, rows, catalog, counters)
    }
}
