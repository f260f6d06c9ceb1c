//! Blocks that grow by `realloc`: how often, how far, and how many bytes are copied for it.

use super::tally::{gather_tallies, ranked, tally, Table, Tally};
use super::{Grouping, Query};
use crate::symbols::Resolver;
use crate::table::{AllocIx, Flags, Heap, Item, Level};
use crate::text::Text;
use serde::Serialize;

/// What `realloc` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReallocSum {
    /// Blocks that it made out of older ones, with their new sizes.
    #[serde(flatten)]
    pub level: Level,
    /// How many of them lie elsewhere than the older block.
    pub moved: u64,
    /// Bytes that had to be copied for these: the smaller one of both sizes.
    pub copied: u128,
    /// How many are larger than the older block.
    pub grown: u64,
    /// How many are smaller.
    pub shrunk: u64,
    /// Chains, one block after the other, that end here: the last block was not made another one of.
    pub chains: u64,
    /// The longest of them, in calls.
    pub longest: u32,
    /// The largest block at the end of a chain.
    pub largest: u64,
}

impl Tally for ReallocSum {
    fn merge(&mut self, other: &ReallocSum) {
        self.level.add(other.level);
        self.moved += other.moved;
        self.copied += other.copied;
        self.grown += other.grown;
        self.shrunk += other.shrunk;
        self.chains += other.chains;
        self.longest = self.longest.max(other.longest);
        self.largest = self.largest.max(other.largest);
    }
}

/// Sites by what `realloc` copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reallocs {
    /// The tape.
    pub tape: Text,
    /// What rows are made of.
    pub by: Grouping,
    /// Rows with the most copied bytes first. A site is that of the call of `realloc`.
    #[serde(flatten)]
    pub table: Table<ReallocSum>,
}

/// By row that a `realloc` made, in their order: how many calls led to it, and whether another one followed.
struct Chains {
    rows: Vec<u32>,
    calls: Vec<u32>,
    goes_on: Vec<bool>,
}

impl Chains {
    fn new(heap: &Heap) -> Chains {
        let allocations = &heap.allocations;
        let count = allocations.successor.len();
        let mut chains = Chains {
            rows: (0..count).map(|at| allocations.successor.get(at)).collect(),
            calls: Vec::with_capacity(count),
            goes_on: vec![false; count],
        };
        for at in 0..count {
            let before = chains.rows[..at].binary_search(&allocations.predecessor.get(at));
            let calls = match before {
                Ok(before) => {
                    chains.goes_on[before] = true;
                    chains.calls[before].saturating_add(1)
                }
                Err(_) => 1,
            };
            chains.calls.push(calls);
        }
        chains
    }

    /// Calls that led to a row, and whether another followed.
    fn of(&self, row: u32) -> Option<(u32, bool)> {
        let at = self.rows.binary_search(&row).ok()?;
        Some((self.calls[at], self.goes_on[at]))
    }
}

/// What `realloc` did in the whole recording.
pub fn reallocs(heap: &Heap, query: &Query, resolver: &dyn Resolver) -> Reallocs {
    let wanted = query.filter.rows(heap);
    let chains = Chains::new(heap);
    let tallies = tally(
        heap,
        &heap.pieces(0..heap.allocations.len()),
        0,
        &query.by,
        || (),
        |(), item| {
            let is_made = heap.allocations.flags(item.row as usize).has(Flags::REALLOC);
            (is_made && wanted.accepts(item))
                .then(|| step(heap, &chains, item))
                .flatten()
        },
        |sum: &mut ReallocSum, _, step| sum.merge(&step),
    );
    let by_key = gather_tallies(heap, &tallies, query, resolver, false, |_, _, _, _| true);
    let rank = |sum: &ReallocSum| (sum.copied, sum.level.count, sum.level.size);
    Reallocs {
        tape: heap.name.clone(),
        by: query.by.clone(),
        table: ranked(by_key, rank, query.rows),
    }
}

/// One call; nothing if its older block is not known.
fn step(heap: &Heap, chains: &Chains, item: &Item) -> Option<ReallocSum> {
    let row = item.row as usize;
    let AllocIx(older) = heap.allocations.predecessor(row);
    if older == AllocIx::NONE.0 {
        return None;
    }
    let older = older as usize;
    let (calls, goes_on) = chains.of(item.row)?;
    // In a sample, a block stands for others like it.
    let Level { count, .. } = heap.level(item);
    let before = heap.allocations.size(older).get();
    let is_moved = heap.allocations.address(older) != heap.allocations.address(row);
    let times = |happened: bool| if happened { count } else { 0 };
    Some(ReallocSum {
        level: heap.level(item),
        moved: times(is_moved),
        copied: u128::from(times(is_moved)) * u128::from(before.min(item.size)),
        grown: times(item.size > before),
        shrunk: times(item.size < before),
        chains: times(!goes_on),
        longest: calls,
        largest: if goes_on { 0 } else { item.size },
    })
}
