//! Statistics: rows of size and count, as tracemalloc has them.

use super::cells::{Cell, Cells};
use super::site::Sites;
use super::tally::{gather_tallies, Tally};
use super::{Filter, Group, Grouping, Key, SuppressionUse, TypeShare};
use crate::report;
use crate::symbols::{Names, Resolver, View};
use crate::table::{Heap, Level, Moment};
use crate::tape::StackIx;
use crate::text::Text;
use hashbrown::HashMap;
use serde::{Serialize, Serializer};

/// How a question is asked, apart from when.
#[derive(Clone, Debug)]
pub struct Query {
    /// What rows are made of.
    pub by: Grouping,
    /// Which allocations count.
    pub filter: Filter,
    /// Show the innermost frame whatever it is; see [`super::is_wrapper`].
    pub raw_frames: bool,
    /// Which frames are looked at.
    pub view: View,
    /// Most rows to give; 0 for all.
    pub rows: usize,
}

impl Default for Query {
    fn default() -> Query {
        Query {
            by: Grouping::default(),
            filter: Filter::default(),
            raw_frames: false,
            view: View::default(),
            rows: 10,
        }
    }
}

/// An instant, for reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instant {
    /// Number of the first event that has not happened.
    pub event: u64,
    /// Microseconds since the recording began.
    pub micros: u64,
    /// Wall clock at the device.
    pub wall_clock: String,
}

