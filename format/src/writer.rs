//! Writing a tape: bytes are appended to the caller's buffer, block by block.

use crate::block::{tape_id, BlockKind, RawHeader, MAX_BLOCK_EVENTS, MAX_RAW_LENGTH, MAX_RECORDS_LENGTH, VERSION};
use crate::event::Event;
use crate::events::Encoder;
use crate::id::{EventNo, FrameId, Micros, ProcessIx, StackId, ThreadIx};
use crate::payload::Compressor;
use crate::record::{End, Frame, Header, Placed, Record};
use crate::stacks::StackTable;

/// What a writer costs and how large its blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// zstd's level.
    pub level: i32,
    /// Events per block, 1 to [`MAX_BLOCK_EVENTS`].
    pub block_events: u32,
    /// Nodes of the stack trie per generation, after which [`Writer::stacks_full`] says so.
    pub max_stacks: u32,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            level: 1,
            block_events: 65_536,
            max_stacks: 400_000,
        }
    }
}

/// Writes a tape.
///
/// Every call that takes `out` may append whole blocks to it; the bytes appended over all calls, in order, are the tape.
/// It is readable up to the last whole block at any time.
pub struct Writer {
    options: WriterOptions,
    tape: u64,
    sequence: u64,
    generation: u32,
    next_event: EventNo,
    weight: u64,
    last_time: Micros,
    stacks: StackTable,
    /// Serialized records that wait for their block.
    records: Vec<u8>,
    record_count: u32,
    record_times: Option<(Micros, Micros)>,
    /// The process of each thread, as the records told.
    processes: Vec<ProcessIx>,
    events: Encoder,
    compressor: Compressor,
}

impl Writer {
    /// Starts a tape: appends the block of the header, twice, so that damage to one of them costs nothing.
    pub fn new(header: &Header, options: WriterOptions, out: &mut Vec<u8>) -> Writer {
        let raw = postcard::to_allocvec(header).expect("a header serializes into memory");
        let mut writer = Writer {
            options: WriterOptions {
                block_events: options.block_events.clamp(1, MAX_BLOCK_EVENTS),
                ..options
            },
            tape: tape_id(&raw),
            sequence: 0,
            generation: 0,
            next_event: EventNo(0),
            weight: 0,
            last_time: Micros(0),
            stacks: StackTable::new(),
            records: Vec::new(),
            record_count: 0,
            record_times: None,
            processes: Vec::new(),
            events: Encoder::default(),
            compressor: Compressor::new(options.level),
        };
        for _ in 0..2 {
            writer.block(BlockKind::Header, &raw, 0, (Micros(0), Micros(0)), out);
        }
        writer
    }

    /// Adds an event; seals the block when it is full. Time that goes backwards is taken as standing still.
    /// The stack must be of the generation in force.
    #[inline]
    pub fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        self.last_time = self.last_time.max(event.time);
        let event = Event {
            time: self.last_time,
            ..*event
        };
        let process = self
            .processes
            .get(event.thread.get() as usize)
            .copied()
            .unwrap_or_default();
        self.events.event(&event, process);
        self.weight += event.op.weight();
        if self.events.events() >= self.options.block_events || self.events.raw().len() > MAX_RAW_LENGTH as usize - 1024
        {
            self.flush(out);
        }
    }

    /// Adds a record at this place in the order of events. It reaches the tape with the next sealed block.
    pub fn record(&mut self, time: Micros, record: Record) {
        if let Record::Thread(thread) = &record {
            self.processes.push(thread.process);
        }
        let placed = Placed {
            at: self.next_event(),
            time,
            record,
        };
        let bytes = postcard::to_allocvec(&placed).expect("a record serializes into memory");
        self.records.extend_from_slice(&bytes);
        self.record_count += 1;
        let (first, last) = self.record_times.unwrap_or((time, time));
        self.record_times = Some((first.min(time), last.max(time)));
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

    /// Whether the generation has reached its limit, so that [`Writer::new_generation`] is due.
    #[inline]
    pub fn stacks_full(&self) -> bool {
        self.stacks.stacks() >= self.options.max_stacks || self.stacks.frames() >= self.options.max_stacks
    }

    /// Seals what is pending and starts a new generation: all ids of frames and stacks start again.
    pub fn new_generation(&mut self, out: &mut Vec<u8>) {
        self.flush(out);
        self.stacks.clear();
        self.generation += 1;
    }

    /// The generation in force.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Seals what is pending, so that the tape is readable up to here.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if self.stacks.has_unwritten() {
            let time = self.last_time;
            let new = self.stacks.take_unwritten(self.generation);
            let raw = postcard::to_allocvec(&new).expect("stacks serialize into memory");
            self.block(BlockKind::Stacks, &raw, 1, (time, time), out);
        }
        if let Some(times) = self.record_times.take() {
            let raw = std::mem::take(&mut self.records);
            let count = std::mem::take(&mut self.record_count);
            debug_assert!(raw.len() <= MAX_RECORDS_LENGTH as usize);
            self.block(BlockKind::Records, &raw, count, times, out);
        }
        if self.events.events() > 0 {
            self.events_block(out);
        }
    }

    /// Ends the tape.
    pub fn finish(mut self, end: &End, out: &mut Vec<u8>) {
        self.flush(out);
        let raw = postcard::to_allocvec(end).expect("totals serialize into memory");
        let time = self.last_time;
        self.block(BlockKind::End, &raw, 0, (time, time), out);
    }

    /// The number that the next event gets.
    pub fn next_event(&self) -> EventNo {
        EventNo(self.next_event.get() + u64::from(self.events.events()))
    }

    /// What the events so far count as, by [`crate::Op::weight`].
    pub fn weight(&self) -> u64 {
        self.weight
    }

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
            first_event: self.next_event.get(),
            first_time: 0,
            last_time: 0,
            events: 0,
            weight: 0,
            records: 0,
            generation: self.generation,
            frames: self.stacks.frames(),
            stacks: self.stacks.stacks(),
            reserved: 0,
        }
    }

    fn block(&mut self, kind: BlockKind, raw: &[u8], records: u32, times: (Micros, Micros), out: &mut Vec<u8>) {
        let header = RawHeader {
            records,
            first_time: times.0.get(),
            last_time: times.1.get(),
            ..self.header(kind)
        };
        append(&mut self.compressor, header, raw, out);
        self.sequence += 1;
    }

    fn events_block(&mut self, out: &mut Vec<u8>) {
        let (first, last) = self.events.times();
        let events = self.events.events();
        let header = RawHeader {
            events,
            weight: self.events.weight(),
            first_time: first.get(),
            last_time: last.get(),
            ..self.header(BlockKind::Events)
        };
        append(&mut self.compressor, header, self.events.raw(), out);
        self.sequence += 1;
        self.next_event = EventNo(self.next_event.get() + u64::from(events));
        self.events.clear();
    }
}

/// Appends a block: the header is completed by what only the compressed payload tells.
fn append(compressor: &mut Compressor, header: RawHeader, raw: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; crate::block::HEADER_LENGTH]);
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
