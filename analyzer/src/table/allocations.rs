//! The allocation table: one row per block of memory that ever lived, sorted by birth.

use crate::tape::StackIx;
use heaptape_format::{Address, AllocApi, Bytes, EventNo, ThreadIx, TypeIx};

/// Row of the allocation table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// The columns. All have the same length.
#[derive(Debug, Default, PartialEq)]
pub struct Allocations {
    /// The event that allocated it; strictly increasing.
    pub birth: Vec<u64>,
    /// The event that freed it, or [`NEVER`]. The end of its process is no death: see [`super::Heap::effective_death`].
    pub death: Vec<u64>,
    /// Where it began.
    pub address: Vec<u64>,
    /// Bytes asked for.
    pub size: Vec<u64>,
    /// Who asked.
    pub stack: Vec<StackIx>,
    /// Which thread asked.
    pub thread: Vec<ThreadIx>,
    /// The row whose `realloc` made this one, or [`AllocIx::NONE`].
    pub predecessor: Vec<AllocIx>,
    /// The type of object that it holds, by its place in [`crate::tape::Catalog::types`].
    pub kind: Vec<TypeIx>,
    /// The entry point.
    pub api: Vec<AllocApi>,
    /// See [`Flags`].
    pub flags: Vec<Flags>,
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

impl Allocations {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.birth.len()
    }

    /// Whether nothing was ever allocated.
    pub fn is_empty(&self) -> bool {
        self.birth.is_empty()
    }

    /// One row as a value.
    pub fn get(&self, row: AllocIx) -> Allocation {
        let i = row.0 as usize;
        Allocation {
            birth: EventNo(self.birth[i]),
            death: EventNo(self.death[i]),
            address: Address(self.address[i]),
            size: Bytes(self.size[i]),
            stack: self.stack[i],
            thread: self.thread[i],
            predecessor: self.predecessor[i],
            kind: self.kind[i],
            api: self.api[i],
            flags: self.flags[i],
        }
    }

    /// Number of rows born before `cut`: they are the first ones.
    pub fn born_before(&self, cut: EventNo) -> usize {
        self.birth.partition_point(|&birth| birth < cut.get())
    }
}
