//! `snapshot`, `leaks` and `tree`.

use super::args::{FilterArgs, LeaksArgs, QueryArgs, SnapshotArgs, Span, TreeArgs, UnitsArg};
use super::load::{self, check, filter, load, load_at, resolver, trust};
use super::output::print;
use super::Failure;
use crate::query::{self, Group, Grouping, Key, LeakQuery, Query, Statistics, TimeSpec};
use crate::report::{json, text_statistics, text_tree, TextOptions, Units};
use crate::symbols::{Sources, View};
use crate::table::{Heap, Moment};
use serde::Serialize;

/// A query of the command line.
pub(super) fn query_of(args: &QueryArgs) -> Result<Query, Failure> {
    Ok(Query {
        by: args.by.grouping()?,
        rows: args.rows,
        ..filter_query(&args.scope.filter)
    })
}

/// A query that only filters.
pub(super) fn filter_query(args: &FilterArgs) -> Query {
    let view = match (args.python, args.native) {
        (true, _) => View::Python,
        (_, true) => View::Native,
        _ => View::Merged,
    };
    Query {
        by: Grouping::default(),
        filter: filter(args),
        raw_frames: args.raw_frames,
        view,
        rows: 0,
    }
}

/// Refuses a question about types that the tape cannot answer.
pub(super) fn check_types(query: &Query, heap: &Heap) -> Result<(), Failure> {
    let asks_for_types = query.by.groups().contains(&Group::Type) || !query.filter.types.is_empty();
    if !asks_for_types || heap.catalog.types.len() > 1 {
        return Ok(());
    }
    let why = match heap.catalog.runtimes.iter().find(|runtime| !runtime.types) {
        Some(runtime) => format!(" ({}: {})", runtime.name, runtime.note),
        None => String::new(),
    };
    Err(Failure::Usage(format!(
        "{}: no types of objects are recorded in this tape{why}; they are those of Python's objects. Try --by function or --by size",
        heap.name
    )))
}

/// Finds the lines of the sources for what is going to be shown.
pub(super) fn find_sources<'a>(args: &QueryArgs, by: &Grouping, keys: impl Iterator<Item = &'a mut Key>) {
    if !args.source_root.is_empty() {
        let sources = Sources::new(args.source_root.clone());
        keys.for_each(|key| key.find_sources(by, &sources));
    }
}

/// How text is laid out.
pub(super) fn layout(args: &QueryArgs) -> TextOptions {
    TextOptions {
        units: units(&args.units),
        most_recent_first: args.most_recent_first,
    }
}

pub(super) fn units(args: &UnitsArg) -> Units {
    if args.bytes {
        Units::Bytes
    } else {
        Units::Binary
    }
}

/// Prints a report as JSON.
pub(super) fn print_json<R: Serialize>(kind: &str, report: &R, notes: &[String]) -> Result<(), Failure> {
    print(&json(kind, report, notes).map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))?)
}

pub(super) fn snapshot(args: &SnapshotArgs) -> Result<(), Failure> {
    let query = query_of(&args.query)?;
    let (heap, moment) = load_at(&args.tape, TimeSpec::End, &args.query.scope.reading)?;
    let notes = check(&heap, &args.query.scope.reading)?;
    check_types(&query, &heap)?;
    let report = query::snapshot(&heap, &moment, &query, &*resolver(&args.query.scope.symbols));
    trust(&heap)?;
    show(&args.query, "snapshot", "at", report, &notes)
}

pub(super) fn leaks(args: &LeaksArgs) -> Result<(), Failure> {
    let query = query_of(&args.query)?;
    let heap = load(&args.tape, &args.query.scope.reading.place())?;
    let notes = check(&heap, &args.query.scope.reading)?;
    let (born_from, born_until) = match &args.born {
        Some(span) => {
            let (from, until) = resolve(span, &heap)?;
            (Some(from), Some(until))
        }
        None => (None, None),
    };
    let alive_at = args
        .alive_at
        .as_ref()
        .map(|time| load::resolve(time, &heap))
        .transpose()?;
    let which = LeakQuery {
        born_from,
        born_until,
        alive_at,
    };
    check_types(&query, &heap)?;
    let report = query::leaks(&heap, &which, &query, &*resolver(&args.query.scope.symbols));
    trust(&heap)?;
    let title = if which.alive_at.is_some() {
        "still alive at"
    } else {
        "never freed up to"
    };
    show(&args.query, "leaks", title, report, &notes)
}

/// The ends of a span, in their order.
pub(super) fn resolve(span: &Span, heap: &Heap) -> Result<(Moment, Moment), Failure> {
    let (from, until) = (load::resolve(&span.from, heap)?, load::resolve(&span.until, heap)?);
    if from.cut > until.cut {
        return Err(Failure::Usage("the span A..B ends before it begins".to_owned()));
    }
    Ok((from, until))
}

fn show(args: &QueryArgs, kind: &str, title: &str, mut report: Statistics, notes: &[String]) -> Result<(), Failure> {
    find_sources(args, &report.by, report.rows.iter_mut().map(|row| &mut row.key));
    if args.json {
        print_json(kind, &report, notes)
    } else {
        print(&text_statistics(&report, title, layout(args)))
    }
}

pub(super) fn tree(args: &TreeArgs) -> Result<(), Failure> {
    if !(0.0..=100.0).contains(&args.least) {
        return Err(Failure::Usage(format!(
            "--least {}: expected percent, 0 to 100",
            args.least
        )));
    }
    let (heap, moment) = load_at(&args.tape, TimeSpec::End, &args.scope.reading)?;
    let notes = check(&heap, &args.scope.reading)?;
    let query = Query {
        rows: args.rows,
        ..filter_query(&args.scope.filter)
    };
    check_types(&query, &heap)?;
    let least = (args.least * 10_000.0) as u32;
    let tree = query::tree(
        &heap,
        &moment,
        &query,
        least,
        args.depth,
        &*resolver(&args.scope.symbols),
    );
    trust(&heap)?;
    if args.json {
        print_json("tree", &tree, &notes)
    } else {
        print(&text_tree(
            &tree,
            TextOptions {
                units: units(&args.units),
                most_recent_first: false,
            },
        ))
    }
}
