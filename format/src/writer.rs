//! Writing a tape: bytes are appended to the caller's buffer, block by block.

use crate::block::{
    tape_id, BlockKind, RawHeader, FLAG_OPTIONAL, HEADER_LENGTH, MAX_BLOCK_EVENTS, MAX_RECORDS_LENGTH, VERSION,
};
use crate::bound;
use crate::bytes::put_varint;
use crate::event::{Event, Op};
use crate::events::Encoder;
use crate::id::{EventNo, FrameId, Micros, ProcessIx, StackId};
use crate::names::{NamesBatch, Naming};
use crate::part::Part;
use crate::payload::Compressor;
use crate::record::{End, Folded, Frame, Header, Placed, Record};
use crate::stacks::StackTable;

/// Frames and stacks that go into one block, so that its payload stays within the limit whatever they are.
const STACKS_PER_BLOCK: usize = 1 << 18;

/// What a writer costs and how large its blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// zstd's level.
    pub level: i32,
    /// Events per block, 1 to [`crate::block::MAX_BLOCK_EVENTS`]. The writer takes about 50 bytes of memory for each, 12 more for a Python
    /// object, and 1 MiB besides.
    pub block_events: u32,
    /// Nodes of the stack trie per generation, after which [`Writer::stacks_full`] says so, if not more than half of them had to be told again. The writer takes up to
    /// 32 bytes of memory for each.
    pub max_stacks: u32,
}

impl Default for WriterOptions {
    /// For most devices: no more than 6 MiB without the stacks, 16 MiB with them.
    fn default() -> Self {
        WriterOptions {
            level: 1,
            block_events: 65_536,
            max_stacks: 260_000,
        }
    }
}

impl WriterOptions {
    /// For devices with little memory: no more than 2 MiB with the stacks. The tape grows by a tenth or two.
    pub fn tiny() -> Self {
        WriterOptions {
            level: 1,
            block_events: 8_192,
            max_stacks: 16_000,
        }
    }
}

/// Writes a tape.
///
/// Every call that takes `out` may append whole blocks to it; the bytes appended over all calls, in order, are the tape.
/// It is readable up to the last whole block at any time.
pub struct Writer {
    max_stacks: u32,
    tape: u64,
    sequence: u64,
    generation: u32,
    /// What to take off the generation in the file.
    generation_base: u32,
    /// Events in sealed blocks.
    sealed: u64,
    weight: u64,
    last_time: Micros,
    stacks: StackTable,
    /// Records that wait for their blocks.
    records: Vec<Batch>,
    /// Names that wait for their block.
    names: NamesBatch,
    /// The process of each thread, as the records told.
    processes: Vec<ProcessIx>,
    events: Encoder,
    compressor: Compressor,
    /// A payload in the making.
    raw: Vec<u8>,
}

/// The records of one block, serialized.
struct Batch {
    raw: Vec<u8>,
    records: u32,
    first_time: Micros,
    last_time: Micros,
}

impl Writer {
    /// Starts a tape: appends the block of the header, twice, so that damage to one of them costs nothing.
    ///
    /// Two tapes of one device must differ in their headers (the start in nanoseconds sees to that): blocks are told apart by it.
    pub fn new(header: &Header, options: WriterOptions, out: &mut Vec<u8>) -> Writer {
        let raw = serialize(&bound::header(header));
        let mut writer = Writer {
            max_stacks: options.max_stacks,
            tape: tape_id(&raw),
            sequence: 0,
            generation: 0,
            generation_base: 0,
            sealed: 0,
            weight: 0,
            last_time: Micros(0),
            stacks: StackTable::new(),
            records: Vec::new(),
            names: NamesBatch::default(),
            processes: Vec::new(),
            events: Encoder::new(options.block_events.clamp(1, MAX_BLOCK_EVENTS)),
            compressor: Compressor::new(options.level),
            raw: Vec::new(),
        };
        for _ in 0..2 {
            let header = writer.header(BlockKind::Header);
            writer.block(header, &raw, out);
        }
        writer
    }

