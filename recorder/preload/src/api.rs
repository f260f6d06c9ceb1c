//! The C API, declared in `recorder/include/heaptape.h`.
#![allow(unsafe_code)]

use crate::{event, life};
use core::ffi::{c_char, CStr};
use heaptape_shm::entry::note;
use heaptape_shm::State;

/// `void heaptape_mark(const char *name)`: a marker at this place in the order of events.
pub unsafe extern "C" fn mark(name: *const c_char, _: *const usize, _: usize) {
    if name.is_null() {
        return;
    }
    if let Some(recording) = life::attached() {
        // SAFETY: the caller passes a string.
        event::lone_note(recording, note::MARKER, unsafe { CStr::from_ptr(name) }.to_bytes());
    }
}

fn steer(state: State) {
    if let Some(recording) = life::attached() {
        recording.segment.control().set_state(state);
    }
}

/// `void heaptape_start(void)`: events are recorded from here on.
pub unsafe extern "C" fn start() {
    if let Some(recording) = life::attached() {
        if recording.segment.control().state() == State::Paused {
            // Before anything is recorded again.
            event::lone_note(recording, note::RESUMED, &[]);
        }
    }
    steer(State::Recording);
}

/// `void heaptape_stop(void)`: events are not recorded until the next start.
pub unsafe extern "C" fn stop() {
    steer(State::Paused);
}

/// `int heaptape_state(void)`: 0 not recorded, 1 recording, 2 paused.
pub unsafe extern "C" fn state() -> i32 {
    life::attached().map_or(0, |recording| recording.segment.control().state() as i32)
}
