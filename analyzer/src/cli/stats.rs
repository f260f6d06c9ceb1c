//! `snapshot`, `leaks` and `tree`.

use super::args::{FilterArgs, LeaksArgs, QueryArgs, SnapshotArgs, Span, TreeArgs, UnitsArg};
use super::load::{self, check, filter, load, load_at, resolver, trust};
use super::output::print;
use super::Failure;
use crate::query::{
    self, Group, Grouping, Key, LeakQuery, Measured, Query, Statistics, Suppressions, Table, TapeTime, TimeSpec,
};
use crate::report::{json, text_statistics, text_tree, TextOptions, Units};
use crate::symbols::{Sources, View};
use crate::table::{Heap, Moment};
use crate::tape::Tape;
use crate::text::escape_message;
use serde::Serialize;
use std::path::Path;

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

/// Refuses a question that the tape cannot answer: about types, or about spans that it does not have.
pub(super) fn check_question(query: &Query, heap: &Heap) -> Result<(), Failure> {
    for (from, until) in query.filter.only.born.iter().chain(&query.filter.without.born) {
        let span = Span {
            from: from.clone(),
            until: until.clone(),
        };
        resolve_births(&span, heap)?;
    }
    if query.filter.asks_for_lives_in(Measured::Bytes) {
        check_measure(Measured::Bytes, heap)?;
    }
    let asks_for_types = query.by.groups().contains(&Group::Type) || query.filter.asks_for_types();
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

/// Refuses to measure lives in what the tape does not know any more: of a folded span, the bytes that were freed in it.
pub(super) fn check_measure(measured: Measured, heap: &Heap) -> Result<(), Failure> {
    if measured != Measured::Bytes || heap.catalog.folded.is_none() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{}; so bytes allocated during a life that began before are not known: give lifetimes in events (#100) or time (250ms)",
        heap.history()
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
    if args.freed {
        return freed(args, &query);
    }
    let (heap, moment) = load_at(&args.tape, TimeSpec::End, &args.query.scope.reading)?;
    let notes = check(&heap, &args.query.scope.reading)?;
    check_question(&query, &heap)?;
    let report = query::snapshot(&heap, &moment, &query, &*resolver(&args.query.scope)?);
    trust(&heap)?;
    show(&args.query, "snapshot", "at", report, &notes)
}

/// The totals by stack of a folded span.
fn freed(args: &SnapshotArgs, query: &Query) -> Result<(), Failure> {
    let TapeTime { file, time } = load::parse(&args.tape)?;
    if time.is_some() {
        return Err(Failure::Usage(
            "--freed is of all that was before full history begins; expected a tape without an instant".to_owned(),
        ));
    }
    if !query::is_of_stacks(query) {
        return Err(Failure::Usage(
            "--freed knows stacks and nothing else of what was freed; expected --by line, file, function, coroutine, library or traceback, and rules about frames".to_owned(),
        ));
    }
    let heap = load(&file, &args.query.scope.reading.place())?;
    let mut notes = check(&heap, &args.query.scope.reading)?;
    let (report, others) = query::freed(&heap, &Tape::open(&file)?, query, &*resolver(&args.query.scope)?)?;
    trust(&heap)?;
    let more = (others.count > 0).then(|| {
        format!(
            "{}: {} more block(s) of {} bytes in all were freed, of stacks that were not kept apart",
            heap.name, others.count, others.size
        )
    });
    let sampled = heap.scale.is_estimate().then(|| {
        format!(
            "{}: of what was freed before full history begins these are the sampled blocks themselves, no estimates of all",
            heap.name
        )
    });
    for note in more.into_iter().chain(sampled) {
        anstream::eprintln!("warning: {}", escape_message(&note));
        notes.push(note);
    }
    show(&args.query, "freed", "freed before", report, &notes)
}

pub(super) fn leaks(args: &LeaksArgs) -> Result<(), Failure> {
    let query = query_of(&args.query)?;
    let heap = load(&args.tape, &args.query.scope.reading.place())?;
    let notes = check(&heap, &args.query.scope.reading)?;
    let (born_from, born_until) = match &args.query.scope.filter.born {
        Some(span) => {
            let (from, until) = resolve_births(span, &heap)?;
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
        suppressions: suppressions(args.suppressions.as_deref())?,
    };
    check_question(&query, &heap)?;
    let report = query::leaks(&heap, &which, &query, &*resolver(&args.query.scope)?);
    trust(&heap)?;
    let title = if which.alive_at.is_some() {
        "still alive at"
    } else {
        "never freed up to"
    };
    show(&args.query, "leaks", title, report, &notes)
}

/// What a file of suppressions says; nothing without one.
fn suppressions(path: Option<&Path>) -> Result<Suppressions, Failure> {
    let Some(path) = path else {
        return Ok(Suppressions::default());
    };
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| Failure::Failed(format!("cannot read {shown}: {error}")))?;
    Suppressions::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| Failure::Usage(format!("{shown}, {error}")))
}

/// The ends of a span, in their order.
pub(super) fn resolve(span: &Span, heap: &Heap) -> Result<(Moment, Moment), Failure> {
    in_order((load::resolve(&span.from, heap)?, load::resolve(&span.until, heap)?))
}

/// The ends of a span in which something was born that is asked about later.
fn resolve_births(span: &Span, heap: &Heap) -> Result<(Moment, Moment), Failure> {
    let (from, until) = (span.from.resolve_birth(heap), span.until.resolve_birth(heap));
    trust(heap)?;
    in_order((from?, until?))
}

fn in_order((from, until): (Moment, Moment)) -> Result<(Moment, Moment), Failure> {
    if from.cut > until.cut {
        return Err(Failure::Usage("the span A..B ends before it begins".to_owned()));
    }
    Ok((from, until))
}

pub(super) fn show(
    args: &QueryArgs,
    kind: &str,
    title: &str,
    mut report: Statistics,
    notes: &[String],
) -> Result<(), Failure> {
    find_sources(args, &report.by, report.rows.iter_mut().map(|row| &mut row.key));
    if args.json {
        print_json(kind, &report, notes)
    } else {
        print(&text_statistics(&report, title, layout(args)))
    }
}

/// The same for a report that is one table of sites.
pub(super) fn show_table<R: Serialize, T: Serialize>(
    args: &QueryArgs,
    kind: &str,
    mut report: R,
    table: impl Fn(&mut R) -> &mut Table<T>,
    text: impl Fn(&R, TextOptions) -> String,
    notes: &[String],
) -> Result<(), Failure> {
    let keys = table(&mut report).rows.iter_mut().map(|row| &mut row.key);
    find_sources(args, &args.by.grouping()?, keys);
    if args.json {
        print_json(kind, &report, notes)
    } else {
        print(&text(&report, layout(args)))
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
    check_question(&query, &heap)?;
    let least = (args.least * 10_000.0) as u32;
    let tree = query::tree(&heap, &moment, &query, least, args.depth, &*resolver(&args.scope)?);
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
