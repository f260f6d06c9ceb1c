//! `check`: a run held against a baseline or a budget.

use super::args::CheckArgs;
use super::output::{print, write, wrote};
use super::summarize::Runs;
use super::Failure;
use crate::ci::{judge, picture, Budget, Form, Outcome, Summary};
use crate::report::flamegraph;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Everything that keeps from judging has the status of that.
pub(super) fn check(args: &CheckArgs) -> Result<ExitCode, Failure> {
    run(args).map_err(|failure| match failure {
        Failure::Failed(message) => Failure::Unjudged(message),
        other => other,
    })
}

fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let budget = match &args.budget {
        Some(path) => read_budget(path)?,
        None if args.baseline.is_empty() => {
            return Err(Failure::Usage(
                "expected something to compare with: --baseline FILE, or --budget FILE with limits".to_owned(),
            ))
        }
        None => Budget::no_worse(),
    };
    let runs = Runs {
        paths: &args.paths,
        leave_out: &args.leave_out,
        symbols: &args.symbols,
        reading: &args.reading,
        rules: Some(&budget.spans),
        spans_only: budget.program.is_empty() && budget.sites.is_empty() && args.draw.is_none(),
        unfinished: args.unfinished,
    };
    let new = runs.read(&args.runs)?;
    let old = match args.baseline.as_slice() {
        [] => None,
        files => Some(runs.read(files)?),
    };
    for summary in [Some(&new), old.as_ref()].into_iter().flatten() {
        whole(summary)?;
    }
    if let Some(old) = old
        .as_ref()
        .filter(|old| old.program != new.program && !args.any_program)
    {
        return Err(Failure::Failed(format!(
            "expected a baseline of {}, found one of {}; --any-program compares them all the same",
            new.program, old.program
        )));
    }
    let verdict = judge(&new, old.as_ref(), &budget);
    let notes: Vec<String> = new.notes.iter().map(ToString::to_string).collect();
    if let Some(file) = &args.draw {
        let (flame, options) = picture(&new, old.as_ref(), &verdict);
        let svg = flamegraph(&flame, &options).map_err(Failure::Failed)?;
        write(file, &svg, args.force)?;
        wrote(file);
    }
    let beside = args.draw.as_ref().and_then(|file| file.file_name());
    let beside = beside.map(|name| name.to_string_lossy().into_owned());
    let link = args.flamegraph.as_ref().or(beside.as_ref());
    let text = args
        .format
        .write(&verdict, &notes, link.map(String::as_str))
        .map_err(Failure::Failed)?;
    if args.output == Path::new("-") {
        print(&text)?;
    } else {
        write(&args.output, text.as_bytes(), args.force)?;
        wrote(&args.output);
        print(&Form::Text.write(&verdict, &notes, None).map_err(Failure::Failed)?)?;
    }
    Ok(match verdict.outcome {
        Outcome::Holds => ExitCode::SUCCESS,
        Outcome::Broken => ExitCode::from(1),
        Outcome::Unjudged => ExitCode::from(2),
    })
}

/// Refuses to judge by numbers that are known to be incomplete.
fn whole(summary: &Summary) -> Result<(), Failure> {
    match summary.notes.first() {
        None => Ok(()),
        Some(note) => Err(Failure::Failed(format!(
            "the recording of {} is not whole: {note}",
            summary.program
        ))),
    }
}

fn read_budget(path: &PathBuf) -> Result<Budget, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    Budget::read(&text).map_err(|error| failed(&error))
}
