//! The program to be recorded: split off first, so that its process id is known, started when the collector is ready.

use super::library;
use crate::sys::process::{exec, exit_now, fork, Side};
use crate::sys::signal::{self, Mask};
use crate::sys::startup;
use rustix::pipe::{pipe_with, PipeFlags};
use std::ffi::{CString, OsString};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// What to start.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file.
    pub file: PathBuf,
    /// What the program is told, its own name first.
    pub arguments: Vec<OsString>,
    /// The recording library.
    pub library: PathBuf,
    /// Standard output is the tape's: the program's own goes to standard error.
    pub output_to_stderr: bool,
}

impl Program {
    /// Becomes the program, with everything as the launcher was given it. Returns only when that failed.
    pub fn become_it(&self, segment: &str, mask: Mask) -> io::Error {
        let text = |text: &OsString| CString::new(text.clone().into_vec()).unwrap_or_default();
        let arguments: Vec<CString> = self.arguments.iter().map(text).collect();
        let environment = library::environment(&self.library, segment);
        let file = text(&self.file.clone().into_os_string());
        if self.output_to_stderr {
            if let Err(error) = stdout_to_stderr() {
                return error;
            }
        }
        startup::restore();
        signal::restore(mask);
        let error = exec(&file, &arguments, &environment);
        if error.raw_os_error() != Some(libc::ENOEXEC) {
            return error;
        }
        // A script without a first line that names its interpreter is the shell's, as `execvp` has it.
        let mut shell = vec![c"/bin/sh".to_owned(), file];
        shell.extend(arguments.into_iter().skip(1));
        exec(&c"/bin/sh".to_owned(), &shell, &environment)
    }
}

/// Standard output becomes what standard error is; nothing at all, if that is closed.
fn stdout_to_stderr() -> io::Result<()> {
    let null;
    let stderr = io::stderr();
    let to = if rustix::io::fcntl_getfd(&stderr).is_ok() {
        stderr.as_fd()
    } else {
        null = std::fs::File::options().write(true).open("/dev/null")?;
        null.as_fd()
    };
    Ok(rustix::stdio::dup2_stdout(to)?)
}

/// A program that is split off and waits.
pub struct Waiting {
    /// Its process id.
    pub pid: u32,
    go: std::fs::File,
    failure: std::fs::File,
}

/// Splits the program off; it waits for [`Waiting::go`], and ends by itself when this process does.
///
/// # Errors
/// As the system gives them.
pub fn split_off(program: &Program, mask: Mask) -> io::Result<Waiting> {
    let (wait, go) = pipe_with(PipeFlags::CLOEXEC)?;
    let (failure, fail) = pipe_with(PipeFlags::CLOEXEC)?;
    match fork()? {
        Side::Parent(pid) => Ok(Waiting {
            pid,
            go: go.into(),
            failure: failure.into(),
        }),
        Side::Child => {
            drop((go, failure));
            let mut segment = String::new();
            let complete = std::fs::File::from(wait).read_to_string(&mut segment).is_ok() && segment.ends_with('\n');
            if complete {
                let error = program.become_it(segment.trim_end(), mask);
                let number = error.raw_os_error().unwrap_or(libc::EINVAL);
                // With nobody left to tell, the status says it.
                let _ = std::fs::File::from(fail).write_all(&number.to_le_bytes());
            }
            exit_now(126)
        }
    }
}

impl Waiting {
    /// Starts the program. Returns when it runs.
    ///
    /// # Errors
    /// Why it does not.
    pub fn go(mut self, segment: &str) -> io::Result<u32> {
        self.go.write_all(format!("{segment}\n").as_bytes())?;
        drop(self.go);
        let mut number = [0; 4];
        match self.failure.read_exact(&mut number) {
            Ok(()) => Err(io::Error::from_raw_os_error(i32::from_le_bytes(number))),
            // Closed by the exec itself.
            Err(_) => Ok(self.pid),
        }
    }
}

/// The segment as the recorded programs find it.
pub fn segment_path(collector: u32, fd: i32) -> String {
    format!("/proc/{collector}/fd/{fd}")
}
