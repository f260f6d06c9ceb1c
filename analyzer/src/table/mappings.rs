//! Address space: mappings as an interval structure, and one row per piece that ever existed.
//!
//! Shown beside the heap and never added to it: the allocator takes its memory from mappings, so a sum would count twice.

use super::NEVER;
use crate::tape::StackIx;
use heaptape_format::{Address, Bytes, EventNo, ProcessIx, ThreadIx};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What kind of address space a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MappingKind {
    /// Anonymous memory.
    Anonymous,
    /// A mapped file.
    File,
    /// The program break.
    Brk,
    /// Memory that Python's object allocator cuts its blocks from.
    Arena,
}

/// A piece of a mapping that was whole from its birth to its death. Cutting a mapping ends its piece and begins the remaining ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingRow {
    /// Event that made it, or cut it to this shape.
    pub birth: EventNo,
    /// Event that ended it, or [`NEVER`].
    pub death: EventNo,
    /// Where it begins.
    pub start: Address,
    /// Its length.
    pub length: Bytes,
    /// Who mapped it.
    pub stack: StackIx,
    /// Which thread did.
    pub thread: ThreadIx,
    /// Its process, if known.
    pub process: Option<ProcessIx>,
    /// What it is.
    pub kind: MappingKind,
}

/// All pieces in the order of their births.
#[derive(Debug, Default)]
pub struct Mappings {
    /// The rows.
    pub rows: Vec<MappingRow>,
    /// Live pieces by process and start.
    live: BTreeMap<(Option<ProcessIx>, u64), usize>,
}

impl Mappings {
    /// Rows that are complete: nothing more is going to happen to them.
    pub(crate) fn of_rows(rows: Vec<MappingRow>) -> Mappings {
        Mappings {
            rows,
            live: BTreeMap::new(),
        }
    }

    /// Maps a range; whatever lay there before is gone.
    pub fn map(&mut self, row: MappingRow) {
        if row.length.get() == 0 {
            return;
        }
        let length = row.length.get().min(u64::MAX - row.start.get());
        self.unmap(row.process, row.start, Bytes(length), row.birth);
        self.live.insert((row.process, row.start.get()), self.rows.len());
        self.rows.push(MappingRow {
            length: Bytes(length),
            death: NEVER,
            ..row
        });
    }

    /// Unmaps a range, which may cut pieces or span several. Returns what kind its first piece was.
    pub fn unmap(
        &mut self,
        process: Option<ProcessIx>,
        start: Address,
        length: Bytes,
        event: EventNo,
    ) -> Option<MappingKind> {
        let (start, end) = (start.get(), start.get().saturating_add(length.get()));
        if start == end {
            return None;
        }
        // The piece that begins before the range may reach into it.
        let from = self
            .live
            .range((process, 0)..(process, start))
            .next_back()
            .map_or(start, |(&(_, at), _)| at);
        let touched: Vec<usize> = self
            .live
            .range((process, from)..(process, end))
            .map(|(_, &row)| row)
            .filter(|&row| self.rows[row].start.get().saturating_add(self.rows[row].length.get()) > start)
            .collect();
        for &index in &touched {
            let row = self.rows[index];
            let row_end = row.start.get().saturating_add(row.length.get());
            self.rows[index].death = event;
            self.live.remove(&(process, row.start.get()));
            for (piece_start, piece_end) in [(row.start.get(), start), (end, row_end)] {
                if piece_start < piece_end {
                    self.live.insert((process, piece_start), self.rows.len());
                    self.rows.push(MappingRow {
                        birth: event,
                        death: NEVER,
                        start: Address(piece_start),
                        length: Bytes(piece_end - piece_start),
                        ..row
                    });
                }
            }
        }
        touched.first().map(|&row| self.rows[row].kind)
    }

    /// `mremap`: the old range ends, the new one begins, of the same kind.
    pub fn remap(&mut self, old: Address, old_length: Bytes, new: MappingRow) {
        let kind = self.unmap(new.process, old, old_length, new.birth);
        self.map(MappingRow {
            kind: kind.unwrap_or(new.kind),
            ..new
        });
    }

    /// The program break moved from `old_end`; `new.start` is where it is now.
    pub fn set_break(&mut self, old_end: Address, new: MappingRow) {
        let new_end = new.start;
        if new_end > old_end {
            let length = Bytes(new_end.get() - old_end.get());
            self.map(MappingRow {
                start: old_end,
                length,
                kind: MappingKind::Brk,
                ..new
            });
        } else {
            self.unmap(new.process, new_end, Bytes(old_end.get() - new_end.get()), new.birth);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(start: u64, length: u64, birth: u64) -> MappingRow {
        MappingRow {
            birth: EventNo(birth),
            death: NEVER,
            start: Address(start),
            length: Bytes(length),
            stack: StackIx(birth as u32),
            thread: ThreadIx(0),
            process: Some(ProcessIx(0)),
            kind: MappingKind::Anonymous,
        }
    }

    /// Pieces alive at the end as (start, length, stack).
    fn live(mappings: &Mappings) -> Vec<(u64, u64, u32)> {
        let mut live: Vec<_> = mappings
            .rows
            .iter()
            .filter(|row| row.death == NEVER)
            .map(|row| (row.start.get(), row.length.get(), row.stack.0))
            .collect();
        live.sort_unstable();
        live
    }

    #[test]
    fn unmapping_the_middle_leaves_both_ends_to_their_owner() {
        let mut mappings = Mappings::default();
        mappings.map(row(0x1000, 0x3000, 0));
        mappings.unmap(Some(ProcessIx(0)), Address(0x2000), Bytes(0x1000), EventNo(1));
        assert_eq!(live(&mappings), [(0x1000, 0x1000, 0), (0x3000, 0x1000, 0)]);
    }

    #[test]
    fn mapping_over_a_part_replaces_that_part() {
        let mut mappings = Mappings::default();
        mappings.map(row(0x1000, 0x3000, 0));
        mappings.map(row(0x3000, 0x3000, 1));
        assert_eq!(live(&mappings), [(0x1000, 0x2000, 0), (0x3000, 0x3000, 1)]);
    }

    #[test]
    fn one_unmap_may_span_several_mappings_and_leaves_other_processes_alone() {
        let mut mappings = Mappings::default();
        for n in 0..3 {
            mappings.map(row(0x1000 * (n + 1), 0x1000, n));
        }
        mappings.map(MappingRow {
            process: Some(ProcessIx(1)),
            ..row(0x1000, 0x3000, 3)
        });
        mappings.unmap(Some(ProcessIx(0)), Address(0x1800), Bytes(0x2000), EventNo(4));
        assert_eq!(
            live(&mappings),
            [(0x1000, 0x800, 0), (0x1000, 0x3000, 3), (0x3800, 0x800, 2)]
        );
    }

    #[test]
    fn the_break_grows_and_shrinks() {
        let mut mappings = Mappings::default();
        mappings.set_break(Address(0x1000), row(0x5000, 0, 0));
        mappings.set_break(Address(0x5000), row(0x2000, 0, 1));
        assert_eq!(live(&mappings), [(0x1000, 0x1000, 0)]);
    }

    #[test]
    fn ranges_at_the_end_of_the_address_space_do_not_overflow() {
        let mut mappings = Mappings::default();
        mappings.map(row(u64::MAX - 10, u64::MAX, 0));
        mappings.unmap(Some(ProcessIx(0)), Address(u64::MAX - 5), Bytes(u64::MAX), EventNo(1));
        assert_eq!(live(&mappings), [(u64::MAX - 10, 5, 0)]);
    }
}
