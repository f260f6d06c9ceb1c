//! What an event does to the address space.

use crate::table::{MappingKind, MappingRow, Mappings, NEVER};
use crate::tape::Generation;
use heaptape_format::{Address, Bytes, EventNo, MapApi, MappingEvent, OpCode, ProcessIx, ThreadIx};

/// A change of address space.
pub(super) enum MappingChange {
    Map(MappingRow),
    Unmap {
        process: Option<ProcessIx>,
        start: Address,
        length: Bytes,
        event: EventNo,
    },
    Remap {
        old: Address,
        old_length: Bytes,
        new: MappingRow,
    },
    Break {
        old_end: Address,
        new: MappingRow,
    },
}

impl MappingChange {
    pub(super) fn apply(self, mappings: &mut Mappings) {
        match self {
            MappingChange::Map(row) => mappings.map(row),
            MappingChange::Unmap {
                process,
                start,
                length,
                event,
            } => {
                mappings.unmap(process, start, length, event);
            }
            MappingChange::Remap { old, old_length, new } => mappings.remap(old, old_length, new),
            MappingChange::Break { old_end, new } => mappings.set_break(old_end, new),
        }
    }
}

/// The change that an event makes.
pub(super) fn change(
    event: &MappingEvent,
    number: EventNo,
    thread: ThreadIx,
    process: Option<ProcessIx>,
    stacks: Generation<'_>,
) -> Option<MappingChange> {
    let &MappingEvent {
        address, length, old, ..
    } = event;
    let row = |kind: MappingKind| MappingRow {
        birth: number,
        death: NEVER,
        start: address,
        length,
        stack: stacks.resolve(event.stack),
        thread,
        process,
        kind,
    };
    Some(match event.op {
        OpCode::Map => MappingChange::Map(row(match event.api {
            MapApi::Anonymous => MappingKind::Anonymous,
            MapApi::File => MappingKind::File,
            MapApi::PyArena => MappingKind::Arena,
        })),
        OpCode::Unmap => MappingChange::Unmap {
            process,
            start: address,
            length,
            event: number,
        },
        OpCode::Remap => MappingChange::Remap {
            old: old.0,
            old_length: old.1,
            new: row(MappingKind::Anonymous),
        },
        OpCode::Brk => MappingChange::Break {
            old_end: old.0,
            new: row(MappingKind::Brk),
        },
        _ => return None,
    })
}
