//! The heaptape tape: what a recorder writes and an analyzer reads.
//!
//! `docs/FORMAT.md` is the normative description of the bytes; this crate is its implementation.
//! It never performs IO, never panics on any input, never allocates by an unchecked length and contains no `unsafe`.
//!
//! Writing: [`Writer`]. Reading: [`scan()`] finds the blocks and the damage, [`read_events`] and [`read_tables`] decode single blocks.

pub mod block;
mod bound;
mod bytes;
pub mod columns;
pub mod damage;
mod decode;
pub mod event;
mod events;
pub mod id;
mod not_a_tape;
mod payload;
pub mod record;
pub mod scan;
mod search;
pub mod source;
mod stacks;
mod writer;

pub use block::{Block, BlockKind};
pub use columns::{EventColumns, OpCode, Second, NO_BIRTH};
pub use damage::{Damage, DamageCause};
pub use decode::{read_events, read_tables};
pub use event::{AllocApi, Event, MapApi, Op};
pub use id::{Address, Bytes, CodeIx, EventNo, FrameId, Micros, ModuleIx, ProcessIx, StackId, ThreadIx, TypeIx};
pub use not_a_tape::NotATape;
pub use record::{End, Frame, Header, Placed, Record};
pub use scan::{resume, scan, Ending, Scan};
pub use source::{Source, SourceError};
pub use writer::{Writer, WriterOptions};
