//! From a hook to an entry in the ring.
//!
//! The order within an event is what makes the order between threads exact: a free is stamped before the real call, an allocation after it, a realloc at
//! both ends. While [`ThreadSlot::inflight`] says so, the collector waits for us; so between the stamp and the publication there is no waiting.
#![allow(unsafe_code)]

use crate::capture::Stack;
use crate::life::{self, Recording};
use crate::modules;
use crate::python::domains;
use crate::real;
use crate::selection;
use crate::stack;
use crate::thread::{self, Doing, Level, Local, Thread, LEVELS};
use crate::{arch, sys};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use heaptape_shm::entry::{kind, note, Head};
use heaptape_shm::ring::Full;
use heaptape_shm::slot::{BUSY, IDLE};
use heaptape_shm::{State, ThreadSlot};
use heaptape_stacks::arch::address;
use heaptape_stacks::Frame;

/// Where a hook was called.
#[derive(Clone, Copy)]
pub struct Site {
    /// Address of the hook's return address.
    pub slot: *const usize,
    /// The caller's frame pointer.
    pub fp: usize,
}

impl Site {
    /// The hook's return address.
    #[inline(always)]
    pub fn caller(self) -> usize {
        // SAFETY: the hooks' entries pass the place where the call has put it.
        unsafe { *self.slot }
    }

    /// The innermost frame of the stack: the hook's caller.
    #[inline(always)]
    pub fn frame(self) -> Frame {
        Frame {
            slot: self.slot as usize,
            pc: address(self.caller()),
            fp: arch::frame_pointer(self.slot, self.fp),
        }
    }

    /// The slot and the low bits of what it holds, in one word: addresses have at most 47 bits.
    #[inline(always)]
    pub fn mark(self) -> u64 {
        (self.slot as u64) << 16 | (self.caller() & 0xffff) as u64
    }
}

/// Is the event that left this mark still being written beneath us, whose own site is at `slot` on the same stack? If not, it was left by a jump out of a signal
/// handler, and will never be finished. `stack` is what is known to be this thread's stack.
fn lives(mark: u64, slot: usize, stack: core::ops::Range<usize>) -> bool {
    let site = (mark >> 16) as usize;
    // Who runs on a stack of ours has interrupted the event that has gone there.
    if stack::is_cold(site) || stack::is_cold(slot) {
        return true;
    }
    // What is beneath us lies further out; and its return address is still there, unless somebody else's frame has taken the place.
    // SAFETY: aligned, and on this thread's own stack, further out than we are.
    site > slot
        && !(stack.contains(&site)
            && stack.contains(&slot)
            && unsafe { *(site as *const usize) } & 0xffff != mark as usize & 0xffff)
}

/// How long a thread without space waits before it looks whether the collector lives, milliseconds.
const WAIT_MILLIS: u32 = 200;

/// A thread that is writing an event. Copies are the same writer: what it changes lies behind its pointers, so that it can stay in registers.
#[derive(Clone, Copy)]
pub struct Writer {
    /// The recording.
    pub recording: Recording,
    local: &'static Local,
    /// The thread's state.
    pub thread: *mut Thread,
    slot: &'static ThreadSlot,
    /// How many events of this thread are being written further out.
    pub level: u32,
    outer: Doing,
}

/// Begins an event. `None`: not recorded (not now, not this call, or counted as lost).
#[inline(always)]
pub fn begin(recording: Recording, site: Site) -> Option<Writer> {
    let local = arch::local();
    let mut thread = local.thread.get();
    let mut level = 0;
    let mut outer = local.doing.get();
    if outer != Doing::Nothing {
        level = interrupted(recording, local, site)?;
        outer = local.doing.get();
    }
    // SAFETY: thread states are never unmapped.
    let slot = match unsafe { thread.as_ref() } {
        Some(thread) if thread.is_current() => thread.slot(level),
        _ => None,
    };
    let slot = match slot {
        Some(slot) => slot,
        None => {
            thread = admit(recording, local, level)?;
            // SAFETY: just handed out.
            unsafe { (*thread).slot(level) }?
        }
    };
    local.sites[level % LEVELS].set(site.mark());
    local.level.set(level as u32);
    local.doing.set(Doing::Writing);
    slot.inflight.store(BUSY, Ordering::Relaxed);
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    Some(Writer {
        recording,
        local,
        thread,
        slot,
        level: level as u32,
        outer,
    })
}

