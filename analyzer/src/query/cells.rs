//! Sums of bytes and blocks.

use super::filter::RowFilter;
use super::tally::{tally, Tallies, Tally};
use super::{Filter, Grouping};
use crate::table::{Heap, Item, Level, Moment, Piece, Spread};
use heaptape_format::ProcessIx;

/// A sum over rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    pub all: Level,
    /// The part that may have been freed where events are missing.
    pub doubtful: Level,
    /// How far the bytes may be from the truth.
    pub spread: Spread,
}

impl Cell {
    fn add(&mut self, block: Level, is_doubtful: bool) {
        self.all.add(block);
        self.spread.add(block);
        if is_doubtful {
            self.doubtful.add(block);
        }
    }
}

impl Tally for Cell {
    fn merge(&mut self, other: &Cell) {
        self.all.add(other.all);
        self.doubtful.add(other.doubtful);
        self.spread.join(other.spread);
    }
}

/// Sums by stack and by what else the grouping needs.
pub(crate) type Cells = Tallies<Cell>;

/// Sums the rows of some pieces, of those that were not freed before an event, that `keep` accepts.
pub(crate) fn sum_pieces(
    heap: &Heap,
    pieces: &[Piece],
    not_before: u64,
    by: &Grouping,
    keep: impl Fn(&Item) -> bool + Sync,
    is_doubtful: impl Fn(u32) -> bool + Sync,
) -> Cells {
    tally(
        heap,
        pieces,
        not_before,
        by,
        || (),
        |(), item| keep(item).then_some(()),
        |cell: &mut Cell, item, ()| cell.add(heap.level(item), is_doubtful(item.row)),
    )
}

/// Sums what is alive at a moment and was born before another.
pub(crate) fn sum_older(heap: &Heap, moment: &Moment, before: &Moment, filter: &Filter, by: &Grouping) -> Cells {
    let wanted: RowFilter<'_> = filter.rows(heap);
    let older = heap.allocations.born_before(before.cut);
    sum_pieces(
        heap,
        &heap.candidates(moment.cut),
        moment.cut.get(),
        by,
        |item| (item.row as usize) < older && wanted.accepts(item) && heap.is_home_alive(item.thread, moment),
        |row| heap.is_doubtful(row, moment),
    )
}

/// Sums what is alive at a moment.
pub(crate) fn sum_live(heap: &Heap, moment: &Moment, filter: &Filter, by: &Grouping) -> Cells {
    let wanted: RowFilter<'_> = filter.rows(heap);
    let mut cells = sum_pieces(
        heap,
        &heap.candidates(moment.cut),
        moment.cut.get(),
        by,
        |item| wanted.accepts(item) && heap.is_home_alive(item.thread, moment),
        |row| heap.is_doubtful(row, moment),
    );
    if filter.inherited {
        for process in (0..heap.catalog.processes.len() as u32).map(ProcessIx) {
            if wanted.accepts_process(process) {
                heap.inherited_items(process, moment, |item| {
                    if wanted.accepts_inherited(item) {
                        let key = (item.stack, by.facts(item, Some(process)));
                        cells.entry(key).or_default().add(heap.level(item), false);
                    }
                });
            }
        }
    }
    cells
}
