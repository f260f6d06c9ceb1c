//! Why the resident set does not fall: which arenas of Python's object allocator are mapped, and what lives in the nearly empty ones.
//!
//! An arena is given back to the system when no block in it is alive any more, so a single small object keeps all of it.

use super::key::Keys;
use super::snapshot::is_mapped;
use super::stats::key_fields;
use super::{Grouping, Instant, Key, Query};
use crate::symbols::{Names, Resolver};
use crate::table::{Domain, Heap, Item, Level, MappingKind, MappingRow, Moment};
use crate::text::Text;
use hashbrown::HashMap;
use heaptape_format::{EventNo, ProcessIx};
use serde::Serialize;
use std::collections::BTreeMap;

/// One arena.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arena {
    /// Where it begins, in hexadecimal.
    pub address: String,
    /// Its length in bytes.
    pub length: u64,
    /// Id of its process, if known.
    pub pid: Option<u32>,
    /// What lives in it.
    pub live: Level,
}

/// Arenas that are filled alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fill {
    /// Filled to at least so many percent, and to less than ten more; the last has the full ones.
    pub percent: u32,
    /// The arenas and their length.
    pub arenas: Level,
    /// What lives in them.
    pub live: Level,
}

/// What lives in nearly empty arenas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// What its blocks have in common.
    #[serde(flatten, serialize_with = "key_fields")]
    pub key: Key,
    /// The function that is shown, where the key is a place in the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<Text>,
    /// Nearly empty arenas that hold any of its blocks. An arena counts for each of its holders.
    pub arenas: Level,
    /// Those that hold nothing else.
    pub alone: Level,
    /// Its blocks in them.
    pub live: Level,
}

/// The arenas of one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arenas {
    /// The tape.
    pub tape: Text,
    /// When.
    pub at: Instant,
    /// What holders are made of.
    pub by: Grouping,
    /// Arenas and their length.
    pub arenas: Level,
    /// What lives in them.
    pub live: Level,
    /// Blocks of forked processes in arenas that they inherited; those count for the parent alone.
    pub inherited: Level,
    /// Blocks of Python's mem and obj allocators in no arena: larger ones come from malloc.
    pub outside: Level,
    /// Arenas by how full they are, emptiest first.
    pub fill: Vec<Fill>,
    /// An arena filled to less than this share is nearly empty.
    pub below_percent: u32,
    /// The nearly empty ones and their length.
    pub nearly_empty: Level,
    /// What lives in those.
    pub nearly_empty_live: Level,
    /// What keeps the nearly empty ones mapped: by length of the arenas, then by that of those held alone, size and key, all falling.
    pub holders: Vec<Holder>,
    /// Holders that were left out.
    pub omitted_holders: usize,
    /// Emptiest first.
    pub emptiest: Vec<Arena>,
    /// Arenas that were left out.
    pub omitted_arenas: usize,
}

/// The arenas that are mapped at `moment`. Of the query only grouping, view and rows count.
pub fn arenas(heap: &Heap, moment: &Moment, below_percent: u32, query: &Query, resolver: &dyn Resolver) -> Arenas {
    let space = Space::new(heap, moment);
    let mut live = vec![Level::default(); space.mapped.len()];
    let (mut inherited, mut outside) = (Level::default(), Level::default());
    let mut inside: Vec<(usize, Item)> = Vec::new();
    for piece in heap.candidates(moment.cut) {
        heap.visit(&piece, moment.cut.get(), |item| {
            if !heap.is_home_alive(item.thread, moment) {
                return;
            }
            let level = heap.level(item);
            match space.find(item) {
                Found::Mapped(arena) => {
                    live[arena].add(level);
                    inside.push((arena, *item));
                }
                Found::Inherited => inherited.add(level),
                Found::Nowhere => {
                    if matches!(Domain::of(item.marks.api()), Domain::PyMem | Domain::PyObj) {
                        outside.add(level);
                    }
                }
            }
        });
    }
    let is_nearly_empty =
        |arena: usize| live[arena].size * 100 < u128::from(space.length(arena)) * u128::from(below_percent);
    inside.retain(|&(arena, _)| is_nearly_empty(arena));
    let mut holders = holders(&space, &inside, query, resolver);
    let omitted_holders = cut(&mut holders, query.rows);

    let mut report = Arenas {
        tape: heap.name.clone(),
        at: Instant::of(heap, moment),
        by: query.by.clone(),
        arenas: Level::default(),
        live: Level::default(),
        inherited,
        outside,
        fill: (0..10)
            .map(|tenth| Fill {
                percent: tenth * 10,
                ..Fill::default()
            })
            .collect(),
        below_percent,
        nearly_empty: Level::default(),
        nearly_empty_live: Level::default(),
        holders,
        omitted_holders,
        emptiest: Vec::new(),
        omitted_arenas: 0,
    };
    for (arena, &live) in live.iter().enumerate() {
        let mapped = space.level(arena);
        report.arenas.add(mapped);
        report.live.add(live);
        let tenth = live.size * 10 / u128::from(space.length(arena));
        let fill = &mut report.fill[tenth.min(9) as usize];
        fill.arenas.add(mapped);
        fill.live.add(live);
        if is_nearly_empty(arena) {
            report.nearly_empty.add(mapped);
            report.nearly_empty_live.add(live);
        }
    }
    let mut order: Vec<usize> = (0..live.len()).collect();
    order.sort_by_key(|&arena| (live[arena].size, live[arena].count, arena));
    report.omitted_arenas = cut(&mut order, query.rows);
    report.emptiest = order.into_iter().map(|arena| space.arena(arena, live[arena])).collect();
    report
}

