//! `export`.

use super::args::{ExportArgs, Format};
use super::load::{check, load_at, resolver, trust};
use super::output::{write, wrote};
use super::stats::{check_question, filter_query};
use super::Failure;
use crate::query::{self, Measure, Query, Span, TimeSpec};
use crate::report::{csv_statistics, folded, json};

pub(super) fn export(args: &ExportArgs) -> Result<(), Failure> {
    let query = Query {
        by: args.by.grouping()?,
        ..filter_query(&args.scope.filter)
    };
    let (heap, moment) = load_at(&args.tape, TimeSpec::End, &args.scope.reading)?;
    let notes = check(&heap, &args.scope.reading)?;
    check_question(&query, &heap)?;
    let resolver = resolver(&args.scope)?;
    let statistics = || query::snapshot(&heap, &moment, &query, &*resolver);
    let text = match args.format {
        Format::Folded => folded(
            &query::flame(&heap, &Span::At(moment), &query, &*resolver),
            Measure::Bytes,
        ),
        Format::Json => json("snapshot", &statistics(), &notes)
            .map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))?,
        Format::Csv => csv_statistics(&statistics()),
    };
    trust(&heap)?;
    write(&args.output, text.as_bytes(), args.force)?;
    wrote(&args.output);
    Ok(())
}
