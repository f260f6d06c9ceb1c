//! Writing a keyframe, and giving the blocks after it their new place.

use super::life::{Death, Row};
use super::space::{Piece, PieceKind};
use super::{Folder, Kept, NOBODY};
use crate::block::{RawHeader, HEADER_LENGTH, MAX_SPAN};
use crate::bytes::put_varint;
use crate::event::{AllocApi, Event, Op};
use crate::id::{EventNo, StackId, ThreadIx, TypeIx};
use crate::writer::{Writer, WriterOptions};
use rustc_hash::FxHashSet;

/// Gives what is written so far away when there is so much of it.
const HAND_OUT: usize = 1 << 20;

/// Where the blocks after a keyframe go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restamp {
    /// The sequence number of the next block.
    pub sequence: u64,
    /// The generation that the next block's generation becomes.
    pub generation: u32,
}

impl Folder {
    /// Writes the tape that begins with a keyframe of all that was taken, up to its folded block. The bytes are handed to `out`, in their order; when that returns `false`, nothing more is
    /// written. Tells how the blocks after it are to be numbered, whose first must begin a generation; `None` when it was told to stop.
    pub fn finish(self, options: WriterOptions, mut out: impl FnMut(&[u8]) -> bool) -> Option<Restamp> {
        let Folder {
            header,
            part,
            records,
            names,
            mut sites,
            mut lives,
            spaces,
            peak,
            next_event,
            weight,
            time,
            ..
        } = self;
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&header, options, &mut bytes);
        if let Some(part) = part {
            writer.part(&part, &mut bytes);
        }
        lives.reach(next_event);
        let processes = records.processes();
        let ended: Vec<bool> = processes.map(|process| lives.has_ended(process)).collect();
        let has_ended = |process: crate::ProcessIx| ended.get(process.get() as usize).copied().unwrap_or(false);
        let (rows, deaths) = lives.finish(|row, is_freed| {
            if is_freed {
                sites.freed(row.stack, row.size);
            } else {
                sites.left(row.size);
            }
        });
        let pieces = spaces.finish(has_ended);
        let threads: FxHashSet<ThreadIx> = rows
            .iter()
            .map(|row| row.thread)
            .chain(deaths.iter().map(|death| death.thread))
            .chain(pieces.iter().map(|piece| piece.thread))
            .collect();
        let busy: FxHashSet<_> = threads
            .iter()
            .map(|&thread| records.process_of(thread).unwrap_or(NOBODY))
            .collect();
        records.finish(
            |thread| threads.contains(&thread),
            |process| !has_ended(process) || busy.contains(&process),
            &mut writer,
        );
        let needed = rows
            .iter()
            .map(|row| row.stack)
            .chain(pieces.iter().map(|piece| piece.stack));
        let (moved, mut folded) = sites.finish(needed, &mut writer);
        folded.peak = peak.finish();
        names.finish(&mut writer, &mut bytes);
        writer.flush(&mut bytes);
        let mut keyframe = Keyframe {
            writer,
            bytes,
            numbers: Vec::new(),
            first: EventNo(0),
            last: EventNo(0),
            weight,
        };
        for kept in merged(rows, deaths, pieces) {
            keyframe.keep(kept, |stack| moved.of(stack));
            if keyframe.bytes.len() >= HAND_OUT {
                if !out(&keyframe.bytes) {
                    return None;
                }
                keyframe.bytes.clear();
            }
        }
        keyframe.seal_until(next_event);
        let Keyframe {
            mut writer, mut bytes, ..
        } = keyframe;
        writer.folded(&folded, time, &mut bytes);
        out(&bytes).then_some(Restamp {
            sequence: writer.sequence(),
            generation: 1,
        })
    }
}

/// All that stays in the order of events; of one event what ends before what begins.
fn merged(rows: Vec<Row>, deaths: Vec<Death>, pieces: Vec<Piece>) -> impl Iterator<Item = Kept> {
    let mut rows = rows.into_iter().peekable();
    let mut deaths = deaths.into_iter().peekable();
    let mut pieces = pieces.into_iter().peekable();
    std::iter::from_fn(move || {
        let row = rows.peek().map_or(u64::MAX, |row| row.birth.get());
        let death = deaths.peek().map_or(u64::MAX, |death| death.event.get());
        let piece = pieces.peek().map_or(u64::MAX, |piece| piece.birth.get());
        if death <= row.min(piece) {
            deaths.next().map(Kept::Death)
        } else if piece <= row {
            pieces.next().map(Kept::Piece)
        } else {
            rows.next().map(Kept::Row)
        }
    })
}

