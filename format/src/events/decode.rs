//! Decoding an events block. The bytes are nobody's friend: every number is checked before it is used.

use super::habits::{Habits, Site};
use super::heap::{Class, Heap, Home, Node, NONE};
use super::layout::*;
use super::thread::Thread;
use crate::block::{Block, BlockKind};
use crate::bytes::{unzigzag, Cursor, Malformed};
use crate::columns::OpCode;
use crate::event::{AllocApi, MapApi};
use crate::id::{Address, Bytes, Micros, StackId, ThreadIx, TypeIx};
use crate::sink::{Birth, EventSink, MappingEvent};

/// What decoding needs besides its result; reused from block to block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    habits: Habits,
    heap: Heap,
    threads: Vec<Thread>,
    /// By event, in blocks that say types: the stack of a birth by Python's object allocator, [`NONE`] for others.
    objects: Vec<u32>,
}

/// Decodes the payload of `block`.
pub(crate) fn decode<S: EventSink>(
    raw: &[u8],
    block: &Block,
    scratch: &mut Scratch,
    into: &mut S,
) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(raw);
    let mut lengths = [0; COLUMNS];
    for length in &mut lengths {
        *length = cursor.varint()?;
    }
    let mut columns = [Cursor::new(&[]); COLUMNS];
    for (column, length) in columns.iter_mut().zip(lengths) {
        *column = Cursor::new(cursor.take(length)?);
    }
    let controls = columns[CONTROL].take_all();
    // From here on the number of events is no more than the bytes that are there.
    if !cursor.is_at_end() || controls.len() as u64 != u64::from(block.events) {
        return Err("its columns do not fit its length and its number of events");
    }
    scratch.habits.clear();
    scratch.heap.clear();
    scratch.threads.clear();
    scratch.heap.nodes.reserve(controls.len());
    let says_types = !columns[TYPES].is_at_end();
    scratch.objects.clear();
    if says_types {
        scratch.objects.resize(controls.len(), NONE);
    }
    into.begin(block.first_event, block.events);
    if times(&mut columns[TIMES], block, into)? != block.last_time {
        return Err("its last time is not that of its header");
    }
    let mut reader = Reader {
        columns,
        heap: &mut scratch.heap,
        habits: &mut scratch.habits,
        threads: &mut scratch.threads,
        objects: &mut scratch.objects,
        says_types,
        thread: 0,
        now: Thread::new(ThreadIx(0)),
        max_stack: block.stacks,
        index: 0,
        extra_weight: 0,
        into,
    };
    let mut from = 0;
    while from < controls.len() {
        let run = reader.switch()?;
        let until = usize::try_from(run).ok().and_then(|run| from.checked_add(run));
        let until = until
            .filter(|&until| until <= controls.len())
            .ok_or("the run of a thread")?;
        reader.into.thread(from as u32..until as u32, reader.now.ix);
        for (index, &control) in (from as u32..).zip(&controls[from..until]) {
            reader.index = index;
            reader.event(control)?;
        }
        from = until;
    }
    if reader.columns.iter().any(|column| !column.is_at_end()) {
        return Err("bytes are left over in a column");
    }
    // A keyframe weighs what all events did that it stands for.
    let is_weighed = block.kind == BlockKind::Events;
    if is_weighed && i64::from(block.events) + reader.extra_weight != i64::from(block.weight) {
        return Err("the weight of its events is not that of its header");
    }
    Ok(())
}

/// Tells the times of all events, as the column of times steps them; the last one.
fn times(column: &mut Cursor<'_>, block: &Block, into: &mut impl EventSink) -> Result<Micros, Malformed> {
    let events = u64::from(block.events);
    let mut time = block.first_time;
    // The events from `from` on have this time, those before `told` at least.
    let (mut from, mut told) = (0, 0u64);
    loop {
        let (still, step) = step(column)?;
        let until = told.saturating_add(still).min(events);
        if from < until {
            into.times(from as u32..until as u32, time);
        }
        if until == events {
            return Ok(time);
        }
        time = Micros(time.get().checked_add(step).ok_or("time overflows")?);
        (from, told) = (until, until + 1);
    }
}

