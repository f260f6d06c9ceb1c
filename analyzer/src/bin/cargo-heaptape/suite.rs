//! The test programs that cargo builds, and the tests in them.

use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

/// A test program.
#[derive(Debug)]
pub struct Program {
    /// The target's name, with its kind where that is no library: `parser`, `parser-test-roundtrip`.
    pub name: String,
    file: PathBuf,
    /// The package's folder, in which cargo runs its tests.
    folder: PathBuf,
}

/// A test.
#[derive(Debug)]
pub struct Case {
    /// The program that has it.
    pub program: Rc<Program>,
    name: String,
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
    /// Its tests whose names contain a text, those that are ignored left out.
    ///
    /// # Errors
    /// One line, when the program does not list its tests as libtest does.
    pub fn cases(&self, filter: Option<&str>) -> Result<Vec<Case>, String> {
        let program = &self.0;
        let list = |more: &[&str]| -> Result<Vec<String>, String> {
            let output = Command::new(&program.file)
                .args(["--list", "--format", "terse"])
                .args(more)
                .current_dir(&program.folder)
                .output()
                .map_err(|error| format!("{}: {error}", program.file.display()))?;
            if !output.status.success() {
                return Err(format!(
                    "{}: expected a program with libtest's --list, found one that fails with it",
                    program.file.display()
                ));
            }
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok(text
                .lines()
                .filter_map(|line| line.strip_suffix(": test").map(str::to_owned))
                .collect())
        };
        let ignored = list(&["--ignored"])?;
        let wanted = |name: &String| !ignored.contains(name) && filter.is_none_or(|part| name.contains(part));
        let cases = list(&[])?.into_iter().filter(wanted).map(|name| Case {
            program: program.clone(),
            name,
        });
        Ok(cases.collect())
    }
}

impl Case {
    /// `parser tests::reads_numbers`.
    pub fn title(&self) -> String {
        format!("{} {}", self.program.name, self.name)
    }

    /// Its name as that of a file.
    pub fn file_name(&self) -> String {
        self.name.replace("::", ".").replace('/', "_")
    }

    /// Where its summary lies in a folder.
    pub fn summary(&self, folder: &Path) -> PathBuf {
        folder
            .join(&self.program.name)
            .join(format!("{}.json", self.file_name()))
    }

    /// Adds the test's own command line to a recorder's.
    pub fn start(&self, mut recorder: Command) -> Command {
        recorder
            .arg(&self.program.file)
            .args(["--exact", &self.name, "--nocapture"]);
        recorder
            .current_dir(&self.program.folder)
            .env("CARGO_MANIFEST_DIR", &self.program.folder);
        recorder
    }
}
