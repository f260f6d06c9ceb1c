//! Ring, chunks and slots under loom: every order of their steps, with a bound on preemptions. `RUSTFLAGS=--cfg=loom cargo test -p heaptape-shm --release`.
//!
//! Taking a chunk away from a thread is not modelled here: loom lets a read-modify-write read what is not the latest, and then forgets the store in between.
//! That protocol is tried by threads in `ring`, also under Miri, whose processor reorders at random.
#![allow(unsafe_code)]

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::control::{Claims, Control};
use crate::ring::{Consumer, Full, Producer};
use crate::segment::ChunkHeader;
use crate::slot::{life, BUSY, IDLE};
use crate::{Geometry, ProcessSlot, Segment, ThreadSlot, NONE};
use core::mem::size_of;
use loom::sync::atomic::fence;
use loom::thread;
use std::alloc::{alloc_zeroed, Layout};
use std::vec::Vec;

fn word() -> AtomicU32 {
    AtomicU32::new(0)
}

fn long() -> AtomicU64 {
    AtomicU64::new(0)
}

fn claims() -> Claims {
    Claims {
        count: word(),
        high: word(),
        hint: word(),
    }
}

/// A segment of small chunks.
fn segment(threads: u32, chunks: u32) -> Segment {
    let chunk_bytes = size_of::<ChunkHeader>() + 64;
    let geometry = Geometry {
        processes: 1,
        threads,
        chunks,
        chunk_bytes: chunk_bytes as u32,
    };
    let layout = Layout::from_size_align(geometry.length(), 4096).unwrap();
    // SAFETY: fresh memory of the right length and alignment, leaked on purpose; every part of it is written before anybody looks at it. The model's atomics have
    // values of their own, so that zeroes will not do.
    unsafe {
        let base = alloc_zeroed(layout);
        (base as *mut Control).write(Control::fresh(word, long, claims));
        let segment = Segment::create_at(base, geometry);
        for slot in segment.processes() {
            (slot as *const ProcessSlot as *mut ProcessSlot).write(ProcessSlot::fresh(word, long));
        }
        for slot in segment.threads() {
            (slot as *const ThreadSlot as *mut ThreadSlot).write(ThreadSlot::fresh(word, long));
        }
        for chunk in 0..chunks {
            let header = segment.chunk(chunk).unwrap();
            (header as *const ChunkHeader as *mut ChunkHeader).write(ChunkHeader {
                next: word(),
                committed: word(),
                owner: word(),
            });
            for place in segment.words(chunk) {
                (place as *const AtomicU64 as *mut AtomicU64).write(long());
            }
        }
        Segment::create(base, geometry)
    }
}

/// As the preload library writes an event, of which two fill a chunk.
fn write(producer: &mut Producer, segment: &Segment, slot: &ThreadSlot, value: u64) -> Result<(), Full> {
    slot.inflight.store(BUSY, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    let words = segment.chunk_words() / 2;
    let result = producer.reserve(segment, slot, 0, words).map(|room| {
        room[0].store(value, Ordering::Relaxed);
        producer.publish(words);
    });
    slot.inflight.store(IDLE, Ordering::Release);
    result
}

fn read(consumer: &mut Consumer, segment: &Segment, slot: &ThreadSlot, seen: &mut Vec<u64>) {
    let words = consumer.available(segment, slot);
    let entries = words.chunks(segment.chunk_words() / 2);
    seen.extend(entries.map(|entry| entry[0].load(Ordering::Relaxed)));
    consumer.advance(words.len());
}

fn check(bound: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.max_branches = 20_000;
    builder.check(model);
}

#[test]
fn in_every_order_what_is_written_is_read_once_and_in_order() {
    check(3, || {
        let segment = segment(1, 3);
        assert!(segment.threads()[0].claim(0, 1, 0));
        let producer = thread::spawn(move || {
            let slot = &segment.threads()[0];
            let mut producer = Producer::new();
            for value in 1..=5 {
                write(&mut producer, &segment, slot, value).unwrap();
            }
        });
        let slot = &segment.threads()[0];
        let (mut consumer, mut seen) = (Consumer::new(), Vec::new());
        read(&mut consumer, &segment, slot, &mut seen);
        read(&mut consumer, &segment, slot, &mut seen);
        producer.join().unwrap();
        while seen.len() < 5 {
            let before = seen.len();
            read(&mut consumer, &segment, slot, &mut seen);
            assert!(seen.len() > before, "{seen:?}");
        }
        assert_eq!(seen, [1, 2, 3, 4, 5]);
        consumer.release(&segment);
        assert_eq!(segment.control().free_chunks(), 3);
    });
}

#[test]
fn in_every_order_a_chunk_and_a_slot_have_one_owner() {
    check(3, || {
        let segment = segment(2, 2);
        let take = move || (segment.control().take_chunk(0), segment.claim_thread(0, 7, 0));
        let other = thread::spawn(take);
        let own = take();
        let other = other.join().unwrap();
        assert_ne!(own.0, other.0);
        assert_ne!(own.1, other.1);
        assert_eq!(segment.control().take_chunk(0), None);
        assert_eq!(segment.control().thread_claims.count.load(Ordering::Relaxed), 2);
        assert_eq!(segment.control().thread_claims.high.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn in_every_order_a_slot_given_back_is_whole_for_the_next() {
    check(3, || {
        let segment = segment(1, 1);
        let first = segment.claim_thread(0, 1, 0);
        assert_eq!(first, Some(0));
        let collector = thread::spawn(move || {
            segment.threads()[0].life.store(life::FREE, Ordering::Release);
            segment.control().thread_claims.freed(0);
        });
        let second = segment.claim_thread(0, 2, 1);
        let slot = &segment.threads()[0];
        if second.is_some() {
            assert_eq!(slot.life.load(Ordering::Acquire), life::LIVE);
            assert_eq!(slot.tid.load(Ordering::Relaxed), 2);
            assert_eq!(slot.generation.load(Ordering::Relaxed), 2);
            assert_eq!(slot.chunk.load(Ordering::Relaxed), NONE);
        }
        collector.join().unwrap();
    });
}
