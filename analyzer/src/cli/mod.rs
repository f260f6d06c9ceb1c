//! The command line: low arguments in, engine asked, exporters called. Results go to stdout or a file, everything else to stderr.
//!
//! Exit status: 0 done, 1 failed (or `verify` found damage, `check` a broken limit, or `--strict` and a tape is not whole), 2 wrong usage (or
//! `check` cannot judge). A reader that goes
//! away (`| head`) is no failure.

mod arenas;
mod args;
mod check;
mod compare;
mod demo;
mod draw;
mod export;
mod failure;
mod generate;
mod info;
mod load;
mod output;
mod recorder;
mod repeat;
mod stats;
mod summarize;
mod verify;

pub use failure::Failure;

use args::{Cli, Command};
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
        Command::Verify(args) => verify::verify(args),
        Command::Timeline(args) => draw::timeline(args),
        Command::Snapshot(args) => stats::snapshot(args),
        Command::Diff(args) => compare::diff(args),
        Command::Leaks(args) => stats::leaks(args),
        Command::Tree(args) => stats::tree(args),
        Command::Arenas(args) => arenas::arenas(args),
        Command::Flamegraph(args) => draw::flamegraph(args),
        Command::Export(args) => export::export(args),
        Command::Completions { shell } => generate::completions(*shell),
        Command::Man { dir, force } => generate::man(dir, *force),
        Command::Demo(args) => demo::demo(args),
    }?;
    Ok(ExitCode::SUCCESS)
}
