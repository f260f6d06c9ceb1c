//! The words of a ring entry.
//!
//! ```text
//! word 0   bits 0..8 kind | 8..16 api or note kind | 16..32 push | 32..48 pop | 48..64 flags
//! word 1   stamp (CPU counter)
//! word 2.. depends on the kind
//! then     `push` return addresses, outermost first (not for notes)
//! ```
//! A thread's stack at an event is its stack at its previous event of the same slot, less the `pop` innermost frames, plus the pushed ones.
//! With [`flag::RESET`] all frames are popped first.
//!
//! A frame is a return address, or, with [`python::FRAME`] set, a Python frame: the number of its code object and where it is in it.

/// Kinds of entries.
pub mod kind {
    /// words: address, size
    pub const ALLOC: u8 = 1;
    /// words: address. No frames.
    pub const FREE: u8 = 2;
    /// words: new address, size, old address, stamp before the real call. In place when the addresses are equal.
    pub const REALLOC: u8 = 3;
    /// words: address, length; `api` is 0 for anonymous memory, 1 for a file
    pub const MAP: u8 = 4;
    /// words: address, length. No frames. Stamped before the real call.
    pub const UNMAP: u8 = 5;
    /// words: new address, new length, old address, old length
    pub const REMAP: u8 = 6;
    /// words: new end, old end
    pub const BRK: u8 = 7;
    /// No words but the frames: pops and pushes only, for stacks too deep for one entry. The event follows.
    pub const STACK: u8 = 8;
    /// words: number of bytes, then the bytes padded to words; `api` is the note's kind ([`super::note`])
    pub const NOTE: u8 = 9;
    /// words: address, number of a type ([`super::note::TYPE`]). No frames. What has become of a block of Python's object domain.
    pub const TYPED: u8 = 10;
}

/// Python frames, and the types of Python's objects.
pub mod python {
    /// Set in the word of a Python frame: bits 32..63 are the number of its code object ([`super::note::CODE`]), bits 0..32 the offset of the
    /// instruction in its bytecode, in bytes; [`NO_OFFSET`] before the first.
    pub const FRAME: u64 = 1 << 63;
    /// No instruction of the frame has run.
    pub const NO_OFFSET: u32 = u32::MAX;
    /// First bit of `flags` that says what has become of the block born by the latest entry with [`super::api::PY_OBJ`] in the same ring: 0 nothing new, else the
    /// number of its type and one.
    pub const TYPE_SHIFT: u32 = 2;
    /// Numbers of types below this fit there.
    pub const INLINE_TYPES: u32 = (1 << 14) - 1;
    /// The number that stands for no type.
    pub const NO_TYPE: u32 = 0;

    /// How a code object says which line an instruction belongs to.
    #[allow(missing_docs)]
    pub mod lines {
        /// `co_lnotab` of CPython 3.8 and 3.9.
        pub const LNOTAB: u8 = 1;
        /// `co_linetable` of CPython 3.10.
        pub const RANGES: u8 = 2;
        /// `co_linetable` of CPython 3.11 and later.
        pub const LOCATIONS: u8 = 3;
    }
}

/// Entry points, as in `api` of ALLOC and REALLOC entries. The numbers are those of the tape's `AllocApi`.
#[allow(missing_docs)]
pub mod api {
    pub const MALLOC: u8 = 0;
    pub const CALLOC: u8 = 1;
    pub const REALLOC: u8 = 2;
    pub const REALLOCARRAY: u8 = 3;
    pub const POSIX_MEMALIGN: u8 = 4;
    pub const ALIGNED_ALLOC: u8 = 5;
    pub const MEMALIGN: u8 = 6;
    pub const VALLOC: u8 = 7;
    pub const PVALLOC: u8 = 8;
    pub const PY_RAW: u8 = 16;
    pub const PY_MEM: u8 = 17;
    pub const PY_OBJ: u8 = 18;
}

