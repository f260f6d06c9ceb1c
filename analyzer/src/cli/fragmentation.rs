//! `fragmentation`.

use super::args::{ScopeArgs, UnitsArg};
use super::load::{check, load, parse, resolve, resolver, trust};
use super::output::print;
use super::stats::{check_question, filter_query, print_json, units};
use super::Failure;
use crate::query::{self, Query, TapeTime};
use crate::report::text_fragmentation;
use clap::Args;

#[derive(Args, Debug)]
pub struct FragmentationArgs {
    /// The tape and the instant (the end when none is named)
    #[arg(value_name = "FILE[@TIME]")]
    pub tape: String,
    /// Outside of the program's own mappings, a longer hole than this is the end of a region
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = heaptape_collector::cli::bytes)]
    pub gap: u64,
    /// Rows to print of each table; 0 for all
    #[arg(short = 'n', long = "rows", value_name = "N", default_value = "10")]
    pub rows: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub units: UnitsArg,
    #[command(flatten)]
    pub scope: ScopeArgs,
}

pub(super) fn fragmentation(args: &FragmentationArgs) -> Result<(), Failure> {
    let TapeTime { file, time } = parse(&args.tape)?;
    let heap = load(&file, &args.scope.reading.place())?;
    let moment = time.map(|time| resolve(&time, &heap)).transpose()?;
    let notes = check(&heap, &args.scope.reading)?;
    let query = Query {
        rows: args.rows,
        ..filter_query(&args.scope.filter)
    };
    check_question(&query, &heap)?;
    let report = query::fragmentation(
        &heap,
        &moment.unwrap_or_else(|| heap.end()),
        args.gap,
        &query,
        &*resolver(&args.scope)?,
    );
    trust(&heap)?;
    if args.json {
        print_json("fragmentation", &report, &notes)
    } else {
        print(&text_fragmentation(&report, units(&args.units)))
    }
}
