//! Following a stack outwards, one rule at a time.
#![allow(unsafe_code)]

use crate::arch::{address, Fp};

/// Bytes of a register and of a saved one.
pub const WORD: usize = core::mem::size_of::<usize>();

/// The registers that matter, at some frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regs {
    /// Program counter: the return address into this frame, or the interrupted instruction.
    pub pc: usize,
    /// Stack pointer as it is once the inner frame has returned; if that is not known, an address that it does not lie below.
    pub sp: usize,
    /// Whether it is known: a frame record need not lie where the frame ends.
    pub sp_is_known: bool,
    /// Frame pointer.
    pub fp: Fp,
    /// Where the processor's link register was saved, if the return address of an interrupted frame may still be in there; else 0.
    pub link: usize,
    /// `pc` is an interrupted instruction, not the one after a call.
    pub interrupted: bool,
}

impl Regs {
    /// The registers of a caller, by its frame. The slot of the callee's return address is just below the caller's frame: so it is with the entries of hooks
    /// everywhere, and with all frames where [`SLOT_BELOW_CFA`](crate::arch::SLOT_BELOW_CFA).
    #[inline(always)]
    pub fn above(frame: Frame) -> Regs {
        Regs {
            pc: frame.pc,
            sp: frame.slot + WORD,
            sp_is_known: true,
            fp: frame.fp,
            link: 0,
            interrupted: false,
        }
    }

    /// An address in the instruction meant.
    #[inline(always)]
    pub fn instruction(&self) -> usize {
        self.pc - usize::from(!self.interrupted)
    }
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
    pub fp: Fp,
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

/// The word at an address.
///
/// # Safety
/// `address` must be readable if it is aligned.
#[inline(always)]
pub(crate) unsafe fn read(address: usize) -> Option<usize> {
    if address & (WORD - 1) != 0 || address < 4096 {
        return None;
    }
    // SAFETY: aligned, and readable by the caller's promise.
    Some(unsafe { (address as *const usize).read_volatile() })
}

/// The caller's frame, by its CFA, the slot of the return address, that address, and its frame pointer.
#[inline(always)]
pub(crate) fn outer(cfa: usize, slot: usize, pc: usize, fp: Fp) -> Step {
    let pc = address(pc);
    if pc < 4096 {
        // A zero return address marks the outermost frame of stacks without an unwind table.
        return Step::End;
    }
    Step::Outer {
        frame: Frame { slot, pc, fp },
        regs: Regs {
            pc,
            sp: cfa,
            sp_is_known: true,
            fp,
            link: 0,
            interrupted: false,
        },
    }
}
