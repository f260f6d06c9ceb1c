//! One event of the tape. The order of events in the file is their order in time over all threads.

use crate::id::{Address, Bytes, Micros, StackId, ThreadIx, TypeIx};

/// What happened, when, on which thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When; never decreases along the tape.
    pub time: Micros,
    /// Which thread did it.
    pub thread: ThreadIx,
    /// What it did.
    pub op: Op,
}

/// The kinds of events.
///
/// Heap blocks and mappings are kept apart: `Alloc` to `MoveIn` and `Typed` speak of heap blocks, `Map` to `Brk` of address space.
/// A failed call is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A block came to life.
    Alloc {
        /// The entry point that was called.
        api: AllocApi,
        /// Where the block begins.
        address: Address,
        /// Bytes asked for.
        size: Bytes,
        /// Who asked.
        stack: StackId,
    },
    /// A block died. `free(NULL)` is no event.
    Free {
        /// Where it began.
        address: Address,
    },
    /// `realloc` that left the block where it was. The old block ends and a new one begins at the same address, with this stack:
    /// it counts as one free and one allocation.
    Resize {
        /// The entry point that was called.
        api: AllocApi,
        /// Where the block begins, before and after.
        address: Address,
        /// The new number of bytes.
        size: Bytes,
        /// Who asked.
        stack: StackId,
    },
    /// The freeing half of a `realloc` that moved its block. The next `MoveIn` of the same thread is the other half.
    MoveOut {
        /// Where the old block began.
        address: Address,
    },
    /// The allocating half of a `realloc` that moved its block.
    MoveIn {
        /// The entry point that was called.
        api: AllocApi,
        /// Where the new block begins.
        address: Address,
        /// The new number of bytes.
        size: Bytes,
        /// Who asked.
        stack: StackId,
    },
    /// Address space was mapped (and whatever lay there before is gone).
    Map {
        /// The entry point that was called.
        api: MapApi,
        /// Where the mapping begins.
        address: Address,
        /// Bytes asked for.
        length: Bytes,
        /// Who asked.
        stack: StackId,
    },
    /// Address space was unmapped; the range may cut mappings or span several.
    Unmap {
        /// Where the range begins.
        address: Address,
        /// Its length.
        length: Bytes,
    },
    /// `mremap`: the old range ends, the new one begins (they may overlap).
    Remap {
        /// Where the old range began.
        old_address: Address,
        /// Its length.
        old_length: Bytes,
        /// Where the new range begins.
        address: Address,
        /// Its length.
        length: Bytes,
        /// Who asked.
        stack: StackId,
    },
    /// The program break moved.
    Brk {
        /// The break before.
        old_end: Address,
        /// The break after.
        new_end: Address,
        /// Who asked.
        stack: StackId,
    },
    /// The live block at this address, of the same process, holds an object of this type. It is not known yet when the block is
    /// allocated, so this comes some events later. See [`crate::Writer::event`] for what is written of it.
    Typed {
        /// Where the block begins.
        address: Address,
        /// The type; [`TypeIx::UNKNOWN`] for a block that holds no object.
        kind: TypeIx,
    },
}

impl Op {
    /// How many events this counts as in every total that is shown: two for a `realloc` in place (a moving `realloc` is two
    /// operations already), none for `Typed`, which is something learned and nothing done, one otherwise.
    #[inline]
    pub const fn weight(self) -> u64 {
        match self {
            Op::Resize { .. } => 2,
            Op::Typed { .. } => 0,
            _ => 1,
        }
    }
}

/// The entry point by which a block was allocated. The discriminants are the format's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum AllocApi {
    Malloc = 0,
    Calloc = 1,
    Realloc = 2,
    Reallocarray = 3,
    PosixMemalign = 4,
    AlignedAlloc = 5,
    Memalign = 6,
    Valloc = 7,
    Pvalloc = 8,
    /// Python's allocator domains (`PyMem_RawMalloc`, `PyMem_Malloc`, `PyObject_Malloc` and their kin).
    PyRaw = 16,
    PyMem = 17,
    PyObj = 18,
}

impl AllocApi {
    /// Every entry point, in the order of the discriminants.
    pub const ALL: [AllocApi; 12] = [
        AllocApi::Malloc,
        AllocApi::Calloc,
        AllocApi::Realloc,
        AllocApi::Reallocarray,
        AllocApi::PosixMemalign,
        AllocApi::AlignedAlloc,
        AllocApi::Memalign,
        AllocApi::Valloc,
        AllocApi::Pvalloc,
        AllocApi::PyRaw,
        AllocApi::PyMem,
        AllocApi::PyObj,
    ];

    /// The entry point with this discriminant, if there is one.
    #[inline]
    pub const fn from_u8(value: u8) -> Option<AllocApi> {
        Some(match value {
            0 => AllocApi::Malloc,
            1 => AllocApi::Calloc,
            2 => AllocApi::Realloc,
            3 => AllocApi::Reallocarray,
            4 => AllocApi::PosixMemalign,
            5 => AllocApi::AlignedAlloc,
            6 => AllocApi::Memalign,
            7 => AllocApi::Valloc,
            8 => AllocApi::Pvalloc,
            16 => AllocApi::PyRaw,
            17 => AllocApi::PyMem,
            18 => AllocApi::PyObj,
            _ => return None,
        })
    }

    /// The name a user knows it by.
    pub const fn name(self) -> &'static str {
        match self {
            AllocApi::Malloc => "malloc",
            AllocApi::Calloc => "calloc",
            AllocApi::Realloc => "realloc",
            AllocApi::Reallocarray => "reallocarray",
            AllocApi::PosixMemalign => "posix_memalign",
            AllocApi::AlignedAlloc => "aligned_alloc",
            AllocApi::Memalign => "memalign",
            AllocApi::Valloc => "valloc",
            AllocApi::Pvalloc => "pvalloc",
            AllocApi::PyRaw => "python raw",
            AllocApi::PyMem => "python mem",
            AllocApi::PyObj => "python obj",
        }
    }
}

/// What kind of mapping was made. The discriminants are the format's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MapApi {
    /// `mmap` of anonymous memory.
    Anonymous = 0,
    /// `mmap` of a file.
    File = 1,
    /// A mapping that Python's object allocator made to cut blocks from. Those blocks are the heap; the mapping never is.
    PyArena = 2,
}

impl MapApi {
    /// The kind with this discriminant, if there is one.
    #[inline]
    pub const fn from_u8(value: u8) -> Option<MapApi> {
        match value {
            0 => Some(MapApi::Anonymous),
            1 => Some(MapApi::File),
            2 => Some(MapApi::PyArena),
            _ => None,
        }
    }
}
