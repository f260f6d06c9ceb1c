//! The segment: where everything lies.
#![allow(unsafe_code)]

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::control::{Control, FREE_WORDS, LAYOUT, MAGIC};
use crate::slot::{ProcessSlot, ThreadSlot};
use core::mem::size_of;

/// The sizes that a segment is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Process slots.
    pub processes: u32,
    /// Thread slots.
    pub threads: u32,
    /// Chunks.
    pub chunks: u32,
    /// Bytes of a chunk with its header; a multiple of 64.
    pub chunk_bytes: u32,
}

impl Geometry {
    /// The geometry for a pool of this many bytes, between 64 KiB and 64 MiB.
    pub fn for_pool(pool_bytes: u64) -> Geometry {
        let pool = pool_bytes.clamp(64 << 10, 64 << 20);
        let chunk_bytes: u64 = if pool >= 4 << 20 { 16 << 10 } else { 4 << 10 };
        Geometry {
            processes: 4096,
            threads: 16384,
            chunks: (pool / chunk_bytes) as u32,
            chunk_bytes: chunk_bytes as u32,
        }
    }

    const fn processes_at(&self) -> usize {
        size_of::<Control>()
    }
    const fn threads_at(&self) -> usize {
        self.processes_at() + self.processes as usize * size_of::<ProcessSlot>()
    }
    const fn chunks_at(&self) -> usize {
        (self.threads_at() + self.threads as usize * size_of::<ThreadSlot>()).next_multiple_of(4096)
    }

    /// Bytes of a segment of this geometry.
    pub const fn length(&self) -> usize {
        self.chunks_at() + self.chunks as usize * self.chunk_bytes as usize
    }

    /// The geometry written in a control page, if that is a segment of this layout that fits into `mapped` bytes.
    pub fn read(control: &Control, mapped: usize) -> Option<Geometry> {
        if control.magic.load(Ordering::Acquire) != MAGIC || control.layout.load(Ordering::Relaxed) != LAYOUT {
            return None;
        }
        let geometry = Geometry {
            processes: control.processes.load(Ordering::Relaxed),
            threads: control.threads.load(Ordering::Relaxed),
            chunks: control.chunks.load(Ordering::Relaxed),
            chunk_bytes: control.chunk_bytes.load(Ordering::Relaxed),
        };
        let sane = geometry.processes <= 1 << 16
            && geometry.threads <= 1 << 20
            && geometry.chunks as usize <= 64 * FREE_WORDS
            && (1024..=1 << 20).contains(&geometry.chunk_bytes)
            && geometry.chunk_bytes.is_multiple_of(64);
        (sane && geometry.length() <= mapped).then_some(geometry)
    }
}

/// Header of a chunk; the data words follow.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct ChunkHeader {
    /// The chunk that the thread went on to; [`crate::NONE`] while this one is its last. A chunk with a successor gets no more data.
    pub next: AtomicU32,
    /// Data words published so far.
    pub committed: AtomicU32,
    /// Thread slot that owns the chunk.
    pub owner: AtomicU32,
}

/// A mapped segment. Copies refer to the same memory, which is never unmapped while the process lives.
#[derive(Clone, Copy)]
pub struct Segment {
    base: *const u8,
    geometry: Geometry,
}

