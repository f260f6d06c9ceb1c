//! Stand-ins for tests: a system with made-up processes, and threads that write into a segment as the preload library does.

pub mod tape;

use crate::clock::Anchor;
use crate::drain::{Drain, Scribe};
use crate::host::{FoundModule, Host, Identity, Memory, ProcessFacts, Shares};
use crate::sys::shared;
use heaptape_format::record::{End, Header};
use heaptape_format::{Bytes, Writer, WriterOptions};
use heaptape_shm::entry::{kind, Head};
use heaptape_shm::ring::{Full, Producer};
use heaptape_shm::slot::{BUSY, IDLE};
use heaptape_shm::{Geometry, Segment, NONE};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A system in which a stamp is a nanosecond and everybody lives until said otherwise.
#[derive(Clone, Default)]
pub struct FakeHost(pub Rc<FakeState>);

/// What a [`FakeHost`] knows.
#[derive(Default)]
pub struct FakeState {
    /// The clock.
    pub now: Cell<u64>,
    /// Processes that are gone.
    pub dead: RefCell<HashSet<u32>>,
    /// Threads that are gone.
    pub dead_threads: RefCell<HashSet<u32>>,
    /// What `/proc/PID/maps` shows, for every process.
    pub modules: RefCell<Vec<FoundModule>>,
    /// Who has the segment mapped.
    pub holders: RefCell<Vec<u32>>,
    /// Lists of code that programs have made, by process id.
    pub made_code: RefCell<HashMap<u32, Vec<u8>>>,
    /// Processes that have gone on to a program that does not record.
    pub left: RefCell<HashSet<u32>>,
    /// Questions that a system may be unable to answer, asked so far.
    pub questions: Cell<u32>,
    /// The one (from 1) that it does not answer; 0 for none.
    pub unanswered: Cell<u32>,
    /// Barriers asked for.
    pub barriers: Cell<u32>,
    /// Threads that could have been woken.
    pub wakes: Cell<u32>,
}

impl FakeHost {
    fn answer<T>(&self, answer: T) -> Option<T> {
        let number = self.0.questions.get() + 1;
        self.0.questions.set(number);
        (number != self.0.unanswered.get()).then_some(answer)
    }
}

impl Host for FakeHost {
    fn now(&self) -> Anchor {
        let now = self.0.now.get();
        Anchor { stamp: now, nanos: now }
    }
    fn identify(&self, pid: u32) -> Option<Identity> {
        let lives = self.answer(!self.0.dead.borrow().contains(&pid))?;
        lives.then_some(Identity { pid, started: 1 })
    }
    fn alive(&self, process: Identity) -> bool {
        !self.0.dead.borrow().contains(&process.pid)
    }
    fn thread_alive(&self, _pid: u32, tid: u32) -> bool {
        !self.0.dead_threads.borrow().contains(&tid)
    }
    fn facts(&self, pid: u32) -> Option<ProcessFacts> {
        self.answer(ProcessFacts {
            exe: format!("/bin/p{pid}").into_bytes(),
            command: vec![b"p".to_vec()],
        })
    }
    fn has_left(&self, process: Identity, _exe: &[u8]) -> bool {
        self.answer(self.0.left.borrow().contains(&process.pid))
            .unwrap_or_default()
    }
    fn thread_name(&self, _pid: u32, tid: u32) -> Option<Vec<u8>> {
        self.answer(format!("t{tid}").into_bytes())
    }
    fn modules(&self, _pid: u32) -> Vec<FoundModule> {
        self.answer(self.0.modules.borrow().clone()).unwrap_or_default()
    }
    fn made_code(&self, process: Identity) -> Option<(Box<dyn std::io::Read>, u64)> {
        let lists = self.0.made_code.borrow();
        let list = lists.get(&process.pid)?.clone();
        let length = list.len() as u64;
        Some((Box::new(std::io::Cursor::new(list)), length))
    }
    fn memory(&self, _pid: u32) -> Option<Memory> {
        self.answer(Memory {
            rss: Bytes(4096),
            cgroup: Bytes(0),
        })
    }
    fn shares(&self, _pid: u32) -> Option<Shares> {
        None
    }
    fn starting(&self, _collector: u32) -> Vec<u32> {
        Vec::new()
    }
    fn holders(&self) -> Vec<u32> {
        self.answer(self.0.holders.borrow().clone()).unwrap_or_default()
    }
    fn barrier(&self) {
        self.0.barriers.set(self.0.barriers.get() + 1);
    }
    fn wake(&self, _word: &AtomicU32, most: u32) {
        self.0.wakes.set(self.0.wakes.get() + most);
    }
}

