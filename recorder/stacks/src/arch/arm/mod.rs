//! arm (AAPCS32, EHABI). Two registers serve as frame pointers: r7 in Thumb code, r11 in ARM code.

mod exidx;
mod rule;
mod walk;

pub use exidx::rule_for;
pub use rule::{Base, Saved};
pub use walk::step;

use crate::rule::{Kind, Rule};

/// The frame pointers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fp {
    /// That of Thumb code.
    pub r7: usize,
    /// That of ARM code.
    pub r11: usize,
}

/// The slot of a return address may lie anywhere in its frame.
pub const SLOT_BELOW_CFA: bool = false;

/// Where a module's table says nothing, the stack ends: C code mostly has neither table nor frame pointers, the two registers hold anything then, and compilers that do keep
/// frame pointers lay them out in several ways. Only code that is made at run time is followed by them.
pub const FRAME_POINTERS_ARE_BELIEVED: bool = false;

/// What a signal handler goes back to: `mov r7, #173` (rt_sigreturn) or, for handlers of one argument, `#119` (sigreturn), then `svc`; in ARM code by both ways of making a system
/// call, and in Thumb code with the `nop` that glibc has behind it. Tables describe these places in several ways, if at all.
pub const TRAMPOLINES: [([u32; 2], Rule); 6] = [
    ([0xe3a0_70ad, 0xef00_0000], Rule::bare(Kind::Signal)),
    ([0xe3a0_70ad, 0xef90_00ad], Rule::bare(Kind::Signal)),
    ([0x07ad_f04f, 0xbf00_df00], Rule::bare(Kind::Signal)),
    ([0xe3a0_7077, 0xef00_0000], WITHOUT_INFO),
    ([0xe3a0_7077, 0xef90_0077], WITHOUT_INFO),
    ([0x0777_f04f, 0xbf00_df00], WITHOUT_INFO),
];

/// The frame of a signal without the `siginfo` (128 bytes) that others begin with.
const WITHOUT_INFO: Rule = Rule::pack(Kind::Signal, 0, -128);

/// The program counter in a saved return address: its lowest bit says whether it is Thumb code.
#[inline(always)]
pub const fn address(word: usize) -> usize {
    word & !1
}
