//! x86_64 (System V).
#![allow(unsafe_code)]

pub mod stub;
mod switch;

pub use switch::{call_on_stack, return_from};

use crate::thread::Local;
use core::arch::asm;

/// Where the calling thread's local block lies.
#[inline(always)]
pub fn local_address() -> *const Local {
    let address: *const Local;
    // SAFETY: only reads the thread pointer and a constant of the loader's.
    unsafe {
        asm!(
            "mov {address}, qword ptr [rip + heaptape_local@GOTTPOFF]",
            "add {address}, qword ptr fs:[0]",
            address = out(reg) address,
            options(nostack, pure, readonly),
        );
    }
    address
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
