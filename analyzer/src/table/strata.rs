//! The rows that outlive their neighbours, apart from the others, so that what was alive at an instant is found without looking at every row.
//!
//! Rows are cut into spans of 2^16, 2^20, 2^24 and 2^28, each of the larger ones made of 16 of the next smaller. A row lies in the stratum of the smallest span in which it both is born and
//! dies (in terms of rows: which was the last one born when it died). Then what was alive at an instant lies in one span of each stratum: most rows die in the
//! span of 2^16 they were born in and concern only instants there. Rows of that lowest stratum are in the table alone; those of the others are listed again, with all that
//! questions ask for, as are those that were never freed.

use super::allocations::{Allocations, Item, Marks};
use super::column::{Column, PIECE};
use super::NEVER;
use crate::tape::StackIx;
use heaptape_format::{ThreadIx, TypeIx};
use rayon::prelude::*;
use std::ops::Range;

/// log2 of the rows of a span of each listed stratum; the last one is so large that no row leaves it.
const SHIFTS: [u32; 4] = [20, 24, 28, 32];
/// Listed strata; the last is of rows that were never freed.
pub(crate) const STRATA: usize = SHIFTS.len() + 1;

/// Rows in the order of their births.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Stratum {
    pub row: Column<u32>,
    pub death: Column<u64>,
    pub size: Column<u64>,
    pub stack: Column<u32>,
    pub thread: Column<u32>,
    pub kind: Column<u32>,
    pub marks: Column<u8>,
}

impl Stratum {
    fn of(rows: &Allocations, list: Vec<u32>) -> Stratum {
        let items: Vec<Item> = list.par_iter().map(|&row| rows.item(row)).collect();
        Stratum {
            row: Column::Memory(list),
            death: Column::Memory(items.iter().map(|item| item.death).collect()),
            size: Column::Memory(items.iter().map(|item| item.size).collect()),
            stack: Column::Memory(items.iter().map(|item| item.stack.0).collect()),
            thread: Column::Memory(items.iter().map(|item| item.thread.get()).collect()),
            kind: Column::Memory(items.iter().map(|item| item.kind.get()).collect()),
            marks: Column::Memory(items.iter().map(|item| item.marks.0).collect()),
        }
    }

    /// How many of its rows are lower than this one.
    pub(crate) fn below(&self, row: u64) -> usize {
        self.row.partition_point(|at| u64::from(at) < row)
    }

    /// Calls `visit` with those of a range, which lies within one piece, that die at or after an event.
    #[inline]
    pub(crate) fn visit(&self, range: Range<usize>, not_before: u64, mut visit: impl FnMut(&Item)) {
        if range.is_empty() {
            return;
        }
        let piece = range.start / PIECE;
        let (row, death, size) = (self.row.piece(piece), self.death.piece(piece), self.size.piece(piece));
        let (stack, thread) = (self.stack.piece(piece), self.thread.piece(piece));
        let (kind, marks) = (self.kind.piece(piece), self.marks.piece(piece));
        for at in range.map(|at| at % PIECE) {
            if death[at] >= not_before {
                visit(&Item {
                    row: row[at],
                    death: death[at],
                    size: size[at],
                    stack: StackIx(stack[at]),
                    thread: ThreadIx(thread[at]),
                    kind: TypeIx(kind[at]),
                    marks: Marks(marks[at]),
                });
            }
        }
    }
}

/// The listed strata.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Strata(pub Vec<Stratum>);

impl Strata {
    /// Sorts the rows of a table.
    pub(crate) fn of(rows: &Allocations) -> Strata {
        let pieces = rows.len().div_ceil(PIECE);
        // The last birth of each whole piece but the last: a death after it lies in a later piece.
        let lasts: Vec<u64> = (1..pieces).map(|piece| rows.birth(piece * PIECE - 1).get()).collect();
        let parts: Vec<[Vec<u32>; STRATA]> = (0..pieces)
            .into_par_iter()
            .map(|piece| {
                let mut lists: [Vec<u32>; STRATA] = Default::default();
                let leaves = lasts.get(piece).map_or(u64::MAX - 1, |&last| last);
                let range = piece * PIECE..rows.len().min((piece + 1) * PIECE);
                rows.visit(range, leaves + 1, |item| {
                    if item.death == NEVER.get() {
                        lists[STRATA - 1].push(item.row);
                    } else {
                        let dies = lasts.partition_point(|&last| last < item.death) as u64;
                        let is_within = |shift: &u32| (piece as u64) >> (shift - 16) == dies >> (shift - 16);
                        let stratum = SHIFTS.iter().position(is_within).unwrap_or(SHIFTS.len() - 1);
                        lists[stratum].push(item.row);
                    }
                });
                lists
            })
            .collect();
        Strata(
            (0..STRATA)
                .map(|stratum| {
                    let list = parts.iter().flat_map(|part| &part[stratum]).copied().collect();
                    Stratum::of(rows, list)
                })
                .collect(),
        )
    }

