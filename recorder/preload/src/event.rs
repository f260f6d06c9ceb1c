//! From a hook to an entry in the ring.
//!
//! The order within an event is what makes the order between threads exact: a free is stamped before the real call, an allocation after it, a realloc at
//! both ends. While [`ThreadSlot::inflight`] says so, the collector waits for us; so between the stamp and the publication there is no waiting.
#![allow(unsafe_code)]

use crate::life::{self, Recording};
use crate::modules;
use crate::stack::{self, Loan, Rules};
use crate::thread::{self, Doing, Local, Thread, LEVELS};
use crate::{arch, sys};
use core::sync::atomic::{AtomicU64, Ordering};
use heaptape_shm::control::StackMode;
use heaptape_shm::entry::{flag, kind, note, Head};
use heaptape_shm::ring::Full;
use heaptape_shm::slot::{BUSY, IDLE};
use heaptape_shm::{State, ThreadSlot};
use heaptape_stacks::rule::Kind;
use heaptape_stacks::{Capture, Frame, Rule};

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
}

/// Frames that go into one entry; deeper changes are sent ahead.
const MOST_INLINE: usize = 256;

/// A thread that is writing an event.
pub struct Writer {
    recording: Recording,
    local: *mut Local,
    thread: *mut Thread,
    slot: &'static ThreadSlot,
    level: usize,
    outer: (Doing, u32, usize),
}

/// Begins an event. `None`: not recorded (not now, not this call, or counted as lost).
#[inline(always)]
pub fn begin(recording: Recording, site: Site) -> Option<Writer> {
    let local = arch::local();
    // SAFETY: the calling thread's own block; signal handlers of this thread restore what they change.
    let (doing, mut thread) = unsafe { ((*local).doing, (*local).thread) };
    let mut level = 0;
    if doing != Doing::Nothing {
        match interrupted(&recording, local, site) {
            Some(at) => level = at,
            None => return None,
        }
    }
    // SAFETY: thread states are never unmapped.
    let current = !thread.is_null() && unsafe { (*thread).is_current() };
    // SAFETY: as above.
    let slot = if current { unsafe { (*thread).slot(&recording, level) } } else { None };
    let slot = match slot {
        Some(slot) => slot,
        None => {
            thread = admit(&recording, local, current, level)?;
            // SAFETY: just handed out.
            unsafe { (*thread).slot(&recording, level) }?
        }
    };
    // SAFETY: as above.
    let outer = unsafe {
        let outer = ((*local).doing, (*local).level, (*local).site);
        (*local).doing = Doing::Writing;
        (*local).level = level as u32;
        (*local).site = site.slot as usize;
        outer
    };
    slot.inflight.store(BUSY, Ordering::Relaxed);
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    Some(Writer { recording, local, thread, slot, level, outer })
}

/// Finds a state and a slot for a thread, or for one more level of it.
#[cold]
#[inline(never)]
fn admit(recording: &Recording, local: *mut Local, current: bool, level: usize) -> Option<*mut Thread> {
    // SAFETY: the calling thread's own block.
    let local = unsafe { &mut *local };
    if current && level > 0 {
        // SAFETY: thread states are never unmapped; this one is the calling thread's.
        let thread = unsafe { &mut *local.thread };
        return thread.claim(recording, level).then_some(thread as *mut Thread);
    }
    let thread = thread::attach(recording, local)? as *mut Thread;
    let name = sys::thread_name();
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let slot: usize = 0;
    let site = Site { slot: &slot, fp: 0 };
    if let Some(mut writer) = begin(*recording, site) {
        writer.note(note::THREAD_NAME, &name[..length]);
        writer.end();
    }
    Some(thread)
}

