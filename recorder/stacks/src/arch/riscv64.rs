//! riscv64 (RISC-V psABI, LP64D).

use super::linked::Machine;
pub use super::linked::{rule_for, step, Saved};
use crate::rule::{Kind, Rule};

/// The frame pointer, s0.
pub type Fp = usize;

/// The slot of a return address may lie anywhere in its frame.
pub const SLOT_BELOW_CFA: bool = false;

/// Where a module's table says nothing, the chain of frame pointers is tried.
pub const FRAME_POINTERS_ARE_BELIEVED: bool = true;

/// `li a7, 139` (rt_sigreturn), `ecall`: not every trampoline has an unwind table.
pub const TRAMPOLINES: [([u32; 2], Rule); 1] = [([0x08b0_0893, 0x0000_0073], Rule::bare(Kind::Signal))];

/// Offset of the saved registers in `struct rt_sigframe`: `siginfo`, and `ucontext` up to its machine context. The program counter is the first, the others by number.
const REGISTERS: usize = 128 + 176;

/// See [`Machine`].
pub const MACHINE: Machine = Machine {
    sp: 2,
    fp: 8,
    context_pc: REGISTERS,
    context_sp: REGISTERS + 2 * 8,
    context_fp: REGISTERS + 8 * 8,
    context_link: REGISTERS + 8,
    record_at_fp: -16,
    record_ends_frame: true,
    zero_ends_chain: false,
};

/// The program counter in a saved return address.
#[inline(always)]
pub const fn address(word: usize) -> usize {
    word
}
