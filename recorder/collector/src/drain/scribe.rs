//! Writes entries to the tape, in the order in which it is given them.

use super::stacks::{Base, Frames};
use super::stream::{Overwritten, Stream};
use crate::clock::Clock;
use crate::host::{code, linux::arguments, FoundModule, Host, Identity, ProcessFacts};
use crate::modules::{Modules, Place};
use crate::processes::{Ancestry, ImageId, Images};
use crate::python;
use heaptape_format::names::NamedCode;
use heaptape_format::record::{Code, Loss, LossCause, Marker, MemorySample, Process, ProcessEnd, Thread};
use heaptape_format::{
    Address, AllocApi, Bytes, Event, Frame, MapApi, Micros, Naming, Op, ProcessIx, Record, StackId, ThreadIx, Writer,
};
use heaptape_shm::entry::python::{FRAME, TYPE_SHIFT};
use heaptape_shm::entry::{api, flag, kind, note};
use std::collections::HashMap;
use std::rc::Rc;

/// The maps of a process are read again for an address in no module at most this often.
const MAPS_INTERVAL: Micros = Micros(1_000_000);

/// Whether an entry was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The next entry is due.
    Whole,
    /// The other half of a moving `realloc` is due.
    Half,
}

/// The writing half of the collector.
pub struct Scribe<H> {
    /// The system.
    pub host: H,
    /// The tape.
    pub writer: Writer,
    /// Blocks that wait to be written to the file.
    pub out: Vec<u8>,
    /// Stamps to times.
    pub clock: Clock,
    /// All processes.
    pub images: Images,
    /// Events lost, as far as they can be counted.
    pub lost: u64,
    /// Innermost frames of a stack that are written.
    pub depth: usize,
    /// Nodes of the generation in force that an earlier one had, too.
    retold: usize,
    /// Frames of the deepest stack so far.
    deepest: usize,
    modules: Modules,
    frames: Frames,
    python: python::Known,
    threads: u32,
    /// Threads by process and thread id, for the slots of handlers that interrupted the recorder.
    by_tid: HashMap<(ImageId, u32), ThreadIx>,
    /// Stamp of the last event written.
    last: u64,
    /// Events that came too late, not yet told.
    late: u64,
    /// A fork is under way, by its stamp: what comes now in the order is no more in the child's heap.
    pub fork_begun: Option<u64>,
}

impl<H: Host> Scribe<H> {
    /// A scribe at the beginning of a tape.
    pub fn new(host: H, writer: Writer, out: Vec<u8>) -> Scribe<H> {
        let clock = Clock::new(host.now());
        Scribe {
            host,
            writer,
            out,
            clock,
            images: Images::default(),
            lost: 0,
            depth: usize::MAX,
            retold: 0,
            deepest: 0,
            modules: Modules::default(),
            frames: Frames::default(),
            python: python::Known::default(),
            threads: 0,
            by_tid: HashMap::new(),
            last: 0,
            late: 0,
            fork_begun: None,
        }
    }

    /// Writes the item at hand of a stream.
    ///
    /// # Errors
    /// When the words make no sense; nothing was written then.
    #[inline]
    pub fn take(&mut self, stream: &mut Stream) -> Result<Taken, Overwritten> {
        let stamp = stream.next;
        let thread = match stream.thread {
            Some(thread) => thread,
            None => self.begin_thread(stream),
        };
        if stamp < self.last {
            self.late += 1;
        } else {
            self.last = stamp;
        }
        let head = stream.head;
        if head.flags >> TYPE_SHIFT != 0 && !stream.typed {
            self.typed(stream, thread);
        }
        match head.kind {
            kind::FREE => {
                let address = Address(stream.word(2));
                self.write(stamp, thread, Op::Free { address });
                stream.took();
                Ok(Taken::Whole)
            }
            kind::ALLOC => {
                let api = AllocApi::from_u8(head.api).ok_or(Overwritten)?;
                let (address, size) = (Address(stream.word(2)), Bytes(stream.word(3)));
                let stack = self.stack(stream)?;
                let op = Op::Alloc {
                    api,
                    address,
                    size,
                    stack,
                };
                if head.api == api::PY_OBJ {
                    stream.object = address;
                }
                self.write(stamp, thread, op);
                stream.took();
                Ok(Taken::Whole)
            }
            _ => self.take_rare(stream, thread),
        }
    }

