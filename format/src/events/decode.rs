//! Decoding an events block. The bytes are nobody's friend: every number is checked before it is used.

use super::habits::{Habits, Site};
use super::heap::{Class, Heap, Home, NONE};
use super::layout::*;
use super::thread::Thread;
use crate::block::Block;
use crate::bytes::{unzigzag, Cursor, Malformed};
use crate::columns::{EventColumns, OpCode, Second, NO_BIRTH};
use crate::event::{AllocApi, MapApi};
use crate::id::{Address, Bytes, Micros, StackId, ThreadIx, TypeIx};

/// What decoding needs besides its result; reused from block to block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    habits: Habits,
    heap: Heap,
    threads: Vec<Thread>,
}

/// Decodes the payload of `block` into empty columns.
pub(crate) fn decode(
    raw: &[u8],
    block: &Block,
    scratch: &mut Scratch,
    into: &mut EventColumns,
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
    into.resize(controls.len());
    let mut clock = Clock {
        time: block.first_time.get(),
        still: 0,
        step: 0,
    };
    clock.next(&mut columns[TIMES])?;
    let mut reader = Reader {
        columns,
        heap: &mut scratch.heap,
        habits: &mut scratch.habits,
        threads: &mut scratch.threads,
        thread: 0,
        run: 0,
        max_stack: block.stacks,
        index: 0,
        into,
    };
    for (index, &control) in controls.iter().enumerate() {
        reader.index = index;
        let time = clock.tick(&mut reader.columns[TIMES])?;
        reader.event(control, Micros(time))?;
    }
    if reader.run > 0 || reader.columns.iter().any(|column| !column.is_at_end()) {
        return Err("bytes are left over in a column");
    }
    if clock.time != block.last_time.get() {
        return Err("its last time is not that of its header");
    }
    let count = |wanted| into.op.iter().filter(|&&op| op == wanted).count();
    if controls.len() + count(OpCode::Resize) - count(OpCode::Typed) != block.weight as usize {
        return Err("the weight of its events is not that of its header");
    }
    Ok(())
}

/// Time, as the column of times steps it.
struct Clock {
    time: u64,
    /// Events until the next step.
    still: u64,
    step: u64,
}

impl Clock {
    /// The next step; none is left when the column ends.
    #[inline]
    fn next(&mut self, column: &mut Cursor<'_>) -> Result<(), Malformed> {
        if column.is_at_end() {
            self.still = u64::MAX;
            return Ok(());
        }
        let packed = column.byte()?;
        (self.still, self.step) = if packed == 0 {
            (column.varint()?, column.varint()?)
        } else {
            (u64::from(packed >> 4), u64::from(packed & 15))
        };
        if self.step == 0 {
            return Err("a step of time is none");
        }
        Ok(())
    }

    #[inline(always)]
    fn tick(&mut self, column: &mut Cursor<'_>) -> Result<u64, Malformed> {
        if self.still > 0 {
            self.still -= 1;
        } else {
            self.time = self.time.checked_add(self.step).ok_or("time overflows")?;
            self.next(column)?;
        }
        Ok(self.time)
    }
}

struct Reader<'a> {
    columns: [Cursor<'a>; COLUMNS],
    heap: &'a mut Heap,
    habits: &'a mut Habits,
    threads: &'a mut Vec<Thread>,
    thread: usize,
    /// Events that the thread still has in a row.
    run: u64,
    max_stack: u32,
    /// Which event is being decoded.
    index: usize,
    into: &'a mut EventColumns,
}