impl Instant {
    /// The instant of a moment of a heap.
    pub fn of(heap: &Heap, moment: &Moment) -> Instant {
        Instant {
            event: moment.cut.get(),
            micros: moment.time.get(),
            wall_clock: report::wall_clock(&heap.catalog.header, moment.time),
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What its blocks have in common.
    #[serde(flatten, serialize_with = "key_fields")]
    pub key: Key,
    /// The function that is shown, where the key is a place in the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<Text>,
    /// Bytes.
    pub size: u128,
    /// Blocks.
    pub count: u64,
    /// The part that may have been freed where events are missing.
    #[serde(skip_serializing_if = "is_nothing")]
    pub unknown_after_gap: Level,
    /// Of an estimate from a sample: the standard error of its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<u128>,
}

pub(super) fn is_nothing(level: &Level) -> bool {
    *level == Level::default()
}

pub(super) fn key_fields<S: Serializer>(key: &Key, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap;
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("key", &key.to_string())?;
    if key.0.len() > 1 {
        let parts: Vec<String> = key.0.iter().map(ToString::to_string).collect();
        map.serialize_entry("keys", &parts)?;
    }
    if !key.frames().is_empty() {
        map.serialize_entry("traceback", key.frames())?;
    }
    if let Some(source) = key.source() {
        map.serialize_entry("source", source)?;
    }
    map.end()
}

/// Rows and their sums.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// The tape.
    pub tape: Text,
    /// When.
    pub at: Instant,
    /// For leaks: the blocks were born from this instant on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub born_from: Option<Instant>,
    /// For leaks: the blocks were born before this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub born_until: Option<Instant>,
    /// What rows are made of.
    pub by: Grouping,
    /// Everything that the filter accepts.
    pub total: Level,
    /// The part of it that may have been freed where events are missing.
    pub unknown_after_gap: Level,
    /// Of an estimate from a sample: the standard error of its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<u128>,
    /// By type: how much of it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types: Option<TypeShare>,
    /// For leaks: what was not reported, by suppression in the order of their file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suppressions: Vec<SuppressionUse>,
    /// Address space mapped at this instant, beside the heap: never part of the total.
    pub mapped: Level,
    /// Largest first: by size, count and key, all falling, as tracemalloc sorts.
    pub rows: Vec<Row>,
    /// Rows that were left out.
    pub omitted_rows: usize,
    /// Their sum.
    pub omitted: Level,
}

/// Cells gathered under their keys, with the functions that are shown for them.
pub(super) struct Groups {
    pub by_key: HashMap<Key, (Cell, Option<Text>)>,
    /// By type only.
    pub types: Option<TypeShare>,
}

/// Cells of a heap gathered under their keys.
pub(super) fn gather(heap: &Heap, cells: &Cells, query: &Query, resolver: &dyn Resolver) -> Groups {
    let is_by_type = query.by.groups().contains(&Group::Type);
    let mut types = is_by_type.then(TypeShare::default);
    let by_key = gather_tallies(heap, cells, query, resolver, false, |_, _, facts, cell| {
        if let (Some(types), Some(kind)) = (&mut types, query.by.kind(facts)) {
            types.add(kind, cell.all);
        }
        true
    });
    Groups { by_key, types }
}

/// Rows out of groups: sorted, cut to the number asked for, summed.
pub(super) fn statistics(heap: &Heap, at: &Moment, groups: Groups, query: &Query) -> Statistics {
    let error = |cell: &Cell| heap.scale.is_estimate().then(|| cell.spread.standard_error());
    let mut total = Cell::default();
    let mut rows: Vec<Row> = Vec::with_capacity(groups.by_key.len());
    for (key, (cell, function)) in groups.by_key {
        total.merge(&cell);
        rows.push(Row {
            key,
            function,
            size: cell.all.size,
            count: cell.all.count,
            unknown_after_gap: cell.doubtful,
            standard_error: error(&cell),
        });
    }
    rows.sort_unstable_by(|a, b| (b.size, b.count, &b.key).cmp(&(a.size, a.count, &a.key)));
    let kept = if query.rows == 0 {
        rows.len()
    } else {
        query.rows.min(rows.len())
    };
    let mut omitted = Level::default();
    for row in &rows[kept..] {
        omitted.add(Level {
            size: row.size,
            count: row.count,
        });
    }
    let omitted_rows = rows.len() - kept;
    rows.truncate(kept);
    Statistics {
        tape: heap.name.clone(),
        at: Instant::of(heap, at),
        born_from: None,
        born_until: None,
        by: query.by.clone(),
        total: total.all,
        unknown_after_gap: total.doubtful,
        standard_error: error(&total),
        types: groups.types,
        suppressions: Vec::new(),
        mapped: super::snapshot::mapped_level(heap, at),
        rows,
        omitted_rows,
        omitted,
    }
}

/// The same for every stack that any row has.
pub(super) fn accepted_anywhere(heap: &Heap, query: &Query, resolver: &dyn Resolver) -> Vec<bool> {
    if !query.filter.has_patterns() {
        return vec![true; heap.catalog.stacks.len()];
    }
    let stacks = || (0..heap.catalog.stacks.len() as u32).map(StackIx);
    let mut is_used = vec![false; stacks().len()];
    for piece in heap.pieces(0..heap.allocations.len()) {
        heap.visit(&piece, 0, |item| is_used[item.stack.0 as usize] = true);
    }
    let used = || stacks().filter(|stack| is_used[stack.0 as usize]);
    let names = Names::of(heap, resolver, query.view, used());
    accepted_stacks(heap, &names, query, used())
}

/// By stack, whether the filter's patterns accept it. Everything is accepted when there are none.
pub(super) fn accepted_stacks(
    heap: &Heap,
    names: &Names,
    query: &Query,
    stacks: impl Iterator<Item = StackIx>,
) -> Vec<bool> {
    let filter = &query.filter;
    let mut accepted = vec![!filter.has_patterns(); heap.catalog.stacks.len()];
    if filter.has_patterns() {
        let mut sites = Sites::new(heap, names, query.raw_frames);
        for stack in stacks {
            accepted[stack.0 as usize] = is_accepted(heap, names, filter, &mut sites, stack);
        }
    }
    accepted
}

pub(super) fn is_accepted(heap: &Heap, names: &Names, filter: &Filter, sites: &mut Sites<'_>, stack: StackIx) -> bool {
    if filter.all_frames {
        filter.accepts(names.stack(heap, stack))
    } else {
        let library = sites.library_site(stack);
        filter.accepts_shown(sites.site(stack), library)
    }
}
