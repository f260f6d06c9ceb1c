//! The payload of a keyframe: events that have stayed, with the numbers that they have always had.
//!
//! ```text
//! bytes of the numbers; the numbers; then what a block of events has
//! each number: varint, difference to the one before, at first to the block's first event
//! ```
//! A keyframe of no event has an empty payload.

use crate::block::Block;
use crate::bytes::{Cursor, Malformed};
use crate::columns::OpCode;
use crate::events::{self, Scratch};
use crate::id::{Address, EventNo, Micros, ThreadIx, TypeIx};
use crate::sink::{Birth, EventSink, MappingEvent};
use std::ops::Range;

/// Decodes the payload of `block`.
pub(crate) fn decode<S: EventSink>(
    raw: &[u8],
    block: &Block,
    scratch: &mut Scratch,
    into: &mut S,
) -> Result<(), Malformed> {
    if block.events == 0 {
        into.begin(block.first_event, 0);
        return if raw.is_empty() {
            Ok(())
        } else {
            Err("bytes are left over")
        };
    }
    let mut cursor = Cursor::new(raw);
    let length = cursor.varint()?;
    let mut column = Cursor::new(cursor.take(length)?);
    let mut offset = 0u32;
    // Each takes a byte at least, so this is no more than what is there.
    let mut offsets = Vec::with_capacity(column.remaining().min(block.events as usize));
    while !column.is_at_end() {
        offset = offset
            .checked_add(column.varint32()?)
            .filter(|&offset| offset < block.span())
            .ok_or("a number beyond the events that it stands for")?;
        offsets.push(offset);
    }
    if offsets.len() != block.events as usize {
        return Err("its numbers are not as many as its events");
    }
    let mut numbered = Numbered {
        into,
        offsets: &offsets,
        birth: None,
        is_twice: false,
    };
    events::decode(cursor.take_all(), block, scratch, &mut numbered)?;
    if numbered.is_twice {
        return Err("two blocks are born by one event");
    }
    Ok(())
}

/// Tells the numbers, and looks that no event has two births.
struct Numbered<'a, S> {
    into: &'a mut S,
    offsets: &'a [u32],
    birth: Option<u32>,
    is_twice: bool,
}

impl<S: EventSink> EventSink for Numbered<'_, S> {
    fn begin(&mut self, first_event: EventNo, events: u32) {
        self.into.begin(first_event, events);
        self.into.numbers(self.offsets);
    }

    fn times(&mut self, events: Range<u32>, time: Micros) {
        self.into.times(events, time);
    }

    fn thread(&mut self, events: Range<u32>, thread: ThreadIx) {
        self.into.thread(events, thread);
    }

    fn birth(&mut self, birth: &Birth) -> u32 {
        let own = self.offsets.get(birth.index as usize).copied();
        self.is_twice |= own <= self.birth;
        self.birth = own;
        self.into.birth(birth)
    }

    fn death(&mut self, index: u32, op: OpCode, address: Address, birth: Option<u32>) -> u32 {
        self.into.death(index, op, address, birth)
    }

    fn typed(&mut self, index: u32, address: Address, birth: Option<u32>, kind: TypeIx) {
        self.into.typed(index, address, birth, kind);
    }

    fn mapping(&mut self, event: &MappingEvent) {
        self.into.mapping(event);
    }
}
