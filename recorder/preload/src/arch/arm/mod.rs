//! arm (AAPCS32 with hardware floating point, ARM code).
#![allow(unsafe_code)]

pub mod stub;
mod switch;

pub use switch::{call_on_stack, return_from};

use crate::thread::Local;
use core::arch::{asm, global_asm};
use heaptape_stacks::arch::Fp;

// The tables of prebuilt code refer to these two. Nothing here is unwound; who tries is told that it fails.
global_asm!(
    ".pushsection .text.heaptape_personality,\"ax\",%progbits",
    ".globl __aeabi_unwind_cpp_pr0",
    ".hidden __aeabi_unwind_cpp_pr0",
    ".globl __aeabi_unwind_cpp_pr1",
    ".hidden __aeabi_unwind_cpp_pr1",
    ".p2align 2",
    "__aeabi_unwind_cpp_pr0:",
    "__aeabi_unwind_cpp_pr1:",
    "mov r0, #9",
    "bx lr",
    ".popsection",
);

/// Where the calling thread's local block lies.
#[inline(always)]
pub fn local_address() -> *const Local {
    let address: *const Local;
    // SAFETY: only reads the thread pointer and a constant of the loader's.
    unsafe {
        asm!(
            "ldr {offset}, 3f",
            "2: ldr {offset}, [pc, {offset}]",
            "mrc p15, 0, {address}, c13, c0, 3",
            "b 4f",
            "3: .word heaptape_local(GOTTPOFF) + (. - 2b - 8)",
            "4: add {address}, {address}, {offset}",
            offset = out(reg) _,
            address = out(reg) address,
            options(nostack, pure, readonly, preserves_flags),
        );
    }
    address
}

/// The thread pointer: where libc's descriptor of the calling thread ends.
#[inline(always)]
pub fn thread_pointer() -> usize {
    let address: usize;
    // SAFETY: only reads a register.
    unsafe { asm!("mrc p15, 0, {}, c13, c0, 3", out(reg) address, options(nostack, nomem, preserves_flags)) };
    address
}

/// What stamps are made of. The counter is out of reach of user code on many of these machines: the clock, which is read without a system call where that can be had.
#[inline(always)]
pub fn counter() -> u64 {
    crate::sys::monotonic()
}

/// The caller's frame pointers: an entry has put them below the slot.
#[inline(always)]
pub fn frame_pointer(slot: *const usize, _: usize) -> Fp {
    // SAFETY: two words of the stack below the slot; an entry has put them there, and its frame lives. (Where nobody has, nothing is made of them.)
    unsafe {
        Fp {
            r7: slot.sub(2).read_volatile(),
            r11: slot.sub(1).read_volatile(),
        }
    }
}
