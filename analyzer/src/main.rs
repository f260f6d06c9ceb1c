//! The command line of heaptape.

use std::process::ExitCode;

fn main() -> ExitCode {
    heaptape::cli::main()
}
