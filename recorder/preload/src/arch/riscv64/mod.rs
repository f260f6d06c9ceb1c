//! riscv64 (LP64D).
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
            "la.tls.ie {address}, heaptape_local",
            "add {address}, {address}, tp",
            address = out(reg) address,
            options(nostack, pure, readonly),
        );
    }
    address
}

/// The thread pointer: where libc's descriptor of the calling thread ends.
#[inline(always)]
pub fn thread_pointer() -> usize {
    let address: usize;
    // SAFETY: only reads a register.
    unsafe { asm!("mv {}, tp", out(reg) address, options(nostack, nomem)) };
    address
}

/// What stamps are made of: the counter of time.
#[inline(always)]
pub fn counter() -> u64 {
    let counter: u64;
    // SAFETY: Linux lets user code read the counter.
    unsafe { asm!("rdtime {}", out(reg) counter, options(nostack, nomem)) };
    counter
}
