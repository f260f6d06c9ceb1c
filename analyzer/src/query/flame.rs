//! Folded stacks: every stack with what it holds, for flame graphs.

use super::cells::{sum_live, sum_pieces, Cells};
use super::stats::accepted_stacks;
use super::{Grouping, Query};
use crate::symbols::{Names, Resolver};
use crate::table::{Heap, Level, Moment};
use serde::Serialize;
use std::collections::BTreeMap;

/// Deepest stack that is drawn, innermost frames first.
const DEEPEST: usize = 500;

/// What the width of a frame means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// Bytes.
    #[default]
    Bytes,
    /// Blocks.
    Blocks,
}

impl Measure {
    /// The number of a level.
    pub fn of(self, level: Level) -> u128 {
        match self {
            Measure::Bytes => level.size,
            Measure::Blocks => u128::from(level.count),
        }
    }
}

/// A stack, outermost frame first, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlameLine {
    /// Functions, outermost first.
    pub frames: Vec<String>,
    /// In the older state; nothing when there is only one.
    pub old: Level,
    /// In the newer state.
    pub new: Level,
}

/// All stacks, sorted by their frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flame {
    /// The stacks.
    pub lines: Vec<FlameLine>,
}

/// Which blocks a flame graph is about.
#[derive(Clone, Copy, Debug)]
pub enum Span {
    /// Alive at an instant.
    At(Moment),
    /// Allocated between two instants, whatever became of them.
    Between(Moment, Moment),
}

/// Folded stacks of one state or span.
pub fn flame(heap: &Heap, span: &Span, query: &Query, resolver: &dyn Resolver) -> Flame {
    let by = Grouping::default();
    let cells = match span {
        Span::At(moment) => sum_live(heap, moment, &query.filter, &by),
        Span::Between(from, until) => {
            let wanted = query.filter.rows(heap);
            let first = heap.allocations.born_before(from.cut);
            let last = heap.allocations.born_before(until.cut).max(first);
            let pieces = heap.pieces(first..last);
            sum_pieces(heap, &pieces, 0, &by, |item| wanted.accepts(item), |_| false)
        }
    };
    let mut lines = BTreeMap::new();
    fold(heap, &cells, query, resolver, &mut lines, |sides| &mut sides.1);
    finish(lines)
}

/// Folded stacks of two states, side by side.
pub fn flame_diff(old: (&Heap, &Moment), new: (&Heap, &Moment), query: &Query, resolver: &dyn Resolver) -> Flame {
    let mut lines = BTreeMap::new();
    let cells = |(heap, moment): (&Heap, &Moment)| sum_live(heap, moment, &query.filter, &Grouping::default());
    fold(old.0, &cells(old), query, resolver, &mut lines, |sides| &mut sides.0);
    fold(new.0, &cells(new), query, resolver, &mut lines, |sides| &mut sides.1);
    finish(lines)
}

type Lines = BTreeMap<Vec<String>, (Level, Level)>;

fn fold(
    heap: &Heap,
    cells: &Cells,
    query: &Query,
    resolver: &dyn Resolver,
    lines: &mut Lines,
    side: impl Fn(&mut (Level, Level)) -> &mut Level,
) {
    let stacks = || cells.keys().map(|&(stack, _)| stack);
    let names = Names::of(heap, resolver, query.view, stacks());
    let accepted = accepted_stacks(heap, &names, query, stacks());
    for (&(stack, _), cell) in cells.iter().filter(|((stack, _), _)| accepted[stack.0 as usize]) {
        let mut frames: Vec<String> = names
            .stack(heap, stack)
            .take(DEEPEST)
            .map(|place| place.flame_name())
            .collect();
        frames.reverse();
        if frames.is_empty() {
            frames.push(query.view.nothing().to_owned());
        }
        let level = side(lines.entry(frames).or_default());
        level.add(cell.all);
    }
}

fn finish(lines: Lines) -> Flame {
    let lines = lines
        .into_iter()
        .map(|(frames, (old, new))| FlameLine { frames, old, new })
        .collect();
    Flame { lines }
}