/// Kinds of mappings, as in `api` of MAP entries. The numbers are those of the tape's `MapApi`.
#[allow(missing_docs)]
pub mod map_api {
    pub const ANONYMOUS: u8 = 0;
    pub const FILE: u8 = 1;
    pub const PY_ARENA: u8 = 2;
}

/// Kinds of notes.
pub mod note {
    /// First note of a process image: the executable's path, then the arguments, each ended by a NUL.
    pub const PROCESS: u8 = 1;
    /// A module: three u64 words little endian (bias, start, end), one u32 length of the build-id, the build-id, then the path to the end.
    pub const MODULE: u8 = 2;
    /// The name of the writing thread.
    pub const THREAD_NAME: u8 = 3;
    /// A marker: its name.
    pub const MARKER: u8 = 4;
    /// A module is gone: u64 start, u64 end.
    pub const MODULE_GONE: u8 = 5;
    /// The process is about to fork: u64 stamp. A child's `ProcessSlot::stamp` is the same number.
    pub const FORK: u8 = 6;
    /// The process is about to exit: i32 status.
    pub const EXIT: u8 = 7;
    /// A Python code object: u32 number, u32 first line, u8 format of its lines ([`super::python::lines`]), u32 bytes of them, then its name and its file, each a text.
    /// A text: u8 bytes per character (1, 2 or 4), u32 length in characters, the characters.
    pub const CODE: u8 = 8;
    /// A part of a code object's lines: u32 number, then the bytes that come next.
    pub const CODE_LINES: u8 = 9;
    /// A Python type: u32 number, then its name.
    pub const TYPE: u8 = 10;
    /// What could be found out of an interpreter: u8 whether Python frames are recorded, u8 whether types are, its name ended by a NUL, why not.
    pub const RUNTIME: u8 = 11;
    /// The program lets recording go on after a pause. No bytes.
    pub const RESUMED: u8 = 12;
    /// The C library: its name, and its version where it tells that.
    pub const LIBC: u8 = 13;
}

/// Flags of an entry.
pub mod flag {
    /// The stack is given whole.
    pub const RESET: u16 = 1;
    /// The stack could not be followed to its outer end.
    pub const TRUNCATED: u16 = 2;
}

/// Words before the frames of an entry of this kind; 0 for kinds that do not exist.
#[inline]
pub const fn fixed_words(entry_kind: u8) -> usize {
    match entry_kind {
        kind::ALLOC | kind::MAP | kind::UNMAP | kind::BRK | kind::TYPED => 4,
        kind::FREE | kind::NOTE => 3,
        kind::REALLOC | kind::REMAP => 6,
        kind::STACK => 2,
        _ => 0,
    }
}

/// Word 0 of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// See [`kind`].
    pub kind: u8,
    /// Entry point or note kind.
    pub api: u8,
    /// Frames that follow.
    pub push: u16,
    /// Frames to drop first.
    pub pop: u16,
    /// See [`flag`].
    pub flags: u16,
}

impl Head {
    /// Frames that one entry can drop; more of them take several.
    pub const MOST_POPPED: usize = u16::MAX as usize;

    /// As a word.
    #[inline]
    pub const fn pack(self) -> u64 {
        self.kind as u64
            | (self.api as u64) << 8
            | (self.push as u64) << 16
            | (self.pop as u64) << 32
            | (self.flags as u64) << 48
    }

    /// From a word.
    #[inline]
    pub const fn unpack(word: u64) -> Head {
        Head {
            kind: word as u8,
            api: (word >> 8) as u8,
            push: (word >> 16) as u16,
            pop: (word >> 32) as u16,
            flags: (word >> 48) as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_round_trips() {
        let head = Head {
            kind: kind::REALLOC,
            api: 200,
            push: 65535,
            pop: 1,
            flags: flag::TRUNCATED,
        };
        assert_eq!(Head::unpack(head.pack()), head);
    }
}
