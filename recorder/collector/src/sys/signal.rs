//! Signals: blocking, waiting, sending, dying by one.
#![allow(unsafe_code)]

use std::io;
use std::mem::{zeroed, MaybeUninit};
use std::os::fd::{FromRawFd, OwnedFd};

/// A signal mask to go back to.
#[derive(Clone, Copy)]
pub struct Mask(libc::sigset_t);

/// Blocks every signal that can be blocked; returns the mask before.
pub fn block_all() -> Mask {
    // SAFETY: the sets are plain memory filled in by the calls, which cannot fail with these arguments.
    unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before: libc::sigset_t = zeroed();
        libc::sigfillset(all.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), &mut before);
        Mask(before)
    }
}

/// Sets the mask.
pub fn restore(mask: Mask) {
    // SAFETY: the set was filled in by the system.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &mask.0, std::ptr::null_mut()) };
}

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Its number.
    pub signal: i32,
    /// The kernel sent it (a key on the terminal, a hangup, the end of a child), so that the whole foreground group has it too.
    pub by_kernel: bool,
}

/// Waits for the next of the blocked signals.
pub fn wait() -> Arrived {
    loop {
        // SAFETY: plain memory for the call to fill in; every signal in the set is blocked (`block_all`).
        let (signal, code) = unsafe {
            let mut all = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigfillset(all.as_mut_ptr());
            let mut info: libc::siginfo_t = zeroed();
            (libc::sigwaitinfo(all.as_ptr(), &mut info), info.si_code)
        };
        if signal > 0 {
            return Arrived {
                signal,
                by_kernel: code > 0,
            };
        }
        // With a full set the wait can only have been interrupted, by the way out of a stop.
    }
}

/// A descriptor that becomes readable when SIGTERM (end), SIGUSR1 (start) or SIGUSR2 (stop) comes; the signals must be blocked.
///
/// # Errors
/// When no descriptor can be had.
pub fn orders_fd() -> io::Result<OwnedFd> {
    // SAFETY: the set is filled in before use; the descriptor returned is new and nobody else's.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The next signal that has come to such a descriptor, if there is one.
pub fn next_order(fd: &OwnedFd) -> Option<i32> {
    // `struct signalfd_siginfo` begins with the number.
    let mut info = [0u8; 128];
    let count = rustix::io::read(fd, &mut info).ok()?;
    let number = info.first_chunk().filter(|_| count >= 4)?;
    Some(u32::from_ne_bytes(*number) as i32)
}

/// Sends a signal to a process; an error means that it is gone or out of reach, and changes nothing.
pub fn send(pid: u32, signal: i32) {
    if let Ok(pid) = i32::try_from(pid) {
        if pid > 0 {
            // SAFETY: no memory is involved.
            unsafe { libc::kill(pid, signal) };
        }
    }
}

/// Stops this process as a key on the terminal would, until SIGCONT.
pub fn stop_self() {
    // SAFETY: no memory is involved.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Ends this process by `signal`, without a core file: the one worth looking at is the recorded program's. Returns only if the signal does not end it.
pub fn die_by(signal: i32) {
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    // SAFETY: the default action takes no handler; the set is filled in before use.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::raise(signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Whether the thread exists.
pub fn thread_exists(pid: u32, tid: u32) -> bool {
    // SAFETY: signal 0 only asks; no memory is involved.
    let result = unsafe {
        libc::syscall(
            libc::SYS_tgkill,
            pid as libc::c_long,
            tid as libc::c_long,
            0 as libc::c_long,
        )
    };
    result == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}
