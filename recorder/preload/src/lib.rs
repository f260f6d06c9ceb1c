//! `libheaptape_preload.so`: sits between a program and its allocator, and writes what happens into shared memory.
//!
//! It never allocates by the allocator it watches, takes no lock and makes no system call per event, keeps no descriptor, starts no thread, writes to no file, and
//! never ends the program. When it cannot record, it forwards.
//!
//! [`hooks`] is the table of symbols; each goes [`real`] (forward) and [`event`] (record, with the stack that [`capture`] takes; most events go the [`quick`] way). [`life`] owns the life cycle and is the only
//! global mutable state besides the tables it hands out; [`thread`] is what a thread owns; [`stack`] and [`modules`] say where we are. [`python`] adds the allocators and the
//! frames of an interpreter.
// These docs are for who works on the library: nothing in it is public.
#![allow(rustdoc::private_intra_doc_links)]
#![no_std]

mod api;
mod arch;
mod capture;
mod event;
mod hooks;
mod life;
mod modules;
mod python;
mod quick;
mod real;
mod selection;
mod spawn;
mod stack;
mod sys;
mod thread;

/// A panic cannot be reported and must not unwind into the program. It ends the recording of all. What can panic at all (reading the unwind tables of strangers)
/// runs on a stack of ours, which is simply left; `.ci/gates` sees to it that nothing else refers to a panic.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    life::die();
    arch::rescue();
    loop {
        core::hint::spin_loop();
    }
}

/// Panics at its twentieth call.
#[cfg(any(heaptape_panic = "cold", heaptape_panic = "here"))]
fn panic_on_purpose() {
    static CALLS: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);
    assert!(CALLS.fetch_add(1, core::sync::atomic::Ordering::Relaxed) != 20);
}