/// Finds a state and a slot for a thread, or for one more level of it.
#[cold]
#[inline(never)]
fn admit(recording: Recording, local: &'static Local, level: usize) -> Option<*mut Thread> {
    // SAFETY: thread states are never unmapped; this one is the calling thread's.
    if let Some(thread) = unsafe { local.thread.get().as_mut() }.filter(|thread| level > 0 && thread.is_current()) {
        return thread.claim(&recording, level).then_some(thread as *mut Thread);
    }
    let thread = thread::attach(&recording, local)? as *mut Thread;
    let name = sys::thread_name();
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let slot: usize = 0;
    let site = Site { slot: &slot, fp: 0 };
    if let Some(writer) = begin(recording, site) {
        writer.note(note::THREAD_NAME, &name[..length]);
        writer.end();
    }
    Some(thread)
}

/// A hook was called while this thread was not about the target's own business. The level to write at, if at all.
#[cold]
#[inline(never)]
fn interrupted(recording: Recording, local: &'static Local, site: Site) -> Option<usize> {
    let slot = site.slot as usize;
    match local.doing.get() {
        Doing::Nothing | Doing::Forwarding => return Some(0),
        // While a block is freed, whatever is allocated is another one.
        Doing::Python if local.block.get() != 0 => return Some(0),
        Doing::Python if domains::is_stranger(site) => return Some(0),
        Doing::PythonWriting if domains::is_stranger(site) => {}
        Doing::Muted | Doing::Python | Doing::PythonWriting => return None,
        // What the loader does on our behalf. Anybody else is a signal handler, on our stack if it has none of its own.
        Doing::Cold if stack::is_cold(slot) && modules::is_loader(site.caller()) => return None,
        Doing::Cold | Doing::Writing => {}
    }
    // SAFETY: thread states are never unmapped; this one is the calling thread's.
    let Some(thread) = (unsafe { local.thread.get().as_mut() }) else {
        // A handler has come while its thread is being taken in.
        recording.segment.control().lost_no_slot.fetch_add(1, Ordering::Relaxed);
        return None;
    };
    let deepest = (local.level.get() as usize).min(LEVELS - 1);
    let lives = |mark: &Cell<u64>| lives(mark.get(), slot, thread.cache.bounds());
    let mut alive = local.sites[..=deepest]
        .iter()
        .rposition(lives)
        .map_or(0, |level| level + 1);
    if alive <= deepest && sys::on_signal_stack() {
        alive = deepest + 1;
    }
    if alive <= deepest {
        for level in alive..=deepest {
            thread::abandon(thread, level);
        }
        stack::abandon(alive);
        local.rescue.set(0);
        local
            .doing
            .set(if alive == 0 { Doing::Nothing } else { Doing::Writing });
    }
    if alive < LEVELS {
        return Some(alive);
    }
    if let Some(slot) = thread.slot(0) {
        slot.lost_nested.fetch_add(1, Ordering::Relaxed);
    }
    None
}

impl Writer {
    /// Ends the event.
    #[inline(always)]
    pub fn end(self) {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        self.slot.inflight.store(IDLE, Ordering::Release);
        self.local.level.set(self.level.saturating_sub(1));
        self.local.quick.set(self.recording.quick());
        self.local.doing.set(self.outer);
    }

    /// This thread's ring.
    #[inline(always)]
    fn ring<'a>(self) -> Option<&'a mut Level> {
        // SAFETY: this thread's own state; a signal handler that interrupts us writes at another level.
        unsafe { (*self.thread).level(self.level as usize) }
    }

