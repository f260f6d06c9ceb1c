//! Which interpreter it is, and what of it can be recorded.
#![allow(unsafe_code)]

use super::elf::Symbols;
use super::layout::{self, Layout};
use core::ffi::{c_char, CStr};

/// The note that tells the collector of an interpreter.
pub struct Report {
    /// Where things lie, if this version is known.
    pub layout: Option<Layout>,
    /// The middle number of its version.
    pub minor: u32,
    bytes: [u8; 256],
    name: usize,
    length: usize,
}

impl Report {
    fn empty() -> Report {
        Report {
            layout: None,
            minor: 0,
            bytes: [0; 256],
            name: 2,
            length: 2,
        }
    }

    /// Of PyPy, which allocates its objects in memory of its own.
    pub fn of_pypy() -> Report {
        let mut report = Report::empty();
        report.title(b"PyPy", b"");
        report.refuse(b"not CPython: objects are allocated in memory of its own");
        report
    }

    /// Asks the interpreter for its version: a function that only formats a static text.
    pub fn of(symbols: &Symbols) -> Report {
        let mut report = Report::empty();
        let Some(get) = symbols.find(b"Py_GetVersion") else {
            report.title(b"CPython", b"");
            report.refuse(b"it does not tell its version");
            return report;
        };
        // SAFETY: `const char *Py_GetVersion(void)`, which may be called at any time, returns a static string.
        let text = unsafe {
            let get = core::mem::transmute::<usize, extern "C" fn() -> *const c_char>(get.address);
            CStr::from_ptr(get())
        }
        .to_bytes();
        let version = text.split(|byte| *byte == b' ').next().unwrap_or(text);
        report.title(b"CPython ", version);
        let mut numbers = version.split(|byte| *byte == b'.').map(number);
        let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if text.windows(14).any(|part| part == b"free-threading") {
            report.refuse(b"a build without the global interpreter lock");
        } else if version.ends_with(b"+") || text.windows(5).any(|part| part == b"PyPy ") {
            report.refuse(b"not a released version of CPython");
        } else {
            report.minor = minor;
            report.layout = layout::of(major, minor);
            match report.layout {
                Some(_) => report.bytes[0] = 1,
                None => report.refuse(layout::NO_TABLE),
            }
        }
        report
    }

    fn title(&mut self, name: &[u8], version: &[u8]) {
        self.length = self.name;
        for byte in name.iter().chain(version).chain(b"\0") {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = *byte;
                self.length += 1;
            }
        }
    }

    /// Whether the types of its objects are said.
    pub fn types(&mut self, are_said: bool) {
        self.bytes[1] = are_said.into();
    }

    /// Its frames are not recorded, for this reason.
    pub fn refuse(&mut self, reason: &[u8]) {
        self.layout = None;
        self.bytes[..2].fill(0);
        if let Some(room) = self.bytes.get_mut(self.length..self.length + reason.len()) {
            room.copy_from_slice(reason);
            self.length += reason.len();
        }
    }

    /// The note.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn number(digits: &[u8]) -> u32 {
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number: u32, digit| {
        number.saturating_mul(10).saturating_add(u32::from(digit - b'0'))
    })
}