/// Cuts a list to the number of rows that is asked for (0 for all); how many were left out.
fn cut<T>(list: &mut Vec<T>, rows: usize) -> usize {
    let all = list.len();
    if rows > 0 {
        list.truncate(rows);
    }
    all - list.len()
}

/// Groups the blocks in nearly empty arenas.
fn holders(space: &Space<'_>, inside: &[(usize, Item)], query: &Query, resolver: &dyn Resolver) -> Vec<Holder> {
    let heap = space.heap;
    let stacks = inside.iter().map(|(_, item)| item.stack);
    let names = Names::of(heap, resolver, query.view, stacks.filter(|_| query.by.is_by_stack()));
    let mut keys = Keys::new(heap, &names, query);
    let mut known = HashMap::new();
    let mut numbers: HashMap<Key, usize> = HashMap::new();
    let mut holders: Vec<Holder> = Vec::new();
    // By arena: who has blocks in it.
    let mut residents: BTreeMap<usize, HashMap<usize, Level>> = BTreeMap::new();
    for &(arena, ref item) in inside {
        let stack = item.stack;
        let facts = query.by.facts(item, heap.catalog.process_of(item.thread));
        let holder = *known.entry((stack, facts)).or_insert_with(|| {
            let (key, function) = keys.key(stack, facts);
            *numbers.entry(key).or_insert_with_key(|key| {
                holders.push(Holder {
                    key: key.clone(),
                    function,
                    arenas: Level::default(),
                    alone: Level::default(),
                    live: Level::default(),
                });
                holders.len() - 1
            })
        });
        let resident = residents.entry(arena).or_default().entry(holder).or_default();
        resident.add(heap.level(item));
    }
    for (arena, residents) in residents {
        let mapped = space.level(arena);
        for (&holder, &live) in &residents {
            let holder = &mut holders[holder];
            holder.arenas.add(mapped);
            holder.live.add(live);
            if residents.len() == 1 {
                holder.alone.add(mapped);
            }
        }
    }
    holders.sort_unstable_by(|a, b| {
        let rank = |holder: &Holder| (holder.arenas.size, holder.alone.size, holder.live);
        (rank(b), &b.key).cmp(&(rank(a), &a.key))
    });
    holders
}

/// Where a block lies.
enum Found {
    /// In this arena.
    Mapped(usize),
    /// In an arena that its process had from its parent.
    Inherited,
    /// In no arena.
    Nowhere,
}

/// The arenas of all processes.
struct Space<'a> {
    heap: &'a Heap,
    /// Those that are mapped at the moment, by process and start.
    mapped: Vec<&'a MappingRow>,
    /// All that there ever were, by process, start and birth.
    all: Vec<&'a MappingRow>,
}

impl<'a> Space<'a> {
    fn new(heap: &'a Heap, moment: &Moment) -> Space<'a> {
        let arenas = heap.mappings.rows.iter();
        let mut all: Vec<&MappingRow> = arenas.filter(|row| row.kind == MappingKind::Arena).collect();
        all.sort_unstable_by_key(|row| (row.process, row.start, row.birth));
        let mapped = all.iter().copied().filter(|row| is_mapped(heap, row, moment)).collect();
        Space { heap, mapped, all }
    }

    fn length(&self, arena: usize) -> u64 {
        // No mapping is empty.
        self.mapped[arena].length.get().max(1)
    }

    fn level(&self, arena: usize) -> Level {
        Level {
            size: u128::from(self.mapped[arena].length.get()),
            count: 1,
        }
    }

    fn find(&self, item: &Item) -> Found {
        let process = self.heap.catalog.process_of(item.thread);
        let address = self.heap.allocations.address(item.row as usize).get();
        let after = self
            .mapped
            .partition_point(|arena| (arena.process, arena.start.get()) <= (process, address));
        if let Some(last) = after
            .checked_sub(1)
            .filter(|&last| self.holds(self.mapped[last], process, address))
        {
            return Found::Mapped(last);
        }
        match process {
            Some(process) if self.inherited(process, address) => Found::Inherited,
            _ => Found::Nowhere,
        }
    }

    /// Whether an address lies in an arena that a forked process had from an ancestor.
    fn inherited(&self, process: ProcessIx, address: u64) -> bool {
        let lineage = self.heap.lineage();
        let mut ancestors = lineage.ancestors(process);
        ancestors.any(|(ancestor, fork)| self.had(Some(ancestor), address, fork))
    }

    /// Whether the arena that was mapped last at an address before an event was still there then.
    fn had(&self, process: Option<ProcessIx>, address: u64, before: EventNo) -> bool {
        let key = (process, address, before);
        let after = self
            .all
            .partition_point(|arena| (arena.process, arena.start.get(), arena.birth) < key);
        let last = after.checked_sub(1).map(|last| self.all[last]);
        last.is_some_and(|arena| self.holds(arena, process, address) && arena.birth < before && arena.death >= before)
    }

    fn holds(&self, arena: &MappingRow, process: Option<ProcessIx>, address: u64) -> bool {
        let start = arena.start.get();
        arena.process == process && start <= address && address - start < arena.length.get()
    }

    fn arena(&self, arena: usize, live: Level) -> Arena {
        let row = self.mapped[arena];
        let process = row
            .process
            .and_then(|process| self.heap.catalog.processes.get(process.get() as usize));
        Arena {
            address: format!("{:#x}", row.start.get()),
            length: row.length.get(),
            pid: process.map(|info| info.pid),
            live,
        }
    }
}
