//! What lies where in an index file.
//!
//! A head of fixed length, then the columns, each at a multiple of 64 bytes and as it lies in memory (little-endian), then everything else, serialized. The head says where that is, how long
//! it is and what its checksum is; a file that was not finished has no head. Columns have a checksum for every [`crate::table::PIECE`] numbers.

use super::stamp::Stamp;
use crate::table::{Counters, InheritedDeath, Level, MappingRow, Run, Totals, Wide};
use heaptape_format::EventNo;
use serde::{Deserialize, Serialize};

/// How the file begins. The last byte is the version of this layout.
pub(super) const MAGIC: [u8; 8] = *b"HTINDEX\x07";
/// Magic, offset and length of the rest, its checksum, and that of these bytes.
pub(super) const HEAD: usize = 64;
/// Columns begin at multiples of this.
pub(super) const ALIGN: u64 = 64;

/// The head as it lies in the file.
pub(super) struct Head {
    pub offset: u64,
    pub length: u64,
    pub checksum: u32,
}

impl Head {
    pub(super) fn to_bytes(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.length.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.checksum.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..HEAD - 4]);
        bytes[HEAD - 4..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Head> {
        let bytes: &[u8; HEAD] = bytes.get(..HEAD)?.try_into().ok()?;
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let is_whole = bytes.starts_with(&MAGIC) && crc32fast::hash(&bytes[..HEAD - 4]) == u32_at(HEAD - 4);
        is_whole.then(|| Head {
            offset: u64_at(8),
            length: u64_at(16),
            checksum: u32_at(24),
        })
    }
}

/// Where a column lies.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ColumnPlace {
    pub start: u64,
    pub numbers: u64,
    /// CRC-32 of each piece.
    pub checksums: Vec<u32>,
}

/// The columns of one of the strata.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct StratumPlace {
    pub row: ColumnPlace,
    pub death: ColumnPlace,
    pub size: ColumnPlace,
    pub stack: ColumnPlace,
    pub thread: ColumnPlace,
    pub kind: ColumnPlace,
    pub marks: ColumnPlace,
}

/// Everything but the columns.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rest {
    pub stamp: Stamp,
    pub counters: Counters,
    pub peak: Option<(EventNo, Level)>,
    pub totals: Totals,
    pub base: Vec<u64>,
    pub birth: ColumnPlace,
    pub death: ColumnPlace,
    pub address: ColumnPlace,
    pub size: ColumnPlace,
    pub stack: ColumnPlace,
    pub thread: ColumnPlace,
    pub kind: ColumnPlace,
    pub marks: ColumnPlace,
    pub wide_birth: Wide,
    pub wide_death: Wide,
    pub wide_size: Wide,
    pub successor: ColumnPlace,
    pub predecessor: ColumnPlace,
    pub mappings: Vec<MappingRow>,
    pub inherited_deaths: Vec<InheritedDeath>,
    pub runs: Vec<Run>,
    pub mark_times: ColumnPlace,
    pub mark_steps: ColumnPlace,
    pub steps: ColumnPlace,
    pub strata: Vec<StratumPlace>,
    pub lives: ColumnPlace,
    /// Offsets of the blocks of events that could not be read.
    pub broken: Vec<u64>,
}
