//! The group-by that all questions share: rows of the table added up by stack and what else the grouping needs.

use super::group::Facts;
use super::key::Keys;
use super::stats::{is_accepted, key_fields};
use super::{Group, Grouping, Key, Query};
use crate::symbols::{Names, Resolver};
use crate::table::{Alike, Heap, Item, Level, Piece, Undecided};
use crate::tape::StackIx;
use crate::text::Text;
use hashbrown::HashMap;
use rayon::prelude::*;
use serde::Serialize;

/// What rows add up to. The order in which sums are merged must not matter.
pub(crate) trait Tally: Default + Send {
    /// Adds another sum.
    fn merge(&mut self, other: &Self);
}

/// Sums by stack and by what else the grouping needs.
pub(crate) type Tallies<T> = HashMap<(StackIx, Facts), T>;

/// No sum yet.
const NONE: u32 = u32::MAX;

/// Sums in the making. The usual grouping needs no hash: every stack has a place.
struct Sums<'a, T> {
    by: &'a Grouping,
    /// By stack, which of `sums` is its own; for a grouping by stack alone.
    places: Vec<u32>,
    sums: Vec<(StackIx, T)>,
    others: Tallies<T>,
}

impl<'a, T: Tally> Sums<'a, T> {
    fn new(heap: &Heap, by: &'a Grouping) -> Sums<'a, T> {
        let stacks = if by.is_by_stack_alone() {
            heap.catalog.stacks.len()
        } else {
            0
        };
        Sums {
            by,
            places: vec![NONE; stacks],
            sums: Vec::new(),
            others: Tallies::new(),
        }
    }

    #[inline]
    fn of(&mut self, heap: &Heap, item: &Item) -> &mut T {
        match self.places.get_mut(item.stack.0 as usize) {
            Some(place) => {
                if *place == NONE {
                    *place = self.sums.len() as u32;
                    self.sums.push((item.stack, T::default()));
                }
                &mut self.sums[*place as usize].1
            }
            None => {
                let facts = self.by.facts(item, heap.catalog.process_of(item.thread));
                self.others.entry((item.stack, facts)).or_default()
            }
        }
    }

    fn finish(mut self) -> Tallies<T> {
        let sums = self.sums.into_iter();
        self.others
            .extend(sums.map(|(stack, sum)| ((stack, Facts::default()), sum)));
        self.others
    }
}

/// Which rows of a piece are added up.
#[derive(Clone, Copy)]
enum Which<'a> {
    /// Those that were not freed before an event.
    NotBefore(u64),
    /// Those that no group answers for.
    Undecided(&'a Undecided),
}

/// Adds up the rows of some pieces, of those that were not freed before an event. `state` is made anew for each piece, whose rows come in their order;
/// `judge` says what to add of a row, if anything.
pub(crate) fn tally<T: Tally, S, X>(
    heap: &Heap,
    pieces: &[Piece],
    not_before: u64,
    by: &Grouping,
    state: impl Fn() -> S + Sync,
    judge: impl Fn(&mut S, &Item) -> Option<X> + Sync,
    add: impl Fn(&mut T, &Item, X) + Sync,
) -> Tallies<T> {
    tally_some(heap, pieces, Which::NotBefore(not_before), by, state, judge, add)
}

fn tally_some<T: Tally, S, X>(
    heap: &Heap,
    pieces: &[Piece],
    which: Which<'_>,
    by: &Grouping,
    state: impl Fn() -> S + Sync,
    judge: impl Fn(&mut S, &Item) -> Option<X> + Sync,
    add: impl Fn(&mut T, &Item, X) + Sync,
) -> Tallies<T> {
    pieces
        .par_iter()
        .fold(
            || Sums::new(heap, by),
            |mut sums, piece| {
                let mut state = state();
                let mut see = |item: &Item| {
                    if let Some(found) = judge(&mut state, item) {
                        add(sums.of(heap, item), item, found);
                    }
                };
                match which {
                    Which::NotBefore(event) => heap.visit(piece, event, &mut see),
                    Which::Undecided(undecided) => undecided.visit(heap, piece, &mut see),
                }
                sums
            },
        )
        .map(Sums::finish)
        .reduce(Tallies::new, |a, b| {
            let (mut into, from) = if a.len() < b.len() { (b, a) } else { (a, b) };
            for (key, sum) in from {
                into.entry(key).or_default().merge(&sum);
            }
            into
        })
}

/// Adds up all rows: by the groups of alike ones that an index has where `judge_alike` can tell of them what `judge` tells of each row, and the others one by one.
pub(crate) fn tally_all<T: Tally, S, X>(
    heap: &Heap,
    query: &Query,
    judge_alike: impl Fn(&Alike) -> Option<X>,
    state: impl Fn() -> S + Sync,
    judge: impl Fn(&mut S, &Item) -> X + Sync,
    add: impl Fn(&mut T, Level, X) + Sync,
) -> Tallies<T> {
    let wanted = query.filter.rows(heap);
    let groups = query.by.groups();
    let by_thread = groups.contains(&Group::Thread) || groups.contains(&Group::Process);
    let ask = |alike: &Alike| match wanted.judge(alike)? {
        true if by_thread && !alike.has_thread() => None,
        true => judge_alike(alike).map(Some),
        false => Some(None),
    };
    let mut tallies = Tallies::new();
    let take = |alike: &Alike, found: Option<X>| {
        if let Some(found) = found {
            let item = alike.item();
            let facts = query.by.facts(&item, heap.catalog.process_of(item.thread));
            add(tallies.entry((item.stack, facts)).or_default(), alike.level, found);
        }
    };
    let undecided = match groups.contains(&Group::Size) {
        true => None,
        false => heap.sort_out(ask, take),
    };
    let (pieces, which) = match &undecided {
        Some(undecided) => (undecided.pieces(heap), Which::Undecided(undecided)),
        None => {
            tallies.clear();
            (heap.pieces(0..heap.allocations.len()), Which::NotBefore(0))
        }
    };
    let rows = tally_some(
        heap,
        &pieces,
        which,
        &query.by,
        state,
        |state, item| wanted.accepts(item).then(|| judge(state, item)),
        |sum, item, found| add(sum, heap.level(item), found),
    );
    for (key, sum) in rows {
        tallies.entry(key).or_default().merge(&sum);
    }
    tallies
}

/// Sums gathered under their keys, with the functions that are shown for them; the patterns of the filter are applied here, where names are known. `see`
/// is shown every sum that they accept, and may refuse it; `names_stacks` says that it looks at names.
pub(crate) fn gather_tallies<T: Tally>(
    heap: &Heap,
    tallies: &Tallies<T>,
    query: &Query,
    resolver: &dyn Resolver,
    names_stacks: bool,
    mut see: impl FnMut(&Names, StackIx, Facts, &T) -> bool,
) -> HashMap<Key, (T, Option<Text>)> {
    let filter = &query.filter;
    let needs_names = names_stacks || query.by.is_by_stack() || filter.has_patterns();
    let stacks = tallies.keys().map(|&(stack, _)| stack).filter(|_| needs_names);
    let names = Names::of(heap, resolver, query.view, stacks);
    let mut keys = Keys::new(heap, &names, query);
    let mut by_key: HashMap<Key, (T, Option<Text>)> = HashMap::new();
    for (&(stack, facts), tally) in tallies {
        let is_accepted = !filter.has_patterns() || is_accepted(heap, &names, filter, &mut keys.sites, stack);
        if !is_accepted || !see(&names, stack, facts, tally) {
            continue;
        }
        let (key, function) = keys.key(stack, facts);
        let (sum, shown) = by_key.entry(key).or_insert_with(|| (T::default(), function.clone()));
        sum.merge(tally);
        // One line can lie in several functions (templates, inlining): the choice must not hang on the order of a hash map.
        if function < *shown {
            *shown = function;
        }
    }
    by_key
}

/// A row of a report: what its blocks have in common, and what they add up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteRow<T: Serialize> {
    /// What its blocks have in common.
    #[serde(flatten, serialize_with = "key_fields")]
    pub key: Key,
    /// The function that is shown, where the key is a place in the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<Text>,
    /// What they add up to.
    #[serde(flatten)]
    pub sum: T,
}