// SAFETY: all shared state behind `base` is atomics; `base` itself never changes.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    /// Looks at memory that a collector has prepared.
    ///
    /// Returns `None` when it is no segment of this layout.
    ///
    /// # Safety
    /// `base` must be page-aligned and point to `mapped` bytes (at least a page) of shared, readable and writable memory that stays mapped for the life of the process
    /// and is only accessed through segments.
    pub unsafe fn open(base: *const u8, mapped: usize) -> Option<Segment> {
        if mapped < size_of::<Control>() {
            return None;
        }
        // SAFETY: at least one page is mapped (caller), and Control is all atomics, valid for any bits.
        let control = unsafe { &*(base as *const Control) };
        let geometry = Geometry::read(control, mapped)?;
        Some(Segment { base, geometry })
    }

    /// Prepares fresh zeroed memory as a segment with all chunks free and the state `Paused`.
    ///
    /// # Safety
    /// As for [`Segment::open`], with `geometry.length()` bytes, and nobody else may have opened it yet.
    pub unsafe fn create(base: *const u8, geometry: Geometry) -> Segment {
        let segment = Segment { base, geometry };
        let control = segment.control();
        control.layout.store(LAYOUT, Ordering::Relaxed);
        control.length.store(geometry.length() as u64, Ordering::Relaxed);
        control.processes.store(geometry.processes, Ordering::Relaxed);
        control.threads.store(geometry.threads, Ordering::Relaxed);
        control.chunks.store(geometry.chunks, Ordering::Relaxed);
        control.chunk_bytes.store(geometry.chunk_bytes, Ordering::Relaxed);
        control.state.store(crate::State::Paused as u32, Ordering::Relaxed);
        for chunk in 0..geometry.chunks {
            control.give_chunk(chunk);
        }
        control.magic.store(MAGIC, Ordering::Release);
        segment
    }

    /// The segment that is to be, for the model checker to write its parts.
    ///
    /// # Safety
    /// As for [`Segment::create`]; nothing may be read through it before it has been written.
    #[cfg(all(test, loom))]
    pub(crate) unsafe fn create_at(base: *const u8, geometry: Geometry) -> Segment {
        Segment { base, geometry }
    }

    /// Its sizes.
    #[inline]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The control page.
    #[inline]
    pub fn control(&self) -> &'static Control {
        // SAFETY: the segment begins with a Control and is never unmapped (`open`).
        unsafe { &*(self.base as *const Control) }
    }

    /// All process slots.
    #[inline]
    pub fn processes(&self) -> &'static [ProcessSlot] {
        // SAFETY: within the segment's length by `Geometry`, aligned since Control is a multiple of 64 bytes, all atomics.
        unsafe {
            core::slice::from_raw_parts(
                self.base.add(self.geometry.processes_at()) as *const ProcessSlot,
                self.geometry.processes as usize,
            )
        }
    }

    /// All thread slots.
    #[inline]
    pub fn threads(&self) -> &'static [ThreadSlot] {
        // SAFETY: within the segment's length by `Geometry`; process slots are multiples of 64 bytes, and their number keeps 128-byte alignment
        // (checked in `threads_are_aligned`).
        unsafe {
            core::slice::from_raw_parts(
                self.base.add(self.geometry.threads_at()) as *const ThreadSlot,
                self.geometry.threads as usize,
            )
        }
    }

    /// Claims a free process slot and fills it in; see [`ProcessSlot::claim`]. Must come before the image's first stamp.
    pub fn claim_process(&self, pid: u32, parent_pid: u32, forked_from: u32, stamp: u64) -> Option<u32> {
        self.control()
            .process_claims
            .search(self.processes(), |slot| slot.claim(pid, parent_pid, forked_from, stamp))
    }

    /// Claims a free thread slot and fills it in; see [`ThreadSlot::claim`]. Must come before the thread's first stamp: the collector takes
    /// what it cannot see for not there, and would let later events of other threads pass.
    pub fn claim_thread(&self, process: u32, tid: u32, level: u32) -> Option<u32> {
        self.control()
            .thread_claims
            .search(self.threads(), |slot| slot.claim(process, tid, level))
    }

    /// The header of a chunk, `None` when there is no such chunk.
    #[inline]
    pub fn chunk(&self, index: u32) -> Option<&'static ChunkHeader> {
        if index >= self.geometry.chunks {
            return None;
        }
        let at = self.geometry.chunks_at() + index as usize * self.geometry.chunk_bytes as usize;
        // SAFETY: within the segment's length, 64-byte aligned, all atomics.
        Some(unsafe { &*(self.base.add(at) as *const ChunkHeader) })
    }

    /// Data words of a chunk.
    #[inline]
    pub fn words(&self, index: u32) -> &'static [AtomicU64] {
        if index >= self.geometry.chunks {
            return &[];
        }
        let at =
            self.geometry.chunks_at() + index as usize * self.geometry.chunk_bytes as usize + size_of::<ChunkHeader>();
        // SAFETY: within the segment's length, 8-byte aligned, all atomics.
        unsafe { core::slice::from_raw_parts(self.base.add(at) as *const AtomicU64, self.chunk_words()) }
    }

    /// Number of data words of a chunk.
    #[inline]
    pub fn chunk_words(&self) -> usize {
        (self.geometry.chunk_bytes as usize - size_of::<ChunkHeader>()) / size_of::<AtomicU64>()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn threads_are_aligned() {
        for pool in [0, 256 << 10, 8 << 20, u64::MAX] {
            let geometry = Geometry::for_pool(pool);
            assert_eq!(geometry.threads_at() % core::mem::align_of::<ThreadSlot>(), 0);
            assert_eq!(geometry.chunks_at() % 4096, 0);
            assert!(geometry.chunks as usize <= 64 * FREE_WORDS);
        }
    }
}
