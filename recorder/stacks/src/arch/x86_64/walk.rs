//! One step outwards.
#![allow(unsafe_code)]

use super::SavedFp;
use crate::rule::{Kind, Rule};
use crate::walk::{outer, read, Frame, Regs, Step};

/// Offsets of rbp, rsp and rip in the context that the kernel pushes for a signal (`struct ucontext`, x86_64).
const CONTEXT_RBP: usize = 120;
const CONTEXT_RSP: usize = 160;
const CONTEXT_RIP: usize = 168;

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
        return outer(cfa, cfa - 8, pc, regs.fp);
    }
    // SAFETY: what a rule names in a live frame lies on its stack.
    unsafe { try_step(rule, regs, limit) }.unwrap_or(Step::Lost)
}

/// # Safety
/// As for [`step`].
#[inline(always)]
unsafe fn try_step(rule: Rule, regs: Regs, limit: usize) -> Option<Step> {
    // SAFETY (all reads below): saved registers of live frames, as the rule says; a guess is checked against the limits of the stack first.
    let cfa = match rule.kind() {
        Kind::Sp => regs.sp.wrapping_add_signed(rule.cfa_offset()),
        Kind::Fp | Kind::Crossing => regs.fp.wrapping_add_signed(rule.cfa_offset()),
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
                    sp_is_known: true,
                    fp,
                    link: 0,
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
    let is_below = cfa <= regs.sp && rule.kind() != Kind::Crossing;
    if is_below || cfa > limit || cfa & 7 != 0 {
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
    Some(outer(cfa, slot, pc, fp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_function_that_switches_stacks_has_its_caller_further_down() {
        // The caller's frame pointer, and the return address into it.
        let own = [0x1234usize, 0x50_0000];
        let fp = own.as_ptr() as usize;
        let regs = |sp: usize| Regs {
            pc: 0x40_0000,
            sp,
            sp_is_known: true,
            fp,
            link: 0,
            interrupted: false,
        };
        let rule = Rule::new(Kind::Fp, 16, SavedFp::AtCfa, -16);
        let outer = outer(fp + 16, fp + 8, 0x50_0000, 0x1234);
        for (rule, sp, expected) in [
            (rule, fp - 64, outer),
            (rule, fp + 64, Step::Lost),
            (rule.crossing(), fp - 64, outer),
            (rule.crossing(), fp + 64, outer),
        ] {
            // SAFETY: the rule names words of the array alone.
            assert_eq!(unsafe { step(rule, regs(sp), usize::MAX) }, expected);
        }
        assert_eq!(Rule::plain(16).crossing(), Rule::plain(16));
    }
}
