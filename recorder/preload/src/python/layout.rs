//! Where things lie in the memory of a CPython interpreter: offsets in bytes, by its version, in builds whose words have 64 bits or 32.
//!
//! Taken from the headers of each version by `recorder/python/layout.c`, which prints the tables; the structs do not change within a minor version.

#[cfg_attr(target_pointer_width = "64", path = "layout/words64.rs")]
#[cfg_attr(target_pointer_width = "32", path = "layout/words32.rs")]
mod words;

pub use words::*;

use heaptape_stacks::weave::Links;

/// How the chain of frames is found, and how it says which call of the evaluation function runs a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// 3.8 to 3.10: the thread state names the innermost frame object; each runs in a call of its own.
    Objects,
    /// 3.11: the thread state names a record on the C stack, which names the innermost frame of its call; the outermost one of a call is marked.
    EntryFlags,
    /// 3.12: the same, but beyond the outermost frame of a call comes a frame on the C stack.
    // There is no table of it for 32-bit builds.
    #[cfg_attr(target_pointer_width = "32", allow(dead_code))]
    EntryFramesByRecord,
    /// From 3.13 on: likewise, and the thread state names the innermost frame.
    EntryFrames,
}

/// The table of one version.
#[derive(Clone, Copy)]
pub struct Layout {
    /// See [`Chain`].
    pub chain: Chain,
    /// In the thread state: the innermost frame, or the record on the C stack.
    pub state_frame: usize,
    /// In that record: the innermost frame, and the record further out.
    pub record: (usize, usize),
    /// In a frame.
    pub links: Links,
    /// In a frame: who owns it, one byte. Without meaning before 3.11.
    pub owner: usize,
    /// In a frame of 3.11: whether it is the outermost of its call, one byte.
    pub entry: usize,
    /// Bytes of bytecode that the number of an instruction counts, before 3.11.
    pub unit: usize,
    /// In a code object: the bytecode itself, from 3.11 on, and the number of the first instruction of which a traceback tells.
    pub code_start: usize,
    /// See there.
    pub code_traceable: usize,
    /// In a code object: file, name (qualified where there is one), first line, lines.
    pub code_file: usize,
    /// See there.
    pub code_name: usize,
    /// See there.
    pub code_first_line: usize,
    /// See there.
    pub code_lines: usize,
    /// Format of the lines.
    pub lines: u8,
    /// Bytes before the characters of a string: of ASCII, and of others (where strings that are not compact have a pointer).
    pub text: (usize, usize),
    /// The keys of dictionaries.
    pub keys: Keys,
}

/// In the keys of a dictionary.
#[derive(Clone, Copy)]
pub struct Keys {
    /// From 3.11 on sizes are logarithms, a byte each, and entries have no hash when all keys are strings.
    pub compact: bool,
    /// The number of indices; where compact: its logarithm, that of the bytes they take, and the kind of keys.
    pub size: usize,
    /// The number of entries.
    pub count: usize,
    /// The indices; the entries follow.
    pub indices: usize,
}

/// The owner that marks a frame of a generator.
pub const OWNED_BY_GENERATOR: u8 = 1;
/// The first of the owners that mark a frame of the evaluation function itself, on the C stack.
pub const OWNED_BY_C_STACK: u8 = 3;
