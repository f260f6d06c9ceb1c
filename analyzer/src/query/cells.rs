//! The group-by that all statistics share: rows of the table summed by stack and one more property.

use super::filter::RowFilter;
use super::group::Facts;
use super::{Filter, Grouping};
use crate::table::{Heap, Level, Moment};
use crate::tape::StackIx;
use hashbrown::HashMap;
use heaptape_format::ProcessIx;
use rayon::prelude::*;
use std::ops::Range;

/// A sum over rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    pub all: Level,
    /// The part that may have been freed where events are missing.
    pub doubtful: Level,
}

impl Cell {
    fn add(&mut self, block: Level, is_doubtful: bool) {
        self.all.add(block);
        if is_doubtful {
            self.doubtful.add(block);
        }
    }

    pub(crate) fn merge(&mut self, other: &Cell) {
        self.all.add(other.all);
        self.doubtful.add(other.doubtful);
    }
}

/// Sums by stack and by what else the grouping needs.
pub(crate) type Cells = HashMap<(StackIx, Facts), Cell>;

/// Sums the rows of a range that `keep` accepts.
pub(crate) fn sum_rows(
    heap: &Heap,
    range: Range<usize>,
    by: &Grouping,
    keep: impl Fn(u32) -> bool + Sync,
    is_doubtful: impl Fn(u32) -> bool + Sync,
) -> Cells {
    let rows = &heap.allocations;
    (range.start as u32..range.end as u32)
        .into_par_iter()
        .with_min_len(1 << 16)
        .fold(Cells::new, |mut cells, row| {
            if keep(row) {
                let key = (rows.stack[row as usize], by.facts(heap, row, heap.process_of(row)));
                cells.entry(key).or_default().add(heap.level_of(row), is_doubtful(row));
            }
            cells
        })
        .reduce(Cells::new, |a, b| {
            let (mut into, from) = if a.len() < b.len() { (b, a) } else { (a, b) };
            for (key, cell) in from {
                into.entry(key).or_default().merge(&cell);
            }
            into
        })
}

/// Sums what is alive at a moment.
pub(crate) fn sum_live(heap: &Heap, moment: &Moment, filter: &Filter, by: &Grouping) -> Cells {
    let wanted: RowFilter<'_> = filter.rows(heap);
    let range = 0..heap.allocations.born_before(moment.cut);
    let mut cells = sum_rows(
        heap,
        range,
        by,
        |row| wanted.accepts(row) && heap.is_live(row, moment),
        |row| heap.is_doubtful(row, moment),
    );
    if filter.inherited {
        for process in (0..heap.catalog.processes.len() as u32).map(ProcessIx) {
            if wanted.accepts_process(process) {
                heap.inherited(process, moment, |row| {
                    if wanted.accepts_inherited(row) {
                        let key = (heap.allocations.stack[row as usize], by.facts(heap, row, Some(process)));
                        cells.entry(key).or_default().add(heap.level_of(row), false);
                    }
                });
            }
        }
    }
    cells
}
