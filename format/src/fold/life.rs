//! The heap blocks that are alive at a place of the tape, in all processes.
//!
//! A forked process begins with a copy of its parent's heap. Nothing is copied here: a block stays listed once, with its own process, and it is noted which descendants have ended
//! their copy. A block that has died in its own process is kept while a descendant may have it.

use super::NOBODY;
use crate::id::{Address, Bytes, EventNo, Micros, ProcessIx, StackId, ThreadIx, TypeIx};
use crate::record::{Placed, ProcessEnd, ProcessOrigin, Record};
use rustc_hash::FxHashMap;

/// A block of memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub address: Address,
    pub size: Bytes,
    pub birth: EventNo,
    pub time: Micros,
    /// In the work trie.
    pub stack: StackId,
    pub thread: ThreadIx,
    pub kind: TypeIx,
    pub api: u8,
    pub is_realloc: bool,
}

/// An event that ended a block which lives on elsewhere in the family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Death {
    pub address: Address,
    pub event: EventNo,
    pub time: Micros,
    pub thread: ThreadIx,
}

#[derive(Clone, Default)]
struct Family {
    parent: Option<(ProcessIx, EventNo)>,
    /// Children by fork, and before which event.
    children: Vec<(ProcessIx, EventNo)>,
    end: Option<EventNo>,
}

#[derive(Clone, Default)]
pub(super) struct Lives {
    rows: Vec<Row>,
    /// Places in `rows` that are not used.
    vacant: Vec<u32>,
    at: FxHashMap<(ProcessIx, Address), u32>,
    /// Died in their own process, and perhaps alive in a descendant.
    ghosts: FxHashMap<(ProcessIx, Address), Vec<(Row, Death)>>,
    ghost_count: usize,
    /// Ghosts that nobody holds any more are let go when there are more than this.
    most_ghosts: usize,
    /// What forked processes did first to blocks that they had inherited.
    touches: FxHashMap<(ProcessIx, Address), Death>,
    families: Vec<Family>,
    /// The order has come to this event.
    now: EventNo,
    any_forked: bool,
}

/// A place in `rows` that is not used: its birth.
const VACANT: EventNo = EventNo(u64::MAX);

/// With fewer ghosts than this it is not worth looking which are held.
const FEW_GHOSTS: usize = 16;

impl Lives {
    pub(super) fn len(&self) -> usize {
        self.at.len() + self.ghost_count
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        let ghosts = self.ghosts.values().flatten().map(|(row, _)| row);
        self.rows.iter().filter(|row| row.birth != VACANT).chain(ghosts)
    }

    pub(super) fn rows_mut(&mut self) -> impl Iterator<Item = &mut Row> {
        let ghosts = self.ghosts.values_mut().flatten().map(|(row, _)| row);
        self.rows.iter_mut().filter(|row| row.birth != VACANT).chain(ghosts)
    }

    /// Learns of processes.
    pub(super) fn record(&mut self, placed: &Placed) {
        match &placed.record {
            Record::Process(process) => {
                let own = ProcessIx(self.families.len() as u32);
                let mut family = Family::default();
                match process.origin {
                    ProcessOrigin::Fork(parent) if parent < own => {
                        self.any_forked = true;
                        family.parent = Some((parent, placed.at));
                        self.families[parent.get() as usize].children.push((own, placed.at));
                    }
                    ProcessOrigin::Replace(old) if old < own => self.end(old, placed.at),
                    _ => {}
                }
                self.families.push(family);
            }
            Record::ProcessEnd { process, end } if *end != ProcessEnd::Running => self.end(*process, placed.at),
            _ => {}
        }
    }

    fn end(&mut self, process: ProcessIx, at: EventNo) {
        if let Some(family) = self.families.get_mut(process.get() as usize) {
            family.end.get_or_insert(at);
        }
    }

    /// The order has come to an event.
    pub(super) fn reach(&mut self, event: EventNo) {
        self.now = event;
    }

    /// Whether a process has ended. One that ends just before the event that the order has come to is part of the state there.
    pub(super) fn has_ended(&self, process: ProcessIx) -> bool {
        let end = self.family(process).and_then(|family| family.end);
        end.is_some_and(|end| end < self.now)
    }

    fn family(&self, process: ProcessIx) -> Option<&Family> {
        self.families.get(process.get() as usize)
    }

    /// Whether a child was forked between two events.
    pub(super) fn is_forked_within(&self, process: ProcessIx, from: EventNo, until: EventNo) -> bool {
        let is_within = |&(_, fork): &(ProcessIx, EventNo)| from < fork && fork <= until;
        self.any_forked
            && self
                .family(process)
                .is_some_and(|family| family.children.iter().any(is_within))
    }

    pub(super) fn born(&mut self, process: ProcessIx, row: Row) {
        let place = match self.vacant.pop() {
            Some(place) => {
                self.rows[place as usize] = row;
                place
            }
            None => {
                self.rows.push(row);
                (self.rows.len() - 1) as u32
            }
        };
        self.at.insert((process, row.address), place);
    }

