//! What a thread owns: its thread-local block, its slots in the shared memory, its cached stack.
//!
//! The thread-local block needs no destructor: a thread may allocate in the last destructor of its own. That a thread is gone is the
//! collector's to find out; it frees the slots then, and a changed slot generation tells us that the memory here may serve another thread.
#![allow(unsafe_code)]

use crate::life::{self, Recording};
use crate::python::frames::View;
use crate::python::types::Pending;
use crate::{arch, real, sys};
use core::cell::Cell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use heaptape_shm::ring::Producer;
use heaptape_shm::slot::{life as slot_life, IDLE};
use heaptape_shm::{ThreadSlot, NONE};
use heaptape_stacks::{Frame, StackCache, Strand, Weave};

/// A thread, and signal handlers that interrupt its recording up to this depth.
pub const LEVELS: usize = 4;
/// Threads of one process that can record at a time.
const MOST_THREADS: usize = 16384;
/// Threads with memory of their own for a cached stack; the others walk every stack in full, in borrowed memory. So many that all that 10,000 threads take is below 4 MiB.
const MOST_CACHES: u32 = 448;
/// First size of that memory.
const FIRST_FRAMES_BYTES: usize = 4096;
/// And its last.
const MOST_FRAMES_BYTES: usize = 64 << 20;

/// [`Thread::generation`] while a new owner moves in.
const CHANGING_HANDS: u32 = u32::MAX;

/// The thread-local block; zeroed at the start of a thread. Cells, since the libc functions that we call may call our hooks.
#[repr(C)]
pub struct Local {
    /// This thread's state, if it has one.
    pub thread: Cell<*mut Thread>,
    /// What the thread is doing; see [`Doing`].
    pub doing: Cell<Doing>,
    /// Level of the event being written.
    pub level: Cell<u32>,
    /// Where the hooks that are writing were called, by level (`event::Site::mark`).
    pub sites: [Cell<u64>; LEVELS],
    /// The block that an allocator of a Python domain is freeing or moving.
    pub block: Cell<usize>,
    /// Events to let pass before asking for a slot again.
    pub patience: Cell<u32>,
    /// The number of the process for which this thread may go the quick way, or 0; see [`crate::quick`].
    pub quick: Cell<u32>,
    /// Where a panic goes on: the place from which the innermost cold stack was entered, 0 outside of them.
    pub rescue: Cell<usize>,
    /// Bytes to the next sample; see [`crate::sample`].
    pub until_sample: Cell<u64>,
    /// What the next draw is made of; 0 before the first.
    pub dice: Cell<u64>,
}

const _: () = assert!(core::mem::size_of::<Local>() <= 128);

/// What a thread is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Doing {
    /// The target's business.
    Nothing = 0,
    /// Writing an event, or inside a real `realloc` whose event is begun: a hook call is a signal handler's.
    Writing = 1,
    /// Inside a libc call of ours: hook calls are forwarded only.
    Muted = 2,
    /// Inside a real allocator that may call itself by its public names: such calls are forwarded only.
    Forwarding = 3,
    /// Inside an allocator of a Python domain: what it asks of other allocators is forwarded only, its mappings are recorded.
    Python = 4,
    /// The same, inside a real `realloc` whose event is begun.
    PythonWriting = 5,
    /// On a stack of ours, perhaps inside libc: calls from there are forwarded only.
    Cold = 6,
}

/// One writer: a slot and its ring.
#[derive(Clone, Copy)]
pub struct Level {
    /// Index of the slot.
    pub index: u32,
    /// The slot; `None` when there is none yet.
    slot: Option<&'static ThreadSlot>,
    /// The slot's generation when it was taken.
    pub generation: u32,
    /// The ring's producing end.
    pub producer: Producer,
}

impl Level {
    const NONE: Level = Level {
        index: NONE,
        slot: None,
        generation: 0,
        producer: Producer::new(),
    };
}

/// A writer for events that interrupt another one; zeroed memory is one that was not claimed.
struct Nested {
    claimed: bool,
    level: MaybeUninit<Level>,
}

/// The writers of one thread for nested events. They lie apart from the thread's state, since hardly any thread has one.
type NestedLevels = [Nested; LEVELS - 1];

/// State of one thread, in memory that never moves.
pub struct Thread {
    /// Generation of the process it belongs to; 0 when free.
    generation: AtomicU32,
    /// Its thread id.
    pub tid: u32,
    /// Its writer.
    pub own: Level,
    /// Those for nested events; null until it has a place in the pool.
    nested: *mut NestedLevels,
    /// Some of them were claimed.
    has_nested: bool,
    /// Its cached stack.
    pub cache: StackCache,
    frames: *mut Frame,
    frames_count: usize,
    /// What it knows of its interpreter.
    pub view: View,
    /// The block whose type is to be told.
    pub pending: Pending,
    weave: Weave,
    strands: *mut Strand,
    strands_count: usize,
}