    /// Written out at each place, so that each has the coding of its own operation.
    #[inline(always)]
    fn write(&mut self, stamp: u64, thread: ThreadIx, op: Op) {
        let time = self.clock.micros(stamp);
        self.writer.event(&Event { time, thread, op }, &mut self.out);
    }

    /// [`Scribe::take`] of what most items are not.
    #[inline(never)]
    fn take_rare(&mut self, stream: &mut Stream, thread: ThreadIx) -> Result<Taken, Overwritten> {
        let stamp = stream.next;
        let head = stream.head;
        let op = match head.kind {
            kind::REALLOC if !stream.moved() => Op::Resize {
                api: AllocApi::from_u8(head.api).ok_or(Overwritten)?,
                address: Address(stream.word(2)),
                size: Bytes(stream.word(3)),
                stack: self.stack(stream)?,
            },
            kind::REALLOC if !stream.half => Op::MoveOut {
                address: Address(stream.word(4)),
            },
            kind::REALLOC => Op::MoveIn {
                api: AllocApi::from_u8(head.api).ok_or(Overwritten)?,
                address: Address(stream.word(2)),
                size: Bytes(stream.word(3)),
                stack: self.stack(stream)?,
            },
            kind::MAP => Op::Map {
                api: MapApi::from_u8(head.api).ok_or(Overwritten)?,
                address: Address(stream.word(2)),
                length: Bytes(stream.word(3)),
                stack: self.stack(stream)?,
            },
            kind::UNMAP => Op::Unmap {
                address: Address(stream.word(2)),
                length: Bytes(stream.word(3)),
            },
            kind::REMAP => Op::Remap {
                old_address: Address(stream.word(4)),
                old_length: Bytes(stream.word(5)),
                address: Address(stream.word(2)),
                length: Bytes(stream.word(3)),
                stack: self.stack(stream)?,
            },
            kind::BRK => Op::Brk {
                old_end: Address(stream.word(3)),
                new_end: Address(stream.word(2)),
                stack: self.stack(stream)?,
            },
            kind::TYPED => Op::Typed {
                address: Address(stream.word(2)),
                kind: stream.numbers.borrow().kind(stream.word(3) as u32),
            },
            kind::STACK => {
                self.pop_and_push(stream)?;
                stream.took();
                return Ok(Taken::Whole);
            }
            _ => {
                self.note(stream, thread);
                stream.took();
                return Ok(Taken::Whole);
            }
        };
        if head.api == api::PY_OBJ {
            stream.object = Address(stream.word(2));
        }
        self.write(stamp, thread, op);
        if matches!(op, Op::MoveOut { .. }) {
            stream.took_half();
            return Ok(Taken::Half);
        }
        stream.took();
        Ok(Taken::Whole)
    }

    /// The entry at hand says what has become of the thread's latest block of Python's object domain, before anything else.
    #[inline]
    fn typed(&mut self, stream: &mut Stream, thread: ThreadIx) {
        stream.typed = true;
        let number = u32::from(stream.head.flags >> TYPE_SHIFT) - 1;
        let kind = stream.numbers.borrow().kind(number);
        let time = self.clock.micros(stream.next);
        let address = stream.object;
        let op = Op::Typed { address, kind };
        self.writer.event(&Event { time, thread, op }, &mut self.out);
    }

    #[inline]
    fn pop_and_push(&mut self, stream: &mut Stream) -> Result<(), Overwritten> {
        let head = stream.head;
        if head.flags & flag::RESET != 0 {
            stream.stack.reset();
            stream.stack.set_truncated(head.flags & flag::TRUNCATED != 0);
        } else {
            if !stream.stack.pop(head.pop as usize) {
                return Err(Overwritten);
            }
            if head.flags & flag::TRUNCATED != 0 {
                stream.stack.set_truncated(true);
            }
        }
        for word in stream.frames() {
            let mut word = word.load(std::sync::atomic::Ordering::Relaxed);
            if word & FRAME != 0 {
                word = self.python_frame(stream, word);
            }
            if !stream.stack.push(word) {
                return Err(Overwritten);
            }
        }
        Ok(())
    }

