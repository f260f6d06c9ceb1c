//! The shared memory between the preload library (many producers) and the collector (one consumer).
//!
//! ```text
//! | Control | ProcessSlot x P | ThreadSlot x T | Chunk 0 | Chunk 1 | ...
//! ```
//! Every word is an atomic, so that both sides only ever hold shared references. The producer side takes no lock and makes no
//! system call; what must wait (a full pool) is left to the caller.
//!
//! The protocol between a thread and the collector stands in [`ring`], the words of a record in [`entry`].
#![no_std]
#[cfg(any(test, loom))]
extern crate std;

pub mod control;
pub mod entry;
pub mod ring;
pub mod segment;
pub mod slot;

/// The atomics: the machine's, or those of a model checker that tries every order.
pub(crate) mod atomic {
    #[cfg(not(loom))]
    pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    #[cfg(loom)]
    pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

#[cfg(all(test, loom))]
mod model;

pub use control::{Control, Options, State};
pub use segment::{Geometry, Segment};
pub use slot::{ProcessSlot, ThreadSlot};

/// No chunk, slot or process.
pub const NONE: u32 = u32::MAX;

/// Bits that a stamp has below the ticks of the counter, where that is coarser than the events (everywhere but on x86_64): room for an order within a tick.
pub const TICK_BITS: u32 = if cfg!(target_arch = "x86_64") { 0 } else { 4 };
