//! The heap of a whole recording as columns: every question is a filter and a group-by over them.
//!
//! A query sees the tables here and nothing of the tape, so they may come from a replay or from an index beside the file.

mod allocations;
mod clock;
mod column;
mod domain;
mod heap;
mod horizon;
mod inherited;
mod levels;
mod lives;
mod mappings;
mod scale;
mod store;
mod strata;
mod sweep;
mod times;
mod totals;
mod undecided;

pub use allocations::{AllocIx, Allocation, Allocations, Flags, NEVER};
pub(crate) use allocations::{Item, Marks, Wide, LOW_NEVER, WIDE};
pub(crate) use clock::Run;
pub use clock::{Clock, ClockBlock};
pub(crate) use column::AT_ONCE;
pub use column::{Column, FileColumn, Number, PIECE};
pub use domain::Domain;
pub(crate) use heap::Piece;
pub use heap::{Counters, Gap, Heap, Moment};
pub(crate) use horizon::Horizon;
pub use inherited::{InheritedDeath, Lineage};
pub(crate) use lives::{column_of, Alike, Lives, GROUP_BYTES, MOST_GROUPS};
pub use lives::{LIFETIME_BOUNDS, LIFETIME_COLUMNS};
pub use mappings::{MappingKind, MappingRow, Mappings};
pub use scale::{Scale, Spread};
pub use store::Store;
pub(crate) use store::{Atomics, Storage};
pub(crate) use strata::{Strata, Stratum, STRATA};
pub use sweep::{Level, Sweep};
pub(crate) use times::Times;
pub(crate) use totals::Totals;
pub(crate) use undecided::Undecided;
