//! The group-by that all statistics share: rows of the table summed by stack and one more property.

use super::filter::RowFilter;
use super::group::Facts;
use super::{Filter, Grouping};
use crate::table::{Heap, Item, Level, Moment, Piece};
use crate::tape::StackIx;
use hashbrown::HashMap;
use heaptape_format::ProcessIx;
use rayon::prelude::*;

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

/// No sum yet.
const NONE: u32 = u32::MAX;

/// Sums in the making. The usual grouping needs no hash: every stack has a place.
struct Sums<'a> {
    by: &'a Grouping,
    /// By stack, which of `sums` is its own; for a grouping by stack alone.
    places: Vec<u32>,
    sums: Vec<(StackIx, Cell)>,
    others: Cells,
}

impl<'a> Sums<'a> {
    fn new(heap: &Heap, by: &'a Grouping) -> Sums<'a> {
        let stacks = if by.is_by_stack_alone() {
            heap.catalog.stacks.len()
        } else {
            0
        };
        Sums {
            by,
            places: vec![NONE; stacks],
            sums: Vec::new(),
            others: Cells::new(),
        }
    }

    #[inline]
    fn add(&mut self, item: &Item, process: Option<ProcessIx>, block: Level, is_doubtful: bool) {
        let cell = match self.places.get_mut(item.stack.0 as usize) {
            Some(place) => {
                if *place == NONE {
                    *place = self.sums.len() as u32;
                    self.sums.push((item.stack, Cell::default()));
                }
                &mut self.sums[*place as usize].1
            }
            None => {
                let facts = self.by.facts(item, process);
                self.others.entry((item.stack, facts)).or_default()
            }
        };
        cell.add(block, is_doubtful);
    }

    fn finish(mut self) -> Cells {
        let sums = self.sums.into_iter();
        self.others
            .extend(sums.map(|(stack, cell)| ((stack, Facts::default()), cell)));
        self.others
    }
}

/// Sums the rows of some pieces, of those that were not freed before an event, that `keep` accepts.
pub(crate) fn sum_pieces(
    heap: &Heap,
    pieces: &[Piece],
    not_before: u64,
    by: &Grouping,
    keep: impl Fn(&Item) -> bool + Sync,
    is_doubtful: impl Fn(u32) -> bool + Sync,
) -> Cells {
    pieces
        .par_iter()
        .fold(
            || Sums::new(heap, by),
            |mut sums, piece| {
                heap.visit(piece, not_before, |item| {
                    if keep(item) {
                        let process = heap.catalog.process_of(item.thread);
                        sums.add(item, process, heap.level(item), is_doubtful(item.row));
                    }
                });
                sums
            },
        )
        .map(Sums::finish)
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
