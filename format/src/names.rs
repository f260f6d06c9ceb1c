//! Names of frames, kept in the tape itself: by whoever symbolized it, or by the recorder for code that the program made while it ran.

use crate::block::{RawHeader, FLAG_OPTIONAL, MAX_RECORDS_LENGTH};
use crate::bound;
use crate::damage::{Damage, DamageCause};
use crate::decode::{damage, read_raw};
use crate::id::{Address, ModuleIx, ProcessIx};
use crate::record::Frame;
use crate::source::Source;
use crate::{Block, BlockKind};
use serde::{Deserialize, Serialize};

/// An entry of a block of names. Texts are raw bytes; an empty one is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Naming {
    /// A module whose frames were looked up: those without an entry have no name, wherever the tape is read.
    Module(NamedModule),
    /// What a frame stands for.
    Frame(NamedFrame),
    /// Machine code that a program made while it ran.
    Code(NamedCode),
    /// Some of the code that a program made is not named here.
    Cut {
        /// The program.
        process: ProcessIx,
        /// Bytes of its list that were not copied.
        bytes: u64,
    },
}

/// A module whose frames were looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedModule {
    /// Which.
    pub module: ModuleIx,
    /// Whether it could be named, and how: one word (`found`, `stripped`, `mismatched`, `missing`).
    pub state: Vec<u8>,
    /// The file that symbols came from.
    pub file: Vec<u8>,
    /// The file that lines came from.
    pub debug_file: Vec<u8>,
    /// Why there is nothing, or less than there could be.
    pub problem: Vec<u8>,
}

/// What a frame stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedFrame {
    /// The frame, native or raw.
    pub frame: Frame,
    /// The places in the source, innermost first: the last is the function, those before it are inlined. Never empty.
    pub places: Vec<NamedPlace>,
}

/// A place in the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedPlace {
    /// The function, readable.
    pub function: Vec<u8>,
    /// The source file.
    pub file: Vec<u8>,
    /// The line, from 1; 0 when not known.
    pub line: u32,
    /// The line at which the function is declared; 0 when not known.
    pub declared: u32,
}

/// Machine code that a program made while it ran. Where several lie at one address, the later entry holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedCode {
    /// The program.
    pub process: ProcessIx,
    /// Where it begins.
    pub start: Address,
    /// Its length, bytes.
    pub length: u64,
    /// Its name.
    pub name: Vec<u8>,
}

/// Entries on their way into blocks.
#[derive(Debug, Default)]
pub(crate) struct NamesBatch {
    raw: Vec<u8>,
    entries: u32,
}

impl NamesBatch {
    /// Adds an entry. A full block is given back first.
    pub(crate) fn add(&mut self, naming: &Naming) -> Option<NamesBatch> {
        let bytes = postcard::to_allocvec(&bound::naming(naming)).expect("plain data serializes into memory");
        let full = self.raw.len() + bytes.len() > MAX_RECORDS_LENGTH as usize;
        let sealed = full.then(|| std::mem::take(self));
        self.raw.extend_from_slice(&bytes);
        self.entries += 1;
        sealed
    }

    /// What is pending.
    pub(crate) fn take(&mut self) -> Option<NamesBatch> {
        (self.entries > 0).then(|| std::mem::take(self))
    }

    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The header of its block.
    pub(crate) fn header(&self, place: RawHeader) -> RawHeader {
        RawHeader {
            kind: BlockKind::Names.number(),
            flags: FLAG_OPTIONAL,
            records: self.entries,
            ..place
        }
    }
}

/// The entries of a block of names; none of any other block.
///
/// # Errors
/// When the block is damaged.
pub fn read_names<S: Source + ?Sized>(source: &S, block: &Block) -> Result<Vec<Naming>, Damage> {
    if block.kind != BlockKind::Names {
        return Ok(Vec::new());
    }
    let content = |what| damage(block, DamageCause::Content { what });
    let raw = read_raw(source, block)?;
    let mut rest = raw.as_slice();
    let mut namings = Vec::new();
    for _ in 0..block.records {
        let (naming, after) = postcard::take_from_bytes(rest).map_err(|_| content("a name is malformed"))?;
        if let Naming::Frame(named) = &naming {
            if named.places.is_empty() {
                return Err(content("a frame without a place"));
            }
        }
        namings.push(naming);
        rest = after;
    }
    if rest.is_empty() {
        Ok(namings)
    } else {
        Err(content("bytes are left over"))
    }
}
