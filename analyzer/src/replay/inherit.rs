//! What became of frees that found no live block, and which blocks, inherited from a parent's heap, a forked child ended.
//!
//! A free of an address at which the process had born a block before is a double free. If it had not, and began as a copy of another's heap, its first operation on the address concerns
//! the copy, if there is one. Those operations are kept while matching and settled here, when the birth and death of every row are known: the copy exists if
//! the nearest ancestor that ever used the address held a block there at the fork.

use super::matching::NOBODY;
use crate::table::{AllocIx, Allocations, Counters, InheritedDeath, Lineage, AT_ONCE, PIECE};
use crate::tape::Catalog;
use hashbrown::{HashMap, HashSet};
use heaptape_format::{Address, EventNo, ProcessIx};
use rayon::prelude::*;

/// A free at an address where the process has no block, or a birth, in a forked process, at an address where it has had none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Touch {
    pub process: ProcessIx,
    pub address: Address,
    pub event: EventNo,
    /// It ends the block there; otherwise a new one is born over it.
    pub is_free: bool,
}

/// Settles all touches: the copies they ended, sorted by process and event.
pub(super) fn settle(
    mut touches: Vec<Touch>,
    rows: &Allocations,
    catalog: &Catalog,
    counters: &mut Counters,
) -> Vec<InheritedDeath> {
    if touches.is_empty() {
        return Vec::new();
    }
    touches.par_sort_unstable();
    let history = History::new(rows, &touches, catalog);
    let lineage = Lineage::new(&catalog.processes);
    let mut deaths = Vec::new();
    for group in touches.chunk_by(|a, b| (a.process, a.address) == (b.process, b.address)) {
        let (process, address) = (group[0].process, group[0].address);
        let mut found = history.at_fork(process, address, &lineage);
        for touch in group {
            if history.last_born(process, address, touch.event).is_some() {
                counters.double_frees += u64::from(touch.is_free);
                continue;
            }
            match found {
                Some((row, true)) => {
                    deaths.push(InheritedDeath {
                        process: touch.process,
                        event: touch.event,
                        row,
                    });
                    if touch.is_free {
                        counters.inherited_frees += 1;
                    } else {
                        counters.lost_frees += 1;
                    }
                    found = Some((row, false));
                }
                Some((_, false)) => counters.double_frees += u64::from(touch.is_free),
                None => counters.unknown_frees += u64::from(touch.is_free),
            }
        }
    }
    deaths.sort_unstable();
    deaths
}

/// Which rows were born at an address, and when a forked process first touched it.
struct History<'a> {
    rows: &'a Allocations,
    /// Rows by home and birth.
    by_home: Vec<(ProcessIx, Address, AllocIx)>,
    first_touch: HashMap<(ProcessIx, Address), EventNo>,
}

/// Addresses that forked processes touched: only the rows there matter, a few of many.
struct Touched {
    addresses: HashSet<Address>,
    /// By hash: whether any such address may be in the set.
    hints: Vec<bool>,
}

const HINT_BITS: u32 = 17;

impl Touched {
    fn new(touches: &[Touch]) -> Touched {
        let mut hints = vec![false; 1 << HINT_BITS];
        for touch in touches {
            hints[Touched::hint(touch.address)] = true;
        }
        Touched {
            addresses: touches.iter().map(|touch| touch.address).collect(),
            hints,
        }
    }

    fn hint(address: Address) -> usize {
        (address.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - HINT_BITS)) as usize
    }

    fn has(&self, address: Address) -> bool {
        self.hints[Touched::hint(address)] && self.addresses.contains(&address)
    }
}

impl<'a> History<'a> {
    fn new(rows: &'a Allocations, touches: &[Touch], catalog: &Catalog) -> History<'a> {
        let touched = &Touched::new(touches);
        let mut by_home = Vec::new();
        let pieces = rows.len().div_ceil(PIECE);
        for from in (0..pieces).step_by(AT_ONCE) {
            let some = from..pieces.min(from + AT_ONCE);
            by_home.par_extend(some.into_par_iter().flat_map_iter(|piece| {
                let addresses = rows.address.piece(piece).iter().copied().map(Address);
                let found = (piece * PIECE..)
                    .zip(addresses)
                    .filter(move |&(_, address)| touched.has(address));
                found.map(move |(row, address)| {
                    let process = catalog.process_of(rows.thread(row)).unwrap_or(NOBODY);
                    (process, address, AllocIx(row as u32))
                })
            }));
            rows.release();
        }
        by_home.par_sort_unstable();
        let mut first_touch = HashMap::with_capacity(touches.len());
        for touch in touches {
            first_touch.entry((touch.process, touch.address)).or_insert(touch.event);
        }
        History {
            rows,
            by_home,
            first_touch,
        }
    }

    /// The block that lay at an address when `process` was forked, and whether it was still alive. `None`: none was ever seen there.
    fn at_fork(&self, process: ProcessIx, address: Address, lineage: &Lineage<'_>) -> Option<(AllocIx, bool)> {
        let mut alive = true;
        for (ancestor, fork) in lineage.ancestors(process) {
            if let Some(row) = self.last_born(ancestor, address, fork) {
                return Some((row, alive && self.rows.death(row.0 as usize) >= fork));
            }
            // The ancestor may have ended a block that it had inherited itself; then nothing alive comes down from further up.
            alive &= self
                .first_touch
                .get(&(ancestor, address))
                .is_none_or(|&event| event >= fork);
        }
        None
    }

    /// The last row that `process` had born at an address before an event.
    fn last_born(&self, process: ProcessIx, address: Address, before: EventNo) -> Option<AllocIx> {
        let after = self.by_home.partition_point(|&(owner, at, row)| {
            (owner, at) < (process, address)
                || (owner, at) == (process, address) && self.rows.birth(row.0 as usize) < before
        });
        let (owner, at, row) = *self.by_home.get(after.checked_sub(1)?)?;
        ((owner, at) == (process, address)).then_some(row)
    }
}
