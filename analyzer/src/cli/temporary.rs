//! `temporary`.

use super::args::QueryArgs;
use super::load::{check, load, resolver, trust};
use super::stats::{check_measure, check_question, query_of, show_table};
use super::Failure;
use crate::query;
use crate::report::text_temporary;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct TemporaryArgs {
    /// The tape
    #[arg(value_name = "FILE")]
    pub tape: PathBuf,
    /// What was freed after at most so long: #EVENTS, bytes allocated meanwhile (64KiB), or time (1ms). #1: nothing happened in between
    #[arg(long, value_name = "LIFETIME", default_value = "#1")]
    pub within: query::Lifetime,
    #[command(flatten)]
    pub query: QueryArgs,
}

pub(super) fn temporary(args: &TemporaryArgs) -> Result<(), Failure> {
    let query = query_of(&args.query)?;
    let heap = load(&args.tape, &args.query.scope.reading.place())?;
    let notes = check(&heap, &args.query.scope.reading)?;
    check_question(&query, &heap)?;
    check_measure(args.within.measured, &heap)?;
    let resolver = resolver(&args.query.scope)?;
    let report = query::temporary(&heap, args.within, &query, &*resolver);
    trust(&heap)?;
    show_table(
        &args.query,
        "temporary",
        report,
        |report| &mut report.table,
        text_temporary,
        &notes,
    )
}
