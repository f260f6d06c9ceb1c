//! What one run came to.

use super::by_site::{type_name, BySite};
use super::left_out::LeftOut;
use super::naming::Naming;
use super::span;
use super::stretch::Spans;
use super::{rss, Paths, Samples, Site, SpanRule, Summary, ThreadSummary, Totals};
use crate::query::Pattern;
use crate::symbols::{Names, Resolver, View};
use crate::table::{Heap, Item, Level, Moment, Sweep, NEVER};
use crate::tape::StackIx;
use crate::text::Text;
use heaptape_format::TypeIx;
use std::collections::{BTreeMap, HashMap, HashSet};

/// How a run is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Paths as they are to be kept.
    pub paths: &'a Paths,
    /// Only spans that one of these is about, with its warm-up; `None`: all, without the first if there are more than two.
    pub rules: Option<&'a [SpanRule]>,
    /// Whether only the spans are asked about: totals, sites and threads stay empty.
    pub spans_only: bool,
    /// What has a frame in its stack that matches one of these is left out.
    pub exclude: &'a [Pattern],
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    allocated: Level,
    peak: Level,
    end: Level,
    leaked: Level,
    temporary: u64,
}

impl Cell {
    fn merge(&mut self, other: &Cell) {
        self.allocated.add(other.allocated);
        self.peak.add(other.peak);
        self.end.add(other.end);
        self.leaked.add(other.leaked);
        self.temporary += other.temporary;
    }
}

/// A thread's latest block: where it was counted, its death, and what it counts for.
type Latest = ((StackIx, TypeIx), u64, u64);

/// Cells by stack and type.
type Cells = HashMap<(StackIx, TypeIx), Cell, hashbrown::DefaultHashBuilder>;

/// Measures a run.
pub fn measure(heap: &Heap, wanted: &Wanted<'_>, resolver: &dyn Resolver) -> Summary {
    let mut summary = Summary::empty(program(heap), 1);
    summary.excluded = wanted
        .exclude
        .iter()
        .map(|pattern| Text::new(&pattern.to_string()))
        .collect();
    let left_out = LeftOut::of(heap, resolver, wanted.exclude);
    let peak = match left_out.is_empty() {
        true => heap.peak(),
        false => peak_without(heap, &left_out),
    };
    let marked = Spans::of(heap, &left_out);
    let is_wanted = |name: &str| {
        wanted
            .rules
            .is_none_or(|rules| rules.iter().any(|rule| rule.is_about(name)))
    };
    let (cells, threads) = match wanted.spans_only {
        true => Default::default(),
        false => sum(heap, &left_out, peak.map(|(moment, _)| moment)),
    };
    let mut stacks: HashSet<StackIx> = cells.keys().map(|&(stack, _)| stack).collect();
    if wanted.spans_only {
        let spans = marked
            .by_name
            .iter()
            .filter(|(name, _)| is_wanted(name))
            .flat_map(|(_, spans)| spans);
        spans.for_each(|stretch| marked.survivors(stretch, stretch.begin, |item| stacks.extend([item.stack])));
    }
    let names = Names::of(heap, resolver, View::Merged, stacks);
    let mut naming = Naming::new(heap, &names, wanted.paths);

    if !wanted.spans_only {
        summary.totals = totals(heap, &cells, peak.map_or(Level::default(), |(_, level)| level));
        summary.sites = sites(heap, cells, &mut naming);
        summary.threads = threads_by_name(heap, &threads);
    }
    for (name, spans) in marked.by_name.iter().filter(|(name, _)| is_wanted(name)) {
        let rule = wanted
            .rules
            .and_then(|rules| rules.iter().find(|rule| rule.is_about(name)));
        let warmup = rule.and_then(|rule| rule.warmup);
        summary
            .spans
            .push(span::measure(heap, &marked, name, spans, warmup, &mut naming));
    }
    summary
}

/// As [`Heap::peak`].
fn peak_without(heap: &Heap, left_out: &LeftOut) -> Option<(Moment, Level)> {
    let (event, level) = Sweep::new(heap, |item| !left_out.has(item.stack)).peak()?;
    Some((heap.after(event), level))
}

fn totals(heap: &Heap, cells: &Cells, peak: Level) -> Totals {
    let mut all = Cell::default();
    cells.values().for_each(|cell| all.merge(cell));
    Totals {
        peak: peak.into(),
        end: all.end.into(),
        leaked: all.leaked.into(),
        allocated: all.allocated.into(),
        temporary: all.temporary.into(),
        rss: rss::highest(heap).map(Samples::from),
    }
}

