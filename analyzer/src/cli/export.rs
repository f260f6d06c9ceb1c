//! `export`.

use super::args::{ExportArgs, Format};
use super::load::{check, load_at, resolver};
use super::output::{write, wrote};
use super::stats::filter_query;
use super::Failure;
use crate::query::{self, Group, Measure, Span, TimeSpec};
use crate::report::{csv_statistics, folded, json};

pub(super) fn export(args: &ExportArgs) -> Result<(), Failure> {
    let group = args.by.group()?;
    let (heap, moment) = load_at(&args.tape, TimeSpec::End)?;
    let notes = check(&heap, &args.scope.strict)?;
    let resolver = resolver(&args.scope.symbols);
    let statistics = || query::snapshot(&heap, &moment, &filter_query(&args.scope.filter, group, 0), &*resolver);
    let text = match args.format {
        Format::Folded => {
            let query = filter_query(&args.scope.filter, Group::Traceback, 0);
            folded(
                &query::flame(&heap, &Span::At(moment), &query, &*resolver),
                Measure::Bytes,
            )
        }
        Format::Json => json("snapshot", &statistics(), &notes)
            .map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))?,
        Format::Csv => csv_statistics(&statistics()),
    };
    write(&args.output, text.as_bytes(), args.force)?;
    wrote(&args.output);
    Ok(())
}
