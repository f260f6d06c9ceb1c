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
        kind::ALLOC | kind::MAP | kind::UNMAP | kind::BRK => 4,
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
