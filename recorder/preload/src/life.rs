//! The life cycle of recording in this process.
//!
//! ```text
//!             first hook call                 fork: the page reads as zeros
//!  VIRGIN ----> STARTING ----> READY  --------------------------------------> (child) wake -> READY
//!                  \                \
//!                   `--> OFF         `--> OFF    (no segment, or one that does not fit: forward for ever)
//! ```
//! `READY` with [`Page::on`] set is the fast path: one load tells a thread that it may record, and that it has not been forked since.
#![allow(unsafe_code)]

use crate::{arch, event, modules, python, real, selection, spawn, stack, sys, thread};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use heaptape_shm::control::StackMode;
use heaptape_shm::entry::note;
use heaptape_shm::{Options, ProcessSlot, Segment, State, NONE};

/// [`Page::on`]: recording, and every thread has thread-local storage of its own.
const ON: u32 = 1;
/// [`Page::on`]: recording, but there may be tasks that share another's thread-local storage.
const WARY: u32 = 2;

const VIRGIN: u32 = 0;
const STARTING: u32 = 1;
const READY: u32 = 2;
const OFF: u32 = 3;

static LIFE: AtomicU32 = AtomicU32::new(VIRGIN);
static PAGE: AtomicPtr<Page> = AtomicPtr::new(core::ptr::null_mut());
/// Raised in each forked child: what belongs to an older generation is the parent's.
static GENERATION: AtomicU32 = AtomicU32::new(1);
/// Stamp of the latest fork, by the handler that runs before it.
static FORK_STAMP: AtomicU64 = AtomicU64::new(0);

/// Copy of [`Page::process`] that a child can still read.
static PARENT_SLOT: AtomicU32 = AtomicU32::new(NONE);

/// Private memory that reads as zeros in a forked child.
#[repr(C)]
pub struct Page {
    /// [`ON`] or [`WARY`] while this very process is registered.
    on: AtomicU32,
    /// Slot of this process.
    process: AtomicU32,
    /// Threads that have recorded here so far.
    threads: AtomicU32,
    /// The generation of this process, if its options allow the quick way; see [`crate::quick`].
    quick: AtomicU32,
}

struct Place(UnsafeCell<MaybeUninit<Shared>>);
// SAFETY: written once by the thread that starts, before `PAGE` is published; only read afterwards.
unsafe impl Sync for Place {}
static SHARED: Place = Place(UnsafeCell::new(MaybeUninit::uninit()));

/// What stays the same as long as the process lives.
pub struct Shared {
    /// The shared memory.
    pub segment: Segment,
    /// Its options.
    pub options: Options,
    page: *const Page,
    /// Path of the program, as long as it could be read.
    executable: (*const u8, usize),
}

/// A recording that is under way in this process.
#[derive(Clone, Copy)]
pub struct Recording(&'static Shared);

impl core::ops::Deref for Recording {
    type Target = Shared;
    #[inline(always)]
    fn deref(&self) -> &Shared {
        self.0
    }
}

impl Recording {
    fn page(&self) -> &'static Page {
        // SAFETY: mapped before `SHARED` was written, never unmapped, all atomics.
        unsafe { &*self.0.page }
    }
    /// Slot of this process.
    pub fn process(&self) -> u32 {
        self.page().process.load(Ordering::Relaxed)
    }
    /// The slot itself.
    pub fn process_slot(&self) -> Option<&'static ProcessSlot> {
        self.segment.processes().get(self.process() as usize)
    }
    /// More than one thread has recorded in this process, so the order between threads matters.
    #[inline(always)]
    pub fn several_threads(&self) -> bool {
        self.page().threads.load(Ordering::Relaxed) > 1
    }
    /// The number of this process for [`quick`]; 0 when its options do not allow it.
    #[inline(always)]
    pub fn quick(&self) -> u32 {
        self.page().quick.load(Ordering::Relaxed)
    }
    /// One more thread records here.
    pub fn count_thread(&self) {
        self.page().threads.fetch_add(1, Ordering::Relaxed);
    }
}

