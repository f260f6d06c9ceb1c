//! The header in front of every block.
//!
//! ```text
//!  0  8  magic            89 "HTAPE" 0D 0A
//!  8  1  version          1
//!  9  1  kind             see BlockKind
//! 10  2  flags            bit 0: optional (a reader that does not know the kind skips it); other bits 0
//! 12  4  payload length   bytes after this header
//! 16  4  raw length       bytes of the payload when decompressed
//! 20  4  payload checksum CRC-32 of the payload as it lies in the file
//! 24  8  tape             the same in every block of a tape, see `tape_id`
//! 32  8  sequence         0, 1, 2, ... along the tape
//! 40  8  first event      number of events before this block
//! 48  8  first time       lowest time in the block, microseconds since the start
//! 56  8  last time        highest time in the block
//! 64  4  events           events in this block
//! 68  4  weight           what they count as in shown totals
//! 72  4  records          records in this block
//! 76  4  generation       of the stacks in this block
//! 80  4  frames           frames of the generation defined up to and with this block
//! 84  4  stacks           stacks of the generation defined up to and with this block, without the root
//! 88  4  reserved         0
//! 92  4  header checksum  CRC-32 of bytes 0 to 91
//! ```
//! All numbers are little-endian. The magic, the version's place and the length of the header are the same in every version.

/// First bytes of every block. The first is no ASCII, the last two tell of a transfer that changed line ends.
pub const MAGIC: [u8; 8] = *b"\x89HTAPE\r\n";
/// Version of the format that this crate reads and writes.
pub const VERSION: u8 = 1;
/// Length of a block header, bytes.
pub const HEADER_LENGTH: usize = 96;
/// Longest payload as it decompresses, bytes; also the largest window of its zstd frame.
pub const MAX_RAW_LENGTH: u32 = 8 << 20;
/// Longest payload of a block of records, decompressed. Lower, since records grow when they are taken apart.
pub const MAX_RECORDS_LENGTH: u32 = 1 << 20;
/// Longest payload as it lies in the file.
pub const MAX_PAYLOAD_LENGTH: u32 = 9 << 20;
/// Most events in a block.
pub const MAX_BLOCK_EVENTS: u32 = 1 << 20;
/// Flag: a reader that does not know the kind skips the block.
pub const FLAG_OPTIONAL: u16 = 1;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockKind {
    /// The description of the recording.
    Header,
    /// Records.
    Records,
    /// New frames and stacks.
    Stacks,
    /// Events.
    Events,
    /// The totals; the last block of a tape that was ended properly.
    End,
    /// Not known to this version; may be skipped.
    Optional(u8),
}

impl BlockKind {
    /// The number in the file.
    pub const fn number(self) -> u8 {
        match self {
            BlockKind::Header => 1,
            BlockKind::Records => 2,
            BlockKind::Stacks => 3,
            BlockKind::Events => 4,
            BlockKind::End => 5,
            BlockKind::Optional(number) => number,
        }
    }
}

/// A block header as it lies in the file: checked for its checksum, for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawHeader {
    pub version: u8,
    pub kind: u8,
    pub flags: u16,
    pub payload_length: u32,
    pub raw_length: u32,
    pub payload_checksum: u32,
    pub tape: u64,
    pub sequence: u64,
    pub first_event: u64,
    pub first_time: u64,
    pub last_time: u64,
    pub events: u32,
    pub weight: u32,
    pub records: u32,
    pub generation: u32,
    pub frames: u32,
    pub stacks: u32,
    pub reserved: u32,
}

impl RawHeader {
    pub(crate) fn to_bytes(self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&MAGIC);
        put(&[self.version, self.kind]);
        put(&self.flags.to_le_bytes());
        for number in [self.payload_length, self.raw_length, self.payload_checksum] {
            put(&number.to_le_bytes());
        }
        for number in [
            self.tape,
            self.sequence,
            self.first_event,
            self.first_time,
            self.last_time,
        ] {
            put(&number.to_le_bytes());
        }
        for number in [
            self.events,
            self.weight,
            self.records,
            self.generation,
            self.frames,
            self.stacks,
            self.reserved,
        ] {
            put(&number.to_le_bytes());
        }
        let checksum = crc32fast::hash(&bytes[..HEADER_LENGTH - 4]);
        bytes[HEADER_LENGTH - 4..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header in these bytes; `None` when the magic or the checksum does not hold.
    pub(crate) fn from_bytes(bytes: &[u8; HEADER_LENGTH]) -> Option<RawHeader> {
        if !bytes.starts_with(&MAGIC) {
            return None;
        }
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if crc32fast::hash(&bytes[..HEADER_LENGTH - 4]) != u32_at(HEADER_LENGTH - 4) {
            return None;
        }
        Some(RawHeader {
            version: bytes[8],
            kind: bytes[9],
            flags: u16::from_le_bytes([bytes[10], bytes[11]]),
            payload_length: u32_at(12),
            raw_length: u32_at(16),
            payload_checksum: u32_at(20),
            tape: u64_at(24),
            sequence: u64_at(32),
            first_event: u64_at(40),
            first_time: u64_at(48),
            last_time: u64_at(56),
            events: u32_at(64),
            weight: u32_at(68),
            records: u32_at(72),
            generation: u32_at(76),
            frames: u32_at(80),
            stacks: u32_at(84),
            reserved: u32_at(88),
        })
    }
}

/// The number that marks all blocks of one tape: FNV-1a (64 bits) of its header block's decompressed payload.
/// Since that holds the start in nanoseconds, host and command, two tapes do not share it by chance.
pub(crate) fn tape_id(header: &[u8]) -> u64 {
    header.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
