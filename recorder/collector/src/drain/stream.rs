//! The entries of one thread slot, as they come out of its ring.

use super::stacks::Stack;
use crate::processes::ImageId;
use crate::python::Numbers;
use heaptape_format::{Address, ThreadIx};
use heaptape_shm::entry::{fixed_words, kind, Head};
use heaptape_shm::ring::Consumer;
use heaptape_shm::slot::{BUSY, IDLE};
use heaptape_shm::{Segment, ThreadSlot};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

/// No entry is at hand.
pub const NOTHING: u64 = u64::MAX;

/// What stands in a ring is no entry: the program wrote over the shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overwritten;

/// One thread slot being read.
#[derive(Debug)]
pub struct Stream {
    /// Index of the slot.
    pub index: u32,
    /// Image of the thread's process.
    pub image: ImageId,
    /// Thread id, as the process sees it.
    pub tid: u32,
    /// Nesting level of the slot in its thread.
    pub level: u32,
    /// Number on the tape, once told.
    pub thread: Option<ThreadIx>,
    /// The name last told.
    pub name: Vec<u8>,
    /// The thread's stack.
    pub stack: Stack,
    /// What its process's numbers of Python code and types mean.
    pub numbers: Rc<RefCell<Numbers>>,
    /// The block born by the latest entry of Python's object domain.
    pub object: Address,
    /// The entry at hand says the type of that block, and that has been written.
    pub typed: bool,
    /// Its thread or process is gone: what is published is all.
    pub dead: bool,
    /// It is dead, and all of it has been read.
    pub drained: bool,
    /// Its chunk is being taken away; see `heaptape_shm::ring`.
    pub detaching: bool,
    /// Entries were taken since the last sweep.
    pub active: bool,
    /// Entries were taken since its name was last read.
    pub busy: bool,
    /// Rounds in a row in which nothing came.
    pub quiet: u32,
    /// Slot counters at the last look.
    pub lost_full: u64,
    /// Likewise.
    pub lost_nested: u64,
    /// `inflight` at the last look, and when it was first seen so.
    pub inflight: u64,
    /// Stamp of the round since which `inflight` has not changed.
    pub inflight_since: u64,
    consumer: Consumer,
    words: &'static [AtomicU64],
    at: usize,
    /// Words of the entry at hand.
    length: usize,
    /// Head of the entry at hand.
    pub head: Head,
    /// Stamp of the next item; [`NOTHING`] when nothing is at hand.
    pub next: u64,
    /// The freeing half of the entry at hand has been taken.
    pub half: bool,
    /// Stamp of the last item taken.
    last: u64,
    /// Nothing that is yet to come is earlier: as seen when the thread was last idle.
    floor: u64,
}

impl Stream {
    /// A freshly claimed slot.
    pub fn new(index: u32, image: ImageId, tid: u32, level: u32, floor: u64) -> Stream {
        Stream {
            index,
            image,
            tid,
            level,
            thread: None,
            name: Vec::new(),
            stack: Stack::default(),
            numbers: Rc::default(),
            object: Address(0),
            typed: false,
            dead: false,
            drained: false,
            detaching: false,
            active: false,
            busy: false,
            quiet: 0,
            lost_full: 0,
            lost_nested: 0,
            inflight: IDLE,
            inflight_since: floor,
            consumer: Consumer::new(),
            words: &[],
            at: 0,
            length: 0,
            head: Head::unpack(0),
            next: NOTHING,
            half: false,
            last: 0,
            floor,
        }
    }

    /// Looks at what the thread is doing and at what it has published, in this order: what it publishes later is not earlier than the bound returned.
    /// `settled`: nothing that an idle thread begins after this moment is earlier than that stamp. `now` tells how long a state has lasted.
    pub fn look(&mut self, segment: &Segment, slot: &ThreadSlot, now: u64, settled: u64) -> Result<u64, Overwritten> {
        let inflight = slot.inflight.load(Ordering::Acquire);
        if inflight != self.inflight {
            self.inflight = inflight;
            self.inflight_since = now;
        }
        let bound = match inflight {
            _ if self.dead => NOTHING,
            IDLE => {
                self.floor = self.floor.max(settled);
                settled
            }
            // The bound then is the last of what is visible, and that is not read yet: see `exhausted_bound`.
            BUSY => NOTHING,
            stamp => stamp,
        };
        let more = self.load(segment, slot)?;
        self.quiet = if more { 0 } else { self.quiet.saturating_add(1) };
        self.drained = self.dead && !more;
        Ok(if more { bound } else { bound.min(self.exhausted_bound()) })
    }