/// Rows in their order, and what became of the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table<T: Serialize> {
    /// Everything.
    pub total: T,
    /// The first rows.
    pub rows: Vec<SiteRow<T>>,
    /// Rows that were left out.
    pub omitted_rows: usize,
    /// What they add up to.
    pub omitted: T,
}

/// The rows with the highest ranks, then keys; as many as are asked for (0 for all).
pub(crate) fn ranked<T: Tally + Serialize, R: Ord>(
    by_key: HashMap<Key, (T, Option<Text>)>,
    rank: impl Fn(&T) -> R,
    rows_wanted: usize,
) -> Table<T> {
    let mut total = T::default();
    let mut rows: Vec<SiteRow<T>> = Vec::with_capacity(by_key.len());
    for (key, (sum, function)) in by_key {
        total.merge(&sum);
        rows.push(SiteRow { key, function, sum });
    }
    rows.sort_unstable_by(|a, b| (rank(&b.sum), &b.key).cmp(&(rank(&a.sum), &a.key)));
    let kept = match rows_wanted {
        0 => rows.len(),
        wanted => wanted.min(rows.len()),
    };
    let mut omitted = T::default();
    rows[kept..].iter().for_each(|row| omitted.merge(&row.sum));
    let omitted_rows = rows.len() - kept;
    rows.truncate(kept);
    Table {
        total,
        rows,
        omitted_rows,
        omitted,
    }
}
