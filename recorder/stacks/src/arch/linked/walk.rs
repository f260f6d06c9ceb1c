//! One step outwards.
#![allow(unsafe_code)]

use super::Saved;
use crate::arch::MACHINE;
use crate::rule::{Kind, Rule};
use crate::walk::{outer, read, Frame, Regs, Step, WORD};

/// One step outwards from `regs` by `rule`. `limit` is the end of the stack where it is known, else `usize::MAX`.
///
/// # Safety
/// `regs` must be registers of a frame that is live on a readable stack, and `rule` the rule of its program counter.
#[inline(always)]
pub unsafe fn step(rule: Rule, regs: Regs, limit: usize) -> Step {
    // SAFETY: what a rule names in a live frame lies on its stack.
    unsafe { try_step(rule, regs, limit) }.unwrap_or(Step::Lost)
}

/// # Safety
/// As for [`step`].
#[inline(always)]
unsafe fn try_step(rule: Rule, regs: Regs, limit: usize) -> Option<Step> {
    // SAFETY (all reads below): saved registers of live frames, as the rule says; a guess is checked against the limits of the stack first.
    let cfa = match rule.kind() {
        // A function that saves the pair has the frame pointer lead there by the time it calls another.
        Kind::Sp if !regs.sp_is_known => match rule.saved() {
            Saved::Pair(offset) => regs.fp.checked_add(offset + WORD)?,
            _ => return None,
        },
        Kind::Sp => regs.sp.wrapping_add_signed(rule.cfa_offset()),
        Kind::Fp | Kind::Crossing => regs.fp.wrapping_add_signed(rule.cfa_offset()),
        Kind::Signal => {
            let link = regs.sp + MACHINE.context_link;
            // SAFETY: the kernel has put the context at the stack pointer of the trampoline.
            let (pc, sp, fp) = unsafe {
                (
                    read(regs.sp + MACHINE.context_pc)?,
                    read(regs.sp + MACHINE.context_sp)?,
                    read(regs.sp + MACHINE.context_fp)?,
                )
            };
            let slot = (regs.sp + MACHINE.context_pc) | 1;
            return Some(Step::Outer {
                frame: Frame { slot, pc, fp },
                regs: Regs {
                    pc,
                    sp,
                    sp_is_known: true,
                    fp,
                    link,
                    interrupted: true,
                },
            });
        }
        Kind::End => return Some(Step::End),
        Kind::Guess => {
            if regs.fp == 0 && MACHINE.zero_ends_chain {
                return Some(Step::End);
            }
            let record = regs.fp.checked_add_signed(MACHINE.record_at_fp)?;
            let inside = record >= regs.sp && record < limit.checked_sub(2 * WORD)? && limit != usize::MAX;
            if !inside {
                return None;
            }
            // SAFETY: aligned words of the thread's own stack.
            let (fp, pc) = unsafe { (read(record)?, read(record + WORD)?) };
            let mut step = outer(record + 2 * WORD, record + WORD, pc, fp);
            if let Step::Outer { regs, .. } = &mut step {
                regs.sp_is_known = MACHINE.record_ends_frame;
            }
            return Some(step);
        }
        Kind::FpDeref | Kind::Unknown => return None,
    };
    // The stack grows downwards: a caller's frame lies above, and not beyond the stack. Only a function that was interrupted may have none of its own.
    let is_below = (cfa < regs.sp || (cfa == regs.sp && regs.link == 0)) && rule.kind() != Kind::Crossing;
    if is_below || cfa > limit || cfa & (WORD - 1) != 0 {
        return None;
    }
    let (slot, fp) = match rule.saved() {
        Saved::Nothing if regs.link == 0 => return None,
        Saved::Nothing => (regs.link, regs.fp),
        Saved::Alone(offset) => (cfa.checked_sub(offset)?, regs.fp),
        // SAFETY: see above.
        Saved::Pair(offset) => (cfa.checked_sub(offset)?, unsafe {
            read(cfa.checked_sub(offset + WORD)?)
        }?),
        // SAFETY: see above.
        Saved::Apart(offset, fp) => (cfa.checked_sub(offset)?, unsafe { read(cfa.checked_sub(fp)?) }?),
    };
    // SAFETY: see above.
    Some(outer(cfa, slot, unsafe { read(slot) }?, fp))
}
