//! A thread within a block, as both sides know it.

use super::habits::Trail;
use crate::id::{Address, ThreadIx};

#[derive(Clone, Copy, Debug)]
pub(super) struct Thread {
    pub ix: ThreadIx,
    pub trail: Trail,
    /// Where the last born block ends.
    pub end: Address,
    /// Address of the last death whose birth lies elsewhere.
    pub stray: Address,
    /// Node of the last death of a block born here.
    pub dead: u32,
    /// Node whose address was used again last.
    pub reused: u32,
}

impl Thread {
    pub(super) fn new(ix: ThreadIx) -> Self {
        Thread {
            ix,
            trail: Trail::default(),
            end: Address(0),
            stray: Address(0),
            dead: 0,
            reused: 0,
        }
    }
}
