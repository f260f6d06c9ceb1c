//! Blocks that are put at the end of a tape that exists: names, and the end again.

use crate::block::{BlockKind, RawHeader};
use crate::names::{NamesBatch, Naming};
use crate::payload::Compressor;
use crate::record::End;
use crate::writer::{append, serialize};

/// Level of compression: names are written once and kept for ever.
const LEVEL: i32 = 9;

/// Makes the blocks that go where a tape ends. Made by [`crate::Scan::annex`].
pub struct Annex {
    place: RawHeader,
    end: Option<End>,
    batch: NamesBatch,
    compressor: Compressor,
}

impl Annex {
    pub(crate) fn new(place: RawHeader, end: Option<End>) -> Annex {
        Annex {
            place,
            end,
            batch: NamesBatch::default(),
            compressor: Compressor::new(LEVEL),
        }
    }

    /// Adds a name. Appends a block to `out` when one is full.
    pub fn name(&mut self, naming: &Naming, out: &mut Vec<u8>) {
        if let Some(full) = self.batch.add(naming) {
            self.seal(&full, out);
        }
    }

    /// Appends what is pending, and the end that the tape had, if it had one.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        if let Some(last) = self.batch.take() {
            self.seal(&last, out);
        }
        if let Some(end) = self.end.take() {
            let header = RawHeader {
                kind: BlockKind::End.number(),
                ..self.place
            };
            append(&mut self.compressor, header, &serialize(&end), out);
        }
    }

    fn seal(&mut self, batch: &NamesBatch, out: &mut Vec<u8>) {
        append(&mut self.compressor, batch.header(self.place), batch.raw(), out);
        self.place.sequence += 1;
    }
}
