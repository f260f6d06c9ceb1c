//! `record`, and `record --repeat`: several runs, each recorded by a process of its own, as each recording ends as its program does.

use super::args::RepeatArgs;
use super::Failure;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Records once, or as often as was asked for. The status is that of the program; of several runs the first that is not 0.
pub(super) fn record(args: &mut RepeatArgs) -> Result<ExitCode, Failure> {
    match (args.repeat, args.repeat_run) {
        (Some(runs), None) => repeat(runs),
        (_, number) => {
            if let (Some(number), Some(output)) = (number, &mut args.record.output) {
                *output = numbered(output, number);
            }
            Ok(heaptape_collector::record(&args.record))
        }
    }
}

fn repeat(runs: u32) -> Result<ExitCode, Failure> {
    let own = std::env::current_exe()
        .map_err(|error| Failure::Failed(format!("cannot tell where this program lies: {error}")))?;
    let mut words = std::env::args_os();
    let name = words.next();
    let words: Vec<OsString> = words.collect();
    let Some((subcommand, rest)) = words.split_first() else {
        return Err(Failure::Usage(
            "expected the program to record and its arguments".to_owned(),
        ));
    };
    let mut first_failure = 0;
    for number in 1..=runs {
        let mut run = Command::new(&own);
        if let Some(name) = &name {
            std::os::unix::process::CommandExt::arg0(&mut run, name);
        }
        run.arg(subcommand).arg(format!("--repeat-run={number}")).args(rest);
        let status = run
            .status()
            .map_err(|error| Failure::Failed(format!("cannot start {}: {error}", own.display())))?;
        if let Some(signal) = status.signal() {
            return Ok(ExitCode::from(128u8.wrapping_add(signal as u8)));
        }
        let status = status.code().map_or(1, |code| code as u8);
        if first_failure == 0 {
            first_failure = status;
        }
    }
    Ok(ExitCode::from(first_failure))
}

/// `svc.tape` becomes `svc.3.tape`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_a_tape_of_its_own() {
        assert_eq!(numbered(Path::new("a/svc.tape"), 3), Path::new("a/svc.3.tape"));
        assert_eq!(numbered(Path::new("svc"), 12), Path::new("svc.12"));
    }
}
