//! The processor's own bits of a rule.
//!
//! ```text
//! bits 4..8 how the caller's rbp is found | 16..32 offset for rbp (i16)
//! ```

use crate::rule::{Kind, Rule};

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
        Rule::pack(kind, (saved as u32) << 4 | (fp_offset as u16 as u32) << 16, cfa_offset)
    }

    /// The commonest rule: CFA = stack pointer + offset, the frame pointer unchanged, the return address in the word below the CFA.
    pub const fn plain(cfa_offset: i32) -> Rule {
        Rule::new(Kind::Sp, cfa_offset, SavedFp::Same, 0)
    }

    /// Whether it is of the commonest kind.
    #[inline(always)]
    pub const fn is_plain(self) -> bool {
        self.word() & 0xff == Kind::Sp as u64 | (SavedFp::Same as u64) << 4
    }

    /// Where the caller's frame pointer is found.
    #[inline(always)]
    pub const fn saved_fp(self) -> SavedFp {
        match (self.word() >> 4) & 15 {
            1 => SavedFp::AtCfa,
            2 => SavedFp::AtFp,
            _ => SavedFp::Same,
        }
    }

    /// Offset for the saved frame pointer.
    #[inline(always)]
    pub const fn fp_offset(self) -> isize {
        (self.word() >> 16) as u16 as i16 as isize
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
