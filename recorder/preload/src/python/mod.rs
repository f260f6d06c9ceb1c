//! Python: the interpreter in this process, if there is one.
//!
//! ```text
//!                 an object that exports CPython's allocator functions is loaded, or met on a stack
//!  NONE ------> ARRIVING ------> HERE
//! ```
//! From then on its three allocator domains go through [`domains`], and stacks contain its [`frames`], of which [`code`] tells the collector. Where things lie in its
//! memory depends on the version ([`layout`]). Of an interpreter of an unknown version only the domains are recorded, and a note says so.
//!
//! Nothing here runs Python code or takes the interpreter's lock. Two of its functions are called at the start (they copy a struct each), one at each event
//! of its mem and obj domains, which reads a thread-local variable.
#![allow(unsafe_code)]

mod code;
pub mod domains;
mod elf;
pub mod frames;
mod layout;
pub mod quick;
mod tables;
pub mod types;
mod version;
mod watch;

use crate::event;
use crate::life::Recording;
use crate::modules::{self, Located};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use heaptape_shm::entry::note;
use heaptape_stacks::arch::address;
use layout::Layout;

const NONE: u32 = 0;
const ARRIVING: u32 = 1;
static STATE: AtomicU32 = AtomicU32::new(NONE);

/// What is known of the interpreter.
pub struct Interpreter {
    /// Where things lie; frames are only read where that is known.
    pub layout: Layout,
    /// The thread state of the calling thread, when it holds the lock.
    current: unsafe extern "C" fn() -> usize,
    /// The evaluation function.
    evaluation: Range<usize>,
    /// The type of code objects.
    code_type: usize,
    /// Its types, where they can be told.
    types: Option<types::Types>,
}

struct Place(UnsafeCell<MaybeUninit<Interpreter>>);
// SAFETY: written once, before `INTERPRETER` is published; only read afterwards.
unsafe impl Sync for Place {}
static PLACE: Place = Place(UnsafeCell::new(MaybeUninit::uninit()));
static INTERPRETER: AtomicPtr<Interpreter> = AtomicPtr::new(core::ptr::null_mut());

/// The interpreter whose frames are recorded.
#[inline(always)]
pub fn interpreter() -> Option<&'static Interpreter> {
    // SAFETY: written before it was published, never changed.
    unsafe { INTERPRETER.load(Ordering::Acquire).as_ref() }
}

impl Interpreter {
    /// The thread state of the calling thread, which holds the lock.
    #[inline(always)]
    fn current(&self) -> usize {
        // SAFETY: takes nothing; reads a variable.
        unsafe { (self.current)() }
    }

    /// Whether a return address lies in the evaluation function.
    #[inline(always)]
    pub fn evaluates(&self, address: usize) -> bool {
        self.evaluation.contains(&address)
    }
}

/// In a forked child.
pub fn forget_parent() {
    watch::forget_parent();
}

/// Looks for an interpreter among everything that is loaded when the program begins.
pub fn look_everywhere(recording: Recording) {
    modules::visit_all(&mut |located| {
        look(located, &mut |bytes| {
            event::lone_note(recording, note::RUNTIME, bytes);
            true
        });
        STATE.load(Ordering::Acquire) == NONE
    });
}

/// Looks for an interpreter in a loaded object, and begins to record it. `write` tells the collector, by a note of kind `RUNTIME`.
pub fn look(located: &Located, write: &mut dyn FnMut(&[u8]) -> bool) {
    if STATE.load(Ordering::Acquire) != NONE {
        return;
    }
    let Some(symbols) = elf::Symbols::of(located) else {
        return;
    };
    let arrives = || {
        STATE
            .compare_exchange(NONE, ARRIVING, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    };
    let Some(functions) = domains::Functions::of(&symbols) else {
        if symbols.find(b"pypy_main_startup").is_some() && arrives() {
            write(version::Report::of_pypy().bytes());
        }
        return;
    };
    if !arrives() {
        return;
    }
    let mut report = version::Report::of(&symbols);
    if !watch::prepare() {
        report.refuse(b"there is no memory for it");
    } else if let Some(found) = report.layout {
        match known(&symbols, found, report.minor) {
            Some(found) => {
                report.types(found.types.is_some());
                // SAFETY: only one thread comes here, once, and nobody reads before it is published.
                let place = unsafe { (*PLACE.0.get()).write(found) };
                INTERPRETER.store(place, Ordering::Release);
            }
            None => report.refuse(b"it does not export what its frames are found by"),
        }
    }
    write(report.bytes());
    domains::install(functions, located);
}

fn known(symbols: &elf::Symbols, layout: Layout, minor: u32) -> Option<Interpreter> {
    let current = symbols
        .find(b"_PyThreadState_UncheckedGet")
        .or_else(|| symbols.find(b"PyThreadState_GetUnchecked"))?;
    let evaluation = symbols.find(b"_PyEval_EvalFrameDefault")?;
    let code_type = symbols.find(b"PyCode_Type")?;
    let begin = address(evaluation.address);
    Some(Interpreter {
        layout,
        // SAFETY: the function of that name takes nothing and returns a pointer.
        current: unsafe { core::mem::transmute::<usize, unsafe extern "C" fn() -> usize>(current.address) },
        // A return address may lie just behind the last instruction.
        evaluation: begin + 1..begin + evaluation.size + 1,
        code_type: code_type.address,
        types: types::Types::of(symbols, &layout, minor),
    })
}
