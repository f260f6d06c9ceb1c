//! One block of events, sorted into what the later stages need while it is decoded. Done for many blocks in parallel.
//!
//! Most blocks of memory are freed within the block of events that they were born in, and the tape says which birth a free belongs to. Those are settled here, without looking
//! anything up. What is left for the shards is what concerns other blocks of events, and births at addresses of which nothing is known here, which may show that a free was missed.

use super::mapping::{self, MappingChange};
use super::matching::{shard_of, Fate, HeapOp, NOBODY, SHARDS};
use crate::table::{ClockBlock, Flags, Marks};
use crate::tape::{Catalog, Generation, Tape};
use heaptape_format::block::MAX_BLOCK_EVENTS;
use heaptape_format::{Address, Birth, Block, Bytes, EventSink, MappingEvent};
use heaptape_format::{Damage, Decoder, EventNo, Micros, OpCode, ProcessIx, ThreadIx, TypeIx, NO_BIRTH};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A block of memory that came to life in a block of events. Events are numbered within the block.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub event: u32,
    /// The event that ends it here, or [`NO_BIRTH`].
    pub death: u32,
    pub address: Address,
    pub size: u64,
    pub stack: u32,
    pub kind: u32,
}

/// Half of a moving `realloc`, or one in place.
pub(super) enum Move {
    /// The block that this event frees moves; it was born in another block of events, if at all.
    Out(EventNo),
    /// The block with this number moves.
    OutOf(u32),
    /// What moved is the birth with this number now.
    Into(u32),
}

/// How the events of a block are numbered.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'a> {
    pub first: EventNo,
    /// See [`Digest::offsets`].
    pub offsets: &'a [u32],
}

impl Numbers<'_> {
    #[inline]
    pub(super) fn of(self, event: u32) -> EventNo {
        let offset = self.offsets.get(event as usize).copied().unwrap_or(event);
        EventNo(self.first.get() + u64::from(offset))
    }
}

/// Events of one process in a row.
pub(super) struct Run {
    pub from: u32,
    pub process: ProcessIx,
}

/// What one block of events comes to. Kept and used again for other blocks.
#[derive(Default)]
pub(super) struct Digest {
    pub first_event: EventNo,
    pub events: u32,
    /// By event, its number less that of the first; empty when they follow each other, as they do but in a keyframe.
    pub offsets: Vec<u32>,
    pub weight: u64,
    pub unknown_threads: u64,
    pub unknown_types: u64,
    /// Frees of what was born here.
    pub frees: u64,
    /// What came to life here, in the order of events.
    pub rows: Vec<Row>,
    /// Their [`Marks`].
    pub marks: Vec<u8>,
    /// From these rows on they are of that thread.
    pub threads: Vec<(u32, ThreadIx)>,
    /// Bytes that came to life.
    pub bytes: u128,
    /// Whether any row has a type.
    pub has_kinds: bool,
    pub mappings: Vec<MappingChange>,
    /// Heap operations by address shard, each in the order of events.
    pub ops: Vec<Vec<HeapOp>>,
    /// Moving reallocs in order.
    pub moves: Vec<(ThreadIx, Move)>,
    /// Births here that replace others born here, in place: (new, old).
    pub resized: Vec<(u32, u32)>,
    /// How many bytes each process has more at the end, of those born here; not in order.
    pub nets: Vec<(ProcessIx, i64)>,
    /// The most bytes alive at once of those born here.
    pub highest: i64,
    pub runs: Vec<Run>,
    /// Whether any size is beyond what the sums of a block can hold for certain.
    pub is_huge: bool,
    pub clock: Vec<ClockBlock>,
}

/// What the decoder keeps of a birth or a death: its number, or its event, and above it which of the processes of the block it is of.
#[derive(Clone, Copy)]
struct Tag(u32);

const TAG_BITS: u32 = MAX_BLOCK_EVENTS.trailing_zeros();
/// Stands for all processes from here on: nothing is known to be of the same one.
const TAG_CROWD: u32 = (1 << (u32::BITS - TAG_BITS)) - 1;

impl Tag {
    #[inline]
    fn new(number: u32, home: u32) -> Tag {
        Tag(number | home << TAG_BITS)
    }

    #[inline]
    fn number(self) -> u32 {
        self.0 & (MAX_BLOCK_EVENTS - 1)
    }

    /// Whether it is of this process for certain. The catalog may know threads otherwise than the writer did, if some of its records are lost.
    #[inline]
    fn is_of(self, home: u32) -> bool {
        self.0 >> TAG_BITS == home && home != TAG_CROWD
    }
}

