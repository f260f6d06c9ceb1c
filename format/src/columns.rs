//! The events of one block, decoded, a column a field.

use crate::decode::Decoder;
use crate::event::{AllocApi, Event, MapApi, Op};
use crate::id::{Address, Bytes, EventNo, Micros, StackId, ThreadIx, TypeIx};
use crate::sink::{Birth, EventSink, MappingEvent};
use std::ops::Range;

/// Which [`Op`] an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum OpCode {
    Alloc = 0,
    Free = 1,
    Resize = 2,
    MoveOut = 3,
    MoveIn = 4,
    Map = 5,
    Unmap = 6,
    Remap = 7,
    Brk = 8,
    Typed = 9,
}

impl OpCode {
    /// Whether such an event begins the life of a heap block.
    #[inline]
    pub const fn is_birth(self) -> bool {
        matches!(self, OpCode::Alloc | OpCode::Resize | OpCode::MoveIn)
    }

    /// Whether such an event ends the life of a heap block.
    #[inline]
    pub const fn is_death(self) -> bool {
        matches!(self, OpCode::Free | OpCode::Resize | OpCode::MoveOut)
    }
}

/// The part of a `Remap` or `Brk` that has no column of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Second {
    /// Index of its event within the block.
    pub index: u32,
    /// `old_address` or `old_end`.
    pub address: Address,
    /// `old_length`; 0 for a `Brk`.
    pub length: Bytes,
}

/// In [`EventColumns::birth`]: not born in this block.
pub const NO_BIRTH: u32 = u32::MAX;

/// The events of one block. All columns but `second` have the same length; keep the value and decode the next block into it.
#[derive(Clone, Debug, Default)]
pub struct EventColumns {
    /// Number of the first event.
    pub first_event: EventNo,
    /// The number of each event less that of the first, of a keyframe. Empty for a block of events, whose numbers follow each other.
    pub offset: Vec<u32>,
    /// What it is.
    pub op: Vec<OpCode>,
    /// Discriminant of the [`AllocApi`] or [`MapApi`]; 0 for an event without one.
    pub api: Vec<u8>,
    /// When.
    pub time: Vec<Micros>,
    /// On which thread.
    pub thread: Vec<ThreadIx>,
    /// Address; the new end for a `Brk`.
    pub address: Vec<Address>,
    /// Size or length; 0 for an event without one.
    pub size: Vec<Bytes>,
    /// The stack; the root for an event without one.
    pub stack: Vec<StackId>,
    /// For a birth the type that this block of the tape lets expect of it, which stands unless a later `Typed` says otherwise;
    /// for a `Typed` the type that it says; unknown for others.
    pub kind: Vec<TypeIx>,
    /// For a death (`Free`, `Resize`, `MoveOut`) or a `Typed` of a heap block that was born in this same block of the tape: the index of that birth.
    /// [`NO_BIRTH`] otherwise. A birth is the latest one before at that address in the same process (processes as the tape's `Thread` records tell).
    pub birth: Vec<u32>,
    /// The rest of `Remap` and `Brk` events, by rising index.
    pub second: Vec<Second>,
    pub(crate) decoder: Decoder,
}

impl EventColumns {
    /// Number of events.
    #[inline]
    pub fn len(&self) -> usize {
        self.op.len()
    }

    /// The number of the event at this index.
    #[inline]
    pub fn number(&self, index: usize) -> EventNo {
        let offset = self.offset.get(index).map_or(index as u64, |&offset| u64::from(offset));
        EventNo(self.first_event.get().saturating_add(offset))
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.op.is_empty()
    }

    /// Forgets the events and keeps the memory.
    pub fn clear(&mut self) {
        self.first_event = EventNo(0);
        self.offset.clear();
        self.op.clear();
        self.api.clear();
        self.time.clear();
        self.thread.clear();
        self.address.clear();
        self.size.clear();
        self.stack.clear();
        self.kind.clear();
        self.birth.clear();
        self.second.clear();
    }

    /// Makes room for this many events. What is left of other events is written over, but for what few events have: that is taken out here.
    pub(crate) fn resize(&mut self, events: usize) {
        self.offset.clear();
        self.kind.clear();
        self.second.clear();
        self.op.resize(events, OpCode::Free);
        self.api.resize(events, 0);
        self.time.resize(events, Micros(0));
        self.thread.resize(events, ThreadIx(0));
        self.address.resize(events, Address(0));
        self.size.resize(events, Bytes(0));
        self.stack.resize(events, StackId::ROOT);
        self.kind.resize(events, TypeIx::UNKNOWN);
        self.birth.clear();
        self.birth.resize(events, NO_BIRTH);
    }

