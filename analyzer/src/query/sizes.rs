//! How large blocks are.

use super::stats::accepted_anywhere;
use super::{Instant, Query};
use crate::symbols::Resolver;
use crate::table::{Heap, Level, Moment};
use crate::text::Text;
use rayon::prelude::*;
use serde::Serialize;

/// One column for blocks of no bytes, and one for each power of two up to 2^64.
const COLUMNS: usize = 66;

/// Blocks of a range of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SizeColumn {
    /// The smallest size.
    pub from: u64,
    /// The largest one: a power of two, or 0.
    pub until: u64,
    /// Blocks of these sizes.
    #[serde(flatten)]
    pub level: Level,
}

/// Blocks by size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// The tape.
    pub tape: Text,
    /// Alive then; nothing for all blocks of the recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Instant>,
    /// All blocks.
    pub total: Level,
    /// The columns between the smallest and the largest block.
    pub columns: Vec<SizeColumn>,
}

/// Which column a size belongs to: 0; 1; 2; 3 and 4; 5 to 8; and so on.
fn column(size: u64) -> usize {
    match size {
        0 => 0,
        size => 1 + (u64::BITS - (size - 1).leading_zeros()) as usize,
    }
}

/// The sizes of a column.
fn ends(column: usize) -> (u64, u64) {
    match column {
        0 => (0, 0),
        1 => (1, 1),
        column => (
            (1u64 << (column - 2)) + 1,
            1u64.checked_shl(column as u32 - 1).unwrap_or(u64::MAX),
        ),
    }
}

/// Blocks by size: those alive at a moment, or all of the recording.
pub fn sizes(heap: &Heap, moment: Option<&Moment>, query: &Query, resolver: &dyn Resolver) -> Sizes {
    let wanted = query.filter.rows(heap);
    let accepted = accepted_anywhere(heap, query, resolver);
    let (pieces, not_before) = match moment {
        Some(moment) => (heap.candidates(moment.cut), moment.cut.get()),
        None => (heap.pieces(0..heap.allocations.len()), 0),
    };
    let new = || [Level::default(); COLUMNS];
    let mut columns = pieces
        .par_iter()
        .fold(new, |mut columns, piece| {
            heap.visit(piece, not_before, |item| {
                let is_there = moment.is_none_or(|moment| heap.is_home_alive(item.thread, moment));
                if is_there && accepted[item.stack.0 as usize] && wanted.accepts(item) {
                    columns[column(item.size)].add(heap.level(item));
                }
            });
            columns
        })
        .reduce(new, |mut sum, part| {
            sum.iter_mut().zip(part).for_each(|(sum, part)| sum.add(part));
            sum
        });
    if let Some(moment) = moment.filter(|_| query.filter.inherited) {
        for process in (0..heap.catalog.processes.len() as u32).map(heaptape_format::ProcessIx) {
            if wanted.accepts_process(process) {
                heap.inherited_items(process, moment, |item| {
                    if accepted[item.stack.0 as usize] && wanted.accepts_inherited(item) {
                        columns[column(item.size)].add(heap.level(item));
                    }
                });
            }
        }
    }
    let mut total = Level::default();
    columns.iter().for_each(|&level| total.add(level));
    let is_used = |level: &Level| level.count > 0;
    let used = match columns.iter().position(is_used) {
        Some(first) => first..1 + columns.iter().rposition(is_used).unwrap_or(first),
        None => 0..0,
    };
    let columns = used.map(|column| {
        let (from, until) = ends(column);
        SizeColumn {
            from,
            until,
            level: columns[column],
        }
    });
    Sizes {
        tape: heap.name.clone(),
        at: moment.map(|moment| Instant::of(heap, moment)),
        total,
        columns: columns.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_lies_between_the_ends_of_its_column() {
        let sizes = (0..70u32).flat_map(|bits| {
            let power = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
            [power - 1, power, power.saturating_add(1)]
        });
        for size in sizes {
            let (from, until) = ends(column(size));
            assert!((from..=until).contains(&size), "{size}");
            assert!(column(size) < COLUMNS);
        }
    }
}
