//! The processor's own bits of a rule. Offsets are counted in words downwards from the CFA; 0: not saved.
//!
//! ```text
//! bit 4 the base is r11 (else r7; for Kind::Fp) | 8..16 offset of the return address | 16..24 of r7 | 24..32 of r11
//! ```

use crate::rule::{Kind, Rule};

/// What the CFA is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The stack pointer.
    Sp,
    /// Thumb's frame pointer.
    R7,
    /// ARM's.
    R11,
}

/// Where registers were saved: words below the CFA, 0 when they were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The return address.
    pub link: u8,
    /// r7.
    pub r7: u8,
    /// r11.
    pub r11: u8,
}

impl Rule {
    /// A rule by its parts.
    pub const fn new(base: Base, cfa_offset: i32, saved: Saved) -> Rule {
        let (kind, which) = match base {
            Base::Sp => (Kind::Sp, 0),
            Base::R7 => (Kind::Fp, 0),
            Base::R11 => (Kind::Fp, 1),
        };
        let own = which << 4 | (saved.link as u32) << 8 | (saved.r7 as u32) << 16 | (saved.r11 as u32) << 24;
        Rule::pack(kind, own, cfa_offset)
    }

    /// CFA = stack pointer + offset, the frame pointers unchanged, the return address in the word below the CFA.
    pub const fn plain(cfa_offset: i32) -> Rule {
        let saved = Saved { link: 1, r7: 0, r11: 0 };
        Rule::new(Base::Sp, cfa_offset, saved)
    }

    /// Whether it is of a kind for which there is a way without the frame pointers: here most frames save one.
    #[inline(always)]
    pub const fn is_plain(self) -> bool {
        false
    }

    /// What the CFA is counted from, for rules that count.
    #[inline(always)]
    pub const fn base(self) -> Base {
        match (self.kind(), self.word() >> 4 & 1) {
            (Kind::Fp, 0) => Base::R7,
            (Kind::Fp, _) => Base::R11,
            _ => Base::Sp,
        }
    }

    /// What is saved where.
    #[inline(always)]
    pub const fn saved(self) -> Saved {
        let word = self.word();
        Saved {
            link: (word >> 8) as u8,
            r7: (word >> 16) as u8,
            r11: (word >> 24) as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_packing() {
        let saved = Saved {
            link: 1,
            r7: 3,
            r11: 255,
        };
        let rule = Rule::new(Base::R11, -70_000, saved);
        assert_eq!(Rule::stored(rule.word()), rule);
        assert_eq!(
            (rule.kind(), rule.base(), rule.cfa_offset(), rule.saved()),
            (Kind::Fp, Base::R11, -70_000, saved)
        );
        assert_eq!(Rule::plain(32).saved().link, 1);
    }
}
