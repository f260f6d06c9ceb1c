//! What each allocator gave out over the whole recording.

use super::{Domain, Heap, Level};
use heaptape_format::TypeIx;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Sums over all rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// By [`Domain`]: blocks without a type, and those with one.
    pub of: [[Level; 2]; Domain::ALL.len()],
}

impl Heap {
    /// Sums over all rows: counted when first asked for, or known from the index.
    pub(crate) fn totals(&self) -> &Totals {
        self.totals.get_or_init(|| {
            let parts = self.pieces(0..self.allocations.len()).into_par_iter().map(|piece| {
                let mut part = Totals::default();
                self.visit(&piece, 0, |item| {
                    let domain = Domain::of(item.marks.api()) as usize;
                    let has_type = usize::from(item.kind != TypeIx::UNKNOWN);
                    part.of[domain][has_type].add(self.level(item));
                });
                part
            });
            parts.reduce(Totals::default, Totals::and)
        })
    }
}

impl Totals {
    /// Of all rows.
    pub(crate) fn level(&self) -> Level {
        self.of.iter().flatten().copied().fold(Level::default(), Level::and)
    }

    fn and(mut self, other: Totals) -> Totals {
        for (into, from) in self.of.iter_mut().flatten().zip(other.of.iter().flatten()) {
            into.add(*from);
        }
        self
    }
}
