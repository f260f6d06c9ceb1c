//! What changed between two instants, of one tape or of two.

use super::cells::{sum_live, sum_older, Cell};
use super::stats::{gather, key_fields};
use super::tally::Tally;
use super::{Grouping, Instant, Key, Query, TypeShare};
use crate::symbols::Resolver;
use crate::table::{Heap, Level, Moment, Spread};
use crate::text::Text;
use hashbrown::HashMap;
use serde::Serialize;

/// One row: the newer state, and its difference from the older.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiffRow {
    /// What its blocks have in common.
    #[serde(flatten, serialize_with = "key_fields")]
    pub key: Key,
    /// The function that is shown, where the key is a place in the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<Text>,
    /// Bytes in the newer state.
    pub size: u128,
    /// Bytes more than in the older one.
    pub size_diff: i128,
    /// Blocks in the newer state.
    pub count: u64,
    /// Blocks more than in the older one.
    pub count_diff: i64,
    /// Of estimates from samples: the standard error of the difference in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<u128>,
}

/// Rows and their sums.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiffReport {
    /// The tape of the older state.
    pub old_tape: Text,
    /// The older instant.
    pub old: Instant,
    /// The tape of the newer state.
    pub new_tape: Text,
    /// The newer instant.
    pub new: Instant,
    /// What rows are made of.
    pub by: Grouping,
    /// Everything in the older state that the filter accepts.
    pub old_total: Level,
    /// Everything in the newer state that the filter accepts.
    pub new_total: Level,
    /// Of estimates from samples: the standard error of the difference of their bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<u128>,
    /// By type: how much of the older and the newer state has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types: Option<[TypeShare; 2]>,
    /// Address space mapped in the older and the newer state; never part of the totals.
    pub mapped: [Level; 2],
    /// Largest change first, as tracemalloc sorts: by |size difference|, size, |count difference|, count and key, all falling.
    pub rows: Vec<DiffRow>,
    /// Rows that were left out.
    pub omitted_rows: usize,
    /// Their change in bytes.
    pub omitted_size_diff: i128,
}

/// Compares two states. Rows of two tapes are joined by what is shown of them (file and line, function), never by address.
pub fn diff(old: (&Heap, &Moment), new: (&Heap, &Moment), query: &Query, resolver: &dyn Resolver) -> DiffReport {
    let groups = |(heap, moment): (&Heap, &Moment)| {
        gather(heap, &sum_live(heap, moment, &query.filter, &query.by), query, resolver)
    };
    let mut old_groups = groups(old);
    let new_groups = groups(new);
    let types = old_groups.types.zip(new_groups.types);
    let mut rows = Vec::with_capacity(new_groups.by_key.len());
    let (mut old_total, mut new_total) = (Cell::default(), Cell::default());
    let both = both_have(old, new, query, resolver);
    let mut both_total = Spread::default();
    let is_estimate = old.0.scale.is_estimate() || new.0.scale.is_estimate();
    let error = |old: &Cell, new: &Cell, both: Spread| {
        let mut spread = old.spread;
        spread.join(new.spread);
        is_estimate.then(|| spread.without_both(both).standard_error())
    };
    let mut compare = |key: Key, function: Option<Text>, before: Cell, after: Cell| {
        old_total.merge(&before);
        new_total.merge(&after);
        let both = both.get(&key).map(|(cell, _)| cell.spread).unwrap_or_default();
        both_total.join(both);
        let standard_error = error(&before, &after, both);
        rows.push(DiffRow {
            key,
            function,
            size: after.all.size,
            size_diff: after.all.size as i128 - before.all.size as i128,
            count: after.all.count,
            count_diff: after.all.count as i64 - before.all.count as i64,
            standard_error,
        });
    };
    for (key, (after, function)) in new_groups.by_key {
        let before = old_groups.by_key.remove(&key).map(|(cell, _)| cell).unwrap_or_default();
        compare(key, function, before, after);
    }
    for (key, (before, function)) in old_groups.by_key {
        compare(key, function, before, Cell::default());
    }
    rows.sort_unstable_by(|a, b| {
        let rank = |row: &DiffRow| {
            (
                row.size_diff.unsigned_abs(),
                row.size,
                row.count_diff.unsigned_abs(),
                row.count,
            )
        };
        (rank(b), &b.key).cmp(&(rank(a), &a.key))
    });
    let kept = if query.rows == 0 {
        rows.len()
    } else {
        query.rows.min(rows.len())
    };
    let omitted_size_diff = rows[kept..].iter().map(|row| row.size_diff).sum();
    let omitted_rows = rows.len() - kept;
    rows.truncate(kept);
    let mapped = |(heap, moment): (&Heap, &Moment)| super::snapshot::mapped_level(heap, moment);
    DiffReport {
        old_tape: old.0.name.clone(),
        old: Instant::of(old.0, old.1),
        new_tape: new.0.name.clone(),
        new: Instant::of(new.0, new.1),
        by: query.by.clone(),
        old_total: old_total.all,
        new_total: new_total.all,
        standard_error: error(&old_total, &new_total, both_total),
        types: types.map(<[TypeShare; 2]>::from),
        mapped: [mapped(old), mapped(new)],
        rows,
        omitted_rows,
        omitted_size_diff,
    }
}

/// The blocks that both states of one tape have, if it is of a sample.
fn both_have(
    old: (&Heap, &Moment),
    new: (&Heap, &Moment),
    query: &Query,
    resolver: &dyn Resolver,
) -> HashMap<Key, (Cell, Option<Text>)> {
    if !std::ptr::eq(old.0, new.0) || !old.0.scale.is_estimate() {
        return HashMap::new();
    }
    let (first, last) = match old.1.cut < new.1.cut {
        true => (old.1, new.1),
        false => (new.1, old.1),
    };
    let cells = sum_older(new.0, last, first, &query.filter, &query.by);
    gather(new.0, &cells, query, resolver).by_key
}