    /// The word of a Python frame as it means the same in all processes.
    #[inline]
    fn python_frame(&mut self, stream: &Stream, word: u64) -> u64 {
        let (word, fresh) = self.python.frame(&mut stream.numbers.borrow_mut(), word);
        if fresh.is_some() {
            self.record_code(stream, fresh);
        }
        word
    }

    /// The node of the stack that the entry at hand carries.
    #[inline]
    fn stack(&mut self, stream: &mut Stream) -> Result<StackId, Overwritten> {
        self.pop_and_push(stream)?;
        if let Some(node) = stream.stack.node(self.writer.generation(), self.depth) {
            return Ok(node);
        }
        Ok(self.intern(stream))
    }

    /// Frames of the deepest stack so far, if all of a stack is kept; otherwise 0.
    pub fn deepest(&self) -> usize {
        if self.depth == usize::MAX {
            self.deepest
        } else {
            0
        }
    }

    /// Seals what is pending. All stacks are found anew, each when it is next used.
    pub fn begin_generation(&mut self) {
        self.writer.new_generation(&mut self.out);
        self.frames.clear();
        self.retold = 0;
    }

    /// Finds the nodes of the frames that are new.
    fn intern(&mut self, stream: &mut Stream) -> StackId {
        if self.writer.stacks_full(self.retold) {
            self.begin_generation();
        }
        self.deepest = self.deepest.max(stream.stack.depth());
        let Some(mut space) = self.images.get(stream.image).map(|image| image.space.id()) else {
            return StackId::ROOT;
        };
        let generation = self.writer.generation();
        self.retold += stream.stack.retold(generation);
        let (base, unknown) = stream.stack.unknown(generation, self.depth);
        let mut node = match base {
            Base::Node(node) => node,
            Base::Cut => {
                let frame = self.writer.frame(Frame::Truncated);
                self.writer.stack(StackId::ROOT, frame)
            }
            Base::Root => StackId::ROOT,
        };
        for (address, place) in unknown {
            let frame = match self.frames.find(*address, space) {
                Some(frame) => frame,
                None => {
                    let frame = self.frame(stream.image, *address, stream.next);
                    // Looking for the frame may have changed what is known of the address space.
                    space = self.images.get(stream.image).map_or(space, |image| image.space.id());
                    let frame = self.writer.frame(frame);
                    self.frames.insert(*address, space, frame);
                    frame
                }
            };
            node = self.writer.stack(node, frame);
            *place = node;
        }
        stream.stack.all_known();
        node
    }

    #[cold]
    fn frame(&mut self, image: ImageId, address: u64, stamp: u64) -> Frame {
        let raw = Frame::Raw {
            process: ProcessIx(0),
            address: Address(address),
        };
        if let Some((code, line)) = python::place(address) {
            return Frame::Python { code, line };
        }
        let Some(entry) = self.images.get(image) else {
            return raw;
        };
        let process = entry.told.unwrap_or_default();
        let mut place = entry.space.find(address);
        let time = self.clock.micros(stamp);
        let due = entry
            .maps_read
            .is_none_or(|last| time.0 >= last.0.saturating_add(MAPS_INTERVAL.0));
        if place == Place::Nowhere && due {
            let pid = entry.pid;
            // A process that is none of ours by now would answer with its own maps.
            let known = entry
                .identity
                .is_some_and(|identity| self.host.identify(identity.pid) == Some(identity));
            if let Some(entry) = self.images.get_mut(image) {
                entry.maps_read = Some(time);
            }
            if known {
                for found in self.host.modules(pid) {
                    if (found.start..found.end).contains(&address.wrapping_sub(1)) {
                        self.add_module(image, found, time);
                    }
                }
            }
            place = self.images.get(image).map_or(place, |entry| entry.space.find(address));
        }
        match place {
            Place::Module(module, offset) => Frame::Native { module, offset },
            Place::Nowhere => {
                if let Some(entry) = self.images.get_mut(image) {
                    self.modules.note_raw(&mut entry.space);
                    entry.runs_made_code = true;
                }
                Frame::Raw {
                    process,
                    address: Address(address),
                }
            }
        }
    }

