//! Stacks that a measurement leaves out: what a test harness does around a test, for example, which hangs on who is faster.

use crate::query::Pattern;
use crate::symbols::{Names, Resolver, View};
use crate::table::Heap;
use crate::tape::StackIx;

/// Those with a frame anywhere that matches a pattern.
pub(super) struct LeftOut {
    /// By stack; shorter when there are no patterns.
    is_one: Vec<bool>,
}

impl LeftOut {
    pub(super) fn of(heap: &Heap, resolver: &dyn Resolver, patterns: &[Pattern]) -> LeftOut {
        let count = if patterns.is_empty() {
            0
        } else {
            heap.catalog.stacks.len() as u32
        };
        let stacks = (0..count).map(StackIx);
        let names = Names::of(heap, resolver, View::Merged, stacks.clone());
        let is_one = stacks.map(|stack| {
            let mut places = names.stack(heap, stack);
            places.any(|place| patterns.iter().any(|pattern| pattern.matches(place)))
        });
        LeftOut {
            is_one: is_one.collect(),
        }
    }

    pub(super) fn has(&self, stack: StackIx) -> bool {
        self.is_one.get(stack.0 as usize).copied().unwrap_or(false)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.is_one.is_empty()
    }
}
