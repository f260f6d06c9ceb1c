//! The launcher while the program runs: invisible. Signals meant for the program reach it, once; it stops when the program stops; it ends as the program ends.

use crate::channel::{Channel, ToLauncher};
use crate::host::linux::state_of;
use crate::sys::signal;
use heaptape_format::record::ProcessEnd;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
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

/// What the collector has to say in the end.
pub enum Answer {
    /// This.
    Told(ToLauncher),
    /// Nothing: it is gone.
    Gone,
    /// Nothing: somebody has stopped it, the process of this id.
    Stopped(u32),
}

/// Looks at a silent collector this often, and so many times in a row it may be found stopped (a debugger stops it for an instant now and then).
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
const MOST_STOPS: u32 = 10;

/// Waits for the collector's last word; a slow one is waited for as long as it takes, a stopped one is not.
pub fn for_collector(channel: &Channel, collector: u32) -> Answer {
    let mut stops = 0;
    while stops < MOST_STOPS {
        if poll(&mut [PollFd::new(channel.fd(), PollFlags::IN)], Some(&LOOK)) != Ok(0) {
            return channel.receive().map_or(Answer::Gone, Answer::Told);
        }
        stops = match state_of(collector) {
            Some(b'T' | b't') => stops + 1,
            _ => 0,
        };
    }
    Answer::Stopped(collector)
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
