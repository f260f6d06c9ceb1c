//! A tape on its way over a link: what sender and receiver say to each other, and blocks as both see them.
//!
//! ```text
//!   sender    hello: magic, tape, lowest sequence number that it still has     24 bytes
//!   receiver  answer: magic, next sequence number that it wants                16 bytes
//!   sender    blocks from there on, whole, as they lie in a tape
//!   receiver  next sequence number that it wants, after what it has stored      8 bytes, as often as it likes
//! ```
//! All numbers are little-endian.

use crate::block::{BlockKind, RawHeader, FLAG_OPTIONAL, HEADER_LENGTH, MAX_PAYLOAD_LENGTH, VERSION};

const HELLO_MAGIC: [u8; 8] = *b"HTAPETO1";
const ANSWER_MAGIC: [u8; 8] = *b"HTAPERC1";
/// Stands for a number that no block has.
const REFUSED: u64 = u64::MAX;

/// What a sender says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The number that all blocks of the tape have.
    pub tape: u64,
    /// The lowest sequence number that can still be sent.
    pub oldest: u64,
}

impl Hello {
    /// Its length in bytes.
    pub const LENGTH: usize = 24;

    /// As it is sent.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..8].copy_from_slice(&HELLO_MAGIC);
        bytes[8..16].copy_from_slice(&self.tape.to_le_bytes());
        bytes[16..].copy_from_slice(&self.oldest.to_le_bytes());
        bytes
    }

    /// What was sent; `None` when it is no hello.
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Option<Hello> {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        bytes.starts_with(&HELLO_MAGIC).then(|| Hello {
            tape: number(8),
            oldest: number(16),
        })
    }
}

/// What a receiver says to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has all before this block.
    Wants(u64),
    /// It does not take this tape.
    Refused,
}

impl Answer {
    /// Its length in bytes.
    pub const LENGTH: usize = 16;

    /// As it is sent.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let next = match self {
            Answer::Wants(next) => next,
            Answer::Refused => REFUSED,
        };
        let mut bytes = [0; Self::LENGTH];
        bytes[..8].copy_from_slice(&ANSWER_MAGIC);
        bytes[8..].copy_from_slice(&next.to_le_bytes());
        bytes
    }

    /// What was sent; `None` when it is no answer.
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Option<Answer> {
        let next = u64::from_le_bytes(std::array::from_fn(|i| bytes[8 + i]));
        bytes.starts_with(&ANSWER_MAGIC).then_some(match next {
            REFUSED => Answer::Refused,
            next => Answer::Wants(next),
        })
    }
}

/// What the header of a block says of it to whoever hands it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHead(RawHeader);

impl BlockHead {
    /// Bytes of a header.
    pub const LENGTH: usize = HEADER_LENGTH;

    /// The header in these bytes; `None` when they are none of this version, or one beyond the limits.
    pub fn from_bytes(bytes: &[u8; HEADER_LENGTH]) -> Option<BlockHead> {
        let header = RawHeader::from_bytes(bytes)?;
        let is_sound = header.version == VERSION && header.reserved == 0 && header.flags & !FLAG_OPTIONAL == 0;
        (is_sound && header.payload_length <= MAX_PAYLOAD_LENGTH).then_some(BlockHead(header))
    }

    /// The header of the block that these bytes begin with.
    pub fn at_start(bytes: &[u8]) -> Option<BlockHead> {
        BlockHead::from_bytes(bytes.first_chunk()?)
    }

    /// The number that all blocks of its tape have.
    pub const fn tape(&self) -> u64 {
        self.0.tape
    }

    /// Its number.
    pub const fn sequence(&self) -> u64 {
        self.0.sequence
    }

    /// Its events.
    pub const fn events(&self) -> u32 {
        self.0.events
    }

    /// Whether it describes the tape.
    pub const fn is_header(&self) -> bool {
        self.0.kind == BlockKind::Header.number()
    }

    /// Whether it ends the tape.
    pub const fn is_end(&self) -> bool {
        self.0.kind == BlockKind::End.number()
    }

    /// Bytes of its payload.
    pub const fn payload_length(&self) -> usize {
        self.0.payload_length as usize
    }

    /// Whether this is its payload, as far as checksums tell.
    pub fn has_payload(&self, payload: &[u8]) -> bool {
        payload.len() == self.payload_length() && crc32fast::hash(payload) == self.0.payload_checksum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{End, Header};
    use crate::{Writer, WriterOptions};

    #[test]
    fn what_is_said_is_understood_and_nothing_else() {
        let hello = Hello { tape: 7, oldest: 9 };
        assert_eq!(Hello::from_bytes(&hello.to_bytes()), Some(hello));
        for answer in [Answer::Wants(0), Answer::Wants(77), Answer::Refused] {
            let mut bytes = answer.to_bytes();
            assert_eq!(Answer::from_bytes(&bytes), Some(answer));
            bytes[3] ^= 1;
            assert_eq!(Answer::from_bytes(&bytes), None);
        }
        assert_eq!(Hello::from_bytes(&[0; 24]), None);
    }

    #[test]
    fn a_block_is_known_by_its_header_and_its_payload_by_its_checksum() {
        let mut tape = Vec::new();
        Writer::new(&Header::default(), WriterOptions::default(), &mut tape).finish(&End::default(), &mut tape);
        let mut rest = &tape[..];
        let mut heads = Vec::new();
        while let Some(head) = BlockHead::at_start(rest) {
            let (block, after) = rest.split_at(BlockHead::LENGTH + head.payload_length());
            let payload = &block[BlockHead::LENGTH..];
            assert!(head.has_payload(payload));
            for at in 0..payload.len() {
                let mut other = payload.to_vec();
                other[at] ^= 4;
                assert!(!head.has_payload(&other));
            }
            heads.push(head);
            rest = after;
        }
        assert!(rest.is_empty());
        let numbers: Vec<u64> = heads.iter().map(BlockHead::sequence).collect();
        assert_eq!(numbers, [0, 1, 2]);
        assert!(heads[2].is_end() && !heads[0].is_end());
        assert!(heads.iter().all(|head| head.tape() == heads[0].tape()));
        for at in 0..BlockHead::LENGTH {
            let mut header = *tape.first_chunk().unwrap();
            header[at] ^= 1;
            assert_eq!(BlockHead::from_bytes(&header), None, "byte {at}");
        }
    }
}
