//! Spans: what a piece of work that is marked at its beginning and its end takes and leaves behind.
//!
//! A span is told by two markers of one process, `NAME:begin` and `NAME:end`. To it belong the blocks that its process allocates between them; if
//! spans of that name come from several threads, those that its own thread allocates, since the others' may be of another span at the same time.

use super::by_site::{type_name, BySite};
use super::naming::Naming;
use super::site::{narrow, one_line};
use super::stretch::{Spans, Stretch};
use super::{Amount, Frame, Samples, SiteKey};
use crate::table::{Heap, Item, Level};
use crate::tape::StackIx;
use crate::text::Text;
use heaptape_format::{ProcessIx, TypeIx};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// What one site has part in a span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanSite {
    /// Which.
    pub key: SiteKey,
    /// Its line in the file; 0 when not known.
    pub line: u32,
    /// How much.
    pub level: Level,
    /// The stack that allocated most of it, from the site outwards.
    pub stack: Vec<Frame>,
}

/// An amount with the sites that it is made of, largest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpanAmount {
    /// How much; the worst of all times.
    #[serde(flatten)]
    pub amount: Amount,
    /// Of the run and the time that were the worst. They are not kept in a file.
    #[serde(skip)]
    pub sites: Vec<SpanSite>,
}

/// All spans of one name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpanSummary {
    /// Their name.
    pub name: Text,
    /// How many there were.
    pub times: Samples,
    /// How many of them, at the beginning, do not count.
    pub warmup: u64,
    /// Allocated in one.
    #[serde(serialize_with = "one_line")]
    pub allocated: SpanAmount,
    /// The most that was alive within one of what was born in it.
    #[serde(serialize_with = "one_line")]
    pub peak: SpanAmount,
    /// Born in one and alive when it ended.
    #[serde(serialize_with = "one_line")]
    pub left: SpanAmount,
    /// Born in one and alive when the last one ended, on average. Not told when fewer than two could be counted beside the last.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "one_line")]
    pub growth: Option<SpanAmount>,
}

impl SpanSummary {
    pub(super) fn amounts(&mut self) -> Vec<&mut Amount> {
        let parts = [&mut self.allocated, &mut self.peak, &mut self.left];
        let parts = parts.into_iter().chain(self.growth.as_mut());
        parts.map(|part| &mut part.amount).collect()
    }
}

/// Calls a function with every row of some set.
type Walk<'a> = dyn Fn(&mut dyn FnMut(&Item)) + 'a;

/// Fewest spans of a process of which an average says something: two, and the last that tells what of them stayed.
const FEWEST: usize = 3;

/// Measures all spans of a name. Of several the worst counts; `warmup` are left out at the beginning of each process.
pub(super) fn measure(
    heap: &Heap,
    marked: &Spans<'_>,
    name: &str,
    all: &[Stretch],
    warmup: Option<u64>,
    naming: &mut Naming<'_>,
) -> SpanSummary {
    let warmup = warmup.unwrap_or(u64::from(all.len() > 2));
    let mut by_process: BTreeMap<ProcessIx, Vec<Stretch>> = BTreeMap::new();
    for stretch in all {
        by_process.entry(stretch.process).or_default().push(*stretch);
    }
    for spans in by_process.values_mut() {
        let skipped = (warmup as usize).min(spans.len());
        spans.drain(..skipped);
    }
    let counted: Vec<Stretch> = by_process.values().flatten().copied().collect();
    let mut summary = SpanSummary {
        name: Text::new(name),
        times: Samples::from(all.len() as u64),
        warmup,
        ..SpanSummary::default()
    };
    let worst = |level: &dyn Fn(&Stretch) -> Level| -> Option<(Level, Stretch)> {
        let measured = counted.iter().map(|stretch| (level(stretch), *stretch));
        // The first of those that are equal.
        measured.reduce(|best, next| if next.0 > best.0 { next } else { best })
    };
    let alive_at_end = |stretch: &Stretch| {
        let mut level = Level::default();
        marked.survivors(stretch, stretch.end, |item| level.add(heap.level(item)));
        level
    };
    let mut part = |level: Level, collect: &Walk<'_>| SpanAmount {
        amount: Amount::from(level),
        sites: span_sites(heap, naming, collect),
    };
    if let Some((level, ref stretch)) = worst(&|stretch| marked.allocated(stretch)) {
        summary.allocated = part(level, &|visit| marked.survivors(stretch, stretch.begin, visit));
    }
    if let Some((level, ref stretch)) = worst(&|stretch| marked.peak(stretch).1) {
        let (cut, _) = marked.peak(stretch);
        let born = heap.allocations.born_before(cut);
        summary.peak = part(level, &|visit| {
            marked.survivors(stretch, cut, |item| {
                if (item.row as usize) < born {
                    visit(item);
                }
            });
        });
    }
    if let Some((level, ref stretch)) = worst(&alive_at_end) {
        summary.left = part(level, &|visit| marked.survivors(stretch, stretch.end, visit));
    }
    let growing: Vec<&Vec<Stretch>> = by_process.values().filter(|spans| spans.len() >= FEWEST).collect();
    let times: u64 = growing.iter().map(|spans| spans.len() as u64 - 1).sum();
    if times > 0 {
        let stayed = |visit: &mut dyn FnMut(&Item)| {
            for spans in &growing {
                if let Some((last, before)) = spans.split_last() {
                    before
                        .iter()
                        .for_each(|stretch| marked.survivors(stretch, last.end, &mut *visit));
                }
            }
        };
        let mut sum = Level::default();
        stayed(&mut |item| sum.add(heap.level(item)));
        let each = |sum: Level| Level {
            size: (sum.size + u128::from(times / 2)) / u128::from(times),
            count: (sum.count + times / 2) / times,
        };
        let mean = each(sum);
        let mut growth = part(mean, &stayed);
        for site in &mut growth.sites {
            site.level = each(site.level);
        }
        summary.growth = Some(growth);
    }
    summary
}

fn span_sites(heap: &Heap, naming: &mut Naming<'_>, collect: &Walk<'_>) -> Vec<SpanSite> {
    let mut by_stack: HashMap<(StackIx, TypeIx), Level> = HashMap::new();
    collect(&mut |item| {
        by_stack
            .entry((item.stack, item.kind))
            .or_default()
            .add(heap.level(item))
    });
    let mut by_site: BySite<Level> = BySite::new();
    for ((stack, kind), level) in by_stack {
        let named = naming.name(stack);
        by_site.add(&named, type_name(heap, kind), level.size, |sum| sum.add(level));
    }
    let made = by_site.0.into_iter().map(|(key, mut found)| SpanSite {
        key,
        line: found.line,
        level: found.sum,
        stack: found.heaviest(),
    });
    let mut sites: Vec<SpanSite> = made.collect();
    sites.sort_by(|a, b| {
        narrow(b.level.size)
            .cmp(&narrow(a.level.size))
            .then_with(|| a.key.cmp(&b.key))
    });
    sites
}