/// A hook was called while this thread was not about the target's own business. The level to write at, if at all.
#[cold]
#[inline(never)]
fn interrupted(recording: &Recording, local: *mut Local, site: Site) -> Option<usize> {
    // SAFETY: the calling thread's own block.
    let local = unsafe { &mut *local };
    match local.doing {
        Doing::Nothing | Doing::Forwarding => Some(0),
        Doing::Muted => None,
        Doing::Writing => {
            // SAFETY: a thread that is writing has a state.
            let thread = unsafe { local.thread.as_mut() }?;
            if site.slot as usize > local.site && !sys::on_signal_stack() {
                // The event below us on this stack was left by a jump out of a signal handler, and will never be finished.
                for level in 0..=(local.level as usize).min(LEVELS - 1) {
                    thread::abandon(thread, recording, level);
                }
                local.doing = Doing::Nothing;
                return Some(0);
            }
            let level = local.level as usize + 1;
            if level >= LEVELS {
                if let Some(slot) = thread.slot(recording, 0) {
                    slot.lost_nested.fetch_add(1, Ordering::Relaxed);
                }
                return None;
            }
            Some(level)
        }
    }
}

impl Writer {
    /// Ends the event.
    #[inline(always)]
    pub fn end(self) {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        self.slot.inflight.store(IDLE, Ordering::Release);
        // SAFETY: the calling thread's own block.
        unsafe {
            ((*self.local).doing, (*self.local).level, (*self.local).site) = self.outer;
        }
    }

