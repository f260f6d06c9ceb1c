//! `cargo heaptape test` and `cargo heaptape nextest`: the tests of a package, each in a recording of its own.
//!
//! libtest tells nobody where one test ends and the next begins, so each runs as a process of its own: started one after the other here, or by nextest.
//! Its tape is checked against a budget, against the summary of the same test in a folder of baselines, or both.

mod hold;
mod nextest;
mod suite;

use clap::{Args, Parser, Subcommand};
use hold::{End, Hold};
use std::io::Write;
use std::process::ExitCode;
use suite::programs;

#[derive(Debug, Parser)]
#[command(name = "cargo-heaptape", bin_name = "cargo", version, max_term_width = 120)]
enum Cargo {
    /// Record the memory of tests, and hold it within limits
    Heaptape(Heaptape),
}

#[derive(Args, Debug)]
struct Heaptape {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run each test in a recording of its own
    #[command(
        after_help = "Example:\n  cargo heaptape test --save heap\n  cargo heaptape test --baseline heap -- --package parser"
    )]
    Test(Test),
    /// Have nextest run each test in a recording of its own
    #[command(
        after_help = "Example:\n  cargo heaptape nextest --save heap\n  cargo heaptape nextest --baseline heap -- run --package parser --retries 1"
    )]
    Nextest(Nextest),
    /// What nextest starts in place of a test.
    #[command(hide = true)]
    Runner(nextest::Runner),
}

#[derive(Args, Debug)]
struct Test {
    #[command(flatten)]
    hold: Hold,
    /// Runs of each test, from which is learnt what is noise
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Only tests whose name contains this
    filter: Option<String>,
    /// Arguments for cargo test
    #[arg(last = true)]
    cargo: Vec<String>,
}

#[derive(Args, Debug)]
struct Nextest {
    #[command(flatten)]
    hold: Hold,
    /// Arguments for cargo nextest
    #[arg(last = true, default_value = "run")]
    nextest: Vec<String>,
}

fn main() -> ExitCode {
    let Cargo::Heaptape(Heaptape { command }) = Cargo::parse();
    let done = match command {
        What::Test(test) => run(&test).map(|passed| ExitCode::from(u8::from(!passed))),
        What::Nextest(nextest) => nextest::run(&nextest.hold, &nextest.nextest),
        What::Runner(runner) => nextest::runner(&runner),
    };
    done.unwrap_or_else(|message| {
        let _ = writeln!(
            std::io::stderr(),
            "cargo heaptape: {}",
            heaptape::text::escape_message(&message)
        );
        ExitCode::from(2)
    })
}

fn run(test: &Test) -> Result<bool, String> {
    let mut failed = Vec::new();
    let mut passed = 0usize;
    for program in programs(&test.cargo)? {
        for case in program.cases(test.filter.as_deref())? {
            match test
                .hold
                .run(&case.test(), test.repeat, |recorder| case.start(recorder))?
            {
                End::Passed => {
                    passed += 1;
                    say(&format!("test {} ... ok", case.title()));
                }
                End::Failed(_, text) => {
                    say(&format!("test {} ... FAILED\n{text}", case.title()));
                    failed.push(case.title());
                }
            }
        }
    }
    if passed == 0 && failed.is_empty() {
        return Err("expected at least one test, found none".to_owned());
    }
    failed.iter().for_each(|name| say(&format!("failed: {name}")));
    say(&format!("{passed} passed, {} failed", failed.len()));
    Ok(failed.is_empty())
}

/// Prints a line; whoever does not want to read it any more does not keep the tests from running.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", heaptape::text::escape_message(text));
}