/// The lists of a thread, native and interpreted.
pub struct Woven<'a> {
    /// The cached native stack.
    pub cache: &'a mut StackCache,
    /// The memory for it.
    pub frames: &'a mut [Frame],
    /// The cached frames of the interpreter.
    pub weave: &'a mut Weave,
    /// The memory for them.
    pub strands: &'a mut [Strand],
    /// Whose they are.
    pub view: &'a mut View,
}

static POOL: AtomicPtr<Thread> = AtomicPtr::new(core::ptr::null_mut());
static NESTED: AtomicPtr<NestedLevels> = AtomicPtr::new(core::ptr::null_mut());
static NEXT: AtomicU32 = AtomicU32::new(0);
static CACHES: AtomicU32 = AtomicU32::new(0);

/// Maps the memory for thread states (touched only as it is used). `false` when there is none.
pub fn prepare() -> bool {
    let threads = sys::memory(MOST_THREADS * core::mem::size_of::<Thread>());
    let nested = sys::memory(MOST_THREADS * core::mem::size_of::<NestedLevels>());
    NESTED.store(nested as *mut NestedLevels, Ordering::Release);
    POOL.store(threads as *mut Thread, Ordering::Release);
    !threads.is_null() && !nested.is_null()
}

/// In a forked child: the parent's threads are not here.
pub fn forget_parent() {
    let local = arch::local();
    local.thread.set(core::ptr::null_mut());
    local.doing.set(Doing::Nothing);
    local.patience.set(0);
    local.rescue.set(0);
}

impl Thread {
    /// The slot of a level, if it is still this thread's.
    #[inline(always)]
    pub fn slot(&self, level: usize) -> Option<&'static ThreadSlot> {
        let level = match level {
            0 => &self.own,
            // SAFETY: of this thread alone, and a handler touches only the writer of its own level.
            level => unsafe { &*self.nested(level)? },
        };
        level
            .slot
            .filter(|slot| slot.generation.load(Ordering::Relaxed) == level.generation)
    }

    /// The writer of a level.
    #[inline(always)]
    pub fn level(&mut self, level: usize) -> Option<&mut Level> {
        match level {
            0 => Some(&mut self.own),
            // SAFETY: as in `slot`.
            level => self.nested(level).map(|level| unsafe { &mut *level }),
        }
    }

    /// The writer of a level above 0, if it was claimed: it has been written then.
    fn nested(&self, level: usize) -> Option<*mut Level> {
        // SAFETY: as in `slot`.
        let nested = unsafe { &mut *self.nested_place(level)? };
        nested.claimed.then_some(nested.level.as_mut_ptr())
    }

    /// Where the writer of a level above 0 lies, claimed or not.
    fn nested_place(&self, level: usize) -> Option<*mut Nested> {
        // SAFETY: mapped memory that was zeroed; otherwise as in `slot`.
        Some(unsafe { self.nested.as_mut() }?.get_mut(level - 1)?)
    }

    /// Belongs to this process, not to the one it was forked from.
    #[inline(always)]
    pub fn is_current(&self) -> bool {
        self.generation.load(Ordering::Relaxed) == life::generation()
    }

    /// The cached stack, and the memory for it and for walking, which is empty when this thread has none.
    #[inline(always)]
    pub fn stack(&mut self) -> (&mut StackCache, &mut [Frame]) {
        let frames = if self.frames.is_null() {
            &mut []
        } else {
            // SAFETY: mapped zeroed memory of this size, this thread's alone.
            unsafe { core::slice::from_raw_parts_mut(self.frames, self.frames_count) }
        };
        (&mut self.cache, frames)
    }

    /// Both lists, with their memory.
    #[inline(always)]
    pub fn woven(&mut self) -> Woven<'_> {
        let strands = if self.strands.is_null() {
            &mut []
        } else {
            // SAFETY: mapped zeroed memory of this size, this thread's alone.
            unsafe { core::slice::from_raw_parts_mut(self.strands, self.strands_count) }
        };
        let frames = if self.frames.is_null() {
            &mut []
        } else {
            // SAFETY: as above.
            unsafe { core::slice::from_raw_parts_mut(self.frames, self.frames_count) }
        };
        Woven {
            cache: &mut self.cache,
            frames,
            weave: &mut self.weave,
            strands,
            view: &mut self.view,
        }
    }

    /// Gets (more) memory for the frames of an interpreter; both lists are forgotten. `false` when there is no more.
    #[cold]
    pub fn grow_strands(&mut self) -> bool {
        let Some((memory, count)) = grown(self.strands, self.strands_count) else {
            return false;
        };
        self.cache.forget();
        self.weave.forget();
        (self.strands, self.strands_count) = (memory, count);
        true
    }

    /// Gets (more) memory for frames; the cached stack is forgotten. `false` when there is no more.
    #[cold]
    pub fn grow_frames(&mut self) -> bool {
        let Some((memory, count)) = grown(self.frames, self.frames_count) else {
            return false;
        };
        self.cache.forget();
        (self.frames, self.frames_count) = (memory, count);
        true
    }

    /// Takes a slot for a level.
    #[cold]
    pub fn claim(&mut self, recording: &Recording, level: usize) -> bool {
        let claimed = recording
            .segment
            .claim_thread(recording.process(), self.tid, level as u32);
        let slot = claimed.and_then(|index| Some((index, recording.segment.threads().get(index as usize)?)));
        let Some((index, slot)) = slot else {
            recording.segment.control().lost_no_slot.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        let claimed = Level {
            index,
            slot: Some(slot),
            generation: slot.generation.load(Ordering::Relaxed),
            producer: Producer::new(),
        };
        if level == 0 {
            self.own = claimed;
            return true;
        }
        self.has_nested = true;
        let Some(place) = self.nested_place(level) else {
            return false;
        };
        // SAFETY: as in `slot`.
        let place = unsafe { &mut *place };
        place.level.write(claimed);
        place.claimed = true;
        true
    }
}

