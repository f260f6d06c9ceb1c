//! `threads` and `processes`.

use super::args::{ScopeArgs, UnitsArg};
use super::load::{check, load_at, resolver, trust};
use super::output::print;
use super::stats::{check_question, filter_query, print_json, units};
use super::Failure;
use crate::query::{self, Query, TimeSpec};
use crate::report::{text_processes, text_threads};
use crate::table::{Heap, Moment};
use clap::Args;

#[derive(Args, Debug)]
pub struct HomesArgs {
    /// The tape and the instant of what is alive (the end when none is named)
    #[arg(value_name = "FILE[@TIME]")]
    pub tape: String,
    /// Rows to print; 0 for all
    #[arg(short = 'n', long = "rows", value_name = "N", default_value = "0")]
    pub rows: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub units: UnitsArg,
    #[command(flatten)]
    pub scope: ScopeArgs,
}

fn asked(args: &HomesArgs) -> Result<(Heap, Moment, Query, Vec<String>), Failure> {
    let (heap, moment) = load_at(&args.tape, TimeSpec::End, &args.scope.reading)?;
    let notes = check(&heap, &args.scope.reading)?;
    let query = Query {
        rows: args.rows,
        ..filter_query(&args.scope.filter)
    };
    check_question(&query, &heap)?;
    Ok((heap, moment, query, notes))
}

pub(super) fn threads(args: &HomesArgs) -> Result<(), Failure> {
    let (heap, moment, query, notes) = asked(args)?;
    let report = query::threads(&heap, &moment, &query, &*resolver(&args.scope)?);
    trust(&heap)?;
    if args.json {
        print_json("threads", &report, &notes)
    } else {
        print(&text_threads(&report, units(&args.units)))
    }
}

pub(super) fn processes(args: &HomesArgs) -> Result<(), Failure> {
    let (heap, moment, query, notes) = asked(args)?;
    let report = query::processes(&heap, &moment, &query, &*resolver(&args.scope)?);
    trust(&heap)?;
    if args.json {
        print_json("processes", &report, &notes)
    } else {
        print(&text_processes(&report, units(&args.units)))
    }
}
