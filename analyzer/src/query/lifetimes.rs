//! How long blocks live, site by site.

use super::tally::{gather_tallies, ranked, tally_all, Table, Tally};
use super::{Grouping, Query};
use crate::symbols::Resolver;
use crate::table::{column_of, Heap, Level, Times, LIFETIME_BOUNDS, LIFETIME_COLUMNS};
use crate::text::Text;
use serde::Serialize;

/// Blocks by the length of their lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LifetimeSum {
    /// All of them.
    pub allocated: Level,
    /// By column.
    pub histogram: [Level; LIFETIME_COLUMNS],
}

impl Tally for LifetimeSum {
    fn merge(&mut self, other: &LifetimeSum) {
        self.allocated.add(other.allocated);
        for (own, &more) in self.histogram.iter_mut().zip(&other.histogram) {
            own.add(more);
        }
    }
}

/// Sites with the lives of their blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lifetimes {
    /// The tape.
    pub tape: Text,
    /// See [`LIFETIME_BOUNDS`].
    pub bounds_micros: [u64; LIFETIME_BOUNDS.len()],
    /// What rows are made of.
    pub by: Grouping,
    /// Rows with the most blocks first.
    #[serde(flatten)]
    pub table: Table<LifetimeSum>,
}

/// How long the blocks of the whole recording lived.
pub fn lifetimes(heap: &Heap, query: &Query, resolver: &dyn Resolver) -> Lifetimes {
    let tallies = tally_all(
        heap,
        query,
        |alike| Some(alike.column()),
        || Times::new(&heap.clock),
        |times, item| column_of(heap, times, item),
        |sum: &mut LifetimeSum, level, column| {
            sum.allocated.add(level);
            sum.histogram[column].add(level);
        },
    );
    let by_key = gather_tallies(heap, &tallies, query, resolver, false, |_, _, _, _| true);
    let rank = |sum: &LifetimeSum| (sum.allocated.count, sum.allocated.size);
    Lifetimes {
        tape: heap.name.clone(),
        bounds_micros: LIFETIME_BOUNDS,
        by: query.by.clone(),
        table: ranked(by_key, rank, query.rows),
    }
}
