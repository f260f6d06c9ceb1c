//! How to get from a frame to its caller, in one word.
//!
//! ```text
//! bits 0..4 kind | 4..32 the processor's own: where return address and frame pointer were saved | 32..64 offset for the CFA (i32)
//! ```

/// A rule, packed. The zero word is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule(u64);

/// Where the CFA (the caller's stack pointer) is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// CFA = stack pointer + offset.
    Sp = 1,
    /// CFA = frame pointer + offset.
    Fp = 2,
    /// CFA = word at (frame pointer + offset): functions that realign their stack.
    FpDeref = 3,
    /// The frame of a signal trampoline: the interrupted registers lie in the context at the stack pointer.
    Signal = 4,
    /// The outermost frame.
    End = 5,
    /// Nothing is known of this place: try the chain of frame pointers.
    Guess = 6,
    /// The table holds a rule that this program cannot follow.
    Unknown = 7,
    /// As [`Kind::Fp`], in a function that goes on on another stack: its own frame may lie below its callee's.
    Crossing = 8,
}

impl Rule {
    /// A rule by its parts; `own` are bits 4 to 31.
    pub(crate) const fn pack(kind: Kind, own: u32, cfa_offset: i32) -> Rule {
        Rule(kind as u64 | (own & !15) as u64 | (cfa_offset as u32 as u64) << 32)
    }

    /// A rule without offsets.
    pub const fn bare(kind: Kind) -> Rule {
        Rule::pack(kind, 0, 0)
    }

    /// The word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The rule in a word that [`Rule::word`] gave. Any other word is some rule, too.
    #[inline(always)]
    pub const fn stored(word: u64) -> Rule {
        Rule(word)
    }

    /// Where the CFA is found.
    #[inline(always)]
    pub const fn kind(self) -> Kind {
        match self.0 & 15 {
            1 => Kind::Sp,
            2 => Kind::Fp,
            3 => Kind::FpDeref,
            4 => Kind::Signal,
            5 => Kind::End,
            6 => Kind::Guess,
            8 => Kind::Crossing,
            _ => Kind::Unknown,
        }
    }

    /// The same in a function that goes on on another stack, if its frame is found by the frame pointer.
    pub const fn crossing(self) -> Rule {
        match self.kind() {
            Kind::Fp => Rule(self.0 & !15 | Kind::Crossing as u64),
            _ => self,
        }
    }

    /// Offset for the CFA.
    #[inline(always)]
    pub const fn cfa_offset(self) -> isize {
        (self.0 >> 32) as u32 as i32 as isize
    }
}