    /// The bound on what is yet to come once everything visible has been taken.
    #[inline]
    pub fn exhausted_bound(&self) -> u64 {
        if self.inflight == BUSY && !self.dead {
            self.floor.max(self.last)
        } else {
            NOTHING
        }
    }

    /// Gets the next entry to hand, if there is one.
    #[inline]
    pub fn load(&mut self, segment: &Segment, slot: &ThreadSlot) -> Result<bool, Overwritten> {
        if self.at == self.words.len() {
            self.consumer.advance(self.at);
            self.at = 0;
            self.words = self.consumer.available(segment, slot);
            if self.words.is_empty() {
                self.next = NOTHING;
                return Ok(false);
            }
        }
        let words = &self.words[self.at..];
        let head = Head::unpack(words[0].load(Ordering::Relaxed));
        let fixed = fixed_words(head.kind);
        if fixed == 0 || fixed > words.len() {
            return Err(Overwritten);
        }
        let rest = if head.kind == kind::NOTE {
            words[2].load(Ordering::Relaxed).div_ceil(8).min(1 << 32) as usize
        } else {
            head.push as usize
        };
        self.length = fixed + rest;
        if self.length > words.len() {
            return Err(Overwritten);
        }
        self.head = head;
        let stamp = words[1].load(Ordering::Relaxed);
        self.next = stamp.min(NOTHING - 1);
        if head.kind == kind::REALLOC && !self.half && self.moved() {
            self.next = self.word(5).min(self.next);
        }
        Ok(true)
    }

    /// A word of the entry at hand; 0 past its end.
    #[inline]
    pub fn word(&self, index: usize) -> u64 {
        self.words
            .get(self.at + index)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Whether the `REALLOC` at hand moved its block.
    #[inline]
    pub fn moved(&self) -> bool {
        self.word(2) != self.word(4)
    }

    /// The return addresses of the entry at hand.
    #[inline]
    pub fn frames(&self) -> &'static [AtomicU64] {
        let end = self.at + self.length;
        let from = end - self.head.push as usize;
        self.words.get(from..end).unwrap_or(&[])
    }

    /// The bytes of the note at hand.
    pub fn note(&self) -> Vec<u8> {
        self.note_at(self.at)
    }

    /// The bytes of the first note of a kind that is visible, if it is near.
    pub fn note_ahead(&self, note: u8) -> Option<Vec<u8>> {
        let mut at = self.at;
        for _ in 0..16 {
            let head = Head::unpack(self.words.get(at)?.load(Ordering::Relaxed));
            if head.kind == kind::NOTE && head.api == note {
                return Some(self.note_at(at));
            }
            let bytes = self.words.get(at + 2).filter(|_| head.kind == kind::NOTE);
            let rest = bytes.map_or(u64::from(head.push), |bytes| bytes.load(Ordering::Relaxed).div_ceil(8));
            at += fixed_words(head.kind).max(1) + rest.min(1 << 32) as usize;
        }
        None
    }

    fn note_at(&self, at: usize) -> Vec<u8> {
        let length = self.words.get(at + 2).map_or(0, |word| word.load(Ordering::Relaxed)) as usize;
        let words = self.words.get(at + 3..).unwrap_or(&[]);
        let words = &words[..length.div_ceil(8).min(words.len())];
        let mut bytes: Vec<u8> = words
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .collect();
        bytes.truncate(length);
        bytes
    }

    /// The freeing half of the entry at hand is taken; the other half is next.
    #[inline]
    pub fn took_half(&mut self) {
        self.last = self.next;
        self.half = true;
        self.next = self.word(1).min(NOTHING - 1);
    }

    /// The entry at hand is taken.
    #[inline]
    pub fn took(&mut self) {
        self.last = self.next;
        self.half = false;
        self.typed = false;
        self.at += self.length;
    }

    /// Lets go of the ring's memory at the end of a round; what was not taken will be seen again.
    pub fn pause(&mut self) {
        self.consumer.advance(self.at);
        self.at = 0;
        self.words = &[];
    }

    /// Gives up what is visible in this chunk. What is published later begins with an entry again.
    pub fn skip(&mut self) {
        self.at = self.words.len();
        self.half = false;
        self.next = NOTHING;
        self.stack.reset();
    }

    /// Whether the thread holds a chunk that it is not using.
    pub fn holds_idle_chunk(&self) -> bool {
        !self.dead && self.inflight == IDLE && self.quiet > 0 && self.consumer.holds_chunk()
    }

    /// The consuming end of the ring, between rounds.
    pub fn consumer(&mut self) -> &mut Consumer {
        &mut self.consumer
    }
}