/// What is needed to digest one block, and then another.
#[derive(Default)]
pub(super) struct Workspace {
    decoder: Decoder,
    /// For the shards, but for births that need not be told unless they are alive in the end.
    told: Vec<HeapOp>,
    born: LastBorn,
    /// The processes of the block.
    homes: Vec<ProcessIx>,
}

/// As many as there are threads at work: each stays in its thread's cache.
#[derive(Default)]
pub(super) struct Workspaces(Mutex<Vec<Workspace>>);

impl Workspaces {
    fn list(&self) -> MutexGuard<'_, Vec<Workspace>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Workspace {
        self.list().pop().unwrap_or_default()
    }

    fn give(&self, workspace: Workspace) {
        self.list().push(workspace);
    }
}

/// Larger blocks are no blocks of a real program; with them, levels are summed up in another way.
const HUGE: u64 = 1 << 40;

/// When something was last born at an address, or at one that shares its entry: never too early.
struct LastBorn(Vec<u32>);

const BORN_BITS: u32 = 13;

impl Default for LastBorn {
    fn default() -> LastBorn {
        LastBorn(vec![0; 1 << BORN_BITS])
    }
}

impl LastBorn {
    fn slot(&mut self, address: Address) -> &mut u32 {
        let mixed = address.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BORN_BITS);
        &mut self.0[mixed as usize]
    }

    /// Notes a birth; whether nothing was born at its address from an event on.
    #[inline]
    fn replace(&mut self, address: Address, event: u32, since: u32) -> bool {
        std::mem::replace(self.slot(address), event + 1) <= since
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }
}

impl Digest {
    pub(super) fn read(
        &mut self,
        tape: &Tape,
        block: &Block,
        catalog: &Catalog,
        workspaces: &Workspaces,
    ) -> Result<(), Damage> {
        self.clear();
        let mut workspace = workspaces.take();
        workspace.clear();
        let mut decoder = std::mem::take(&mut workspace.decoder);
        let mut sorter = Sorter {
            digest: self,
            work: &mut workspace,
            catalog,
            stacks: catalog.stacks.of_generation(block.generation),
            thread: ThreadIx(0),
            process: NOBODY,
            home: TAG_CROWD,
            level: 0,
            before: 0,
            resized: None,
        };
        let read = decoder.read(tape.source(), block, &mut sorter);
        sorter.end_run();
        workspace.decoder = decoder;
        if read.is_ok() {
            // The reader has checked it.
            self.weight = u64::from(block.weight);
            self.settle(&mut workspace);
        } else {
            self.clear();
        }
        workspaces.give(workspace);
        read
    }

    fn clear(&mut self) {
        self.weight = 0;
        self.unknown_threads = 0;
        self.unknown_types = 0;
        self.frees = 0;
        self.is_huge = false;
        self.drop_rows();
        self.mappings.clear();
        self.ops.resize_with(SHARDS, Vec::new);
        self.ops.iter_mut().for_each(Vec::clear);
        self.moves.clear();
        self.resized.clear();
        self.nets.clear();
        self.highest = 0;
        self.runs.clear();
        self.clock.clear();
        self.offsets.clear();
        self.events = 0;
    }

    fn drop_rows(&mut self) {
        self.rows.clear();
        self.marks.clear();
        self.threads.clear();
        self.bytes = 0;
        self.has_kinds = false;
    }

    /// Leaves out all heap operations, as when the table has no room for them.
    pub(super) fn drop_heap(&mut self) {
        self.drop_rows();
        self.moves.clear();
        self.resized.clear();
        self.frees = 0;
        self.ops.iter_mut().for_each(Vec::clear);
    }

    /// All deaths are known: hands operations to the shards, in the order of events.
    fn settle(&mut self, work: &mut Workspace) {
        let rows = std::mem::take(&mut self.rows);
        let mut told = 0;
        let mut run = 0;
        for (number, row) in (0u32..).zip(&rows) {
            let waits = work.told.get(told).is_some_and(|op| op.event <= row.event);
            if row.death != NO_BIRTH && !waits {
                continue;
            }
            let is_alive = row.death == NO_BIRTH;
            let mut is_told = false;
            while let Some(&op) = work.told.get(told).filter(|op| op.event <= row.event) {
                is_told = op.event == row.event;
                self.push(op.with_life(is_alive));
                told += 1;
            }
            if is_alive && !is_told {
                while self.runs.get(run + 1).is_some_and(|next| next.from <= row.event) {
                    run += 1;
                }
                self.push(HeapOp {
                    event: row.event,
                    process: self.runs[run].process,
                    address: row.address,
                    size: row.size,
                    fate: Fate::Born { number, is_alive },
                });
            }
        }
        for &op in &work.told[told..] {
            self.push(op);
        }
        self.rows = rows;
        if !self.offsets.is_empty() {
            let events = self.rows.iter_mut().flat_map(|row| [&mut row.event, &mut row.death]);
            for event in events.filter(|event| **event != NO_BIRTH) {
                *event = self.offsets[*event as usize];
            }
        }
    }

