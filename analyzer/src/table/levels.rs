//! What was alive at many places in the order of events, added up in one pass over the rows that matter to any of them.

use super::heap::{cut, Piece};
use super::{Heap, Level, PIECE};
use heaptape_format::EventNo;
use rayon::prelude::*;
use std::ops::Range;

/// What comes or goes between two places.
#[derive(Clone, Copy, Default)]
struct Change {
    count: i128,
    size: i128,
}

impl Change {
    fn add(&mut self, level: Level, sign: i128) {
        self.count += sign * i128::from(level.count);
        self.size += sign * level.size as i128;
    }
}

/// Rows that may be alive at some places.
struct Part {
    piece: Piece,
    /// Which places.
    places: Range<usize>,
    /// They come from one of the strata: the places in the piece of the table that a row was born in are not theirs to tell of.
    is_listed: bool,
}

impl Heap {
    /// The levels before each of these events, which come in their order.
    pub(crate) fn live_levels(&self, cuts: &[EventNo]) -> Vec<Level> {
        // How many rows had been born.
        let born: Vec<usize> = cuts.iter().map(|&cut| self.allocations.born_before(cut)).collect();
        let parts = self.parts(&born);
        let new = || vec![Change::default(); cuts.len() + 1];
        let share = parts.len().div_ceil(rayon::current_num_threads() * 2).max(1);
        let changes = parts.par_chunks(share).map(|parts| {
            let mut changes = new();
            for Part {
                piece,
                places,
                is_listed,
            } in parts
            {
                let Some(first) = cuts[places.clone()].first() else {
                    continue;
                };
                let born = &born[places.clone()];
                self.visit(piece, first.get(), |item| {
                    let row = item.row as usize;
                    let before = match is_listed {
                        true => born.partition_point(|born| born / PIECE <= row / PIECE),
                        false => born.partition_point(|&born| born <= row),
                    };
                    let dies = item.death.min(self.process_end_of(item.thread).get());
                    let alive = cuts[places.clone()].partition_point(|cut| cut.get() <= dies);
                    if before < alive {
                        let level = self.level(item);
                        changes[places.start + before].add(level, 1);
                        changes[places.start + alive].add(level, -1);
                    }
                });
            }
            changes
        });
        let changes = changes.reduce(new, |mut sum, part| {
            for (into, from) in sum.iter_mut().zip(part) {
                into.count += from.count;
                into.size += from.size;
            }
            sum
        });
        let mut now = Change::default();
        let levels = changes.iter().take(cuts.len()).map(|change| {
            now.count += change.count;
            now.size += change.size;
            Level {
                size: now.size as u128,
                count: now.count as u64,
            }
        });
        levels.collect()
    }

    /// Where to look, by how many rows had been born at each place.
    fn parts(&self, born: &[usize]) -> Vec<Part> {
        let all = 0..born.len();
        let most = born.last().copied().unwrap_or(0);
        let Some(strata) = &self.strata else {
            let part = |piece| Part {
                piece,
                places: all.clone(),
                is_listed: false,
            };
            return cut(None, 0..most).map(part).collect();
        };
        let mut parts = Vec::new();
        let mut listed: Vec<Vec<Range<usize>>> = Vec::new();
        for group in all
            .clone()
            .collect::<Vec<_>>()
            .chunk_by(|&one, &other| born[one] / PIECE == born[other] / PIECE)
        {
            let places = group[0]..group[group.len() - 1] + 1;
            let last = born[places.end - 1];
            parts.extend(cut(None, last / PIECE * PIECE..last).map(|piece| Part {
                piece,
                places: places.clone(),
                is_listed: false,
            }));
            for (number, range) in strata.ranges(last) {
                listed.resize(listed.len().max(number + 1), Vec::new());
                match listed[number].last_mut() {
                    // The same span, of which more has been born.
                    Some(before) if before.start == range.start => before.end = range.end,
                    _ => listed[number].push(range),
                }
            }
        }
        for (number, ranges) in listed.into_iter().enumerate() {
            let pieces = ranges.into_iter().flat_map(|range| cut(Some(number), range));
            parts.extend(pieces.map(|piece| Part {
                piece,
                places: all.clone(),
                is_listed: true,
            }));
        }
        parts
    }
}