/// The recording, if this process is in one, whatever its state.
#[inline(always)]
pub fn attached() -> Option<Recording> {
    let page = PAGE.load(Ordering::Acquire);
    // SAFETY: never unmapped once published.
    match unsafe { page.as_ref() } {
        // SAFETY: `SHARED` was written before `PAGE` was published.
        Some(page) if page.on.load(Ordering::Acquire) == ON => unsafe { Some(recording()) },
        _ => wake(),
    }
}

/// The recording, if events are to be recorded now.
#[inline(always)]
pub fn recording_now() -> Option<Recording> {
    going_on().and_then(|(recording, now)| now.then_some(recording))
}

/// The recording, unless it has ended, and whether events are to be recorded now.
#[inline(always)]
pub fn going_on() -> Option<(Recording, bool)> {
    const NOW: u32 = State::Recording as u32;
    const PAUSED: u32 = State::Paused as u32;
    let recording = attached()?;
    match recording.segment.control().state.load(Ordering::Relaxed) {
        NOW => Some((recording, true)),
        PAUSED => Some((recording, false)),
        _ => None,
    }
}

/// In the numbers of processes that do not record all blocks.
const PARTIAL: u32 = 1 << 31;

/// Whether several threads record, and whether events are to be recorded now, if the quick way is open for a thread that was let in under this number. Where not all
/// blocks are recorded it is open to those only that are (`SELECTED`).
#[inline(always)]
pub fn quick<const SELECTED: bool>(number: u32) -> Option<(bool, bool)> {
    let page = PAGE.load(Ordering::Relaxed);
    let open = match SELECTED {
        true => number & PARTIAL != 0,
        false => number as i32 > 0,
    };
    if !open {
        return None;
    }
    // SAFETY: a number other than 0 was given by `Recording::quick`, after the page was published; it is never unmapped.
    let page = unsafe { &*page };
    if page.quick.load(Ordering::Relaxed) != number {
        return None;
    }
    // SAFETY: `SHARED` was written before the page was published.
    let state = unsafe { recording() }.segment.control().state.load(Ordering::Relaxed);
    Some((
        page.threads.load(Ordering::Relaxed) > 1,
        state == State::Recording as u32,
    ))
}

/// # Safety
/// `SHARED` must have been written.
#[inline(always)]
unsafe fn recording() -> Recording {
    // SAFETY: the caller's promise.
    Recording(unsafe { (*SHARED.0.get()).assume_init_ref() })
}

/// Path of the program of this process, empty when not known.
pub fn executable() -> &'static [u8] {
    if PAGE.load(Ordering::Acquire).is_null() {
        return &[];
    }
    // SAFETY: `SHARED` was written before `PAGE` was published; the memory is never unmapped.
    unsafe {
        let (path, length) = recording().executable;
        core::slice::from_raw_parts(path, length)
    }
}

/// The generation of this process since the first of its line.
#[inline(always)]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Ends recording for every process of this recording.
pub fn die() {
    if !PAGE.load(Ordering::Acquire).is_null() {
        // SAFETY: `SHARED` was written before `PAGE` was published.
        unsafe { recording() }.segment.control().set_state(State::Dead);
    }
}

#[cold]
#[inline(never)]
fn wake() -> Option<Recording> {
    match LIFE.load(Ordering::Acquire) {
        READY if is_wary() => admit_if_itself(),
        READY => wake_after_fork(),
        VIRGIN if real::is_resolved() => start(),
        _ => None,
    }
}

fn is_wary() -> bool {
    // SAFETY: never unmapped once published.
    unsafe { PAGE.load(Ordering::Acquire).as_ref() }.is_some_and(|page| page.on.load(Ordering::Acquire) == WARY)
}

/// A task is about to be made that shares the maker's thread-local storage. Two writers of one ring would write nonsense; so from now on every call asks
/// who it is. That is slow, and happens in no program that uses libc as it is meant.
pub fn beware_of_twins() {
    // SAFETY: never unmapped once published.
    if let Some(page) = unsafe { PAGE.load(Ordering::Acquire).as_ref() } {
        if page
            .on
            .compare_exchange(ON, WARY, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            page.quick.store(0, Ordering::Release);
        }
    }
}

