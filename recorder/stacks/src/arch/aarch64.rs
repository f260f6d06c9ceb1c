//! aarch64 (AAPCS64). Return addresses may be signed (pointer authentication): the upper bits are taken off wherever one is read.

use super::linked::Machine;
pub use super::linked::{rule_for, step, Saved};
use crate::rule::{Kind, Rule};

/// The frame pointer, x29.
pub type Fp = usize;

/// The slot of a return address may lie anywhere in its frame.
pub const SLOT_BELOW_CFA: bool = false;

/// Where a module's table says nothing, the chain of frame pointers is tried.
pub const FRAME_POINTERS_ARE_BELIEVED: bool = true;

/// `mov x8, #139` (rt_sigreturn), `svc #0`: the kernel's own trampoline has no unwind table any more.
pub const TRAMPOLINES: [([u32; 2], Rule); 1] = [([0xd280_1168, 0xd400_0001], Rule::bare(Kind::Signal))];

/// Offset of the saved registers in `struct rt_sigframe`: `siginfo`, `ucontext` up to its machine context, and the fault's address.
const REGISTERS: usize = 128 + 176 + 8;

/// See [`Machine`].
pub const MACHINE: Machine = Machine {
    sp: 31,
    fp: 29,
    context_pc: REGISTERS + 32 * 8,
    context_sp: REGISTERS + 31 * 8,
    context_fp: REGISTERS + 29 * 8,
    context_link: REGISTERS + 30 * 8,
    record_at_fp: 0,
    record_ends_frame: false,
    zero_ends_chain: true,
};

/// The program counter in a saved return address: without its signature.
#[inline(always)]
#[allow(unsafe_code)]
pub fn address(word: usize) -> usize {
    let address;
    // SAFETY: XPACLRI works on x30 alone, and does nothing on processors without signatures.
    unsafe {
        core::arch::asm!("hint #7", inout("x30") word => address, options(pure, nomem, nostack, preserves_flags))
    };
    address
}
