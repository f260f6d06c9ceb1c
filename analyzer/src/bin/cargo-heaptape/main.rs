//! `cargo heaptape test`: the tests of a package, each in a recording of its own.
//!
//! libtest tells nobody where one test ends and the next begins, so each runs as a process of its own, as nextest does it. Its tape is checked against a budget,
//! against the summary of the same test in a folder of baselines, or both.

mod suite;

use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use suite::{programs, Case};

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
}

#[derive(Args, Debug)]
struct Test {
    /// Limits that every test has to keep; see heaptape check
    #[arg(long, value_name = "FILE")]
    budget: Option<PathBuf>,
    /// Hold each test against its summary in this folder; a test without one is new, and passes
    #[arg(long, value_name = "DIR")]
    baseline: Option<PathBuf>,
    /// Write a summary of each test that passes into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "baseline")]
    save: Option<PathBuf>,
    /// Runs of each test, from which is learnt what is noise
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Where the tapes go
    #[arg(long, value_name = "DIR", default_value = "target/heaptape")]
    tapes: PathBuf,
    /// Only tests whose name contains this
    filter: Option<String>,
    /// Arguments for cargo test
    #[arg(last = true)]
    cargo: Vec<String>,
}

fn main() -> ExitCode {
    let Cargo::Heaptape(Heaptape {
        command: What::Test(test),
    }) = Cargo::parse();
    match run(&test) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(message) => {
            let _ = writeln!(
                std::io::stderr(),
                "cargo heaptape: {}",
                heaptape::text::escape_message(&message)
            );
            ExitCode::from(2)
        }
    }
}

/// The program beside this one.
fn heaptape() -> Command {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.with_file_name("heaptape");
    Command::new(if beside.is_file() {
        beside
    } else {
        PathBuf::from("heaptape")
    })
}

/// How a test ended.
enum End {
    Passed,
    Failed(String),
}

fn run(test: &Test) -> Result<bool, String> {
    let mut failed = Vec::new();
    let mut passed = 0usize;
    for program in programs(&test.cargo)? {
        for case in program.cases(test.filter.as_deref())? {
            let end = one(test, &case)?;
            match end {
                End::Passed => {
                    passed += 1;
                    say(&format!("test {} ... ok", case.title()));
                }
                End::Failed(text) => {
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

fn made(folder: &Path) -> Result<&Path, String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Records a test, and holds it against what it has to keep.
fn one(test: &Test, case: &Case) -> Result<End, String> {
    let folder = std::path::absolute(&test.tapes).map_err(|error| error.to_string())?;
    let mut tapes = Vec::new();
    for number in 1..=test.repeat {
        let tape = made(&folder.join(&case.program.name))?.join(format!("{}.{number}.tape", case.file_name()));
        let mut record = heaptape();
        record.args(["record", "-q", "--force", "-o"]).arg(&tape).arg("--");
        let output = case
            .start(record)
            .output()
            .map_err(|error| format!("heaptape record: {error}"))?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            return Ok(End::Failed(text.concat()));
        }
        tapes.push(tape);
    }
    let baseline = test
        .baseline
        .as_ref()
        .map(|folder| case.summary(folder))
        .filter(|file| file.is_file());
    if test.budget.is_some() || baseline.is_some() {
        let mut check = heaptape();
        check.arg("check").args(&tapes);
        if let Some(budget) = &test.budget {
            check.arg("--budget").arg(budget);
        }
        if let Some(baseline) = &baseline {
            check.arg("--baseline").arg(baseline);
        }
        let output = check.output().map_err(|error| format!("heaptape check: {error}"))?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            return Ok(End::Failed(text.concat()));
        }
    }
    if let Some(save) = &test.save {
        let file = case.summary(save);
        made(file.parent().unwrap_or(save))?;
        let mut summarize = heaptape();
        summarize
            .args(["summarize", "--force", "--sites", "30", "-o"])
            .arg(&file)
            .args(&tapes);
        let status = summarize.stderr(Stdio::null()).status();
        if !status
            .map_err(|error| format!("heaptape summarize: {error}"))?
            .success()
        {
            return Err(format!("{} cannot be written", file.display()));
        }
    }
    Ok(End::Passed)
}