/// The recording for the thread that the thread-local block belongs to; what its twin does is counted as lost.
#[cold]
fn admit_if_itself() -> Option<Recording> {
    // SAFETY: wary means that `SHARED` was written.
    let recording = unsafe { recording() };
    // SAFETY: thread states are never unmapped.
    let owner = unsafe { arch::local().thread.get().as_ref() }.filter(|thread| thread.is_current());
    if owner.is_none_or(|owner| owner.tid == sys::tid()) {
        return Some(recording);
    }
    recording.segment.control().lost_no_slot.fetch_add(1, Ordering::Relaxed);
    None
}

/// Runs when the library is loaded: a process that never allocates is recorded too, and one that locks itself in has all that it needs by then.
#[link_section = ".init_array"]
#[used]
static AT_LOAD: extern "C" fn() = at_load;

extern "C" fn at_load() {
    let errno = real::Errno::save();
    real::prepare();
    if let Some(recording) = attached() {
        // SAFETY: libc's own; other threads cannot be yet.
        unsafe { spawn::tell_children(&raw mut environ) };
        arch::guarded(|| python::look_everywhere(recording));
        // Not at the first hook call: that may come from inside libc's own registration, under its lock.
        real::register_at_exit(at_exit);
    }
    drop(errno);
}

extern "C" fn at_exit(status: i32, _: *mut core::ffi::c_void) {
    exiting(status);
}

/// Ends the recording of this process, which goes on without: it is about to do something after which the recorder's way of working would harm it. The tape says so.
pub fn leave(reason: &[u8]) {
    if let Some(recording) = attached() {
        event::lone_note(recording, note::MARKER, reason);
        LIFE.store(OFF, Ordering::Release);
        recording.page().quick.store(0, Ordering::Release);
        recording.page().on.store(0, Ordering::Release);
    }
}

/// This process is about to end with a status, which nobody but its parent could know otherwise. A child that runs in its parent's memory (`vfork`) says so in
/// its parent's name, but its parent comes here later, and the last word counts. To ask the system who we are might be forbidden.
pub fn exiting(status: i32) {
    if let Some(recording) = attached() {
        event::lone_note(recording, note::EXIT, &status.to_le_bytes());
    }
}

/// The first call of a hook: find the segment, register.
fn start() -> Option<Recording> {
    // Before libc has set it there is nothing to know; a later call will try again.
    let environment = environment()?;
    if LIFE
        .compare_exchange(VIRGIN, STARTING, Ordering::AcqRel, Ordering::Relaxed)
        .is_err()
    {
        return None;
    }
    // SAFETY: the environment.
    let path = unsafe {
        match variable(environment, b"HEAPTAPE_SEGMENT=") {
            None if variable(environment, b"HEAPTAPE_OUTPUT=").is_some() => spawn::collector(environment),
            path => path,
        }
    };
    let started = path.and_then(map);
    if started.is_some() {
        // Before anybody may record: libc may allocate for this (musl always does), and that call would take an unregistered process for a forked child.
        real::register_at_fork(before_fork, after_fork_in_child);
    }
    LIFE.store(if started.is_some() { READY } else { OFF }, Ordering::Release);
    let page = started?;
    register(page, NONE, arch::stamp())
}

/// Maps everything that lasts for the life of the process.
fn map(path: *const u8) -> Option<&'static Page> {
    // SAFETY: an entry of the environment, NUL-terminated.
    let (base, length) = unsafe { sys::map_file(path) }?;
    // SAFETY: freshly mapped, shared, and never unmapped.
    let segment = unsafe { Segment::open(base, length) }?;
    let options = segment.control().options();
    let page = sys::memory(4096) as *mut Page;
    if page.is_null()
        || !thread::prepare()
        || !stack::prepare(options.stack_mode == StackMode::None)
        || !selection::prepare(&options)
    {
        return None;
    }
    // Without this, only forks through libc are noticed (`after_fork_in_child`).
    sys::wipe_on_fork(page as *mut u8, 4096);
    modules::prepare();
    let path = sys::memory(modules::MOST_PATH);
    if path.is_null() {
        return None;
    }
    // Read once, now: later there may be no /proc, or no leave to look.
    // SAFETY: fresh memory of this length.
    let length = sys::read_link(c"/proc/self/exe", unsafe {
        core::slice::from_raw_parts_mut(path, modules::MOST_PATH)
    });
    let executable = (path as *const u8, length);
    // SAFETY: only one thread starts, and nobody reads before `PAGE` is published.
    unsafe {
        (*SHARED.0.get()).write(Shared {
            segment,
            options,
            page,
            executable,
        })
    };
    PAGE.store(page, Ordering::Release);
    // SAFETY: zeroed memory is a valid Page, and it is never unmapped.
    Some(unsafe { &*page })
}

