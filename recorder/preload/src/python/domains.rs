//! The hooks of the three allocator domains.
//!
//! An allocation is recorded once, at the outermost call: what a domain asks of another, or of `malloc`, is forwarded only ([`Doing::Python`]). The mapping of an
//! arena is recorded as such.
//!
//! Each domain's allocator struct keeps the context of the one it replaces, and hands it on: a thread that sees half of the old struct and half of the new one calls a
//! function with the context that it knows.
#![allow(unsafe_code)]

use super::elf::{Symbol, Symbols};
use super::{interpreter, quick, types, watch, Interpreter};
use crate::arch;
use crate::event::{self, Change, Outcome, Site, Writer};
use crate::life::{self, Recording};
use crate::modules::Located;
use crate::selection;
use crate::thread::Doing;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use heaptape_shm::entry::{api, kind};

type Block = *mut u8;

const RAW: usize = 0;
const MEM: usize = 1;
const OBJ: usize = 2;

/// `PyMemAllocatorEx`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Allocator {
    context: usize,
    functions: [usize; 4],
}

const MALLOC: usize = 0;
const CALLOC: usize = 1;
const REALLOC: usize = 2;
const FREE: usize = 3;

/// The functions behind the hooks, by domain.
static REAL: [[AtomicUsize; 4]; 3] = [const { [const { AtomicUsize::new(0) }; 4] }; 3];
/// The raw domain is watched only: its blocks are recorded as `malloc` gives them.
static RAW_IS_MALLOC: AtomicBool = AtomicBool::new(false);
/// The allocators are those for debugging, and fill fresh blocks with a pattern, which stays.
static IS_PATTERNED: AtomicBool = AtomicBool::new(false);
/// The interpreter may not have read its configuration yet.
static IS_EARLY: AtomicBool = AtomicBool::new(false);
/// Bounds of the object that the interpreter lies in.
static START: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);

/// Some allocator behind the hooks is not the interpreter's own.
static IS_FOREIGN: AtomicBool = AtomicBool::new(false);

static GET: AtomicUsize = AtomicUsize::new(0);
static SET: AtomicUsize = AtomicUsize::new(0);

type GetAllocator = unsafe extern "C" fn(u32, *mut Allocator);
type SetAllocator = unsafe extern "C" fn(u32, *const Allocator);

/// What an interpreter exports for this.
pub struct Functions {
    get: Symbol,
    set: Symbol,
}

impl Functions {
    /// The functions, if the object is an interpreter.
    pub fn of(symbols: &Symbols) -> Option<Functions> {
        Some(Functions {
            get: symbols.find(b"PyMem_GetAllocator")?,
            set: symbols.find(b"PyMem_SetAllocator")?,
        })
    }
}

/// Puts the hooks in place.
pub fn install(functions: Functions, located: &Located) {
    START.store(located.start, Ordering::Relaxed);
    END.store(located.end, Ordering::Relaxed);
    GET.store(functions.get.address, Ordering::Relaxed);
    SET.store(functions.set.address, Ordering::Relaxed);
    // The interpreter's own set-up calls the hooks: they forward only.
    let local = arch::local();
    let outer = local.doing.replace(Doing::Muted);
    put(RAW);
    put(MEM);
    put(OBJ);
    IS_EARLY.store(true, Ordering::Relaxed);
    local.doing.set(outer);
}

/// Puts the hooks of a domain in place, unless they are. `false`: they were.
fn put(domain: usize) -> bool {
    let mut allocator = Allocator {
        context: 0,
        functions: [0; 4],
    };
    // SAFETY: the interpreter's functions of these names; they copy a struct of five words.
    let (get, set) = unsafe {
        (
            core::mem::transmute::<usize, GetAllocator>(GET.load(Ordering::Relaxed)),
            core::mem::transmute::<usize, SetAllocator>(SET.load(Ordering::Relaxed)),
        )
    };
    // SAFETY: as above.
    unsafe { get(domain as u32, &mut allocator) };
    let ours = hooks(domain);
    if allocator.functions == ours {
        return false;
    }
    for (place, function) in REAL[domain].iter().zip(allocator.functions) {
        if !contains(function) {
            IS_FOREIGN.store(true, Ordering::Relaxed);
        }
        place.store(function, Ordering::Relaxed);
    }
    allocator.functions = ours;
    // SAFETY: as above; the new functions forward to the old ones, with the old context.
    unsafe { set(domain as u32, &allocator) };
    true
}

