//! The way of an entry from a thread to the collector: a list of chunks per thread slot, one producer and one consumer.
//!
//! Producer, at every event: `inflight = BUSY`; find room ([`Producer::reserve`]); take the stamp; store the words; [`Producer::publish`];
//! `inflight = IDLE`. When its chunk is full it links a fresh one behind it; the consumer gives the old one back to the pool when it has read it.
//!
//! So that ten thousand idle threads do not hold ten thousand chunks, the consumer can take a half-full chunk away from a thread that is
//! not using it: it exchanges `slot.chunk` for [`NONE`], makes every processor see that (a system-wide memory barrier), and if the thread is `IDLE`
//! after the barrier, the thread can only come back by way of the missing chunk ([`Consumer::detach`], [`Consumer::detached`]).
//!
//! The consumer trusts nothing that it reads here: a target that writes over this memory costs its own recording, never the collector.

use crate::atomic::{AtomicU64, Ordering};
use crate::segment::{ChunkHeader, Segment};
use crate::slot::{ThreadSlot, IDLE};
use crate::NONE;

/// No chunk is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The producing end of one thread slot; plain memory of that thread.
#[derive(Clone, Copy, Debug)]
pub struct Producer {
    chunk: u32,
    /// Words of `chunk` in use.
    at: u32,
    /// The words of `chunk`, kept here so that an event needs no arithmetic to find them.
    words: &'static [AtomicU64],
    header: Option<&'static ChunkHeader>,
}

impl Default for Producer {
    fn default() -> Self {
        Producer::new()
    }
}

impl Producer {
    /// A producer without a chunk.
    pub const fn new() -> Producer {
        Producer {
            chunk: NONE,
            at: 0,
            words: &[],
            header: None,
        }
    }

    /// Finds room for an entry of `words` words, which must not exceed [`Segment::chunk_words`]. The caller has set `slot.inflight`.
    ///
    /// # Errors
    /// [`Full`] when a new chunk is needed and none is free; nothing has changed then.
    #[inline(always)]
    pub fn reserve(
        &mut self,
        segment: &Segment,
        slot: &ThreadSlot,
        index: u32,
        words: usize,
    ) -> Result<&'static [AtomicU64], Full> {
        if let Some(room) = self.at_hand(slot, words) {
            return Ok(room);
        }
        self.go_on(segment, slot, index)?;
        self.words.get(..words).ok_or(Full)
    }

    /// [`Producer::reserve`] without a new chunk.
    #[inline(always)]
    pub fn at_hand(&self, slot: &ThreadSlot, words: usize) -> Option<&'static [AtomicU64]> {
        let at = self.at as usize;
        if slot.chunk.load(Ordering::Relaxed) == self.chunk {
            self.words.get(at..at + words)
        } else {
            None
        }
    }

    #[cold]
    #[inline(never)]
    fn go_on(&mut self, segment: &Segment, slot: &ThreadSlot, index: u32) -> Result<(), Full> {
        let fresh = segment.control().take_chunk(index).ok_or(Full)?;
        let header = segment.chunk(fresh).ok_or(Full)?;
        header.next.store(NONE, Ordering::Relaxed);
        header.committed.store(0, Ordering::Relaxed);
        header.owner.store(index, Ordering::Relaxed);
        let old = slot.chunk.load(Ordering::Relaxed);
        // The chunk may have been taken away since (`old` is NONE) or be taken away right now. In the first case the consumer has nothing of ours
        // left but what it already follows, so a new run starts at `head`. In the second it finds the link, and goes on along it.
        match segment.chunk(old) {
            Some(old_header) if old == self.chunk => {
                old_header.next.store(fresh, Ordering::Release);
                slot.chunk.store(fresh, Ordering::Release);
            }
            _ => {
                slot.chunk.store(fresh, Ordering::Release);
                slot.head.store(fresh, Ordering::Release);
            }
        }
        *self = Producer {
            chunk: fresh,
            at: 0,
            words: segment.words(fresh),
            header: Some(header),
        };
        Ok(())
    }

    /// Lets the consumer see the `words` words stored since [`Producer::reserve`].
    #[inline(always)]
    pub fn publish(&mut self, words: usize) {
        self.at += words as u32;
        if let Some(header) = self.header {
            header.committed.store(self.at, Ordering::Release);
        }
    }
}

