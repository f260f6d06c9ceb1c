//! Frees matched to allocations, in parallel by address.
//!
//! All operations on one address of one process go to one shard, which does them in the order of events and knows, for every address
//! ever used, the row that was last born there. So a free finds its block however far back it was born, and the result cannot depend
//! on the number of threads. A shard needs no knowledge of the others: a moving `realloc` touches two of them, and its halves are
//! joined afterwards by their events.

use super::block::Digest;
use super::inherit::{self, Touch};
use crate::table::{AllocIx, Allocations, Counters, Flags, InheritedDeath, NEVER};
use crate::tape::Catalog;
use hashbrown::HashMap;
use heaptape_format::record::ProcessOrigin;
use heaptape_format::{Address, EventNo, ProcessIx, ThreadIx, TypeIx};
use rayon::prelude::*;

/// Number of shards: enough for the threads of a workstation, few enough that the lists of a block stay long.
pub(super) const SHARDS: usize = 32;

/// The address space of threads that the tape does not describe.
pub(super) const NOBODY: ProcessIx = ProcessIx(u32::MAX);

/// What an operation does to the block at its address.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    /// A block is born; the number of the birth within its block of events.
    Born(u32),
    /// Freed.
    Freed,
    /// Freed by a `realloc` that moves it.
    MovedOut,
    /// Replaced where it is by a `realloc`.
    Resized(u32),
    /// It lives on, and what it holds is known now.
    Typed(TypeIx),
}

#[derive(Clone, Copy)]
pub(super) struct HeapOp {
    pub event: EventNo,
    pub process: ProcessIx,
    pub address: Address,
    pub fate: Fate,
}

/// The shard of an address. Low bits are alignment, so they are mixed with higher ones.
pub(super) fn shard_of(process: ProcessIx, address: Address) -> usize {
    let mixed = (address.get() ^ u64::from(process.get()) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 59) as usize
}

/// What a shard knows of an address: the row last born there, and whether it is still alive.
#[derive(Clone, Copy)]
struct Last {
    /// [`AllocIx::NONE`]: the address was touched, but nothing was born there yet.
    row: AllocIx,
    alive: bool,
}

/// A row that ended.
struct Death {
    row: AllocIx,
    event: EventNo,
    /// Not by a free: something else was born at its address.
    lost_free: bool,
}