struct Keyframe {
    writer: Writer,
    bytes: Vec<u8>,
    /// The column of numbers of the block in the making.
    numbers: Vec<u8>,
    /// First event of the block in the making.
    first: EventNo,
    /// Latest event that was kept.
    last: EventNo,
    /// Of the events that no block stands for yet.
    weight: u64,
}

impl Keyframe {
    fn keep(&mut self, kept: Kept, stack: impl Fn(StackId) -> StackId) {
        match kept {
            Kept::Row(row) => {
                let api = AllocApi::from_u8(row.api).unwrap_or(AllocApi::Malloc);
                let (address, size, stack) = (row.address, row.size, stack(row.stack));
                let op = if row.is_realloc {
                    Op::MoveIn {
                        api,
                        address,
                        size,
                        stack,
                    }
                } else {
                    Op::Alloc {
                        api,
                        address,
                        size,
                        stack,
                    }
                };
                let (time, thread) = (row.time, row.thread);
                self.event(row.birth, &Event { time, thread, op });
                if api == AllocApi::PyObj || row.kind != TypeIx::UNKNOWN {
                    let kind = row.kind;
                    let op = Op::Typed { address, kind };
                    self.event(row.birth, &Event { time, thread, op });
                }
            }
            Kept::Death(death) => {
                let (time, thread, address) = (death.time, death.thread, death.address);
                let op = Op::Free { address };
                self.event(death.event, &Event { time, thread, op });
            }
            Kept::Piece(piece) => {
                let (address, length, stack) = (piece.start, piece.length, stack(piece.stack));
                let op = match piece.kind {
                    PieceKind::Mapped(api) => Op::Map {
                        api,
                        address,
                        length,
                        stack,
                    },
                    PieceKind::Brk => Op::Brk {
                        old_end: address,
                        new_end: crate::Address(address.get() + length.get()),
                        stack,
                    },
                };
                let (time, thread) = (piece.time, piece.thread);
                self.event(piece.birth, &Event { time, thread, op });
            }
        }
    }

    fn event(&mut self, number: EventNo, event: &Event) {
        let is_far = number.get() - self.first.get() >= u64::from(MAX_SPAN);
        // What an event says of the block that it has just begun stays with it.
        let is_new = number > self.last || self.writer.kept() == 0;
        if is_far || (is_new && self.writer.is_full() && self.writer.kept() > 0) {
            self.seal_until(number);
        }
        let before = self.writer.kept();
        self.writer.keep(event);
        if self.writer.kept() > before {
            let last = if before == 0 { self.first } else { self.last };
            put_varint(&mut self.numbers, number.get() - last.get());
            self.last = number;
        }
    }

    /// Seals blocks that stand for all events before `next`.
    fn seal_until(&mut self, next: EventNo) {
        while self.first < next {
            let span = (next.get() - self.first.get()).min(u64::from(MAX_SPAN)) as u32;
            let weight = self.weight.min(2 * u64::from(span)).min(u64::from(u32::MAX)) as u32;
            self.writer.keyframe(&self.numbers, span, weight, &mut self.bytes);
            self.numbers.clear();
            self.weight -= u64::from(weight);
            self.first = EventNo(self.first.get() + u64::from(span));
        }
    }
}

/// Gives whole blocks their place in another file: `stamp.sequence` is that of the first, and counts on; `generation` is what becomes `stamp.generation`.
/// Returns how many bytes whole blocks were; what is no block ends it.
pub fn rehead(bytes: &mut [u8], generation: u32, stamp: &mut Restamp) -> usize {
    let mut at = 0;
    while let Some(place) = bytes
        .get_mut(at..)
        .and_then(|rest| rest.first_chunk_mut::<HEADER_LENGTH>())
    {
        let Some(header) = RawHeader::from_bytes(place) else {
            break;
        };
        let end = header.end(at as u64);
        if end > bytes.len() as u64 {
            break;
        }
        let header = RawHeader {
            sequence: stamp.sequence,
            generation: header.generation.saturating_sub(generation) + stamp.generation,
            ..header
        };
        if let Some(place) = bytes.get_mut(at..at + HEADER_LENGTH) {
            place.copy_from_slice(&header.to_bytes());
        }
        stamp.sequence += 1;
        at = end as usize;
    }
    at
}
