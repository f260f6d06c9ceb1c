//! The performing process: takes calls from its standard input, measures, and tells the outcome on its standard output.

use super::allocator::{library, Blocks, Done};
use super::call::{Call, Packed};
use super::threads::Performers;
use super::Stage;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

/// Calls that are taken at once.
pub(super) const CALLS_AT_ONCE: usize = 1 << 15;

/// What performing came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The file that `malloc` came from.
    pub library: String,
    /// Calls that gave a block, other than of `realloc`.
    pub allocations: u64,
    /// Calls of `realloc`.
    pub reallocations: u64,
    /// Calls of `free`.
    pub frees: u64,
    /// Bytes asked for by all of them.
    pub bytes: u128,
    /// Calls that gave no block.
    pub failed: u64,
    /// The time of the calls, and of touching blocks, in microseconds.
    pub micros: u64,
    /// Highest resident set, less that before the first call.
    pub peak_rss: u64,
    /// Resident set after the last call, less that before the first one.
    pub end_rss: u64,
    /// The resident set before the first call.
    pub own_rss: u64,
    /// Why it gave up; empty when it did not.
    pub gave_up: String,
}

/// The resident set now and its highest, in bytes.
struct Resident {
    now: u64,
    highest: u64,
}

fn resident() -> io::Result<Resident> {
    let text = fs::read_to_string("/proc/self/status")?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        number
            .map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other("/proc/self/status lacks a line"))
    };
    Ok(Resident {
        now: kib("VmRSS:")?,
        highest: kib("VmHWM:")?,
    })
}

/// Fills a list with the next calls; at the end it stays short.
fn take(from: &mut impl Read, calls: &mut [Packed]) -> io::Result<usize> {
    let bytes = bytemuck::cast_slice_mut::<Packed, u8>(calls);
    let mut filled = 0;
    while filled < bytes.len() {
        match from.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if !filled.is_multiple_of(size_of::<Packed>()) {
        return Err(io::Error::other("the calls end in the middle of one"));
    }
    Ok(filled / size_of::<Packed>())
}

/// Performs all calls that come from `calls`.
///
/// # Errors
/// When the calls cannot be read, or the system tells nothing of the process's memory.
pub fn perform(stage: &Stage, mut calls: impl Read) -> io::Result<Outcome> {
    let blocks = Arc::new(Blocks::new(stage.slots, stage.touch)?);
    let performers = Performers::new(stage.threads, &blocks)?;
    // Not all zeros, so that its memory is there already.
    let mut list = Arc::new(vec![Call::nothing(0).pack(); CALLS_AT_ONCE]);
    // Each thread has had its turn, and the figures have been read once, before the first call: what that takes is no part of the outcome.
    let turns = (0..stage.threads.max(1)).map(|thread| Call::nothing(thread).pack());
    performers.perform(&Arc::new(turns.collect()))?;
    resident()?;
    // Sets the highest resident set back to that of now.
    fs::write("/proc/self/clear_refs", "5")?;
    let before = resident()?;

    let (mut done, mut time) = (Done::default(), Duration::ZERO);
    let mut gave_up = String::new();
    loop {
        let full = Arc::get_mut(&mut list).ok_or_else(|| io::Error::other("the calls are still in use"))?;
        full.resize(CALLS_AT_ONCE, Packed::default());
        let taken = take(&mut calls, full)?;
        if taken == 0 {
            break;
        }
        full.truncate(taken);
        let (more, took) = performers.perform(&list)?;
        done.add(more);
        time += took;
        let now = resident()?.now.saturating_sub(before.now);
        if now > stage.memory {
            gave_up = format!("{now} bytes are resident, more than twice what --memory allows");
            break;
        }
    }
    let after = resident()?;
    performers.finish();
    Ok(Outcome {
        library: library(),
        allocations: done.allocations,
        reallocations: done.reallocations,
        frees: done.frees,
        bytes: done.bytes,
        failed: done.failed,
        micros: time.as_micros() as u64,
        peak_rss: after.highest.saturating_sub(before.now),
        end_rss: after.now.saturating_sub(before.now),
        own_rss: before.now,
        gave_up,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perform::call::kind;
    use crate::perform::Touch;

    #[test]
    fn what_is_touched_is_resident_and_half_a_call_is_refused() {
        let _alone = crate::MEMORY.lock();
        let stage = Stage {
            slots: 4,
            threads: 2,
            touch: Touch::Page,
            memory: 1 << 30,
        };
        let call = |kind, slot, thread, size| {
            let call = Call {
                size,
                slot,
                thread,
                kind,
                alignment_log2: 0,
            };
            call.pack()
        };
        let calls = [
            call(kind::MALLOC, 0, 0, 32 << 20),
            call(kind::MALLOC, 1, 1, 16 << 20),
            call(kind::FREE, 0, 1, 0),
        ];
        let outcome = perform(&stage, bytemuck::cast_slice::<Packed, u8>(&calls)).expect("it is performed");
        assert_eq!((outcome.allocations, outcome.frees, outcome.failed), (2, 1, 0));
        // The system counts the pages of a process in batches, by processor.
        assert!(outcome.peak_rss >= 47 << 20, "{}", outcome.peak_rss);
        assert!(perform(&stage, &[0u8; 25][..]).is_err());
    }
}