    /// The number of an event of this block.
    #[inline]
    pub(super) fn number(&self, event: u32) -> EventNo {
        let numbers = Numbers {
            first: self.first_event,
            offsets: &self.offsets,
        };
        numbers.of(event)
    }

    /// The number after that of the last event of this block.
    pub(super) fn end(&self) -> EventNo {
        let last = self.events.checked_sub(1).map(|last| self.number(last));
        last.map_or(self.first_event, |last| EventNo(last.get() + 1))
    }

    /// The first event of this block with at least this number.
    pub(super) fn index_of(&self, number: EventNo) -> u32 {
        let offset = number.get().saturating_sub(self.first_event.get());
        if self.is_keyframe() {
            return self.offsets.partition_point(|&own| u64::from(own) < offset) as u32;
        }
        offset.min(u64::from(self.events)) as u32
    }

    /// Whether it is what has stayed of other blocks.
    pub(super) fn is_keyframe(&self) -> bool {
        !self.offsets.is_empty()
    }

    fn push(&mut self, op: HeapOp) {
        self.ops[shard_of(op.process, op.address)].push(op);
    }

    fn add_net(&mut self, process: ProcessIx, net: i64) {
        match self.nets.iter_mut().find(|(other, _)| *other == process) {
            Some((_, sum)) => *sum = sum.wrapping_add(net),
            None if net == 0 => {}
            None => self.nets.push((process, net)),
        }
    }
}

impl Workspace {
    fn clear(&mut self) {
        self.told.clear();
        self.born.clear();
        self.homes.clear();
    }
}

/// Takes events as they are decoded. The answer to a birth is a [`Tag`] with its number, the answer to a death one with its event.
struct Sorter<'a> {
    digest: &'a mut Digest,
    work: &'a mut Workspace,
    catalog: &'a Catalog,
    stacks: Generation<'a>,
    thread: ThreadIx,
    process: ProcessIx,
    /// Which one of the block's processes that is.
    home: u32,
    /// Bytes born here and alive, and those of the process at hand before its run.
    level: i64,
    before: i64,
    /// Which birth the `Resize` at hand ends, if it is one of this block.
    resized: Option<u32>,
}

impl Sorter<'_> {
    fn tell(&mut self, event: u32, address: Address, size: u64, fate: Fate) {
        self.work.told.push(HeapOp {
            event,
            process: self.process,
            address,
            size,
            fate,
        });
    }

    fn end_run(&mut self) {
        self.digest.add_net(self.process, self.level.wrapping_sub(self.before));
        self.before = self.level;
    }

    /// The type itself if the tape names it.
    #[inline]
    fn kind(&mut self, said: TypeIx) -> TypeIx {
        let kind = self.catalog.known_type(said);
        self.digest.unknown_types += u64::from(kind != said);
        kind
    }

    /// The number of a birth, if it is one of this process.
    #[inline]
    fn own(&self, birth: Option<u32>) -> Option<u32> {
        birth.map(Tag).filter(|tag| tag.is_of(self.home)).map(Tag::number)
    }

    #[inline]
    fn tag(&self, number: u32) -> u32 {
        Tag::new(number, self.home).0
    }
}

