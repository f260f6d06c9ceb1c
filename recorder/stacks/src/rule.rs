//! How to get from a frame to its caller, in one word. x86_64 (System V): the return address lies just below the CFA.
//!
//! ```text
//! bits 0..4 kind | 4..8 how the caller's rbp is found | 16..32 offset for rbp (i16) | 32..64 offset for the CFA (i32)
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
}

/// Where the caller's frame pointer is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SavedFp {
    /// It was not changed.
    Same = 0,
    /// At CFA + offset.
    AtCfa = 1,
    /// At frame pointer + offset.
    AtFp = 2,
}

impl Rule {
    /// A rule by its parts.
    pub const fn new(kind: Kind, cfa_offset: i32, saved: SavedFp, fp_offset: i16) -> Rule {
        Rule(kind as u64 | (saved as u64) << 4 | (fp_offset as u16 as u64) << 16 | (cfa_offset as u32 as u64) << 32)
    }

    /// A rule without offsets.
    pub const fn bare(kind: Kind) -> Rule {
        Rule::new(kind, 0, SavedFp::Same, 0)
    }

    /// The word.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The rule in a word that [`Rule::word`] gave. Any other word is some rule, too.
    #[inline(always)]
    pub const fn stored(word: u64) -> Rule {
        Rule(word)
    }

    /// Whether it is of the commonest kind: CFA = stack pointer + offset, the frame pointer unchanged.
    #[inline(always)]
    pub const fn is_plain(self) -> bool {
        self.0 & 0xff == Kind::Sp as u64 | (SavedFp::Same as u64) << 4
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
            _ => Kind::Unknown,
        }
    }

    /// Where the caller's frame pointer is found.
    #[inline(always)]
    pub const fn saved_fp(self) -> SavedFp {
        match (self.0 >> 4) & 15 {
            1 => SavedFp::AtCfa,
            2 => SavedFp::AtFp,
            _ => SavedFp::Same,
        }
    }

    /// Offset for the CFA.
    #[inline(always)]
    pub const fn cfa_offset(self) -> isize {
        (self.0 >> 32) as u32 as i32 as isize
    }

    /// Offset for the saved frame pointer.
    #[inline(always)]
    pub const fn fp_offset(self) -> isize {
        (self.0 >> 16) as u16 as i16 as isize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_packing() {
        let rule = Rule::new(Kind::FpDeref, -70_000, SavedFp::AtFp, -32_768);
        assert_eq!(Rule::stored(rule.word()), rule);
        assert_eq!((rule.kind(), rule.cfa_offset()), (Kind::FpDeref, -70_000));
        assert_eq!((rule.saved_fp(), rule.fp_offset()), (SavedFp::AtFp, -32_768));
    }
}