    /// Adds an event; seals the block when it is full. Time that goes backwards is taken as standing still.
    /// The stack must be of the generation in force.
    ///
    /// A [`Op::Typed`] that tells a reader nothing new takes no event number and no byte. A reader takes a new block of
    /// [`crate::AllocApi::PyObj`] for the type that was said last of a block of the same stack in this block of the tape, so whoever
    /// records types says all that it learns, [`TypeIx::UNKNOWN`](crate::TypeIx::UNKNOWN) for a block that turns out to hold no object, and says it
    /// while the block lives.
    ///
    /// Inlined, so that a caller that knows the operation pays for no other.
    #[inline(always)]
    pub fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        let process = self
            .processes
            .get(event.thread.get() as usize)
            .copied()
            .unwrap_or_default();
        if let Op::Typed { address, kind } = event.op {
            if self.events.is_told(address, kind, process) {
                return;
            }
        }
        self.last_time = self.last_time.max(event.time);
        self.events.event(
            &Event {
                time: self.last_time,
                ..*event
            },
            process,
        );
        self.weight += event.op.weight();
        if self.events.is_full() {
            self.flush(out);
        }
    }

    /// Adds a record at this place in the order of events. It reaches the tape with the next sealed block.
    ///
    /// Stacks are not given this way: the writer makes their records. Texts over 64 KiB and command lines over 256 KiB are cut, visibly.
    pub fn record(&mut self, time: Micros, record: Record) {
        let at = self.next_event();
        self.placed(Placed { at, time, record });
    }

    /// Adds a record that has its place already.
    pub(crate) fn placed(&mut self, placed: Placed) {
        let Placed { at, time, record } = placed;
        debug_assert!(!matches!(record, Record::Stacks(_)), "the writer itself records stacks");
        if let Record::Thread(thread) = &record {
            self.processes.push(thread.process);
        }
        let record = bound::record(record);
        let bytes = serialize(&Placed { at, time, record });
        match self.records.last_mut() {
            Some(batch) if batch.raw.len() + bytes.len() <= MAX_RECORDS_LENGTH as usize => {
                batch.raw.extend_from_slice(&bytes);
                batch.records += 1;
                batch.first_time = batch.first_time.min(time);
                batch.last_time = batch.last_time.max(time);
            }
            _ => self.records.push(Batch {
                raw: bytes,
                records: 1,
                first_time: time,
                last_time: time,
            }),
        }
    }

    /// Adds a name. It reaches the tape when a block of names is full, or with [`Writer::flush`].
    pub fn name(&mut self, naming: &Naming, out: &mut Vec<u8>) {
        if let Some(full) = self.names.add(naming) {
            self.names_block(&full, out);
        }
    }

    fn names_block(&mut self, batch: &NamesBatch, out: &mut Vec<u8>) {
        let header = batch.header(self.header(BlockKind::Names));
        self.block(header, batch.raw(), out);
    }

    /// The id of a frame within the generation.
    #[inline]
    pub fn frame(&mut self, frame: Frame) -> FrameId {
        self.stacks.frame(frame)
    }

    /// The id of the stack that adds `frame` inside `parent`, both of the generation in force.
    #[inline]
    pub fn stack(&mut self, parent: StackId, frame: FrameId) -> StackId {
        self.stacks.stack(parent, frame)
    }

    /// All frames of the generation in force.
    pub(crate) fn frames(&self) -> &[Frame] {
        self.stacks.all_frames()
    }

    /// Whether the generation has reached its limit, so that [`Writer::new_generation`] is due. `retold`: its nodes that had to be told again since they were
    /// those of the generation before; there is room for as many more, or very deep stacks would be all that is ever told.
    #[inline]
    pub fn stacks_full(&self, retold: usize) -> bool {
        let limit = (self.max_stacks as usize).max(2 * retold);
        self.stacks.stacks() as usize >= limit || self.stacks.frames() as usize >= limit
    }

    /// Seals what is pending and starts a new generation: all ids of frames and stacks start again.
    pub fn new_generation(&mut self, out: &mut Vec<u8>) {
        self.flush(out);
        self.stacks.clear();
        self.generation += 1;
    }

    /// From here on the blocks go to another file, in which the next one has this sequence number, and the generation in force this number.
    /// Nothing must be pending: right after [`Writer::flush`].
    pub fn rebase(&mut self, sequence: u64, generation: u32) {
        self.sequence = sequence;
        self.generation_base = self.generation.saturating_sub(generation);
    }

    /// The sequence number of the next block in the file.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The generation in force as the file has it.
    pub fn file_generation(&self) -> u32 {
        self.generation - self.generation_base
    }

    /// Adds an event of a keyframe, whose block somebody else seals.
    pub(crate) fn keep(&mut self, event: &Event) {
        let process = self.processes.get(event.thread.get() as usize).copied();
        let process = process.unwrap_or_default();
        if let Op::Typed { address, kind } = event.op {
            if self.events.is_told(address, kind, process) {
                return;
            }
        }
        self.last_time = event.time;
        self.events.event(event, process);
    }

    /// Events that wait to be sealed.
    pub(crate) fn kept(&self) -> u32 {
        self.events.events()
    }

    /// Whether a keyframe block must be sealed before its next event.
    pub(crate) fn is_full(&self) -> bool {
        self.events.is_full()
    }

    /// Appends a keyframe block of the events that were kept, which stands for `span` events of this weight. `numbers` is its column of numbers.
    pub(crate) fn keyframe(&mut self, numbers: &[u8], span: u32, weight: u32, out: &mut Vec<u8>) {
        let events = self.events.events();
        let mut raw = std::mem::take(&mut self.raw);
        raw.clear();
        let mut header = RawHeader {
            events,
            weight,
            records: span,
            ..self.header(BlockKind::Keyframe)
        };
        if events > 0 {
            let (first_time, last_time) = self.events.times();
            header.first_time = first_time.get();
            header.last_time = last_time.get();
            put_varint(&mut raw, numbers.len() as u64);
            raw.extend_from_slice(numbers);
            raw.extend_from_slice(self.events.seal());
        }
        self.block(header, &raw, out);
        self.raw = raw;
        self.sealed += u64::from(span);
        self.weight += u64::from(weight);
        self.events.clear();
    }

    /// Says which file of its recording this is.
    pub(crate) fn part(&mut self, part: &Part, out: &mut Vec<u8>) {
        let header = RawHeader {
            flags: FLAG_OPTIONAL,
            ..self.header(BlockKind::Part)
        };
        self.block(header, &serialize(part), out);
    }

    /// Ends the keyframe: everything up to this time is folded.
    pub(crate) fn folded(&mut self, folded: &Folded, time: Micros, out: &mut Vec<u8>) {
        self.last_time = self.last_time.max(time);
        let header = self.header(BlockKind::Folded);
        self.block(header, &serialize(folded), out);
    }

    /// The generation in force.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Seals what is pending, so that the tape is readable up to here.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        while self.stacks.has_unwritten() {
            let mut raw = std::mem::take(&mut self.raw);
            raw.clear();
            self.stacks.encode_unwritten(STACKS_PER_BLOCK, &mut raw);
            let header = self.header(BlockKind::Stacks);
            self.block(header, &raw, out);
            self.raw = raw;
        }
        for batch in std::mem::take(&mut self.records) {
            let header = RawHeader {
                records: batch.records,
                first_time: batch.first_time.get(),
                last_time: batch.last_time.get(),
                ..self.header(BlockKind::Records)
            };
            self.block(header, &batch.raw, out);
        }
        if let Some(names) = self.names.take() {
            self.names_block(&names, out);
        }
        let events = self.events.events();
        if events > 0 {
            let (first_time, last_time) = self.events.times();
            let header = RawHeader {
                events,
                weight: self.events.weight(),
                first_time: first_time.get(),
                last_time: last_time.get(),
                ..self.header(BlockKind::Events)
            };
            append(&mut self.compressor, header, self.events.seal(), out);
            self.sequence += 1;
            self.sealed += u64::from(events);
            self.events.clear();
        }
    }

    /// Ends the tape.
    pub fn finish(mut self, end: &End, out: &mut Vec<u8>) {
        self.flush(out);
        self.close(end, out);
    }

    /// Ends a file of a recording that goes on in another one. Nothing must be pending: right after [`Writer::flush`], and before [`Writer::rebase`].
    pub fn close(&mut self, end: &End, out: &mut Vec<u8>) {
        let header = self.header(BlockKind::End);
        append(&mut self.compressor, header, &serialize(end), out);
    }

    /// The number that the next event gets.
    pub fn next_event(&self) -> EventNo {
        EventNo(self.sealed + u64::from(self.events.events()))
    }

    /// What the events so far count as, by [`crate::Op::weight`].
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Bytes of memory that the writer holds: events, stacks, compression. Records that wait are not counted.
    pub fn memory(&self) -> usize {
        self.events.memory() + self.stacks.memory() + self.compressor.memory() + self.raw.capacity()
    }

    /// A header at this place of the tape; what depends on the payload is still open.
    fn header(&self, kind: BlockKind) -> RawHeader {
        RawHeader {
            version: VERSION,
            kind: kind.number(),
            flags: 0,
            payload_length: 0,
            raw_length: 0,
            payload_checksum: 0,
            tape: self.tape,
            sequence: self.sequence,
            first_event: self.sealed,
            first_time: self.last_time.get(),
            last_time: self.last_time.get(),
            events: 0,
            weight: 0,
            records: 0,
            generation: self.file_generation(),
            frames: self.stacks.written_frames(),
            stacks: self.stacks.written_stacks(),
            reserved: 0,
        }
    }

    fn block(&mut self, header: RawHeader, raw: &[u8], out: &mut Vec<u8>) {
        append(&mut self.compressor, header, raw, out);
        self.sequence += 1;
    }
}

/// Appends a block: completes the header by what only the compressed payload tells.
pub(crate) fn append(compressor: &mut Compressor, header: RawHeader, raw: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_LENGTH]);
    let payload = out.len();
    compressor.compress(raw, out);
    let header = RawHeader {
        payload_length: (out.len() - payload) as u32,
        raw_length: raw.len() as u32,
        payload_checksum: crc32fast::hash(&out[payload..]),
        ..header
    };
    out[start..payload].copy_from_slice(&header.to_bytes());
}

pub(crate) fn serialize<T: serde::Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain data serializes into memory")
}
