//! Which blocks are recorded, when not all are.
//!
//! Blocks below a least size are not. With sampling each thread lets bytes pass until its next sample, by a draw from the exponential distribution; a block is recorded
//! if a sample falls into it. So a block of `s` bytes is recorded with probability `1 - exp(-s / mean)` whatever was allocated before it, and the analyzer counts it as
//! that many blocks.
//!
//! A block's death is recorded if its birth was: the addresses of recorded blocks are kept in a table without locks. A bucket that was full once has forgotten
//! some, and from then on takes every address for one of its own; the collector's side ignores deaths of blocks that it does not know. How many addresses a bucket has
//! stands apart, so that nearly all other blocks are told by a look at 16 KiB.
#![allow(unsafe_code)]

use crate::life::Recording;
use crate::thread::Local;
use crate::{arch, sys};
use core::sync::atomic::{AtomicPtr, AtomicU16, AtomicU64, Ordering};
use heaptape_shm::Options;

/// Addresses of a bucket: one cache line.
const WAYS: usize = 8;
/// 65,536 addresses; 512 KiB, touched as it fills.
const BUCKETS: usize = 8192;

/// In the last place of a bucket: it was full once.
const FULL: u64 = u64::MAX;

/// The addresses of recorded blocks that may be alive.
#[repr(C)]
struct Table {
    buckets: [[AtomicU64; WAYS]; BUCKETS],
    /// Places of each bucket that are taken: raised before one is, lowered after it is free again.
    taken: [AtomicU16; BUCKETS],
}

static TABLE: AtomicPtr<Table> = AtomicPtr::new(core::ptr::null_mut());

/// Whether some blocks are left out.
pub fn is_partial(options: &Options) -> bool {
    options.sample_bytes != 0 || options.min_size != 0
}

/// Maps the table, if it will be needed. `false` when there is no memory.
pub fn prepare(options: &Options) -> bool {
    if !is_partial(options) {
        return true;
    }
    let table = sys::memory(core::mem::size_of::<Table>());
    TABLE.store(table as *mut Table, Ordering::Release);
    !table.is_null()
}

/// The places for an address, and the number of those that are taken.
#[inline(always)]
fn bucket(address: u64) -> Option<(&'static [AtomicU64; WAYS], &'static AtomicU16)> {
    // SAFETY: mapped zeroed memory of this size, never unmapped, only used as atomics.
    let table = unsafe { TABLE.load(Ordering::Acquire).as_ref() }?;
    let index = ((address >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % BUCKETS;
    Some((&table.buckets[index], &table.taken[index]))
}

/// Whether a new block of this size is to be recorded. To be asked once for each.
#[inline(always)]
pub fn wants(recording: &Recording, size: u64) -> bool {
    let options = &recording.options;
    size >= options.min_size
        && match options.sample_bytes {
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
    if is_partial(&recording.options) {
        note(address);
    }
}

fn note(address: u64) {
    let Some((places, taken)) = bucket(address) else { return };
    taken.fetch_add(1, Ordering::AcqRel);
    for place in places {
        let old = place.load(Ordering::Relaxed);
        if old == address {
            // Its end was not seen.
            taken.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        if old == 0
            && place
                .compare_exchange(0, address, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            return;
        }
    }
    if places[WAYS - 1].swap(FULL, Ordering::AcqRel) == FULL {
        taken.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether the end of the block at this address, which is about to come, is to be recorded. To be asked once for each.
#[inline(always)]
pub fn dies(recording: &Recording, address: u64) -> bool {
    if !is_partial(&recording.options) {
        return true;
    }
    let Some((places, taken)) = bucket(address) else {
        return true;
    };
    taken.load(Ordering::Acquire) != 0 && was_recorded(places, taken, address)
}

fn was_recorded(places: &[AtomicU64; WAYS], taken: &AtomicU16, address: u64) -> bool {
    let found = places.iter().any(|place| {
        place.load(Ordering::Relaxed) == address
            && place
                .compare_exchange(address, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    });
    if found {
        taken.fetch_sub(1, Ordering::AcqRel);
    }
    found || places[WAYS - 1].load(Ordering::Acquire) == FULL
}
