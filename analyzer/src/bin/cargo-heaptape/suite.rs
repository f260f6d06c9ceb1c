//! The test programs that cargo builds, and the tests in them.

use super::hold::Test;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

/// libtest then runs the test where it runs itself, so that what the two allocate at one time is the same in every run.
pub const ONE_THREAD: &str = "--test-threads=1";

/// A test program.
#[derive(Debug)]
pub struct Program {
    /// The target's name, with its kind where that is no library: `parser`, `parser-test-roundtrip`.
    pub name: String,
    file: PathBuf,
    /// The package's folder, in which cargo runs its tests.
    folder: PathBuf,
}

/// A test, or a whole program that is one.
#[derive(Debug)]
pub struct Case {
    program: Rc<Program>,
    /// Within a program that has several.
    name: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Has cargo build the tests, and says what it built.
///
/// # Errors
/// One line, when it does not build.
pub fn programs(arguments: &[String]) -> Result<Vec<ProgramRef>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["test", "--no-run", "--message-format=json-render-diagnostics"])
        .args(arguments);
    let output = build
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err("cargo could not build the tests".to_owned());
    }
    let mut programs = Vec::new();
    for line in output.stdout.split(|&byte| byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<Message>(line) else {
            continue;
        };
        if message.reason != "compiler-artifact" {
            continue;
        }
        if let (Some(file), Some(manifest), Some(target)) = (message.executable, message.manifest_path, message.target)
        {
            let kind = target.kind.first().map_or("", String::as_str);
            let name = match kind {
                "lib" | "rlib" | "proc-macro" | "" => target.name,
                kind => format!("{}-{kind}", target.name),
            };
            programs.push(ProgramRef(Rc::new(Program {
                name,
                file,
                folder: manifest.parent().unwrap_or(Path::new(".")).to_owned(),
            })));
        }
    }
    Ok(programs)
}

/// A program that its tests share.
#[derive(Debug)]
pub struct ProgramRef(Rc<Program>);

impl ProgramRef {
    /// Its tests whose names contain a text, those that are ignored left out. A program with a harness of its own that does not list its tests as
    /// libtest does is one test.
    ///
    /// # Errors
    /// One line, when the program cannot be started.
    pub fn cases(&self, filter: Option<&str>) -> Result<Vec<Case>, String> {
        let is_wanted = |name: &str| filter.is_none_or(|part| name.contains(part));
        let Some(all) = self.list(&[])? else {
            let whole = Case {
                program: self.0.clone(),
                name: None,
            };
            return Ok(is_wanted(&self.0.name).then_some(whole).into_iter().collect());
        };
        let ignored = self.list(&["--ignored"])?.unwrap_or_default();
        let wanted = all
            .into_iter()
            .filter(|name| !ignored.contains(name) && is_wanted(name));
        let cases = wanted.map(|name| Case {
            program: self.0.clone(),
            name: Some(name),
        });
        Ok(cases.collect())
    }

    /// The tests that a program lists; `None` if it is no such program.
    fn list(&self, more: &[&str]) -> Result<Option<Vec<String>>, String> {
        let program = &self.0;
        let output = Command::new(&program.file)
            .arg("--list")
            .args(more)
            .current_dir(&program.folder)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", program.file.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // libtest ends its list with a count; others that list as it does may not.
        let lines = || text.lines().filter(|line| !line.is_empty());
        let is_row = |line: &str| line.ends_with(": test") || line.ends_with(": benchmark");
        let is_count = |line: &str| line.contains(" tests, ") || line.contains(" test, ");
        let is_list = lines().any(is_count) || lines().next().is_some() && lines().all(is_row);
        if !output.status.success() || !is_list {
            return Ok(None);
        }
        let tests = text.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(Some(tests.map(str::to_owned).collect()))
    }
}

/// A name as that of a file.
pub fn as_file(name: &str) -> String {
    name.replace("::", ".").replace('/', "_")
}

impl Case {
    /// `parser tests::reads_numbers`.
    pub fn title(&self) -> String {
        match &self.name {
            Some(name) => format!("{} {name}", self.program.name),
            None => self.program.name.clone(),
        }
    }

    /// Its names as those of files.
    pub fn test(&self) -> Test {
        Test {
            program: as_file(&self.program.name),
            name: as_file(self.name.as_deref().unwrap_or("main")),
        }
    }

    /// Adds the test's own command line to a recorder's.
    pub fn start(&self, mut recorder: Command) -> Command {
        recorder.arg(&self.program.file);
        if let Some(name) = &self.name {
            recorder.args(["--exact", name, "--nocapture", ONE_THREAD]);
        }
        recorder
            .current_dir(&self.program.folder)
            .env("CARGO_MANIFEST_DIR", &self.program.folder);
        recorder
    }
}
