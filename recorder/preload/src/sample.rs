//! Sampling: which blocks are recorded when not all are.
//!
//! Each thread lets bytes pass until its next sample, by a draw from the exponential distribution; a block is recorded if a sample falls into it. So a block of
//! `s` bytes is recorded with probability `1 - exp(-s / mean)` whatever was allocated before it, and the analyzer counts it as that many blocks.
//!
//! A block's death is recorded if its birth was: the addresses of recorded blocks are kept in a table without locks. A bucket that was full once has forgotten
//! some, and from then on takes every address for one of its own; the collector's side ignores deaths of blocks that it does not know.
#![allow(unsafe_code)]

use crate::life::Recording;
use crate::thread::Local;
use crate::{arch, sys};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Addresses of a bucket: one cache line.
const WAYS: usize = 8;
/// 65,536 addresses; 512 KiB, touched as it fills.
const BUCKETS: usize = 8192;
type Bucket = [AtomicU64; WAYS];

/// In the last place of a bucket: it was full once.
const FULL: u64 = u64::MAX;

static TABLE: AtomicPtr<Bucket> = AtomicPtr::new(core::ptr::null_mut());

/// Maps the table, if it will be needed. `false` when there is no memory.
pub fn prepare(mean: u64) -> bool {
    if mean == 0 {
        return true;
    }
    let table = sys::memory(BUCKETS * core::mem::size_of::<Bucket>());
    TABLE.store(table as *mut Bucket, Ordering::Release);
    !table.is_null()
}

fn bucket(address: u64) -> Option<&'static Bucket> {
    let table = TABLE.load(Ordering::Acquire);
    let hash = (address >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    // SAFETY: mapped zeroed memory of this size, never unmapped, only used as atomics.
    (!table.is_null()).then(|| unsafe { &*table.add(hash as usize % BUCKETS) })
}

/// Whether a new block of this size is to be recorded.
#[inline(always)]
pub fn wants(recording: &Recording, size: u64) -> bool {
    match recording.options.sample_bytes {
        0 => true,
        mean => falls_into(arch::local(), size, mean),
    }
}

fn falls_into(local: &Local, size: u64, mean: u64) -> bool {
    if local.dice.get() == 0 {
        // Any number but 0 will do; threads should have different ones.
        local
            .dice
            .set(arch::stamp() ^ (core::ptr::from_ref(local) as u64) << 20 | 1);
        local.until_sample.set(draw(local, mean));
    }
    let left = local.until_sample.get();
    if size < left {
        local.until_sample.set(left - size);
        return false;
    }
    local.until_sample.set(draw(local, mean));
    true
}

/// Bytes to the next sample, at least 1.
fn draw(local: &Local, mean: u64) -> u64 {
    // xorshift64* (Vigna, 2016).
    let mut dice = local.dice.get();
    dice ^= dice >> 12;
    dice ^= dice << 25;
    dice ^= dice >> 27;
    local.dice.set(dice);
    let bits = dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
    // In (0, 1], so that the logarithm is finite.
    let uniform = (bits + 1) as f64 / (1u64 << 53) as f64;
    (-libm::log(uniform) * mean as f64) as u64 + 1
}

/// Notes that the block at this address is recorded.
#[inline(always)]
pub fn born(recording: &Recording, address: u64) {
    if recording.options.sample_bytes != 0 {
        note(address);
    }
}

fn note(address: u64) {
    let Some(bucket) = bucket(address) else { return };
    for place in bucket {
        let old = place.load(Ordering::Relaxed);
        let free = old == 0 || old == address;
        if free
            && place
                .compare_exchange(old, address, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            return;
        }
    }
    bucket[WAYS - 1].store(FULL, Ordering::Release);
}

/// Whether the end of the block at this address, which is about to come, is to be recorded.
#[inline(always)]
pub fn dies(recording: &Recording, address: u64) -> bool {
    recording.options.sample_bytes == 0 || was_recorded(address)
}

fn was_recorded(address: u64) -> bool {
    let Some(bucket) = bucket(address) else { return true };
    let found = bucket.iter().any(|place| {
        place
            .compare_exchange(address, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    });
    found || bucket[WAYS - 1].load(Ordering::Acquire) == FULL
}
