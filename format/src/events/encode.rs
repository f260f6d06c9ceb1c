//! Coding an events block, one event at a time. Nothing is allocated per event.

use super::habits::Habits;
use super::heap::{Class, Heap, Home, NONE};
use super::layout::*;
use super::objects::Objects;
use super::thread::Thread;
use crate::block::MAX_RAW_LENGTH;
use crate::bytes::{put_varint, zigzag};
use crate::event::{AllocApi, Event, Op};
use crate::id::{Address, Bytes, Micros, ProcessIx, StackId, ThreadIx, TypeIx};

/// Events between two looks at the length of the columns.
const LOOK: u32 = 1 << 12;
/// More bytes than one event can take.
const EVENT_LENGTH: usize = 128;

/// Codes the events of one block.
pub(crate) struct Encoder {
    columns: [Vec<u8>; COLUMNS],
    payload: Vec<u8>,
    capacity: u32,
    events: u32,
    weight: u32,
    first_time: Micros,
    last_time: Micros,
    /// Events since the last step of time.
    still: u64,
    threads: Vec<Thread>,
    thread: usize,
    /// Events of the thread in a row.
    run: u64,
    /// Whether this run is the thread's first.
    first_run: bool,
    habits: Habits,
    heap: Heap,
    objects: Objects,
    /// Open-addressed: the latest node of each process and address.
    slots: Vec<u32>,
}

impl Encoder {
    /// For blocks of at most this many events.
    pub(crate) fn new(capacity: u32) -> Self {
        Encoder {
            columns: Default::default(),
            payload: Vec::new(),
            capacity,
            events: 0,
            weight: 0,
            first_time: Micros(0),
            last_time: Micros(0),
            still: 0,
            threads: Vec::new(),
            thread: 0,
            run: 0,
            first_run: false,
            habits: Habits::default(),
            heap: Heap::default(),
            objects: Objects::default(),
            slots: vec![NONE; (capacity as usize * 2).next_power_of_two()],
        }
    }

    pub(crate) fn events(&self) -> u32 {
        self.events
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }

    pub(crate) fn times(&self) -> (Micros, Micros) {
        (self.first_time, self.last_time)
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        let columns: usize = self.columns.iter().map(Vec::capacity).sum();
        let threads = self.threads.capacity() * size_of::<Thread>();
        columns
            + self.payload.capacity()
            + threads
            + self.slots.capacity() * 4
            + self.heap.memory()
            + self.habits.memory()
            + self.objects.memory()
    }