    /// Those that were never freed.
    pub(crate) fn never(&self) -> usize {
        STRATA - 1
    }

    /// By stratum, which of its entries can be alive when `born` rows have been born, without the last of these: those from the last multiple of [`PIECE`] on.
    pub(crate) fn ranges(&self, born: usize) -> impl Iterator<Item = (usize, Range<usize>)> + '_ {
        let (born, listed) = (born as u64, (born / PIECE * PIECE) as u64);
        self.0.iter().enumerate().map(move |(number, stratum)| {
            let start = match SHIFTS.get(number) {
                Some(&shift) => born >> shift << shift,
                None => 0,
            };
            (number, stratum.below(start)..stratum.below(listed))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heaptape_format::EventNo;

    /// A table of rows that are born at every other event; `lives` says for how many events.
    fn table(rows: usize, lives: impl Fn(usize) -> Option<u32>) -> Allocations {
        let death = |row: usize| lives(row).map_or(u32::MAX, |events| (row % PIECE * 2) as u32 + events);
        Allocations {
            base: (0..rows).step_by(PIECE).map(|row| row as u64 * 2).collect(),
            birth: Column::Memory((0..rows).map(|row| (row % PIECE * 2) as u32).collect()),
            death: Column::Memory((0..rows).map(death).collect()),
            address: Column::Memory(vec![0; rows]),
            size: Column::Memory((0..rows as u32).collect()),
            stack: Column::Memory(vec![0; rows]),
            thread: Column::Memory(vec![0; rows]),
            marks: Column::Memory(vec![0; rows]),
            ..Allocations::default()
        }
    }

    fn alive(rows: &Allocations, strata: &Strata, cut: u64) -> (usize, u64) {
        let born = rows.born_before(EventNo(cut));
        let (mut count, mut sum) = (0, 0);
        let mut visit = |item: &Item| {
            assert!((item.row as usize) < born && item.death >= cut);
            count += 1;
            sum += u64::from(item.row);
        };
        for (stratum, range) in strata.ranges(born) {
            range.for_each(|at| strata.0[stratum].visit(at..at + 1, cut, &mut visit));
        }
        rows.visit(born / PIECE * PIECE..born, cut, visit);
        (count, sum)
    }

    #[test]
    fn what_is_alive_at_an_instant_is_found_in_one_span_of_each_stratum() {
        // More than one span of 2^20.
        const ROWS: usize = (1 << 20) + 5 * PIECE + 77;
        let rows = table(ROWS, |row| match row % 31 {
            0 => None,
            1..=3 => Some(1 + (row as u64 * 7919 % 400_000) as u32),
            4 => Some(1 + (row as u64 * 104_729 % 3_000_000) as u32),
            5 => Some((2 * PIECE - row % PIECE * 2 + row % 3 - 1) as u32),
            other => Some(1 + other as u32),
        });
        let strata = Strata::of(&rows);
        let listed: usize = strata.0.iter().map(|stratum| stratum.row.len()).sum();
        assert!(listed < ROWS / 4, "{listed}");
        assert!(strata.0[0].row.len() > 1000 && strata.0[1].row.len() > 1000);
        let (piece, span) = (2 * PIECE as u64, 2u64 << 20);
        let edges = [
            0,
            1,
            piece - 1,
            piece,
            piece + 1,
            span - 1,
            span,
            span + 1,
            span + piece,
        ];
        let ends = [2 * ROWS as u64, u64::MAX - 1];
        for cut in edges.into_iter().chain(ends).chain((1..9).map(|n| n * 291_111)) {
            let is_alive = |&row: &usize| rows.birth(row).get() < cut && rows.death(row).get() >= cut;
            let lives = (0..ROWS).filter(is_alive);
            let expected = lives.fold((0, 0), |(count, sum), row| (count + 1, sum + row as u64));
            assert_eq!(alive(&rows, &strata, cut), expected, "at {cut}");
        }
    }
}
