//! The few system calls, made without libc: errno stays the target's, and nobody's hook is in between.
#![allow(unsafe_code)]

use core::sync::atomic::AtomicU32;
use syscalls::{raw_syscall, Sysno};

const O_RDONLY: usize = 0;
const O_RDWR: usize = 2;
const O_CLOEXEC: usize = 0o2000000;
const AT_FDCWD: isize = -100;
const PROT_READ_WRITE: usize = 3;
const MAP_SHARED: usize = 1;
const MAP_PRIVATE_ANONYMOUS: usize = 0x22;
const MAP_NORESERVE: usize = 0x4000;
const MADV_WIPEONFORK: usize = 18;
const FUTEX_WAIT: usize = 0;
const PR_GET_NAME: usize = 16;
const SEEK_END: usize = 2;

/// Where an offset into a file has more bits than a register, the system takes it in other units.
#[cfg(not(target_arch = "arm"))]
const MMAP: Sysno = Sysno::mmap;
#[cfg(not(target_arch = "arm"))]
const OFFSET_UNIT: i64 = 1;
#[cfg(target_arch = "arm")]
const MMAP: Sysno = Sysno::mmap2;
#[cfg(target_arch = "arm")]
const OFFSET_UNIT: i64 = 4096;

/// Results in `-4095..0` are errors.
fn checked(result: usize) -> Option<usize> {
    (result < -4095isize as usize).then_some(result)
}

/// Process id.
pub fn pid() -> u32 {
    // SAFETY: no arguments, no effects.
    unsafe { raw_syscall!(Sysno::getpid) as u32 }
}

/// Parent's process id.
pub fn parent_pid() -> u32 {
    // SAFETY: no arguments, no effects.
    unsafe { raw_syscall!(Sysno::getppid) as u32 }
}

/// Thread id.
pub fn tid() -> u32 {
    // SAFETY: no arguments, no effects.
    unsafe { raw_syscall!(Sysno::gettid) as u32 }
}

/// Private zeroed memory; null when there is none. Page-aligned, never unmapped unless by [`unmap`].
pub fn memory(bytes: usize) -> *mut u8 {
    let flags = MAP_PRIVATE_ANONYMOUS | MAP_NORESERVE;
    // SAFETY: a fresh mapping at an address of the kernel's choice touches nobody's memory.
    let result = unsafe { raw_syscall!(MMAP, 0, bytes, PROT_READ_WRITE, flags, usize::MAX, 0) };
    checked(result).map_or(core::ptr::null_mut(), |address| address as *mut u8)
}

/// Gives memory back.
///
/// # Safety
/// Nobody uses this memory any more.
pub unsafe fn unmap(address: *mut u8, bytes: usize) -> i32 {
    // SAFETY: the caller's promise.
    checked(unsafe { raw_syscall!(Sysno::munmap, address, bytes) }).map_or(-1, |_| 0)
}

