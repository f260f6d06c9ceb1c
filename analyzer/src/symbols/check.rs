//! What share of a tape can be named here.

use super::{Coverage, Resolver, State, Symbolizer};
use crate::table::Heap;
use crate::tape::{FrameIx, PlaceKind, StackIx, StackTable};
use crate::text::Text;
use heaptape_format::ModuleIx;
use serde::Serialize;

/// Counts, and how many of them have names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Of all.
    pub all: u128,
    /// With the name of the function.
    pub with_function: u128,
    /// With the line, too.
    pub with_line: u128,
}

impl Share {
    fn add(&mut self, count: u128, known: Known) {
        self.all += count;
        self.with_function += if known.function { count } else { 0 };
        self.with_line += if known.line { count } else { 0 };
    }

    /// Percent of all; all of nothing.
    pub fn percent(part: u128, all: u128) -> f64 {
        if all == 0 {
            return 100.0;
        }
        part as f64 * 100.0 / all as f64
    }
}

/// What is known of a frame, or of all frames of a stack.
#[derive(Clone, Copy)]
struct Known {
    function: bool,
    line: bool,
}

impl Known {
    const ALL: Known = Known {
        function: true,
        line: true,
    };

    fn and(self, other: Known) -> Known {
        Known {
            function: self.function && other.function,
            line: self.line && other.line,
        }
    }
}

/// A module and what of it can be named.
#[derive(Clone, Debug, Serialize)]
pub struct ModuleCheck {
    /// What was found.
    #[serde(flatten)]
    pub coverage: Coverage,
    /// Bytes of all blocks ever allocated with a frame of this module in their stack: named are those of which every frame of this module is.
    pub bytes: Share,
}

impl ModuleCheck {
    fn new(coverage: Coverage) -> ModuleCheck {
        ModuleCheck {
            coverage,
            bytes: Share::default(),
        }
    }
}

/// How much of a tape has names.
#[derive(Clone, Debug, Serialize)]
pub struct SymbolCheck {
    /// The tape.
    pub tape: Text,
    /// Whether the names are in the tape.
    pub is_frozen: bool,
    /// Modules, in the order of the tape.
    pub modules: Vec<ModuleCheck>,
    /// Distinct native frames, those in no module included.
    pub frames: Share,
    /// Of these, frames in no module: code that a program made while it ran.
    pub outside: Share,
    /// Bytes of all blocks ever allocated: named are those of which every native frame is.
    pub bytes: Share,
    /// Whether every module with frames was found.
    pub is_complete: bool,
}

/// Looks all frames of a tape up, and weighs them by what was allocated through them.
pub fn check(heap: &Heap, symbolizer: &Symbolizer) -> SymbolCheck {
    let stacks = &heap.catalog.stacks;
    let frames: Vec<FrameIx> = (1..stacks.frame_count() as u32)
        .map(FrameIx)
        .filter(|&frame| matches!(stacks.kind(frame), PlaceKind::Native { .. } | PlaceKind::Raw { .. }))
        .collect();
    let mut known = vec![Known::ALL; stacks.frame_count()];
    for (frame, places) in frames.iter().zip(symbolizer.resolve(heap, &frames)) {
        known[frame.0 as usize] = Known {
            function: places.iter().any(|place| place.function.is_some()),
            line: places.iter().any(|place| place.line > 0),
        };
    }
    let mut report = SymbolCheck {
        tape: heap.name.clone(),
        is_frozen: heap.catalog.names.are_frozen(),
        modules: symbolizer.survey(heap).into_iter().map(ModuleCheck::new).collect(),
        frames: Share::default(),
        outside: Share::default(),
        bytes: Share::default(),
        is_complete: true,
    };
    for &frame in &frames {
        let known = known[frame.0 as usize];
        report.frames.add(1, known);
        if let PlaceKind::Raw { .. } = stacks.kind(frame) {
            report.outside.add(1, known);
        }
    }
    for (stack, bytes) in bytes_by_stack(heap) {
        let mut whole = Known::ALL;
        let mut by_module: Vec<(ModuleIx, Known)> = Vec::new();
        for frame in stacks.frames(stack) {
            let known = known[frame.0 as usize];
            whole = whole.and(known);
            if let PlaceKind::Native { module, .. } = stacks.kind(frame) {
                match by_module.iter_mut().find(|(of, _)| *of == module) {
                    Some((_, all)) => *all = all.and(known),
                    None => by_module.push((module, known)),
                }
            }
        }
        report.bytes.add(bytes, whole);
        for (module, known) in by_module {
            if let Some(check) = report.modules.get_mut(module.get() as usize) {
                check.bytes.add(bytes, known);
            }
        }
    }
    let is_found = |check: &ModuleCheck| check.coverage.frames == 0 || check.coverage.state == State::Found;
    report.is_complete = report.modules.iter().all(is_found);
    report
}

/// Bytes ever allocated from each stack that allocated any.
fn bytes_by_stack(heap: &Heap) -> Vec<(StackIx, u128)> {
    let mut bytes = vec![0u128; heap.catalog.stacks.len()];
    for row in 0..heap.allocations.len() {
        bytes[heap.allocations.stack(row).0 as usize] += heap.level_of(row as u32).size;
    }
    let stacks = bytes.into_iter().enumerate().filter(|&(_, bytes)| bytes > 0);
    stacks
        .map(|(stack, bytes)| (StackIx(stack as u32), bytes))
        .filter(|(stack, _)| *stack != StackTable::ROOT)
        .collect()
}