    /// Whether the block must be sealed before the next event.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.events >= self.capacity || (self.events.is_multiple_of(LOOK) && self.is_long())
    }

    fn is_long(&self) -> bool {
        let length: usize = self.columns.iter().map(Vec::len).sum();
        length > MAX_RAW_LENGTH as usize - (LOOK as usize + 1) * EVENT_LENGTH
    }

    /// Forgets the block.
    pub(crate) fn clear(&mut self) {
        for column in &mut self.columns {
            column.clear();
        }
        self.events = 0;
        self.weight = 0;
        self.still = 0;
        self.threads.clear();
        self.run = 0;
        self.habits.clear();
        self.heap.clear();
        self.objects.clear();
        self.slots.fill(NONE);
    }

    /// The payload of the block.
    pub(crate) fn seal(&mut self) -> &[u8] {
        self.end_run();
        self.payload.clear();
        for column in &self.columns {
            put_varint(&mut self.payload, column.len() as u64);
        }
        for column in &self.columns {
            self.payload.extend_from_slice(column);
        }
        &self.payload
    }

    /// Adds an event. Time must not decrease. Not for an event that [`Encoder::is_told`].
    #[inline(always)]
    pub(crate) fn event(&mut self, event: &Event, process: ProcessIx) {
        self.tick(event.time);
        self.switch(event.thread);
        let control = match event.op {
            Op::Alloc {
                api,
                address,
                size,
                stack,
            } => self.birth(CALL_ALLOC | api as u8, address, size, stack, process),
            Op::MoveIn {
                api,
                address,
                size,
                stack,
            } => self.birth(CALL_MOVE_IN | api as u8, address, size, stack, process),
            Op::Free { address } => {
                let (how, operand) = self.death(address, process);
                self.operand(operand);
                FREE | how
            }
            Op::MoveOut { address } => {
                let (how, operand) = self.death(address, process);
                self.columns[DEATHS].push(how);
                self.operand(operand);
                MOVE_OUT
            }
            Op::Resize {
                api,
                address,
                size,
                stack,
            } => {
                let slot = self.slot(address, process);
                let (how, operand) = self.dying(address, self.slots[slot]);
                self.columns[DEATHS].push(how);
                self.operand(operand);
                let control = RESIZE | self.site(CALL_RESIZE | api as u8, size, stack);
                let (class, taken) = Class::of(api as u8, size.get());
                self.live(slot, address, class, taken, process);
                control
            }
            Op::Map {
                api,
                address,
                length,
                stack,
            } => {
                self.columns[REST].push(api as u8);
                self.row(&[address.get(), length.get(), u64::from(stack.get())]);
                MAP
            }
            Op::Unmap { address, length } => {
                self.row(&[address.get(), length.get()]);
                UNMAP
            }
            Op::Remap {
                old_address,
                old_length,
                address,
                length,
                stack,
            } => {
                self.row(&[
                    old_address.get(),
                    old_length.get(),
                    address.get(),
                    length.get(),
                    u64::from(stack.get()),
                ]);
                REMAP
            }
            Op::Brk {
                old_end,
                new_end,
                stack,
            } => {
                self.row(&[old_end.get(), new_end.get(), u64::from(stack.get())]);
                BRK
            }
            Op::Typed { address, kind } => self.typed(address, kind, process),
        };
        self.columns[CONTROL].push(control);
        self.weight += event.op.weight() as u32;
        self.events += 1;
    }

    /// Whether the reader knows without being told that the block at this address is of this type, or need not know since the block is dead.
    #[inline]
    pub(crate) fn is_told(&self, address: Address, kind: TypeIx, process: ProcessIx) -> bool {
        if let Some(object) = self.objects.lately(&self.heap, address, process) {
            return object.kind == kind;
        }
        let node = self.slots[self.slot(address, process)];
        if self.heap.home(node) == Home::Live {
            self.objects.get(node).is_some_and(|object| object.kind == kind)
        } else {
            node != NONE
        }
    }

    #[inline]
    fn tick(&mut self, time: Micros) {
        if self.events == 0 {
            self.first_time = time;
            self.last_time = time;
        }
        let step = time.get() - self.last_time.get();
        if step == 0 {
            self.still += 1;
            return;
        }
        let still = std::mem::take(&mut self.still);
        self.last_time = time;
        let column = &mut self.columns[TIMES];
        if still < 16 && step < 16 {
            column.push((still as u8) << 4 | step as u8);
        } else {
            column.push(0);
            put_varint(column, still);
            put_varint(column, step);
        }
    }

    #[inline]
    fn switch(&mut self, ix: ThreadIx) {
        if self.run > 0 && self.threads[self.thread].ix == ix {
            self.run += 1;
            return;
        }
        self.end_run();
        self.run = 1;
        if let Some(known) = self.threads.iter().position(|thread| thread.ix == ix) {
            self.thread = known;
            return;
        }
        self.first_run = true;
        self.thread = self.threads.len();
        self.heap.add_thread();
        self.threads.push(Thread::new(ix));
    }

    fn end_run(&mut self) {
        if self.run == 0 {
            return;
        }
        let column = &mut self.columns[THREADS];
        column.push(self.thread.min(15) as u8 | (self.run.min(15) as u8) << 4);
        if self.thread >= 15 {
            put_varint(column, self.thread as u64 - 15);
        }
        if self.run >= 15 {
            put_varint(column, self.run - 15);
        }
        if std::mem::take(&mut self.first_run) {
            put_varint(column, u64::from(self.threads[self.thread].ix.get()));
        }
        self.run = 0;
    }

    fn row(&mut self, fields: &[u64]) {
        for &field in fields {
            put_varint(&mut self.columns[REST], field);
        }
        self.heap.nothing();
    }

    #[inline]
    fn operand(&mut self, operand: Option<u64>) {
        if let Some(operand) = operand {
            put_varint(&mut self.columns[DEATHS], operand);
        }
    }

    /// Where the latest node of an address is noted, or a free slot.
    #[inline]
    fn slot(&self, address: Address, process: ProcessIx) -> usize {
        let mask = self.slots.len() - 1;
        let key = address.get() ^ u64::from(process.get()) << 48;
        let line = ((key >> 9).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        let mut slot = (line << 5 | (key >> 4) as usize & 31) & mask;
        loop {
            let Some(node) = self.heap.nodes.get(self.slots[slot] as usize) else {
                return slot;
            };
            if node.address == address && node.tag == process.get() {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Says which node dies, and lets it die.
    #[inline]
    fn dying(&mut self, address: Address, node: u32) -> (u8, Option<u64>) {
        let thread = &mut self.threads[self.thread];
        thread.trail.death();
        if self.heap.home(node) != Home::Live {
            put_address(&mut self.columns[ADDRESSES], address, thread.stray);
            thread.stray = address;
            return (ELSEWHERE, None);
        }
        let living = self.heap.threads[self.thread];
        let newest = self.heap.ranked(self.thread, 0);
        let (how, operand) = if node == newest {
            (0, None)
        } else if node == living.newer {
            (NEWER, None)
        } else if node == living.older {
            (OLDER, None)
        } else if let Some(rank) = self.heap.steps(newest, node, RANKS) {
            (rank as u8, None)
        } else {
            (DISTANT, Some(distance(thread.dead, node)))
        };
        thread.dead = node;
        self.heap.death(node, self.thread);
        (how, operand)
    }

    #[inline]
    fn death(&mut self, address: Address, process: ProcessIx) -> (u8, Option<u64>) {
        let slot = self.slot(address, process);
        let node = self.slots[slot];
        let (how, operand) = self.dying(address, node);
        if how == ELSEWHERE {
            self.slots[slot] = self.events;
            self.heap.stray(self.thread, address, process.get());
        } else {
            let class = self.heap.nodes[node as usize].class;
            self.heap.free(node, Heap::list_of(self.thread, class));
            self.heap.nothing();
        }
        (how, operand)
    }

    fn typed(&mut self, address: Address, kind: TypeIx, process: ProcessIx) -> u8 {
        put_varint(&mut self.columns[TYPES], u64::from(kind.get()));
        let node = self.slots[self.slot(address, process)];
        let control = if self.heap.home(node) == Home::Live {
            if let Some(object) = self.objects.get_mut(node) {
                object.kind = kind;
                self.habits.site(object.stack).kind = kind;
            }
            let newest = self.heap.ranked(self.thread, 0);
            match self.heap.steps(newest, node, TYPED_RANKS) {
                Some(rank) => TYPED | rank as u8,
                None => {
                    put_varint(&mut self.columns[DEATHS], u64::from(self.events - node));
                    TYPED_DISTANT
                }
            }
        } else {
            let thread = &mut self.threads[self.thread];
            put_address(&mut self.columns[ADDRESSES], address, thread.stray);
            thread.stray = address;
            TYPED_ELSEWHERE
        };
        self.heap.nothing();
        control
    }

    /// Codes stack, call and size of a birth; the low bits of its control byte.
    #[inline]
    fn site(&mut self, call: u8, size: Bytes, stack: StackId) -> u8 {
        let trail = &mut self.threads[self.thread].trail;
        let expected = self.habits.expect(trail);
        let mut control = if stack == *expected.narrow {
            STACK_NARROW
        } else if stack == *expected.wide {
            STACK_WIDE
        } else {
            put_varint(&mut self.columns[STACKS], distance(trail.last.get(), stack.get()));
            STACK_GIVEN
        };
        let site = expected.learn(stack, trail);
        if call & CALL_API == AllocApi::PyObj as u8 {
            self.objects.birth(self.events, stack, site.kind);
        }
        if site.call != call {
            site.call = call;
            self.columns[REST].push(call);
            control |= SITE_CALL;
        }
        if site.size != size {
            site.size = size;
            put_varint(&mut self.columns[SIZES], size.get());
            control |= SITE_SIZE;
        }
        control
    }

    #[inline]
    fn live(&mut self, slot: usize, address: Address, class: Class, taken: u64, process: ProcessIx) {
        self.threads[self.thread].end = Address(address.get().wrapping_add(taken));
        self.slots[slot] = self.events;
        self.heap.birth(self.thread, address, class, process.get());
    }

    #[inline]
    fn birth(&mut self, call: u8, address: Address, size: Bytes, stack: StackId, process: ProcessIx) -> u8 {
        let (class, taken) = Class::of(call & CALL_API, size.get());
        // First, so that the processor waits for this memory and that of the site at once.
        let slot = self.slot(address, process);
        let node = self.slots[slot];
        let site = self.site(call, size, stack);
        let number = Heap::list_of(self.thread, class);
        let end = self.threads[self.thread].end;
        let home = self.heap.home(node);
        if home == Home::Live {
            self.objects.distrust_addresses();
        }
        let place = match home {
            Home::Free(list) if list == number || end != address => self.reuse(node, list, number),
            _ if end == address => PLACE_NEXT,
            _ => {
                put_address(&mut self.columns[ADDRESSES], address, end);
                PLACE_GIVEN
            }
        };
        self.live(slot, address, class, taken, process);
        site | place << PLACE_SHIFT
    }

    /// Says which free address is used again, and takes it out of its list; `number` is the list to expect it in.
    #[inline]
    fn reuse(&mut self, node: u32, list: u16, number: u16) -> u8 {
        let entry = self.heap.list(list);
        let mut near = |code: u8| {
            self.columns[PLACES].push(code);
            PLACE_NEAR
        };
        let known = if list == number {
            if node == entry.first {
                Some(PLACE_FIRST)
            } else if node == entry.older {
                Some(PLACE_OLDER)
            } else if node == entry.newer {
                Some(PLACE_NEWER)
            } else {
                self.heap
                    .steps(entry.first, node, u32::from(NEAR_STEPS))
                    .map(|steps| near(steps as u8))
            }
        } else if list == Heap::list_of(self.thread, Class::STRAY) {
            if node == entry.older {
                Some(near(STRAY_OLDER))
            } else if node == entry.newer {
                Some(near(STRAY_NEWER))
            } else {
                let limit = u32::from(STRAY_END - STRAY_FIRST);
                self.heap
                    .steps(entry.first, node, limit)
                    .map(|steps| near(STRAY_FIRST + steps as u8))
            }
        } else {
            None
        };
        self.heap.reuse(node, list);
        let reused = &mut self.threads[self.thread].reused;
        let from = std::mem::replace(reused, node);
        known.unwrap_or_else(|| {
            put_varint(&mut self.columns[DEATHS], distance(from, node));
            PLACE_DISTANT
        })
    }
}

/// The signed distance between two numbers, as a small number.
#[inline]
fn distance(from: u32, to: u32) -> u64 {
    zigzag(i64::from(to) - i64::from(from))
}

#[inline]
fn put_address(column: &mut Vec<u8>, address: Address, near: Address) {
    let delta = address.get().wrapping_sub(near.get()) as i64;
    if delta & 7 == 0 {
        put_varint(column, zigzag(delta >> 3) << 1);
    } else {
        put_varint(column, UNALIGNED);
        put_varint(column, zigzag(delta));
    }
}