/// `mmap` on behalf of the target; `None` when it fails.
pub fn map(address: *mut u8, length: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> Option<*mut u8> {
    if offset.rem_euclid(OFFSET_UNIT) != 0 {
        return None;
    }
    let offset = offset.div_euclid(OFFSET_UNIT);
    // SAFETY: what the target asks of its own address space.
    let result = unsafe { raw_syscall!(MMAP, address, length, protection, flags, fd, offset) };
    checked(result).map(|address| address as *mut u8)
}

/// `mremap` on behalf of the target; `None` when it fails.
pub fn remap(old: *mut u8, old_length: usize, length: usize, flags: i32, target: *mut u8) -> Option<*mut u8> {
    // SAFETY: what the target asks of its own address space.
    let result = unsafe { raw_syscall!(Sysno::mremap, old, old_length, length, flags, target) };
    checked(result).map(|address| address as *mut u8)
}

/// Makes memory read as zeros in forked children. `false` where the kernel cannot (before 4.14).
pub fn wipe_on_fork(address: *mut u8, bytes: usize) -> bool {
    // SAFETY: only changes what a child will see of our own memory.
    checked(unsafe { raw_syscall!(Sysno::madvise, address, bytes, MADV_WIPEONFORK) }).is_some()
}

/// Maps the whole file at a NUL-terminated path, shared. No descriptor stays open.
///
/// # Safety
/// `path` must be NUL-terminated.
pub unsafe fn map_file(path: *const u8) -> Option<(*const u8, usize)> {
    // SAFETY: a NUL-terminated path (caller); the descriptor is ours alone until closed.
    unsafe {
        let fd = checked(raw_syscall!(Sysno::openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0))?;
        let length = checked(raw_syscall!(Sysno::lseek, fd, 0, SEEK_END)).unwrap_or(0);
        let address = raw_syscall!(MMAP, 0, length, PROT_READ_WRITE, MAP_SHARED, fd, 0);
        raw_syscall!(Sysno::close, fd);
        Some((checked(address)? as *const u8, length))
    }
}

/// Reads the beginning of a file; number of bytes read, 0 on any failure.
pub fn read_file(path: &core::ffi::CStr, into: &mut [u8]) -> usize {
    // SAFETY: a NUL-terminated path and a buffer of the length given; the descriptor is ours alone until closed.
    unsafe {
        let Some(fd) = checked(raw_syscall!(
            Sysno::openat,
            AT_FDCWD,
            path.as_ptr(),
            O_RDONLY | O_CLOEXEC,
            0
        )) else {
            return 0;
        };
        let mut at = 0;
        while at < into.len() {
            match checked(raw_syscall!(
                Sysno::read,
                fd,
                into.as_mut_ptr().add(at),
                into.len() - at
            )) {
                Some(0) | None => break,
                Some(count) => at += count,
            }
        }
        raw_syscall!(Sysno::close, fd);
        at
    }
}

/// Target of a symbolic link; number of bytes, 0 on any failure.
pub fn read_link(path: &core::ffi::CStr, into: &mut [u8]) -> usize {
    // SAFETY: a NUL-terminated path and a buffer of the length given.
    let result = unsafe {
        raw_syscall!(
            Sysno::readlinkat,
            AT_FDCWD,
            path.as_ptr(),
            into.as_mut_ptr(),
            into.len()
        )
    };
    checked(result).unwrap_or(0)
}

/// `prctl` on behalf of the target; -1 when it fails.
///
/// # Safety
/// What the option asks of its arguments.
pub unsafe fn control(option: i32, first: usize, second: usize, third: usize, fourth: usize) -> i32 {
    // SAFETY: the caller's promise.
    checked(unsafe { raw_syscall!(Sysno::prctl, option, first, second, third, fourth) })
        .map_or(-1, |value| value as i32)
}

/// Name of the calling thread: at most 16 bytes with the NUL.
pub fn thread_name() -> [u8; 16] {
    let mut name = [0u8; 16];
    // SAFETY: the kernel writes at most 16 bytes.
    unsafe { raw_syscall!(Sysno::prctl, PR_GET_NAME, name.as_mut_ptr()) };
    name
}

/// Waits until somebody wakes `word`, its value is not `seen`, or the time is up; `true` in the last case.
pub fn wait(word: &AtomicU32, seen: u32, millis: u32) -> bool {
    const ETIMEDOUT: isize = 110;
    let timeout = [millis as isize / 1000, millis as isize % 1000 * 1_000_000];
    // SAFETY: the word and the timeout live through the call.
    let result = unsafe { raw_syscall!(Sysno::futex, word.as_ptr(), FUTEX_WAIT, seen, timeout.as_ptr(), 0, 0) };
    result as isize == -ETIMEDOUT
}

/// Does this value lie at an address, a multiple of 4, that might be mapped no longer? Asked of the kernel, which fails where a load would end the process:
/// nobody is woken or moved to another word, if the value is that. It does not sleep.
pub fn holds(address: usize, value: u32) -> bool {
    const FUTEX_CMP_REQUEUE_PRIVATE: usize = 4 | 128;
    let other = 0u32;
    // SAFETY: only reads the word, if it is there; the other one lives through the call.
    let result = unsafe {
        raw_syscall!(
            Sysno::futex,
            address,
            FUTEX_CMP_REQUEUE_PRIVATE,
            0,
            0,
            &other as *const u32,
            value
        )
    };
    result as isize >= 0
}

/// Is the calling thread running on its alternate signal stack?
pub fn on_signal_stack() -> bool {
    const SS_ONSTACK: i32 = 1;
    #[repr(C)]
    struct SignalStack {
        sp: usize,
        flags: i32,
        size: usize,
    }
    let mut now = SignalStack {
        sp: 0,
        flags: 0,
        size: 0,
    };
    // SAFETY: only asks; the struct is the kernel's `stack_t`.
    unsafe { raw_syscall!(Sysno::sigaltstack, 0, &mut now as *mut SignalStack) };
    now.flags & SS_ONSTACK != 0
}

/// Soft limit of the main thread's stack, bytes.
pub fn stack_limit() -> usize {
    const RLIMIT_STACK: usize = 3;
    let mut limits = [0u64; 2];
    // SAFETY: the kernel writes two words.
    unsafe { raw_syscall!(Sysno::prlimit64, 0, RLIMIT_STACK, 0, limits.as_mut_ptr()) };
    limits[0].min(usize::MAX as u64) as usize
}

/// Ends the process.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: does not return.
        unsafe { raw_syscall!(Sysno::exit_group, status) };
    }
}