/// `PYTHONMALLOC` and `-X dev` make the interpreter put other allocators in place when it has read its configuration, before it has asked for anything but in the raw
/// domain. What it asks for then comes to `malloc` directly: here is a look whether that has happened.
#[cold]
#[inline(never)]
pub fn look_again() {
    let local = arch::local();
    let outer = local.doing.replace(Doing::Muted);
    // The raw domain alone is changed for some moments now and again, and changed back: that is left alone.
    if put(OBJ) {
        put(MEM);
    }
    local.doing.set(outer);
}

/// The interpreter has read its configuration: a thread of it has got its state. From now on its allocators change only by the program's own doing, who keeps what it finds.
#[cold]
#[inline(never)]
pub fn settled() {
    if !IS_EARLY.swap(false, Ordering::Relaxed) {
        return;
    }
    let local = arch::local();
    let outer = local.doing.replace(Doing::Muted);
    let patterned = fills_fresh_blocks();
    IS_PATTERNED.store(patterned, Ordering::Relaxed);
    if put(RAW) && patterned {
        // Blocks that the raw domain has given before lie inside of what `malloc` has given, at other addresses, and will be freed through this one.
        RAW_IS_MALLOC.store(true, Ordering::Relaxed);
    }
    local.doing.set(outer);
}

/// Did the interpreter itself just call `malloc`, at a time when its allocators may have been changed?
#[inline(always)]
pub fn is_suspicious(site: Site) -> bool {
    IS_EARLY.load(Ordering::Relaxed) && lies_inside(site)
}

#[inline(always)]
fn lies_inside(site: Site) -> bool {
    contains(site.caller())
}

#[inline(always)]
fn contains(address: usize) -> bool {
    (START.load(Ordering::Relaxed)..END.load(Ordering::Relaxed)).contains(&address)
}

/// A thread inside an allocator of a domain has called a hook: was that a signal handler, or what it calls? Nobody else than the interpreter, and our hooks, from
/// which its allocators go on to `malloc` by a jump, has anything to ask for then, unless it has allocators of somebody else's.
#[cold]
pub fn is_stranger(site: Site) -> bool {
    !IS_FOREIGN.load(Ordering::Relaxed) && site.caller() != 0 && !lies_inside(site) && !arch::is_ours(site.caller())
}

/// Is the raw domain's allocator the one for debugging?
fn fills_fresh_blocks() -> bool {
    const FRESH: [u8; 32] = [0xcd; 32];
    let mut allocator = Allocator {
        context: 0,
        functions: [0; 4],
    };
    // SAFETY: as in `put`; the block has as many bytes, of which the debugging allocator has filled each.
    unsafe {
        let get = core::mem::transmute::<usize, GetAllocator>(GET.load(Ordering::Relaxed));
        get(RAW as u32, &mut allocator);
        let malloc =
            core::mem::transmute::<usize, unsafe extern "C" fn(usize, usize) -> Block>(allocator.functions[MALLOC]);
        let free = core::mem::transmute::<usize, unsafe extern "C" fn(usize, Block)>(allocator.functions[FREE]);
        let block = malloc(allocator.context, FRESH.len());
        let filled = !block.is_null() && core::slice::from_raw_parts(block, FRESH.len()) == FRESH;
        free(allocator.context, block);
        filled
    }
}