    /// Finds room in the ring, waiting for it as the options say. `None`: the event is lost, and counted.
    #[inline(always)]
    pub fn room(self, words: usize) -> Option<&'static [AtomicU64]> {
        let ring = self.ring()?;
        match ring
            .producer
            .reserve(&self.recording.segment, self.slot, ring.index, words)
        {
            Ok(room) => Some(room),
            Err(Full) => self.wait_for_room(words),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(self, words: usize) -> Option<&'static [AtomicU64]> {
        let control = self.recording.segment.control();
        let ring = self.ring()?;
        let mut found = None;
        if !self.recording.options.on_full_drop && words <= self.recording.segment.chunk_words() {
            control.waiters.fetch_add(1, Ordering::SeqCst);
            let mut heartbeat = control.heartbeat.load(Ordering::Relaxed);
            let mut quiet_millis = 0;
            while control.state() != State::Dead {
                let seen = control.returned.load(Ordering::Acquire);
                if let Ok(room) = ring
                    .producer
                    .reserve(&self.recording.segment, self.slot, ring.index, words)
                {
                    found = Some(room);
                    break;
                }
                // While we wait the collector must be able to pass us by, or it could never free what we wait for.
                self.slot.inflight.store(IDLE, Ordering::Release);
                // The collector wakes as many of us as it has space for. Were we to look by ourselves much more often, thousands of us would leave it no time.
                let timed_out = sys::wait(&control.returned, seen, WAIT_MILLIS);
                self.slot.inflight.store(BUSY, Ordering::SeqCst);
                let now = control.heartbeat.load(Ordering::Relaxed);
                match now == heartbeat {
                    true if timed_out => quiet_millis += WAIT_MILLIS,
                    true => {}
                    false => quiet_millis = 0,
                }
                heartbeat = now;
                if quiet_millis >= self.recording.options.block_millis {
                    control.set_state(State::Dead);
                }
            }
            control.waiters.fetch_sub(1, Ordering::Relaxed);
        }
        if found.is_none() {
            self.slot.lost_full.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// Lets the collector see what was stored in the room found last.
    #[inline(always)]
    pub fn publish(self, words: usize) {
        if let Some(ring) = self.ring() {
            ring.producer.publish(words);
        }
    }

    /// The stamp of now: after everything that this thread has seen, before everything that it does. An allocation must not seem older than the free
    /// that made room for it, nor a free older than the allocation by another thread that has just handed the block over; a processor that works ahead
    /// would read its counter before it has either. With one thread there is nobody to compare with.
    #[inline(always)]
    fn stamp(&self) -> u64 {
        if self.recording.several_threads() {
            arch::stamp_after()
        } else {
            arch::stamp()
        }
    }

    /// Writes an event with its stack, stamped now.
    #[inline(always)]
    pub fn event<const N: usize>(self, kind: u8, api: u8, fields: [u64; N], site: Site) -> bool {
        self.flagged(kind, api, 0, fields, site)
    }

    /// The same, with more flags in its head. `false` when it was lost.
    #[inline(always)]
    pub fn flagged<const N: usize>(self, kind: u8, api: u8, flags: u16, fields: [u64; N], site: Site) -> bool {
        let stack = Stack::take(self, site);
        let words = 2 + N + stack.push as usize;
        let room = self.room(words);
        if let Some(room) = room {
            let mut head = stack.head(kind, api);
            head.flags |= flags;
            fill(room, head, self.stamp(), &fields, stack.fresh());
            stack.fill_woven(self, room.get(2 + N..).unwrap_or(&[]));
            self.publish(words);
        }
        stack.done(self, room.is_some());
        self.end();
        room.is_some()
    }

    /// Writes an event without a stack, stamped now: before the real call.
    #[inline(always)]
    pub fn bare_event<const N: usize>(self, kind: u8, flags: u16, fields: [u64; N]) {
        if let Some(room) = self.room(2 + N) {
            fill(room, bare_head(kind, 0, flags), self.stamp(), &fields, &[]);
            self.publish(2 + N);
        }
        self.end();
    }

    /// Writes something before the event at hand.
    #[cold]
    #[inline(never)]
    pub fn aside<const N: usize>(self, kind: u8, fields: [u64; N]) {
        if let Some(room) = self.room(2 + N) {
            fill(room, bare_head(kind, 0, 0), self.stamp(), &fields, &[]);
            self.publish(2 + N);
        }
    }

    /// Writes what a `realloc` did. The stack is taken and the room found first, then `call` runs between the two stamps: nothing waits while the
    /// collector waits for the event in flight. `outcome` tells what has happened. With the result, whether there is a block now that was recorded.
    #[inline(always)]
    pub fn around<T>(
        self,
        api: u8,
        flags: u16,
        site: Site,
        change: Change,
        call: impl FnOnce() -> T,
        outcome: impl FnOnce(&T) -> Outcome,
    ) -> (T, bool) {
        let Change {
            old,
            size,
            known,
            wanted,
        } = change;
        let stack = Stack::take(self, site);
        let room = self.room(6 + stack.push as usize);
        let before = self.stamp();
        self.slot.inflight.store(before, Ordering::Release);
        let result = call();
        let mut kept = false;
        match (room, outcome(&result)) {
            (_, Outcome::Nothing) => {
                if known {
                    selection::born(&self.recording, old);
                }
            }
            (None, _) => {}
            (Some(room), Outcome::Moved { new }) if wanted => {
                selection::born(&self.recording, new);
                let fixed = if known {
                    let mut head = stack.head(kind::REALLOC, api);
                    head.flags |= flags;
                    fill(room, head, self.stamp(), &[new, size, old, before], stack.fresh());
                    6
                } else {
                    let mut head = stack.head(kind::ALLOC, api);
                    head.flags |= flags;
                    fill(room, head, self.stamp(), &[new, size], stack.fresh());
                    4
                };
                stack.fill_woven(self, room.get(fixed..).unwrap_or(&[]));
                self.publish(fixed + stack.push as usize);
                kept = true;
            }
            (Some(room), Outcome::Freed | Outcome::Moved { .. }) => {
                fill(room, bare_head(kind::FREE, 0, flags), before, &[old], &[]);
                self.publish(3);
            }
        }
        stack.done(self, kept);
        self.end();
        (result, kept)
    }

    /// Writes an unmapping, stamped before the real call, if that succeeds.
    #[inline(never)]
    pub fn unmapping(self, address: u64, length: u64, call: impl FnOnce() -> i32) -> i32 {
        let room = self.room(4);
        let before = self.stamp();
        self.slot.inflight.store(before, Ordering::Release);
        let status = call();
        if let (Some(room), 0) = (room, status) {
            fill(room, bare_head(kind::UNMAP, 0, 0), before, &[address, length], &[]);
            self.publish(4);
        }
        self.end();
        status
    }

    /// Writes a note; cut to what fits into a chunk. `false` when it was lost.
    #[cold]
    #[inline(never)]
    pub fn note(self, kind: u8, bytes: &[u8]) -> bool {
        let most = self.recording.segment.chunk_words().saturating_sub(3) * 8;
        let bytes = bytes.get(..most).unwrap_or(bytes);
        let words = 3 + bytes.len().div_ceil(8);
        let Some(room) = self.room(words) else {
            return false;
        };
        let Some((head, rest)) = room.split_at_checked(3) else {
            return false;
        };
        let length = [bytes.len() as u64];
        fill(head, bare_head(self::kind::NOTE, kind, 0), self.stamp(), &length, &[]);
        for (word, chunk) in rest.iter().zip(bytes.chunks(8)) {
            let packed = chunk
                .iter()
                .rev()
                .fold(0, |packed, byte| packed << 8 | u64::from(*byte));
            word.store(packed, Ordering::Relaxed);
        }
        self.publish(words);
        true
    }

    /// Runs what may call libc, on a stack of ours. `None` when there is none free.
    pub fn muted<T>(self, run: impl FnOnce() -> T) -> Option<T> {
        let result = stack::on_cold_stack(|| {
            self.local.doing.set(Doing::Cold);
            run()
        });
        // Here, for it may have ended halfway.
        self.local.doing.set(Doing::Writing);
        result
    }
}

/// What a `realloc` was asked for, of which something is to be recorded.
#[derive(Clone, Copy)]
pub struct Change {
    /// The block.
    old: u64,
    /// The bytes that it is to have.
    size: u64,
    /// The end of the old block is to be recorded.
    known: bool,
    /// The beginning of the new one is.
    wanted: bool,
}

impl Change {
    /// Of this block to this many bytes, which is about to come. `None`: nothing of it is to be recorded.
    #[inline(always)]
    pub fn of(recording: &Recording, old: u64, size: u64) -> Option<Change> {
        let (known, wanted) = (selection::dies(recording, old), selection::wants(recording, size));
        (known || wanted).then_some(Change {
            old,
            size,
            known,
            wanted,
        })
    }
}

/// What a `realloc` did.
pub enum Outcome {
    /// It failed.
    Nothing,
    /// It only freed.
    Freed,
    /// The block has its new size, here or somewhere else.
    Moved {
        /// Where it is.
        new: u64,
    },
}

/// First word of an entry that leaves the stack as it is.
pub const fn bare_head(kind: u8, api: u8, flags: u16) -> Head {
    Head {
        kind,
        api,
        push: 0,
        pop: 0,
        flags,
    }
}

/// Stores an entry; `room` has exactly its length or more.
#[inline(always)]
pub fn fill(room: &[AtomicU64], head: Head, stamp: u64, fields: &[u64], frames: &[Frame]) {
    let Some((first, rest)) = room.split_at_checked(2 + fields.len()) else {
        return;
    };
    first[0].store(head.pack(), Ordering::Relaxed);
    first[1].store(stamp, Ordering::Relaxed);
    for (word, field) in first[2..].iter().zip(fields) {
        word.store(*field, Ordering::Relaxed);
    }
    for (word, frame) in rest.iter().zip(frames) {
        word.store(frame.return_address() as u64, Ordering::Relaxed);
    }
}

/// Counts an allocation call that failed.
#[cold]
pub fn failed() {
    if let Some(process) = life::recording_now().and_then(|recording| recording.process_slot()) {
        process.failed_calls.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes a note from outside any event.
#[cold]
#[inline(never)]
pub fn lone_note(recording: Recording, kind: u8, bytes: &[u8]) {
    let slot: usize = 0;
    if let Some(writer) = begin(recording, Site { slot: &slot, fp: 0 }) {
        writer.note(kind, bytes);
        writer.end();
    }
}

/// First note of a process image: who it is. A forked child is what its parent was.
#[cold]
pub fn process_note(recording: Recording, forked: bool) {
    if forked {
        return;
    }
    stack::on_cold_stack(|| {
        let mut text = [0u8; 3800];
        let path = life::executable();
        text[..path.len()].copy_from_slice(path);
        let mut length = path.len() + 1;
        length += sys::read_file(c"/proc/self/cmdline", &mut text[length..]);
        lone_note(recording, note::PROCESS, &text[..length]);
        let mut text = [0u8; 64];
        let length = real::libc_name(&mut text);
        lone_note(recording, note::LIBC, &text[..length]);
        let slot: usize = 0;
        if let Some(writer) = begin(recording, Site { slot: &slot, fp: 0 }) {
            writer.announce_usual();
            writer.end();
        }
    });
}

/// Note before a fork: the child's heap is the parent's at this place in the order.
#[cold]
pub fn fork_note(stamp: u64) {
    if let Some(recording) = life::attached() {
        lone_note(recording, note::FORK, &stamp.to_le_bytes());
    }
}
