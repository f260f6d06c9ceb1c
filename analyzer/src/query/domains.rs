//! What each allocator gave out, and how much of Python's objects has a type.

use super::kind::{Kind, TypeShare};
use crate::table::{Domain, Heap, Level};
use serde::Serialize;

/// What one allocator gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DomainRow {
    /// Which.
    pub domain: Domain,
    /// All blocks that it ever gave out.
    pub allocated: Level,
    /// Those alive at the end.
    pub end: Level,
}

/// The allocators of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Domains {
    /// Those that gave out anything.
    pub rows: Vec<DomainRow>,
    /// Of all of Python's objects that ever were.
    pub types: TypeShare,
    /// Of those alive at the end.
    pub types_at_end: TypeShare,
}

/// Sums the whole recording by allocator.
pub fn domains(heap: &Heap) -> Domains {
    let mut rows = Domain::ALL.map(|domain| DomainRow {
        domain,
        allocated: Level::default(),
        end: Level::default(),
    });
    let (mut types, mut types_at_end) = (TypeShare::default(), TypeShare::default());
    let end = heap.end();
    for row in 0..heap.allocations.len() as u32 {
        let level = heap.level_of(row);
        let kind = Kind::of_row(heap, row);
        let domain = &mut rows[Domain::of(heap.allocations.api[row as usize]) as usize];
        domain.allocated.add(level);
        types.add(kind, level);
        if heap.is_live(row, &end) {
            domain.end.add(level);
            types_at_end.add(kind, level);
        }
    }
    Domains {
        rows: rows.into_iter().filter(|row| row.allocated.count > 0).collect(),
        types,
        types_at_end,
    }
}
