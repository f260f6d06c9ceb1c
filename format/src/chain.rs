//! Several files of one recording as one tape.
//!
//! ```text
//!   first     |header| blocks ...        |what the next has, too| end|
//!   second    |header|keyframe| blocks ...                           |what the next has, too| end|
//!   as one    |header| blocks ...        | blocks ...                | ...
//! ```
//! Of every file but the first the keyframe is left out, of every file but the last what the next one has. The headers of what is left get their place in the whole: sequence numbers and
//! generations; nothing else differs. Damage stays where it is, and is found as in a tape that is one file.

use crate::block::{RawHeader, HEADER_LENGTH};
use crate::damage::Damage;
use crate::part::Part;
use crate::scan::Scan;
use crate::source::{Source, SourceError};
use std::fmt;

/// A source that is made of the files of a recording, which have no gap.
pub struct Chain<S> {
    pieces: Vec<Piece<S>>,
    length: u64,
}

/// What is taken of a file.
struct Piece<S> {
    source: S,
    /// Where it lies in the whole.
    begins: u64,
    /// Where it lies in the file.
    from: u64,
    length: u64,
    /// Headers that read other than in the file, by their place in the file.
    headers: Vec<(u64, [u8; HEADER_LENGTH])>,
}

/// Why files cannot be read as one tape. Files are named by their place, from 0 on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotAChain {
    /// It is a file of another recording than the first one.
    OtherRecording {
        /// Which.
        file: usize,
    },
    /// It is another file of the recording than it should be.
    OtherPart {
        /// Which.
        file: usize,
        /// The number that it should have.
        expected: u32,
        /// The number that it has.
        found: u32,
    },
    /// What it says of its place cannot be read.
    Damaged {
        /// Which.
        file: usize,
        /// What is wrong.
        damage: Damage,
    },
}

impl NotAChain {
    /// The place of the file that does not fit, from 0 on.
    pub const fn file(&self) -> usize {
        match self {
            NotAChain::OtherRecording { file }
            | NotAChain::OtherPart { file, .. }
            | NotAChain::Damaged { file, .. } => *file,
        }
    }
}

impl fmt::Display for NotAChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAChain::OtherRecording { .. } => f.write_str("it is of another recording than the files before it"),
            NotAChain::OtherPart { expected, found, .. } => {
                write!(
                    f,
                    "it is file {found} of its recording, where file {expected} was expected"
                )
            }
            NotAChain::Damaged { damage, .. } => write!(f, "its place in the recording cannot be read: {damage}"),
        }
    }
}

impl std::error::Error for NotAChain {}

/// Where the blocks of a file go.
#[derive(Clone, Copy)]
struct Shift {
    sequence: u64,
    generation: u32,
}

impl<S: Source> Chain<S> {
    /// Puts files together, in their order, of which the first has this number in its recording.
    ///
    /// # Errors
    /// When they are not consecutive files of one recording.
    pub fn new(files: Vec<(S, Scan)>, first: u32) -> Result<Chain<S>, NotAChain> {
        let mut parts = Vec::new();
        for (file, (source, scan)) in files.iter().enumerate() {
            if scan.tape() != files[0].1.tape() {
                return Err(NotAChain::OtherRecording { file });
            }
            let part = Part::of(source, scan).map_err(|damage| NotAChain::Damaged { file, damage })?;
            let found = part.map_or(1, |part| part.number);
            let expected = first.saturating_add(file as u32);
            if found != expected {
                return Err(NotAChain::OtherPart { file, expected, found });
            }
            parts.push(part.unwrap_or_default());
        }
        let mut chain = Chain {
            pieces: Vec::new(),
            length: 0,
        };
        let mut shift = Shift {
            sequence: 0,
            generation: 0,
        };
        for (at, (source, scan)) in files.into_iter().enumerate() {
            let folded = scan.blocks.iter().take_while(|block| block.generation == 0);
            let folded = folded.last().filter(|_| at > 0);
            if at > 0 {
                let own = folded.map_or(0, |last| last.sequence.wrapping_add(1));
                let continued = parts[at].continues.wrapping_add(shift.sequence);
                shift.sequence = continued.wrapping_sub(own);
            }
            let from = folded.map_or(0, |last| last.offset + last.length);
            let mut next = parts.get(at + 1).into_iter();
            let until = next.find_map(|next| scan.blocks.iter().find(|block| block.sequence >= next.continues));
            let until = until.map_or(source.len(), |block| block.offset).max(from);
            let kept = scan.blocks.iter().filter(|block| (from..until).contains(&block.offset));
            let mut latest = shift.generation;
            let mut headers = Vec::new();
            for block in kept {
                let mut bytes = [0; HEADER_LENGTH];
                let read = source.read_at(block.offset, &mut bytes);
                // What cannot be read now is damage when it is read again.
                let Some(header) = read.ok().and_then(|()| RawHeader::from_bytes(&bytes)) else {
                    continue;
                };
                let header = RawHeader {
                    sequence: header.sequence.wrapping_add(shift.sequence),
                    generation: header.generation.saturating_add(shift.generation),
                    ..header
                };
                latest = latest.max(header.generation);
                if at > 0 {
                    headers.push((block.offset, header.to_bytes()));
                }
            }
            shift.generation = latest;
            let length = until - from;
            chain.pieces.push(Piece {
                source,
                begins: chain.length,
                from,
                length,
                headers,
            });
            chain.length = chain.length.saturating_add(length);
        }
        Ok(chain)
    }
}

impl<S: Source> Piece<S> {
    /// Fills `into` with the bytes of the file from `offset` on, as they read in the whole.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.source.read_at(offset, into)?;
        let end = offset + into.len() as u64;
        let first = self
            .headers
            .partition_point(|(at, _)| at + HEADER_LENGTH as u64 <= offset);
        for (at, header) in self.headers[first..].iter().take_while(|(at, _)| *at < end) {
            let from = (*at).max(offset);
            let until = (at + HEADER_LENGTH as u64).min(end);
            into[(from - offset) as usize..(until - offset) as usize]
                .copy_from_slice(&header[(from - at) as usize..(until - at) as usize]);
        }
        Ok(())
    }
}

impl<S: Source> Source for Chain<S> {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        let end = offset.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(SourceError {
                message: "there are no bytes there".into(),
            });
        }
        let mut rest = into;
        let mut at = offset;
        let first = self.pieces.partition_point(|piece| piece.begins + piece.length <= at);
        for piece in &self.pieces[first..] {
            if rest.is_empty() {
                break;
            }
            let within = at - piece.begins;
            let count = (piece.length - within).min(rest.len() as u64);
            let (here, after) = rest.split_at_mut(count as usize);
            piece.read_at(piece.from + within, here)?;
            rest = after;
            at += count;
        }
        Ok(())
    }
}
