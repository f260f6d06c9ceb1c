//! The spans of a tape: each from its `NAME:begin` to its `NAME:end`.
//!
//! What marking them allocates in the program does not belong to them: from Python a marker takes a few small objects, of which some are alive at the
//! instant that it marks.

use super::left_out::LeftOut;
use crate::table::{Heap, Item, Level, NEVER};
use crate::tape::{CodeInfo, PlaceKind, StackIx};
use heaptape_format::{CodeIx, EventNo, ProcessIx, ThreadIx};
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

/// Every span of a tape that ended.
pub(super) struct Spans<'a> {
    heap: &'a Heap,
    /// By name, in the order of their ends.
    pub by_name: BTreeMap<String, Vec<Stretch>>,
    /// Stacks of what marks, and of what is left out.
    ignored: HashSet<StackIx>,
}

/// The functions that mark, by file.
const MARKING: [(&str, &[&str]); 2] = [
    (
        "heaptape.py",
        &["mark", "_call", "__enter__", "__exit__", "__aenter__", "__aexit__"],
    ),
    ("pytest_heaptape.py", &["_span"]),
];

fn marks(code: &CodeInfo) -> bool {
    // Names are qualified from Python 3.11 on.
    let function = code.name.as_str().rsplit('.').next().unwrap_or_default();
    let is_one = |(file, functions): &(&str, &[&str])| code.file.basename() == *file && functions.contains(&function);
    MARKING.iter().any(is_one)
}

/// The stacks whose innermost Python frame is of a function that marks.
fn marking(heap: &Heap) -> HashSet<StackIx> {
    let codes = (0u32..).map(CodeIx).zip(&heap.catalog.codes);
    let codes: HashSet<CodeIx> = codes.filter(|(_, code)| marks(code)).map(|(index, _)| index).collect();
    let stacks = &heap.catalog.stacks;
    if codes.is_empty() {
        return HashSet::new();
    }
    let is_one = |stack: &StackIx| {
        let python = stacks.frames(*stack).find_map(|frame| match stacks.kind(frame) {
            PlaceKind::Python { code, .. } => Some(code),
            _ => None,
        });
        python.is_some_and(|code| codes.contains(&code))
    };
    (0..stacks.len() as u32).map(StackIx).filter(is_one).collect()
}

fn stretches(heap: &Heap) -> BTreeMap<String, Vec<Stretch>> {
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

impl<'a> Spans<'a> {
    /// Those of a heap.
    pub fn of(heap: &'a Heap, left_out: &LeftOut) -> Spans<'a> {
        let mut ignored = marking(heap);
        let stacks = (0..heap.catalog.stacks.len() as u32).map(StackIx);
        ignored.extend(stacks.filter(|stack| left_out.has(*stack)));
        Spans {
            heap,
            by_name: stretches(heap),
            ignored,
        }
    }

    fn visit(&self, span: &Stretch, mut visit: impl FnMut(&Item)) {
        let heap = self.heap;
        let rows = heap.allocations.born_before(span.begin)..heap.allocations.born_before(span.end);
        for piece in heap.pieces(rows) {
            heap.visit(&piece, 0, |item| {
                let is_own = match span.thread {
                    Some(thread) => item.thread == thread,
                    None => heap.catalog.process_of(item.thread) == Some(span.process),
                };
                if is_own && !self.ignored.contains(&item.stack) {
                    visit(item);
                }
            });
        }
    }

    /// All that was born in it.
    pub fn allocated(&self, span: &Stretch) -> Level {
        let mut level = Level::default();
        self.visit(span, |item| level.add(self.heap.level(item)));
        level
    }

    /// Calls `visit` with what was born in it and not freed before `cut`.
    pub fn survivors(&self, span: &Stretch, cut: EventNo, mut visit: impl FnMut(&Item)) {
        self.visit(span, |item| {
            if item.death >= cut.get() {
                visit(item);
            }
        });
    }

    /// The event after which most bytes of what was born in it were alive within it, and how many.
    pub fn peak(&self, span: &Stretch) -> (EventNo, Level) {
        let mut steps: Vec<(u64, bool, Level)> = Vec::new();
        self.visit(span, |item| {
            let level = self.heap.level(item);
            steps.push((self.heap.allocations.birth(item.row as usize).get(), true, level));
            if item.death < span.end.get() && item.death != NEVER.get() {
                steps.push((item.death, false, level));
            }
        });
        // A `realloc` is a death and a birth at one event, and one step.
        steps.sort_unstable_by_key(|&(event, is_birth, _)| (event, is_birth));
        let (mut level, mut best) = (Level::default(), (span.begin, Level::default()));
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
