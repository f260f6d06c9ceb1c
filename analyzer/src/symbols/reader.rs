//! Reading debug information that may be hostile.
//!
//! The parser follows what it reads: entries that nest, lists that many entries share. A small file can be built to nest a million deep, or to be read a million times
//! over. So every read is counted against a [`Budget`], and refused where the stack grows too deep; the parser takes the refusal for the end of the data.

use gimli::{EndianSlice, Error, Reader, ReaderOffsetId, Result, RunTimeEndian};
use std::borrow::Cow;
use std::cell::Cell;

/// Stack that the parser may use, bytes. Threads have two megabytes at least, and real functions are inlined some tens deep.
const MOST_STACK: usize = 768 << 10;
/// Reads that are worth a search of this many bytes.
const SEARCHED: usize = 64;
/// The same for bytes that are copied: what many entries share, the folder of a unit for example, would be there many times.
const COPIED: usize = 8;

thread_local! {
    static READS_LEFT: Cell<u64> = const { Cell::new(0) };
    static STACK_FLOOR: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// What the parser may do on this thread while this lives.
pub(super) struct Budget(());

impl Budget {
    /// Allows so many reads, and as much stack as is reasonable from here on.
    pub(super) fn begin(reads: u64) -> Budget {
        READS_LEFT.set(reads);
        STACK_FLOOR.set(stack_pointer().saturating_sub(MOST_STACK));
        Budget(())
    }

    /// Reads that are left.
    pub(super) fn left(&self) -> u64 {
        READS_LEFT.get()
    }

    /// Whether it was used up.
    pub(super) fn is_spent(&self) -> bool {
        READS_LEFT.get() == 0
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        READS_LEFT.set(0);
        STACK_FLOOR.set(usize::MAX);
    }
}

/// About where the stack ends now.
#[inline(always)]
fn stack_pointer() -> usize {
    let here = 0u8;
    std::ptr::from_ref(&here).addr()
}

/// Takes reads from the budget.
#[inline]
fn pay(reads: u64) -> Result<()> {
    let left = READS_LEFT.get();
    if left <= reads || stack_pointer() < STACK_FLOOR.get() {
        READS_LEFT.set(0);
        return Err(Error::TooManyIterations);
    }
    READS_LEFT.set(left - reads);
    Ok(())
}

/// The bytes of a section, read within the thread's budget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounded<'a>(EndianSlice<'a, RunTimeEndian>);

impl<'a> Bounded<'a> {
    pub(super) fn new(bytes: &'a [u8], endian: RunTimeEndian) -> Bounded<'a> {
        Bounded(EndianSlice::new(bytes, endian))
    }
}

impl Reader for Bounded<'_> {
    type Endian = RunTimeEndian;
    type Offset = usize;

    #[inline]
    fn endian(&self) -> RunTimeEndian {
        self.0.endian()
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn empty(&mut self) {
        self.0.empty();
    }

    #[inline]
    fn truncate(&mut self, len: usize) -> Result<()> {
        self.0.truncate(len)
    }

    #[inline]
    fn offset_from(&self, base: &Self) -> usize {
        Reader::offset_from(&self.0, &base.0)
    }

    #[inline]
    fn offset_id(&self) -> ReaderOffsetId {
        self.0.offset_id()
    }

    #[inline]
    fn lookup_offset_id(&self, id: ReaderOffsetId) -> Option<usize> {
        self.0.lookup_offset_id(id)
    }

    #[inline]
    fn find(&self, byte: u8) -> Result<usize> {
        let found = Reader::find(&self.0, byte);
        let searched = *found.as_ref().unwrap_or(&self.0.len());
        pay(1 + (searched / SEARCHED) as u64)?;
        found
    }

    #[inline]
    fn skip(&mut self, len: usize) -> Result<()> {
        self.0.skip(len)
    }

    #[inline]
    fn split(&mut self, len: usize) -> Result<Self> {
        self.0.split(len).map(Bounded)
    }

    #[inline]
    fn to_slice(&self) -> Result<Cow<'_, [u8]>> {
        self.0.to_slice()
    }

    #[inline]
    fn to_string(&self) -> Result<Cow<'_, str>> {
        Reader::to_string(&self.0)
    }

    #[inline]
    fn to_string_lossy(&self) -> Result<Cow<'_, str>> {
        pay(1 + (self.0.len() / COPIED) as u64)?;
        Reader::to_string_lossy(&self.0)
    }

    #[inline]
    fn read_slice(&mut self, buf: &mut [u8]) -> Result<()> {
        pay(1)?;
        self.0.read_slice(buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_end_with_the_budget_and_with_the_stack() {
        let mut bytes = Bounded::new(&[1, 2, 3, 4], RunTimeEndian::Little);
        assert!(bytes.read_u8().is_err(), "without a budget nothing is read");
        let budget = Budget::begin(3);
        assert_eq!(bytes.read_u8(), Ok(1));
        assert_eq!(bytes.read_u8(), Ok(2));
        assert!(bytes.read_u8().is_err() && budget.is_spent());
        drop(budget);

        fn descend(bytes: &mut Bounded<'_>, depth: u64) -> u64 {
            let mut again = *bytes;
            match std::hint::black_box(&mut again).read_u8() {
                Ok(_) => descend(&mut again.clone(), depth + 1).max(depth),
                Err(_) => depth,
            }
        }
        let long = vec![0; 1 << 20];
        let _budget = Budget::begin(u64::MAX);
        let reached = descend(&mut Bounded::new(&long, RunTimeEndian::Little), 0);
        assert!(reached > 100 && reached < 1 << 20, "{reached}");
    }
}
