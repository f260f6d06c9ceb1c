//! What was born in a span and never freed.

use super::cells::sum_pieces;
use super::stats::{statistics, Groups};
use super::suppress::{Suppressed, Suppressions};
use super::tally::gather_tallies;
use super::{Group, Instant, Query, Statistics, TypeShare};
use crate::symbols::Resolver;
use crate::table::{Heap, Item, Moment, NEVER};

/// Which blocks count as leaked.
#[derive(Clone, Debug, Default)]
pub struct LeakQuery {
    /// Born from here on; `None` is the start.
    pub born_from: Option<Moment>,
    /// Born before; `None` is the end.
    pub born_until: Option<Moment>,
    /// Alive then. `None`: never freed, up to the end of its process or of the recording.
    pub alive_at: Option<Moment>,
    /// Which of them are known and not to be reported.
    pub suppressions: Suppressions,
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
    let (pieces, not_before) = match &which.alive_at {
        Some(moment) => (heap.candidates(moment.cut), moment.cut),
        None => (heap.never_freed(first..last), NEVER),
    };
    let is_leak = |item: &Item| {
        (first..last).contains(&(item.row as usize))
            && which
                .alive_at
                .is_none_or(|moment| heap.is_home_alive(item.thread, &moment))
    };
    let cells = sum_pieces(
        heap,
        &pieces,
        not_before.get(),
        &query.by,
        |item| wanted.accepts(item) && is_leak(item),
        |row| heap.is_doubtful(row, &at),
    );
    let mut types = query.by.groups().contains(&Group::Type).then(TypeShare::default);
    let mut suppressed = Suppressed::new(&which.suppressions);
    let looks = !which.suppressions.is_empty();
    let by_key = gather_tallies(heap, &cells, query, resolver, looks, |names, stack, facts, cell| {
        if looks && suppressed.matches(names.stack(heap, stack), cell.all) {
            return false;
        }
        if let (Some(types), Some(kind)) = (&mut types, query.by.kind(facts)) {
            types.add(kind, cell.all);
        }
        true
    });
    let mut report = statistics(heap, &at, Groups { by_key, types }, query);
    report.suppressions = suppressed.finish();
    report.born_from = which.born_from.map(|moment| Instant::of(heap, &moment));
    report.born_until = which.born_until.map(|moment| Instant::of(heap, &moment));
    report
}
