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

/// Calls `function(argument)` on another stack that ends at `top`. Comes back too when `function` is left by [`rescue`].
///
/// # Safety
/// `top` must be 16-byte aligned, with enough writable memory below that nobody else uses meanwhile. `function` must not unwind.
pub unsafe fn call_on_stack(top: *mut u8, function: unsafe extern "C" fn(*mut u8), argument: *mut u8) {
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
            "mov rsp, {top}",
            "call {function}",
            "mov rsp, r12",
            "pop rax",
            "2:",
            "pop rbx",
            "pop rbp",
            out("rax") _,
            place = in(reg) place.as_ptr(),
            top = in(reg) top,
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
