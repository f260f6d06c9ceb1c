//! What a forked child has of its parent's heap.
//!
//! A child begins with a copy of every block that was alive in its parent. The copies share memory until somebody writes, so the
//! default view does not count them again: a row belongs to the process that allocated it. The copies are not rows either (a server
//! that forks a thousand times would have a thousand tables); they are implied by the parent's rows and the instant of the fork,
//! except for those that the child freed, which are listed here.

use super::allocations::Item;
use super::{AllocIx, Heap, Moment};
use crate::tape::ProcessInfo;
use hashbrown::HashSet;
use heaptape_format::record::ProcessOrigin;
use heaptape_format::{EventNo, ProcessIx};
use serde::{Deserialize, Serialize};

/// A copy that ended in the child, by `free`, by `realloc`, or because the child allocated at its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InheritedDeath {
    /// The child.
    pub process: ProcessIx,
    /// When it ended there.
    pub event: EventNo,
    /// The row of the original, which belongs to an ancestor.
    pub row: AllocIx,
}

/// Forks beyond this depth do not hand down their heap. No real program comes near; it bounds the work a hostile tape can ask for.
pub const MOST_GENERATIONS: usize = 256;

/// Which process began as a copy of which.
#[derive(Clone, Copy)]
pub struct Lineage<'a> {
    processes: &'a [ProcessInfo],
}

impl<'a> Lineage<'a> {
    pub(crate) fn new(processes: &'a [ProcessInfo]) -> Lineage<'a> {
        Lineage { processes }
    }

    /// The parent of a forked process and the event before which the fork took place.
    pub fn fork_of(&self, process: ProcessIx) -> Option<(ProcessIx, EventNo)> {
        let info = self.processes.get(process.get() as usize)?;
        match info.origin {
            ProcessOrigin::Fork(parent) => Some((parent, info.at)),
            _ => None,
        }
    }

    /// Parent, grandparent and so on, each with the event of the fork that leads away from it.
    pub fn ancestors(&self, process: ProcessIx) -> impl Iterator<Item = (ProcessIx, EventNo)> + 'a {
        let lineage = *self;
        let mut at = process;
        let step = std::iter::from_fn(move || {
            let (parent, fork) = lineage.fork_of(at)?;
            at = parent;
            Some((parent, fork))
        });
        step.take(MOST_GENERATIONS)
    }
}

impl Heap {
    /// Calls `visit` with the row of every block that `process` had inherited and still held at a moment.
    pub fn inherited(&self, process: ProcessIx, moment: &Moment, mut visit: impl FnMut(u32)) {
        self.inherited_items(process, moment, |item| visit(item.row));
    }

    pub(crate) fn inherited_items(&self, process: ProcessIx, moment: &Moment, mut visit: impl FnMut(&Item)) {
        let started = self
            .catalog
            .processes
            .get(process.get() as usize)
            .is_some_and(|info| info.at <= moment.cut);
        if !started || !self.is_process_alive(process, moment) {
            return;
        }
        let mut gone: HashSet<AllocIx> = HashSet::new();
        let mut holder = process;
        let mut until = moment.cut;
        for (ancestor, fork) in self.lineage().ancestors(process) {
            let deaths = self.inherited_deaths.partition_point(|death| death.process < holder);
            let deaths = self.inherited_deaths[deaths..]
                .iter()
                .take_while(|death| death.process == holder);
            gone.extend(deaths.filter(|death| death.event < until).map(|death| death.row));
            // What the ancestor allocated and held at the fork; a fork that is later than the state asked for hands down less.
            until = fork.min(until);
            for piece in self.candidates(until) {
                self.visit(&piece, until.get(), |item| {
                    let is_its = self.catalog.process_of(item.thread) == Some(ancestor);
                    if is_its && !gone.contains(&AllocIx(item.row)) {
                        visit(item);
                    }
                });
            }
            holder = ancestor;
        }
    }
}
