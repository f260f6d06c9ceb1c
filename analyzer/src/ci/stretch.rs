//! One span in a tape: from its `NAME:begin` to its `NAME:end`.

use crate::table::{Heap, Item, Level, NEVER};
use heaptape_format::{EventNo, ProcessIx, ThreadIx};
use std::collections::{BTreeMap, HashMap, HashSet};

/// One span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub begin: EventNo,
    pub end: EventNo,
    pub process: ProcessIx,
    /// If only its blocks count.
    thread: Option<ThreadIx>,
}

/// Every span of a tape that ended, by name, in the order of their ends.
pub(super) fn stretches(heap: &Heap) -> BTreeMap<String, Vec<Stretch>> {
    let mut open: HashMap<(&str, ProcessIx, Option<ThreadIx>), Vec<EventNo>> = HashMap::new();
    let mut found: BTreeMap<String, Vec<Stretch>> = BTreeMap::new();
    for marker in &heap.catalog.markers {
        let name = marker.name.as_str();
        if let Some(name) = name.strip_suffix(":begin") {
            let begun = open.entry((name, marker.process, marker.thread)).or_default();
            begun.push(marker.at);
        } else if let Some(name) = name.strip_suffix(":end") {
            let begun = open.get_mut(&(name, marker.process, marker.thread)).and_then(Vec::pop);
            if let Some(begin) = begun {
                found.entry(name.to_owned()).or_default().push(Stretch {
                    begin,
                    end: marker.at,
                    process: marker.process,
                    thread: marker.thread,
                });
            }
        }
    }
    for spans in found.values_mut() {
        let mut threads: HashMap<ProcessIx, Option<ThreadIx>> = HashMap::new();
        let mut shared = HashSet::new();
        for span in spans.iter() {
            if *threads.entry(span.process).or_insert(span.thread) != span.thread {
                shared.insert(span.process);
            }
        }
        for span in spans.iter_mut().filter(|span| !shared.contains(&span.process)) {
            span.thread = None;
        }
    }
    found
}

impl Stretch {
    fn visit(&self, heap: &Heap, mut visit: impl FnMut(&Item)) {
        let rows = heap.allocations.born_before(self.begin)..heap.allocations.born_before(self.end);
        for piece in heap.pieces(rows) {
            heap.visit(&piece, 0, |item| {
                let is_own = match self.thread {
                    Some(thread) => item.thread == thread,
                    None => heap.catalog.process_of(item.thread) == Some(self.process),
                };
                if is_own {
                    visit(item);
                }
            });
        }
    }

    /// All that was born in it.
    pub fn allocated(&self, heap: &Heap) -> Level {
        let mut level = Level::default();
        self.visit(heap, |item| level.add(heap.level(item)));
        level
    }

    /// Calls `visit` with what was born in it and not freed before `cut`.
    pub fn survivors(&self, heap: &Heap, cut: EventNo, mut visit: impl FnMut(&Item)) {
        self.visit(heap, |item| {
            if item.death >= cut.get() {
                visit(item);
            }
        });
    }

    /// The event after which most bytes of what was born in it were alive within it, and how many.
    pub fn peak(&self, heap: &Heap) -> (EventNo, Level) {
        let mut steps: Vec<(u64, bool, Level)> = Vec::new();
        self.visit(heap, |item| {
            let level = heap.level(item);
            steps.push((heap.allocations.birth(item.row as usize).get(), true, level));
            if item.death < self.end.get() && item.death != NEVER.get() {
                steps.push((item.death, false, level));
            }
        });
        // A `realloc` is a death and a birth at one event, and one step.
        steps.sort_unstable_by_key(|&(event, is_birth, _)| (event, is_birth));
        let (mut level, mut best) = (Level::default(), (self.begin, Level::default()));
        for (index, &(event, is_birth, change)) in steps.iter().enumerate() {
            if is_birth {
                level.add(change);
            } else {
                level.size = level.size.saturating_sub(change.size);
                level.count = level.count.saturating_sub(change.count);
            }
            let is_last = steps.get(index + 1).is_none_or(|next| next.0 != event);
            if is_last && level.size > best.1.size {
                best = (EventNo(event.saturating_add(1)), level);
            }
        }
        best
    }
}
