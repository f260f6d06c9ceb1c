//! What depends on the processor: the counter, thread-local storage, switching to another stack, the entries of the hooks. A folder per processor with
//! the same names in it.
#![allow(unsafe_code)]

use crate::thread::Local;
use core::arch::global_asm;

#[cfg_attr(target_arch = "x86_64", path = "x86_64/mod.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64/mod.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64/mod.rs")]
#[cfg_attr(target_arch = "arm", path = "arm/mod.rs")]
mod processor;
#[cfg(not(target_arch = "x86_64"))]
mod ticket;

use processor::{call_on_stack, local_address, return_from};
pub use processor::{stub, thread_pointer};
// An entry has put the caller's frame pointers beside the return address.
#[cfg(target_arch = "arm")]
pub use processor::frame_pointer;
// A counter that is finer than any event.
#[cfg(target_arch = "x86_64")]
pub use processor::{stamp, stamp_after};

/// Defines exported functions that call a hook with what only an entry can know: the return address's slot and, as far as there are frame pointers in one register, that, in the
/// arguments after their own. `name/number of arguments => hook`; [`stub`] has the entries.
macro_rules! stubs {
    ($($name:ident/$count:tt => $hook:path;)*) => {
        $(
            #[unsafe(naked)]
            #[no_mangle]
            unsafe extern "C" fn $name() {
                $crate::arch::stub::entry!($count $hook)
            }
        )*
    };
}
pub(crate) use stubs;

// Thread-local storage in the initial-exec model, by hand: stable Rust would use the general-dynamic model in a shared library,
// where an access can call the loader, and the loader can call malloc.
global_asm!(
    ".pushsection .tbss.heaptape,\"awT\",%nobits",
    ".p2align 4",
    ".globl heaptape_local",
    ".hidden heaptape_local",
    ".type heaptape_local, %object",
    ".size heaptape_local, 128",
    "heaptape_local:",
    ".zero 128",
    ".popsection",
);

// Prebuilt `core` refers to this even though nothing here unwinds.
global_asm!(
    ".pushsection .text.heaptape_personality,\"ax\",%progbits",
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    "rust_eh_personality:",
    ".long 0",
    ".popsection",
);

// The linker's own symbols, those of this library and no other's.
global_asm!(".hidden __ehdr_start", ".hidden etext");
extern "C" {
    static __ehdr_start: u8;
    static etext: u8;
}

/// The calling thread's local block; zeroed in a new thread.
#[inline(always)]
pub fn local() -> &'static Local {
    // SAFETY: the block has the size of a `Local` (checked in `thread`), for which all zeros is a value. It lives as long as its thread, and nobody else has its address.
    unsafe { &*local_address() }
}

/// The stamp of this moment.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn stamp() -> u64 {
    ticket::stamp(processor::counter())
}

/// The stamp once everything before has happened; tickets see to that.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn stamp_after() -> u64 {
    stamp()
}

/// The caller's frame pointer, by what an entry has handed on.
#[cfg(not(target_arch = "arm"))]
#[inline(always)]
pub fn frame_pointer(_: *const usize, fp: usize) -> heaptape_stacks::arch::Fp {
    fp
}

/// Does the address lie in this library's own code?
pub fn is_ours(address: usize) -> bool {
    let (start, end) = (&raw const __ehdr_start as usize, &raw const etext as usize);
    (start..end).contains(&address)
}

/// Does the address lie in [`call_on_stack`], or little behind it? What stands there beside it has no frame of its own.
pub fn switches_stacks(address: usize) -> bool {
    const MOST_BYTES: usize = 256;
    address.wrapping_sub(call_on_stack as *const () as usize) < MOST_BYTES
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