/// A fresh segment.
pub fn segment(processes: u32, threads: u32, chunks: u32) -> Segment {
    let geometry = Geometry {
        processes,
        threads,
        chunks,
        chunk_bytes: 1024,
    };
    shared::create(geometry).unwrap().1
}

/// A drain over a segment, with the clock at 1 ms.
pub fn drain(segment: Segment, options: WriterOptions) -> (Drain<FakeHost>, FakeHost) {
    let host = FakeHost::default();
    host.0.now.set(1_000_000);
    let mut out = Vec::new();
    let writer = Writer::new(&Header::default(), options, &mut out);
    (Drain::new(segment, Scribe::new(host.clone(), writer, out)), host)
}

/// Ends the tape of a drain, and reads it.
pub fn finish(mut drain: Drain<FakeHost>) -> tape::Tape {
    drain.drain_all();
    drain.tell_losses();
    let mut out = std::mem::take(&mut drain.scribe.out);
    let end = End {
        events: drain.scribe.writer.weight(),
        lost: drain.scribe.lost,
        ..End::default()
    };
    drain.scribe.writer.finish(&end, &mut out);
    tape::Tape::read(&out)
}

/// Claims a process slot.
pub fn process(segment: &Segment, pid: u32, forked_from: Option<u32>, stamp: u64) -> u32 {
    segment
        .claim_process(pid, 99, forked_from.unwrap_or(NONE), stamp)
        .unwrap()
}

/// A thread of a made-up process.
pub struct Player {
    segment: Segment,
    /// Its slot.
    pub slot: u32,
    producer: Producer,
}

impl Player {
    /// Claims a thread slot.
    pub fn new(segment: &Segment, process: u32, tid: u32) -> Player {
        Player {
            segment: *segment,
            slot: segment.claim_thread(process, tid, 0).unwrap(),
            producer: Producer::new(),
        }
    }

    /// Sets what the thread says it is doing.
    pub fn inflight(&self, value: u64) {
        self.segment.threads()[self.slot as usize]
            .inflight
            .store(value, Ordering::SeqCst);
    }

    /// Writes raw words as one entry.
    pub fn words(&mut self, words: &[u64]) -> Result<(), Full> {
        let slot = &self.segment.threads()[self.slot as usize];
        slot.inflight.store(BUSY, Ordering::SeqCst);
        let result = self
            .producer
            .reserve(&self.segment, slot, self.slot, words.len())
            .map(|room| {
                for (place, word) in room.iter().zip(words) {
                    place.store(*word, Ordering::Relaxed);
                }
                self.producer.publish(words.len());
            });
        slot.inflight.store(IDLE, Ordering::SeqCst);
        result
    }

    /// Writes an entry with frames.
    pub fn entry(&mut self, kind: u8, flags: u16, stamp: u64, fields: &[u64], pop: u16, frames: &[u64]) {
        let head = Head {
            kind,
            api: 0,
            push: frames.len() as u16,
            pop,
            flags,
        };
        let words = [&[head.pack(), stamp], fields, frames].concat();
        self.words(&words).unwrap();
    }

    /// An allocation without a stack.
    pub fn alloc(&mut self, stamp: u64, address: u64, size: u64) {
        self.entry(kind::ALLOC, 0, stamp, &[address, size], 0, &[]);
    }

    /// A free.
    pub fn free(&mut self, stamp: u64, address: u64) {
        self.entry(kind::FREE, 0, stamp, &[address], 0, &[]);
    }

    /// A note.
    pub fn note(&mut self, note: u8, stamp: u64, bytes: &[u8]) {
        let head = Head {
            kind: kind::NOTE,
            api: note,
            push: 0,
            pop: 0,
            flags: 0,
        };
        let mut words = vec![head.pack(), stamp, bytes.len() as u64];
        words.extend(bytes.chunks(8).map(|part| {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            u64::from_le_bytes(word)
        }));
        self.words(&words).unwrap();
    }

    /// The note of a module.
    pub fn module(&mut self, stamp: u64, path: &str, bias: u64, end: u64) {
        let mut bytes = Vec::new();
        for word in [bias, bias, end] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for half in [1u32, 3] {
            bytes.extend_from_slice(&half.to_le_bytes());
        }
        bytes.extend_from_slice(b"id!");
        bytes.extend_from_slice(path.as_bytes());
        self.note(heaptape_shm::entry::note::MODULE, stamp, &bytes);
    }
}
