//! Starts a performing process with an allocator and its settings, and feeds it the calls of a tape.

use super::call::{Call, Packed};
use super::script::{script, Plan};
use super::stage::CALLS_AT_ONCE;
use super::{Outcome, Stage};
use crate::tape::{Catalog, Tape};
use heaptape_format::ProcessIx;
use serde::Serialize;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// An allocator with settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The library to preload; nothing for the system's allocator.
    pub preload: Option<String>,
    /// Variables of the environment.
    pub environment: Vec<(String, String)>,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.preload.as_deref().unwrap_or("system"))?;
        self.environment
            .iter()
            .try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// An allocator with settings, and what performing came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variant {
    /// The allocator.
    #[serde(flatten)]
    pub setting: Setting,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Why a variant was not performed.
#[derive(Debug)]
#[non_exhaustive]
pub enum VariantError {
    /// The process could not be started, or not be spoken to.
    Process(io::Error),
    /// It ended otherwise than well: how, and what it said.
    Ended(String, String),
    /// What it told is no outcome.
    Garbled,
    /// `malloc` was not taken from the library that was to be preloaded: it is not there, or has none.
    NotLoaded(String),
}

impl fmt::Display for VariantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VariantError::Process(error) => write!(f, "the performing process: {error}"),
            VariantError::Ended(how, said) if said.is_empty() => write!(f, "the performing process ended with {how}"),
            VariantError::Ended(how, said) => write!(f, "the performing process ended with {how}: {said}"),
            VariantError::Garbled => f.write_str("the performing process told no outcome"),
            VariantError::NotLoaded(library) => write!(
                f,
                "malloc came from {library} instead: expected a library that the loader finds (a path, or a name in its folders) and that provides malloc"
            ),
        }
    }
}

impl std::error::Error for VariantError {}

/// Calls on their way into a pipe.
struct Feed<W> {
    pipe: W,
    waiting: Vec<Packed>,
    failed: Option<io::Error>,
}

impl<W: Write> Feed<W> {
    fn push(&mut self, call: Call) -> bool {
        self.waiting.push(call.pack());
        self.waiting.len() < CALLS_AT_ONCE || self.flush()
    }

    fn flush(&mut self) -> bool {
        let written = self.pipe.write_all(bytemuck::cast_slice::<Packed, u8>(&self.waiting));
        self.waiting.clear();
        match written {
            Ok(()) => true,
            Err(error) => {
                self.failed = Some(error);
                false
            }
        }
    }
}

/// Performs the calls of a process with one setting. `program` is this program, `plan` what [`super::plan`] told of the process.
///
/// # Errors
/// When the performing process cannot be started, ends badly, or has another allocator than asked for.
pub fn run(
    program: &Path,
    tape: &Tape,
    catalog: &Catalog,
    process: ProcessIx,
    python_too: bool,
    stage: &Stage,
    setting: &Setting,
) -> Result<Variant, VariantError> {
    let stage = serde_json::to_string(stage).map_err(|_| VariantError::Garbled)?;
    let mut command = Command::new(program);
    command
        .args(["perform-calls", &stage])
        .env_remove("LD_PRELOAD")
        .envs(setting.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(library) = &setting.preload {
        command.env("LD_PRELOAD", library);
    }
    let mut child = command.spawn().map_err(VariantError::Process)?;
    let mut fed = Ok(());
    if let Some(pipe) = child.stdin.take() {
        let mut feed = Feed {
            pipe,
            waiting: Vec::with_capacity(CALLS_AT_ONCE),
            failed: None,
        };
        let _: Plan = script(tape, catalog, process, python_too, |call| feed.push(call));
        if feed.failed.is_none() {
            feed.flush();
        }
        // One that gave up hears no more: it says why.
        fed = match feed.failed {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        };
    }
    // What it says is little, and fits into the pipes.
    let (mut told, mut said) = (String::new(), String::new());
    let read_out = child
        .stdout
        .take()
        .map_or(Ok(0), |mut pipe| pipe.read_to_string(&mut told));
    let read_err = child
        .stderr
        .take()
        .map_or(Ok(0), |mut pipe| pipe.read_to_string(&mut said));
    let status = child.wait().map_err(VariantError::Process)?;
    fed.and(read_out).and(read_err).map_err(VariantError::Process)?;
    if !status.success() {
        return Err(VariantError::Ended(status.to_string(), said.trim().to_owned()));
    }
    let outcome: Outcome = serde_json::from_str(&told).map_err(|_| VariantError::Garbled)?;
    if let Some(preload) = &setting.preload {
        let wanted = Path::new(preload).file_name();
        if Path::new(&outcome.library).file_name() != wanted {
            return Err(VariantError::NotLoaded(outcome.library));
        }
    }
    Ok(Variant {
        setting: setting.clone(),
        outcome,
    })
}
