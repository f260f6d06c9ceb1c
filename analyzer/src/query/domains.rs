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

/// What is alive at the end.
#[derive(Clone, Default)]
struct Sums {
    /// By domain.
    levels: [Level; Domain::ALL.len()],
    types: TypeShare,
}

/// Sums the whole recording by allocator.
pub fn domains(heap: &Heap) -> Domains {
    let end = heap.end();
    let at_end = heap
        .candidates(end.cut)
        .par_iter()
        .fold(Sums::default, |mut sums, piece| {
            heap.visit(piece, end.cut.get(), |item| {
                if heap.is_home_alive(item.thread, &end) {
                    let level = heap.level(item);
                    sums.levels[Domain::of(item.marks.api()) as usize].add(level);
                    sums.types.add(Kind::of_item(item), level);
                }
            });
            sums
        })
        .reduce(Sums::default, |mut sums, other| {
            for (into, from) in sums.levels.iter_mut().zip(other.levels) {
                into.add(from);
            }
            sums.types.merge(other.types);
            sums
        });
    let mut types = TypeShare::default();
    let mut rows = Vec::new();
    for ((domain, [untyped, typed]), end) in Domain::ALL.into_iter().zip(heap.totals().of).zip(at_end.levels) {
        types.add(Kind::Untyped(domain), untyped);
        types.objects.add(typed);
        let mut allocated = untyped;
        allocated.add(typed);
        if allocated.count > 0 {
            rows.push(DomainRow { domain, allocated, end });
        }
    }
    Domains {
        rows,
        types,
        types_at_end: at_end.types,
    }
}
