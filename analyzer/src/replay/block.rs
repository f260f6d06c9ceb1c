//! One block of events, decoded and sorted into what the later stages need. Done for many blocks in parallel.

use super::matching::{shard_of, Fate, HeapOp, SHARDS};
use crate::table::{ClockBlock, Flags, MappingKind, MappingRow, Mappings, NEVER};
use crate::tape::{Catalog, StackIx, Tape};
use heaptape_format::Block;
use heaptape_format::{read_events, EventColumns};
use heaptape_format::{
    Address, AllocApi, Bytes, Damage, Event, EventNo, MapApi, Op, ProcessIx, StackId, ThreadIx, TypeIx,
};

/// A block of memory that came to life in this block of events.
pub(super) struct Birth {
    pub event: EventNo,
    pub address: Address,
    pub size: Bytes,
    pub stack: StackIx,
    pub thread: ThreadIx,
    pub kind: TypeIx,
    pub api: AllocApi,
    pub flags: Flags,
}

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

/// What one block of events comes to.
pub(super) struct Digest {
    pub weight: u64,
    pub unknown_threads: u64,
    pub unknown_types: u64,
    pub births: Vec<Birth>,
    pub mappings: Vec<MappingChange>,
    /// Heap operations by address shard, each in the order of events. Births are numbered within this block.
    pub ops: Vec<Vec<HeapOp>>,
    /// Moving reallocs in order: thread and either the death (`Err`) or the birth within this block (`Ok`).
    pub moves: Vec<(ThreadIx, Result<u32, EventNo>)>,
    clock: Option<ClockBlock>,
}

impl Digest {
    pub(super) fn read(
        tape: &Tape,
        block: &Block,
        catalog: &Catalog,
        columns: &mut EventColumns,
    ) -> Result<Digest, Damage> {
        read_events(tape.source(), block, columns)?;
        let mut digest = Digest {
            weight: 0,
            unknown_threads: 0,
            unknown_types: 0,
            births: Vec::new(),
            mappings: Vec::new(),
            ops: (0..SHARDS).map(|_| Vec::new()).collect(),
            moves: Vec::new(),
            clock: Some(ClockBlock::new(block.first_event, columns.time.iter().copied())),
        };
        for (i, event) in columns.iter().enumerate() {
            let number = EventNo(block.first_event.get() + i as u64);
            digest.add(number, event, columns.kind[i], catalog, block.generation);
        }
        Ok(digest)
    }

    pub(super) fn take_clock(&mut self) -> ClockBlock {
        self.clock.take().expect("the clock of a block is taken once")
    }

    /// Leaves out all heap operations, as when the table has no room for them.
    pub(super) fn drop_heap(&mut self) {
        self.births.clear();
        self.moves.clear();
        self.ops.iter_mut().for_each(Vec::clear);
    }

    fn add(&mut self, number: EventNo, event: Event, kind: TypeIx, catalog: &Catalog, generation: u32) {
        let Event { thread, op, .. } = event;
        self.weight += op.weight();
        let process = catalog.process_of(thread);
        self.unknown_threads += u64::from(process.is_none());
        let stack = |stack: StackId| catalog.stacks.resolve(generation, stack);
        let known = catalog.known_type(kind);
        self.unknown_types += u64::from(known != kind);
        let kind = known;
        let birth = |api: AllocApi, address: Address, size: Bytes, id: StackId, flags: Flags| Birth {
            event: number,
            address,
            size,
            stack: stack(id),
            thread,
            kind,
            api,
            flags,
        };
        let row = |start: Address, length: Bytes, stack: StackIx, kind: MappingKind| MappingRow {
            birth: number,
            death: NEVER,
            start,
            length,
            stack,
            thread,
            process,
            kind,
        };
        match op {
            Op::Alloc {
                api,
                address,
                size,
                stack: id,
            } => {
                let id = self.born(birth(api, address, size, id, Flags::default()));
                self.push(number, process, address, Fate::Born(id));
            }
            Op::Free { address } => self.push(number, process, address, Fate::Freed),
            Op::Resize {
                api,
                address,
                size,
                stack: id,
            } => {
                let id = self.born(birth(api, address, size, id, Flags::REALLOC));
                self.push(number, process, address, Fate::Resized(id));
            }
            Op::MoveOut { address } => {
                self.moves.push((thread, Err(number)));
                self.push(number, process, address, Fate::MovedOut);
            }
            Op::MoveIn {
                api,
                address,
                size,
                stack: id,
            } => {
                let id = self.born(birth(api, address, size, id, Flags::REALLOC));
                self.moves.push((thread, Ok(id)));
                self.push(number, process, address, Fate::Born(id));
            }
            Op::Map {
                api,
                address,
                length,
                stack: id,
            } => {
                let kind = match api {
                    MapApi::Anonymous => MappingKind::Anonymous,
                    MapApi::File => MappingKind::File,
                    MapApi::PyArena => MappingKind::Arena,
                };
                self.mappings
                    .push(MappingChange::Map(row(address, length, stack(id), kind)));
            }
            Op::Unmap { address, length } => {
                self.mappings.push(MappingChange::Unmap {
                    process,
                    start: address,
                    length,
                    event: number,
                });
            }
            Op::Remap {
                old_address,
                old_length,
                address,
                length,
                stack: id,
            } => {
                let new = row(address, length, stack(id), MappingKind::Anonymous);
                self.mappings.push(MappingChange::Remap {
                    old: old_address,
                    old_length,
                    new,
                });
            }
            Op::Brk {
                old_end,
                new_end,
                stack: id,
            } => {
                let new = row(new_end, Bytes(0), stack(id), MappingKind::Brk);
                self.mappings.push(MappingChange::Break { old_end, new });
            }
            Op::Typed { address, .. } => self.push(number, process, address, Fate::Typed(kind)),
        }
    }

    fn born(&mut self, birth: Birth) -> u32 {
        self.births.push(birth);
        self.births.len() as u32 - 1
    }

    fn push(&mut self, event: EventNo, process: Option<ProcessIx>, address: Address, fate: Fate) {
        let process = process.unwrap_or(super::matching::NOBODY);
        self.ops[shard_of(process, address)].push(HeapOp {
            event,
            process,
            address,
            fate,
        });
    }
}
