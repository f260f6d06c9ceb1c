//! Questions to a heap: filters and group-bys over its table. Pure functions; names come from a [`crate::symbols::Resolver`].

mod cells;
mod diff;
mod filter;
mod flame;
mod group;
mod key;
mod leaks;
mod moment;
mod site;
mod snapshot;
mod stats;
mod timeline;
mod tree;

pub use diff::{diff, DiffReport, DiffRow};
pub use filter::{BadPattern, Field, Filter, Pattern};
pub use flame::{flame, flame_diff, Flame, FlameLine, Measure, Span};
pub use group::{Group, Grouping, NotAGrouping};
pub use key::{Key, KeyFrame, Part};
pub use leaks::{leaks, LeakQuery};
pub use moment::{NoSuchTime, NotATime, TapeTime, TimeSpec, GRAMMAR};
pub use site::is_wrapper;
pub use snapshot::{mapped, snapshot, MappedRow};
pub use stats::{Instant, Query, Row, Statistics, TypeShare};
pub use timeline::{timeline, MarkerPoint, PeakPoint, Point, SamplePoint, Timeline};
pub use tree::{tree, Node, Tree};
