//! Which sites allocate only to free at once.

use super::lifetime::{Lifetime, Lives, Measure, Measured};
use super::tally::{gather_tallies, ranked, tally_all, Table, Tally};
use super::{Grouping, Query};
use crate::symbols::Resolver;
use crate::table::{Heap, Level};
use crate::text::Text;
use serde::Serialize;

/// What rows allocated, and how much of it was temporary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TemporarySum {
    /// Blocks that were freed soon.
    pub temporary: Level,
    /// All blocks.
    pub allocated: Level,
}

impl Tally for TemporarySum {
    fn merge(&mut self, other: &TemporarySum) {
        self.temporary.add(other.temporary);
        self.allocated.add(other.allocated);
    }
}

/// Sites by what they allocated temporarily.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Temporary {
    /// The tape.
    pub tape: Text,
    /// A block is temporary if it lived no longer than this.
    pub within: String,
    /// What rows are made of.
    pub by: Grouping,
    /// Rows with the most temporary blocks first.
    #[serde(flatten)]
    pub table: Table<TemporarySum>,
}

/// heaptrack's temporary allocations: nothing happens between the birth and the free.
pub const AT_ONCE: Lifetime = Lifetime {
    measured: Measured::Events,
    length: 1,
};

/// What was freed within a length of life after its allocation, of the whole recording.
pub fn temporary(heap: &Heap, within: Lifetime, query: &Query, resolver: &dyn Resolver) -> Temporary {
    let measure = Measure::new(heap, within.measured);
    let tallies = tally_all(
        heap,
        query,
        |alike| Lives::at_most(within).judge(alike),
        || measure.limit(within.length),
        |limit, item| !limit.is_outlived_by(item),
        |sum: &mut TemporarySum, level, is_temporary| {
            sum.allocated.add(level);
            if is_temporary {
                sum.temporary.add(level);
            }
        },
    );
    let mut by_key = gather_tallies(heap, &tallies, query, resolver, false, |_, _, _, _| true);
    let allocated = by_key.values().map(|(sum, _)| sum.allocated);
    let allocated = allocated.fold(Level::default(), |mut all, level| {
        all.add(level);
        all
    });
    by_key.retain(|_, (sum, _)| sum.temporary.count > 0);
    let rank = |sum: &TemporarySum| (sum.temporary.count, sum.temporary.size, sum.allocated.count);
    let mut table = ranked(by_key, rank, query.rows);
    table.total.allocated = allocated;
    Temporary {
        tape: heap.name.clone(),
        within: within.to_string(),
        by: query.by.clone(),
        table,
    }
}
