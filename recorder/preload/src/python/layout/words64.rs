//! Of 64-bit builds.

use super::{Chain, Keys, Layout};
use heaptape_shm::entry::python::lines;
use heaptape_stacks::weave::Links;

/// In every object: its type, and in those that have one, its length.
pub const TYPE: usize = 8;
/// See there.
pub const LENGTH: usize = 16;
/// In a type.
pub const TYPE_NAME: usize = 24;
/// See there: bytes of its objects.
pub const TYPE_SIZE: usize = 32;
/// See there.
pub const TYPE_FLAGS: usize = 168;
/// See there.
pub const TYPE_BASE: usize = 256;
/// See there.
pub const TYPE_DICT: usize = 264;
/// In a dictionary.
pub const DICT_KEYS: usize = 32;
/// See there.
pub const DICT_VALUES: usize = 40;
/// In a string: bits 2..5 bytes per character, bit 5 compact, bit 6 ASCII.
pub const TEXT_STATE: usize = 32;
/// In a `bytes`: its bytes.
pub const BYTES: usize = 32;
/// In a thread state: its interpreter.
pub const STATE_INTERPRETER: usize = 16;
/// Where the block of an interpreter's state begins before it, in versions that align it.
pub const INTERPRETER_HEAD: usize = 8;
/// What the collector of cycles puts before an object.
pub const COLLECTOR_HEAD: usize = 16;
/// Objects of their own blocks lie at multiples of this.
pub const BLOCK_ALIGNMENT: usize = 16;
/// Types do, also those that lie in the data of a module.
pub const TYPE_ALIGNMENT: usize = 16;

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
    keys: Keys {
        compact: false,
        size: 8,
        count: 32,
        indices: 40,
    },
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
    keys: Keys {
        compact: true,
        size: 8,
        count: 24,
        indices: 32,
    },
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

/// Why frames are not recorded where there is no table.
pub const NO_TABLE: &[u8] = b"this version is not known to the recorder";

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
        (3, 14 | 15) => Layout {
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