macro_rules! reals {
    ($($name:ident: $index:ident, ($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            /// # Safety
            /// The hooks are in place, and the arguments are the interpreter's.
            #[inline(always)]
            unsafe fn $name<const D: usize>(context: usize, $($argument: $type),*) -> $result {
                let address = REAL[D][$index].load(Ordering::Relaxed);
                // SAFETY: the function of the allocator struct, stored before any hook could be called.
                unsafe { core::mem::transmute::<usize, unsafe extern "C" fn(usize, $($type),*) -> $result>(address)(context, $($argument),*) }
            }
        )*
    };
}

reals! {
    real_malloc: MALLOC, (size: usize) -> Block;
    real_calloc: CALLOC, (count: usize, size: usize) -> Block;
    real_realloc: REALLOC, (block: Block, size: usize) -> Block;
    real_free: FREE, (block: Block) -> ();
}

const fn api_of<const D: usize>() -> u8 {
    [api::PY_RAW, api::PY_MEM, api::PY_OBJ][D]
}

/// Runs the real function as the outermost call of a domain; `None` inside another, or where nothing is recorded: forward only.
#[inline(always)]
fn outermost<T>(call: impl FnOnce() -> T) -> Option<T> {
    let local = arch::local();
    if local.doing.get() != Doing::Nothing {
        return None;
    }
    local.doing.set(Doing::Python);
    let result = call();
    local.doing.set(Doing::Nothing);
    Some(result)
}

/// An outermost call of which nothing is recorded, `fresh` being the block that it has returned, if any. What later events go by is kept up all the same: the thread state,
/// and which blocks hold types.
#[inline(always)]
fn pass<const D: usize>(recording: Recording, fresh: Option<(Block, usize)>, site: Site) {
    let Some(interpreter) = interpreter().filter(|_| D != RAW) else {
        return;
    };
    // SAFETY: thread states are never unmapped; this one is the calling thread's.
    let own = unsafe { arch::local().thread.get().as_ref() };
    let calm = match fresh {
        Some((_, size)) => own.is_some_and(|own| {
            own.view.is_held_by(interpreter.current()) && (D != OBJ || types::are_idle(own, interpreter, size))
        }),
        None => D != OBJ || own.is_none_or(|own| types::are_idle(own, interpreter, 0)),
    };
    if !calm {
        pass_at_length::<D>(recording, interpreter, fresh, site);
    }
}

#[cold]
#[inline(never)]
fn pass_at_length<const D: usize>(
    recording: Recording,
    interpreter: &Interpreter,
    fresh: Option<(Block, usize)>,
    site: Site,
) {
    if let Some(writer) = begin::<D>(recording, site) {
        if D == OBJ && writer.level == 0 {
            types::settle_aside(writer, interpreter);
            if let Some((block, size)) = fresh {
                types::suspect(writer, interpreter, block as usize, size);
            }
        }
        writer.end();
    }
}

/// Begins the event of an outermost call.
#[inline(always)]
fn begin<const D: usize>(recording: Recording, site: Site) -> Option<Writer> {
    let writer = event::begin(recording, site)?;
    if D != RAW {
        if let Some(interpreter) = interpreter() {
            // SAFETY: the thread's view is its own.
            unsafe { (*writer.thread).view.holds(interpreter.current()) };
        }
    }
    Some(writer)
}

#[inline(always)]
fn born<const D: usize>(block: Block, size: usize, site: Site) {
    if block.is_null() {
        return event::failed();
    }
    if quick::allocated::<false>(api_of::<D>(), block as u64, size as u64, site, D != RAW, D == OBJ) {
        return;
    }
    born_at_length::<D>(block, size, site);
}

#[inline(never)]
fn born_at_length<const D: usize>(block: Block, size: usize, site: Site) {
    let Some((recording, now)) = life::going_on() else {
        return;
    };
    if !now || !selection::wants(&recording, size as u64) {
        return pass::<D>(recording, Some((block, size)), site);
    }
    if quick::allocated::<true>(api_of::<D>(), block as u64, size as u64, site, D != RAW, D == OBJ) {
        return selection::born(&recording, block as u64);
    }
    if let Some(writer) = begin::<D>(recording, site) {
        selection::born(&recording, block as u64);
        let flags = settle::<D>(writer);
        let sent = writer.flagged(kind::ALLOC, api_of::<D>(), flags, [block as u64, size as u64], site);
        if D == OBJ && sent {
            types::born(writer, block as usize, size);
        }
    }
}

/// What the event at hand is to say of the object allocated before.
#[inline(always)]
fn settle<const D: usize>(writer: Writer) -> u16 {
    match interpreter() {
        Some(interpreter) if D == OBJ && writer.level == 0 => types::settle(writer, interpreter),
        _ => 0,
    }
}

#[inline(always)]
fn is_watched_only<const D: usize>() -> bool {
    D == RAW && RAW_IS_MALLOC.load(Ordering::Relaxed)
}

unsafe extern "C" fn malloc_hook<const D: usize>(context: usize, size: usize, slot: *const usize, fp: usize) -> Block {
    // SAFETY: the interpreter's own arguments.
    let real = || unsafe { real_malloc::<D>(context, size) };
    if is_watched_only::<D>() {
        return real();
    }
    match outermost(real) {
        Some(block) => {
            if D == OBJ && !block.is_null() && !IS_PATTERNED.load(Ordering::Relaxed) {
                // SAFETY: a fresh block of this size.
                unsafe { types::clear(block, size) };
            }
            born::<D>(block, size, Site { slot, fp });
            block
        }
        None => real(),
    }
}

unsafe extern "C" fn calloc_hook<const D: usize>(
    context: usize,
    count: usize,
    size: usize,
    slot: *const usize,
    fp: usize,
) -> Block {
    // SAFETY: the interpreter's own arguments.
    let real = || unsafe { real_calloc::<D>(context, count, size) };
    if is_watched_only::<D>() {
        return real();
    }
    match outermost(real) {
        Some(block) => {
            born::<D>(block, count.wrapping_mul(size), Site { slot, fp });
            block
        }
        None => real(),
    }
}

unsafe extern "C" fn realloc_hook<const D: usize>(
    context: usize,
    old: Block,
    size: usize,
    slot: *const usize,
    fp: usize,
) -> Block {
    let site = Site { slot, fp };
    // SAFETY: the interpreter's own arguments.
    let real = || unsafe { real_realloc::<D>(context, old, size) };
    if is_watched_only::<D>() || arch::local().doing.get() != Doing::Nothing {
        return real();
    }
    if old.is_null() {
        let block = outermost(real);
        return block.map_or_else(real, |block| {
            born::<D>(block, size, site);
            block
        });
    }
    let call = || {
        let local = arch::local();
        let outer = local.doing.replace(Doing::PythonWriting);
        local.block.set(old as usize);
        let block = real();
        local.block.set(0);
        local.doing.set(outer);
        block
    };
    let outcome = |block: &Block| match block.is_null() {
        true => {
            event::failed();
            Outcome::Nothing
        }
        false => Outcome::Moved { new: *block as u64 },
    };
    if D == OBJ {
        types::freed(old as usize);
    }
    let Some((recording, now)) = life::going_on() else {
        return call();
    };
    let change = now.then(|| Change::of(&recording, old as u64, size as u64)).flatten();
    let Some(change) = change else {
        pass::<D>(recording, None, site);
        let block = call();
        outcome(&block);
        return block;
    };
    match begin::<D>(recording, site) {
        None => call(),
        Some(writer) => {
            let flags = settle::<D>(writer);
            let (block, kept) = writer.around(api_of::<D>(), flags, site, change, call, outcome);
            if D == OBJ && kept {
                types::born(writer, block as usize, size);
            }
            block
        }
    }
}

unsafe extern "C" fn free_hook<const D: usize>(context: usize, block: Block, slot: *const usize, fp: usize) {
    // SAFETY: the interpreter's own arguments.
    let real = || unsafe { real_free::<D>(context, block) };
    if block.is_null() {
        return real();
    }
    if D != MEM {
        watch::forget(block);
    }
    if is_watched_only::<D>() {
        return real();
    }
    let local = arch::local();
    if local.doing.get() != Doing::Nothing {
        return free_inside(block, real);
    }
    let site = Site { slot, fp };
    if !quick::freeing::<false>(block as u64, site, D == OBJ) {
        freeing_at_length::<D>(block, site);
    }
    local.block.set(block as usize);
    outermost(real);
    local.block.set(0);
}

#[inline(never)]
fn freeing_at_length<const D: usize>(block: Block, site: Site) {
    if D == OBJ {
        types::freed(block as usize);
    }
    let Some((recording, now)) = life::going_on() else {
        return;
    };
    if !now || !selection::dies(&recording, block as u64) {
        return pass::<D>(recording, None, site);
    }
    if quick::freeing::<true>(block as u64, site, D == OBJ) {
        return;
    }
    if let Some(writer) = event::begin(recording, site) {
        let flags = settle::<D>(writer);
        writer.bare_event(kind::FREE, flags, [block as u64]);
    }
}

/// A block is freed inside a call of a domain: nearly always the very one that call is about. Anything else
/// (tracemalloc's notes on a block that goes) was recorded when it was born, and so is its end.
pub fn free_inside(block: Block, real: impl FnOnce()) {
    // What the allocators for debugging put before a block, once or twice.
    const DEBUG_HEAD: usize = 2 * size_of::<usize>();
    const DEBUG_HEADS: usize = 2 * DEBUG_HEAD;
    let local = arch::local();
    let outer = local.block.get();
    let inside = match outer.wrapping_sub(block as usize) {
        0 => None,
        DEBUG_HEAD | DEBUG_HEADS if IS_PATTERNED.load(Ordering::Relaxed) => None,
        _ => Mapping::begin(),
    };
    if inside.is_none() {
        return real();
    }
    let slot: usize = 0;
    let site = Site { slot: &slot, fp: 0 };
    let recording = life::recording_now().filter(|recording| selection::dies(recording, block as u64));
    if let Some(writer) = recording.and_then(|recording| event::begin(recording, site)) {
        writer.bare_event(kind::FREE, 0, [block as u64]);
    }
    drop(inside);
    local.block.set(block as usize);
    real();
    local.block.set(outer);
}

/// Entries of the hooks, as in [`arch::stub`].
macro_rules! entries {
    ($($name:ident/$count:tt => $hook:path;)*) => {
        $(
            #[unsafe(naked)]
            unsafe extern "C" fn $name() {
                crate::arch::stub::entry!($count $hook)
            }
        )*
    };
}

entries! {
    raw_malloc/2 => malloc_hook::<RAW>;
    raw_calloc/3 => calloc_hook::<RAW>;
    raw_realloc/3 => realloc_hook::<RAW>;
    raw_free/2 => free_hook::<RAW>;
    mem_malloc/2 => malloc_hook::<MEM>;
    mem_calloc/3 => calloc_hook::<MEM>;
    mem_realloc/3 => realloc_hook::<MEM>;
    mem_free/2 => free_hook::<MEM>;
    obj_malloc/2 => malloc_hook::<OBJ>;
    obj_calloc/3 => calloc_hook::<OBJ>;
    obj_realloc/3 => realloc_hook::<OBJ>;
    obj_free/2 => free_hook::<OBJ>;
}

fn hooks(domain: usize) -> [usize; 4] {
    let entries: [unsafe extern "C" fn(); 4] = match domain {
        RAW => [raw_malloc, raw_calloc, raw_realloc, raw_free],
        MEM => [mem_malloc, mem_calloc, mem_realloc, mem_free],
        _ => [obj_malloc, obj_calloc, obj_realloc, obj_free],
    };
    entries.map(|entry| entry as usize)
}

/// A thread inside an allocator of a domain does something that is recorded all the same.
pub struct Mapping(Doing);

impl Mapping {
    /// Lets an event begin, if the thread is inside an allocator of a domain.
    #[inline(always)]
    pub fn begin() -> Option<Mapping> {
        let doing = &arch::local().doing;
        let beneath = match doing.get() {
            Doing::Python => Doing::Nothing,
            Doing::PythonWriting => Doing::Writing,
            _ => return None,
        };
        Some(Mapping(doing.replace(beneath)))
    }

    /// Does the interpreter itself map the memory: for an arena?
    pub fn is_arena(&self, site: Site) -> bool {
        lies_inside(site)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        arch::local().doing.set(self.0);
    }
}