    /// A process says that the block at an address is no more: its own, which is returned, or its copy of an ancestor's. With the block comes whether it is gone for good: a descendant may hold
    /// it still.
    pub(super) fn die(
        &mut self,
        process: ProcessIx,
        address: Address,
        event: EventNo,
        thread: ThreadIx,
        time: Micros,
    ) -> Option<(Row, bool)> {
        let death = Death {
            address,
            event,
            time,
            thread,
        };
        match self.at.remove(&(process, address)) {
            Some(place) => {
                let row = self.rows[place as usize];
                self.rows[place as usize].birth = VACANT;
                self.vacant.push(place);
                let is_held = self.any_forked && self.is_held_below(process, address, row.birth, Some(event));
                if is_held {
                    let ghosts = self.ghosts.entry((process, address));
                    ghosts.or_insert_with(|| Vec::with_capacity(1)).push((row, death));
                    self.ghost_count += 1;
                }
                Some((row, !is_held))
            }
            None => {
                if self.any_forked && !self.touches.contains_key(&(process, address)) {
                    self.touch(process, death);
                }
                None
            }
        }
    }

    pub(super) fn typed(&mut self, process: ProcessIx, address: Address, kind: TypeIx) {
        if let Some(&place) = self.at.get(&(process, address)) {
            self.rows[place as usize].kind = kind;
        }
    }

    /// Notes what a forked process does to a block that it has inherited, if it has one there.
    fn touch(&mut self, process: ProcessIx, death: Death) {
        let address = death.address;
        let mut heir = process;
        while let Some((ancestor, fork)) = self.family(heir).and_then(|family| family.parent) {
            let own = self
                .at
                .get(&(ancestor, address))
                .map(|&place| self.rows[place as usize].birth);
            let ghosts = self.ghosts.get(&(ancestor, address)).into_iter().flatten();
            let mut ghosts = ghosts.filter(|(row, end)| row.birth < fork && end.event >= fork);
            if own.is_some_and(|birth| birth < fork) || ghosts.next().is_some() {
                self.touches.insert((process, address), death);
                return;
            }
            // It may itself have ended what it had inherited.
            if self
                .touches
                .get(&(ancestor, address))
                .is_some_and(|touch| touch.event < fork)
            {
                return;
            }
            heir = ancestor;
        }
    }

    /// Whether a living descendant holds a copy of a block that was born in `process` and, perhaps, died there.
    fn is_held_below(&self, process: ProcessIx, address: Address, birth: EventNo, end: Option<EventNo>) -> bool {
        let mut open = vec![(process, birth, end)];
        while let Some((holder, birth, end)) = open.pop() {
            let Some(family) = self.family(holder) else { continue };
            for &(child, fork) in &family.children {
                if birth >= fork || end.is_some_and(|end| end < fork) {
                    continue;
                }
                let end = self.touches.get(&(child, address)).map(|touch| touch.event);
                if end.is_none() && !self.has_ended(child) {
                    return true;
                }
                // Its own copy goes back to the fork.
                open.push((child, birth, end));
            }
        }
        false
    }

    /// Lets go of the ghosts that nobody holds any more, if there are many; `gone` hears of them.
    pub(super) fn release_some_ghosts(&mut self, gone: impl FnMut(&Row)) {
        if self.ghost_count > self.most_ghosts.max(FEW_GHOSTS) {
            self.release_ghosts(gone);
            self.most_ghosts = 2 * self.ghost_count;
        }
    }

    fn release_ghosts(&mut self, mut gone: impl FnMut(&Row)) {
        let mut all = std::mem::take(&mut self.ghosts);
        all.retain(|&(process, address), ghosts| {
            ghosts.retain(|(row, death)| {
                let is_held = self.is_held_below(process, address, row.birth, Some(death.event));
                if !is_held {
                    gone(row);
                }
                is_held
            });
            !ghosts.is_empty()
        });
        self.ghost_count = all.values().map(Vec::len).sum();
        self.ghosts = all;
    }

    /// What stays, each in the order of events: blocks, and deaths of blocks that live on elsewhere. `gone` hears of blocks that are held no more, and whether they were freed or went with their process.
    pub(super) fn finish(mut self, mut gone: impl FnMut(&Row, bool)) -> (Vec<Row>, Vec<Death>) {
        let mut deaths = Vec::new();
        let is_gone = |lives: &Lives, &(process, address): &(ProcessIx, Address), row: &Row| {
            process != NOBODY && lives.has_ended(process) && !lives.is_held_below(process, address, row.birth, None)
        };
        let left: Vec<u32> = self
            .at
            .iter()
            .filter(|(key, &place)| is_gone(&self, key, &self.rows[place as usize]))
            .map(|(_, &place)| place)
            .collect();
        for place in left {
            gone(&self.rows[place as usize], false);
            self.rows[place as usize].birth = VACANT;
        }
        self.release_ghosts(|row| gone(row, true));
        let (mut kept, ended): (Vec<Row>, Vec<Death>) =
            std::mem::take(&mut self.ghosts).into_values().flatten().unzip();
        deaths.extend(ended);
        // A death counts while there is a block that it can be the death of.
        let mut touches = std::mem::take(&mut self.touches);
        if !touches.is_empty() {
            let addresses: rustc_hash::FxHashSet<Address> = self.rows().chain(&kept).map(|row| row.address).collect();
            touches.retain(|(_, address), _| addresses.contains(address));
            deaths.extend(touches.into_values());
        }
        self.at = FxHashMap::default();
        self.rows.retain(|row| row.birth != VACANT);
        self.rows.append(&mut kept);
        self.rows.sort_unstable_by_key(|row| row.birth);
        deaths.sort_unstable_by_key(|death| death.event);
        (self.rows, deaths)
    }
}