#[derive(Default)]
struct Shard {
    last: HashMap<(ProcessIx, Address), Last>,
    deaths: Vec<Death>,
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
    /// Does one operation; `first_row` is the row of birth number 0 of its block.
    fn apply(&mut self, op: &HeapOp, first_row: u32, is_forked: bool) {
        let HeapOp {
            event,
            process,
            address,
            fate,
        } = *op;
        let before = self.last.get(&(process, address)).copied();
        let born = match fate {
            Fate::Born(number) | Fate::Resized(number) => Some(AllocIx(first_row.saturating_add(number))),
            Fate::Freed | Fate::MovedOut => None,
            Fate::Typed(kind) => {
                // What a forked process says of a block that it inherited, its parent says of the original.
                self.typed
                    .extend(before.filter(|last| last.alive).map(|last| (last.row, kind)));
                return;
            }
        };
        let is_free = !matches!(fate, Fate::Born(_));
        match before {
            Some(Last { row, alive: true }) => {
                self.deaths.push(Death {
                    row,
                    event,
                    lost_free: !is_free,
                });
                match (fate, born) {
                    (Fate::Resized(_), Some(new)) => self.resized.push((new, row)),
                    (Fate::MovedOut, _) => self.moved_out.push((event, row)),
                    _ => {}
                }
                if is_free {
                    self.frees += 1;
                } else {
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
        let after = match born {
            Some(row) => Last { row, alive: true },
            None => Last {
                row: before.map_or(AllocIx::NONE, |last| last.row),
                alive: false,
            },
        };
        if before.is_some() || born.is_some() || is_forked {
            self.last.insert((process, address), after);
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
    overflow: u64,
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
            overflow: 0,
        }
    }

    fn is_forked(&self, process: ProcessIx) -> bool {
        self.forked.get(process.get() as usize).copied().unwrap_or(false)
    }

    /// Takes the next blocks of events, in their order.
    pub(super) fn take(&mut self, mut digests: Vec<Digest>, rows: &mut Allocations) {
        let mut first_rows = Vec::with_capacity(digests.len());
        for digest in &mut digests {
            first_rows.push(rows.len() as u32);
            let room = (u32::MAX - 1) as usize - rows.len();
            if digest.births.len() > room {
                self.overflow += digest.births.len() as u64;
                digest.drop_heap();
            }
            append(rows, digest);
        }
        let any_forked = self.forked.contains(&true);
        let mut shards = std::mem::take(&mut self.shards);
        shards.par_iter_mut().enumerate().for_each(|(index, shard)| {
            for (digest, &first) in digests.iter().zip(&first_rows) {
                for op in &digest.ops[index] {
                    shard.apply(op, first, any_forked && self.is_forked(op.process));
                }
            }
        });
        self.shards = shards;
        self.record_deaths(rows);
        let mut ended: HashMap<EventNo, AllocIx> = HashMap::new();
        for shard in &mut self.shards {
            ended.extend(shard.moved_out.drain(..));
        }
        for (digest, &first) in digests.iter().zip(&first_rows) {
            for &(thread, half) in &digest.moves {
                match half {
                    Err(event) => {
                        self.moving.insert(thread, ended.get(&event).copied());
                    }
                    Ok(number) => {
                        if let Some(old) = self.moving.remove(&thread).flatten() {
                            rows.predecessor[(first + number) as usize] = old;
                        }
                    }
                }
            }
        }
    }

    fn record_deaths(&mut self, rows: &mut Allocations) {
        for shard in &mut self.shards {
            for Death { row, event, lost_free } in shard.deaths.drain(..) {
                rows.death[row.0 as usize] = event.get();
                if lost_free {
                    rows.flags[row.0 as usize].0 |= Flags::LOST_FREE.0;
                }
            }
            for (row, kind) in shard.typed.drain(..) {
                rows.kind[row.0 as usize] = kind;
            }
            for (new, old) in shard.resized.drain(..) {
                rows.predecessor[new.0 as usize] = old;
            }
        }
    }

    /// Finds the inherited blocks that forked children ended; adds up what was counted.
    pub(super) fn finish(self, rows: &Allocations, catalog: &Catalog, counters: &mut Counters) -> Vec<InheritedDeath> {
        let mut touches = Vec::new();
        for shard in self.shards {
            counters.frees += shard.frees;
            counters.double_frees += shard.double_frees;
            counters.unknown_frees += shard.unknown_frees;
            counters.lost_frees += shard.lost_frees;
            touches.extend(shard.touches);
        }
        counters.overflow = self.overflow;
        inherit::settle(touches, rows, catalog, counters)
    }
}

fn append(rows: &mut Allocations, digest: &Digest) {
    let births = &digest.births;
    rows.birth.extend(births.iter().map(|birth| birth.event.get()));
    rows.death.resize(rows.birth.len(), NEVER.get());
    rows.address.extend(births.iter().map(|birth| birth.address.get()));
    rows.size.extend(births.iter().map(|birth| birth.size.get()));
    rows.stack.extend(births.iter().map(|birth| birth.stack));
    rows.thread.extend(births.iter().map(|birth| birth.thread));
    rows.predecessor.resize(rows.birth.len(), AllocIx::NONE);
    rows.kind.extend(births.iter().map(|birth| birth.kind));
    rows.api.extend(births.iter().map(|birth| birth.api));
    rows.flags.extend(births.iter().map(|birth| birth.flags));
}