/// Runs a program and reads what it prints, up to as many bytes as there is room for; 0 when nothing came of it. The child is waited for.
///
/// # Safety
/// `path` must be NUL-terminated, `arguments` and `environment` arrays of such strings that end with a null pointer. No other thread may run.
pub unsafe fn output_of(
    path: *const u8,
    arguments: *const *const u8,
    environment: *const *const u8,
    into: &mut [u8],
) -> usize {
    const SIGCHLD: usize = 17;
    const WALL: usize = 0x4000_0000;
    const EINTR: usize = -4isize as usize;
    let mut ends = [0i32; 2];
    let mut at = 0;
    // SAFETY: the descriptors are ours alone; the child is a copy that runs nothing but the next calls.
    unsafe {
        if checked(raw_syscall!(Sysno::pipe2, ends.as_mut_ptr(), O_CLOEXEC)).is_none() {
            return 0;
        }
        let child = raw_syscall!(Sysno::clone, SIGCHLD, 0, 0, 0, 0);
        if child == 0 {
            // Standard output was closed, and the pipe took its place: then it only has to stay open.
            match ends[1] {
                1 => raw_syscall!(Sysno::fcntl, 1, 2, 0),
                end => raw_syscall!(Sysno::dup3, end, 1, 0),
            };
            raw_syscall!(Sysno::execve, path, arguments, environment);
            exit(127);
        }
        raw_syscall!(Sysno::close, ends[1]);
        while at < into.len() && checked(child).is_some() {
            match raw_syscall!(Sysno::read, ends[0], into.as_mut_ptr().add(at), into.len() - at) {
                EINTR => {}
                count => match checked(count) {
                    Some(0) | None => break,
                    Some(count) => at += count,
                },
            }
        }
        raw_syscall!(Sysno::close, ends[0]);
        if checked(child).is_some() {
            while raw_syscall!(Sysno::wait4, child, 0, WALL, 0) == EINTR {}
        }
    }
    at
}

/// CLOCK_MONOTONIC in nanoseconds.
#[cfg(target_arch = "arm")]
pub fn monotonic() -> u64 {
    const CLOCK_MONOTONIC: i32 = 1;
    extern "C" {
        // Libc's own, since it knows where the kernel has put a function for this.
        fn clock_gettime(clock: i32, time: *mut [i32; 2]) -> i32;
    }
    let mut time = [0; 2];
    // SAFETY: `struct timespec` of 32-bit glibc: two words. The call cannot fail with this clock, so errno stays.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut time) };
    time[0] as u64 * 1_000_000_000 + time[1] as u64
}
