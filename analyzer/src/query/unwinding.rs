//! How far stacks could be followed: which modules have unwind tables, and where stacks end that have no outer end.

use crate::table::{Heap, Level};
use crate::tape::{PlaceKind, StackIx, StackTable};
use crate::text::Text;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// What can be followed through a module, and what ends in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unwinding {
    /// The module; `None` for code in no module, and for stacks of which no native frame is known.
    pub module: Option<Text>,
    /// Whether it has unwind tables, if the tape tells.
    pub tables: Option<bool>,
    /// Places in its code from which no stack could be followed further out.
    pub places: usize,
    /// Blocks that were asked for by stacks that end there.
    pub cut: Level,
}

/// Marks a stack that is whole.
const WHOLE: u32 = u32::MAX;

/// Every module, and what is in none if stacks end there, by path.
pub fn unwinding(heap: &Heap) -> Vec<Unwinding> {
    let modules = &heap.catalog.modules;
    let nowhere = modules.len();
    let (ends, places) = ends(heap);
    let cut = if ends.iter().any(|&end| end != WHOLE) {
        levels(heap, &ends)
    } else {
        vec![Level::default(); nowhere + 1]
    };
    // An object that lies at several addresses, or that comes from several programs, is one.
    let mut rows: BTreeMap<(Option<&[u8]>, Option<bool>), Unwinding> = BTreeMap::new();
    for (ix, (&places, cut)) in places.iter().zip(cut).enumerate() {
        let module = modules.get(ix);
        if module.is_none() && places == 0 && cut.count == 0 {
            continue;
        }
        let tables = module.and_then(|module| module.unwind_tables);
        let row = rows
            .entry((module.map(|module| module.raw.path.as_slice()), tables))
            .or_insert_with(|| Unwinding {
                module: module.map(|module| module.path.clone()),
                tables,
                places: 0,
                cut: Level::default(),
            });
        row.places += places;
        row.cut.add(cut);
    }
    rows.into_values().collect()
}

/// For each stack the module that it ends in, one past the last for none of them, or [`WHOLE`]; and how many places there are in each.
fn ends(heap: &Heap) -> (Vec<u32>, Vec<usize>) {
    let stacks = &heap.catalog.stacks;
    let nowhere = heap.catalog.modules.len();
    let mut places = vec![0; nowhere + 1];
    let mut ends = vec![WHOLE; stacks.len()];
    // Stacks that hold no native frame yet, beyond which there is more. Frames of an interpreter are read from its own memory.
    let mut open = vec![false; stacks.len()];
    for stack in (1..stacks.len() as u32).map(StackIx) {
        let (Some(parent), Some(frame)) = (stacks.parent(stack), stacks.frame(stack)) else {
            continue;
        };
        let outside = parent == StackTable::ROOT;
        let is_open = open[parent.0 as usize];
        let end = match stacks.kind(frame) {
            PlaceKind::Truncated if outside => {
                open[stack.0 as usize] = true;
                nowhere
            }
            PlaceKind::Python { .. } if is_open => {
                open[stack.0 as usize] = true;
                nowhere
            }
            PlaceKind::Native { module, .. } if is_open => {
                let end = (module.get() as usize).min(nowhere);
                places[end] += 1;
                end
            }
            _ if is_open => {
                places[nowhere] += 1;
                nowhere
            }
            _ if outside => continue,
            _ => ends[parent.0 as usize] as usize,
        };
        ends[stack.0 as usize] = end as u32;
    }
    (ends, places)
}

/// All blocks of the recording, by where their stacks end.
fn levels(heap: &Heap, ends: &[u32]) -> Vec<Level> {
    let new = || vec![Level::default(); heap.catalog.modules.len() + 1];
    let end_of = |stack: StackIx| ends.get(stack.0 as usize).copied().unwrap_or(WHOLE) as usize;
    if let Some(groups) = heap.alike() {
        let mut levels = new();
        for group in groups {
            if let Some(level) = levels.get_mut(end_of(group.item().stack)) {
                level.add(group.level);
            }
        }
        return levels;
    }
    heap.pieces(0..heap.allocations.len())
        .par_iter()
        .fold(new, |mut levels, piece| {
            heap.visit(piece, 0, |item| {
                if let Some(level) = levels.get_mut(end_of(item.stack)) {
                    level.add(heap.level(item));
                }
            });
            levels
        })
        .reduce(new, |mut sum, part| {
            sum.iter_mut().zip(part).for_each(|(sum, part)| sum.add(part));
            sum
        })
}