/// The consuming end of one thread slot.
#[derive(Clone, Copy, Debug)]
pub struct Consumer {
    chunk: u32,
    read: u32,
}

impl Default for Consumer {
    fn default() -> Self {
        Consumer::new()
    }
}

impl Consumer {
    /// A consumer at the start of a freshly claimed slot.
    pub const fn new() -> Consumer {
        Consumer { chunk: NONE, read: 0 }
    }

    /// The published words not yet read in the chunk at hand, after giving back chunks that are done. Empty when there is nothing new.
    pub fn available(&mut self, segment: &Segment, slot: &ThreadSlot) -> &'static [AtomicU64] {
        // Bounded, so that a ring of links made by a stray write cannot hold us.
        for _ in 0..=segment.geometry().chunks {
            if self.chunk == NONE {
                // Looked at first: most slots have nothing new, and need not be written to.
                if slot.head.load(Ordering::Acquire) == NONE {
                    return &[];
                }
                self.chunk = slot.head.swap(NONE, Ordering::AcqRel);
                self.read = 0;
            }
            let Some(header) = segment.chunk(self.chunk) else {
                self.chunk = NONE;
                return &[];
            };
            // In this order: a thread that began a new run at `head` writes no more into this chunk and links nothing to it, and a chunk with a
            // successor gets no more data. So what is seen of the chunk after either of the two is all of it.
            let another_run = slot.head.load(Ordering::Acquire) != NONE;
            let next = header.next.load(Ordering::Acquire);
            let committed = header.committed.load(Ordering::Acquire);
            let words = segment.words(self.chunk);
            if let Some(fresh) = words.get(self.read as usize..committed as usize) {
                if !fresh.is_empty() {
                    return fresh;
                }
            }
            if next == NONE && !another_run {
                return &[];
            }
            self.give(segment);
            self.chunk = if next < segment.geometry().chunks { next } else { NONE };
            self.read = 0;
        }
        &[]
    }

    /// Gives the chunk at hand back. It is nobody's from here on, until whoever takes it next has said so: a thread killed in between must not be
    /// taken for the owner before last.
    fn give(&mut self, segment: &Segment) {
        if let Some(header) = segment.chunk(self.chunk) {
            header.owner.store(NONE, Ordering::Relaxed);
            segment.control().give_chunk(self.chunk);
        }
        self.chunk = NONE;
    }

    /// Marks `words` words of what [`Consumer::available`] gave as read.
    #[inline]
    pub fn advance(&mut self, words: usize) {
        self.read += words as u32;
    }

    /// First half of taking the chunk away from an idle thread. `true`: call [`Consumer::detached`] after a barrier on all processors.
    pub fn detach(&mut self, slot: &ThreadSlot) -> bool {
        self.chunk != NONE
            && slot
                .chunk
                .compare_exchange(self.chunk, NONE, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// Second half: gives the chunk back if the thread is idle and everything has been read. `false`: read what is there and ask again.
    pub fn detached(&mut self, segment: &Segment, slot: &ThreadSlot) -> bool {
        if slot.inflight.load(Ordering::Acquire) != IDLE {
            return false;
        }
        if !self.available(segment, slot).is_empty() {
            return false;
        }
        // The thread may have linked a new chunk before it saw ours gone, and the slot names it again; or it saw ours gone, and began a new run
        // at `head`: `available` has followed it either way. Ours is done with when the slot names none.
        if self.chunk != NONE && slot.chunk.load(Ordering::Acquire) != self.chunk {
            self.give(segment);
        }
        true
    }

    /// Whether a chunk is at hand.
    pub fn holds_chunk(&self) -> bool {
        self.chunk != NONE
    }

    /// Gives the chunk at hand back whatever is in it: the slot's process is dead and all that was published has been read.
    pub fn release(&mut self, segment: &Segment) {
        if self.chunk != NONE {
            self.give(segment);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(unsafe_code)]
    use super::*;
    use crate::segment::Geometry;
    use crate::slot::BUSY;
    use std::alloc::{alloc_zeroed, Layout};
    use std::vec::Vec;

    fn segment() -> Segment {
        let geometry = Geometry {
            processes: 2,
            threads: 4,
            chunks: 8,
            chunk_bytes: 1024,
        };
        let layout = Layout::from_size_align(geometry.length(), 4096).unwrap();
        // SAFETY: fresh zeroed memory of the right length and alignment, leaked on purpose.
        unsafe { Segment::create(alloc_zeroed(layout), geometry) }
    }

    fn write(
        producer: &mut Producer,
        segment: &Segment,
        slot: &ThreadSlot,
        value: u64,
        words: usize,
    ) -> Result<(), Full> {
        slot.inflight.store(BUSY, Ordering::SeqCst);
        let result = producer.reserve(segment, slot, 0, words).map(|room| {
            for word in room {
                word.store(value, Ordering::Relaxed);
            }
            producer.publish(words);
        });
        slot.inflight.store(IDLE, Ordering::Release);
        result
    }

    #[test]
    fn words_arrive_in_order_over_many_chunks() {
        let segment = segment();
        let slot = &segment.threads()[0];
        assert!(slot.claim(0, 1, 0));
        let total = if cfg!(miri) { 500 } else { 20_000u64 };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut producer = Producer::new();
                for value in 0..total {
                    while write(&mut producer, &segment, slot, value, 1 + value as usize % 7) == Err(Full) {
                        std::thread::yield_now();
                    }
                }
            });
            let mut consumer = Consumer::new();
            let mut expected = 0u64;
            while expected < total {
                let words = consumer.available(&segment, slot);
                let mut read = 0;
                while read < words.len() {
                    let value = words[read].load(Ordering::Relaxed);
                    assert_eq!(value, expected);
                    read += 1 + expected as usize % 7;
                    expected += 1;
                }
                consumer.advance(read);
            }
            consumer.release(&segment);
        });
        assert_eq!(segment.control().free_chunks(), 8);
    }

    #[test]
    fn a_chunk_taken_from_an_idle_thread_loses_nothing() {
        let segment = segment();
        let slot = &segment.threads()[0];
        assert!(slot.claim(0, 1, 0));
        let mut producer = Producer::new();
        let mut consumer = Consumer::new();
        let mut seen = Vec::new();
        for value in 0..100 {
            write(&mut producer, &segment, slot, value, 1).unwrap();
            let words = consumer.available(&segment, slot);
            seen.extend(words.iter().map(|word| word.load(Ordering::Relaxed)));
            consumer.advance(words.len());
            if value % 3 == 0 {
                assert!(consumer.detach(slot));
                assert!(consumer.detached(&segment, slot));
                assert_eq!(segment.control().free_chunks(), 8);
            }
        }
        assert_eq!(seen, (0..100).collect::<Vec<u64>>());
    }

    #[test]
    fn a_chunk_taken_from_a_thread_that_writes_on_loses_nothing() {
        // What the collector's barrier does on every processor, both sides do here.
        let barrier = || core::sync::atomic::fence(Ordering::SeqCst);
        let segment = segment();
        let slot = &segment.threads()[0];
        assert!(slot.claim(0, 1, 0));
        let total = if cfg!(miri) { 300 } else { 200_000u64 };
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut producer = Producer::new();
                for value in 0..total {
                    slot.inflight.store(BUSY, Ordering::Relaxed);
                    barrier();
                    let room = loop {
                        match producer.reserve(&segment, slot, 0, 20) {
                            Ok(room) => break room,
                            Err(Full) => {
                                slot.inflight.store(IDLE, Ordering::Release);
                                std::thread::yield_now();
                                slot.inflight.store(BUSY, Ordering::Relaxed);
                                barrier();
                            }
                        }
                    };
                    room[0].store(value, Ordering::Relaxed);
                    producer.publish(20);
                    slot.inflight.store(IDLE, Ordering::Release);
                }
            });
            let mut consumer = Consumer::new();
            let (mut expected, mut detaching, mut round) = (0, false, 0u32);
            while expected < total {
                let words = consumer.available(&segment, slot);
                for entry in words.chunks(20) {
                    assert_eq!(entry[0].load(Ordering::Relaxed), expected);
                    expected += 1;
                }
                consumer.advance(words.len());
                round += 1;
                if detaching {
                    detaching = !consumer.detached(&segment, slot);
                } else if round % 3 == 0 && consumer.detach(slot) {
                    barrier();
                    detaching = true;
                } else {
                    std::thread::yield_now();
                }
            }
        });
    }

    #[test]
    fn a_thread_that_starts_anew_while_its_chunk_is_taken_away_is_followed_at_once() {
        let segment = segment();
        let slot = &segment.threads()[0];
        assert!(slot.claim(0, 1, 0));
        let mut producer = Producer::new();
        let mut consumer = Consumer::new();
        write(&mut producer, &segment, slot, 1, 1).unwrap();
        let first = consumer.available(&segment, slot).len();
        consumer.advance(first);
        assert!(consumer.detach(slot));
        write(&mut producer, &segment, slot, 2, 1).unwrap();
        // Caught in the middle of the next event: the second half of the detach has to wait, the reading has not.
        slot.inflight.store(BUSY, Ordering::SeqCst);
        assert!(!consumer.detached(&segment, slot));
        let words = consumer.available(&segment, slot);
        assert_eq!(words.len(), 1);
        assert_eq!(words[0].load(Ordering::Relaxed), 2);
        consumer.advance(1);
        slot.inflight.store(IDLE, Ordering::SeqCst);
        assert!(consumer.detached(&segment, slot));
        assert_eq!(
            segment.control().free_chunks(),
            7,
            "the chunk of the new run is the thread's"
        );
    }

    #[test]
    fn claims_are_counted_and_stay_close_together() {
        let segment = segment();
        let claims = &segment.control().thread_claims;
        assert_eq!(segment.claim_thread(0, 10, 0), Some(0));
        assert_eq!(segment.claim_thread(0, 11, 0), Some(1));
        segment.threads()[0]
            .life
            .store(crate::slot::life::FREE, Ordering::Release);
        claims.freed(0);
        assert_eq!(segment.claim_thread(0, 12, 0), Some(0));
        assert_eq!(claims.count.load(Ordering::Relaxed), 3);
        assert_eq!(claims.high.load(Ordering::Relaxed), 2);
        for tid in 13..15 {
            assert!(segment.claim_thread(0, tid, 0).is_some());
        }
        assert_eq!(segment.claim_thread(0, 15, 0), None, "four slots are all there are");
    }

    #[test]
    fn a_full_pool_says_so_and_recovers() {
        let segment = segment();
        let slot = &segment.threads()[0];
        assert!(slot.claim(0, 1, 0));
        let mut producer = Producer::new();
        let room = segment.chunk_words();
        for _ in 0..8 {
            write(&mut producer, &segment, slot, 7, room).unwrap();
        }
        assert_eq!(write(&mut producer, &segment, slot, 7, 1), Err(Full));
        let mut consumer = Consumer::new();
        let words = consumer.available(&segment, slot).len();
        consumer.advance(words);
        assert_eq!(consumer.available(&segment, slot).len(), room);
        write(&mut producer, &segment, slot, 7, 1).unwrap();
    }
}
