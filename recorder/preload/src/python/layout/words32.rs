//! Of 32-bit builds for ARM.

use super::{Chain, Keys, Layout};
use heaptape_shm::entry::python::lines;
use heaptape_stacks::weave::Links;

/// In every object: its type, and in those that have one, its length.
pub const TYPE: usize = 4;
/// See there.
pub const LENGTH: usize = 8;
/// In a type.
pub const TYPE_NAME: usize = 12;
/// See there: bytes of its objects.
pub const TYPE_SIZE: usize = 16;
/// See there.
pub const TYPE_FLAGS: usize = 84;
/// See there.
pub const TYPE_BASE: usize = 128;
/// See there.
pub const TYPE_DICT: usize = 132;
/// In a dictionary.
pub const DICT_KEYS: usize = 24;
/// See there.
pub const DICT_VALUES: usize = 28;
/// In a string: bits 2..5 bytes per character, bit 5 compact, bit 6 ASCII.
pub const TEXT_STATE: usize = 16;
/// In a `bytes`: its bytes.
pub const BYTES: usize = 16;
/// In a thread state: its interpreter.
pub const STATE_INTERPRETER: usize = 8;
/// Where the block of an interpreter's state begins before it, in versions that align it.
pub const INTERPRETER_HEAD: usize = 8;
/// What the collector of cycles puts before an object.
pub const COLLECTOR_HEAD: usize = 8;
/// Objects of their own blocks lie at multiples of this.
pub const BLOCK_ALIGNMENT: usize = 8;
/// Types do, also those that lie in the data of a module.
pub const TYPE_ALIGNMENT: usize = 4;

const OBJECTS: Layout = Layout {
    chain: Chain::Objects,
    state_frame: 12,
    record: (0, 0),
    links: Links {
        previous: 12,
        instruction: 52,
        instruction_mask: usize::MAX,
        code: 16,
        code_mask: usize::MAX,
    },
    owner: 0,
    entry: 0,
    unit: 1,
    code_start: 0,
    code_traceable: 0,
    code_file: 64,
    code_name: 68,
    code_first_line: 32,
    code_lines: 72,
    lines: lines::LNOTAB,
    text: (24, 36),
    keys: Keys {
        compact: false,
        size: 4,
        count: 16,
        indices: 20,
    },
};

const ENTRY_FLAGS: Layout = Layout {
    chain: Chain::EntryFlags,
    state_frame: 40,
    record: (4, 8),
    links: Links {
        previous: 24,
        instruction: 28,
        instruction_mask: usize::MAX,
        code: 16,
        code_mask: usize::MAX,
    },
    owner: 37,
    entry: 36,
    unit: 0,
    code_start: 116,
    code_traceable: 108,
    code_file: 80,
    code_name: 88,
    code_first_line: 48,
    code_lines: 92,
    lines: lines::LOCATIONS,
    text: (24, 36),
    keys: Keys {
        compact: true,
        size: 4,
        count: 16,
        indices: 20,
    },
};

const ENTRY_FRAMES: Layout = Layout {
    chain: Chain::EntryFrames,
    state_frame: 52,
    record: (0, 0),
    links: Links {
        previous: 4,
        instruction: 28,
        instruction_mask: usize::MAX,
        code: 0,
        code_mask: usize::MAX,
    },
    owner: 38,
    code_start: 124,
    code_traceable: 116,
    code_first_line: 44,
    text: (20, 28),
    ..ENTRY_FLAGS
};

const TAGGED: Layout = Layout {
    links: Links {
        // A reference from the stack: its lowest bit says who counts it.
        code_mask: !1,
        ..ENTRY_FRAMES.links
    },
    code_start: 128,
    code_traceable: 120,
    ..ENTRY_FRAMES
};

/// Why frames are not recorded where there is no table.
pub const NO_TABLE: &[u8] = b"32-bit builds of this version are not known to the recorder";

/// The table for a version of CPython: of those that `.ci/devices` runs.
pub fn of(major: u32, minor: u32) -> Option<Layout> {
    let layout = match (major, minor) {
        (3, 9) => OBJECTS,
        (3, 11) => ENTRY_FLAGS,
        (3, 13) => ENTRY_FRAMES,
        (3, 14) => TAGGED,
        (3, 15) => Layout {
            state_frame: 56,
            ..TAGGED
        },
        _ => return None,
    };
    Some(layout)
}
