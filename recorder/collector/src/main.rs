//! The device's small binary: records a program.

use clap::Parser;
use heaptape_collector::RecordArgs;

/// Records every allocation of a program and of the programs it starts.
#[derive(Parser)]
#[command(name = "heaptape-record", version)]
struct Program {
    #[command(flatten)]
    record: RecordArgs,
}

fn main() -> std::process::ExitCode {
    heaptape_collector::record(&Program::parse().record)
}
