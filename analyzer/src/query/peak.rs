//! The exact peak, and what made it.

use super::stats::accepted_anywhere;
use super::{snapshot, Query, Statistics};
use crate::symbols::Resolver;
use crate::table::{Heap, Sweep};

/// The first state with the most live bytes of what the filter accepts. Without a filter it is known from the replay; with one, the accepted rows are walked
/// through in the order of events. What forked processes inherited has no part in finding it.
pub fn peak(heap: &Heap, query: &Query, resolver: &dyn Resolver) -> Statistics {
    let moment = if query.filter.is_open() {
        heap.peak().map(|(moment, _)| moment)
    } else {
        let wanted = query.filter.rows(heap);
        let accepted = accepted_anywhere(heap, query, resolver);
        let sweep = Sweep::new(heap, |item| wanted.accepts(item) && accepted[item.stack.0 as usize]);
        sweep.peak().map(|(event, _)| heap.after(event))
    };
    snapshot(heap, &moment.unwrap_or_else(|| heap.start()), query, resolver)
}
