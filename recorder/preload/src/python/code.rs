//! Telling the collector of code objects: names, file, and the table of lines, as bytes; it makes sense of them.
#![allow(unsafe_code)]

use super::layout::{self, Layout};
use super::watch::{self, Kind};
use crate::event::Writer;
use heaptape_shm::entry::note;

/// Bytes of a text that are passed on.
const MOST_TEXT: usize = 1200;
/// Bytes of lines in one note: it must fit into the smallest chunk.
const PART: usize = 3072;

/// The number of a code object that lives; it is told to the collector when it is met for the first time. 0 when that could not be done.
#[inline(always)]
pub fn number(writer: Writer, layout: &Layout, code: usize) -> u32 {
    match watch::find(code, Kind::Code) {
        Some(number) => number,
        None => announce(writer, layout, code).unwrap_or(0),
    }
}

#[cold]
#[inline(never)]
fn announce(writer: Writer, layout: &Layout, code: usize) -> Option<u32> {
    writer.muted(|| {
        let number = watch::fresh_number();
        // SAFETY: a code object that a live frame names, and so its parts, which never change.
        unsafe {
            let lines = *((code + layout.code_lines) as *const usize);
            let (bytes, length) = (lines + layout::BYTES, *((lines + layout::LENGTH) as *const usize));
            let first_line = *((code + layout.code_first_line) as *const u32);
            let mut note = Note::new();
            note.put(&number.to_le_bytes());
            note.put(&first_line.to_le_bytes());
            note.put(&[layout.lines]);
            note.put(&(length as u32).to_le_bytes());
            note.text(layout, *((code + layout.code_name) as *const usize));
            note.text(layout, *((code + layout.code_file) as *const usize));
            if !writer.note(note::CODE, note.bytes()) {
                return None;
            }
            for part in core::slice::from_raw_parts(bytes as *const u8, length).chunks(PART) {
                let mut note = Note::new();
                note.put(&number.to_le_bytes());
                note.put(part);
                if !writer.note(note::CODE_LINES, note.bytes()) {
                    return None;
                }
            }
        }
        // Only now can another thread name it.
        watch::insert(code, Kind::Code, number);
        Some(number)
    })?
}

/// The bytes of a note.
struct Note {
    bytes: [u8; PART + 8],
    length: usize,
}

impl Note {
    fn new() -> Note {
        Note {
            bytes: [0; PART + 8],
            length: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.length..self.length + bytes.len()) {
            room.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }

    /// # Safety
    /// `object` must be a `str`, or null.
    unsafe fn text(&mut self, layout: &Layout, object: usize) {
        let (mut kind, mut length, mut characters) = (1, 0, object);
        if object != 0 {
            // SAFETY: the caller's promise.
            unsafe {
                length = *((object + layout::LENGTH) as *const usize);
                let state = *((object + layout::TEXT_STATE) as *const u32);
                kind = (state >> 2 & 7) as usize;
                characters = match (state >> 5 & 1, state >> 6 & 1) {
                    (1, 1) => object + layout.text.0,
                    (1, _) => object + layout.text.1,
                    _ => *((object + layout.text.1) as *const usize),
                };
            }
        }
        if !matches!(kind, 1 | 2 | 4) || characters == 0 {
            (kind, length) = (1, 0);
        }
        let length = length.min(MOST_TEXT / kind);
        self.put(&[kind as u8]);
        self.put(&(length as u32).to_le_bytes());
        // SAFETY: that many characters of that size follow.
        self.put(unsafe { core::slice::from_raw_parts(characters as *const u8, length * kind) });
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
