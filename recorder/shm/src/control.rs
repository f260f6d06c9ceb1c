//! The control page: geometry, options, and the words by which collector and targets steer each other.

use crate::atomic::{AtomicU32, AtomicU64, Ordering};

/// First word of the segment.
pub const MAGIC: u64 = u64::from_le_bytes(*b"heaptshm");
/// Raised with every change of the layout; both sides must agree.
pub const LAYOUT: u32 = 4;
/// Words of the map of free chunks: at most 4,096 chunks.
pub const FREE_WORDS: usize = 64;

/// The first page of the segment. Written by the collector before any target starts, but for the words named below.
#[repr(C, align(4096))]
pub struct Control {
    /// [`MAGIC`]; stored last.
    pub magic: AtomicU64,
    /// [`LAYOUT`].
    pub layout: AtomicU32,
    /// A [`State`]. Changed by the collector, by `ctl` commands, and by a target that finds the collector dead (to `Dead`).
    pub state: AtomicU32,
    /// Length of the segment in bytes.
    pub length: AtomicU64,
    /// Raised whenever recording is paused, by whoever does it.
    pub pauses: AtomicU32,
    /// Number of process slots.
    pub processes: AtomicU32,
    /// Number of thread slots.
    pub threads: AtomicU32,
    /// Number of chunks, at most `64 * FREE_WORDS`.
    pub chunks: AtomicU32,
    /// Bytes of a chunk with its header.
    pub chunk_bytes: AtomicU32,
    /// Process id of the collector.
    pub collector_pid: AtomicU32,
    /// Raised by the collector at every round; a target that waits in vain looks here whether the collector lives.
    pub heartbeat: AtomicU64,
    /// Raised by the collector when it gives chunks or slots back; a target without space waits for it (futex or sleep).
    pub returned: AtomicU32,
    /// Number of threads that wait for space now; the collector wakes when it is not 0.
    pub waiters: AtomicU32,
    /// Events not recorded because no thread slot could be had.
    pub lost_no_slot: AtomicU64,
    /// Processes not recorded because no process slot could be had.
    pub lost_processes: AtomicU32,
    /// A [`StackMode`] value.
    pub stack_mode: AtomicU32,
    /// 1: a full pool drops and counts; 0: it blocks up to `block_millis`.
    pub on_full_drop: AtomicU32,
    /// Bound on waiting for space, milliseconds without a heartbeat of the collector.
    pub block_millis: AtomicU32,
    /// 1: unwind fully at every event and compare.
    pub check_stacks: AtomicU32,
    /// Innermost frames of a stack that must be right; 0: all.
    pub depth: AtomicU32,
    /// Blocks smaller than this are not recorded.
    pub min_size: AtomicU64,
    /// Mean bytes between samples; 0 records all.
    pub sample_bytes: AtomicU64,
    /// Claims of process slots.
    pub process_claims: Claims,
    /// Claims of thread slots.
    pub thread_claims: Claims,
    /// Bit `i % 64` of word `i / 64` is set when chunk `i` is free.
    pub free: [AtomicU64; FREE_WORDS],
}

/// What the collector must know of a table of slots without walking it: whether anything was claimed, and how far to look.
#[repr(C)]
pub struct Claims {
    /// Raised after each claim, before the claimer's first stamp.
    pub count: AtomicU32,
    /// No slot at or above this index was ever claimed.
    pub high: AtomicU32,
    /// Where a search for a free slot begins; only a hint, so that the slots in use stay close together.
    pub hint: AtomicU32,
}

impl Claims {
    /// Searches `slots` from the hint on for one that `claim` can take, and makes the claim known.
    pub(crate) fn search<T>(&self, slots: &[T], claim: impl Fn(&T) -> bool) -> Option<u32> {
        let length = slots.len();
        let from = self.hint.load(Ordering::Relaxed) as usize;
        for step in 0..length {
            let index = (from + step) % length;
            if claim(&slots[index]) {
                self.hint.store(index as u32 + 1, Ordering::Relaxed);
                self.high.fetch_max(index as u32 + 1, Ordering::Relaxed);
                self.count.fetch_add(1, Ordering::Release);
                return Some(index as u32);
            }
        }
        None
    }

    /// Tells the next search that slot `index` is free again.
    pub fn freed(&self, index: u32) {
        self.hint.fetch_min(index, Ordering::Relaxed);
    }
}

/// How stacks are taken, as stored in [`Control::stack_mode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum StackMode {
    /// By unwind tables.
    Dwarf = 0,
    /// By frame pointers.
    FramePointers = 1,
    /// None.
    None = 2,
}

/// State of the recording.
///
/// ```text
/// Paused <-> Recording -> Dead
///    \_________________/
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// The collector is gone or has given up: nothing is recorded any more, for ever.
    Dead = 0,
    /// Events are recorded.
    Recording = 1,
    /// Events are not recorded now; processes and markers are.
    Paused = 2,
}

