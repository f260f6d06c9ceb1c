//! aarch64 (AAPCS64).
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
            "adrp {offset}, :gottprel:heaptape_local",
            "ldr {offset}, [{offset}, :gottprel_lo12:heaptape_local]",
            "mrs {address}, tpidr_el0",
            "add {address}, {address}, {offset}",
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
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) address, options(nostack, nomem, preserves_flags)) };
    address
}

/// What stamps are made of: the virtual counter.
#[inline(always)]
pub fn counter() -> u64 {
    let counter: u64;
    // SAFETY: Linux lets user code read the virtual counter.
    unsafe { asm!("mrs {}, cntvct_el0", out(reg) counter, options(nostack, nomem, preserves_flags)) };
    counter
}
