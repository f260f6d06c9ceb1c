//! The highest level, found while the events go by.

use super::block::{Digest, Run};
use crate::table::NEVER;
use crate::tape::Catalog;
use hashbrown::HashMap;
use heaptape_format::{EventNo, ProcessIx};
use rayon::prelude::*;

/// The level so far.
pub(super) struct Peak {
    /// Ends of processes to come, the first one last.
    ends: Vec<(EventNo, ProcessIx)>,
    /// By process, the event at which what it holds is gone.
    end_of: HashMap<ProcessIx, EventNo>,
    live: HashMap<ProcessIx, i128>,
    level: i128,
    best: Option<(EventNo, i128)>,
    /// Whether something came along that is not counted exactly here.
    is_unsure: bool,
}

/// A part of a block of events within which no process ends.
struct Part {
    from: u32,
    /// How much each process holds more at its end.
    sums: Vec<(ProcessIx, i64)>,
    /// The first event with the highest level, and how much that is above the level before.
    highest: Option<(u32, i64)>,
}

impl Peak {
    pub(super) fn new(catalog: &Catalog) -> Peak {
        let processes = (0..).map(ProcessIx).zip(&catalog.processes);
        let end_of: HashMap<ProcessIx, EventNo> = processes
            .filter_map(|(process, info)| Some((process, info.end?.at)))
            .collect();
        let mut ends: Vec<(EventNo, ProcessIx)> = end_of.iter().map(|(&process, &at)| (at, process)).collect();
        ends.sort_unstable();
        ends.reverse();
        Peak {
            ends,
            end_of,
            live: HashMap::new(),
            level: 0,
            best: None,
            // A sample is no sum of sizes.
            is_unsure: catalog.header.options.sample_bytes.is_some(),
        }
    }

    /// Takes the next blocks of events, of which all deaths are known.
    pub(super) fn take(&mut self, digests: &[Digest]) {
        self.is_unsure |= digests.iter().any(|digest| digest.is_huge);
        if self.is_unsure {
            return;
        }
        let parts: Vec<Vec<Part>> = digests.par_iter().map(|digest| self.parts(digest)).collect();
        for (digest, parts) in digests.iter().zip(parts) {
            for part in parts {
                self.add(digest, part);
            }
        }
    }

    fn parts(&self, digest: &Digest) -> Vec<Part> {
        let first = digest.first_event.get();
        let within = self.ends.iter().rev().map(|&(at, _)| at.get());
        let within = within.skip_while(|&at| at <= first);
        let within = within.take_while(|&at| at < first + u64::from(digest.events));
        let mut cuts: Vec<u32> = std::iter::once(0)
            .chain(within.map(|at| (at - first) as u32))
            .chain([digest.events])
            .collect();
        cuts.dedup();
        cuts.windows(2).map(|cut| self.part(digest, cut[0], cut[1])).collect()
    }

    fn part(&self, digest: &Digest, from: u32, until: u32) -> Part {
        let mut part = Part {
            from,
            sums: Vec::new(),
            highest: None,
        };
        let mut level = 0i64;
        let nexts = digest.runs.iter().skip(1).map(|run| run.from).chain([digest.events]);
        for (&Run { from: start, process }, next) in digest.runs.iter().zip(nexts) {
            let (start, next) = (start.max(from), next.min(until));
            let end = self.end_of.get(&process).copied().unwrap_or(NEVER);
            // What a process did after its end is part of no state.
            if start >= next || digest.first_event.get() + u64::from(from) >= end.get() {
                continue;
            }
            let before = level;
            for at in start..next {
                let delta = digest.deltas[at as usize].load(std::sync::atomic::Ordering::Relaxed);
                level += delta;
                if delta > 0 && part.highest.is_none_or(|(_, most)| level > most) {
                    part.highest = Some((at, level));
                }
            }
            match part.sums.iter_mut().find(|(other, _)| *other == process) {
                Some((_, sum)) => *sum += level - before,
                None => part.sums.push((process, level - before)),
            }
        }
        part
    }

    fn add(&mut self, digest: &Digest, part: Part) {
        let from = EventNo(digest.first_event.get() + u64::from(part.from));
        while let Some((_, process)) = self.ends.pop_if(|(at, _)| *at <= from) {
            self.level -= self.live.remove(&process).unwrap_or(0);
        }
        if let Some((at, above)) = part.highest {
            let level = self.level + i128::from(above);
            if self.best.is_none_or(|(_, best)| level > best) {
                self.best = Some((EventNo(digest.first_event.get() + u64::from(at)), level));
            }
        }
        for (process, sum) in part.sums {
            self.level += i128::from(sum);
            *self.live.entry(process).or_default() += i128::from(sum);
        }
    }

    /// The first event with the most live bytes, and their number, if that can be told.
    pub(super) fn finish(self) -> Option<(EventNo, u128)> {
        let (event, level) = self.best.filter(|_| !self.is_unsure)?;
        Some((event, u128::try_from(level).ok().filter(|&level| level > 0)?))
    }
}
