//! Tests that nextest starts: it decides which run, how many at a time and how often; this program stands before each of them as cargo's runner.

use super::hold::{End, Hold, Test};
use clap::Args;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What the runner is told by the environment, since nextest hands on a command line of its own.
const BUDGET: &str = "HEAPTAPE_TEST_BUDGET";
const BASELINE: &str = "HEAPTAPE_TEST_BASELINE";
const SAVE: &str = "HEAPTAPE_TEST_SAVE";
const TAPES: &str = "HEAPTAPE_TEST_TAPES";

/// A test program as nextest starts it.
#[derive(Args, Debug)]
pub struct Runner {
    /// The test program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Has nextest run the tests, each by way of this program.
///
/// # Errors
/// One line, when cargo cannot be started.
pub fn run(hold: &Hold, arguments: &[String]) -> Result<ExitCode, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot tell where this program lies: {error}"))?;
    let own = own.to_str().filter(|path| !path.contains(char::is_whitespace));
    let own = own.ok_or("expected a path to this program without blanks, which cargo's runner cannot have")?;
    let hold = hold.absolute()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut nextest = Command::new(cargo);
    nextest.arg("nextest").args(arguments);
    nextest.env(runner_variable()?, format!("{own} heaptape runner"));
    for (name, path) in [(BUDGET, &hold.budget), (BASELINE, &hold.baseline), (SAVE, &hold.save)] {
        match path {
            Some(path) => nextest.env(name, path),
            None => nextest.env_remove(name),
        };
    }
    nextest.env(TAPES, &hold.tapes);
    let status = nextest
        .status()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    Ok(ExitCode::from(status.code().map_or(2, |code| code as u8)))
}

/// `CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER`.
fn runner_variable() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output();
    let output = output.map_err(|error| format!("cannot start rustc: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("expected a line host: in the output of rustc -vV, found none")?;
    Ok(format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_")))
}

/// Stands before one test: records it, and ends as it does, or as the check of its limits.
///
/// # Errors
/// One line, when the test cannot be started.
pub fn runner(runner: &Runner) -> Result<ExitCode, String> {
    let Some((program, arguments)) = runner.command.split_first() else {
        return Err("expected a test program".to_owned());
    };
    let name = arguments.iter().skip_while(|word| *word != "--exact").nth(1);
    let Some(name) = name else {
        // It is asked for the list of its tests.
        let error = Command::new(program).args(arguments).exec();
        return Err(format!("{}: {error}", Path::new(program).display()));
    };
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let hold = Hold {
        budget: path(BUDGET),
        baseline: path(BASELINE),
        save: path(SAVE),
        tapes: path(TAPES).unwrap_or_else(|| PathBuf::from("target/heaptape")),
    };
    let file = Path::new(program)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let test = Test {
        program: super::suite::as_file(&std::env::var("NEXTEST_BINARY_ID").unwrap_or(file)),
        name: super::suite::as_file(&name.to_string_lossy()),
    };
    let end = hold.run(&test, 1, |mut recorder| {
        recorder.arg(program).args(arguments).arg(super::suite::ONE_THREAD);
        // None of this is for the test.
        for name in [BUDGET, BASELINE, SAVE, TAPES] {
            recorder.env_remove(name);
        }
        recorder
    })?;
    match end {
        End::Passed => Ok(ExitCode::SUCCESS),
        End::Failed(status, text) => {
            let _ = write!(std::io::stderr(), "{}", heaptape::text::escape_message(&text));
            Ok(ExitCode::from(status))
        }
    }
}
