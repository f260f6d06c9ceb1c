//! `mark` and `ctl`: words to a running recorder.

use super::args::Action;
use super::output::print;
use super::Failure;
use crate::text::escape_message;
use heaptape_collector::control::{send_command, Command};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

pub(super) fn mark(pid: u32, name: &OsStr) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(Failure::Usage(
            "expected a name for the marker, found an empty one".to_owned(),
        ));
    }
    send(pid, &Command::Mark(name.as_bytes().to_vec())).map(drop)
}

pub(super) fn ctl(pid: u32, action: Action) -> Result<(), Failure> {
    let command = match action {
        Action::Start => Command::Start,
        Action::Stop => Command::Stop,
        Action::Status => Command::Status,
    };
    let answer = send(pid, &command)?;
    print(&format!("{}\n", escape_message(&answer)))
}

fn send(pid: u32, command: &Command) -> Result<String, Failure> {
    send_command(pid, command).map_err(|error| Failure::Failed(error.to_string()))
}
