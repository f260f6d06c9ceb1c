//! The slots: one per recorded process image, one per recording thread (and per nesting level of signal handlers in it).

use crate::atomic::{AtomicU32, AtomicU64, Ordering};

/// Life of a slot.
///
/// ```text
/// Free --(target: compare-exchange)--> Claimed --(target: fields stored)--> Live --(collector)--> Free
/// ```
pub mod life {
    /// Nobody's.
    pub const FREE: u32 = 0;
    /// Taken, its fields are being filled in.
    pub const CLAIMED: u32 = 1;
    /// In use.
    pub const LIVE: u32 = 2;
}

/// [`ThreadSlot::inflight`] when the thread is not inside the recorder.
pub const IDLE: u64 = 0;
/// [`ThreadSlot::inflight`] when the thread is inside the recorder and its event's stamp is not known yet: it is later than everything that the
/// thread has published.
pub const BUSY: u64 = 1;

/// A recorded process image.
#[repr(C, align(64))]
pub struct ProcessSlot {
    /// See [`life`].
    pub life: AtomicU32,
    /// Process id, as the process itself sees it.
    pub pid: AtomicU32,
    /// Parent's process id.
    pub parent_pid: AtomicU32,
    /// Process slot of the image that forked this one; [`crate::NONE`] when the image was loaded by exec.
    pub forked_from: AtomicU32,
    /// Stamp of the fork or load.
    pub stamp: AtomicU64,
    /// Raised each time the slot is claimed: tells a reuse apart.
    pub generation: AtomicU32,
    /// Allocation calls that failed.
    pub failed_calls: AtomicU64,
    /// Stacks that could not be followed to their end.
    pub truncated: AtomicU64,
    /// Mismatches found by `check_stacks`.
    pub mismatches: AtomicU64,
}

/// A recording thread.
#[repr(C, align(128))]
pub struct ThreadSlot {
    /// See [`life`].
    pub life: AtomicU32,
    /// Its process slot.
    pub process: AtomicU32,
    /// Thread id, as the thread itself sees it.
    pub tid: AtomicU32,
    /// Raised each time the slot is claimed.
    pub generation: AtomicU32,
    /// [`IDLE`], [`BUSY`], or the stamp of the event in flight: no event that this thread publishes from now on is earlier.
    pub inflight: AtomicU64,
    /// The chunk being written; [`crate::NONE`]: the thread must take one before it writes. Set by the thread, taken away by the collector.
    pub chunk: AtomicU32,
    /// First chunk of a run, when the thread had none; the collector follows the links from there.
    pub head: AtomicU32,
    /// Nesting level of this slot in its thread: 0, or more for events inside signal handlers that interrupted the recorder.
    pub level: AtomicU32,
    /// Events of this thread lost because no chunk could be had in time.
    pub lost_full: AtomicU64,
    /// Events lost in handlers that interrupted the recorder too deeply.
    pub lost_nested: AtomicU64,
}

impl ThreadSlot {
    /// Takes this slot if it is free, and fills it in.
    pub fn claim(&self, process: u32, tid: u32, level: u32) -> bool {
        if self
            .life
            .compare_exchange(life::FREE, life::CLAIMED, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        self.process.store(process, Ordering::Relaxed);
        self.tid.store(tid, Ordering::Relaxed);
        self.level.store(level, Ordering::Relaxed);
        self.inflight.store(IDLE, Ordering::Relaxed);
        self.chunk.store(crate::NONE, Ordering::Relaxed);
        self.head.store(crate::NONE, Ordering::Relaxed);
        self.lost_full.store(0, Ordering::Relaxed);
        self.lost_nested.store(0, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.life.store(life::LIVE, Ordering::Release);
        true
    }
}

impl ProcessSlot {
    /// Takes this slot if it is free, and fills it in.
    pub fn claim(&self, pid: u32, parent_pid: u32, forked_from: u32, stamp: u64) -> bool {
        if self
            .life
            .compare_exchange(life::FREE, life::CLAIMED, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        self.pid.store(pid, Ordering::Relaxed);
        self.parent_pid.store(parent_pid, Ordering::Relaxed);
        self.forked_from.store(forked_from, Ordering::Relaxed);
        self.stamp.store(stamp, Ordering::Relaxed);
        self.failed_calls.store(0, Ordering::Relaxed);
        self.truncated.store(0, Ordering::Relaxed);
        self.mismatches.store(0, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.life.store(life::LIVE, Ordering::Release);
        true
    }
}

#[cfg(loom)]
impl ProcessSlot {
    /// A zeroed one, for the model checker, whose atomics are no plain memory.
    pub(crate) fn fresh(word: fn() -> AtomicU32, long: fn() -> AtomicU64) -> ProcessSlot {
        ProcessSlot {
            life: word(),
            pid: word(),
            parent_pid: word(),
            forked_from: word(),
            stamp: long(),
            generation: word(),
            failed_calls: long(),
            truncated: long(),
            mismatches: long(),
        }
    }
}

#[cfg(loom)]
impl ThreadSlot {
    /// A zeroed one, for the model checker, whose atomics are no plain memory.
    pub(crate) fn fresh(word: fn() -> AtomicU32, long: fn() -> AtomicU64) -> ThreadSlot {
        ThreadSlot {
            life: word(),
            process: word(),
            tid: word(),
            generation: word(),
            inflight: long(),
            chunk: word(),
            head: word(),
            level: word(),
            lost_full: long(),
            lost_nested: long(),
        }
    }
}
