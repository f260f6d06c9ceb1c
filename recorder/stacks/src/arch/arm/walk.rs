//! One step outwards.
#![allow(unsafe_code)]

use super::{Base, Fp};
use crate::rule::{Kind, Rule};
use crate::walk::{outer, read, Frame, Regs, Step, WORD};

/// Offset of r0 in the frame of a signal that is told to a handler of three arguments: `siginfo`, then `ucontext` up to its registers.
const REGISTERS: usize = 128 + 32;

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
unsafe fn try_step(rule: Rule, regs: Regs, limit: usize) -> Option<Step> {
    // SAFETY (all reads below): saved registers of live frames, as the rule says; a guess is checked against the limits of the stack first.
    let base = match (rule.kind(), rule.base()) {
        (Kind::Sp, _) => regs.sp,
        (Kind::Fp | Kind::Crossing, Base::R7) => regs.fp.r7,
        (Kind::Fp | Kind::Crossing, _) => regs.fp.r11,
        // SAFETY: see above.
        (Kind::Signal, _) => return unsafe { interrupted(regs.sp.wrapping_add_signed(rule.cfa_offset())) },
        (Kind::End, _) => return Some(Step::End),
        // SAFETY: see above.
        (Kind::Guess, _) => return unsafe { guess(regs, limit) },
        (Kind::FpDeref | Kind::Unknown, _) => return None,
    };
    let cfa = base.wrapping_add_signed(rule.cfa_offset());
    // The stack grows downwards: a caller's frame lies above, and not beyond the stack. Only a function that was interrupted may have none of its own.
    let is_below = (cfa < regs.sp || (cfa == regs.sp && regs.link == 0)) && rule.kind() != Kind::Crossing;
    if is_below || cfa > limit || cfa & (WORD - 1) != 0 {
        return None;
    }
    let saved = rule.saved();
    let slot = match saved.link {
        0 if regs.link == 0 => return None,
        0 => regs.link,
        words => cfa.checked_sub(usize::from(words) * WORD)?,
    };
    let register = |words: u8, now: usize| match words {
        0 => Some(now),
        // SAFETY: see above.
        words => unsafe { read(cfa.checked_sub(usize::from(words) * WORD)?) },
    };
    let fp = Fp {
        r7: register(saved.r7, regs.fp.r7)?,
        r11: register(saved.r11, regs.fp.r11)?,
    };
    // SAFETY: see above.
    Some(outer(cfa, slot, unsafe { read(slot) }?, fp))
}

/// The frame that a signal has interrupted, whose saved state is at `frame`.
///
/// # Safety
/// The kernel must have put it there.
unsafe fn interrupted(frame: usize) -> Option<Step> {
    let register = |number: usize| frame + REGISTERS + number * WORD;
    // SAFETY: the caller's promise.
    let (r7, r11, sp, pc) = unsafe {
        (
            read(register(7))?,
            read(register(11))?,
            read(register(13))?,
            read(register(15))?,
        )
    };
    let fp = Fp { r7, r11 };
    let slot = register(15) | 1;
    Some(Step::Outer {
        frame: Frame { slot, pc, fp },
        regs: Regs {
            pc,
            sp,
            sp_is_known: true,
            fp,
            link: register(14),
            interrupted: true,
        },
    })
}

/// By the frame record that a frame pointer points to (AAPCS32, section 6.2.4): the caller's frame pointer, then the return address.
///
/// # Safety
/// `regs` must be those of a live frame.
unsafe fn guess(regs: Regs, limit: usize) -> Option<Step> {
    if regs.fp.r11 == 0 {
        // Start code sets it to that: the outermost frame.
        return Some(Step::End);
    }
    let inside = |record: usize| {
        record >= regs.sp && limit.checked_sub(2 * WORD).is_some_and(|last| record < last) && limit != usize::MAX
    };
    let record = [regs.fp.r11, regs.fp.r7].into_iter().find(|record| inside(*record))?;
    // SAFETY: aligned words of the thread's own stack.
    let (word, pc) = unsafe { (read(record)?, read(record + WORD)?) };
    let fp = match record == regs.fp.r11 {
        true => Fp { r11: word, ..regs.fp },
        false => Fp { r7: word, ..regs.fp },
    };
    Some(outer(record + 2 * WORD, record + WORD, pc, fp))
}
