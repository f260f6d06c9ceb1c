//! The allocation table: one row per block of memory that ever lived, sorted by birth.
//!
//! 29 bytes a row, 33 with types of objects. Births and deaths are offsets from the birth of the first row of their piece of the column, sizes are what they are, all in 32 bits; the few
//! numbers that do not fit have a list of their own.

use super::column::{Column, Number, PIECE};
use crate::tape::StackIx;
use heaptape_format::{Address, AllocApi, Bytes, EventNo, ThreadIx, TypeIx};
use serde::{Deserialize, Serialize};

/// Row of the allocation table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AllocIx(pub u32);

impl AllocIx {
    /// No row.
    pub const NONE: AllocIx = AllocIx(u32::MAX);
}

/// The death of what never died.
pub const NEVER: EventNo = EventNo(u64::MAX);

/// Facts of a row that need one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// Born by a `realloc` of an older block (in place or moved).
    pub const REALLOC: Flags = Flags(1);
    /// Its free was not seen: another block was born at its address.
    pub const LOST_FREE: Flags = Flags(2);

    /// Whether all bits of `other` are set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Entry point and flags of a row in one byte.
#[derive(Clone, Copy)]
pub(crate) struct Marks(pub u8);

/// The flags lie above the entry point.
const FLAGS_SHIFT: u32 = 6;

impl Marks {
    pub(crate) const fn new(api: u8, flags: Flags) -> Marks {
        Marks((api & ((1 << FLAGS_SHIFT) - 1)) | (flags.0 << FLAGS_SHIFT))
    }

    #[inline]
    pub(crate) fn api(self) -> AllocApi {
        // Whatever a file may say here, it comes out as an entry point.
        AllocApi::from_u8(self.0 & ((1 << FLAGS_SHIFT) - 1)).unwrap_or(AllocApi::Malloc)
    }

    const fn flags(self) -> Flags {
        Flags(self.0 >> FLAGS_SHIFT)
    }

    pub(crate) const fn with(self, flags: Flags) -> Marks {
        Marks(self.0 | (flags.0 << FLAGS_SHIFT))
    }
}

/// What does not fit into 32 bits, by row.
pub(crate) type Wide = Vec<(u32, u64)>;
/// In a column: look among the wide ones.
pub(crate) const WIDE: u32 = u32::MAX - 1;
/// In the column of deaths.
pub(crate) const LOW_NEVER: u32 = u32::MAX;

fn wide_at(wide: &Wide, row: usize) -> u64 {
    let found = wide.binary_search_by_key(&(row as u32), |&(row, _)| row);
    found.map_or(0, |at| wide[at].1)
}

/// The columns. All have the same length, but for `kind`.
#[derive(Debug, Default, PartialEq)]
pub struct Allocations {
    /// The birth of the first row of each piece.
    pub(crate) base: Vec<u64>,
    pub(crate) birth: Column<u32>,
    pub(crate) death: Column<u32>,
    pub(crate) address: Column<u64>,
    pub(crate) size: Column<u32>,
    pub(crate) stack: Column<u32>,
    pub(crate) thread: Column<u32>,
    /// Empty when no row has a type.
    pub(crate) kind: Column<u32>,
    pub(crate) marks: Column<u8>,
    pub(crate) wide_birth: Wide,
    pub(crate) wide_death: Wide,
    pub(crate) wide_size: Wide,
    /// Rows that a `realloc` made, in their order.
    pub(crate) successor: Column<u32>,
    /// Of which rows it made them.
    pub(crate) predecessor: Column<u32>,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The event that allocated it.
    pub birth: EventNo,
    /// The event that freed it, or [`NEVER`].
    pub death: EventNo,
    /// Where it began.
    pub address: Address,
    /// Bytes asked for.
    pub size: Bytes,
    /// Who asked.
    pub stack: StackIx,
    /// Which thread asked.
    pub thread: ThreadIx,
    /// The row whose `realloc` made this one, or [`AllocIx::NONE`].
    pub predecessor: AllocIx,
    /// The type of object that it holds.
    pub kind: TypeIx,
    /// The entry point.
    pub api: AllocApi,
    /// See [`Flags`].
    pub flags: Flags,
}

/// What most questions need of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub row: u32,
    /// The event that freed it, or [`NEVER`].
    pub death: u64,
    pub size: u64,
    pub stack: StackIx,
    pub thread: ThreadIx,
    pub kind: TypeIx,
    pub marks: Marks,
}

impl PartialEq for Marks {
    fn eq(&self, other: &Marks) -> bool {
        self.0 == other.0
    }
}

impl Eq for Marks {}

impl std::fmt::Debug for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.api(), self.flags())
    }
}

