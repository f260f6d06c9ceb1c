//! The allocation table while it grows.

use super::block::Digest;
use crate::table::{AllocIx, Allocations, Atomics, Column, Flags, Marks, Storage, Store, Wide, LOW_NEVER, PIECE, WIDE};
use heaptape_format::{EventNo, TypeIx, NO_BIRTH};
use rayon::prelude::*;
use std::io;
use std::sync::atomic::Ordering;

/// The columns; see [`Allocations`].
pub(super) struct Rows {
    storage: Storage,
    /// How many rows there may come to be.
    most: usize,
    base: Vec<u64>,
    birth: Store<u32>,
    death: Store<u32>,
    address: Store<u64>,
    size: Store<u32>,
    stack: Store<u32>,
    thread: Store<u32>,
    kind: Store<u32>,
    marks: Store<u8>,
    wide_birth: Wide,
    /// In no order.
    pub wide_death: Wide,
    wide_size: Wide,
    /// In no order.
    pub predecessor: Vec<(AllocIx, AllocIx)>,
    /// Rows that did not fit.
    pub overflow: u64,
    /// Of all sizes.
    pub bytes: u128,
}

/// Where shards note deaths at the same time, each of rows of its own.
pub(super) struct Deaths<'a> {
    base: &'a [u64],
    death: Atomics<'a>,
}

impl Deaths<'_> {
    /// Reads what will be written when a row dies.
    #[inline]
    pub(super) fn peek(&self, row: AllocIx) -> u32 {
        let death = self.death.get(row.0 as usize);
        death.map_or(0, |death| death.load(Ordering::Relaxed))
    }

    /// Notes a death; what its column cannot hold is handed back. Every row dies once.
    pub(super) fn die(&self, row: AllocIx, event: EventNo) -> Option<(u32, u64)> {
        let low = low(event.get(), self.base[row.0 as usize / PIECE]);
        if let Some(death) = self.death.get(row.0 as usize) {
            death.store(low, Ordering::Relaxed);
        }
        (low == WIDE).then_some((row.0, event.get()))
    }
}

/// The rows of a digest in the columns.
struct Part<'a> {
    birth: &'a mut [u32],
    death: &'a mut [u32],
    address: &'a mut [u64],
    size: &'a mut [u32],
    stack: &'a mut [u32],
    thread: &'a mut [u32],
    /// Empty when no row has a type.
    kind: &'a mut [u32],
    marks: &'a mut [u8],
}

/// What of a part its columns cannot hold.
#[derive(Default)]
struct WideNumbers {
    birth: Wide,
    death: Wide,
    size: Wide,
}

/// The first numbers of a slice, which it loses.
fn split_off<'a, T>(slice: &mut &'a mut [T], rows: usize) -> &'a mut [T] {
    let (first, rest) = std::mem::take(slice).split_at_mut(rows);
    *slice = rest;
    first
}

impl<'a> Part<'a> {
    /// The first rows, which this one loses.
    fn split_off(&mut self, rows: usize) -> Part<'a> {
        let kinds = rows.min(self.kind.len());
        Part {
            birth: split_off(&mut self.birth, rows),
            death: split_off(&mut self.death, rows),
            address: split_off(&mut self.address, rows),
            size: split_off(&mut self.size, rows),
            stack: split_off(&mut self.stack, rows),
            thread: split_off(&mut self.thread, rows),
            kind: split_off(&mut self.kind, kinds),
            marks: split_off(&mut self.marks, rows),
        }
    }

    /// Writes the births of a digest, the first of which is this row.
    fn fill(self, digest: &Digest, first: usize, base: &[u64]) -> WideNumbers {
        let start = digest.first_event.get();
        let mut wide = WideNumbers::default();
        let numbers = self.birth.iter_mut().zip(self.death).zip(self.size);
        for ((at, row), ((birth, death), size)) in digest.rows.iter().enumerate().zip(numbers) {
            let at = first + at;
            let base = base[at / PIECE];
            let event = start + u64::from(row.event);
            *birth = low(event, base);
            *size = low(row.size, 0);
            *death = LOW_NEVER;
            if row.death != NO_BIRTH {
                let event = start + u64::from(row.death);
                *death = low(event, base);
                if *death == WIDE {
                    wide.death.push((at as u32, event));
                }
            }
            if *birth == WIDE {
                wide.birth.push((at as u32, event));
            }
            if *size == WIDE {
                wide.size.push((at as u32, row.size));
            }
        }
        let facts = self.address.iter_mut().zip(self.stack);
        for (row, (address, stack)) in digest.rows.iter().zip(facts) {
            *address = row.address.get();
            *stack = row.stack;
        }
        for (row, kind) in digest.rows.iter().zip(self.kind) {
            *kind = row.kind;
        }
        self.marks.copy_from_slice(&digest.marks);
        let nexts = digest.threads.iter().skip(1).map(|&(from, _)| from);
        let nexts = nexts.chain([digest.rows.len() as u32]);
        for (&(from, thread), next) in digest.threads.iter().zip(nexts) {
            self.thread[from as usize..next as usize].fill(thread.get());
        }
        wide
    }
}

