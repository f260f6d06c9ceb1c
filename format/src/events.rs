//! The coding of an events block, first form: one row per event.

use crate::bytes::{put_varint, unzigzag, zigzag, Cursor, Malformed};
use crate::columns::{EventColumns, OpCode, Second, NO_BIRTH};
use crate::event::{AllocApi, Event, MapApi, Op};
use crate::id::{Address, Bytes, Micros, ProcessIx, StackId, ThreadIx};
use std::collections::HashMap;

/// Codes the events of one block.
#[derive(Default)]
pub(crate) struct Encoder {
    raw: Vec<u8>,
    events: u32,
    weight: u32,
    first_time: Micros,
    last_time: Micros,
    last_address: u64,
    births: HashMap<(ProcessIx, Address), u32>,
}

impl Encoder {
    pub(crate) fn events(&self) -> u32 {
        self.events
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }

    pub(crate) fn times(&self) -> (Micros, Micros) {
        (self.first_time, self.last_time)
    }

    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    pub(crate) fn clear(&mut self) {
        self.raw.clear();
        self.births.clear();
        self.events = 0;
        self.weight = 0;
        self.last_address = 0;
    }

    pub(crate) fn event(&mut self, event: &Event, process: ProcessIx) {
        if self.events == 0 {
            self.first_time = event.time;
            self.last_time = event.time;
        }
        let time = event.time.max(self.last_time);
        let (code, api) = match event.op {
            Op::Alloc { api, .. } => (OpCode::Alloc, api as u8),
            Op::Free { .. } => (OpCode::Free, 0),
            Op::Resize { api, .. } => (OpCode::Resize, api as u8),
            Op::MoveOut { .. } => (OpCode::MoveOut, 0),
            Op::MoveIn { api, .. } => (OpCode::MoveIn, api as u8),
            Op::Map { api, .. } => (OpCode::Map, api as u8),
            Op::Unmap { .. } => (OpCode::Unmap, 0),
            Op::Remap { .. } => (OpCode::Remap, 0),
            Op::Brk { .. } => (OpCode::Brk, 0),
        };
        self.raw.extend([code as u8, api]);
        put_varint(&mut self.raw, time.get() - self.last_time.get());
        put_varint(&mut self.raw, u64::from(event.thread.get()));
        self.last_time = time;
        match event.op {
            Op::Alloc {
                address, size, stack, ..
            }
            | Op::MoveIn {
                address, size, stack, ..
            } => {
                self.births.insert((process, address), self.events);
                self.fields(address, size, stack);
            }
            Op::Resize {
                address, size, stack, ..
            } => {
                self.death(address, process);
                self.births.insert((process, address), self.events);
                self.fields(address, size, stack);
            }
            Op::Free { address } | Op::MoveOut { address } => {
                self.death(address, process);
                self.fields(address, Bytes(0), StackId::ROOT);
            }
            Op::Map {
                address, length, stack, ..
            } => self.fields(address, length, stack),
            Op::Unmap { address, length } => self.fields(address, length, StackId::ROOT),
            Op::Remap {
                old_address,
                old_length,
                address,
                length,
                stack,
            } => {
                put_varint(&mut self.raw, old_address.get());
                put_varint(&mut self.raw, old_length.get());
                self.fields(address, length, stack);
            }
            Op::Brk {
                old_end,
                new_end,
                stack,
            } => {
                put_varint(&mut self.raw, old_end.get());
                put_varint(&mut self.raw, 0);
                self.fields(new_end, Bytes(0), stack);
            }
        }
        self.weight += event.op.weight() as u32;
        self.events += 1;
    }

    fn death(&mut self, address: Address, process: ProcessIx) {
        let distance = self
            .births
            .remove(&(process, address))
            .map_or(0, |birth| self.events - birth);
        put_varint(&mut self.raw, u64::from(distance));
    }

    fn fields(&mut self, address: Address, size: Bytes, stack: StackId) {
        put_varint(
            &mut self.raw,
            zigzag(address.get().wrapping_sub(self.last_address) as i64),
        );
        self.last_address = address.get();
        put_varint(&mut self.raw, size.get());
        put_varint(&mut self.raw, u64::from(stack.get()));
    }
}

/// Decodes `events` events; their stacks are below or at `max_stack`.
pub(crate) fn decode(
    raw: &[u8],
    events: u32,
    first_time: Micros,
    max_stack: u32,
    into: &mut EventColumns,
) -> Result<(), Malformed> {
    const OPS: [OpCode; 9] = [
        OpCode::Alloc,
        OpCode::Free,
        OpCode::Resize,
        OpCode::MoveOut,
        OpCode::MoveIn,
        OpCode::Map,
        OpCode::Unmap,
        OpCode::Remap,
        OpCode::Brk,
    ];
    let mut cursor = Cursor::new(raw);
    let mut time = first_time.get();
    let mut last_address = 0u64;
    for index in 0..events {
        let op = *OPS.get(usize::from(cursor.byte()?)).ok_or("an unknown kind of event")?;
        let api = cursor.byte()?;
        let valid_api = match op {
            OpCode::Alloc | OpCode::Resize | OpCode::MoveIn => AllocApi::from_u8(api).is_some(),
            OpCode::Map => MapApi::from_u8(api).is_some(),
            _ => api == 0,
        };
        if !valid_api {
            return Err("an unknown entry point");
        }
        time = time.checked_add(cursor.varint()?).ok_or("time overflows")?;
        let thread = cursor.varint32()?;
        let mut birth = NO_BIRTH;
        if op.is_death() {
            let distance = cursor.varint32()?;
            if distance != 0 {
                birth = index.checked_sub(distance).ok_or("a birth before the block")?;
                if !into.op.get(birth as usize).is_some_and(|op| op.is_birth()) {
                    return Err("a birth that is none");
                }
            }
        }
        if matches!(op, OpCode::Remap | OpCode::Brk) {
            let address = Address(cursor.varint()?);
            let length = Bytes(cursor.varint()?);
            into.second.push(Second { index, address, length });
        }
        last_address = last_address.wrapping_add(unzigzag(cursor.varint()?) as u64);
        let size = cursor.varint()?;
        let stack = cursor.varint32()?;
        if stack > max_stack {
            return Err("a stack that is not defined");
        }
        into.op.push(op);
        into.api.push(api);
        into.time.push(Micros(time));
        into.thread.push(ThreadIx(thread));
        into.address.push(Address(last_address));
        into.size.push(Bytes(size));
        into.stack.push(StackId(stack));
        into.birth.push(birth);
    }
    if cursor.is_at_end() {
        Ok(())
    } else {
        Err("bytes are left over")
    }
}
