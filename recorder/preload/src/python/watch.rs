//! Addresses of the interpreter's objects that are known, and the numbers they were given: code objects, types, thread states.
//!
//! An address alone is no identity, since the interpreter gives it again when an object has died; so every free of Python's allocators asks here whether it
//! ends the life of something known ([`forget`]). A map of bits answers nearly all of them.
//!
//! Readers take no lock. An entry is only read by who knows that its object lives, so it cannot change under the reader; who writes excludes other writers.
#![allow(unsafe_code)]

use super::layout::{BLOCK_ALIGNMENT, INTERPRETER_HEAD};
use crate::sys;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Places of the table, 16 bytes each, touched as they are used.
const PLACES: usize = 1 << 16;
/// Places that may be in use before code is forgotten, or everything.
const MOST_USED: u32 = PLACES as u32 / 2;
/// Deaths after which the map of bits is made anew.
const MOST_DEAD: u32 = 4096;
/// Bits of the map, a power of two.
const BITS: usize = 1 << 16;

const EMPTY: u64 = 0;
const GONE: u64 = 1;

/// What stands at an address.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A code object.
    Code = 1,
    /// A type.
    Type = 2,
    /// A thread state, by a number that no other one was given.
    State = 3,
    /// An interpreter, of which thread states may be parts; its number means nothing.
    Interpreter = 4,
}

#[repr(C)]
struct Table {
    /// Address, then number and kind.
    places: [[AtomicU64; 2]; PLACES],
    /// Set where an address may be known.
    bits: [AtomicU64; BITS / 64],
}

static TABLE: AtomicPtr<Table> = AtomicPtr::new(core::ptr::null_mut());
static USED: AtomicU32 = AtomicU32::new(0);
/// Deaths since the map of bits was made.
static DEAD: AtomicU32 = AtomicU32::new(0);
/// The next map of bits, while it is being made.
static BITS_TO_BE: [AtomicU64; BITS / 64] = [const { AtomicU64::new(0) }; BITS / 64];
static LOCK: AtomicBool = AtomicBool::new(false);
static NEXT: AtomicU32 = AtomicU32::new(1);
/// Numbers whose objects have died, to be given again: whoever goes by a number asks what lives, or what the collector was told last.
static SPARE: [AtomicU32; 1024] = [const { AtomicU32::new(0) }; 1024];
static SPARE_COUNT: AtomicU32 = AtomicU32::new(0);

/// Raised when a known code object has died, or memory that cached frames may lie in is gone: what was read of frames before is void.
static FRAMES_EPOCH: AtomicU32 = AtomicU32::new(0);
/// Raised when a thread state has died.
static STATES_EPOCH: AtomicU32 = AtomicU32::new(0);
/// The number for the next thread state, and the lowest that may be that of a living one.
static NEXT_STATE: AtomicU32 = AtomicU32::new(1);
static FIRST_STATE: AtomicU32 = AtomicU32::new(1);

/// Maps the memory. `false` when there is none.
pub fn prepare() -> bool {
    let memory = sys::memory(core::mem::size_of::<Table>());
    TABLE.store(memory as *mut Table, Ordering::Release);
    !memory.is_null()
}

/// In a forked child: nobody holds the lock here.
pub fn forget_parent() {
    LOCK.store(false, Ordering::Release);
}

fn table() -> Option<&'static Table> {
    // SAFETY: mapped zeroed memory of this size, never unmapped, only used as atomics.
    unsafe { TABLE.load(Ordering::Acquire).as_ref() }
}

/// The epochs now: of frames, of thread states.
#[inline(always)]
pub fn epochs() -> (u32, u32) {
    (
        FRAMES_EPOCH.load(Ordering::Acquire),
        STATES_EPOCH.load(Ordering::Acquire),
    )
}

/// What was read of frames before is void.
pub fn void_frames() {
    FRAMES_EPOCH.fetch_add(1, Ordering::AcqRel);
}

