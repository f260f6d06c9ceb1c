//! The heaptape tape: what a recorder writes and an analyzer reads.
//!
//! `docs/FORMAT.md` is the normative description of the bytes; this crate is its implementation.
//! It never performs IO, never panics on any input, never allocates by an unchecked length and contains no `unsafe`.
//!
//! Writing: [`Writer`]. Reading: [`scan()`] finds the blocks and the damage, [`read_events`] and [`read_tables`] decode single blocks;
//! a [`Decoder`] hands events to an [`EventSink`] without columns between. [`Folder`] makes a keyframe of the
//! beginning of a tape; a [`Chain`] reads the files that a recording was cut into as one.

mod annex;
pub mod block;
mod bound;
mod bytes;
mod chain;
pub mod columns;
pub mod damage;
mod decode;
pub mod event;
mod events;
pub mod fold;
pub mod id;
mod keyframe;
pub mod link;
pub mod names;
mod not_a_tape;
mod part;
mod payload;
pub mod record;
pub mod scan;
mod search;
pub mod sink;
pub mod source;
mod stacks;
mod writer;

pub use annex::Annex;
pub use block::{Block, BlockKind};
pub use chain::{Chain, NotAChain};
pub use columns::{EventColumns, OpCode, Second, NO_BIRTH};
pub use damage::{Damage, DamageCause};
pub use decode::{read_events, read_folded, read_tables, Decoder};
pub use event::{AllocApi, Event, MapApi, Op};
pub use fold::Folder;
pub use id::{Address, Bytes, CodeIx, EventNo, FrameId, Micros, ModuleIx, ProcessIx, StackId, ThreadIx, TypeIx};
pub use names::{read_names, Naming};
pub use not_a_tape::NotATape;
pub use part::Part;
pub use record::{End, Frame, Header, Placed, Record};
pub use scan::{resume, scan, Ending, Scan};
pub use sink::{Birth, EventSink, MappingEvent};
pub use source::{Source, SourceError};
pub use writer::{Writer, WriterOptions};
