//! What was born in a span and never freed.

use super::cells::sum_rows;
use super::stats::{gather, statistics};
use super::{Instant, Query, Statistics};
use crate::symbols::Resolver;
use crate::table::{Heap, Moment};

/// Which blocks count as leaked.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeakQuery {
    /// Born from here on; `None` is the start.
    pub born_from: Option<Moment>,
    /// Born before; `None` is the end.
    pub born_until: Option<Moment>,
    /// Alive then. `None`: never freed, up to the end of its process or of the recording.
    pub alive_at: Option<Moment>,
}

/// What was born in a span and was alive later.
pub fn leaks(heap: &Heap, which: &LeakQuery, query: &Query, resolver: &dyn Resolver) -> Statistics {
    let end = heap.end();
    let at = which.alive_at.unwrap_or(end);
    let first = which
        .born_from
        .map_or(0, |moment| heap.allocations.born_before(moment.cut));
    let last = heap
        .allocations
        .born_before(which.born_until.unwrap_or(end).cut)
        .max(first);
    let wanted = query.filter.rows(heap);
    let is_leak = |row: u32| match &which.alive_at {
        Some(moment) => heap.is_live(row, moment),
        None => heap.allocations.death[row as usize] == crate::table::NEVER.get(),
    };
    let cells = sum_rows(
        heap,
        first..last,
        &query.by,
        |row| wanted.accepts(row) && is_leak(row),
        |row| heap.is_doubtful(row, &at),
    );
    let groups = gather(heap, &cells, query, resolver);
    let mut report = statistics(heap, &at, groups, query);
    report.born_from = which.born_from.map(|moment| Instant::of(heap, &moment));
    report.born_until = which.born_until.map(|moment| Instant::of(heap, &moment));
    report
}
