//! Splitting off processes and becoming another program.
#![allow(unsafe_code)]

use super::startup;
use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;

/// Which of the two a process is after a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The new one.
    Child,
    /// The old one, with the child's process id.
    Parent(u32),
}

/// Forks. Refuses in a process with more than one thread: the child could not go on allocating memory.
///
/// # Errors
/// As the system gives them, or [`io::ErrorKind::Unsupported`] with several threads.
pub fn fork() -> io::Result<Side> {
    if startup::has_made_threads() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a recording must be started from a process with a single thread",
        ));
    }
    // SAFETY: with a single thread the child is a full copy, no lock is held by anybody else.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid as u32)),
    }
}

/// Becomes the program at `path`; returns only when that failed.
pub fn exec(path: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    // SAFETY: both arrays end with a null pointer and their strings outlive the call.
    unsafe {
        libc::execve(
            path.as_ptr(),
            pointers(arguments).as_ptr(),
            pointers(environment).as_ptr(),
        )
    };
    io::Error::last_os_error()
}

/// Ends this process at once, without running anything at exit.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

/// Closes every descriptor but those in `keep` and the standard three, which become `/dev/null`. For a process that has split off and keeps only what it owns.
pub fn keep_only(keep: &[RawFd]) {
    let open: Vec<RawFd> = match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect(),
        Err(_) => (0..1024).collect(),
    };
    for fd in open {
        if fd > 2 && !keep.contains(&fd) {
            // SAFETY: whoever owned it in the process this one was split from does not run here any more.
            unsafe { libc::close(fd) };
        }
    }
    // SAFETY: a constant path, and descriptors that nobody in this process owns by an object.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if null >= 0 {
            for fd in 0..3 {
                if !keep.contains(&fd) {
                    libc::dup2(null, fd);
                }
            }
            if null > 2 {
                libc::close(null);
            }
        }
    }
}

/// Whether a file is executable by this process, for a path search as a shell does it.
pub fn executable(path: &std::path::Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}
