//! The heaptape tape: what a recorder writes and an analyzer reads.
//!
//! `docs/FORMAT.md` is the normative description of the bytes; this crate is its implementation.
//! It never performs IO, never panics on any input, never allocates by an unchecked length and contains no `unsafe`.

pub mod event;
pub mod id;
pub mod record;

pub use event::{AllocApi, Event, MapApi, Op};
pub use id::{Address, Bytes, EventNo, FrameId, Micros, ModuleIx, ProcessIx, StackId, ThreadIx};
pub use record::{Header, Placed, Record};
