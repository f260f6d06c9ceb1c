//! `peak`.

use super::args::QueryArgs;
use super::load::{check, load, resolver, trust};
use super::stats::{check_question, query_of, show};
use super::Failure;
use crate::query;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct PeakArgs {
    /// The tape
    #[arg(value_name = "FILE")]
    pub tape: PathBuf,
    #[command(flatten)]
    pub query: QueryArgs,
}

pub(super) fn peak(args: &PeakArgs) -> Result<(), Failure> {
    let query = query_of(&args.query)?;
    let heap = load(&args.tape, &args.query.scope.reading.place())?;
    let notes = check(&heap, &args.query.scope.reading)?;
    check_question(&query, &heap)?;
    let report = query::peak(&heap, &query, &*resolver(&args.query.scope)?);
    trust(&heap)?;
    show(&args.query, "peak", "peak at", report, &notes)
}
