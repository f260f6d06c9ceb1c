//! `growth`.

use super::args::{QueryArgs, Span};
use super::load::{check, load, resolver, trust};
use super::output::print;
use super::stats::{check_question, find_sources, layout, print_json, query_of, resolve};
use super::Failure;
use crate::query::{self, GrowthQuery};
use crate::report::text_growth;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct GrowthArgs {
    /// The tape
    #[arg(value_name = "FILE")]
    pub tape: PathBuf,
    /// How much there may be: says when it is reached
    #[arg(long, value_name = "SIZE", value_parser = heaptape_collector::cli::bytes)]
    pub limit: Option<u64>,
    /// Look at this part of the recording; either end may be left out
    #[arg(long, value_name = "A..B", value_parser = super::args::span)]
    pub between: Option<Span>,
    /// Instants at which levels are taken
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u16).range(16..=1000))]
    pub points: u16,
    /// Show what does not grow, too
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub query: QueryArgs,
}

pub(super) fn growth(args: &GrowthArgs) -> Result<(), Failure> {
    let query = query_of(&args.query)?;
    let heap = load(&args.tape, &args.query.scope.reading.place())?;
    let notes = check(&heap, &args.query.scope.reading)?;
    check_question(&query, &heap)?;
    let (from, until) = match &args.between {
        Some(span) => resolve(span, &heap)?,
        None => (heap.start(), heap.end()),
    };
    let which = GrowthQuery {
        points: usize::from(args.points),
        from,
        until,
        limit: args.limit,
        all: args.all,
    };
    let mut report = query::growth(&heap, &which, &query, &*resolver(&args.query.scope)?);
    trust(&heap)?;
    find_sources(&args.query, &report.by, report.rows.iter_mut().map(|row| &mut row.key));
    if args.query.json {
        print_json("growth", &report, &notes)
    } else {
        print(&text_growth(&report, layout(&args.query)))
    }
}
