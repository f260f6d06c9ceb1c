//! How the heap's level moves along the tape: bytes and blocks alive after each event.

use super::allocations::Item;
use super::scale::MOST_BLOCKS;
use super::{Heap, NEVER};
use heaptape_format::EventNo;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Bytes and blocks alive at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Level {
    /// Bytes asked for.
    pub size: u128,
    /// Blocks.
    pub count: u64,
}

impl Level {
    /// Adds another. Sums of rows never reach the ends of the numbers: see [`super::Scale`]; what an index claims of them is refused beyond that.
    pub fn add(&mut self, more: Level) {
        self.size = self.size.saturating_add(more.size);
        self.count = self.count.saturating_add(more.count);
    }

    /// Both together.
    pub(crate) fn and(mut self, more: Level) -> Level {
        self.add(more);
        self
    }

    /// Whether so many rows can add up to this.
    pub(crate) fn is_possible(&self, rows: usize) -> bool {
        let blocks = rows as u128 * u128::from(MOST_BLOCKS);
        u128::from(self.count) <= blocks && self.size <= blocks.saturating_mul(u128::from(u64::MAX))
    }
}

/// Births and deaths of chosen rows, in the order of events.
///
/// The level after an event counts all that happened at that event: a `realloc` in place is one step, not a dip.
pub struct Sweep<'a> {
    heap: &'a Heap,
    births: Vec<u32>,
    /// Rows with their effective deaths, in the order of these.
    deaths: Deaths,
}

/// Events and rows.
type Deaths = Vec<(u64, u32)>;

impl<'a> Sweep<'a> {
    /// Prepares the walk over the rows that `keep` accepts.
    pub(crate) fn new(heap: &'a Heap, keep: impl Fn(&Item) -> bool + Sync) -> Sweep<'a> {
        let pieces = heap.pieces(0..heap.allocations.len());
        let chosen: Vec<(Vec<u32>, Deaths)> = pieces
            .par_iter()
            .map(|piece| {
                let (mut births, mut deaths) = (Vec::new(), Vec::new());
                heap.visit(piece, 0, |item| {
                    let end = heap.process_end_of(item.thread).get();
                    let death = item.death.min(end);
                    // What a process did after its end, as a damaged tape may have it, is part of no state.
                    let lives = end == NEVER.get() || heap.allocations.birth(item.row as usize).get() < end;
                    if lives && keep(item) {
                        births.push(item.row);
                        if death != NEVER.get() {
                            deaths.push((death, item.row));
                        }
                    }
                });
                (births, deaths)
            })
            .collect();
        let births = chosen.iter().flat_map(|(births, _)| births).copied().collect();
        let mut deaths: Deaths = chosen.iter().flat_map(|(_, deaths)| deaths).copied().collect();
        deaths.par_sort_unstable();
        Sweep { heap, births, deaths }
    }

    /// Calls `step` after each event that changed the level, with the event's number.
    pub fn walk(&self, mut step: impl FnMut(EventNo, Level)) {
        let rows = &self.heap.allocations;
        let mut births = self
            .births
            .iter()
            .map(|&row| (rows.birth(row as usize).get(), row))
            .peekable();
        let mut deaths = self.deaths.iter().copied().peekable();
        let mut level = Level::default();
        loop {
            let birth = births.peek().map_or(NEVER.get(), |&(birth, _)| birth);
            let death = deaths.peek().map_or(NEVER.get(), |&(death, _)| death);
            let event = birth.min(death);
            if event == NEVER.get() {
                return;
            }
            while let Some((_, row)) = births.next_if(|&(birth, _)| birth == event) {
                level.add(self.heap.level_of(row));
            }
            while let Some((_, row)) = deaths.next_if(|&(death, _)| death == event) {
                let gone = self.heap.level_of(row);
                // Only an index file that is wrong all over could make this fall below nothing.
                level.size = level.size.saturating_sub(gone.size);
                level.count = level.count.saturating_sub(gone.count);
            }
            step(EventNo(event), level);
        }
    }

    /// The highest number of bytes and the first event after which it was reached.
    pub fn peak(&self) -> Option<(EventNo, Level)> {
        let mut peak: Option<(EventNo, Level)> = None;
        self.walk(|event, level| {
            if peak.is_none_or(|(_, best)| level.size > best.size) {
                peak = Some((event, level));
            }
        });
        peak
    }
}
