//! How a command can end other than well.

use crate::index::{OpenIndexError, PlaceError};
use crate::query::{BadPattern, NoSuchTime, NotATime};
use crate::tape::OpenError;
use crate::text::escape_message;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// It was asked wrongly: exit status 2.
    Usage(String),
    /// `check` cannot judge: exit status 2.
    Unjudged(String),
    /// It could not be done: exit status 1.
    Failed(String),
    /// The message was given already: this exit status.
    Silent(u8),
    /// Whoever read the output is gone: exit status 0.
    BrokenPipe,
    /// This index turned out to be damaged before anything was printed.
    BadIndex(PathBuf),
}

impl Failure {
    /// Says what happened and gives the exit status. What is said is escaped: it quotes file names and the tape.
    pub fn report(self) -> ExitCode {
        let (message, status) = match self {
            Failure::Usage(message) => (message, 2),
            Failure::Unjudged(message) => (format!("cannot judge: {message}"), 2),
            Failure::Failed(message) => (message, 1),
            Failure::Silent(status) => return ExitCode::from(status),
            Failure::BrokenPipe => return ExitCode::SUCCESS,
            Failure::BadIndex(path) => (format!("the index {} is damaged: remove it", path.display()), 1),
        };
        anstream::eprintln!("heaptape: {}", escape_message(&message));
        ExitCode::from(status)
    }

    /// A failure to write to `what`.
    pub fn writing(what: &str, error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            _ => Failure::Failed(format!("cannot write to {what}: {error}")),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        Failure::Failed(error.to_string())
    }
}

impl From<OpenIndexError> for Failure {
    fn from(error: OpenIndexError) -> Failure {
        Failure::Failed(error.to_string())
    }
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Failure {
        Failure::Failed(error.to_string())
    }
}

impl From<NotATime> for Failure {
    fn from(error: NotATime) -> Failure {
        Failure::Usage(error.to_string())
    }
}

impl From<NoSuchTime> for Failure {
    fn from(error: NoSuchTime) -> Failure {
        Failure::Usage(error.to_string())
    }
}

impl From<BadPattern> for Failure {
    fn from(error: BadPattern) -> Failure {
        Failure::Usage(error.to_string())
    }
}