/// How many events time stands still for, and how far it goes then. It stands still for ever when the column ends.
#[inline]
fn step(column: &mut Cursor<'_>) -> Result<(u64, u64), Malformed> {
    if column.is_at_end() {
        return Ok((u64::MAX, 0));
    }
    let packed = column.byte()?;
    let (still, step) = if packed == 0 {
        (column.varint()?, column.varint()?)
    } else {
        (u64::from(packed >> 4), u64::from(packed & 15))
    };
    if step == 0 {
        return Err("a step of time is none");
    }
    Ok((still, step))
}

struct Reader<'a, S> {
    columns: [Cursor<'a>; COLUMNS],
    heap: &'a mut Heap,
    habits: &'a mut Habits,
    threads: &'a mut Vec<Thread>,
    objects: &'a mut Vec<u32>,
    says_types: bool,
    /// The thread that events are of, and what is known of it. It has its place in `threads` while it waits.
    thread: usize,
    now: Thread,
    max_stack: u32,
    /// Which event is being decoded.
    index: u32,
    /// By how much the weight of the events differs from their number.
    extra_weight: i64,
    into: &'a mut S,
}

impl<S: EventSink> Reader<'_, S> {
    /// The next run of a thread: how many events.
    #[inline(never)]
    fn switch(&mut self) -> Result<u64, Malformed> {
        let column = &mut self.columns[THREADS];
        let packed = column.byte()?;
        let mut thread = u64::from(packed & 15);
        let mut run = u64::from(packed >> 4);
        if thread == 15 {
            thread = thread.checked_add(column.varint()?).ok_or("the number of a thread")?;
        }
        if run == 15 {
            run = run.checked_add(column.varint()?).ok_or("the run of a thread")?;
        }
        if let Some(waiting) = self.threads.get_mut(self.thread) {
            *waiting = self.now;
        }
        let count = self.threads.len();
        self.thread = usize::try_from(thread)
            .ok()
            .filter(|&thread| thread <= count)
            .ok_or("the number of a thread")?;
        if self.thread == count {
            let ix = ThreadIx(column.varint32()?);
            self.heap.add_thread();
            self.threads.push(Thread::new(ix));
        }
        self.now = self.threads[self.thread];
        if run == 0 {
            return Err("the run of a thread");
        }
        Ok(run)
    }

    #[inline(always)]
    fn event(&mut self, control: u8) -> Result<(), Malformed> {
        match control {
            0..FREE => self.birth(control),
            FREE..MOVE_OUT => self.death(OpCode::Free, control & 0x3f),
            MOVE_OUT => {
                let how = self.columns[DEATHS].byte()?;
                self.death(OpCode::MoveOut, how)
            }
            RESIZE..MAP => self.resize(control),
            MAP => {
                let api = MapApi::from_u8(self.columns[REST].byte()?).ok_or("an unknown kind of mapping")?;
                let new = self.row()?;
                let stack = self.row_stack()?;
                self.mapping(OpCode::Map, api, new, stack, [0, 0])
            }
            UNMAP => {
                let range = self.row()?;
                self.mapping(OpCode::Unmap, MapApi::Anonymous, range, StackId::ROOT, [0, 0])
            }
            REMAP => {
                let [old_address, old_length, address, length] = self.row()?;
                let stack = self.row_stack()?;
                let (new, old) = ([address, length], [old_address, old_length]);
                self.mapping(OpCode::Remap, MapApi::Anonymous, new, stack, old)
            }
            BRK => {
                let [old_end, new_end] = self.row()?;
                let stack = self.row_stack()?;
                self.mapping(OpCode::Brk, MapApi::Anonymous, [new_end, 0], stack, [old_end, 0])
            }
            TYPED.. => self.typed(control),
            _ => Err("an unknown kind of event"),
        }
    }

    fn row<const N: usize>(&mut self) -> Result<[u64; N], Malformed> {
        let mut fields = [0; N];
        for field in &mut fields {
            *field = self.columns[REST].varint()?;
        }
        Ok(fields)
    }

    fn row_stack(&mut self) -> Result<StackId, Malformed> {
        let stack = self.columns[REST].varint32()?;
        self.valid_stack(stack)
    }

    #[inline]
    fn valid_stack(&self, stack: u32) -> Result<StackId, Malformed> {
        if stack <= self.max_stack {
            Ok(StackId(stack))
        } else {
            Err("a stack that is not defined")
        }
    }

    fn mapping(
        &mut self,
        op: OpCode,
        api: MapApi,
        new: [u64; 2],
        stack: StackId,
        old: [u64; 2],
    ) -> Result<(), Malformed> {
        self.heap.nothing();
        self.into.mapping(&MappingEvent {
            index: self.index,
            op,
            api,
            address: Address(new[0]),
            length: Bytes(new[1]),
            stack,
            old: (Address(old[0]), Bytes(old[1])),
        });
        Ok(())
    }

    /// An address near another one.
    #[inline(always)]
    fn near(&mut self, near: Address) -> Result<Address, Malformed> {
        let column = &mut self.columns[ADDRESSES];
        let code = column.varint()?;
        let delta = match code {
            UNALIGNED => unzigzag(column.varint()?),
            code if code & 1 == 0 => unzigzag(code >> 1).wrapping_mul(8),
            _ => return Err("the form of an address"),
        };
        Ok(Address(near.get().wrapping_add(delta as u64)))
    }

    /// Which live node dies, out of all lists now; `None` when it was born elsewhere, with the address then.
    #[inline(always)]
    fn dying(&mut self, how: u8) -> Result<(Option<u32>, Address), Malformed> {
        self.now.trail.death();
        let living = self.heap.threads[self.thread];
        let node = match how {
            ELSEWHERE => {
                let address = self.near(self.now.stray)?;
                self.now.stray = address;
                return Ok((None, address));
            }
            OLDER => living.older,
            NEWER => living.newer,
            DISTANT => distant(self.now.dead, self.columns[DEATHS].varint()?)?,
            rank if u32::from(rank) < RANKS => self.heap.ranked(self.thread, u32::from(rank)),
            _ => return Err("an unknown kind of death"),
        };
        if self.heap.home(node) != Home::Live {
            return Err("a death without a birth");
        }
        self.now.dead = node;
        self.heap.death(node, self.thread);
        Ok((Some(node), self.heap.nodes[node as usize].address))
    }

    #[inline(always)]
    fn death(&mut self, op: OpCode, how: u8) -> Result<(), Malformed> {
        let (birth, address) = self.dying(how)?;
        match birth {
            Some(index) => {
                let node = &mut self.heap.nodes[index as usize];
                node.tag = self.into.death(self.index, op, address, Some(node.tag));
                let class = node.class;
                self.heap.free(index, Heap::list_of(self.thread, class));
                self.heap.nothing();
            }
            None => {
                let tag = self.into.death(self.index, op, address, None);
                self.heap.stray(self.thread, address, tag);
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn resize(&mut self, control: u8) -> Result<(), Malformed> {
        let how = self.columns[DEATHS].byte()?;
        let (birth, address) = self.dying(how)?;
        let (stack, Site { size, call, kind }) = self.site(control)?;
        if call & CALL_OP != CALL_RESIZE {
            return Err("a call that does not fit its event");
        }
        let birth = birth.map(|node| self.heap.nodes[node as usize].tag);
        self.into.death(self.index, OpCode::Resize, address, birth);
        self.extra_weight += 1;
        let api = call & CALL_API;
        let class = Class::of(api, size.get());
        self.live(OpCode::Resize, api, address, class, size, stack, kind, None);
        Ok(())
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn live(
        &mut self,
        op: OpCode,
        api: u8,
        address: Address,
        (class, taken): (Class, u64),
        size: Bytes,
        stack: StackId,
        kind: TypeIx,
        freed: Option<u32>,
    ) {
        self.now.end = Address(address.get().wrapping_add(taken));
        let is_object = api == AllocApi::PyObj as u8;
        if self.says_types && is_object {
            self.objects[self.index as usize] = stack.get();
        }
        let tag = self.into.birth(&Birth {
            index: self.index,
            op,
            api,
            address,
            size,
            stack,
            kind: if is_object { kind } else { TypeIx::UNKNOWN },
            freed,
        });
        self.heap.birth(self.thread, address, class, tag);
    }

    /// Stack, size and call of a birth.
    #[inline(always)]
    fn site(&mut self, control: u8) -> Result<(StackId, Site), Malformed> {
        let trail = &mut self.now.trail;
        let expected = self.habits.expect(trail);
        let stack = match control & SITE_STACK {
            STACK_NARROW => *expected.narrow,
            STACK_WIDE => *expected.wide,
            STACK_GIVEN => {
                let delta = unzigzag(self.columns[STACKS].varint()?);
                let stack = i64::from(trail.last.get())
                    .checked_add(delta)
                    .and_then(|stack| u32::try_from(stack).ok());
                StackId(
                    stack
                        .filter(|&stack| stack <= self.max_stack)
                        .ok_or("a stack that is not defined")?,
                )
            }
            _ => return Err("an unknown form of stack"),
        };
        let site = expected.learn(stack, trail);
        if control & SITE_CALL != 0 {
            let call = self.columns[REST].byte()?;
            AllocApi::from_u8(call & CALL_API).ok_or("an unknown entry point")?;
            site.call = call;
        }
        if control & SITE_SIZE != 0 {
            site.size = Bytes(self.columns[SIZES].varint()?);
        }
        Ok((stack, *site))
    }

    #[inline(always)]
    fn birth(&mut self, control: u8) -> Result<(), Malformed> {
        let (stack, Site { size, call, kind }) = self.site(control)?;
        let op = match call & CALL_OP {
            CALL_ALLOC => OpCode::Alloc,
            CALL_MOVE_IN => OpCode::MoveIn,
            _ => return Err("a call that does not fit its event"),
        };
        let api = call & CALL_API;
        let class = Class::of(api, size.get());
        let number = Heap::list_of(self.thread, class.0);
        let place = control >> PLACE_SHIFT;
        let node = match place {
            PLACE_FIRST | PLACE_OLDER | PLACE_NEWER => self.heap.list(number).at(place),
            PLACE_NEAR => self.place(number)?,
            PLACE_DISTANT => distant(self.now.reused, self.columns[DEATHS].varint()?)?,
            PLACE_NEXT => {
                self.live(op, api, self.now.end, class, size, stack, kind, None);
                return Ok(());
            }
            PLACE_GIVEN => {
                let address = self.near(self.now.end)?;
                self.live(op, api, address, class, size, stack, kind, None);
                return Ok(());
            }
            _ => return Err("an unknown form of address"),
        };
        let Home::Free(list) = self.heap.home(node) else {
            return Err("an address that is not free");
        };
        self.now.reused = node;
        self.heap.reuse(node, list);
        let Node { address, tag, .. } = self.heap.nodes[node as usize];
        self.live(op, api, address, class, size, stack, kind, Some(tag));
        Ok(())
    }

    #[inline(never)]
    fn typed(&mut self, control: u8) -> Result<(), Malformed> {
        let kind = TypeIx(self.columns[TYPES].varint32()?);
        let node = match control {
            TYPED_ELSEWHERE => None,
            TYPED_DISTANT => {
                let steps = self.columns[DEATHS].varint()?;
                let node = u64::from(self.index).checked_sub(steps);
                Some(node.ok_or("a distance that leads out of the block")? as u32)
            }
            rank => Some(self.heap.ranked(self.thread, u32::from(rank - TYPED))),
        };
        let (address, birth) = match node {
            None => {
                let address = self.near(self.now.stray)?;
                self.now.stray = address;
                (address, None)
            }
            Some(node) if self.heap.home(node) == Home::Live => {
                let stack = self.objects[node as usize];
                if stack != NONE {
                    self.habits.site(StackId(stack)).kind = kind;
                }
                let node = &self.heap.nodes[node as usize];
                (node.address, Some(node.tag))
            }
            Some(_) => return Err("a type of no live block"),
        };
        self.heap.nothing();
        self.extra_weight -= 1;
        self.into.typed(self.index, address, birth, kind);
        Ok(())
    }

    /// A free address by its place in a list.
    fn place(&mut self, number: u16) -> Result<u32, Malformed> {
        let code = self.columns[PLACES].byte()?;
        let strays = self.heap.list(Heap::list_of(self.thread, Class::STRAY));
        Ok(match code {
            0..NEAR_STEPS => self.heap.walk(self.heap.list(number).first, u32::from(code)),
            STRAY_OLDER => strays.older,
            STRAY_NEWER => strays.newer,
            STRAY_FIRST..STRAY_END => self.heap.walk(strays.first, u32::from(code - STRAY_FIRST)),
            _ => return Err("an unknown place in a list"),
        })
    }
}

/// The node at a signed distance from another.
#[inline]
fn distant(from: u32, distance: u64) -> Result<u32, Malformed> {
    i64::from(from)
        .checked_add(unzigzag(distance))
        .and_then(|node| u32::try_from(node).ok())
        .ok_or("a distance that leads out of the block")
}