/// An event as an offset.
fn low(event: u64, base: u64) -> u32 {
    u32::try_from(event.wrapping_sub(base))
        .ok()
        .filter(|&low| low < WIDE)
        .unwrap_or(WIDE)
}

impl Rows {
    /// No rows yet, and at most so many.
    pub(super) fn new(storage: &Storage, most: usize) -> io::Result<Rows> {
        Ok(Rows {
            storage: storage.clone(),
            most,
            base: Vec::new(),
            birth: storage.store(most)?,
            death: storage.store(most)?,
            address: storage.store(most)?,
            size: storage.store(most)?,
            stack: storage.store(most)?,
            thread: storage.store(most)?,
            kind: Store::default(),
            marks: storage.store(most)?,
            wide_birth: Wide::new(),
            wide_death: Wide::new(),
            wide_size: Wide::new(),
            predecessor: Vec::new(),
            overflow: 0,
            bytes: 0,
        })
    }

    /// Bytes that stay in memory wherever the columns are.
    pub(super) fn memory(&self) -> usize {
        let wide = self.wide_birth.capacity() + self.wide_death.capacity() + self.wide_size.capacity();
        wide * size_of::<(u32, u64)>() + self.predecessor.capacity() * size_of::<(AllocIx, AllocIx)>()
    }

    /// Gives memory back that stands on disk as well.
    pub(super) fn release(&self) {
        for store in [
            &self.birth,
            &self.death,
            &self.size,
            &self.stack,
            &self.thread,
            &self.kind,
        ] {
            store.release();
        }
        self.address.release();
        self.marks.release();
    }

    pub(super) fn deaths(&mut self) -> Deaths<'_> {
        Deaths {
            base: &self.base,
            death: self.death.atomics(),
        }
    }

    /// Types from now on: none so far.
    fn begin_kinds(&mut self) -> io::Result<()> {
        if self.kind.is_empty() {
            self.kind = self.storage.store(self.most)?;
            self.kind.reserve(self.birth.len())?;
            self.kind.extend((0..self.birth.len()).map(|_| 0));
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.birth.len()
    }

    /// Appends the births of some digests; the first row of each. What does not fit is left out of its digest.
    pub(super) fn append(&mut self, digests: &mut [Digest]) -> io::Result<Vec<u32>> {
        let before = self.len();
        let mut next = before;
        let mut first_rows = Vec::with_capacity(digests.len());
        let mut has_kinds = !self.kind.is_empty();
        for digest in digests.iter_mut() {
            first_rows.push(next as u32);
            if digest.rows.len() > (u32::MAX - 1) as usize - next {
                self.overflow += digest.rows.len() as u64;
                digest.drop_heap();
            }
            // The births that begin a piece.
            let start = digest.first_event.get();
            let mut piece = next.next_multiple_of(PIECE);
            while piece < next + digest.rows.len() {
                self.base.push(start + u64::from(digest.rows[piece - next].event));
                piece += PIECE;
            }
            has_kinds |= digest.has_kinds;
            self.bytes += digest.bytes;
            next += digest.rows.len();
        }
        let more = next - before;
        if has_kinds {
            self.begin_kinds()?;
        }
        let mut tail = Part {
            birth: self.birth.grow(more)?,
            death: self.death.grow(more)?,
            address: self.address.grow(more)?,
            size: self.size.grow(more)?,
            stack: self.stack.grow(more)?,
            thread: self.thread.grow(more)?,
            kind: if has_kinds { self.kind.grow(more)? } else { &mut [] },
            marks: self.marks.grow(more)?,
        };
        let digests = &*digests;
        let parts = digests.iter().map(|digest| tail.split_off(digest.rows.len()));
        let parts: Vec<Part> = parts.collect();
        let base = &self.base;
        let wide: Vec<WideNumbers> = parts
            .into_par_iter()
            .zip(digests)
            .zip(&first_rows)
            .map(|((part, digest), &first)| part.fill(digest, first as usize, base))
            .collect();
        for mut wide in wide {
            self.wide_birth.append(&mut wide.birth);
            self.wide_death.append(&mut wide.death);
            self.wide_size.append(&mut wide.size);
        }
        Ok(first_rows)
    }

    /// Notes that a row's free was not seen.
    pub(super) fn lose(&mut self, row: AllocIx) {
        let marks = &mut self.marks[row.0 as usize];
        *marks = Marks(*marks).with(Flags::LOST_FREE).0;
    }

    pub(super) fn set_kind(&mut self, row: AllocIx, kind: TypeIx) -> io::Result<()> {
        self.begin_kinds()?;
        self.kind[row.0 as usize] = kind.get();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Allocations {
        self.wide_death.sort_unstable();
        self.predecessor.sort_unstable();
        Allocations {
            base: self.base,
            birth: Column::Memory(self.birth),
            death: Column::Memory(self.death),
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