impl Allocations {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.birth.len()
    }

    /// Whether nothing was ever allocated.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The event that allocated a row; strictly increasing.
    #[inline]
    pub fn birth(&self, row: usize) -> EventNo {
        EventNo(self.wide_birth(row, self.birth.get(row)))
    }

    #[inline]
    fn wide_birth(&self, row: usize, low: u32) -> u64 {
        match low {
            WIDE => wide_at(&self.wide_birth, row),
            low => self.base[row / PIECE].saturating_add(u64::from(low)),
        }
    }

    /// The event that freed a row, or [`NEVER`]. The end of its process is no death: see [`super::Heap::effective_death`].
    #[inline]
    pub fn death(&self, row: usize) -> EventNo {
        EventNo(self.wide_death(row, self.death.get(row)))
    }

    #[inline]
    fn wide_death(&self, row: usize, low: u32) -> u64 {
        match low {
            LOW_NEVER => NEVER.get(),
            WIDE => wide_at(&self.wide_death, row),
            low => self.base[row / PIECE].saturating_add(u64::from(low)),
        }
    }

    /// Where a row began.
    #[inline]
    pub fn address(&self, row: usize) -> Address {
        Address(self.address.get(row))
    }

    /// Bytes asked for.
    #[inline]
    pub fn size(&self, row: usize) -> Bytes {
        Bytes(self.wide_size(row, self.size.get(row)))
    }

    #[inline]
    fn wide_size(&self, row: usize, low: u32) -> u64 {
        match low {
            WIDE => wide_at(&self.wide_size, row),
            low => u64::from(low),
        }
    }

    /// Who asked.
    #[inline]
    pub fn stack(&self, row: usize) -> StackIx {
        StackIx(self.stack.get(row))
    }

    /// Which thread asked.
    #[inline]
    pub fn thread(&self, row: usize) -> ThreadIx {
        ThreadIx(self.thread.get(row))
    }

    /// The type of object that a row holds, by its place in [`crate::tape::Catalog::types`].
    #[inline]
    pub fn kind(&self, row: usize) -> TypeIx {
        TypeIx(if self.kind.is_empty() { 0 } else { self.kind.get(row) })
    }

    /// The entry point.
    #[inline]
    pub fn api(&self, row: usize) -> AllocApi {
        Marks(self.marks.get(row)).api()
    }

    /// See [`Flags`].
    #[inline]
    pub fn flags(&self, row: usize) -> Flags {
        Marks(self.marks.get(row)).flags()
    }

    /// The row whose `realloc` made this one, or [`AllocIx::NONE`].
    pub fn predecessor(&self, row: usize) -> AllocIx {
        let at = self.successor.partition_point(|successor| (successor as usize) < row);
        if at < self.successor.len() && self.successor.get(at) as usize == row {
            AllocIx(self.predecessor.get(at))
        } else {
            AllocIx::NONE
        }
    }

    /// One row as a value.
    pub fn get(&self, row: AllocIx) -> Allocation {
        let i = row.0 as usize;
        Allocation {
            birth: self.birth(i),
            death: self.death(i),
            address: self.address(i),
            size: self.size(i),
            stack: self.stack(i),
            thread: self.thread(i),
            predecessor: self.predecessor(i),
            kind: self.kind(i),
            api: self.api(i),
            flags: self.flags(i),
        }
    }

    /// Calls `visit` with every row of a range, which lies within one piece, that dies at or after an event.
    #[inline]
    pub(crate) fn visit(&self, range: std::ops::Range<usize>, not_before: u64, mut visit: impl FnMut(&Item)) {
        if range.is_empty() {
            return;
        }
        let piece = range.start / PIECE;
        let (death, size, stack) = (self.death.piece(piece), self.size.piece(piece), self.stack.piece(piece));
        let (thread, marks) = (self.thread.piece(piece), self.marks.piece(piece));
        let kind = if self.kind.is_empty() {
            u32::zeros()
        } else {
            self.kind.piece(piece)
        };
        for row in range {
            let at = row % PIECE;
            let dies = self.wide_death(row, death[at]);
            if dies >= not_before {
                visit(&Item {
                    row: row as u32,
                    death: dies,
                    size: self.wide_size(row, size[at]),
                    stack: StackIx(stack[at]),
                    thread: ThreadIx(thread[at]),
                    kind: TypeIx(kind[at]),
                    marks: Marks(marks[at]),
                });
            }
        }
    }

    /// Calls `visit` with every row of a range, which lies within one piece, that is wanted by its birth, its death and its stack. Nothing else is looked at of the others.
    #[inline]
    pub(crate) fn visit_some(
        &self,
        range: std::ops::Range<usize>,
        mut is_wanted: impl FnMut(EventNo, EventNo, u32) -> bool,
        mut visit: impl FnMut(&Item),
    ) {
        if range.is_empty() {
            return;
        }
        let piece = range.start / PIECE;
        let (birth, death, stack) = (
            self.birth.piece(piece),
            self.death.piece(piece),
            self.stack.piece(piece),
        );
        for row in range {
            let at = row % PIECE;
            let born = self.wide_birth(row, birth[at]);
            let dies = self.wide_death(row, death[at]);
            if is_wanted(EventNo(born), EventNo(dies), stack[at]) {
                visit(&Item {
                    row: row as u32,
                    death: dies,
                    size: self.size(row).get(),
                    stack: StackIx(stack[at]),
                    thread: self.thread(row),
                    kind: self.kind(row),
                    marks: Marks(self.marks.get(row)),
                });
            }
        }
    }

    /// Gives memory back that stands on disk as well.
    pub(crate) fn release(&self) {
        for column in [
            &self.birth,
            &self.death,
            &self.size,
            &self.stack,
            &self.thread,
            &self.kind,
        ] {
            column.release();
        }
        self.address.release();
        self.marks.release();
    }

    /// Number of rows born before `cut`: they are the first ones.
    pub fn born_before(&self, cut: EventNo) -> usize {
        let pieces = self.base.partition_point(|&base| base < cut.get());
        let Some(piece) = pieces.checked_sub(1) else { return 0 };
        let (mut from, mut until) = (piece * PIECE, self.len().min((piece + 1) * PIECE));
        while from < until {
            let middle = from + (until - from) / 2;
            if self.birth(middle) < cut {
                from = middle + 1;
            } else {
                until = middle;
            }
        }
        from
    }
}