/// The program's file name; of an interpreter with its script, so that one is not taken for another.
fn program(heap: &Heap) -> Text {
    let command: Vec<Text> = heap
        .catalog
        .header
        .command
        .iter()
        .map(|word| Text::from_bytes(word))
        .collect();
    let Some(first) = command.first().map(|word| word.basename().to_owned()) else {
        return Text::new("[unknown]");
    };
    let Some(version) = first.strip_prefix("python") else {
        return Text::new(without_hash(&first));
    };
    if !version.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Text::new(&first);
    }
    let mut words = command[1..].iter();
    let script = words.find_map(|word| match word.as_str() {
        "-m" | "-c" => Some(word.as_str().to_owned()),
        word if word.starts_with('-') => None,
        _ => Some(word.basename().to_owned()),
    });
    match script.as_deref() {
        Some("-m") => Text::new(&format!("python -m {}", words.next().map_or("", Text::as_str))),
        Some(script) => Text::new(&format!("python {script}")),
        None => Text::new("python"),
    }
}

/// The name of a test program as cargo builds it, without the hash that differs from build to build.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((kept, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => kept,
        _ => name,
    }
}

/// One walk over all rows in the order of their births, which tells what is temporary: what dies before its thread's next birth.
fn sum(heap: &Heap, left_out: &LeftOut, peak: Option<Moment>) -> (Cells, Vec<Cell>) {
    let mut cells = Cells::default();
    let unknown = heap.catalog.threads.len();
    let mut threads = vec![Cell::default(); unknown + 1];
    let mut latest: Vec<Option<Latest>> = vec![None; unknown + 1];
    let end = heap.end();
    let born_at_peak = peak.map_or(0, |moment| heap.allocations.born_before(moment.cut));
    for piece in heap.pieces(0..heap.allocations.len()) {
        heap.visit(&piece, 0, |item: &Item| {
            let level = heap.level(item);
            let thread = (item.thread.get() as usize).min(unknown);
            let birth = heap.allocations.birth(item.row as usize).get();
            let key = (item.stack, item.kind);
            if let Some((key, death, count)) = latest[thread].replace((key, item.death, level.count)) {
                if death < birth && !left_out.has(key.0) {
                    cells.entry(key).or_default().temporary += count;
                }
            }
            if left_out.has(item.stack) {
                return;
            }
            let cell = cells.entry(key).or_default();
            for cell in [cell, &mut threads[thread]] {
                cell.allocated.add(level);
                if item.death == NEVER.get() {
                    cell.leaked.add(level);
                }
                if item.death >= end.cut.get() && heap.is_home_alive(item.thread, &end) {
                    cell.end.add(level);
                }
                if let Some(peak) = peak.filter(|_| (item.row as usize) < born_at_peak) {
                    if item.death >= peak.cut.get() && heap.is_home_alive(item.thread, &peak) {
                        cell.peak.add(level);
                    }
                }
            }
        });
    }
    for (key, death, count) in latest.into_iter().flatten() {
        if death != NEVER.get() && !left_out.has(key.0) {
            cells.entry(key).or_default().temporary += count;
        }
    }
    (cells, threads)
}

fn sites(heap: &Heap, cells: Cells, naming: &mut Naming<'_>) -> Vec<Site> {
    let mut by_site: BySite<Cell> = BySite::new();
    for ((stack, kind), cell) in cells {
        let named = naming.name(stack);
        by_site.add(&named, type_name(heap, kind), cell.allocated.size, |sum| {
            sum.merge(&cell)
        });
    }
    let made = by_site.0.into_iter().map(|(key, mut found)| Site {
        key,
        line: found.line,
        allocated: found.sum.allocated.into(),
        peak: found.sum.peak.into(),
        end: found.sum.end.into(),
        leaked: found.sum.leaked.into(),
        temporary: found.sum.temporary.into(),
        stack: found.heaviest(),
    });
    made.collect()
}

fn threads_by_name(heap: &Heap, threads: &[Cell]) -> Vec<ThreadSummary> {
    let mut by_name: BTreeMap<&str, Cell> = BTreeMap::new();
    for (index, cell) in threads.iter().enumerate().filter(|(_, cell)| cell.allocated.count > 0) {
        let name = match heap.catalog.threads.get(index) {
            None => "[unknown]",
            Some(info) if info.name.as_str().is_empty() => "(unnamed)",
            Some(info) => info.name.as_str(),
        };
        by_name.entry(name).or_default().merge(cell);
    }
    let made = by_name.into_iter().map(|(name, cell)| ThreadSummary {
        name: Text::new(name),
        allocated: cell.allocated.into(),
        leaked: cell.leaked.into(),
    });
    made.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_program_is_called_the_same_in_every_build() {
        assert_eq!(without_hash("parser-0123456789abcdef"), "parser");
        assert_eq!(without_hash("my-service"), "my-service");
    }
}
