//! `sizes`.

use super::args::{ScopeArgs, UnitsArg};
use super::load::{check, load_perhaps_at, resolver, trust};
use super::output::print;
use super::stats::{check_question, filter_query, print_json, units};
use super::Failure;
use crate::query::{self, Query};
use crate::report::text_sizes;
use clap::Args;

#[derive(Args, Debug)]
pub struct SizesArgs {
    /// The tape, and the instant of what is alive; without one, all blocks of the recording count
    #[arg(value_name = "FILE[@TIME]")]
    pub tape: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub units: UnitsArg,
    #[command(flatten)]
    pub scope: ScopeArgs,
}

pub(super) fn sizes(args: &SizesArgs) -> Result<(), Failure> {
    let (heap, moment) = load_perhaps_at(&args.tape, &args.scope.reading)?;
    let notes = check(&heap, &args.scope.reading)?;
    let query = Query {
        rows: 0,
        ..filter_query(&args.scope.filter)
    };
    check_question(&query, &heap)?;
    let report = query::sizes(&heap, moment.as_ref(), &query, &*resolver(&args.scope)?);
    trust(&heap)?;
    if args.json {
        print_json("sizes", &report, &notes)
    } else {
        print(&text_sizes(&report, units(&args.units)))
    }
}