impl EventSink for Sorter<'_> {
    fn begin(&mut self, first_event: EventNo, events: u32) {
        self.digest.first_event = first_event;
        self.digest.events = events;
        self.digest.clock.push(ClockBlock::new(first_event));
        // Half of the events are births, as a rule.
        self.digest.rows.reserve(events as usize / 2);
    }

    fn numbers(&mut self, offsets: &[u32]) {
        self.digest.offsets.extend_from_slice(offsets);
        self.digest.clock.clear();
    }

    fn times(&mut self, events: Range<u32>, time: Micros) {
        let clock = &mut self.digest.clock;
        if self.digest.offsets.is_empty() {
            if let Some(clock) = clock.last_mut() {
                clock.push(events.end - events.start, time);
            }
            return;
        }
        for offset in &self.digest.offsets[events.start as usize..events.end as usize] {
            let event = EventNo(self.digest.first_event.get() + u64::from(*offset));
            let end = clock.last().map(ClockBlock::end_event);
            if end.is_none_or(|end| end < event) {
                clock.push(ClockBlock::new(event));
            }
            // What is said again of the same event has the same time.
            if let Some(clock) = clock.last_mut().filter(|clock| clock.end_event() == event) {
                clock.push(1, time);
            }
        }
    }

    fn thread(&mut self, events: Range<u32>, thread: ThreadIx) {
        let process = self.catalog.process_of(thread).unwrap_or(NOBODY);
        self.thread = thread;
        if self.digest.runs.is_empty() || process != self.process {
            self.end_run();
            self.digest.runs.push(Run {
                from: events.start,
                process,
            });
        }
        self.process = process;
        let homes = &mut self.work.homes;
        let known = homes.iter().take(TAG_CROWD as usize).position(|&home| home == process);
        self.home = match known {
            Some(home) => home as u32,
            None if homes.len() < TAG_CROWD as usize => {
                homes.push(process);
                homes.len() as u32 - 1
            }
            None => TAG_CROWD,
        };
        self.digest.threads.push((self.digest.rows.len() as u32, thread));
        if process == NOBODY {
            self.digest.unknown_threads += u64::from(events.end - events.start);
        }
    }

    #[inline]
    fn birth(&mut self, birth: &Birth) -> u32 {
        let &Birth {
            index,
            op,
            address,
            size: Bytes(size),
            freed,
            ..
        } = birth;
        let number = self.digest.rows.len() as u32;
        let kind = if birth.kind == TypeIx::UNKNOWN {
            birth.kind
        } else {
            self.kind(birth.kind)
        };
        self.digest.has_kinds |= kind != TypeIx::UNKNOWN;
        self.digest.bytes += u128::from(size);
        self.digest.rows.push(Row {
            event: index,
            death: NO_BIRTH,
            address,
            size,
            stack: self.stacks.resolve(birth.stack).0,
            kind: kind.get(),
        });
        let flags = if op == OpCode::Alloc {
            Flags::default()
        } else {
            Flags::REALLOC
        };
        self.digest.marks.push(Marks::new(birth.api, flags).0);
        self.digest.is_huge |= size > HUGE;
        // Sums of what is huge are not used.
        self.level = self.level.wrapping_add(size as i64);
        self.digest.highest = self.digest.highest.max(self.level);
        // Nothing lives at an address where something died in this block of events, if nothing was born there since.
        let freed = freed.map(Tag);
        let is_quiet = self.work.born.replace(address, index, freed.map_or(0, Tag::number));
        let is_alive = false;
        if op == OpCode::Resize {
            match self.resized.take() {
                Some(old) => self.digest.resized.push((number, old)),
                None => self.tell(index, address, size, Fate::Resized { number, is_alive }),
            }
            return self.tag(number);
        }
        if op == OpCode::MoveIn {
            self.digest.moves.push((self.thread, Move::Into(number)));
        }
        let is_known = is_quiet && freed.is_some_and(|freed| freed.is_of(self.home));
        if !is_known {
            self.tell(index, address, size, Fate::Born { number, is_alive });
        }
        self.tag(number)
    }

    #[inline]
    fn death(&mut self, index: u32, op: OpCode, address: Address, birth: Option<u32>) -> u32 {
        let own = self.own(birth);
        self.resized = own;
        if let Some(number) = own {
            let row = &mut self.digest.rows[number as usize];
            row.death = index;
            self.level = self.level.wrapping_sub(row.size as i64);
            self.digest.frees += 1;
            if op == OpCode::MoveOut {
                self.digest.moves.push((self.thread, Move::OutOf(number)));
            }
            return self.tag(index);
        }
        match op {
            OpCode::MoveOut => {
                let event = self.digest.number(index);
                self.digest.moves.push((self.thread, Move::Out(event)));
                self.tell(index, address, 0, Fate::MovedOut);
            }
            // Its birth tells of both.
            OpCode::Resize => {}
            _ => self.tell(index, address, 0, Fate::Freed),
        }
        self.tag(index)
    }

    fn typed(&mut self, index: u32, address: Address, birth: Option<u32>, kind: TypeIx) {
        let kind = self.kind(kind);
        match self.own(birth) {
            Some(number) => {
                self.digest.has_kinds |= kind != TypeIx::UNKNOWN;
                self.digest.rows[number as usize].kind = kind.get();
            }
            None => self.tell(index, address, 0, Fate::Typed(kind)),
        }
    }

    fn mapping(&mut self, event: &MappingEvent) {
        let process = Some(self.process).filter(|&process| process != NOBODY);
        let number = self.digest.number(event.index);
        let change = mapping::change(event, number, self.thread, process, self.stacks);
        self.digest.mappings.extend(change);
    }
}
