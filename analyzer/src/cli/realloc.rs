//! `realloc`.

use super::args::QueryArgs;
use super::load::{check, load, resolver, trust};
use super::stats::{check_question, query_of, show_table};
use super::Failure;
use crate::query;
use crate::report::text_reallocs;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct ReallocArgs {
    /// The tape
    #[arg(value_name = "FILE")]
    pub tape: PathBuf,
    #[command(flatten)]
    pub query: QueryArgs,
}

pub(super) fn realloc(args: &ReallocArgs) -> Result<(), Failure> {
    let query = query_of(&args.query)?;
    let heap = load(&args.tape, &args.query.scope.reading.place())?;
    let notes = check(&heap, &args.query.scope.reading)?;
    check_question(&query, &heap)?;
    let resolver = resolver(&args.query.scope)?;
    let report = query::reallocs(&heap, &query, &*resolver);
    trust(&heap)?;
    show_table(
        &args.query,
        "realloc",
        report,
        |report| &mut report.table,
        text_reallocs,
        &notes,
    )
}
