//! What depends on the processor: the counter, thread-local storage, switching to another stack. x86_64.
#![allow(unsafe_code)]

use crate::thread::Local;
use core::arch::{asm, global_asm};

// Thread-local storage in the initial-exec model, by hand: stable Rust would use the general-dynamic model in a shared library,
// where an access can call the loader, and the loader can call malloc.
global_asm!(
    ".pushsection .tbss.heaptape,\"awT\",@nobits",
    ".p2align 4",
    ".globl heaptape_local",
    ".hidden heaptape_local",
    ".type heaptape_local, @object",
    ".size heaptape_local, 128",
    "heaptape_local:",
    ".zero 128",
    ".popsection",
);

// Prebuilt `core` refers to this even though nothing here unwinds.
global_asm!(
    ".pushsection .text.heaptape_personality,\"ax\",@progbits",
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    "rust_eh_personality:",
    "ud2",
    ".popsection",
);

/// The calling thread's local block; zeroed in a new thread.
#[inline(always)]
pub fn local() -> &'static Local {
    let address: *const Local;
    // SAFETY: reads the thread pointer and a constant of the loader's; the block has the size of a `Local` (checked in `thread`), for which
    // all zeros is a value. It lives as long as its thread, and nobody else has its address.
    unsafe {
        asm!(
            "mov {address}, qword ptr [rip + heaptape_local@GOTTPOFF]",
            "add {address}, qword ptr fs:[0]",
            address = out(reg) address,
            options(nostack, pure, readonly),
        );
        &*address
    }
}

/// The thread pointer: where libc keeps its descriptor of the calling thread.
#[inline(always)]
pub fn thread_pointer() -> usize {
    let address: usize;
    // SAFETY: the first word that the thread pointer points to is that pointer itself.
    unsafe {
        asm!("mov {address}, qword ptr fs:[0]", address = out(reg) address, options(nostack, pure, readonly));
    }
    address
}

/// The CPU's counter now.
#[inline(always)]
pub fn stamp() -> u64 {
    // SAFETY: the instruction only reads the counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The CPU's counter once everything before has happened: an allocation must not seem older than the free that made room for it.
#[inline(always)]
pub fn stamp_after() -> u64 {
    // SAFETY: the instructions only order and read.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
}

/// Calls `function(argument)` on the stack that ends at `top`, or on this one if that is null; the place to go on from is left in `place`. Its unwind table holds
/// throughout: a signal handler may come at any instruction, and want a stack.
///
/// # Safety
/// Below `top` there must be enough writable memory that nobody else uses meanwhile. `function` must not unwind.
#[unsafe(naked)]
unsafe extern "C" fn call_on_stack(
    top: *mut u8,
    function: unsafe extern "C" fn(*mut u8),
    argument: *mut u8,
    place: *mut usize,
) {
    core::arch::naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        ".cfi_def_cfa_offset 56",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov qword ptr [rcx], rsp",
        "test rdi, rdi",
        "cmovz rdi, rsp",
        "mov rsp, rdi",
        "and rsp, -16",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    )
}

/// Returns from the [`call_on_stack`] that has left this place.
///
/// # Safety
/// That call must not have returned.
#[unsafe(naked)]
unsafe extern "C" fn return_from(place: usize) -> ! {
    core::arch::naked_asm!(
        "mov rsp, rdi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Something to run, and what came of it.
struct Call<F, T> {
    run: Option<F>,
    result: Option<T>,
}

impl<F: FnOnce() -> T, T> Call<F, T> {
    fn new(run: F) -> Self {
        Call {
            run: Some(run),
            result: None,
        }
    }

    #[inline(always)]
    fn go(&mut self) {
        self.result = self.run.take().map(|run| run());
    }

    // Two of them, so that what runs on the target's stacks can be told from what does not (`.ci/gates` measures the former).
    unsafe extern "C" fn elsewhere(call: *mut u8) {
        // SAFETY: the pointer that `run_on` passes.
        unsafe { &mut *(call as *mut Self) }.go();
    }
    unsafe extern "C" fn here(call: *mut u8) {
        // SAFETY: the pointer that `guarded` passes.
        unsafe { &mut *(call as *mut Self) }.go();
    }
}

/// Runs something on the stack that ends at `top`. `None`: it has panicked, and was left ([`rescue`]).
///
/// # Safety
/// As for [`call_on_stack`].
pub unsafe fn run_on<T, F: FnOnce() -> T>(top: *mut u8, run: F) -> Option<T> {
    // SAFETY: the caller's promise.
    unsafe { run_by(top, Call::<F, T>::elsewhere, run) }
}

/// Runs what might panic, by the look of the compiled code. `None`: it has.
#[inline(always)]
pub fn guarded<T, F: FnOnce() -> T>(run: F) -> Option<T> {
    // SAFETY: on this very stack.
    unsafe { run_by(core::ptr::null_mut(), Call::<F, T>::here, run) }
}

/// # Safety
/// As for [`call_on_stack`]; `enter` is one of the two functions of `Call<F, T>`.
#[inline(always)]
unsafe fn run_by<T, F: FnOnce() -> T>(top: *mut u8, enter: unsafe extern "C" fn(*mut u8), run: F) -> Option<T> {
    let mut call = Call::new(run);
    let place = &local().rescue;
    let outer = place.get();
    // SAFETY: the caller's promise; panics do not unwind.
    unsafe { call_on_stack(top, enter, &mut call as *mut Call<F, T> as *mut u8, place.as_ptr()) };
    place.set(outer);
    call.result
}

/// Goes on behind the innermost [`call_on_stack`] of this thread, as if the function called there had returned. Returns when there is none.
pub fn rescue() {
    let place = local().rescue.get();
    if place == 0 {
        return;
    }
    // SAFETY: a call that has not come back: it takes its place away then.
    unsafe { return_from(place) }
}
