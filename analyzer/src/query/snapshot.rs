//! What was alive at an instant.

use super::cells::sum_live;
use super::stats::{gather, statistics};
use super::{Query, Statistics};
use crate::symbols::Resolver;
use crate::table::{Heap, Level, MappingKind, MappingRow, Moment};
use serde::Serialize;

/// What was alive at `moment`.
///
/// A process that had ended by then has no part in it. A block belongs to the process that allocated it; what a fork copied is counted
/// again only when the filter says so.
pub fn snapshot(heap: &Heap, moment: &Moment, query: &Query, resolver: &dyn Resolver) -> Statistics {
    let cells = sum_live(heap, moment, &query.filter, &query.by);
    let groups = gather(heap, &cells, query, resolver);
    statistics(heap, moment, groups, query)
}

/// Address space of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MappedRow {
    /// What it is.
    pub kind: MappingKind,
    /// How much.
    #[serde(flatten)]
    pub level: Level,
}

/// Whether a piece of a mapping was there at a moment.
pub(super) fn is_mapped(heap: &Heap, row: &MappingRow, moment: &Moment) -> bool {
    row.birth < moment.cut
        && row.death >= moment.cut
        && row.process.is_none_or(|process| heap.is_process_alive(process, moment))
}

/// Address space that was mapped at a moment, by kind.
pub fn mapped(heap: &Heap, moment: &Moment) -> Vec<MappedRow> {
    let mut rows: Vec<MappedRow> = [
        MappingKind::Anonymous,
        MappingKind::File,
        MappingKind::Brk,
        MappingKind::Arena,
    ]
    .map(|kind| MappedRow {
        kind,
        level: Level::default(),
    })
    .to_vec();
    for row in &heap.mappings.rows {
        if is_mapped(heap, row, moment) {
            rows[row.kind as usize].level.add(Level {
                size: u128::from(row.length.get()),
                count: 1,
            });
        }
    }
    rows
}

/// The sum of [`mapped`].
pub(super) fn mapped_level(heap: &Heap, moment: &Moment) -> Level {
    mapped(heap, moment).iter().fold(Level::default(), |sum, row| Level {
        size: sum.size + row.level.size,
        count: sum.count + row.level.count,
    })
}
