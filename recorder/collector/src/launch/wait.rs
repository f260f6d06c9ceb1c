//! The launcher while the program runs: invisible. Signals meant for the program reach it, once; it stops when the program stops; it ends as the program ends.

use crate::host::linux::state_of;
use crate::sys::signal;
use heaptape_format::record::ProcessEnd;
use rustix::process::{waitpid, Pid, WaitOptions};

/// Waits for the end of the program, with all signals blocked by the caller.
pub fn until_end(pid: u32) -> ProcessEnd {
    loop {
        // Before each wait: the program may have ended before the first.
        if let Some(end) = look(pid) {
            return end;
        }
        let arrived = signal::wait();
        match arrived.signal {
            libc::SIGCHLD => {}
            // The shell continues the whole group; only who was stopped alone must be told.
            libc::SIGCONT => {
                if matches!(state_of(pid), Some(b'T')) {
                    signal::send(pid, libc::SIGCONT);
                }
            }
            // What the terminal sends goes to the whole group: the program has it already.
            _ if arrived.by_kernel => {}
            other => signal::send(pid, other),
        }
    }
}

/// The end of the program, if it has ended; stops with it when it was stopped from the terminal.
fn look(pid: u32) -> Option<ProcessEnd> {
    let pid = Pid::from_raw(pid as i32)?;
    loop {
        match waitpid(Some(pid), WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            Ok(Some((_, status))) => {
                if let Some(signal) = status.stopping_signal() {
                    // One that was stopped by hand, by SIGSTOP to itself alone, may be continued the same way: then nobody would wake us.
                    if matches!(signal, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) {
                        signal::stop_self();
                    }
                    continue;
                }
                return Some(match (status.exit_status(), status.terminating_signal()) {
                    (Some(status), _) => ProcessEnd::Exit(status),
                    (_, Some(signal)) => ProcessEnd::Signal(signal),
                    _ => continue,
                });
            }
            Ok(None) => return None,
            Err(rustix::io::Errno::INTR) => {}
            // Somebody else has reaped it.
            Err(_) => return Some(ProcessEnd::Gone),
        }
    }
}
