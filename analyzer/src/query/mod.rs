//! Questions to a heap: filters and group-bys over its table. Pure functions; names come from a [`crate::symbols::Resolver`].

mod arenas;
mod cells;
mod diff;
mod domains;
mod filter;
mod flame;
mod group;
mod key;
mod kind;
mod leaks;
mod moment;
mod site;
mod snapshot;
mod stats;
mod timeline;
mod tree;

pub use arenas::{arenas, Arena, Arenas, Fill, Holder};
pub use diff::{diff, DiffReport, DiffRow};
pub use domains::{domains, DomainRow, Domains};
pub use filter::{BadPattern, Field, Filter, Pattern};
pub use flame::{flame, flame_diff, Flame, FlameLine, Measure, Span};
pub use group::{Group, Grouping, NotAGrouping};
pub use key::{Key, KeyFrame, Part};
pub use kind::TypeShare;
pub use leaks::{leaks, LeakQuery};
pub use moment::{NoSuchTime, NotATime, TapeTime, TimeSpec, GRAMMAR};
pub use site::is_wrapper;
pub(crate) use site::Sites;
pub use snapshot::{mapped, snapshot, MappedRow};
pub use stats::{Instant, Query, Row, Statistics};
pub use timeline::{overview, timeline, MarkerPoint, PeakPoint, Point, SamplePoint, Timeline};
pub use tree::{tree, Node, Tree};
