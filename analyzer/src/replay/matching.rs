//! Frees matched to allocations of other blocks of events, in parallel by address.
//!
//! All operations on one address of one process go to one shard, which does them in the order of events and knows, for every address
//! ever used, the row that was last born there. So a free finds its block however far back it was born, and the result cannot depend
//! on the number of threads. A shard needs no knowledge of the others: a moving `realloc` touches two of them, and its halves are
//! joined afterwards by their events.

use super::block::{Digest, Move};
use super::inherit::{self, Touch};
use super::rows::Rows;
use crate::table::{AllocIx, Allocations, Counters, InheritedDeath};
use crate::tape::Catalog;
use hashbrown::HashMap;
use heaptape_format::record::ProcessOrigin;
use heaptape_format::{Address, EventNo, ProcessIx, ThreadIx, TypeIx};
use rayon::prelude::*;

/// Number of shards: enough for the threads of a workstation, few enough that the lists of a block stay long.
pub(super) const SHARDS: usize = 32;

/// The address space of threads that the tape does not describe.
pub(super) const NOBODY: ProcessIx = ProcessIx(u32::MAX);

/// What an operation does to the block at its address. Births have a number within their block of events, and may be dead again at its end.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    /// A block is born.
    Born { number: u32, is_alive: bool, size: u64 },
    /// Freed.
    Freed,
    /// Freed by a `realloc` that moves it.
    MovedOut,
    /// Replaced where it is by a `realloc`.
    Resized { number: u32, is_alive: bool, size: u64 },
    /// It lives on, and what it holds is known now.
    Typed(TypeIx),
}

#[derive(Clone, Copy)]
pub(super) struct HeapOp {
    /// Within its block.
    pub event: u32,
    pub process: ProcessIx,
    pub address: Address,
    pub fate: Fate,
}

/// The shard of an address. Low bits are alignment, so they are mixed with higher ones.
#[inline]
pub(super) fn shard_of(process: ProcessIx, address: Address) -> usize {
    let mixed = (address.get() ^ u64::from(process.get()) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 59) as usize
}

/// What a shard knows of an address: the row last born there, and whether it is still alive.
#[derive(Clone, Copy)]
struct Last {
    /// [`AllocIx::NONE`]: the address was touched, but nothing was born there yet.
    row: AllocIx,
    is_alive: bool,
    size: u64,
}

#[derive(Default)]
struct Shard {
    last: HashMap<(ProcessIx, Address), Last>,
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
    /// Operations of forked processes on addresses at which they may have inherited a block.
    touches: Vec<Touch>,
    frees: u64,
    double_frees: u64,
    unknown_frees: u64,
    lost_frees: u64,
}

impl Shard {
    /// Does one operation of a digest; `first_row` is the row of its birth number 0.
    #[inline]
    fn apply(&mut self, op: &HeapOp, digest: &Digest, first_row: u32, is_forked: bool, rows: &Rows) {
        let HeapOp {
            process, address, fate, ..
        } = *op;
        let event = EventNo(digest.first_event.get() + u64::from(op.event));
        let place = (process, address);
        let entry = self.last.entry(place);
        let before = match &entry {
            hashbrown::hash_map::Entry::Occupied(entry) => Some(*entry.get()),
            hashbrown::hash_map::Entry::Vacant(_) => None,
        };
        let is_free = !matches!(fate, Fate::Born { .. });
        let after = match fate {
            Fate::Typed(kind) => {
                // What a forked process says of a block that it inherited, its parent says of the original.
                let typed = before.filter(|last| last.is_alive).map(|last| (last.row, kind));
                self.typed.extend(typed);
                return;
            }
            Fate::Born { number, is_alive, size } | Fate::Resized { number, is_alive, size } => Some(Last {
                row: AllocIx(first_row + number),
                is_alive,
                size,
            }),
            Fate::Freed | Fate::MovedOut if before.is_some() || is_forked => Some(Last {
                row: before.map_or(AllocIx::NONE, |last| last.row),
                is_alive: false,
                size: 0,
            }),
            Fate::Freed | Fate::MovedOut => None,
        };
        if let Some(after) = after {
            entry.insert(after);
        }
        match before {
            Some(Last {
                row,
                is_alive: true,
                size,
            }) => {
                self.wide_deaths.extend(rows.die(row, event));
                digest.subtract(op.event, size);
                match (fate, after) {
                    (Fate::Resized { .. }, Some(new)) => self.resized.push((new.row, row)),
                    (Fate::MovedOut, _) => self.moved_out.push((event, row)),
                    _ => {}
                }
                if is_free {
                    self.frees += 1;
                } else {
                    self.lost.push(row);
                    self.lost_frees += 1;
                }
            }
            // Nothing of its own was ever born there: the block may be inherited, which is found out when all rows are known.
            None | Some(Last { row: AllocIx::NONE, .. }) if is_forked => {
                self.touches.push(Touch {
                    process,
                    address,
                    event,
                    is_free,
                });
            }
            None | Some(Last { row: AllocIx::NONE, .. }) => self.unknown_frees += u64::from(is_free),
            Some(_) => self.double_frees += u64::from(is_free),
        }
    }
}

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
    pub(super) fn take(&mut self, digests: &[Digest], first_rows: &[u32], rows: &mut Rows) {
        let any_forked = self.forked.contains(&true);
        let forked = &self.forked;
        let is_forked = |process: ProcessIx| forked.get(process.get() as usize).copied().unwrap_or(false);
        let shared = &*rows;
        self.shards.par_iter_mut().enumerate().for_each(|(index, shard)| {
            for (digest, &first) in digests.iter().zip(first_rows) {
                for op in &digest.ops[index] {
                    shard.apply(op, digest, first, any_forked && is_forked(op.process), shared);
                }
            }
        });
        let mut ended: HashMap<EventNo, AllocIx> = HashMap::new();
        for shard in &mut self.shards {
            shard.lost.drain(..).for_each(|row| rows.lose(row));
            shard.typed.drain(..).for_each(|(row, kind)| rows.set_kind(row, kind));
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
    }

    /// Finds the inherited blocks that forked children ended; adds up what was counted.
    pub(super) fn finish(self, rows: &Allocations, catalog: &Catalog, counters: &mut Counters) -> Vec<InheritedDeath> {
        let mut touches = Vec::new();
        counters.frees += self.frees;
        for shard in self.shards {
            counters.frees += shard.frees;
            counters.double_frees += shard.double_frees;
            counters.unknown_frees += shard.unknown_frees;
            counters.lost_frees += shard.lost_frees;
            touches.extend(shard.touches);
        }
        inherit::settle(touches, rows, catalog, counters)
    }
}
