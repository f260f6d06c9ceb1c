//! Following a stack outwards, one rule at a time.
#![allow(unsafe_code)]

use crate::rule::{Kind, Rule, SavedFp};

/// The registers that matter, at some frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regs {
    /// Program counter: the return address into this frame, or the interrupted instruction.
    pub pc: usize,
    /// Stack pointer as it is once the inner frame has returned.
    pub sp: usize,
    /// Frame pointer.
    pub fp: usize,
    /// `pc` is an interrupted instruction, not the one after a call.
    pub interrupted: bool,
}

/// A frame: the place that holds its program counter, and what stood there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Frame {
    /// Address of the word that holds the program counter, which is even; bit 0 is set when that is an interrupted instruction.
    pub slot: usize,
    /// The program counter.
    pub pc: usize,
    /// Frame pointer in this frame.
    pub fp: usize,
}

impl Frame {
    /// What is recorded: an address of which one less lies in the instruction meant.
    #[inline]
    pub fn return_address(&self) -> usize {
        self.pc + (self.slot & 1)
    }
}

/// Result of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next outer frame.
    Outer {
        /// As it is recorded.
        frame: Frame,
        /// Its registers.
        regs: Regs,
    },
    /// There is none: this was the outermost frame.
    End,
    /// There may be one, but it cannot be found.
    Lost,
}

/// Offsets of rbp, rsp and rip in the context that the kernel pushes for a signal (`struct ucontext`, x86_64).
const CONTEXT_RBP: usize = 120;
const CONTEXT_RSP: usize = 160;
const CONTEXT_RIP: usize = 168;

/// # Safety
/// `address` must be readable if it is aligned.
#[inline(always)]
unsafe fn read(address: usize) -> Option<usize> {
    if address & 7 != 0 || address < 4096 {
        return None;
    }
    // SAFETY: aligned, and readable by the caller's promise.
    Some(unsafe { (address as *const usize).read_volatile() })
}

/// One step outwards from `regs` by `rule`. `limit` is the end of the stack where it is known, else `usize::MAX`.
///
/// # Safety
/// `regs` must be registers of a frame that is live on a readable stack, and `rule` the rule of its program counter.
#[inline(always)]
pub unsafe fn step(rule: Rule, regs: Regs, limit: usize) -> Step {
    if rule.is_plain() {
        let cfa = regs.sp.wrapping_add_signed(rule.cfa_offset());
        if cfa <= regs.sp || cfa > limit || cfa & 7 != 0 {
            return Step::Lost;
        }
        // SAFETY: the return address of a live frame, as the rule says; aligned as was just seen.
        let pc = unsafe { ((cfa - 8) as *const usize).read_volatile() };
        return outer(cfa, pc, regs.fp);
    }
    // SAFETY: what a rule names in a live frame lies on its stack.
    unsafe { try_step(rule, regs, limit) }.unwrap_or(Step::Lost)
}

/// The caller's frame, by its CFA, its program counter and its frame pointer.
#[inline(always)]
fn outer(cfa: usize, pc: usize, fp: usize) -> Step {
    if pc < 4096 {
        // A zero return address marks the outermost frame of stacks without an unwind table.
        return Step::End;
    }
    Step::Outer {
        frame: Frame { slot: cfa - 8, pc, fp },
        regs: Regs {
            pc,
            sp: cfa,
            fp,
            interrupted: false,
        },
    }
}

/// # Safety
/// As for [`step`].
#[inline(always)]
unsafe fn try_step(rule: Rule, regs: Regs, limit: usize) -> Option<Step> {
    // SAFETY (all reads below): saved registers of live frames, as the rule says; a guess is checked against the limits of the stack first.
    let cfa = match rule.kind() {
        Kind::Sp => regs.sp.wrapping_add_signed(rule.cfa_offset()),
        Kind::Fp => regs.fp.wrapping_add_signed(rule.cfa_offset()),
        Kind::FpDeref => {
            // SAFETY: see above.
            unsafe { read(regs.fp.wrapping_add_signed(rule.cfa_offset())) }?
        }
        Kind::Signal => {
            // SAFETY: the kernel has put the context at the stack pointer of the trampoline.
            let (pc, sp, fp) = unsafe {
                (
                    read(regs.sp + CONTEXT_RIP)?,
                    read(regs.sp + CONTEXT_RSP)?,
                    read(regs.sp + CONTEXT_RBP)?,
                )
            };
            let frame = Frame {
                slot: (regs.sp + CONTEXT_RIP) | 1,
                pc,
                fp,
            };
            return Some(Step::Outer {
                frame,
                regs: Regs {
                    pc,
                    sp,
                    fp,
                    interrupted: true,
                },
            });
        }
        Kind::End => return Some(Step::End),
        Kind::Guess => {
            let inside = regs.fp >= regs.sp && regs.fp < limit.checked_sub(16)? && limit != usize::MAX;
            if !inside || regs.fp & 7 != 0 {
                return None;
            }
            regs.fp + 16
        }
        Kind::Unknown => return None,
    };
    // The stack grows downwards: a caller's frame lies above, and not beyond the stack.
    if cfa <= regs.sp || cfa > limit || cfa & 7 != 0 {
        return None;
    }
    let slot = cfa - 8;
    // SAFETY: see above.
    let pc = unsafe { read(slot) }?;
    let fp = match (rule.kind(), rule.saved_fp()) {
        // SAFETY: see above.
        (Kind::Guess, _) => unsafe { read(cfa - 16) }?,
        (_, SavedFp::Same) => regs.fp,
        // SAFETY: see above.
        (_, SavedFp::AtCfa) => unsafe { read(cfa.wrapping_add_signed(rule.fp_offset())) }?,
        // SAFETY: see above.
        (_, SavedFp::AtFp) => unsafe { read(regs.fp.wrapping_add_signed(rule.fp_offset())) }?,
    };
    Some(outer(cfa, pc, fp))
}
