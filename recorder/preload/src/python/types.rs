//! Of which types the objects are: read from the objects themselves.
//!
//! A block of the object domain has no type yet when it is allocated. It is looked at when the domain is called next: the lock lies between two such calls, so the block still
//! lives then, unless another thread has been there meanwhile ([`LATEST`]). What stands where an object names its type is believed only if it is a type that is known: one
//! in the data of a loaded module that is itself of a known type of types, or one that was seen being made. The places are cleared when the block is
//! allocated, so that nothing is taken from what lay there before.
#![allow(unsafe_code)]

use super::elf::Symbols;
use super::layout::{self, Keys, Layout};
use super::tables;
use super::watch;
use super::Interpreter;
use crate::arch;
use crate::event::Writer;
use crate::modules;
use crate::thread::Thread;
use core::ffi::{c_char, CStr};
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use heaptape_shm::entry::python::{INLINE_TYPES, NO_TYPE, TYPE_SHIFT};
use heaptape_shm::entry::{kind, note};

/// `tp_flags`: what says how far from the start of its block an object lies, and what a type is.
const MANAGED_DICT: u64 = 1 << 4;
const HEAP_TYPE: u64 = 1 << 9;
const READY: u64 = 1 << 12;
const HAVE_GC: u64 = 1 << 14;
const TYPE_SUBCLASS: u64 = 1 << 31;

const WORD: usize = size_of::<usize>();

/// How far from the start of its block an object lies: at it, behind what the collector of cycles puts there, or behind two more words.
const HEADS: [usize; 3] = [0, layout::COLLECTOR_HEAD, layout::COLLECTOR_HEAD + 2 * WORD];

/// The least that an object takes: what every object has.
const OBJECT: usize = layout::TYPE + WORD;

/// A type object is the child of the collector of cycles: its block begins before it.
const TYPE_HEAD: usize = layout::COLLECTOR_HEAD;

/// A type that was seen being made, before it has a name.
const UNNAMED: u32 = 0;

const MOST_NAME: usize = 200;

/// What is known of the interpreter's types.
#[derive(Clone, Copy)]
pub struct Types {
    /// The type of types, and of strings.
    type_type: usize,
    unicode_type: usize,
    /// Flags that mean two more words before an object.
    two_words: u64,
    /// As in the [`Layout`].
    keys: Keys,
    text: (usize, usize),
    /// Whether tables of dictionaries come from the object domain: they hold no object, but are known all the same.
    tables: bool,
    /// The least bytes of a type made at run time.
    least: usize,
}

impl Types {
    /// The types of an interpreter, if it exports what they are found by.
    pub fn of(symbols: &Symbols, layout: &Layout, minor: u32) -> Option<Types> {
        let type_type = symbols.find(b"PyType_Type")?.address;
        Some(Types {
            type_type,
            unicode_type: symbols.find(b"PyUnicode_Type")?.address,
            two_words: match minor {
                ..=10 => 0,
                11 => MANAGED_DICT,
                _ => MANAGED_DICT | 1 << 3,
            },
            keys: layout.keys,
            text: layout.text,
            tables: tables::are_objects(minor),
            // SAFETY: a type object, in the data of the interpreter; the size of its objects stands there from the beginning.
            least: unsafe { word(type_type + layout::TYPE_SIZE) },
        })
    }
}

/// The block of a thread that is to be looked at.
#[derive(Clone, Copy, Default)]
pub struct Pending {
    block: usize,
    size: usize,
}

/// The thread that was in the object domain last, among those of recorded events; none, where [`CANDIDATE`] is waiting to be looked at.
static LATEST: AtomicPtr<Thread> = AtomicPtr::new(core::ptr::null_mut());

/// The latest block that may hold a type, and is not recorded (now, or at all); 0 once it was looked at, or has died.
static CANDIDATE: AtomicUsize = AtomicUsize::new(0);

/// Pages that hold no type, so that they need not be looked up again.
static NO_TYPES: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

