//! What an event does to the address space.

use crate::table::{MappingKind, MappingRow, Mappings, NEVER};
use crate::tape::Generation;
use heaptape_format::{Address, Bytes, EventColumns, EventNo, MapApi, Op, ProcessIx, StackId};

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

/// The change that an event makes, if it is one of address space.
pub(super) fn change(
    columns: &EventColumns,
    at: usize,
    process: Option<ProcessIx>,
    stacks: Generation<'_>,
) -> Option<MappingChange> {
    let event = columns.get(at)?;
    let number = EventNo(columns.first_event.get() + at as u64);
    let row = |start: Address, length: Bytes, stack: StackId, kind: MappingKind| MappingRow {
        birth: number,
        death: NEVER,
        start,
        length,
        stack: stacks.resolve(stack),
        thread: event.thread,
        process,
        kind,
    };
    Some(match event.op {
        Op::Map {
            api,
            address,
            length,
            stack,
        } => {
            let kind = match api {
                MapApi::Anonymous => MappingKind::Anonymous,
                MapApi::File => MappingKind::File,
                MapApi::PyArena => MappingKind::Arena,
            };
            MappingChange::Map(row(address, length, stack, kind))
        }
        Op::Unmap { address, length } => MappingChange::Unmap {
            process,
            start: address,
            length,
            event: number,
        },
        Op::Remap {
            old_address,
            old_length,
            address,
            length,
            stack,
        } => MappingChange::Remap {
            old: old_address,
            old_length,
            new: row(address, length, stack, MappingKind::Anonymous),
        },
        Op::Brk {
            old_end,
            new_end,
            stack,
        } => MappingChange::Break {
            old_end,
            new: row(new_end, Bytes(0), stack, MappingKind::Brk),
        },
        _ => return None,
    })
}
