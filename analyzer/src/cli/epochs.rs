//! `epochs`.

use super::args::QueryArgs;
use super::load::{check, load, resolver, trust};
use super::stats::{check_question, query_of, show_table};
use super::Failure;
use crate::query;
use crate::report::text_epochs;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct EpochsArgs {
    /// The tape
    #[arg(value_name = "FILE")]
    pub tape: PathBuf,
    /// The marker that begins each round
    #[arg(long, value_name = "NAME")]
    pub marker: String,
    /// Whole further rounds that a block must outlive
    #[arg(long, value_name = "N", default_value = "2")]
    pub after: usize,
    #[command(flatten)]
    pub query: QueryArgs,
}

pub(super) fn epochs(args: &EpochsArgs) -> Result<(), Failure> {
    let query = query_of(&args.query)?;
    let heap = load(&args.tape, &args.query.scope.reading.place())?;
    let notes = check(&heap, &args.query.scope.reading)?;
    check_question(&query, &heap)?;
    // Says which markers there are, if this is none.
    let first = query::TimeSpec::Marker(args.marker.clone(), 1);
    let found = first.resolve_birth(&heap);
    trust(&heap)?;
    found?;
    let resolver = resolver(&args.query.scope)?;
    let report = query::epochs(&heap, &args.marker, args.after, &query, &*resolver);
    trust(&heap)?;
    show_table(
        &args.query,
        "epochs",
        report,
        |report| &mut report.table,
        text_epochs,
        &notes,
    )
}
