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
//! 72  4  records          records in this block; of a keyframe, the events that it stands for
//! 76  4  generation       of the stacks in this block
//! 80  4  frames           frames of the generation defined up to and with this block
//! 84  4  stacks           stacks of the generation defined up to and with this block, without the root
//! 88  4  reserved         0
//! 92  4  header checksum  CRC-32 of bytes 0 to 91
//! ```
//! All numbers are little-endian. The magic, the version's place and the length of the header are the same in every version.

use crate::id::{EventNo, Micros};

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
/// Most events that a keyframe block stands for.
pub const MAX_SPAN: u32 = 1 << 31;
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
    /// What has stayed of a span of events whose others are gone.
    Keyframe,
    /// Names of frames.
    Names,
    /// The end of the keyframe: what is gone, in totals.
    Folded,
    /// Which file of its recording this one is.
    Part,
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
            BlockKind::Keyframe => 6,
            BlockKind::Names => 7,
            BlockKind::Folded => 8,
            BlockKind::Part => 9,
            BlockKind::Optional(number) => number,
        }
    }
}

/// One block of a tape. Its header is checked, its payload is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it holds.
    pub kind: BlockKind,
    /// Where its header begins.
    pub offset: u64,
    /// Bytes of header and payload.
    pub length: u64,
    /// Its number.
    pub sequence: u64,
    /// The generation of its stacks.
    pub generation: u32,
    /// Number of events before it.
    pub first_event: EventNo,
    /// Its events.
    pub events: u32,
    /// What they count as, by [`crate::Op::weight`].
    pub weight: u32,
    /// Its records; of a keyframe, the events that it stands for.
    pub records: u32,
    /// Its lowest time.
    pub first_time: Micros,
    /// Its highest time.
    pub last_time: Micros,
    /// Frames of the generation defined up to and with this block.
    pub frames: u32,
    /// Stacks of the generation defined up to and with this block; also the highest valid `StackId`.
    pub stacks: u32,
    /// Bytes of its payload, decompressed.
    pub raw_length: u32,
    pub(crate) payload_checksum: u32,
}

impl Block {
    /// CRC-32 of its payload as it lies in the file.
    pub const fn payload_checksum(&self) -> u32 {
        self.payload_checksum
    }

    /// How many numbers of events it takes up.
    pub const fn span(&self) -> u32 {
        span(self.kind, self.events, self.records)
    }

    /// Where its payload begins.
    pub const fn payload_offset(&self) -> u64 {
        self.offset + HEADER_LENGTH as u64
    }

    /// Bytes of its payload in the file.
    pub const fn payload_length(&self) -> u64 {
        self.length - HEADER_LENGTH as u64
    }
}

/// How many numbers of events a block takes up.
pub(crate) const fn span(kind: BlockKind, events: u32, records: u32) -> u32 {
    match kind {
        BlockKind::Keyframe => records,
        _ => events,
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

    /// Where the block ends that has this header at `offset`.
    pub(crate) fn end(&self, offset: u64) -> u64 {
        offset
            .saturating_add(HEADER_LENGTH as u64)
            .saturating_add(u64::from(self.payload_length))
    }

    /// The block that has this header at `offset`.
    pub(crate) fn block_at(&self, offset: u64, kind: BlockKind) -> Block {
        Block {
            kind,
            offset,
            length: HEADER_LENGTH as u64 + u64::from(self.payload_length),
            sequence: self.sequence,
            generation: self.generation,
            first_event: EventNo(self.first_event),
            events: self.events,
            weight: self.weight,
            records: self.records,
            first_time: Micros(self.first_time),
            last_time: Micros(self.last_time),
            frames: self.frames,
            stacks: self.stacks,
            raw_length: self.raw_length,
            payload_checksum: self.payload_checksum,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIFICATION: &str = include_str!("../../docs/FORMAT.md");

    #[test]
    fn the_numbers_of_blocks_are_those_of_the_specification() {
        let magic: Vec<String> = MAGIC.iter().map(|byte| format!("{byte:02X}")).collect();
        let limits = [
            ("MAX_RAW_LENGTH", MAX_RAW_LENGTH),
            ("MAX_RECORDS_LENGTH", MAX_RECORDS_LENGTH),
            ("MAX_PAYLOAD_LENGTH", MAX_PAYLOAD_LENGTH),
            ("MAX_BLOCK_EVENTS", MAX_BLOCK_EVENTS),
            ("MAX_SPAN", MAX_SPAN),
            ("HEADER_LENGTH", HEADER_LENGTH as u32),
        ];
        let kinds = [
            (BlockKind::Header, "header"),
            (BlockKind::Records, "records"),
            (BlockKind::Stacks, "stacks"),
            (BlockKind::Events, "events"),
            (BlockKind::End, "end"),
            (BlockKind::Keyframe, "keyframe"),
            (BlockKind::Names, "names"),
            (BlockKind::Folded, "folded"),
            (BlockKind::Part, "part"),
        ];
        let wanted = [
            format!("| magic | `{}` |", magic.join(" ")),
            format!("| version | {VERSION} |"),
        ]
        .into_iter()
        .chain(limits.map(|(name, value)| format!("| `{name}` | {value} |")))
        .chain(kinds.map(|(kind, name)| format!("| {} | {name} |", kind.number())));
        for wanted in wanted {
            assert!(SPECIFICATION.contains(&wanted), "{wanted}");
        }
        assert!(SPECIFICATION.contains("bit 0: optional") && FLAG_OPTIONAL == 1);
    }

    #[test]
    fn the_fields_of_a_header_lie_where_the_specification_says() {
        // Every field holds its own offset in each byte.
        let byte = |at: u8| u32::from_le_bytes([at; 4]);
        let long = |at: u8| u64::from_le_bytes([at; 8]);
        let header = RawHeader {
            version: 8,
            kind: 9,
            flags: u16::from_le_bytes([10; 2]),
            payload_length: byte(12),
            raw_length: byte(16),
            payload_checksum: byte(20),
            tape: long(24),
            sequence: long(32),
            first_event: long(40),
            first_time: long(48),
            last_time: long(56),
            events: byte(64),
            weight: byte(68),
            records: byte(72),
            generation: byte(76),
            frames: byte(80),
            stacks: byte(84),
            reserved: byte(88),
        };
        let bytes = header.to_bytes();
        assert_eq!(RawHeader::from_bytes(&bytes), Some(header));
        let rows = SPECIFICATION
            .lines()
            .skip_while(|line| !line.starts_with("| 0 | 8 | magic"));
        let mut end = 0;
        for row in rows.take_while(|line| line.starts_with('|')) {
            let numbers: Vec<usize> = row
                .split('|')
                .filter_map(|cell| cell.trim().parse().ok())
                .take(2)
                .collect();
            let (at, length) = (numbers[0], numbers[1]);
            assert_eq!(at, end, "{row}");
            end = at + length;
            if (8..92).contains(&at) {
                assert!(bytes[at..end].iter().all(|&byte| usize::from(byte) == at), "{row}");
            }
        }
        assert_eq!(end, HEADER_LENGTH);
        let mut other = bytes;
        other[92] ^= 1;
        assert_eq!(RawHeader::from_bytes(&other), None);
    }
}