/// A module has come: where there was none, there may be types now.
pub fn forget_pages() {
    for page in &NO_TYPES {
        page.store(0, Ordering::Relaxed);
    }
}

/// Clears the places of a fresh block where its type will stand.
///
/// # Safety
/// The block is fresh, has this size, and nobody uses it yet.
#[inline(always)]
pub unsafe fn clear(block: *mut u8, size: usize) {
    let clear = |head: usize| {
        // SAFETY: inside the block, by the caller's promise.
        unsafe { (block.add(head + layout::TYPE) as *mut usize).write(0) }
    };
    if size >= HEADS[2] + OBJECT {
        return HEADS.into_iter().for_each(clear);
    }
    for head in [HEADS[0], HEADS[1]] {
        if size >= head + OBJECT {
            clear(head);
        }
    }
}

/// Memory is about to be unmapped: with an interpreter of its own, a block can go without being freed.
#[inline]
pub fn unmapping(address: usize, length: usize) {
    let candidate = CANDIDATE.load(Ordering::Relaxed);
    if candidate.wrapping_sub(address) < length {
        freed(candidate);
    }
    // SAFETY: thread states are never unmapped; this one is the calling thread's.
    if let Some(own) = unsafe { arch::local().thread.get().as_mut() } {
        if own.pending.block.wrapping_sub(address) < length {
            own.pending = Pending::default();
        }
    }
}

/// A block was allocated, and its event is on its way.
#[inline(always)]
pub fn born(writer: Writer, block: usize, size: usize) {
    // SAFETY: this thread's own state.
    born_here(unsafe { &mut *writer.thread }, block, size);
}

/// The same, for who has the thread's state.
#[inline(always)]
pub fn born_here(own: &mut Thread, block: usize, size: usize) {
    own.pending = Pending { block, size };
}

/// What a look at the pending block has found: what is to be said of it in the flags of the event at hand.
#[derive(Clone, Copy)]
pub struct Settled {
    /// The flags.
    pub flags: u16,
}

impl Settled {
    /// Nothing is to be said.
    pub const NOTHING: Settled = Settled { flags: 0 };
}

/// As [`settle`], when what the block holds is known already, or certainly nothing; changes nothing. `None`: it takes more than a look.
#[inline(always)]
pub fn look(own: &Thread, interpreter: &Interpreter) -> Option<Settled> {
    let Pending { block, size } = own.pending;
    let latest = LATEST.load(Ordering::Relaxed) as *const Thread;
    let Some(types) = interpreter.types.as_ref().filter(|_| block != 0 && latest == own) else {
        return (latest == own).then_some(Settled::NOTHING);
    };
    // SAFETY: it was allocated by this thread, and nobody has been in the domain since.
    let number = unsafe { types.known(block, size) }?;
    (number < INLINE_TYPES).then_some(Settled {
        flags: (number as u16 + 1) << TYPE_SHIFT,
    })
}

/// The event that says it is on its way.
#[inline(always)]
pub fn settled(own: &mut Thread, _: Settled) {
    own.pending = Pending::default();
}

/// Looks at the block that the thread has allocated last, before it does anything else in the domain: what is to be said of it in the flags of the event at hand.
#[inline(always)]
pub fn settle(writer: Writer, interpreter: &Interpreter) -> u16 {
    // SAFETY: this thread's own state.
    let own = unsafe { &mut *writer.thread };
    let Pending { block, size } = core::mem::take(&mut own.pending);
    if LATEST.load(Ordering::Relaxed) != writer.thread {
        LATEST.store(writer.thread, Ordering::Relaxed);
        if block != 0 {
            settle_candidate(writer, interpreter, block, size);
        }
        return 0;
    }
    let Some(types) = interpreter.types.as_ref().filter(|_| block != 0) else {
        return 0;
    };
    // SAFETY: it was allocated by this thread, and nobody has been in the domain since.
    let number = unsafe { types.number(writer, block, size) };
    if number < INLINE_TYPES {
        return (number as u16 + 1) << TYPE_SHIFT;
    }
    say(writer, block, number);
    0
}

