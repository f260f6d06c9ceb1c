//! The pieces of address space that are mapped at a place of the tape.

use crate::event::{Event, MapApi, Op};
use crate::id::{Address, Bytes, EventNo, Micros, ProcessIx, StackId, ThreadIx};
use std::collections::BTreeMap;

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceKind {
    Mapped(MapApi),
    Brk,
}

/// A piece that was whole since its birth, which may be the event that cut it to its shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub start: Address,
    pub length: Bytes,
    pub birth: EventNo,
    pub time: Micros,
    pub stack: StackId,
    pub thread: ThreadIx,
    pub kind: PieceKind,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start.get().saturating_add(self.length.get())
    }
}

#[derive(Clone, Default)]
pub(super) struct Spaces {
    live: BTreeMap<(ProcessIx, u64), Piece>,
}

impl Spaces {
    pub(super) fn stacks(&self) -> impl Iterator<Item = StackId> + '_ {
        self.live.values().map(|piece| piece.stack)
    }

    pub(super) fn restack(&mut self, of: impl Fn(StackId) -> StackId) {
        self.live.values_mut().for_each(|piece| piece.stack = of(piece.stack));
    }

    /// Does what an event does to the address space of its process.
    pub(super) fn change(&mut self, event: &Event, process: ProcessIx, number: EventNo, stack: StackId) {
        let piece = |start: Address, length: Bytes, kind: PieceKind| Piece {
            start,
            length,
            birth: number,
            time: event.time,
            stack,
            thread: event.thread,
            kind,
        };
        match event.op {
            Op::Map {
                api, address, length, ..
            } => self.map(process, piece(address, length, PieceKind::Mapped(api))),
            Op::Unmap { address, length } => {
                self.unmap(process, address, length, number, event.time);
            }
            Op::Remap {
                old_address,
                old_length,
                address,
                length,
                ..
            } => {
                let kind = self.unmap(process, old_address, old_length, number, event.time);
                let kind = kind.unwrap_or(PieceKind::Mapped(MapApi::Anonymous));
                self.map(process, piece(address, length, kind));
            }
            Op::Brk { old_end, new_end, .. } if new_end > old_end => {
                let length = Bytes(new_end.get() - old_end.get());
                self.map(process, piece(old_end, length, PieceKind::Brk));
            }
            Op::Brk { old_end, new_end, .. } => {
                let length = Bytes(old_end.get() - new_end.get());
                self.unmap(process, new_end, length, number, event.time);
            }
            _ => {}
        }
    }

    /// Maps a range; whatever lay there before is gone.
    fn map(&mut self, process: ProcessIx, mut piece: Piece) {
        if piece.length.get() == 0 {
            return;
        }
        piece.length = Bytes(piece.length.get().min(u64::MAX - piece.start.get()));
        self.unmap(process, piece.start, piece.length, piece.birth, piece.time);
        self.live.insert((process, piece.start.get()), piece);
    }

    /// Unmaps a range, which may cut pieces or span several. Returns what kind its first piece was.
    fn unmap(
        &mut self,
        process: ProcessIx,
        start: Address,
        length: Bytes,
        event: EventNo,
        time: Micros,
    ) -> Option<PieceKind> {
        let (start, end) = (start.get(), start.get().saturating_add(length.get()));
        if start == end {
            return None;
        }
        // The piece that begins before the range may reach into it.
        let before = self.live.range((process, 0)..(process, start)).next_back();
        let from = before.map_or(start, |(&(_, at), _)| at);
        let touched: Vec<Piece> = self
            .live
            .range((process, from)..(process, end))
            .map(|(_, piece)| *piece)
            .filter(|piece| piece.end() > start)
            .collect();
        for piece in &touched {
            self.live.remove(&(process, piece.start.get()));
            for (from, until) in [(piece.start.get(), start), (end, piece.end())] {
                if from < until {
                    let rest = Piece {
                        start: Address(from),
                        length: Bytes(until - from),
                        birth: event,
                        time,
                        ..*piece
                    };
                    self.live.insert((process, from), rest);
                }
            }
        }
        touched.first().map(|piece| piece.kind)
    }

    /// What is mapped in the processes that have not ended, in the order of events.
    pub(super) fn finish(self, has_ended: impl Fn(ProcessIx) -> bool) -> Vec<Piece> {
        let live = self.live.into_iter().filter(|((process, _), _)| !has_ended(*process));
        let mut pieces: Vec<Piece> = live.map(|(_, piece)| piece).collect();
        pieces.sort_by_key(|piece| piece.birth);
        pieces
    }
}
