//! Where things lie in the memory of a CPython interpreter, by its version: offsets in bytes, 64-bit builds.
//!
//! Taken from the headers of each version by `recorder/python/layout.c`, which prints this table; the structs do not change within a minor version.

use heaptape_shm::entry::python::lines;
use heaptape_stacks::weave::Links;

/// How the chain of frames is found, and how it says which call of the evaluation function runs a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// 3.8 to 3.10: the thread state names the innermost frame object; each runs in a call of its own.
    Objects,
    /// 3.11: the thread state names a record on the C stack, which names the innermost frame of its call; the outermost one of a call is marked.
    EntryFlags,
    /// 3.12: the same, but beyond the outermost frame of a call comes a frame on the C stack.
    EntryFramesByRecord,
    /// 3.13, 3.14: likewise, and the thread state names the innermost frame.
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
}

/// The owner that marks a frame of a generator.
pub const OWNED_BY_GENERATOR: u8 = 1;
/// The first of the owners that mark a frame of the evaluation function itself, on the C stack.
pub const OWNED_BY_C_STACK: u8 = 3;

const OBJECTS: Layout = Layout {
    chain: Chain::Objects,
    state_frame: 24,
    record: (0, 0),
    links: Links {
        previous: 24,
        instruction: 104,
        instruction_mask: 0xffff_ffff,
        code: 32,
        code_mask: usize::MAX,
    },
    owner: 0,
    entry: 0,
    unit: 1,
    code_start: 0,
    code_traceable: 0,
    code_file: 104,
    code_name: 112,
    code_first_line: 40,
    code_lines: 120,
    lines: lines::LNOTAB,
    text: (48, 72),
};

const ENTRY_FLAGS: Layout = Layout {
    chain: Chain::EntryFlags,
    state_frame: 56,
    record: (8, 16),
    links: Links {
        previous: 48,
        instruction: 56,
        instruction_mask: usize::MAX,
        code: 32,
        code_mask: usize::MAX,
    },
    owner: 69,
    entry: 68,
    unit: 0,
    code_start: 184,
    code_traceable: 168,
    code_file: 112,
    code_name: 128,
    code_first_line: 72,
    code_lines: 136,
    lines: lines::LOCATIONS,
    text: (48, 72),
};

const ENTRY_FRAMES: Layout = Layout {
    chain: Chain::EntryFramesByRecord,
    record: (0, 8),
    links: Links {
        previous: 8,
        instruction: 56,
        instruction_mask: usize::MAX,
        code: 0,
        code_mask: usize::MAX,
    },
    owner: 70,
    code_start: 192,
    code_traceable: 176,
    code_first_line: 68,
    text: (40, 56),
    ..ENTRY_FLAGS
};

/// The table for a version of CPython.
pub fn of(major: u32, minor: u32) -> Option<Layout> {
    let layout = match (major, minor) {
        (3, 8 | 9) => OBJECTS,
        (3, 10) => Layout {
            links: Links {
                instruction: 96,
                ..OBJECTS.links
            },
            unit: 2,
            lines: lines::RANGES,
            ..OBJECTS
        },
        (3, 11) => ENTRY_FLAGS,
        (3, 12) => ENTRY_FRAMES,
        (3, 13) => Layout {
            chain: Chain::EntryFrames,
            state_frame: 72,
            code_start: 200,
            code_traceable: 184,
            ..ENTRY_FRAMES
        },
        (3, 14) => Layout {
            chain: Chain::EntryFrames,
            state_frame: 72,
            links: Links {
                // A reference from the stack: its lowest bit says who counts it.
                code_mask: !1,
                ..ENTRY_FRAMES.links
            },
            owner: 74,
            code_start: 208,
            code_traceable: 192,
            ..ENTRY_FRAMES
        },
        _ => return None,
    };
    Some(layout)
}
