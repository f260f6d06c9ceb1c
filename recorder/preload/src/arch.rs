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

/// Calls `function(argument)` on another stack that ends at `top`, or on this one if that is null. Comes back too when `function` is left by [`rescue`].
///
/// # Safety
/// Below `top` there must be enough writable memory that nobody else uses meanwhile. `function` must not unwind.
unsafe fn call_on_stack(top: *mut u8, function: unsafe extern "C" fn(*mut u8), argument: *mut u8) {
    let place = &local().rescue;
    let outer = place.get();
    // SAFETY: the stack pointer is kept in a callee-saved register and, for a rescue, in the thread-local block; what the compiler does not let us name as
    // changed (rbx, rbp) lies on the stack, all other registers are named.
    unsafe {
        asm!(
            "push rbp",
            "push rbx",
            "lea rax, [rip + 2f]",
            "push rax",
            "mov r12, rsp",
            "mov qword ptr [{place}], rsp",
            "test rsi, rsi",
            "cmovz rsi, rsp",
            "mov rsp, rsi",
            "and rsp, -16",
            "call {function}",
            "mov rsp, r12",
            "pop rax",
            "2:",
            "pop rbx",
            "pop rbp",
            out("rax") _,
            place = in(reg) place.as_ptr(),
            inout("rsi") top => _,
            function = in(reg) function,
            inout("rdi") argument => _,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
            clobber_abi("C"),
        );
    }
    place.set(outer);
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
    let mut call = Call::new(run);
    // SAFETY: the caller's promise; panics do not unwind.
    unsafe { call_on_stack(top, Call::<F, T>::elsewhere, &mut call as *mut Call<F, T> as *mut u8) };
    call.result
}

/// Runs what might panic, by the look of the compiled code. `None`: it has.
#[inline(always)]
pub fn guarded<T, F: FnOnce() -> T>(run: F) -> Option<T> {
    let mut call = Call::new(run);
    let argument = &mut call as *mut Call<F, T> as *mut u8;
    // SAFETY: on this very stack.
    unsafe { call_on_stack(core::ptr::null_mut(), Call::<F, T>::here, argument) };
    call.result
}

/// Goes on behind the innermost [`call_on_stack`] of this thread, as if the function called there had returned. Returns when there is none.
pub fn rescue() {
    let place = local().rescue.get();
    if place == 0 {
        return;
    }
    // SAFETY: the stack pointer stored by a call of `call_on_stack` that has not come back (it takes it away then); the place to go on lies there.
    unsafe {
        asm!(
            "mov rsp, {place}",
            "pop rax",
            "jmp rax",
            place = in(reg) place,
            options(noreturn),
        )
    }
}
