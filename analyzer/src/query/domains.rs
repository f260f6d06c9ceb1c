//! What each allocator gave out, and how much of Python's objects has a type.

use super::kind::{Kind, TypeShare};
use crate::table::{Domain, Heap, Level};
use rayon::prelude::*;
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

/// What is summed up.
#[derive(Clone, Default)]
struct Sums {
    /// By domain: allocated, and alive at the end.
    levels: [(Level, Level); Domain::ALL.len()],
    types: TypeShare,
    types_at_end: TypeShare,
}

/// Sums the whole recording by allocator.
pub fn domains(heap: &Heap) -> Domains {
    let end = heap.end();
    let sums = heap
        .pieces(0..heap.allocations.len())
        .par_iter()
        .fold(Sums::default, |mut sums, piece| {
            heap.visit(piece, 0, |item| {
                let level = heap.level(item);
                let kind = Kind::of_item(item);
                let (allocated, at_end) = &mut sums.levels[Domain::of(item.marks.api()) as usize];
                allocated.add(level);
                sums.types.add(kind, level);
                if item.death >= end.cut.get() && heap.is_home_alive(item.thread, &end) {
                    at_end.add(level);
                    sums.types_at_end.add(kind, level);
                }
            });
            sums
        })
        .reduce(Sums::default, |mut sums, other| {
            for (into, from) in sums.levels.iter_mut().zip(other.levels) {
                into.0.add(from.0);
                into.1.add(from.1);
            }
            sums.types.merge(other.types);
            sums.types_at_end.merge(other.types_at_end);
            sums
        });
    let rows = Domain::ALL.into_iter().zip(sums.levels);
    let rows = rows.map(|(domain, (allocated, end))| DomainRow { domain, allocated, end });
    Domains {
        rows: rows.filter(|row| row.allocated.count > 0).collect(),
        types: sums.types,
        types_at_end: sums.types_at_end,
    }
}
