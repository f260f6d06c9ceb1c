//! The highest level, found while the events go by.

use super::block::{Digest, Run};
use crate::table::NEVER;
use crate::tape::Catalog;
use hashbrown::HashMap;
use heaptape_format::{EventNo, ProcessIx, NO_BIRTH};
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
    /// Where a keyframe ends, until the order has come there.
    keyframe: Option<EventNo>,
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
            keyframe: catalog.folded.as_ref().map(|folded| folded.cut),
        }
    }

    /// Takes the next blocks of events, of which all deaths are known.
    ///
    /// A block whose births could not reach the highest level so far, even if nothing older died meanwhile, is not looked at event by event.
    pub(super) fn take(&mut self, digests: &[Digest]) {
        self.is_unsure |= digests.iter().any(|digest| digest.is_huge);
        let Some(until) = digests.iter().map(Digest::end).max().filter(|_| !self.is_unsure) else {
            return;
        };
        let nets: Vec<Vec<(ProcessIx, i64)>> = digests.par_iter().map(nets).collect();
        let is_over = |process: &ProcessIx| self.end_of.get(process).is_some_and(|&end| end < until);
        let some_end = self.ends.last().is_some_and(|&(at, _)| at < until)
            || nets.iter().flatten().any(|(process, _)| is_over(process));
        let (mut level, mut best) = (self.level, self.best.map_or(0, |(_, best)| best));
        let is_high: Vec<bool> = digests
            .iter()
            .zip(&nets)
            .map(|(digest, nets)| {
                let is_high = level + i128::from(digest.highest) > best;
                level += nets.iter().map(|&(_, net)| i128::from(net)).sum::<i128>();
                best = best.max(level);
                // Where a keyframe ends, the highest level begins anew.
                some_end || self.keyframe.is_some() || is_high
            })
            .collect();
        let parts: Vec<Option<Vec<Part>>> = digests
            .par_iter()
            .zip(&is_high)
            .map(|(digest, is_high)| is_high.then(|| self.parts(digest)))
            .collect();
        for ((digest, parts), sums) in digests.iter().zip(parts).zip(nets) {
            if self.keyframe.is_some_and(|end| end <= digest.first_event) {
                self.end_keyframe();
            }
            let whole = |sums| {
                vec![Part {
                    from: 0,
                    sums,
                    highest: None,
                }]
            };
            for part in parts.unwrap_or_else(|| whole(sums)) {
                self.add(digest, part);
            }
        }
    }

    /// The level where a keyframe ends is the first that is known.
    fn end_keyframe(&mut self) {
        let Some(end) = self.keyframe.take() else { return };
        let last = EventNo(end.get().saturating_sub(1));
        self.end_processes(last);
        self.best = (self.level > 0).then_some((last, self.level));
    }

    fn end_processes(&mut self, until: EventNo) {
        while let Some((_, process)) = self.ends.pop_if(|(at, _)| *at <= until) {
            self.level -= self.live.remove(&process).unwrap_or(0);
        }
    }

    fn parts(&self, digest: &Digest) -> Vec<Part> {
        let first = digest.first_event.get();
        let within = self.ends.iter().rev().map(|&(at, _)| at.get());
        let within = within.skip_while(|&at| at <= first);
        let within = within.map(|at| digest.index_of(EventNo(at)));
        let within = within.take_while(|&at| at < digest.events);
        let mut cuts: Vec<u32> = std::iter::once(0).chain(within).chain([digest.events]).collect();
        cuts.dedup();
        let deltas = deltas(digest);
        cuts.windows(2)
            .map(|cut| self.part(digest, &deltas, cut[0], cut[1]))
            .collect()
    }

    fn part(&self, digest: &Digest, deltas: &[i64], from: u32, until: u32) -> Part {
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
            if start >= next || digest.number(from) >= end {
                continue;
            }
            let before = level;
            for at in start..next {
                let delta = deltas[at as usize];
                level += delta;
                // What has stayed of a folded span adds up to no level that ever was.
                if delta > 0 && !digest.is_keyframe() && part.highest.is_none_or(|(_, most)| level > most) {
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
        self.end_processes(digest.number(part.from));
        if let Some((at, above)) = part.highest {
            let level = self.level + i128::from(above);
            if self.best.is_none_or(|(_, best)| level > best) {
                self.best = Some((digest.number(at), level));
            }
        }
        for (process, sum) in part.sums {
            self.level += i128::from(sum);
            *self.live.entry(process).or_default() += i128::from(sum);
        }
    }

    /// The first event with the most live bytes, and their number, if that can be told.
    pub(super) fn finish(mut self) -> Option<(EventNo, u128)> {
        self.end_keyframe();
        let (event, level) = self.best.filter(|_| !self.is_unsure)?;
        Some((event, u128::try_from(level).ok().filter(|&level| level > 0)?))
    }
}

/// How much each process holds more after a block of events.
fn nets(digest: &Digest) -> Vec<(ProcessIx, i64)> {
    let mut nets = digest.nets.clone();
    for op in digest.ops.iter().flatten().filter(|op| op.size > 0) {
        match nets.iter_mut().find(|(process, _)| *process == op.process) {
            Some((_, net)) => *net -= op.size as i64,
            None => nets.push((op.process, -(op.size as i64))),
        }
    }
    nets
}

/// By event, how the number of live bytes changes.
fn deltas(digest: &Digest) -> Vec<i64> {
    let mut deltas = vec![0; digest.events as usize];
    let index = |event: u32| {
        if digest.is_keyframe() {
            digest.index_of(EventNo(digest.first_event.get() + u64::from(event))) as usize
        } else {
            event as usize
        }
    };
    for row in &digest.rows {
        deltas[index(row.event)] += row.size as i64;
        if row.death != NO_BIRTH {
            deltas[index(row.death)] -= row.size as i64;
        }
    }
    for op in digest.ops.iter().flatten() {
        deltas[op.event as usize] -= op.size as i64;
    }
    deltas
}
