//! x86_64 (System V): the return address lies just below the CFA.

mod cfi;
mod rule;
mod walk;

pub use cfi::rule_for;
pub use rule::SavedFp;
pub use walk::step;

use crate::rule::{Kind, Rule};

/// The frame pointer.
pub type Fp = usize;

/// Above the slot of a return address lies the caller's frame.
pub const SLOT_BELOW_CFA: bool = true;

/// Where a module's table says nothing, the chain of frame pointers is tried.
pub const FRAME_POINTERS_ARE_BELIEVED: bool = true;

/// `mov rax, 15` (rt_sigreturn), `syscall`, as glibc and musl have it; musl without an unwind table.
pub const TRAMPOLINES: [([u32; 2], Rule); 1] = [([0x0fc0_c748, 0x0f00_0000], Rule::bare(Kind::Signal))];

/// The program counter in a saved return address.
#[inline(always)]
pub const fn address(word: usize) -> usize {
    word
}
