//! The heap of a whole recording as columns: every question is a filter and a group-by over them.
//!
//! A query sees the tables here and nothing of the tape, so they may come from a replay or, later, from an index beside the file.

mod allocations;
mod clock;
mod domain;
mod heap;
mod inherited;
mod mappings;
mod scale;
mod sweep;

pub use allocations::{AllocIx, Allocation, Allocations, Flags, NEVER};
pub use clock::{Clock, ClockBlock};
pub use domain::Domain;
pub use heap::{Counters, Gap, Heap, Moment};
pub use inherited::{InheritedDeath, Lineage};
pub use mappings::{MappingKind, MappingRow, Mappings};
pub use scale::Scale;
pub use sweep::{Level, Sweep};
