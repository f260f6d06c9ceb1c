//! The resident set of a process tree, from the recorder's samples.

use crate::table::Heap;
use std::collections::HashMap;

/// The highest sum over all processes of their latest samples; `None` without samples.
pub(super) fn highest(heap: &Heap) -> Option<u64> {
    let mut latest: HashMap<_, u64> = HashMap::new();
    let mut highest = None;
    for sample in &heap.catalog.samples {
        latest.insert(sample.memory.process, sample.memory.rss.get());
        latest.retain(|process, _| {
            let info = heap.catalog.processes.get(process.get() as usize);
            info.is_none_or(|info| info.end.is_none_or(|end| end.time >= sample.time))
        });
        let sum = latest.values().fold(0u64, |sum, &rss| sum.saturating_add(rss));
        highest = highest.max(Some(sum));
    }
    highest
}