impl Reader<'_> {
    /// The next run of a thread.
    #[cold]
    fn switch(&mut self) -> Result<(), Malformed> {
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
        let count = self.threads.len();
        self.thread = usize::try_from(thread)
            .ok()
            .filter(|&thread| thread <= count)
            .ok_or("the number of a thread")?;
        self.run = run.checked_sub(1).ok_or("the run of a thread")?;
        if self.thread == count {
            let ix = ThreadIx(column.varint32()?);
            self.heap.add_thread();
            self.threads.push(Thread::new(ix));
        }
        Ok(())
    }

    #[inline]
    fn event(&mut self, control: u8, time: Micros) -> Result<(), Malformed> {
        match self.run.checked_sub(1) {
            Some(run) => self.run = run,
            None => self.switch()?,
        }
        self.into.time[self.index] = time;
        self.into.thread[self.index] = self.threads[self.thread].ix;
        match control {
            0..FREE => self.birth(control),
            FREE..MOVE_OUT => self.death(OpCode::Free, control & 0x3f),
            MOVE_OUT => {
                let how = self.columns[DEATHS].byte()?;
                self.death(OpCode::MoveOut, how)
            }
            RESIZE..MAP => self.resize(control),
            MAP => {
                let api = self.columns[REST].byte()?;
                MapApi::from_u8(api).ok_or("an unknown kind of mapping")?;
                let [address, length] = self.row()?;
                let stack = self.row_stack()?;
                self.mapping(OpCode::Map, api, address, length, stack);
                Ok(())
            }
            UNMAP => {
                let [address, length] = self.row()?;
                self.mapping(OpCode::Unmap, 0, address, length, StackId::ROOT);
                Ok(())
            }
            REMAP => {
                let [old_address, old_length, address, length] = self.row()?;
                let stack = self.row_stack()?;
                self.second(old_address, old_length);
                self.mapping(OpCode::Remap, 0, address, length, stack);
                Ok(())
            }
            BRK => {
                let [old_end, new_end] = self.row()?;
                let stack = self.row_stack()?;
                self.second(old_end, 0);
                self.mapping(OpCode::Brk, 0, new_end, 0, stack);
                Ok(())
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

    fn second(&mut self, address: u64, length: u64) {
        let index = self.index as u32;
        self.into.second.push(Second {
            index,
            address: Address(address),
            length: Bytes(length),
        });
    }

    fn mapping(&mut self, op: OpCode, api: u8, address: u64, length: u64, stack: StackId) {
        self.heap.nothing();
        self.put(op, api, Address(address), Bytes(length), stack, NO_BIRTH);
    }

    #[inline(always)]
    fn put(&mut self, op: OpCode, api: u8, address: Address, size: Bytes, stack: StackId, birth: u32) {
        self.into.op[self.index] = op;
        self.into.api[self.index] = api;
        self.into.address[self.index] = address;
        self.into.size[self.index] = size;
        self.into.stack[self.index] = stack;
        self.into.birth[self.index] = birth;
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

    /// Which live node dies; `None` when it was born elsewhere, with the address then.
    #[inline(always)]
    fn dying(&mut self, how: u8) -> Result<(Option<u32>, Address), Malformed> {
        let thread = &mut self.threads[self.thread];
        thread.trail.death();
        let living = self.heap.threads[self.thread];
        let node = match how {
            ELSEWHERE => {
                let stray = thread.stray;
                let address = self.near(stray)?;
                self.threads[self.thread].stray = address;
                return Ok((None, address));
            }
            OLDER => living.older,
            NEWER => living.newer,
            DISTANT => distant(thread.dead, self.columns[DEATHS].varint()?)?,
            rank if u32::from(rank) < RANKS => self.heap.ranked(self.thread, u32::from(rank)),
            _ => return Err("an unknown kind of death"),
        };
        if self.heap.home(node) != Home::Live {
            return Err("a death without a birth");
        }
        self.threads[self.thread].dead = node;
        self.heap.death(node, self.thread);
        Ok((Some(node), self.heap.nodes[node as usize].address))
    }

    #[inline(always)]
    fn death(&mut self, op: OpCode, how: u8) -> Result<(), Malformed> {
        let (birth, address) = self.dying(how)?;
        match birth {
            Some(node) => {
                let class = self.heap.nodes[node as usize].class;
                self.heap.free(node, Heap::list_of(self.thread, class));
                self.heap.nothing();
            }
            None => self.heap.stray(self.thread, address, 0),
        }
        self.put(op, 0, address, Bytes(0), StackId::ROOT, birth.unwrap_or(NO_BIRTH));
        Ok(())
    }

    #[inline]
    fn resize(&mut self, control: u8) -> Result<(), Malformed> {
        let how = self.columns[DEATHS].byte()?;
        let (birth, address) = self.dying(how)?;
        let (stack, Site { size, call, kind }) = self.site(control)?;
        if call & CALL_OP != CALL_RESIZE {
            return Err("a call that does not fit its event");
        }
        let api = call & CALL_API;
        let (class, taken) = Class::of(api, size.get());
        self.live(address, class, taken);
        self.expect(api, kind);
        self.put(OpCode::Resize, api, address, size, stack, birth.unwrap_or(NO_BIRTH));
        Ok(())
    }

    #[inline(always)]
    fn live(&mut self, address: Address, class: Class, taken: u64) {
        self.threads[self.thread].end = Address(address.get().wrapping_add(taken));
        self.heap.birth(self.thread, address, class, 0);
    }

    /// Stack, size and call of a birth.
    #[inline(always)]
    fn site(&mut self, control: u8) -> Result<(StackId, Site), Malformed> {
        let trail = &mut self.threads[self.thread].trail;
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
        let (class, taken) = Class::of(api, size.get());
        let number = Heap::list_of(self.thread, class);
        let node = match control >> PLACE_SHIFT {
            PLACE_FIRST => self.heap.list(number).first,
            PLACE_OLDER => self.heap.list(number).older,
            PLACE_NEWER => self.heap.list(number).newer,
            PLACE_NEAR => self.place(number)?,
            PLACE_DISTANT => distant(self.threads[self.thread].reused, self.columns[DEATHS].varint()?)?,
            PLACE_NEXT | PLACE_GIVEN => NONE,
            _ => return Err("an unknown form of address"),
        };
        let end = self.threads[self.thread].end;
        let address = match control >> PLACE_SHIFT {
            PLACE_NEXT => end,
            PLACE_GIVEN => self.near(end)?,
            _ => {
                let Home::Free(list) = self.heap.home(node) else {
                    return Err("an address that is not free");
                };
                self.threads[self.thread].reused = node;
                self.heap.reuse(node, list);
                self.heap.nodes[node as usize].address
            }
        };
        self.live(address, class, taken);
        self.expect(api, kind);
        self.put(op, api, address, size, stack, NO_BIRTH);
        Ok(())
    }

    /// The type to expect of a birth.
    #[inline(always)]
    fn expect(&mut self, api: u8, kind: TypeIx) {
        if api == AllocApi::PyObj as u8 {
            self.into.kind[self.index] = kind;
        }
    }

    #[inline]
    fn typed(&mut self, control: u8) -> Result<(), Malformed> {
        let kind = TypeIx(self.columns[TYPES].varint32()?);
        let node = match control {
            TYPED_ELSEWHERE => None,
            TYPED_DISTANT => {
                let steps = self.columns[DEATHS].varint()?;
                let node = (self.index as u64)
                    .checked_sub(steps)
                    .ok_or("a distance that leads out of the block")?;
                Some(node as u32)
            }
            rank => Some(self.heap.ranked(self.thread, u32::from(rank - TYPED))),
        };
        let (address, birth) = match node {
            None => {
                let address = self.near(self.threads[self.thread].stray)?;
                self.threads[self.thread].stray = address;
                (address, NO_BIRTH)
            }
            Some(node) if self.heap.home(node) == Home::Live => {
                let birth = node as usize;
                if self.into.api[birth] == AllocApi::PyObj as u8 {
                    self.habits.site(self.into.stack[birth]).kind = kind;
                }
                (self.heap.nodes[birth].address, node)
            }
            Some(_) => return Err("a type of no live block"),
        };
        self.heap.nothing();
        self.into.kind[self.index] = kind;
        self.put(OpCode::Typed, 0, address, Bytes(0), StackId::ROOT, birth);
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
