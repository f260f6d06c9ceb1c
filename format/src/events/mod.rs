//! The coding of an events block: columns of bytes, with everything predicted that programs and allocators do by habit.
//!
//! - `habits`: after these stacks that one allocates next, and what a stack asked for last it asks for again.
//! - `heap`: which blocks are live, so that a death is "the newest but two"; which addresses are free, so that a birth is "the latest freed
//!   of this size". A free list is often worked through from its middle, hence the neighbours of what was taken last.
//! - `objects`: which type the reader takes an object for, so that what it gets right by itself is not said.
//! - `layout`: the numbers; `docs/FORMAT.md` says what they mean.
//!
//! Encoder and decoder go through the same states. All of them start empty in every block, and none grows beyond the block's events.
//!
//! Measured with `cargo bench -p heaptape-format -- TAPE...`, 65,536 events a block, zstd level 1, bytes per event with all headers and stacks:
//! a JSON service in Python 0.99, cc1plus 1.07, a Perl script 1.19, four C++ threads with random lifetimes 1.45, the made-up programs 0.92 and
//! 1.06. Of cc1plus's, 0.14 are stacks: 578,430 nodes at 0.7 bytes each. One row of numbers per event had taken 3.8 to 5.0.
//! On a shared core of a busy machine 37 to 50 ns to code and compress an event, 26 to 31 ns to decode it.

mod decode;
mod encode;
mod habits;
mod heap;
mod layout;
mod objects;
mod thread;

pub(crate) use decode::{decode, Scratch};
pub(crate) use encode::Encoder;
