//! `rss`.

use super::args::{ScopeArgs, UnitsArg};
use super::load::{check, load_perhaps_at, trust};
use super::output::print;
use super::stats::{check_question, filter_query, print_json, units};
use super::Failure;
use crate::query::{self, Query};
use crate::report::text_rss;
use clap::Args;

#[derive(Args, Debug)]
pub struct RssArgs {
    /// The tape and the instant (that of the highest resident set when none is named)
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

pub(super) fn rss(args: &RssArgs) -> Result<(), Failure> {
    let (heap, moment) = load_perhaps_at(&args.tape, &args.scope.reading)?;
    let notes = check(&heap, &args.scope.reading)?;
    let query = Query {
        rows: 0,
        ..filter_query(&args.scope.filter)
    };
    check_question(&query, &heap)?;
    let report = query::rss(&heap, moment.as_ref(), &query)?;
    trust(&heap)?;
    if args.json {
        print_json("rss", &report, &notes)
    } else {
        print(&text_rss(&report, units(&args.units)))
    }
}
