//! The tables of dictionaries: most of the blocks of the object domain that hold no object.
//!
//! The entries of a dictionary lie in a block of their own, `PyDictKeysObject`, which names no type. What it is known by is its size, which follows from its first words. From 3.13 on
//! it comes from the mem domain.
#![allow(unsafe_code)]

use super::layout::Keys;
use super::watch;
use crate::event::Writer;
use core::sync::atomic::{AtomicU32, Ordering};
use heaptape_shm::entry::note;
use heaptape_shm::entry::python::NO_TYPE;

/// What stands in the place of a type's name.
const NAME: &[u8] = b"dict (table)";

/// The number of that, once the collector knows it; the same in all interpreters of the process.
static NUMBER: AtomicU32 = AtomicU32::new(NO_TYPE);

const WORD: usize = size_of::<usize>();

/// Whether tables come from the object domain, by the version.
pub fn are_objects(minor: u32) -> bool {
    minor <= 12
}

/// Whether a block without a type is a table.
///
/// # Safety
/// The block is live, and has this size.
#[inline(never)]
pub unsafe fn is_one(keys: &Keys, block: usize, size: usize) -> bool {
    // All that is read here lies before the indices.
    if size < keys.indices {
        return false;
    }
    // SAFETY: inside the block.
    let word = |at: usize| unsafe { ((block + at) as *const usize).read_volatile() };
    let (slots, indices, words) = if keys.compact {
        let [slots, indices, kind, _] = (word(keys.size) as u32).to_le_bytes();
        if slots > 32 || indices > 34 || kind > 2 {
            return false;
        }
        let (slots, indices) = (1u64 << slots, 1u64 << indices);
        // Entries have no hash when all keys are strings.
        (slots as usize, indices as usize, if kind == 0 { 3 } else { 2 })
    } else {
        let slots = word(keys.size);
        let width = match slots {
            ..=0xff => 1,
            0x100..=0xffff => 2,
            _ => 4,
        };
        (slots, slots.saturating_mul(width), 3)
    };
    if slots < 8 || slots > size || !slots.is_power_of_two() {
        return false;
    }
    // Two thirds of the slots have entries. Before the number of those that are used comes that of those that are not.
    let entries = slots * 2 / 3;
    let (references, free) = (word(0), word(keys.count - WORD));
    references != 0
        && free <= entries
        && indices
            .saturating_add(keys.indices)
            .saturating_add(entries * words * WORD)
            == size
}

/// The number of the type that stands for tables; [`NO_TYPE`] until the collector knows it.
#[inline(always)]
pub fn known() -> u32 {
    NUMBER.load(Ordering::Relaxed)
}

/// The same; it is made known when it is not. `None`: that was lost.
#[cold]
pub fn number(writer: Writer) -> Option<u32> {
    let known = known();
    if known != NO_TYPE {
        return Some(known);
    }
    let number = watch::fresh_number();
    let mut text = [0; 4 + NAME.len()];
    text[..4].copy_from_slice(&number.to_le_bytes());
    text[4..].copy_from_slice(NAME);
    writer.muted(|| writer.note(note::TYPE, &text)).filter(|sent| *sent)?;
    NUMBER.store(number, Ordering::Relaxed);
    Some(number)
}