/// What stands closer together than blocks do shares a value.
#[inline(always)]
fn hash(address: usize) -> usize {
    ((address as u64 / BLOCK_ALIGNMENT as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

#[inline(always)]
fn bit(address: usize) -> (usize, u64) {
    let bit = hash(address) % BITS;
    (bit / 64, 1 << (bit % 64))
}

/// The number of what lives at an address, if it is known and of this kind.
#[inline]
pub fn find(address: usize, kind: Kind) -> Option<u32> {
    let value = find_value(address)?;
    (value as u8 == kind as u8).then_some((value >> 32) as u32)
}

#[inline]
fn find_value(address: usize) -> Option<u64> {
    let table = table()?;
    for step in 0..PLACES {
        let [key, value] = &table.places[(hash(address) + step) % PLACES];
        match key.load(Ordering::Acquire) {
            EMPTY => return None,
            found if found == address as u64 => return Some(value.load(Ordering::Relaxed)),
            _ => {}
        }
    }
    None
}

/// A number that means nothing now.
pub fn fresh_number() -> u32 {
    let mut number = 0;
    alone(|_| number = spare());
    match number {
        0 => NEXT.fetch_add(1, Ordering::Relaxed),
        number => number,
    }
}

/// A number whose object has died; 0 when there is none. Only for who is alone.
fn spare() -> u32 {
    let count = SPARE_COUNT.load(Ordering::Relaxed);
    let last = count.wrapping_sub(1);
    let Some(place) = SPARE.get(last as usize) else {
        return 0;
    };
    SPARE_COUNT.store(last, Ordering::Relaxed);
    place.load(Ordering::Relaxed)
}

/// Keeps the number of what has died, to be given again. Only for who is alone.
fn spend(number: u32) {
    let count = SPARE_COUNT.load(Ordering::Relaxed);
    if let (Some(place), true) = (SPARE.get(count as usize), number != 0) {
        place.store(number, Ordering::Relaxed);
        SPARE_COUNT.store(count + 1, Ordering::Relaxed);
    }
}

/// What is known of a type.
#[derive(Clone, Copy)]
pub struct Type {
    /// Its number.
    pub number: u32,
    /// Bytes of its objects' blocks before them.
    pub head: u8,
    /// Its objects are types.
    pub makes_types: bool,
}

/// The type whose block begins at an address, if it is known.
#[inline(always)]
pub fn find_type(block: usize) -> Option<Type> {
    let (word, mask) = bit(block);
    if table()?.bits[word].load(Ordering::Relaxed) & mask == 0 {
        return None;
    }
    let value = find_value(block)?;
    (value as u8 == Kind::Type as u8).then_some(Type {
        number: (value >> 32) as u32,
        head: (value >> 8) as u8,
        makes_types: value >> 16 & 1 != 0,
    })
}

/// Makes a type known.
pub fn insert_type(block: usize, number: u32, head: u8, makes_types: bool) {
    insert_value(
        block,
        u64::from(number) << 32 | u64::from(makes_types) << 16 | u64::from(head) << 8 | Kind::Type as u64,
    );
}

/// Makes an address known.
pub fn insert(address: usize, kind: Kind, number: u32) {
    insert_value(address, u64::from(number) << 32 | kind as u64);
}

/// The number of a thread state that lives; it is made known, with its interpreter, when it is met for the first time.
pub fn meet_state(state: usize, interpreter: usize) -> u32 {
    if let Some(number) = find(state, Kind::State).filter(|number| is_current(*number)) {
        return number;
    }
    let number = NEXT_STATE.fetch_add(1, Ordering::Relaxed);
    insert(state, Kind::State, number);
    // The first one of an interpreter is a part of that, which may begin behind its block (3.14).
    insert(interpreter, Kind::Interpreter, 0);
    insert(interpreter.wrapping_sub(INTERPRETER_HEAD), Kind::Interpreter, 0);
    number
}

/// Does the thread state live that was given this number? The one of another thread may lie at its address by now.
pub fn is_state_alive(state: usize, number: u32) -> bool {
    is_current(number) && find(state, Kind::State) == Some(number)
}

/// Whether no interpreter has died since this number was given.
fn is_current(number: u32) -> bool {
    number >= FIRST_STATE.load(Ordering::Acquire)
}

fn insert_value(address: usize, entry: u64) {
    alone(|table| {
        if USED.load(Ordering::Relaxed) >= MOST_USED {
            make_room(table);
        }
        // The first place that is free, unless the address has one already.
        let mut free = None;
        for step in 0..PLACES {
            let place = &table.places[(hash(address) + step) % PLACES];
            match place[0].load(Ordering::Relaxed) {
                GONE => free = free.or(Some((place, false))),
                EMPTY => {
                    free = free.or(Some((place, true)));
                    break;
                }
                found if found == address as u64 => {
                    free = Some((place, false));
                    break;
                }
                _ => {}
            }
        }
        if let Some(([key, value], is_new)) = free {
            value.store(entry, Ordering::Relaxed);
            key.store(address as u64, Ordering::Release);
            let (word, mask) = bit(address);
            table.bits[word].fetch_or(mask, Ordering::Release);
            USED.fetch_add(u32::from(is_new), Ordering::Relaxed);
        }
    });
}

/// Forgets all code: what of it still lives is met again, and told again. A type is met only while it is made, so all are forgotten only if they alone are too many.
#[cold]
fn make_room(table: &Table) {
    // From the end, so that the places of what is forgotten are free at once.
    for index in (0..PLACES).rev() {
        let [key, value] = &table.places[index];
        let value = value.load(Ordering::Relaxed);
        if key.load(Ordering::Relaxed) > GONE && value as u8 == Kind::Code as u8 {
            // Its number is not spent: another thread may be about to say it.
            bury(table, index);
        }
    }
    if USED.load(Ordering::Relaxed) >= MOST_USED {
        for [key, _] in &table.places {
            key.store(EMPTY, Ordering::Release);
        }
        USED.store(0, Ordering::Relaxed);
        STATES_EPOCH.fetch_add(1, Ordering::AcqRel);
    }
    void_frames();
    renew_bits(table);
}

/// Takes what stands at a place away. Whoever looks for what may stand behind it must still come by, unless nothing stands there. Only for who is alone.
fn bury(table: &Table, index: usize) {
    table.places[index][0].store(GONE, Ordering::Release);
    DEAD.fetch_add(1, Ordering::Relaxed);
    let key = |index: usize| &table.places[index % PLACES][0];
    let mut last = index;
    while key(last).load(Ordering::Relaxed) == GONE && key(last + 1).load(Ordering::Relaxed) == EMPTY {
        key(last).store(EMPTY, Ordering::Release);
        USED.fetch_sub(1, Ordering::Relaxed);
        last = (last + PLACES - 1) % PLACES;
    }
}

/// Takes the bits away that nothing known has set. Those that something known has set stay all the time. Only for who is alone.
#[cold]
fn renew_bits(table: &Table) {
    for word in &BITS_TO_BE {
        word.store(0, Ordering::Relaxed);
    }
    for [key, _] in &table.places {
        let address = key.load(Ordering::Relaxed);
        if address > GONE {
            let (word, mask) = bit(address as usize);
            BITS_TO_BE[word].fetch_or(mask, Ordering::Relaxed);
        }
    }
    for (word, to_be) in table.bits.iter().zip(&BITS_TO_BE) {
        word.store(to_be.load(Ordering::Relaxed), Ordering::Release);
    }
    DEAD.store(0, Ordering::Relaxed);
}

/// A block is about to be freed: what was known there lives no more.
#[inline(always)]
pub fn forget(block: *mut u8) {
    if let Some(table) = table() {
        let (word, mask) = bit(block as usize);
        if table.bits[word].load(Ordering::Relaxed) & mask != 0 {
            forget_known(block as usize);
        }
    }
}

#[cold]
#[inline(never)]
fn forget_known(address: usize) {
    alone(|table| {
        for step in 0..PLACES {
            let index = (hash(address) + step) % PLACES;
            let [key, value] = &table.places[index];
            match key.load(Ordering::Relaxed) {
                EMPTY => return,
                found if found == address as u64 => {
                    bury(table, index);
                    let value = value.load(Ordering::Relaxed);
                    let number = (value >> 32) as u32;
                    match value as u8 {
                        kind if kind == Kind::State as u8 => {
                            STATES_EPOCH.fetch_add(1, Ordering::AcqRel);
                        }
                        kind if kind == Kind::Interpreter as u8 => {
                            // Which states were parts of it is not known: those that live are met again.
                            FIRST_STATE.store(NEXT_STATE.load(Ordering::Relaxed), Ordering::Release);
                            STATES_EPOCH.fetch_add(1, Ordering::AcqRel);
                        }
                        kind => {
                            spend(number);
                            if kind == Kind::Code as u8 {
                                void_frames();
                            }
                        }
                    }
                    if DEAD.load(Ordering::Relaxed) >= MOST_DEAD {
                        renew_bits(table);
                    }
                    return;
                }
                _ => {}
            }
        }
    });
}

/// Runs `inside` while nobody else writes. Whoever is in there needs microseconds at most, unless this is a signal handler that interrupted it; then the whole
/// table is given up: nothing more is found in it, rather than something wrong.
fn alone(inside: impl FnOnce(&Table)) {
    let Some(table) = table() else { return };
    for _ in 0..10_000_000 {
        if !LOCK.swap(true, Ordering::Acquire) {
            inside(table);
            LOCK.store(false, Ordering::Release);
            return;
        }
        core::hint::spin_loop();
    }
    TABLE.store(core::ptr::null_mut(), Ordering::Release);
    void_frames();
    STATES_EPOCH.fetch_add(1, Ordering::AcqRel);
}