    fn add_module(&mut self, image: ImageId, found: FoundModule, time: Micros) {
        let Some(entry) = self.images.get_mut(image) else {
            return;
        };
        let process = entry.told.unwrap_or_default();
        let unwind = found.unwind;
        if let Some((module, record)) = self.modules.add(&mut entry.space, process, found) {
            self.writer.record(time, Record::Module(record));
            if let Some(tables) = unwind {
                self.writer.record(time, Record::Unwind { module, tables });
            }
        }
    }

    /// Tells the tape of an image, after those it came from. Does nothing when that is done.
    pub fn tell_image(&mut self, id: ImageId, stamp: u64) {
        // Ancestors first; a line of untold ancestors is short, and bounded by the number of slots.
        let mut line = vec![id];
        while let Some(image) = line.last().and_then(|id| self.images.get(*id)) {
            match image.ancestry {
                Ancestry::Forked(other) | Ancestry::Replaces(other)
                    if image.told.is_none() && self.images.get(other).is_some_and(|other| other.told.is_none()) =>
                {
                    line.push(other);
                }
                _ => break,
            }
        }
        for id in line.into_iter().rev() {
            self.tell_one(id, stamp);
        }
    }

    fn tell_one(&mut self, id: ImageId, stamp: u64) {
        let Some(image) = self.images.get(id) else { return };
        if image.told.is_some() {
            return;
        }
        let time = self.clock.micros(stamp);
        let (pid, ancestry) = (image.pid, image.ancestry);
        let mut facts = image.facts.clone();
        let mut space = Rc::clone(&image.space);
        let mut numbers = python::Numbers::default();
        match ancestry {
            Ancestry::Forked(parent) => {
                if let Some(parent) = self.images.get(parent) {
                    facts = parent.facts.clone();
                    space = Rc::clone(&parent.space);
                    numbers = parent.numbers.borrow().clone();
                }
            }
            Ancestry::Replaces(old) => self.tell_end(old, ProcessEnd::Replaced, stamp),
            Ancestry::Loaded => {}
        }
        if facts.exe.is_empty() && self.images.get(id).is_some_and(|image| image.identity.is_some()) {
            facts = self.host.facts(pid).unwrap_or_default();
        }
        let origin = self.images.origin(ancestry);
        self.images.tell(id);
        let Some(image) = self.images.get_mut(id) else { return };
        image.facts = facts.clone();
        image.space = space;
        image.numbers.replace(numbers);
        let parent_pid = image.parent_pid;
        self.writer.record(
            time,
            Record::Process(Process {
                pid,
                parent_pid,
                origin,
                exe: facts.exe,
                command: facts.command,
            }),
        );
    }

    /// Tells the tape how an image ended, once.
    pub fn tell_end(&mut self, id: ImageId, end: ProcessEnd, stamp: u64) {
        let time = self.clock.micros(stamp);
        let Some(image) = self.images.get_mut(id) else { return };
        if image.end_told {
            return;
        }
        image.end_told = true;
        // Nobody but its parent is told how a process ended; one that went by `exit` or `_exit` has said so itself.
        let end = match (end, image.exit_status) {
            (ProcessEnd::Gone, Some(status)) => ProcessEnd::Exit(status),
            (end, _) => end,
        };
        // One that was gone before it could be looked at is as good: its id is its own for as long as nobody else writes such a list.
        let unseen = Identity {
            pid: image.pid,
            started: 0,
        };
        let made = (image.runs_made_code && !image.foreign).then(|| image.identity.unwrap_or(unseen));
        if let Some(process) = image.told {
            self.writer.record(time, Record::ProcessEnd { process, end });
            if let Some(identity) = made {
                self.name_made_code(process, identity);
            }
        }
    }

