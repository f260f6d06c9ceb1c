//! The highest level of a span, by process, as a reader of the whole tape finds it.

use crate::id::{EventNo, Micros, ProcessIx};
use crate::record::{FoldedPeak, Placed, ProcessEnd, ProcessOrigin, Record};
use rustc_hash::FxHashMap;

#[derive(Clone)]
pub(super) struct Peak {
    /// A sample is no sum of sizes.
    is_sample: bool,
    live: FxHashMap<ProcessIx, (i128, i64)>,
    ends: FxHashMap<ProcessIx, EventNo>,
    /// Ends to come, in their order.
    pending: Vec<(EventNo, ProcessIx)>,
    processes: u32,
    level: i128,
    blocks: i64,
    best: Option<FoldedPeak>,
}

impl Peak {
    pub(super) fn new(is_sample: bool) -> Peak {
        Peak {
            is_sample,
            live: FxHashMap::default(),
            ends: FxHashMap::default(),
            pending: Vec::new(),
            processes: 0,
            level: 0,
            blocks: 0,
            best: None,
        }
    }

    /// The highest level of what was folded earlier.
    pub(super) fn begin_with(&mut self, peak: Option<FoldedPeak>) {
        self.best = peak;
    }

    pub(super) fn record(&mut self, placed: &Placed) {
        let ended = match &placed.record {
            Record::Process(process) => {
                self.processes += 1;
                match process.origin {
                    ProcessOrigin::Replace(old) if old.get() + 1 < self.processes => Some(old),
                    _ => None,
                }
            }
            Record::ProcessEnd { process, end } if *end != ProcessEnd::Running => Some(*process),
            _ => None,
        };
        if let Some(process) = ended {
            // The first end that is told holds.
            if let std::collections::hash_map::Entry::Vacant(end) = self.ends.entry(process) {
                end.insert(placed.at);
                self.pending.push((placed.at, process));
                self.pending.sort_unstable_by(|one, other| other.cmp(one));
            }
        }
    }

    /// The order has come to an event: what ended before it is gone.
    #[inline]
    pub(super) fn reach(&mut self, event: EventNo) {
        while let Some((_, process)) = self.pending.pop_if(|(at, _)| *at <= event) {
            let (bytes, blocks) = self.live.remove(&process).unwrap_or_default();
            self.level -= bytes;
            self.blocks -= blocks;
        }
    }

    /// An event has changed the level of a process. What a keyframe has kept is no level that ever was.
    #[inline]
    pub(super) fn change(
        &mut self,
        process: ProcessIx,
        event: EventNo,
        time: Micros,
        bytes: i128,
        blocks: i64,
        is_kept: bool,
    ) {
        if !self.ends.is_empty() && self.ends.get(&process).is_some_and(|&end| end <= event) {
            return;
        }
        let live = self.live.entry(process).or_default();
        live.0 += bytes;
        live.1 += blocks;
        self.level += bytes;
        self.blocks += blocks;
        let is_highest = bytes > 0 && self.best.is_none_or(|best| self.level > i128::from(best.bytes));
        if is_highest && !is_kept && !self.is_sample {
            self.best = Some(FoldedPeak {
                event,
                time,
                bytes: u64::try_from(self.level).unwrap_or(u64::MAX),
                blocks: u64::try_from(self.blocks).unwrap_or(0),
            });
        }
    }

    pub(super) fn finish(self) -> Option<FoldedPeak> {
        self.best
    }
}
