//! A test that is recorded and held against what it has to keep.

use clap::Args;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What tests are held against, and what is kept of them.
#[derive(Args, Clone, Debug)]
pub struct Hold {
    /// Limits that every test has to keep; see heaptape check
    #[arg(long, value_name = "FILE")]
    pub budget: Option<PathBuf>,
    /// Hold each test against its summary in this folder; a test without one is new, and passes
    #[arg(long, value_name = "DIR")]
    pub baseline: Option<PathBuf>,
    /// Write a summary of each test that passes into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "baseline")]
    pub save: Option<PathBuf>,
    /// Where the tapes go
    #[arg(long, value_name = "DIR", default_value = "target/heaptape")]
    pub tapes: PathBuf,
}

/// A test's names as those of files.
#[derive(Debug)]
pub struct Test {
    /// Of its program.
    pub program: String,
    /// Its own.
    pub name: String,
}

/// How a test ended.
#[derive(Debug)]
pub enum End {
    /// Well, within its limits.
    Passed,
    /// With this status and this to say.
    Failed(u8, String),
}

/// What libtest does around a test, which is not the same in every run: it hangs on whether the test ends before libtest comes to wait for it.
const HARNESS: [&str; 2] = ["--exclude", "func:test::test_main*"];

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

fn made(folder: &Path) -> Result<&Path, String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

fn said(output: Output) -> String {
    [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat()
}

impl Hold {
    /// The same with paths that hold in every folder.
    ///
    /// # Errors
    /// Without a current folder.
    pub fn absolute(&self) -> Result<Hold, String> {
        let absolute = |path: &PathBuf| std::path::absolute(path).map_err(|error| error.to_string());
        let optional = |path: &Option<PathBuf>| path.as_ref().map(absolute).transpose();
        Ok(Hold {
            budget: optional(&self.budget)?,
            baseline: optional(&self.baseline)?,
            save: optional(&self.save)?,
            tapes: absolute(&self.tapes)?,
        })
    }

    /// Records a test so many times, and holds it against what it has to keep. `start` adds the test's own command line to a recorder's.
    ///
    /// # Errors
    /// One line, when heaptape cannot be started or a file cannot be written.
    pub fn run(&self, test: &Test, times: u32, start: impl Fn(Command) -> Command) -> Result<End, String> {
        let hold = self.absolute()?;
        let mut tapes = Vec::new();
        for number in 1..=times {
            let tape = made(&hold.tapes.join(&test.program))?.join(format!("{}.{number}.tape", test.name));
            let mut record = heaptape();
            record.args(["record", "-q", "--force", "-o"]).arg(&tape).arg("--");
            let output = start(record)
                .output()
                .map_err(|error| format!("heaptape record: {error}"))?;
            if !output.status.success() {
                let status = output.status.code().map_or(1, |code| code as u8);
                return Ok(End::Failed(status, said(output)));
            }
            tapes.push(tape);
        }
        let summary = |folder: &Path| folder.join(&test.program).join(format!("{}.json", test.name));
        let baseline = hold.baseline.as_deref().map(summary).filter(|file| file.is_file());
        if hold.budget.is_some() || baseline.is_some() {
            let mut check = heaptape();
            check.arg("check").args(HARNESS).args(&tapes);
            if let Some(budget) = &hold.budget {
                check.arg("--budget").arg(budget);
            }
            if let Some(baseline) = &baseline {
                check.arg("--baseline").arg(baseline);
            }
            let output = check.output().map_err(|error| format!("heaptape check: {error}"))?;
            if !output.status.success() {
                let status = output.status.code().map_or(2, |code| code as u8);
                return Ok(End::Failed(status, said(output)));
            }
        }
        if let Some(file) = hold.save.as_deref().map(summary) {
            made(file.parent().unwrap_or(&file))?;
            let mut summarize = heaptape();
            summarize
                .arg("summarize")
                .args(HARNESS)
                .args(["--force", "-o"])
                .arg(&file)
                .args(&tapes);
            let output = summarize
                .stdout(Stdio::null())
                .output()
                .map_err(|error| format!("heaptape summarize: {error}"))?;
            if !output.status.success() {
                return Err(said(output));
            }
        }
        Ok(End::Passed)
    }
}
