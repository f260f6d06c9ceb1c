//! A column of numbers: in memory, or in an index file that is mapped and not trusted.
//!
//! A column of a file is checked piece by piece, when a piece is first looked at: its checksum, and that no number is beyond what the column may hold (a stack that the
//! tape does not have, for example). A piece that fails reads as zeros, which are valid everywhere, and the file is known to be bad from then on.

use super::store::Store;
use crate::index::IndexBytes;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;

/// Numbers in a piece.
pub const PIECE: usize = 1 << 16;

/// Pieces of a table on disk that are looked through before their memory is given back.
pub(crate) const AT_ONCE: usize = 8;

/// What a column can consist of.
pub trait Number: bytemuck::Pod + Ord + fmt::Debug + Send + Sync {
    /// What a piece reads as that cannot be read.
    fn zeros() -> &'static [Self];
}

macro_rules! number {
    ($type:ty) => {
        impl Number for $type {
            fn zeros() -> &'static [$type] {
                static ZEROS: [$type; PIECE] = [0; PIECE];
                &ZEROS
            }
        }
    };
}

number!(u8);
number!(u32);
number!(u64);

/// The column.
pub enum Column<T> {
    /// In memory, or in a file that stands for it.
    Memory(Store<T>),
    /// In a file.
    File(FileColumn<T>),
}

/// A column of an index file.
pub struct FileColumn<T> {
    bytes: Arc<IndexBytes>,
    start: usize,
    len: usize,
    /// The checksum of each piece.
    checksums: Vec<u32>,
    /// No number is greater.
    highest: T,
    state: Vec<AtomicU8>,
}

const UNCHECKED: u8 = 0;
const GOOD: u8 = 1;
const BAD: u8 = 2;

impl<T: Number> FileColumn<T> {
    /// The column at `start` of a file; `None` when it does not lie in it as it should.
    pub(crate) fn new(
        bytes: Arc<IndexBytes>,
        start: u64,
        len: usize,
        checksums: Vec<u32>,
        highest: T,
    ) -> Option<FileColumn<T>> {
        let start = usize::try_from(start).ok()?;
        let end = len.checked_mul(size_of::<T>())?.checked_add(start)?;
        let there = bytes.get().get(start..end)?;
        bytemuck::try_cast_slice::<u8, T>(there).ok()?;
        (checksums.len() == len.div_ceil(PIECE)).then(|| FileColumn {
            state: checksums.iter().map(|_| AtomicU8::new(UNCHECKED)).collect(),
            bytes,
            start,
            len,
            checksums,
            highest,
        })
    }

    fn raw(&self, piece: usize) -> &[T] {
        let from = (piece * PIECE).min(self.len);
        let until = (from + PIECE).min(self.len);
        let size = size_of::<T>();
        bytemuck::cast_slice(&self.bytes.get()[self.start + from * size..self.start + until * size])
    }

    #[inline]
    fn piece(&self, piece: usize) -> &[T] {
        match self.state.get(piece).map(|state| state.load(Ordering::Relaxed)) {
            Some(GOOD) => self.raw(piece),
            Some(UNCHECKED) => self.check(piece),
            _ => T::zeros(),
        }
    }

    #[cold]
    fn check(&self, piece: usize) -> &[T] {
        let numbers = self.raw(piece);
        let is_good = crc32fast::hash(bytemuck::cast_slice(numbers)) == self.checksums[piece]
            // Of all, without a way out: so many are compared at once.
            && !numbers.iter().fold(false, |is_beyond, &number| is_beyond | (number > self.highest));
        self.state[piece].store(if is_good { GOOD } else { BAD }, Ordering::Relaxed);
        if is_good {
            return numbers;
        }
        self.bytes.mark_bad();
        T::zeros()
    }
}

impl<T: Number> Column<T> {
    /// Number of numbers.
    pub fn len(&self) -> usize {
        match self {
            Column::Memory(numbers) => numbers.len(),
            Column::File(column) => column.len,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number at a place.
    #[inline]
    pub fn get(&self, at: usize) -> T {
        match self {
            Column::Memory(numbers) => numbers.look(at..at + 1)[0],
            Column::File(column) => column.piece(at / PIECE)[at % PIECE],
        }
    }

    /// The place of the first number that does not lie in front; those that do come first.
    pub(crate) fn partition_point(&self, lies_in_front: impl Fn(T) -> bool) -> usize {
        self.partition_within(0..self.len(), lies_in_front)
    }

    /// The same, within a range.
    pub(crate) fn partition_within(&self, range: Range<usize>, lies_in_front: impl Fn(T) -> bool) -> usize {
        let Range {
            start: mut from,
            end: mut until,
        } = range;
        while from < until {
            let middle = from + (until - from) / 2;
            if lies_in_front(self.get(middle)) {
                from = middle + 1;
            } else {
                until = middle;
            }
        }
        from
    }

    /// The numbers of a piece, at least as many as it has.
    #[inline]
    pub(crate) fn piece(&self, piece: usize) -> &[T] {
        match self {
            Column::Memory(numbers) => numbers.look(piece * PIECE..numbers.len().min((piece + 1) * PIECE)),
            Column::File(column) => column.piece(piece),
        }
    }

    /// Gives memory back; see [`Store::release`].
    pub(crate) fn release(&self) {
        if let Column::Memory(numbers) = self {
            numbers.release();
        }
    }

    /// Gives space on disk back that some numbers take until there is an index; see [`Store::discard`].
    pub(crate) fn discard(&self, numbers: Range<usize>) {
        if let Column::Memory(store) = self {
            store.discard(numbers);
        }
    }

    /// The numbers, if they are in memory.
    pub(crate) fn in_memory(&mut self) -> Option<&mut Store<T>> {
        match self {
            Column::Memory(numbers) => Some(numbers),
            Column::File(_) => None,
        }
    }
}

impl<T> Default for Column<T> {
    fn default() -> Column<T> {
        Column::Memory(Store::default())
    }
}

impl<T: Number> fmt::Debug for Column<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..self.len()).map(|at| self.get(at))).finish()
    }
}

impl<T: Number> PartialEq for Column<T> {
    fn eq(&self, other: &Column<T>) -> bool {
        self.len() == other.len() && (0..self.len()).all(|at| self.get(at) == other.get(at))
    }
}
