//! The allocation table while it grows.

use super::block::Digest;
use crate::table::{AllocIx, Allocations, Column, Flags, Marks, Wide, LOW_NEVER, PIECE, WIDE};
use heaptape_format::{EventNo, TypeIx, NO_BIRTH};
use std::sync::atomic::{AtomicU32, Ordering};

/// The columns; see [`Allocations`].
#[derive(Default)]
pub(super) struct Rows {
    base: Vec<u64>,
    birth: Vec<u32>,
    /// Shards write here at the same time, each to rows of its own.
    death: Vec<AtomicU32>,
    address: Vec<u64>,
    size: Vec<u32>,
    stack: Vec<u32>,
    thread: Vec<u32>,
    kind: Vec<u32>,
    marks: Vec<u8>,
    wide_birth: Wide,
    /// In no order.
    pub wide_death: Wide,
    wide_size: Wide,
    /// In no order.
    pub predecessor: Vec<(AllocIx, AllocIx)>,
    /// Rows that did not fit.
    pub overflow: u64,
}

/// An event as an offset.
fn low(event: u64, base: u64) -> u32 {
    u32::try_from(event.wrapping_sub(base))
        .ok()
        .filter(|&low| low < WIDE)
        .unwrap_or(WIDE)
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.birth.len()
    }

    /// Appends the births of some digests; the first row of each. What does not fit is left out of its digest.
    pub(super) fn append(&mut self, digests: &mut [Digest]) -> Vec<u32> {
        let before = self.len();
        let mut next = before;
        let mut first_rows = Vec::with_capacity(digests.len());
        let mut has_kinds = !self.kind.is_empty();
        for digest in digests.iter_mut() {
            first_rows.push(next as u32);
            if digest.births.len() > (u32::MAX - 1) as usize - next {
                self.overflow += digest.births.len() as u64;
                digest.drop_heap();
            }
            // The births that begin a piece.
            let start = digest.first_event.get();
            let mut piece = next.next_multiple_of(PIECE);
            while piece < next + digest.births.len() {
                self.base.push(start + u64::from(digest.births.event[piece - next]));
                piece += PIECE;
            }
            has_kinds |= digest.births.kind.iter().any(|&kind| kind != 0);
            next += digest.births.len();
        }
        let digests = &*digests;
        let first = &first_rows;
        let each = || {
            digests
                .iter()
                .zip(first)
                .map(|(digest, &first)| (digest, first as usize))
        };
        let (base, thread, kind, marks) = (&self.base, &mut self.thread, &mut self.kind, &mut self.marks);
        let (birth, death, address) = (&mut self.birth, &mut self.death, &mut self.address);
        let (size, stack) = (&mut self.size, &mut self.stack);
        let (wide_birth, wide_death, wide_size) = (&mut self.wide_birth, &mut self.wide_death, &mut self.wide_size);
        rayon::scope(|scope| {
            scope.spawn(|_| {
                for (digest, first) in each() {
                    let start = digest.first_event.get();
                    birth.extend(digest.births.event.iter().enumerate().map(|(number, &event)| {
                        let (row, event) = (first + number, start + u64::from(event));
                        let low = low(event, base[row / PIECE]);
                        if low == WIDE {
                            wide_birth.push((row as u32, event));
                        }
                        low
                    }));
                }
            });
            scope.spawn(|_| {
                for (digest, first) in each() {
                    let start = digest.first_event.get();
                    death.extend(digest.births.death.iter().enumerate().map(|(number, &event)| {
                        if event == NO_BIRTH {
                            return AtomicU32::new(LOW_NEVER);
                        }
                        let (row, event) = (first + number, start + u64::from(event));
                        let low = low(event, base[row / PIECE]);
                        if low == WIDE {
                            wide_death.push((row as u32, event));
                        }
                        AtomicU32::new(low)
                    }));
                }
            });
            scope.spawn(|_| each().for_each(|(digest, _)| address.extend_from_slice(&digest.births.address)));
            scope.spawn(|_| {
                for (digest, first) in each() {
                    size.extend(digest.births.size.iter().enumerate().map(|(number, &size)| {
                        let low = low(size, 0);
                        if low == WIDE {
                            wide_size.push(((first + number) as u32, size));
                        }
                        low
                    }));
                }
            });
            scope.spawn(|_| each().for_each(|(digest, _)| stack.extend_from_slice(&digest.births.stack)));
            scope.spawn(|_| each().for_each(|(digest, _)| thread.extend_from_slice(&digest.births.thread)));
            scope.spawn(|_| each().for_each(|(digest, _)| marks.extend_from_slice(&digest.births.marks)));
            if has_kinds {
                scope.spawn(|_| {
                    kind.resize(before, 0);
                    each().for_each(|(digest, _)| kind.extend_from_slice(&digest.births.kind));
                });
            }
        });
        first_rows
    }

    /// Notes a death; what its column cannot hold is handed back. Every row dies once.
    pub(super) fn die(&self, row: AllocIx, event: EventNo) -> Option<(u32, u64)> {
        let low = low(event.get(), self.base[row.0 as usize / PIECE]);
        self.death[row.0 as usize].store(low, Ordering::Relaxed);
        (low == WIDE).then_some((row.0, event.get()))
    }

    /// Notes that a row's free was not seen.
    pub(super) fn lose(&mut self, row: AllocIx) {
        let marks = &mut self.marks[row.0 as usize];
        *marks = Marks(*marks).with(Flags::LOST_FREE).0;
    }

    pub(super) fn set_kind(&mut self, row: AllocIx, kind: TypeIx) {
        if self.kind.is_empty() {
            self.kind.resize(self.birth.len(), 0);
        }
        self.kind[row.0 as usize] = kind.get();
    }

    pub(super) fn finish(mut self) -> Allocations {
        self.wide_death.sort_unstable();
        self.predecessor.sort_unstable();
        Allocations {
            base: self.base,
            birth: Column::Memory(self.birth),
            // The standard library does this in place.
            death: Column::Memory(self.death.into_iter().map(AtomicU32::into_inner).collect()),
            address: Column::Memory(self.address),
            size: Column::Memory(self.size),
            stack: Column::Memory(self.stack),
            thread: Column::Memory(self.thread),
            kind: Column::Memory(self.kind),
            marks: Column::Memory(self.marks),
            wide_birth: self.wide_birth,
            wide_death: self.wide_death,
            wide_size: self.wide_size,
            successor: Column::Memory(self.predecessor.iter().map(|(new, _)| new.0).collect()),
            predecessor: Column::Memory(self.predecessor.iter().map(|(_, old)| old.0).collect()),
        }
    }
}