/// Takes a process slot, and lets the threads of this process record.
fn register(page: &'static Page, forked_from: u32, stamp: u64) -> Option<Recording> {
    // SAFETY: pages exist only once `SHARED` is written.
    let recording = unsafe { recording() };
    let pid = sys::pid();
    let parent = sys::parent_pid();
    let Some(slot) = recording.segment.claim_process(pid, parent, forked_from, stamp) else {
        recording
            .segment
            .control()
            .lost_processes
            .fetch_add(1, Ordering::Relaxed);
        LIFE.store(OFF, Ordering::Release);
        return None;
    };
    page.process.store(slot, Ordering::Relaxed);
    page.threads.store(0, Ordering::Relaxed);
    PARENT_SLOT.store(slot, Ordering::Relaxed);
    let options = &recording.options;
    if !options.check_stacks && !real::is_foreign() {
        let partial = if selection::is_partial(options) { PARTIAL } else { 0 };
        page.quick.store(generation() | partial, Ordering::Relaxed);
    }
    page.on.store(ON, Ordering::Release);
    event::process_note(recording, forked_from != NONE);
    Some(recording)
}

extern "C" fn before_fork() {
    let page = PAGE.load(Ordering::Acquire);
    // SAFETY: never unmapped once published.
    if unsafe { page.as_ref() }.is_some_and(|page| page.on.load(Ordering::Acquire) != 0) {
        let stamp = arch::stamp_after();
        FORK_STAMP.store(stamp, Ordering::Relaxed);
        event::fork_note(stamp);
    }
}

extern "C" fn after_fork_in_child() {
    let page = PAGE.load(Ordering::Acquire);
    // SAFETY: never unmapped once published.
    if let Some(page) = unsafe { page.as_ref() } {
        // Where the kernel could not wipe the page.
        page.quick.store(0, Ordering::Release);
        page.on.store(0, Ordering::Release);
        attached();
    }
}

/// The page reads as zeros: this is a child.
fn wake_after_fork() -> Option<Recording> {
    let page = PAGE.load(Ordering::Acquire);
    // SAFETY: never unmapped once published.
    let page = unsafe { page.as_ref() }?;
    if LIFE
        .compare_exchange(READY, STARTING, Ordering::AcqRel, Ordering::Relaxed)
        .is_err()
    {
        return None;
    }
    let parent = PARENT_SLOT.load(Ordering::Relaxed);
    GENERATION.fetch_add(1, Ordering::Relaxed);
    thread::forget_parent();
    stack::forget_parent();
    modules::forget_parent();
    python::forget_parent();
    LIFE.store(READY, Ordering::Release);
    let stamp = match FORK_STAMP.swap(0, Ordering::Relaxed) {
        0 => arch::stamp(),
        stamp => stamp,
    };
    register(page, parent, stamp)
}

extern "C" {
    static mut environ: *const *const u8;
}

/// The environment: libc's, or, before libc has set that, where the kernel has put it: behind the arguments. `None`: neither is known yet.
fn environment() -> Option<*const *const u8> {
    // SAFETY: nobody changes it this early.
    let known = unsafe { environ };
    if !known.is_null() {
        return Some(known);
    }
    let arguments = real::stack_top()?;
    // SAFETY: their number, the arguments, and a null pointer come first.
    Some(unsafe { arguments.add(*(arguments as *const usize) + 2) })
}

/// Value of a variable, `name` with its equals sign.
///
/// # Safety
/// `entry` must be an environment: a NULL-terminated array of NUL-terminated strings.
unsafe fn variable(mut entry: *const *const u8, name: &[u8]) -> Option<*const u8> {
    // SAFETY: the caller's promise; the first difference ends a comparison.
    unsafe {
        while !(*entry).is_null() {
            let text = *entry;
            if (0..name.len()).all(|at| *text.add(at) == name[at]) {
                return Some(text.add(name.len()));
            }
            entry = entry.add(1);
        }
    }
    None
}
