//! What the process was given, noted before Rust's runtime changes it: the runtime ignores SIGPIPE and opens /dev/null for closed standard
//! streams before `main`, and the recorded program must see neither.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

static CLOSED: AtomicU8 = AtomicU8::new(0);
/// Threads that the process began with: an emulator has some of its own.
static THREADS: AtomicUsize = AtomicUsize::new(1);
static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);

// Runs before `main` and before the runtime's own start.
#[used]
#[link_section = ".init_array"]
static AT_START: extern "C" fn() = note;

extern "C" fn note() {
    for fd in 0..3u8 {
        // SAFETY: F_GETFD only asks.
        if unsafe { libc::fcntl(i32::from(fd), libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
    // SAFETY: all zeroes is a valid sigaction, and the call only fills it in.
    let ignored = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    };
    SIGPIPE_IGNORED.store(ignored, Ordering::Relaxed);
    THREADS.store(threads(), Ordering::Relaxed);
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Whether the process has more threads than it began with.
pub fn has_made_threads() -> bool {
    threads() > THREADS.load(Ordering::Relaxed)
}

/// Gives the standard streams and SIGPIPE back as they were. Only for a process that calls `exec` next: it closes file descriptors 0 to 2 that were
/// closed at the start, whoever uses them now.
pub fn restore() {
    let closed = CLOSED.load(Ordering::Relaxed);
    for fd in 0..3u8 {
        if closed & (1 << fd) != 0 {
            // SAFETY: the runtime opened it in place of a closed one, and no object of this process owns it.
            unsafe { libc::close(i32::from(fd)) };
        }
    }
    if !SIGPIPE_IGNORED.load(Ordering::Relaxed) {
        // SAFETY: the default action takes no handler.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
}