    /// Copies the names of code that a program has made while it ran.
    fn name_made_code(&mut self, process: ProcessIx, identity: Identity) {
        let Some((mut list, length)) = self.host.made_code(identity) else {
            return;
        };
        let (writer, out) = (&mut self.writer, &mut self.out);
        let cut = code::entries(&mut list, length, |start, length, name| {
            let code = NamedCode {
                process,
                start: Address(start),
                length,
                name: name.to_vec(),
            };
            writer.name(&Naming::Code(code), out);
        });
        if cut > 0 {
            writer.name(&Naming::Cut { process, bytes: cut }, out);
        }
    }

    #[cold]
    fn begin_thread(&mut self, stream: &mut Stream) -> ThreadIx {
        if let Some(image) = self.images.get_mut(stream.image).filter(|image| image.told.is_none()) {
            // It stands among the first entries of the thread that attached.
            if let Some(bytes) = stream.note_ahead(note::PROCESS) {
                image.facts = facts_of(&bytes);
            }
        }
        self.tell_image(stream.image, stream.next);
        if let Some(image) = self.images.get(stream.image) {
            stream.numbers = Rc::clone(&image.numbers);
        }
        let key = (stream.image, stream.tid);
        if stream.level > 0 {
            if let Some(thread) = self.by_tid.get(&key) {
                stream.thread = Some(*thread);
                return *thread;
            }
        }
        let thread = ThreadIx(self.threads);
        self.threads += 1;
        let image = self.images.get(stream.image);
        let process = image.and_then(|image| image.told).unwrap_or_default();
        let pid = image.filter(|image| image.identity.is_some()).map(|image| image.pid);
        stream.name = pid
            .and_then(|pid| self.host.thread_name(pid, stream.tid))
            .unwrap_or_default();
        let time = self.clock.micros(stream.next);
        self.writer.record(
            time,
            Record::Thread(Thread {
                process,
                tid: stream.tid,
                name: stream.name.clone(),
            }),
        );
        self.by_tid.insert(key, thread);
        stream.thread = Some(thread);
        thread
    }

    /// Tells the tape that a thread is gone. Only its outermost slot speaks for it.
    pub fn end_thread(&mut self, stream: &Stream, stamp: u64) {
        let Some(thread) = stream.thread.filter(|_| stream.level == 0) else {
            return;
        };
        let key = (stream.image, stream.tid);
        if self.by_tid.get(&key) == Some(&thread) {
            self.by_tid.remove(&key);
        }
        let time = self.clock.micros(stamp);
        self.writer.record(time, Record::ThreadEnd { thread });
    }

    /// Tells the tape a thread's name, if it is another than before.
    pub fn name_thread(&mut self, stream: &mut Stream, name: Vec<u8>, stamp: u64) {
        let Some(thread) = stream.thread else { return };
        if stream.name != name {
            stream.name.clone_from(&name);
            let time = self.clock.micros(stamp);
            self.writer.record(time, Record::ThreadName { thread, name });
        }
    }

