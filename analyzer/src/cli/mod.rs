//! The command line: low arguments in, engine asked, exporters called. Results go to stdout or a file, everything else to stderr.
//!
//! Exit status: 0 done, 1 failed (or `verify` found damage, `check` a broken limit, `symbols check` a module without symbols, or `--strict` and a tape is not whole), 2 wrong usage (or
//! `check` cannot judge). A reader that goes
//! away (`| head`) is no failure.

mod arenas;
mod args;
mod check;
mod compare;
mod demo;
mod draw;
mod epochs;
mod export;
mod failure;
mod follow;
mod fragmentation;
mod generate;
mod growth;
mod homes;
mod info;
mod lifetimes;
mod load;
mod output;
mod peak;
mod realloc;
mod receive;
mod recorder;
mod repeat;
mod replay;
mod rss;
mod sizes;
mod stats;
mod summarize;
mod symbolize;
mod symbols;
mod temporary;
mod verify;

pub use failure::Failure;

use args::{Cli, Command, SymbolsAction};
use clap::Parser;
use std::process::ExitCode;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let mut command = Cli::parse().command;
    let mut ended = run(&mut command);
    // A command with two tapes may meet two damaged indexes.
    for _ in 0..2 {
        let Err(Failure::BadIndex(path)) = &ended else { break };
        if std::fs::remove_file(path).is_err() {
            break;
        }
        ended = run(&mut command);
    }
    ended.unwrap_or_else(Failure::report)
}

fn run(command: &mut Command) -> Result<ExitCode, Failure> {
    match command {
        // The status of a recording is that of the recorded program.
        Command::Record(args) => return repeat::record(args),
        // The status of a check is its verdict.
        Command::Check(args) => return check::check(args),
        Command::Summarize(args) => summarize::summarize(args),
        Command::Mark { pid, name } => recorder::mark(*pid, name),
        Command::Ctl { pid, action } => recorder::ctl(*pid, *action),
        Command::Info(args) => info::info(args),
        Command::Symbols {
            action: SymbolsAction::Check(args),
        } => symbols::check(args),
        Command::Symbolize(args) => symbolize::symbolize(args),
        Command::Verify(args) => verify::verify(args),
        Command::Timeline(args) => draw::timeline(args),
        Command::Snapshot(args) => stats::snapshot(args),
        Command::Diff(args) => compare::diff(args),
        Command::Follow(args) => follow::follow(args),
        Command::Receive(args) => receive::receive(args),
        Command::Leaks(args) => stats::leaks(args),
        Command::Tree(args) => stats::tree(args),
        Command::Arenas(args) => arenas::arenas(args),
        Command::Peak(args) => peak::peak(args),
        Command::Temporary(args) => temporary::temporary(args),
        Command::Lifetimes(args) => lifetimes::lifetimes(args),
        Command::Sizes(args) => sizes::sizes(args),
        Command::Growth(args) => growth::growth(args),
        Command::Epochs(args) => epochs::epochs(args),
        Command::Threads(args) => homes::threads(args),
        Command::Processes(args) => homes::processes(args),
        Command::Realloc(args) => realloc::realloc(args),
        Command::Fragmentation(args) => fragmentation::fragmentation(args),
        Command::Rss(args) => rss::rss(args),
        Command::Replay(args) => replay::replay(args),
        Command::PerformCalls { stage } => replay::perform_calls(stage),
        Command::Flamegraph(args) => draw::flamegraph(args),
        Command::Export(args) => export::export(args),
        Command::Completions { shell } => generate::completions(*shell),
        Command::Man { dir, force } => generate::man(dir, *force),
        Command::Demo(args) => demo::demo(args),
    }?;
    Ok(ExitCode::SUCCESS)
}