/// Larger memory in place of what is held; its contents are lost. `None` when there is no more.
fn grown<T>(old: *mut T, count: usize) -> Option<(*mut T, usize)> {
    let held = (count * core::mem::size_of::<T>()).next_multiple_of(4096);
    let bytes = if held == 0 { FIRST_FRAMES_BYTES } else { held * 4 };
    if bytes > MOST_FRAMES_BYTES {
        return None;
    }
    let memory = sys::memory(bytes);
    if memory.is_null() {
        return None;
    }
    if !old.is_null() {
        // SAFETY: from `sys::memory` with this size, and used by one thread only.
        unsafe { sys::unmap(old as *mut u8, held) };
    }
    Some((memory as *mut T, bytes / core::mem::size_of::<T>()))
}

/// Gives the calling thread a state and a slot. `None` when there is none to be had.
#[cold]
#[inline(never)]
pub fn attach(recording: &Recording, local: &Local) -> Option<&'static mut Thread> {
    if local.patience.get() > 0 {
        local.patience.set(local.patience.get() - 1);
        recording.segment.control().lost_no_slot.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    let tid = sys::tid();
    let main = tid == sys::pid();
    let (low, high) = if main { main_stack() } else { real::thread_stack() };
    let Some(thread) = take(recording) else {
        recording.segment.control().lost_no_slot.fetch_add(1, Ordering::Relaxed);
        local.patience.set(1000);
        return None;
    };
    thread.tid = tid;
    thread.own = Level::NONE;
    if core::mem::take(&mut thread.has_nested) {
        // Those of whoever had this state before.
        // SAFETY: as in `Thread::nested`.
        for nested in unsafe { thread.nested.as_mut() }.into_iter().flatten() {
            nested.claimed = false;
        }
    }
    thread.cache = StackCache::new(low, high, recording.options.depth());
    thread.weave.forget();
    thread.view = View::default();
    thread.pending = Pending::default();
    if thread.frames.is_null() && CACHES.fetch_add(1, Ordering::Relaxed) < MOST_CACHES {
        thread.grow_frames();
    }
    if !thread.claim(recording, 0) {
        thread.generation.store(0, Ordering::Release);
        local.patience.set(1000);
        return None;
    }
    local.thread.set(thread);
    Some(thread)
}

/// A free thread state: never used, of a thread that the collector knows to be gone, or of the parent's.
fn take(recording: &Recording) -> Option<&'static mut Thread> {
    let pool = POOL.load(Ordering::Acquire);
    if pool.is_null() {
        return None;
    }
    let generation = life::generation();
    let start = NEXT.fetch_add(1, Ordering::Relaxed) as usize;
    // One lap from the last place; every fresh state has been handed out once before any is looked at again.
    recording.count_thread();
    for step in 0..MOST_THREADS {
        let index = (start + step) % MOST_THREADS;
        // SAFETY: within the pool; fields other than `generation` are touched only by the owner, or by whoever has just exchanged it.
        let thread = unsafe { &mut *pool.add(index) };
        let seen = thread.generation.load(Ordering::Acquire);
        if seen == CHANGING_HANDS {
            continue;
        }
        let gone = seen != generation
            || thread
                .slot(0)
                .is_none_or(|slot| slot.life.load(Ordering::Acquire) == slot_life::FREE);
        if gone
            && thread
                .generation
                .compare_exchange(seen, CHANGING_HANDS, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            thread.nested = NESTED.load(Ordering::Acquire).wrapping_add(index);
            thread.generation.store(generation, Ordering::Release);
            return Some(thread);
        }
    }
    None
}

/// Bounds of the main thread's stack as it may grow.
fn main_stack() -> (usize, usize) {
    let high = real::stack_end();
    // Beyond this distance the kernel may place other mappings (its gap is at most 5/6 of the address space, at least 128 MiB).
    let most = 128 << 20;
    (high.saturating_sub(sys::stack_limit().min(most)), high)
}

/// Resets a level whose event was abandoned by a jump out of a signal handler.
pub fn abandon(thread: &mut Thread, level: usize) {
    if let Some(slot) = thread.slot(level) {
        slot.inflight.store(IDLE, Ordering::Release);
    }
    thread.cache.forget();
}
