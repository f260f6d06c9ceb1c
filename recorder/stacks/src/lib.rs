//! Stacks for the recorder: who called `malloc`, all the way out, at the cost of a few memory reads.
//!
//! The parts, from slow to fast: [`arch`] makes a [`rule::Rule`] of one word of what the module's unwind table says of one program counter ([`cfi`]; `.ARM.exidx` on arm);
//! [`table`] keeps the rules found so far; [`walk`] follows a stack frame by frame by rules;
//! [`cache`] keeps the last stack of a thread and walks only the frames that changed.
//! [`weave`] does the same for the frames of an interpreter, and puts them where they belong among the native ones.
//!
//! Nothing here allocates, locks or makes a system call; the memory for tables is handed in. Nothing is ever patched in the target's stack.
#![no_std]
#[cfg(test)]
extern crate std;

pub mod arch;
pub mod cache;
#[cfg(not(target_arch = "arm"))]
pub mod cfi;
pub mod module;
pub mod rule;
pub mod table;
pub mod walk;
pub mod weave;

pub use cache::{Capture, StackCache};
pub use rule::Rule;
pub use table::RuleTable;
pub use walk::{Frame, Regs};
pub use weave::{Strand, Weave};
