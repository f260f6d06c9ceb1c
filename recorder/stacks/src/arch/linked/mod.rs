//! Processors that have the return address in a link register: a function that calls others saves it somewhere in its frame, mostly beside the frame pointer.

mod cfi;
mod rule;
mod walk;

pub use cfi::rule_for;
pub use rule::Saved;
pub use walk::step;

/// The registers of a processor of this kind, and where the kernel puts them for a signal: offsets from the stack pointer of the trampoline.
pub struct Machine {
    /// Number of the stack pointer in unwind tables.
    pub sp: u16,
    /// Number of the frame pointer.
    pub fp: u16,
    /// Where the interrupted program counter is.
    pub context_pc: usize,
    /// And the stack pointer.
    pub context_sp: usize,
    /// And the frame pointer.
    pub context_fp: usize,
    /// And the link register.
    pub context_link: usize,
    /// Offset from what the frame pointer points to, to where the caller's frame pointer is saved; the return address is in the word above.
    pub record_at_fp: isize,
    /// Whether that is the end of the frame: above it lies the caller's.
    pub record_ends_frame: bool,
    /// Whether a frame pointer of zero says that this is the outermost frame; where the register may hold anything else, it says nothing.
    pub zero_ends_chain: bool,
}
