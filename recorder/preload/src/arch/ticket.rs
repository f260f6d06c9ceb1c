//! Stamps from a counter that is coarser than the events.
//!
//! Where the counter runs at a few MHz, events of several threads fall on one tick, and their order would be lost. So every stamp is the counter's or, if that has
//! been given out, one more than the latest stamp of the process: of two events of which one led to the other, the second has the higher stamp.
//! No stamp is behind the counter, which is all that the collector relies on.

use core::sync::atomic::{AtomicU64, Ordering};
use heaptape_shm::TICK_BITS;

static LATEST: AtomicU64 = AtomicU64::new(0);

/// The stamp for a moment of the counter.
#[inline(always)]
pub fn stamp(counter: u64) -> u64 {
    let now = counter << TICK_BITS;
    let mut latest = LATEST.load(Ordering::Relaxed);
    loop {
        let stamp = now.max(latest + 1);
        match LATEST.compare_exchange_weak(latest, stamp, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return stamp,
            Err(found) => latest = found,
        }
    }
}
