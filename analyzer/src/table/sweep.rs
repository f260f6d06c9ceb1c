//! How the heap's level moves along the tape: bytes and blocks alive after each event.

use super::{Heap, NEVER};
use heaptape_format::EventNo;
use rayon::prelude::*;
use serde::Serialize;

/// Bytes and blocks alive at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Level {
    /// Bytes asked for.
    pub size: u128,
    /// Blocks.
    pub count: u64,
}

impl Level {
    /// Adds another.
    pub fn add(&mut self, more: Level) {
        self.size += more.size;
        self.count += more.count;
    }
}

/// Births and deaths of chosen rows, in the order of events.
///
/// The level after an event counts all that happened at that event: a `realloc` in place is one step, not a dip.
pub struct Sweep<'a> {
    heap: &'a Heap,
    births: Vec<u32>,
    /// Rows in the order of their effective death.
    deaths: Vec<u32>,
}

impl<'a> Sweep<'a> {
    /// Prepares the walk over the rows that `keep` accepts.
    pub fn new(heap: &'a Heap, keep: impl Fn(u32) -> bool + Sync) -> Sweep<'a> {
        let births: Vec<u32> = (0..heap.allocations.len() as u32)
            .into_par_iter()
            .filter(|&row| keep(row))
            .collect();
        let mut deaths: Vec<u32> = births
            .par_iter()
            .copied()
            .filter(|&row| heap.effective_death(row) != NEVER)
            .collect();
        deaths.par_sort_unstable_by_key(|&row| (heap.effective_death(row), row));
        Sweep { heap, births, deaths }
    }

    /// Calls `step` after each event that changed the level, with the event's number.
    pub fn walk(&self, mut step: impl FnMut(EventNo, Level)) {
        let rows = &self.heap.allocations;
        let mut births = self.births.iter().copied().peekable();
        let mut deaths = self.deaths.iter().copied().peekable();
        let mut level = Level::default();
        loop {
            let birth = births.peek().map_or(NEVER, |&row| EventNo(rows.birth[row as usize]));
            let death = deaths.peek().map_or(NEVER, |&row| self.heap.effective_death(row));
            let event = birth.min(death);
            if event == NEVER {
                return;
            }
            while let Some(row) = births.next_if(|&row| rows.birth[row as usize] == event.get()) {
                level.add(self.heap.level_of(row));
            }
            while let Some(row) = deaths.next_if(|&row| self.heap.effective_death(row) == event) {
                let gone = self.heap.level_of(row);
                level.size -= gone.size;
                level.count -= gone.count;
            }
            step(event, level);
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
