//! Where decoded events go: into columns, or straight into what a reader makes of them.

use crate::columns::OpCode;
use crate::event::MapApi;
use crate::id::{Address, Bytes, EventNo, Micros, StackId, ThreadIx, TypeIx};
use std::ops::Range;

/// A block of memory that comes to life.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    /// Index of the event within its block.
    pub index: u32,
    /// `Alloc`, `MoveIn` or `Resize`; before the last one its death is told.
    pub op: OpCode,
    /// Discriminant of the [`crate::AllocApi`], a valid one.
    pub api: u8,
    /// Where it begins.
    pub address: Address,
    /// Bytes asked for.
    pub size: Bytes,
    /// Who asked; of the block's generation.
    pub stack: StackId,
    /// The type that the block lets expect, see [`crate::EventColumns::kind`].
    pub kind: TypeIx,
    /// When the address was free because of an earlier death in this block: what [`EventSink::death`] answered then.
    pub freed: Option<u32>,
}

/// A change of address space.
#[derive(Clone, Copy, Debug)]
pub struct MappingEvent {
    /// Index of the event within its block.
    pub index: u32,
    /// `Map`, `Unmap`, `Remap` or `Brk`.
    pub op: OpCode,
    /// What kind of mapping was made, for a `Map`.
    pub api: MapApi,
    /// Address; the new end for a `Brk`.
    pub address: Address,
    /// Length, if it has one.
    pub length: Bytes,
    /// Who asked; the root for an `Unmap`.
    pub stack: StackId,
    /// Old address and length of a `Remap`, old end of a `Brk`.
    pub old: (Address, Bytes),
}

/// Takes the events of one block as they are decoded: first all times, then runs of threads and events in their order. When decoding fails, what came before means nothing.
pub trait EventSink {
    /// A block with this many events begins.
    fn begin(&mut self, first_event: EventNo, events: u32);
    /// The numbers of these events less that of the first, when they do not follow each other: in a keyframe, right after its begin.
    fn numbers(&mut self, offsets: &[u32]) {
        let _ = offsets;
    }
    /// These events happened at that time.
    fn times(&mut self, events: Range<u32>, time: Micros);
    /// The events that come next are of that thread.
    fn thread(&mut self, events: Range<u32>, thread: ThreadIx);
    /// A block of memory is born. The answer is handed back when it dies or is typed.
    fn birth(&mut self, birth: &Birth) -> u32;
    /// A block dies (`Free`, `MoveOut`, or `Resize`, whose birth follows). With `birth`, it is one that was born in this block of events, and this is what was answered then.
    /// The answer is handed on to the next birth at the address.
    fn death(&mut self, index: u32, op: OpCode, address: Address, birth: Option<u32>) -> u32;
    /// What a live block holds, with the answer to its birth if that was in this block of events.
    fn typed(&mut self, index: u32, address: Address, birth: Option<u32>, kind: TypeIx);
    /// A change of address space.
    fn mapping(&mut self, event: &MappingEvent);
}
