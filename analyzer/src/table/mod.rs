//! The heap of a whole recording as columns: every question is a filter and a group-by over them.
//!
//! A query sees the tables here and nothing of the tape, so they may come from a replay or from an index beside the file.

mod allocations;
mod clock;
mod column;
mod domain;
mod heap;
mod inherited;
mod mappings;
mod scale;
mod strata;
mod sweep;

pub use allocations::{AllocIx, Allocation, Allocations, Flags, NEVER};
pub(crate) use allocations::{Item, Marks, Wide, LOW_NEVER, WIDE};
pub(crate) use clock::Run;
pub use clock::{Clock, ClockBlock};
pub use column::{Column, FileColumn, Number, PIECE};
pub use domain::Domain;
pub(crate) use heap::Piece;
pub use heap::{Counters, Gap, Heap, Moment};
pub use inherited::{InheritedDeath, Lineage};
pub use mappings::{MappingKind, MappingRow, Mappings};
pub use scale::Scale;
pub(crate) use strata::{Strata, Stratum, STRATA};
pub use sweep::{Level, Sweep};
