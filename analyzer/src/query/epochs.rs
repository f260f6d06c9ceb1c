//! What every round of work leaves behind: born in one span of a marker, and alive when some more spans have passed.

use super::tally::{gather_tallies, ranked, tally, Table, Tally};
use super::{Grouping, Instant, Query};
use crate::symbols::Resolver;
use crate::table::{Heap, Level, Moment};
use crate::text::Text;
use serde::Serialize;
use std::collections::BTreeSet;

/// What rows left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EpochSum {
    /// Blocks.
    #[serde(flatten)]
    pub level: Level,
    /// Spans that left some.
    pub epochs: usize,
    /// The spans, by number.
    #[serde(skip)]
    left_by: BTreeSet<u32>,
}

impl Tally for EpochSum {
    fn merge(&mut self, other: &EpochSum) {
        self.level.add(other.level);
        self.left_by.extend(&other.left_by);
        self.epochs = self.left_by.len();
    }
}

/// What the spans of a marker left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Epochs {
    /// The tape.
    pub tape: Text,
    /// The marker.
    pub marker: Text,
    /// Whole further spans that a block must have outlived.
    pub after: usize,
    /// Spans: from each marker to the next, the last one to the end.
    pub spans: usize,
    /// Spans that are followed by enough others to be judged, and whose blocks are still known if they outlived those: of a tape whose beginning was folded away, not the
    /// spans that were over, with those that follow, before full history begins.
    pub judged: usize,
    /// The first judged span begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Instant>,
    /// The last judged one ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Instant>,
    /// What rows are made of.
    pub by: Grouping,
    /// Rows with the most bytes left behind first.
    #[serde(flatten)]
    pub table: Table<EpochSum>,
}

/// Blocks born in span `k` of a marker and alive at the end of span `k + after`, where that end is an instant that is known. The marker's spans go from each of its places to the next; the last, to the
/// end of the recording.
pub fn epochs(heap: &Heap, marker: &str, after: usize, query: &Query, resolver: &dyn Resolver) -> Epochs {
    let wanted_name = Text::new(marker);
    let markers = heap.catalog.markers.iter().filter(|marker| marker.name == wanted_name);
    let mut ends: Vec<Moment> = markers
        .map(|marker| Moment {
            cut: marker.at,
            time: marker.time,
            by_time: true,
        })
        .collect();
    let spans = ends.len();
    if spans > 0 {
        ends.push(heap.end());
    }
    // What was alive before full history begins, and is not any more, is not known.
    let start = heap.start().cut;
    let unknown = ends.iter().take_while(|end| end.cut < start).count();
    let skipped = unknown.saturating_sub(1 + after);
    ends.drain(..skipped.min(ends.len()));
    let judged = spans.saturating_sub(after + skipped);
    // By judged span, its first row, and where its blocks must still live; with the end of the last one behind.
    let first_rows: Vec<u32> = ends
        .iter()
        .take(judged + usize::from(judged > 0))
        .map(|moment| heap.allocations.born_before(moment.cut) as u32)
        .collect();
    let rows = match (first_rows.first(), first_rows.last()) {
        (Some(&first), Some(&last)) => first as usize..last.max(first) as usize,
        _ => 0..0,
    };
    let wanted = query.filter.rows(heap);
    let tallies = tally(
        heap,
        &heap.pieces(rows),
        0,
        &query.by,
        || 0usize,
        |span, item| {
            // Rows come in their order.
            while *span + 1 < judged && first_rows[*span + 1] <= item.row {
                *span += 1;
            }
            let alive_at = &ends[*span + 1 + after];
            let is_left = item.death >= alive_at.cut.get() && heap.is_home_alive(item.thread, alive_at);
            (is_left && wanted.accepts(item)).then_some(*span as u32)
        },
        |sum: &mut EpochSum, item, span| {
            sum.level.add(heap.level(item));
            sum.left_by.insert(span);
            sum.epochs = sum.left_by.len();
        },
    );
    let by_key = gather_tallies(heap, &tallies, query, resolver, false, |_, _, _, _| true);
    let instant = |at: usize| {
        ends.get(at)
            .filter(|_| judged > 0)
            .map(|moment| Instant::of(heap, moment))
    };
    Epochs {
        tape: heap.name.clone(),
        marker: wanted_name,
        after,
        spans,
        judged,
        from: instant(0),
        until: instant(judged),
        by: query.by.clone(),
        table: ranked(by_key, |sum| (sum.level.size, sum.level.count, sum.epochs), query.rows),
    }
}
