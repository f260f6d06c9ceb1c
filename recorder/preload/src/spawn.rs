//! A recording without a launcher: with `LD_PRELOAD` and `HEAPTAPE_OUTPUT` set by whoever starts the program (a service manager), the first process starts the collector,
//! which lies beside this library, and waits for the name of the shared memory.
//!
//! All of it is done by system calls of our own, once, before the program's own code runs: the collector is started twice removed, so that the program never sees a child.
#![allow(unsafe_code)]

use crate::modules::{self, MOST_PATH};
use crate::{arch, real, sys};
use core::sync::atomic::{AtomicPtr, Ordering};

/// Bytes of the name of the shared memory with its variable.
const MOST_NAME: usize = 128;
const VARIABLE: &[u8] = b"HEAPTAPE_SEGMENT=";
const COLLECTOR: &[u8] = b"heaptape-record\0";
const SERVE: &[u8] = b"--serve\0";
const REST: &[u8] = b"--\0";
/// The collector's arguments before those of the program.
const OWN: usize = 4;

/// `HEAPTAPE_SEGMENT=...`, once a collector was started from here.
static SETTING: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

/// Strings as a program gets them: pointers, the last of them null.
type Strings = *const *const u8;

/// Number of strings.
///
/// # Safety
/// The array must end with a null pointer.
unsafe fn count(strings: Strings) -> usize {
    // SAFETY: the caller's promise.
    (0..).find(|at| unsafe { (*strings.add(*at)).is_null() }).unwrap_or(0)
}

/// Does a string begin so?
///
/// # Safety
/// It must be NUL-terminated.
unsafe fn begins(string: *const u8, with: &[u8]) -> bool {
    // SAFETY: the first difference ends the comparison, at the NUL at the latest.
    with.iter()
        .enumerate()
        .all(|(at, byte)| unsafe { *string.add(at) } == *byte)
}

/// Starts a collector for this process. The path of its shared memory; `None` when there is no collector, or when it could not begin, which it has said.
///
/// # Safety
/// `environment` must be the program's.
pub unsafe fn collector(environment: Strings) -> Option<*const u8> {
    let top = real::stack_top()?;
    // SAFETY: the number of arguments, and the arguments behind it, as the kernel has put them.
    let (given, arguments) = unsafe { (*(top as *const usize), top.add(1)) };
    // SAFETY: the caller's promise.
    let variables = unsafe { count(environment) };
    let words = size_of::<usize>();
    let memory = sys::memory(MOST_PATH + 64 + MOST_NAME + (OWN + given + 1 + variables + 1) * words);
    if memory.is_null() {
        return None;
    }
    // SAFETY: parts of fresh zeroed memory that is as long as all of them; each string ends with a zero.
    unsafe {
        let (path, digits, setting) = (memory, memory.add(MOST_PATH), memory.add(MOST_PATH + 64));
        let lists = memory.add(MOST_PATH + 64 + MOST_NAME) as *mut *const u8;
        write_path(path)?;
        let own_number = write_number(digits, sys::pid());
        let own = [COLLECTOR.as_ptr(), SERVE.as_ptr(), own_number, REST.as_ptr()];
        core::ptr::copy_nonoverlapping(own.as_ptr(), lists, OWN);
        core::ptr::copy_nonoverlapping(arguments, lists.add(OWN), given);
        let kept = lists.add(OWN + given + 1);
        let mut at = 0;
        for variable in (0..variables).map(|at| *environment.add(at)) {
            // The collector is not recorded.
            if !begins(variable, b"LD_PRELOAD=") {
                kept.add(at).write(variable);
                at += 1;
            }
        }
        core::ptr::copy_nonoverlapping(VARIABLE.as_ptr(), setting, VARIABLE.len());
        let name = setting.add(VARIABLE.len());
        let room = core::slice::from_raw_parts_mut(name, MOST_NAME - VARIABLE.len() - 1);
        let length = sys::output_of(path, lists, kept, room);
        let line = room.iter().take(length).position(|byte| *byte == b'\n')?;
        name.add(line).write(0);
        SETTING.store(setting, Ordering::Release);
        Some(name)
    }
}

/// Writes the path of the collector: beside this library.
///
/// # Safety
/// There must be zeroed memory for [`MOST_PATH`] bytes.
unsafe fn write_path(path: *mut u8) -> Option<()> {
    let own = modules::locate(arch::is_ours as *const () as usize)?;
    // SAFETY: the loader's name of this library; the memory that the caller promises.
    unsafe {
        let name = core::ffi::CStr::from_ptr(own.name).to_bytes();
        let folder = name.iter().rposition(|byte| *byte == b'/')? + 1;
        if folder + COLLECTOR.len() > MOST_PATH {
            return None;
        }
        core::ptr::copy_nonoverlapping(name.as_ptr(), path, folder);
        core::ptr::copy_nonoverlapping(COLLECTOR.as_ptr(), path.add(folder), COLLECTOR.len());
    }
    Some(())
}

/// Writes a number in decimal; where it begins.
///
/// # Safety
/// There must be zeroed memory for 16 bytes.
unsafe fn write_number(place: *mut u8, mut number: u32) -> *const u8 {
    let mut at = place.wrapping_add(15);
    loop {
        at = at.wrapping_sub(1);
        // SAFETY: at most ten digits.
        unsafe { at.write(b'0' + (number % 10) as u8) };
        number /= 10;
        if number == 0 {
            return at;
        }
    }
}

/// Lets the programs that this one starts find the recording. For the time when libc has its environment.
///
/// # Safety
/// `environ` must be libc's variable, which nobody uses meanwhile.
pub unsafe fn tell_children(environ: *mut Strings) {
    let setting = SETTING.swap(core::ptr::null_mut(), Ordering::Acquire);
    // SAFETY: the caller's promise; libc's environment ends with a null pointer.
    unsafe {
        if setting.is_null() || (*environ).is_null() {
            return;
        }
        let variables = count(*environ);
        let fresh = sys::memory((variables + 2) * size_of::<usize>()) as *mut *const u8;
        if !fresh.is_null() {
            core::ptr::copy_nonoverlapping(*environ, fresh, variables);
            fresh.add(variables).write(setting);
            environ.write(fresh);
        }
    }
}
