//! The rows that outlive their neighbours, apart from the others, so that what was alive at an instant is found without looking at every row.
//!
//! Rows are cut into spans of 2^16, 2^20, 2^24 and 2^28, each of the larger ones made of 16 of the next smaller. A row lies in the stratum of the smallest span in which it both is born and
//! dies (in terms of rows: which was the last one born when it died). Then what was alive at an instant lies in one span of each stratum: most rows die in the
//! span of 2^16 they were born in and concern only instants there. Rows of that lowest stratum are in the table alone; those of the others are listed again, with all that
//! questions ask for, as are those that were never freed.

use super::allocations::{Allocations, Item, Marks};
use super::column::{Column, Number, AT_ONCE, PIECE};
use super::store::Storage;
use super::NEVER;
use crate::tape::StackIx;
use heaptape_format::{ThreadIx, TypeIx};
use rayon::prelude::*;
use std::io;
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
    /// An empty list that is going to hold so many rows at most.
    fn stored(storage: &Storage, most: usize) -> io::Result<Stratum> {
        Ok(Stratum {
            row: Column::Memory(storage.store(most)?),
            death: Column::Memory(storage.store(most)?),
            size: Column::Memory(storage.store(most)?),
            stack: Column::Memory(storage.store(most)?),
            thread: Column::Memory(storage.store(most)?),
            kind: Column::Memory(storage.store(most)?),
            marks: Column::Memory(storage.store(most)?),
        })
    }

    fn append(&mut self, items: &[Item]) -> io::Result<()> {
        append(&mut self.row, items, |item| item.row)?;
        append(&mut self.death, items, |item| item.death)?;
        append(&mut self.size, items, |item| item.size)?;
        append(&mut self.stack, items, |item| item.stack.0)?;
        append(&mut self.thread, items, |item| item.thread.get())?;
        append(&mut self.kind, items, |item| item.kind.get())?;
        append(&mut self.marks, items, |item| item.marks.0)
    }

    fn release(&self) {
        for column in [&self.row, &self.stack, &self.thread, &self.kind] {
            column.release();
        }
        self.death.release();
        self.size.release();
        self.marks.release();
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

fn append<T: Number>(column: &mut Column<T>, items: &[Item], field: impl Fn(&Item) -> T) -> io::Result<()> {
    let Some(store) = column.in_memory() else { return Ok(()) };
    store.reserve(items.len())?;
    store.extend(items.iter().map(field));
    Ok(())
}

/// The listed strata.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Strata(pub Vec<Stratum>);

impl Strata {
    /// Sorts the rows of a table.
    pub(crate) fn of(rows: &Allocations, storage: &Storage) -> io::Result<Strata> {
        let pieces = rows.len().div_ceil(PIECE);
        // The last birth of each whole piece but the last: a death after it lies in a later piece.
        let lasts: Vec<u64> = (1..pieces).map(|piece| rows.birth(piece * PIECE - 1).get()).collect();
        let lists = |piece: usize| {
            let mut lists: [Vec<Item>; STRATA] = Default::default();
            let leaves = lasts.get(piece).map_or(u64::MAX - 1, |&last| last);
            let range = piece * PIECE..rows.len().min((piece + 1) * PIECE);
            rows.visit(range, leaves + 1, |item| {
                if item.death == NEVER.get() {
                    lists[STRATA - 1].push(*item);
                } else {
                    let dies = lasts.partition_point(|&last| last < item.death) as u64;
                    let is_within = |shift: &u32| (piece as u64) >> (shift - 16) == dies >> (shift - 16);
                    let stratum = SHIFTS.iter().position(is_within).unwrap_or(SHIFTS.len() - 1);
                    lists[stratum].push(*item);
                }
            });
            lists
        };
        let mut strata = Vec::new();
        for _ in 0..STRATA {
            strata.push(Stratum::stored(storage, rows.len())?);
        }
        for from in (0..pieces).step_by(AT_ONCE) {
            let some = from..pieces.min(from + AT_ONCE);
            let parts: Vec<[Vec<Item>; STRATA]> = some.into_par_iter().map(&lists).collect();
            strata
                .par_iter_mut()
                .enumerate()
                .try_for_each(|(number, stratum)| parts.iter().try_for_each(|part| stratum.append(&part[number])))?;
            rows.release();
            strata.iter().for_each(Stratum::release);
        }
        Ok(Strata(strata))
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
            address: Column::Memory(vec![0; rows].into()),
            size: Column::Memory((0..rows as u32).collect()),
            stack: Column::Memory(vec![0; rows].into()),
            thread: Column::Memory(vec![0; rows].into()),
            marks: Column::Memory(vec![0; rows].into()),
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
        let strata = Strata::of(&rows, &Storage::Memory).expect("memory takes them");
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