/// The same, where no event is at hand: what is to be said is said in an entry of its own.
#[cold]
pub fn settle_aside(writer: Writer, interpreter: &Interpreter) {
    // SAFETY: this thread's own state.
    let block = unsafe { (*writer.thread).pending.block };
    if let Some(number) = (settle(writer, interpreter) >> TYPE_SHIFT).checked_sub(1) {
        say(writer, block, u32::from(number));
    }
}

/// Whether nothing is to be done about a block of the domain, of this size, that is not recorded.
#[inline(always)]
pub fn are_idle(own: &Thread, interpreter: &Interpreter, size: usize) -> bool {
    own.pending.block == 0 && interpreter.types.as_ref().is_none_or(|types| size < types.least)
}

/// A block was allocated that is not recorded: if it is to hold a type, objects of that may be.
pub fn suspect(writer: Writer, interpreter: &Interpreter, block: usize, size: usize) {
    if interpreter.types.as_ref().is_some_and(|types| size >= types.least) {
        // SAFETY: this thread's own state.
        unsafe { (*writer.thread).pending = Pending { block, size } };
        LATEST.store(core::ptr::null_mut(), Ordering::Relaxed);
        CANDIDATE.store(block, Ordering::Relaxed);
    }
}

/// A block is about to be freed, recorded or not.
#[inline(always)]
pub fn freed(block: usize) {
    if CANDIDATE.load(Ordering::Relaxed) == block {
        let _ = CANDIDATE.compare_exchange(block, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Looks at a block that is not recorded, if it still lives: were it a type, that is known from now on.
#[cold]
#[inline(never)]
fn settle_candidate(writer: Writer, interpreter: &Interpreter, block: usize, size: usize) {
    let alive = CANDIDATE
        .compare_exchange(block, 0, Ordering::Relaxed, Ordering::Relaxed)
        .is_ok();
    if let Some(types) = interpreter.types.as_ref().filter(|_| alive) {
        // SAFETY: it was allocated with this size, and not freed since; the lock is held.
        unsafe { types.number(writer, block, size) };
    }
}

#[cold]
#[inline(never)]
fn say(writer: Writer, block: usize, number: u32) {
    writer.aside(kind::TYPED, [block as u64, u64::from(number)]);
}

impl Types {
    /// The number of the type of the object in a block.
    ///
    /// # Safety
    /// The block is live, and has this size.
    #[inline(never)]
    unsafe fn number(&self, writer: Writer, block: usize, size: usize) -> u32 {
        let learn = |kind, made| Some(arch::guarded(|| self.learn(writer, kind, made)).flatten());
        let table = || arch::guarded(|| tables::number(writer)).flatten();
        // SAFETY: the caller's promise.
        unsafe { self.find(block, size, learn, table) }.unwrap_or(NO_TYPE)
    }

    /// The same, unless there is something to be learned, or to be noted.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn known(&self, block: usize, size: usize) -> Option<u32> {
        let learn = |kind, made| match made || self.is_static(kind) {
            true => None,
            false => Some(None),
        };
        let table = || Some(tables::known()).filter(|number| *number != NO_TYPE);
        // SAFETY: the caller's promise.
        unsafe { self.find(block, size, learn, table) }
    }

    /// Whether a block without a type is the table of a dictionary.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn is_table(&self, block: usize, size: usize) -> bool {
        // SAFETY: the caller's promise.
        self.tables && unsafe { tables::is_one(&self.keys, block, size) }
    }

    /// Tries the places where an object may name its type. `learn` is asked about what is not known: `None` gives up, `Some(None)` says that it is no type.
    /// `table` is asked for the number of tables when the block is one; `None` gives up, too.
    ///
    /// # Safety
    /// The block is live, and has this size.
    #[inline(always)]
    unsafe fn find(
        &self,
        block: usize,
        size: usize,
        mut learn: impl FnMut(usize, bool) -> Option<Option<watch::Type>>,
        table: impl FnOnce() -> Option<u32>,
    ) -> Option<u32> {
        for head in HEADS {
            if head + OBJECT > size {
                break;
            }
            // SAFETY: inside the block.
            let kind = unsafe { word(block + head + layout::TYPE) };
            if kind < 4096 || !kind.is_multiple_of(layout::TYPE_ALIGNMENT) {
                continue;
            }
            let found = match watch::find_type(kind - TYPE_HEAD) {
                Some(found) if found.number != UNNAMED => found,
                found => match learn(kind, found.is_some())? {
                    Some(found) => found,
                    None => continue,
                },
            };
            if usize::from(found.head) != head {
                continue;
            }
            // Where objects of this kind name their type, a table has the hash of its first key: the address of a type, in the list of a class's subclasses.
            // SAFETY: the caller's promise.
            if head == HEADS[2] && unsafe { self.is_table(block, size) } {
                return table();
            }
            if found.makes_types {
                // A new type, which has no name yet. To say so again does no harm.
                watch::insert_type(block + head - TYPE_HEAD, UNNAMED, 0, false);
            }
            return Some(found.number);
        }
        // SAFETY: the caller's promise.
        match unsafe { self.is_table(block, size) } {
            true => table(),
            false => Some(NO_TYPE),
        }
    }

    /// Something stands where a type would, that is not known: `made`, it was seen being made.
    #[cold]
    #[inline(never)]
    fn learn(&self, writer: Writer, kind: usize, made: bool) -> Option<watch::Type> {
        if !made && !self.is_static(kind) {
            return None;
        }
        // SAFETY: a type object.
        let flags = unsafe { word(kind + layout::TYPE_FLAGS) } as u64;
        // The interpreter makes objects of its own types before these are ready: descriptors, strings. What they inherit is not known then.
        // SAFETY: a type object.
        if flags & (READY | HAVE_GC) == 0 && (made || unsafe { inherits_from_tracked(kind) }) {
            return None;
        }
        let head = match flags {
            flags if flags & HAVE_GC == 0 => HEADS[0],
            flags if flags & self.two_words == 0 => HEADS[1],
            _ => HEADS[2],
        } as u8;
        let number = watch::fresh_number();
        writer
            .muted(|| {
                let mut text = [0u8; 4 + 2 * MOST_NAME + 1];
                text[..4].copy_from_slice(&number.to_le_bytes());
                // SAFETY: a type that is ready.
                let length = unsafe { self.name(kind, flags, &mut text[4..]) };
                writer.note(note::TYPE, &text[..4 + length])
            })
            .filter(|sent| *sent)?;
        let makes_types = flags & TYPE_SUBCLASS != 0;
        watch::insert_type(kind - TYPE_HEAD, number, head, makes_types);
        Some(watch::Type {
            number,
            head,
            makes_types,
        })
    }

    /// Is this a type in the data of a loaded module?
    fn is_static(&self, kind: usize) -> bool {
        let page = (kind >> 12) as u64;
        let place = &NO_TYPES[page as usize % NO_TYPES.len()];
        if place.load(Ordering::Relaxed) == page {
            return false;
        }
        let data = modules::locate(kind).and_then(|located| located.writable(kind));
        if !data.is_some_and(|data| data.contains(&(kind + layout::TYPE_DICT))) {
            place.store(page, Ordering::Relaxed);
            return false;
        }
        // SAFETY: in the data of a loaded module.
        let own = unsafe { word(kind + layout::TYPE) };
        own == self.type_type || own >= 4096 && watch::find_type(own - TYPE_HEAD).is_some_and(|own| own.makes_types)
    }

    /// Writes the name of a type; its length.
    ///
    /// # Safety
    /// `kind` must be a type that is ready, and the calling thread hold the lock.
    unsafe fn name(&self, kind: usize, flags: u64, into: &mut [u8]) -> usize {
        let mut length = 0;
        let mut put = |text: &[u8]| {
            let text = &text[..text.len().min(MOST_NAME)];
            into[length..length + text.len()].copy_from_slice(text);
            length += text.len();
        };
        // SAFETY: the caller's promise; the name is a string that lives as long as the type has it.
        unsafe {
            let name = word(kind + layout::TYPE_NAME) as *const c_char;
            let name = if name.is_null() { c"" } else { CStr::from_ptr(name) }.to_bytes();
            if flags & HEAP_TYPE != 0 && !name.contains(&b'.') {
                match self.module(word(kind + layout::TYPE_DICT)) {
                    None | Some(b"builtins") => {}
                    Some(module) => {
                        put(module);
                        put(b".");
                    }
                }
            }
            put(name);
        }
        length
    }

    /// What a type's dictionary says under `__module__`; it stands among the first.
    ///
    /// # Safety
    /// `dict` must be a dictionary, or null, and the calling thread hold the lock.
    unsafe fn module(&self, dict: usize) -> Option<&'static [u8]> {
        const ENTRIES: usize = 32;
        if dict == 0 {
            return None;
        }
        let at = &self.keys;
        // SAFETY: the caller's promise; a type's dictionary has no values of its own beside its keys.
        unsafe {
            let keys = word(dict + layout::DICT_KEYS);
            if keys == 0 || word(dict + layout::DICT_VALUES) != 0 {
                return None;
            }
            // The indices, then the entries: hash, key and value, or without the hash where all keys are strings.
            let (index_bytes, words, key) = if at.compact {
                let [_, index_bytes, has_strings, _] = ((keys + at.size) as *const [u8; 4]).read_volatile();
                let bytes = 1usize.wrapping_shl(u32::from(index_bytes));
                if has_strings == 1 {
                    (bytes, 2, 0)
                } else {
                    (bytes, 3, WORD)
                }
            } else {
                let size = word(keys + at.size);
                let each = match size {
                    ..=0xff => 1,
                    0x100..=0xffff => 2,
                    0x1_0000..=0xffff_ffff => 4,
                    _ => 8,
                };
                (size * each, 3, WORD)
            };
            let (count, entries) = (word(keys + at.count), keys + at.indices + index_bytes);
            for index in 0..count.min(ENTRIES) {
                let entry = entries + index * words * WORD + key;
                if self.ascii(word(entry)) == Some(b"__module__") {
                    return self.ascii(word(entry + WORD));
                }
            }
        }
        None
    }

    /// The characters of an ASCII string.
    ///
    /// # Safety
    /// `object` must be a live object, or null.
    unsafe fn ascii(&self, object: usize) -> Option<&'static [u8]> {
        const COMPACT_ASCII: u32 = 3 << 5;
        // SAFETY: the caller's promise; `PyASCIIObject`.
        unsafe {
            if object == 0 || word(object + layout::TYPE) != self.unicode_type {
                return None;
            }
            let state = ((object + layout::TEXT_STATE) as *const u32).read_volatile();
            (state & COMPACT_ASCII == COMPACT_ASCII).then(|| {
                core::slice::from_raw_parts((object + self.text.0) as *const u8, word(object + layout::LENGTH))
            })
        }
    }
}

/// May a type still inherit from its base that its objects are known to the collector of cycles?
///
/// # Safety
/// `kind` must be a type object in the data of a module.
unsafe fn inherits_from_tracked(kind: usize) -> bool {
    // SAFETY: the caller's promise; its base is a type object, too, or is yet to become `object`.
    unsafe {
        let base = word(kind + layout::TYPE_BASE);
        base != 0 && word(base + layout::TYPE_FLAGS) as u64 & HAVE_GC != 0
    }
}

/// # Safety
/// `address` must be readable.
#[inline(always)]
unsafe fn word(address: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { (address as *const usize).read_volatile() }
}
