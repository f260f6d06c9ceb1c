//! The processor's own bits of a rule. Offsets are counted in words downwards from the CFA.
//!
//! ```text
//! bits 4..6 how | 8..32 offset of the return address (Pair, Alone), or 8..20 that and 20..32 that of the frame pointer (Apart)
//! ```

use crate::rule::{Kind, Rule};
use crate::walk::WORD;

/// Where return address and caller's frame pointer are found; offsets in bytes below the CFA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// Both where they were: a function that has saved nothing (yet).
    Nothing,
    /// The return address only.
    Alone(usize),
    /// The return address, and the frame pointer in the word below it.
    Pair(usize),
    /// The return address and the frame pointer.
    Apart(usize, usize),
}

impl Rule {
    /// A rule by its parts; `None` when an offset does not fit.
    pub const fn new(kind: Kind, cfa_offset: i32, saved: Saved) -> Option<Rule> {
        let (how, first, second, bits) = match saved {
            Saved::Nothing => (0, 0, 0, 24),
            Saved::Alone(offset) => (1, offset, 0, 24),
            Saved::Pair(offset) => (2, offset, 0, 24),
            Saved::Apart(first, second) => (3, first, second, 12),
        };
        if first % WORD != 0 || second % WORD != 0 || (first / WORD) >> bits != 0 || (second / WORD) >> bits != 0 {
            return None;
        }
        let own = how << 4 | ((first / WORD) as u32) << 8 | ((second / WORD) as u32) << 20;
        Some(Rule::pack(kind, own, cfa_offset))
    }

    /// CFA = stack pointer + offset, the frame pointer unchanged, the return address in the word below the CFA.
    pub const fn plain(cfa_offset: i32) -> Rule {
        Rule::pack(Kind::Sp, 1 << 4 | 1 << 8, cfa_offset)
    }

    /// Whether it is of a kind for which there is a way without the frame pointer: here nearly every frame saves it.
    #[inline(always)]
    pub const fn is_plain(self) -> bool {
        false
    }

    /// What is saved where.
    #[inline(always)]
    pub const fn saved(self) -> Saved {
        let own = self.word() as u32;
        let whole = (own >> 8) as usize * WORD;
        match own >> 4 & 3 {
            0 => Saved::Nothing,
            1 => Saved::Alone(whole),
            2 => Saved::Pair(whole),
            _ => Saved::Apart((own >> 8 & 0xfff) as usize * WORD, (own >> 20) as usize * WORD),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_packing() {
        for saved in [
            Saved::Nothing,
            Saved::Alone(8),
            Saved::Pair(1 << 20),
            Saved::Apart(32_760, 16),
        ] {
            let rule = Rule::new(Kind::Fp, -70_000, saved).unwrap();
            assert_eq!(Rule::stored(rule.word()), rule);
            assert_eq!(
                (rule.kind(), rule.cfa_offset(), rule.saved()),
                (Kind::Fp, -70_000, saved)
            );
        }
        assert_eq!(Rule::new(Kind::Sp, 0, Saved::Alone(4)), None);
        assert_eq!(Rule::new(Kind::Sp, 0, Saved::Apart(32_768, 16)), None);
        assert_eq!(Rule::plain(32).saved(), Saved::Alone(8));
    }
}
