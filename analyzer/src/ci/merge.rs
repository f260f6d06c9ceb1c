//! Several runs of one program as one summary.

use super::{Amount, Samples, Site, SpanAmount, SpanSummary, Summary, ThreadSummary};
use crate::text::Text;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Runs that are not of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferentPrograms(pub Text, pub Text);

impl fmt::Display for DifferentPrograms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected runs of one program, found {} and {}", self.0, self.1)
    }
}

impl std::error::Error for DifferentPrograms {}

/// Puts summaries together: each number becomes a list of one number a run. What a run does not have counts as zero in it.
///
/// # Errors
/// When the runs are of different programs.
pub fn merge(parts: Vec<Summary>) -> Result<Summary, DifferentPrograms> {
    let mut parts = parts;
    let Some(first) = parts.first() else {
        return Ok(Summary::empty(Text::default(), 0));
    };
    if parts.len() == 1 {
        return Ok(parts.remove(0));
    }
    if let Some(other) = parts.iter().find(|part| part.program != first.program) {
        return Err(DifferentPrograms(first.program.clone(), other.program.clone()));
    }
    let runs: Vec<usize> = parts.iter().map(|part| part.runs).collect();
    let mut merged = Summary::empty(first.program.clone(), runs.iter().sum());
    let notes: BTreeSet<Text> = parts.iter().flat_map(|part| part.notes.iter().cloned()).collect();
    merged.excluded = first.excluded.clone();
    merged.notes = notes.into_iter().collect();
    merged.omitted_sites = parts.iter().map(|part| part.omitted_sites).max().unwrap_or(0);
    merged.omitted_at_most = parts.iter().map(|part| part.omitted_at_most).max().unwrap_or(0);

    let columns = Columns { runs: &runs };
    let totals = &mut merged.totals;
    let all = || parts.iter().map(|part| Some(&part.totals));
    totals.peak = columns.amount(all().map(|part| part.map(|totals| &totals.peak)));
    totals.end = columns.amount(all().map(|part| part.map(|totals| &totals.end)));
    totals.leaked = columns.amount(all().map(|part| part.map(|totals| &totals.leaked)));
    totals.allocated = columns.amount(all().map(|part| part.map(|totals| &totals.allocated)));
    totals.temporary = columns.samples(all().map(|part| part.map(|totals| &totals.temporary)));
    let has_rss = parts.iter().all(|part| part.totals.rss.is_some());
    totals.rss = has_rss.then(|| columns.samples(parts.iter().map(|part| part.totals.rss.as_ref())));

    merged.sites = columns.rows(
        &parts,
        |part| &part.sites,
        |site| site.key.clone(),
        |columns, key, found| {
            let best = found.iter().flatten().max_by_key(|site| site.allocated.size.highest());
            Site {
                key,
                line: best.map_or(0, |site| site.line),
                allocated: columns.of(&found, |site: &Site| &site.allocated),
                peak: columns.of(&found, |site| &site.peak),
                end: columns.of(&found, |site| &site.end),
                leaked: columns.of(&found, |site| &site.leaked),
                temporary: columns.samples(found.iter().map(|site| site.map(|site| &site.temporary))),
                stack: best.map_or(Vec::new(), |site| site.stack.clone()),
            }
        },
    );
    merged.threads = columns.rows(
        &parts,
        |part| &part.threads,
        |thread| thread.name.clone(),
        |columns, name, found| ThreadSummary {
            name,
            allocated: columns.of(&found, |thread: &ThreadSummary| &thread.allocated),
            leaked: columns.of(&found, |thread| &thread.leaked),
        },
    );
    merged.spans = columns.rows(
        &parts,
        |part| &part.spans,
        |span| span.name.clone(),
        |columns, name, found| {
            let warmup = found.iter().flatten().map(|span| span.warmup).max().unwrap_or(0);
            let has_growth = found.iter().all(|span| span.is_some_and(|span| span.growth.is_some()));
            SpanSummary {
                name,
                times: columns.samples(found.iter().map(|span| span.map(|span| &span.times))),
                warmup,
                allocated: columns.span(&found, |span: &SpanSummary| Some(&span.allocated)),
                peak: columns.span(&found, |span| Some(&span.peak)),
                left: columns.span(&found, |span| Some(&span.left)),
                growth: has_growth.then(|| columns.span(&found, |span| span.growth.as_ref())),
            }
        },
    );
    Ok(merged)
}

/// Makes one number out of each part's.
#[derive(Clone, Copy)]
struct Columns<'a> {
    /// Of each part.
    runs: &'a [usize],
}

impl Columns<'_> {
    fn samples<'a>(&self, parts: impl Iterator<Item = Option<&'a Samples>>) -> Samples {
        let values = parts.zip(self.runs).flat_map(|(part, &runs)| match part {
            Some(samples) => samples.values(runs),
            None => vec![0; runs],
        });
        Samples::new(values.collect())
    }

    fn amount<'a>(&self, parts: impl Iterator<Item = Option<&'a Amount>> + Clone) -> Amount {
        Amount {
            size: self.samples(parts.clone().map(|part| part.map(|amount| &amount.size))),
            count: self.samples(parts.map(|part| part.map(|amount| &amount.count))),
        }
    }

    fn of<T>(&self, found: &[Option<&T>], pick: impl Fn(&T) -> &Amount) -> Amount {
        self.amount(found.iter().map(|row| row.map(&pick)))
    }

    fn span(&self, found: &[Option<&SpanSummary>], pick: impl Fn(&SpanSummary) -> Option<&SpanAmount>) -> SpanAmount {
        let parts = found.iter().map(|span| span.and_then(&pick));
        let worst = parts.clone().flatten().max_by_key(|part| part.amount.size.highest());
        SpanAmount {
            sites: worst.map_or(Vec::new(), |part| part.sites.clone()),
            amount: self.amount(parts.map(|part| part.map(|part| &part.amount))),
        }
    }

    /// Rows of the same key side by side, in the order of keys.
    fn rows<'a, T: 'a, K: Ord, R>(
        &self,
        parts: &'a [Summary],
        rows: impl Fn(&'a Summary) -> &'a Vec<T>,
        key: impl Fn(&T) -> K,
        make: impl Fn(&Self, K, Vec<Option<&'a T>>) -> R,
    ) -> Vec<R> {
        let mut by_key: BTreeMap<K, Vec<Option<&'a T>>> = BTreeMap::new();
        for (index, part) in parts.iter().enumerate() {
            for row in rows(part) {
                by_key.entry(key(row)).or_insert_with(|| vec![None; parts.len()])[index] = Some(row);
            }
        }
        by_key.into_iter().map(|(key, found)| make(self, key, found)).collect()
    }
}