    #[cold]
    fn note(&mut self, stream: &mut Stream, thread: ThreadIx) {
        let bytes = stream.note();
        let stamp = stream.next;
        let time = self.clock.micros(stamp);
        let process = self
            .images
            .get(stream.image)
            .and_then(|image| image.told)
            .unwrap_or_default();
        match stream.head.api {
            note::MODULE => {
                if let Some(found) = module_of(&bytes) {
                    self.add_module(stream.image, found, time);
                }
            }
            note::MODULE_GONE => {
                if let (Some(start), Some(end)) = (word_at(&bytes, 0), word_at(&bytes, 8)) {
                    if let Some(image) = self.images.get_mut(stream.image) {
                        self.modules.remove(&mut image.space, start, end);
                    }
                }
            }
            note::THREAD_NAME => self.name_thread(stream, bytes, stamp),
            note::MARKER => {
                let marker = Marker {
                    process,
                    thread: Some(thread),
                    name: bytes,
                };
                self.writer.record(time, Record::Marker(marker));
            }
            note::EXIT => {
                if let Some(image) = self.images.get_mut(stream.image) {
                    image.exit_status = bytes.first_chunk().map(|status| i32::from_le_bytes(*status) & 0xff);
                }
            }
            note::CODE => {
                let fresh = self.python.announce(&mut stream.numbers.borrow_mut(), &bytes);
                self.record_code(stream, fresh);
            }
            note::CODE_LINES => {
                let fresh = self.python.lines(&mut stream.numbers.borrow_mut(), &bytes);
                self.record_code(stream, fresh);
            }
            note::TYPE => {
                let fresh = self.python.name_type(&mut stream.numbers.borrow_mut(), &bytes);
                if let Some(name) = fresh {
                    self.writer.record(time, Record::Type { name });
                }
            }
            note::LIBC => self.writer.record(time, Record::Libc { process, name: bytes }),
            note::RUNTIME => {
                if let Some(runtime) = python::runtime(process, &bytes) {
                    self.writer.record(time, Record::Runtime(runtime));
                }
            }
            note::RESUMED => self.loss(None, 0, LossCause::Paused, stamp),
            note::FORK => self.fork_begun = word_at(&bytes, 0),
            // A process note is used when the image is told; kinds of later versions mean nothing here.
            _ => {}
        }
    }

    /// Tells the tape of a code object that it does not know yet.
    fn record_code(&mut self, stream: &Stream, fresh: Option<Code>) {
        if let Some(mut code) = fresh {
            let told = self.images.get(stream.image).and_then(|image| image.told);
            code.process = told.unwrap_or_default();
            let time = self.clock.micros(stream.next);
            self.writer.record(time, Record::Code(code));
        }
    }

    /// A mark set from outside.
    pub fn mark(&mut self, id: ImageId, name: Vec<u8>, stamp: u64) {
        self.tell_image(id, stamp);
        let Some(process) = self.images.get(id).and_then(|image| image.told) else {
            return;
        };
        let time = self.clock.micros(stamp);
        self.writer.record(
            time,
            Record::Marker(Marker {
                process,
                thread: None,
                name,
            }),
        );
    }

    /// Memory of a process.
    pub fn sample(&mut self, sample: MemorySample, stamp: u64) {
        let time = self.clock.micros(stamp);
        self.writer.record(time, Record::Sample(sample));
    }

    /// Something is missing.
    pub fn loss(&mut self, thread: Option<ThreadIx>, events: u64, cause: LossCause, stamp: u64) {
        let time = self.clock.micros(stamp);
        // What came late is in the tape, only out of its place.
        if cause != LossCause::Late {
            self.lost += events;
        }
        self.writer.record(time, Record::Loss(Loss { thread, events, cause }));
    }

    /// Tells the tape of events that were written out of their order since the last call.
    pub fn tell_late(&mut self, stamp: u64) {
        let late = std::mem::take(&mut self.late);
        if late > 0 {
            self.loss(None, late, LossCause::Late, stamp);
        }
    }

    /// Seals what is pending, so that the tape is readable up to here.
    pub fn flush(&mut self) {
        self.writer.flush(&mut self.out);
    }

    /// An address space without modules.
    pub fn empty_space(&mut self) -> Rc<crate::modules::Space> {
        self.modules.empty_space()
    }
}

fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn module_of(bytes: &[u8]) -> Option<FoundModule> {
    let half_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let path_at = (half_at(28)? as usize).checked_add(32)?;
    Some(FoundModule {
        bias: word_at(bytes, 0)?,
        start: word_at(bytes, 8)?,
        end: word_at(bytes, 16)?,
        unwind: Some(half_at(24)? != 0),
        build_id: bytes.get(32..path_at)?.to_vec(),
        path: bytes.get(path_at..)?.to_vec(),
    })
}

fn facts_of(bytes: &[u8]) -> ProcessFacts {
    let mut parts = arguments(bytes);
    if parts.is_empty() {
        return ProcessFacts::default();
    }
    let exe = parts.remove(0);
    ProcessFacts { exe, command: parts }
}