    /// The event at this index, if there is one.
    pub fn get(&self, index: usize) -> Option<Event> {
        let address = *self.address.get(index)?;
        let size = *self.size.get(index)?;
        let stack = *self.stack.get(index)?;
        let api = *self.api.get(index)?;
        let alloc_api = || AllocApi::from_u8(api);
        let second = || {
            let found = self
                .second
                .binary_search_by_key(&index, |second| second.index as usize)
                .ok()?;
            self.second.get(found)
        };
        let op = match self.op.get(index)? {
            OpCode::Alloc => Op::Alloc {
                api: alloc_api()?,
                address,
                size,
                stack,
            },
            OpCode::Free => Op::Free { address },
            OpCode::Resize => Op::Resize {
                api: alloc_api()?,
                address,
                size,
                stack,
            },
            OpCode::MoveOut => Op::MoveOut { address },
            OpCode::MoveIn => Op::MoveIn {
                api: alloc_api()?,
                address,
                size,
                stack,
            },
            OpCode::Map => Op::Map {
                api: MapApi::from_u8(api)?,
                address,
                length: size,
                stack,
            },
            OpCode::Unmap => Op::Unmap { address, length: size },
            OpCode::Remap => {
                let old = second()?;
                Op::Remap {
                    old_address: old.address,
                    old_length: old.length,
                    address,
                    length: size,
                    stack,
                }
            }
            OpCode::Brk => Op::Brk {
                old_end: second()?.address,
                new_end: address,
                stack,
            },
            OpCode::Typed => Op::Typed {
                address,
                kind: *self.kind.get(index)?,
            },
        };
        Some(Event {
            time: *self.time.get(index)?,
            thread: *self.thread.get(index)?,
            op,
        })
    }

    /// All events in their order.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        (0..self.len()).map_while(|index| self.get(index))
    }
}

impl EventColumns {
    fn put(&mut self, index: u32, op: OpCode, api: u8, address: Address, size: Bytes, stack: StackId) {
        let index = index as usize;
        self.op[index] = op;
        self.api[index] = api;
        self.address[index] = address;
        self.size[index] = size;
        self.stack[index] = stack;
    }
}

/// Answers are indexes of events.
impl EventSink for EventColumns {
    fn begin(&mut self, first_event: EventNo, events: u32) {
        self.first_event = first_event;
        self.resize(events as usize);
    }

    fn numbers(&mut self, offsets: &[u32]) {
        self.offset.extend_from_slice(offsets);
    }

    fn times(&mut self, events: Range<u32>, time: Micros) {
        self.time[events.start as usize..events.end as usize].fill(time);
    }

    fn thread(&mut self, events: Range<u32>, thread: ThreadIx) {
        self.thread[events.start as usize..events.end as usize].fill(thread);
    }

    fn birth(&mut self, birth: &Birth) -> u32 {
        self.put(birth.index, birth.op, birth.api, birth.address, birth.size, birth.stack);
        self.kind[birth.index as usize] = birth.kind;
        birth.index
    }

    fn death(&mut self, index: u32, op: OpCode, address: Address, birth: Option<u32>) -> u32 {
        self.put(index, op, 0, address, Bytes(0), StackId::ROOT);
        self.birth[index as usize] = birth.unwrap_or(NO_BIRTH);
        index
    }

    fn typed(&mut self, index: u32, address: Address, birth: Option<u32>, kind: TypeIx) {
        self.put(index, OpCode::Typed, 0, address, Bytes(0), StackId::ROOT);
        self.birth[index as usize] = birth.unwrap_or(NO_BIRTH);
        self.kind[index as usize] = kind;
    }

    fn mapping(&mut self, event: &MappingEvent) {
        let api = if event.op == OpCode::Map { event.api as u8 } else { 0 };
        self.put(event.index, event.op, api, event.address, event.length, event.stack);
        if matches!(event.op, OpCode::Remap | OpCode::Brk) {
            self.second.push(Second {
                index: event.index,
                address: event.old.0,
                length: event.old.1,
            });
        }
    }
}
