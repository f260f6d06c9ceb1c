//! `arenas`.

use super::args::{grouping, ArenasArgs, By};
use super::load::{check, load_at, resolver_of, trust};
use super::output::print;
use super::stats::{check_question, print_json, units};
use super::Failure;
use crate::query::{self, Grouping, Query, TimeSpec};
use crate::report::text_arenas;

pub(super) fn arenas(args: &ArenasArgs) -> Result<(), Failure> {
    if args.below > 100 {
        return Err(Failure::Usage(format!(
            "--below {}: expected percent, 0 to 100",
            args.below
        )));
    }
    let (heap, moment) = load_at(&args.tape, TimeSpec::End, &args.reading)?;
    let notes = check(&heap, &args.reading)?;
    let by = match &args.by[..] {
        [] if heap.catalog.types.len() > 1 => grouping(&[By::Type, By::Line])?,
        [] => Grouping::default(),
        by => grouping(by)?,
    };
    let query = Query {
        by,
        rows: args.rows,
        ..Query::default()
    };
    check_question(&query, &heap)?;
    let report = query::arenas(
        &heap,
        &moment,
        args.below,
        &query,
        &*resolver_of(&args.symbols, &args.reading)?,
    );
    trust(&heap)?;
    if args.json {
        print_json("arenas", &report, &notes)
    } else {
        print(&text_arenas(&report, units(&args.units)))
    }
}
