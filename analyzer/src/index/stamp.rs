//! Which tape, and which state of it, an index belongs to.

use crate::tape::Tape;
use heaptape_format::Block;
use serde::{Deserialize, Serialize};

/// Says the same of two tapes only if they hold the same: every block has a checksum, and they are all in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    length: u64,
    blocks: u64,
    events: u64,
    hash: u64,
    /// Another version of this program may replay otherwise.
    program: u64,
}

impl Stamp {
    pub(super) fn of(tape: &Tape) -> Stamp {
        let scan = tape.scan();
        let mut hash = Fnv::default();
        hash.bytes(format!("{:?} {:?} {:?}", scan.header, scan.damage, scan.ending).as_bytes());
        scan.blocks.iter().for_each(|block| hash.block(block));
        let mut program = Fnv::default();
        program.bytes(env!("CARGO_PKG_VERSION").as_bytes());
        Stamp {
            length: tape.length(),
            blocks: scan.blocks.len() as u64,
            events: tape.events(),
            hash: hash.0,
            program: program.0,
        }
    }
}

/// FNV-1a (64 bits).
pub(super) struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn block(&mut self, block: &Block) {
        for number in [
            u64::from(block.kind.number()),
            block.offset,
            block.length,
            block.sequence,
            block.first_event.get(),
            u64::from(block.events),
            u64::from(block.payload_checksum()),
        ] {
            self.bytes(&number.to_le_bytes());
        }
    }
}