/// The options of a recording, as plain values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How stacks are taken.
    pub stack_mode: StackMode,
    /// Drop (and count) instead of waiting when the pool is full.
    pub on_full_drop: bool,
    /// Bound on waiting for space, milliseconds without a heartbeat of the collector.
    pub block_millis: u32,
    /// Unwind fully at every event and compare.
    pub check_stacks: bool,
    /// Innermost frames of a stack that must be right; 0: all.
    pub depth: u32,
    /// Blocks smaller than this are not recorded.
    pub min_size: u64,
    /// Mean bytes between samples; 0 records all.
    pub sample_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            stack_mode: StackMode::Dwarf,
            on_full_drop: false,
            block_millis: 2000,
            check_stacks: false,
            depth: 0,
            min_size: 0,
            sample_bytes: 0,
        }
    }
}

impl Options {
    /// Innermost frames of a stack that are wanted, and must be right.
    pub fn depth(&self) -> usize {
        match (self.stack_mode, self.depth) {
            (StackMode::None, _) => 0,
            (_, 0) => usize::MAX,
            (_, depth) => depth as usize,
        }
    }
}

impl Control {
    /// The state now.
    #[inline]
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            1 => State::Recording,
            2 => State::Paused,
            _ => State::Dead,
        }
    }

    /// Sets the state; `Dead` is final.
    pub fn set_state(&self, state: State) {
        let changed = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
            (now != State::Dead as u32).then_some(state as u32)
        });
        if changed.is_ok() && state == State::Paused {
            self.pauses.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Stores the options; the collector's, before any target starts.
    pub fn set_options(&self, options: &Options) {
        self.stack_mode.store(options.stack_mode as u32, Ordering::Relaxed);
        self.on_full_drop.store(options.on_full_drop as u32, Ordering::Relaxed);
        self.block_millis.store(options.block_millis, Ordering::Relaxed);
        self.check_stacks.store(options.check_stacks as u32, Ordering::Relaxed);
        self.depth.store(options.depth, Ordering::Relaxed);
        self.min_size.store(options.min_size, Ordering::Relaxed);
        self.sample_bytes.store(options.sample_bytes, Ordering::Relaxed);
    }

    /// The options as stored.
    pub fn options(&self) -> Options {
        Options {
            stack_mode: match self.stack_mode.load(Ordering::Relaxed) {
                1 => StackMode::FramePointers,
                2 => StackMode::None,
                _ => StackMode::Dwarf,
            },
            on_full_drop: self.on_full_drop.load(Ordering::Relaxed) != 0,
            block_millis: self.block_millis.load(Ordering::Relaxed),
            check_stacks: self.check_stacks.load(Ordering::Relaxed) != 0,
            depth: self.depth.load(Ordering::Relaxed),
            min_size: self.min_size.load(Ordering::Relaxed),
            sample_bytes: self.sample_bytes.load(Ordering::Relaxed),
        }
    }

    /// Number of free chunks now.
    pub fn free_chunks(&self) -> u32 {
        self.free
            .iter()
            .map(|word| word.load(Ordering::Relaxed).count_ones())
            .sum()
    }

    /// Takes a free chunk; `hint` spreads the search.
    pub fn take_chunk(&self, hint: u32) -> Option<u32> {
        let words = (self.chunks.load(Ordering::Relaxed) as usize)
            .div_ceil(64)
            .clamp(1, FREE_WORDS);
        for step in 0..words {
            let index = (hint as usize + step) % words;
            let word = &self.free[index];
            let mut bits = word.load(Ordering::Relaxed);
            while bits != 0 {
                let bit = bits.trailing_zeros();
                match word.compare_exchange_weak(bits, bits & !(1 << bit), Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return Some(index as u32 * 64 + bit),
                    Err(now) => bits = now,
                }
            }
        }
        None
    }

    /// Gives a chunk back.
    pub fn give_chunk(&self, chunk: u32) {
        if let Some(word) = self.free.get(chunk as usize / 64) {
            word.fetch_or(1 << (chunk % 64), Ordering::Release);
        }
    }
}

#[cfg(loom)]
impl Control {
    /// A zeroed one, for the model checker, whose atomics are no plain memory.
    pub(crate) fn fresh(word: fn() -> AtomicU32, long: fn() -> AtomicU64, claims: fn() -> Claims) -> Control {
        Control {
            magic: long(),
            layout: word(),
            state: word(),
            length: long(),
            pauses: word(),
            processes: word(),
            threads: word(),
            chunks: word(),
            chunk_bytes: word(),
            collector_pid: word(),
            heartbeat: long(),
            returned: word(),
            waiters: word(),
            lost_no_slot: long(),
            lost_processes: word(),
            stack_mode: word(),
            on_full_drop: word(),
            block_millis: word(),
            check_stacks: word(),
            depth: word(),
            min_size: long(),
            sample_bytes: long(),
            process_claims: claims(),
            thread_claims: claims(),
            free: core::array::from_fn(|_| long()),
        }
    }
}