    /// Finds room in the ring, waiting for it as the options say. `None`: the event is lost, and counted.
    #[inline(always)]
    fn room(&mut self, words: usize) -> Option<&'static [AtomicU64]> {
        // SAFETY: this thread's own state.
        let level = unsafe { &mut (*self.thread).levels[self.level] };
        match level.producer.reserve(self.recording.segment, self.slot, level.slot, words) {
            Ok(room) => Some(room),
            Err(Full) => self.wait_for_room(words),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, words: usize) -> Option<&'static [AtomicU64]> {
        let control = self.recording.segment.control();
        // SAFETY: this thread's own state.
        let level = unsafe { &mut (*self.thread).levels[self.level] };
        let mut found = None;
        if !self.recording.options.on_full_drop && words <= self.recording.segment.chunk_words() {
            control.waiters.fetch_add(1, Ordering::Relaxed);
            let mut heartbeat = control.heartbeat.load(Ordering::Relaxed);
            let mut quiet_millis = 0;
            while control.state() != State::Dead {
                let seen = control.returned.load(Ordering::Acquire);
                if let Ok(room) = level.producer.reserve(self.recording.segment, self.slot, level.slot, words) {
                    found = Some(room);
                    break;
                }
                // While we wait the collector must be able to pass us by, or it could never free what we wait for.
                self.slot.inflight.store(IDLE, Ordering::Release);
                sys::wait(&control.returned, seen);
                self.slot.inflight.store(BUSY, Ordering::SeqCst);
                let now = control.heartbeat.load(Ordering::Relaxed);
                quiet_millis = if now == heartbeat { quiet_millis + 10 } else { 0 };
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

    #[inline(always)]
    fn publish(&mut self, words: usize) {
        // SAFETY: this thread's own state.
        let level = unsafe { &mut (*self.thread).levels[self.level] };
        level.producer.publish(self.recording.segment, words);
    }

    /// The stamp for something that has just happened.
    #[inline(always)]
    fn stamp_after(&self) -> u64 {
        if self.recording.several_threads() {
            arch::stamp_after()
        } else {
            arch::stamp()
        }
    }

    /// Writes an event with its stack, stamped now.
    #[inline(always)]
    pub fn event<const N: usize>(mut self, kind: u8, api: u8, fields: [u64; N], site: Site) {
        let mut stack = Stack::take(&mut self, site);
        let (push, pop, flags) = stack.prepare(&mut self);
        if let Some(room) = self.room(2 + N + push as usize) {
            let stamp = self.stamp_after();
            fill(room, Head { kind, api, push, pop, flags }, stamp, &fields, stack.fresh());
            self.publish(2 + N + push as usize);
            stack.keep(&mut self);
        }
        drop(stack);
        self.end();
    }

    /// Writes an event without a stack, stamped now: before the real call.
    #[inline(always)]
    pub fn bare_event<const N: usize>(mut self, kind: u8, fields: [u64; N]) {
        if let Some(room) = self.room(2 + N) {
            fill(room, Head { kind, api: 0, push: 0, pop: 0, flags: 0 }, arch::stamp(), &fields, &[]);
            self.publish(2 + N);
        }
        self.end();
    }

    /// Writes an event that has a beginning and an end: the stack is taken and the room found first, then `call` runs between the two stamps.
    /// It returns what to write, if anything: kind, fields.
    #[inline(always)]
    pub fn around<T>(
        mut self,
        api: u8,
        site: Site,
        call: impl FnOnce() -> T,
        outcome: impl FnOnce(&T, u64) -> Option<(u8, [u64; 4], usize)>,
    ) -> T {
        let mut stack = Stack::take(&mut self, site);
        let (push, pop, flags) = stack.prepare(&mut self);
        let room = self.room(6 + push as usize);
        let before = arch::stamp();
        self.slot.inflight.store(before, Ordering::Release);
        let result = call();
        if let (Some(room), Some((kind, fields, count))) = (room, outcome(&result, before)) {
            let stamp = if count == 1 { before } else { self.stamp_after() };
            // A `realloc` that only freed has no stack.
            let (push, pop, flags) = if count == 1 { (0, 0, 0) } else { (push, pop, flags) };
            let fresh = if count == 1 { &[][..] } else { stack.fresh() };
            fill(room, Head { kind, api, push, pop, flags }, stamp, &fields[..count], fresh);
            self.publish(2 + count + push as usize);
            if count != 1 {
                stack.keep(&mut self);
            }
        }
        drop(stack);
        self.end();
        result
    }

    /// Writes an unmapping, stamped before the real call, if that succeeds.
    #[inline(never)]
    pub fn unmapping(mut self, address: u64, length: u64, call: impl FnOnce() -> i32) -> i32 {
        let room = self.room(4);
        let before = arch::stamp();
        self.slot.inflight.store(before, Ordering::Release);
        let status = call();
        if let (Some(room), 0) = (room, status) {
            let head = Head { kind: kind::UNMAP, api: 0, push: 0, pop: 0, flags: 0 };
            fill(room, head, before, &[address, length], &[]);
            self.publish(4);
        }
        self.end();
        status
    }

    /// Writes a note; cut to what fits into a chunk. `false` when it was lost.
    #[cold]
    #[inline(never)]
    pub fn note(&mut self, kind: u8, bytes: &[u8]) -> bool {
        let most = (self.recording.segment.chunk_words() - 3) * 8;
        let bytes = &bytes[..bytes.len().min(most)];
        let words = 3 + bytes.len().div_ceil(8);
        let Some(room) = self.room(words) else { return false };
        let head = Head { kind: self::kind::NOTE, api: kind, push: 0, pop: 0, flags: 0 };
        fill(&room[..3], head, arch::stamp(), &[bytes.len() as u64], &[]);
        for (word, chunk) in room[3..].iter().zip(bytes.chunks(8)) {
            let mut packed = [0u8; 8];
            packed[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_le_bytes(packed), Ordering::Relaxed);
        }
        self.publish(words);
        true
    }
}

/// Stores an entry; `room` has exactly its length or more.
#[inline(always)]
fn fill(room: &[AtomicU64], head: Head, stamp: u64, fields: &[u64], frames: &[Frame]) {
    let Some((first, rest)) = room.split_at_checked(2 + fields.len()) else { return };
    first[0].store(head.pack(), Ordering::Relaxed);
    first[1].store(stamp, Ordering::Relaxed);
    for (word, field) in first[2..].iter().zip(fields) {
        word.store(*field, Ordering::Relaxed);
    }
    for (word, frame) in rest.iter().zip(frames) {
        word.store(frame.return_address() as u64, Ordering::Relaxed);
    }
}

/// The stack of an event: in the thread's own memory with its cache, or in borrowed memory without.
enum Stack {
    None,
    Own(Capture, *mut Thread),
    Borrowed(Capture, Loan),
    /// Nothing could be had: the stack is empty and says that it was cut.
    Lost,
}

impl Stack {
    #[inline(always)]
    fn take(writer: &mut Writer, site: Site) -> Stack {
        let mode = writer.recording.options.stack_mode;
        if mode == StackMode::None {
            return Stack::None;
        }
        if modules::changed() && !modules::note_caller(site.caller()) {
            writer.refresh_modules();
        }
        let innermost = Frame { slot: site.slot as usize, pc: site.caller(), fp: site.fp };
        let rules = Rules::now();
        let raw: *mut Writer = writer;
        let rule = |address: usize| {
            if mode == StackMode::FramePointers {
                return Rule::bare(Kind::Guess);
            }
            match rules.known(address) {
                Some(rule) => rule,
                // SAFETY: the writer outlives this closure, and nothing else uses it while a rule is looked up.
                None => unsafe { (*raw).find_rule(address) },
            }
        };
        let thread = writer.thread;
        // SAFETY: this thread's own state; the closure above touches only its producers.
        let own = unsafe { &mut *thread };
        if writer.level == 0 && !own.frames().is_empty() {
            let cache = own.cache;
            // SAFETY: the site is the live frame of the hook's caller.
            if let Ok(capture) = unsafe { cache.capture(own.frames(), innermost, rule) } {
                return Stack::Own(capture, thread);
            }
        }
        Stack::take_otherwise(writer, innermost)
    }

    /// No memory of its own, a level above the first, or a stack deeper than ever.
    #[cold]
    #[inline(never)]
    fn take_otherwise(writer: &mut Writer, innermost: Frame) -> Stack {
        let thread = writer.thread;
        let mut rule = |address: usize| match Rules::now().known(address) {
            _ if writer.recording.options.stack_mode == StackMode::FramePointers => Rule::bare(Kind::Guess),
            Some(rule) => rule,
            None => writer.find_rule(address),
        };
        // SAFETY: this thread's own state; the closure above touches only its producers.
        let own = unsafe { &mut *thread };
        let nested = unsafe { (*arch::local()).level } > 0;
        let mut whole = own.cache;
        whole.forget();
        if nested || own.frames().is_empty() {
            let Some(mut loan) = Loan::take() else { return Stack::Lost };
            // SAFETY: the site is the live frame of the hook's caller.
            if let Ok(capture) = unsafe { whole.capture(loan.frames(), innermost, &mut rule) } {
                return Stack::Borrowed(capture, loan);
            }
            if nested {
                return Stack::Lost;
            }
        }
        while own.grow_frames() {
            let cache = own.cache;
            // SAFETY: as above.
            if let Ok(capture) = unsafe { cache.capture(own.frames(), innermost, &mut rule) } {
                return Stack::Own(capture, thread);
            }
        }
        Stack::Lost
    }

    /// Sends a long stack ahead. What is left for the event's own entry: frames to push, frames to pop, flags.
    #[inline(always)]
    fn prepare(&mut self, writer: &mut Writer) -> (u16, u16, u16) {
        let capture = match self {
            Stack::None => return (0, 0, 0),
            Stack::Lost => {
                // SAFETY: this thread's own state.
                unsafe { (*writer.thread).cache.forget() };
                writer.count_truncated();
                return (0, 0, flag::RESET | flag::TRUNCATED);
            }
            Stack::Own(capture, _) | Stack::Borrowed(capture, _) => *capture,
        };
        if capture.truncated {
            writer.count_truncated();
        }
        let push = self.fresh().len();
        let flags = (if capture.reset { flag::RESET } else { 0 }) | (if capture.truncated { flag::TRUNCATED } else { 0 });
        if push > MOST_INLINE || capture.pop > u16::MAX as usize {
            self.send_ahead(writer, &capture, flags);
            return (0, 0, 0);
        }
        (push as u16, capture.pop as u16, flags)
    }

    #[cold]
    #[inline(never)]
    fn send_ahead(&mut self, writer: &mut Writer, capture: &Capture, mut flags: u16) {
        let mut pop = capture.pop;
        let mut sent = 0;
        let mut complete = true;
        while complete && (pop > 0 || sent < self.fresh().len()) {
            let fresh = self.fresh();
            let part = pop.min(u16::MAX as usize);
            pop -= part;
            let frames = if pop > 0 { &[][..] } else { &fresh[sent..fresh.len().min(sent + MOST_INLINE)] };
            let words = 2 + frames.len();
            let Some(room) = writer.room(words) else {
                complete = false;
                break;
            };
            let head = Head { kind: kind::STACK, api: 0, push: frames.len() as u16, pop: part as u16, flags };
            fill(room, head, arch::stamp(), &[], frames);
            sent += frames.len();
            writer.publish(words);
            flags = 0;
        }
        match self {
            Stack::Own(capture, thread) if complete => {
                // SAFETY: this thread's own state.
                let own = unsafe { &mut **thread };
                let mut cache = own.cache;
                cache.keep(own.frames(), capture);
                own.cache = cache;
            }
            // SAFETY: as above.
            _ => unsafe { (*writer.thread).cache.forget() },
        }
        *self = Stack::None;
    }

    /// The frames to push, outermost first.
    #[inline(always)]
    fn fresh(&mut self) -> &[Frame] {
        match self {
            Stack::None | Stack::Lost => &[],
            // SAFETY: this thread's own state.
            Stack::Own(capture, thread) => unsafe { &(&mut **thread).frames()[capture.first..] },
            Stack::Borrowed(capture, loan) => &loan.frames()[capture.first..],
        }
    }

    /// The event is published: its stack is the one that the next event differs from.
    #[inline(always)]
    fn keep(&mut self, writer: &mut Writer) {
        match self {
            Stack::None | Stack::Lost => {}
            Stack::Own(capture, thread) => {
                // SAFETY: this thread's own state.
                let own = unsafe { &mut **thread };
                let mut cache = own.cache;
                cache.keep(own.frames(), capture);
                own.cache = cache;
            }
            // Each level has a slot of its own, whose stack at the collector is the last one that was sent there; the next is sent whole again.
            // SAFETY: as above.
            Stack::Borrowed(..) if writer.level == 0 => unsafe { (*writer.thread).cache.forget() },
            Stack::Borrowed(..) => {}
        }
    }
}

impl Writer {
    #[cold]
    #[inline(never)]
    fn find_rule(&mut self, address: usize) -> Rule {
        self.muted(|writer| stack::find(address, &mut |kind, bytes| writer.module_note(kind, bytes)))
            .unwrap_or(Rule::bare(Kind::Unknown))
    }

    #[cold]
    #[inline(never)]
    fn refresh_modules(&mut self) {
        self.muted(|writer| modules::refresh(&mut |kind, bytes| writer.module_note(kind, bytes)));
    }

    /// Runs what may call libc, on a stack of ours.
    fn muted<T>(&mut self, run: impl FnOnce(&mut Writer) -> T) -> Option<T> {
        stack::on_cold_stack(|| {
            // SAFETY: the calling thread's own block.
            unsafe { (*self.local).doing = Doing::Muted };
            let result = run(self);
            // SAFETY: as above.
            unsafe { (*self.local).doing = Doing::Writing };
            result
        })
    }

    fn module_note(&mut self, kind: modules::Note, bytes: &[u8]) -> bool {
        self.note(if kind == modules::Note::Gone { note::MODULE_GONE } else { note::MODULE }, bytes)
    }

    #[cold]
    fn count_truncated(&self) {
        if let Some(process) = self.recording.segment.processes().get(self.recording.process() as usize) {
            process.truncated.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counts an allocation call that failed.
#[cold]
pub fn failed() {
    if let Some(recording) = life::recording_now() {
        if let Some(process) = recording.segment.processes().get(recording.process() as usize) {
            process.failed_calls.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes a note from outside any event.
#[cold]
#[inline(never)]
pub fn lone_note(recording: &Recording, kind: u8, bytes: &[u8]) {
    let slot: usize = 0;
    if let Some(mut writer) = begin(*recording, Site { slot: &slot, fp: 0 }) {
        writer.note(kind, bytes);
        writer.end();
    }
}

/// First note of a process image: who it is. A forked child is what its parent was.
#[cold]
pub fn process_note(recording: &Recording, forked: bool) {
    if forked {
        return;
    }
    stack::on_cold_stack(|| {
        let mut text = [0u8; 3800];
        let mut length = sys::read_link(c"/proc/self/exe", &mut text[..2047]);
        text[length] = 0;
        length += 1;
        length += sys::read_file(c"/proc/self/cmdline", &mut text[length..]);
        lone_note(recording, note::PROCESS, &text[..length]);
    });
}

/// Note before a fork: the child's heap is the parent's at this place in the order.
#[cold]
pub fn fork_note(stamp: u64) {
    if let Some(recording) = life::attached() {
        lone_note(&recording, note::FORK, &stamp.to_le_bytes());
    }
}
