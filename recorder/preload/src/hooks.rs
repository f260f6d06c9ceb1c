//! The table of hooks, and what each does. A hook forwards, and records what the real function did.
#![allow(unsafe_code)]

use crate::arch::stubs;
use crate::event::{self, Change, Outcome, Site};
use crate::life;
use crate::modules;
use crate::python::domains::{self, Mapping};
use crate::python::types;
use crate::quick;
use crate::real;
use crate::selection;
use crate::thread::Doing;
use crate::{api, arch, sys};
use heaptape_shm::entry::{api as number, kind, map_api, note};

// Name and number of arguments of every exported function; the C API of the recorder stands in `api`.
stubs! {
    malloc/1 => malloc_hook;
    calloc/2 => calloc_hook;
    realloc/2 => realloc_hook;
    reallocarray/3 => reallocarray_hook;
    free/1 => free_hook;
    cfree/1 => cfree_hook;
    free_sized/2 => free_sized_hook;
    free_aligned_sized/3 => free_aligned_sized_hook;
    posix_memalign/3 => posix_memalign_hook;
    aligned_alloc/2 => aligned_alloc_hook;
    memalign/2 => memalign_hook;
    valloc/1 => valloc_hook;
    pvalloc/1 => pvalloc_hook;
    malloc_usable_size/1 => malloc_usable_size_hook;
    mmap/6 => mmap_hook;
    mmap64/wide => mmap64_hook;
    munmap/2 => munmap_hook;
    mremap/6 => mremap_hook;
    brk/1 => brk_hook;
    sbrk/1 => sbrk_hook;
    prctl/6 => prctl_hook;
    _exit/1 => exit_hook;
    _Exit/1 => exit_hook;
    quick_exit/1 => quick_exit_hook;
    pthread_setname_np/2 => setname_hook;
    clone/pass => clone_hook;
    heaptape_mark/1 => api::mark;
    heaptape_start/0 => api::start;
    heaptape_stop/0 => api::stop;
    heaptape_state/0 => api::state;
}

type Block = *mut u8;

/// Marks the calling thread as inside a real allocator that may call itself by its public names.
struct Forwarding(Doing);

impl Forwarding {
    #[inline(always)]
    fn begin() -> Option<Forwarding> {
        if !real::is_foreign() {
            return None;
        }
        let local = arch::local();
        let outer = local.doing.get();
        if outer == Doing::Nothing {
            local.doing.set(Doing::Forwarding);
        }
        Some(Forwarding(outer))
    }

    /// Is this call the real allocator's own, on behalf of a call that is recorded already?
    #[inline(always)]
    fn is_inner(site: Site) -> bool {
        real::is_foreign() && real::is_foreign_caller(site.caller())
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        arch::local().doing.set(self.0);
    }
}

/// Records a block that a real function has just returned.
#[inline(always)]
fn allocated(api: u8, block: Block, size: usize, site: Site) {
    if block.is_null() {
        return event::failed();
    }
    if quick::allocated::<false>(api, block as u64, size as u64, site) {
        return;
    }
    allocated_at_length(api, block, size, site);
}

#[inline(never)]
fn allocated_at_length(api: u8, block: Block, size: usize, site: Site) {
    if Forwarding::is_inner(site) {
        return;
    }
    modules::note_caller(site.caller());
    if domains::is_suspicious(site) {
        domains::look_again();
    }
    let Some(recording) = life::recording_now() else { return };
    if !selection::wants(&recording, size as u64) {
        return;
    }
    if quick::allocated::<true>(api, block as u64, size as u64, site) {
        return selection::born(&recording, block as u64);
    }
    if let Some(writer) = event::begin(recording, site) {
        selection::born(&recording, block as u64);
        writer.event(kind::ALLOC, api, [block as u64, size as u64], site);
    }
}

/// Records that a block is about to be freed.
#[inline(always)]
fn freeing(block: Block, site: Site) {
    if !block.is_null() && !quick::freeing::<false>(block as u64, site) {
        freeing_at_length(block, site);
    }
}

#[inline(never)]
fn freeing_at_length(block: Block, site: Site) {
    if Forwarding::is_inner(site) {
        return;
    }
    modules::note_caller(site.caller());
    let Some(recording) = life::recording_now().filter(|recording| selection::dies(recording, block as u64)) else {
        return;
    };
    if quick::freeing::<true>(block as u64, site) {
        return;
    }
    if let Some(writer) = event::begin(recording, site) {
        writer.bare_event(kind::FREE, 0, [block as u64]);
    }
}

macro_rules! site {
    ($slot:ident, $fp:ident) => {
        Site { slot: $slot, fp: $fp }
    };
}

unsafe extern "C" fn malloc_hook(size: usize, slot: *const usize, fp: usize) -> Block {
    let Some(real) = real::malloc() else {
        return real::arena_allocate(size, 16);
    };
    let inside = Forwarding::begin();
    // SAFETY: the caller's own arguments.
    let block = unsafe { real(size) };
    drop(inside);
    allocated(number::MALLOC, block, size, site!(slot, fp));
    block
}

unsafe extern "C" fn calloc_hook(count: usize, size: usize, slot: *const usize, fp: usize) -> Block {
    let Some(real) = real::calloc() else {
        return count
            .checked_mul(size)
            .map_or(core::ptr::null_mut(), |bytes| real::arena_allocate(bytes, 16));
    };
    let inside = Forwarding::begin();
    // SAFETY: the caller's own arguments.
    let block = unsafe { real(count, size) };
    drop(inside);
    allocated(number::CALLOC, block, count.wrapping_mul(size), site!(slot, fp));
    block
}

unsafe extern "C" fn realloc_hook(old: Block, size: usize, slot: *const usize, fp: usize) -> Block {
    // SAFETY: the caller's own arguments.
    unsafe {
        reallocated(number::REALLOC, old, size, site!(slot, fp), || {
            real::realloc().map(|real| real(old, size))
        })
    }
}

unsafe extern "C" fn reallocarray_hook(old: Block, count: usize, size: usize, slot: *const usize, fp: usize) -> Block {
    let Some(bytes) = count.checked_mul(size) else {
        real::out_of_memory();
        event::failed();
        return core::ptr::null_mut();
    };
    // Not the real `reallocarray`: glibc's calls `realloc` by its public name, which is ours.
    // SAFETY: the caller's own arguments.
    let real = || real::realloc().map(|real| unsafe { real(old, bytes) });
    // SAFETY: as above.
    unsafe { reallocated(number::REALLOCARRAY, old, bytes, site!(slot, fp), real) }
}

/// `realloc` and its kin. `real` is `None` before the real functions are known.
///
/// # Safety
/// `old` must be what the C standard asks for.
#[inline(always)]
unsafe fn reallocated(api: u8, old: Block, size: usize, site: Site, real: impl Fn() -> Option<Block>) -> Block {
    if real::in_arena(old) {
        // SAFETY: a block of the arena, moved out of it as soon as it grows.
        return unsafe { leave_arena(old, size) };
    }
    let call = || {
        let inside = Forwarding::begin();
        let block = real();
        drop(inside);
        block.unwrap_or_else(|| real::arena_allocate(size, 16))
    };
    if old.is_null() {
        let block = call();
        allocated(api, block, size, site);
        return block;
    }
    modules::note_caller(site.caller());
    let recording = if Forwarding::is_inner(site) {
        None
    } else {
        life::recording_now()
    };
    let outcome = |block: &Block| match (block.is_null(), size) {
        // glibc frees then, and so does everyone who returns NULL for no bytes.
        (true, 0) => Outcome::Freed,
        (true, _) => {
            event::failed();
            Outcome::Nothing
        }
        (false, _) => Outcome::Moved { new: *block as u64 },
    };
    let Some(recording) = recording else { return call() };
    let Some(change) = Change::of(&recording, old as u64, size as u64) else {
        let block = call();
        outcome(&block);
        return block;
    };
    match event::begin(recording, site) {
        None => call(),
        Some(writer) => writer.around(api, 0, site, change, call, outcome).0,
    }
}

/// # Safety
/// `old` must be a block of the arena.
#[cold]
unsafe fn leave_arena(old: Block, size: usize) -> Block {
    let fresh = match real::malloc() {
        // SAFETY: any size will do.
        Some(real) => unsafe { real(size) },
        None => real::arena_allocate(size, 16),
    };
    if !fresh.is_null() {
        // SAFETY: both blocks have at least this many bytes, and they are different.
        unsafe { core::ptr::copy_nonoverlapping(old, fresh, real::arena_size(old).min(size)) };
    }
    fresh
}

macro_rules! free_hooks {
    ($($hook:ident($($more:ident: $type:ty),*) => $real:ident or $($fallback:ident)?;)*) => {
        $(unsafe extern "C" fn $hook(block: Block, $($more: $type,)* slot: *const usize, fp: usize) {
            if real::in_arena(block) {
                return;
            }
            // SAFETY: the caller's own arguments.
            let real = || unsafe {
                let inside = Forwarding::begin();
                if let Some(real) = real::$real() {
                    real(block, $($more),*);
                } $(else if let Some(real) = real::$fallback() {
                    // A libc that does not have it yet: the plain function does the same.
                    real(block);
                })?
                drop(inside);
            };
            if matches!(arch::local().doing.get(), Doing::Python | Doing::PythonWriting) {
                return domains::free_inside(block, real);
            }
            freeing(block, site!(slot, fp));
            real();
        })*
    };
}

free_hooks! {
    free_hook() => free or;
    cfree_hook() => cfree or free;
    free_sized_hook(size: usize) => free_sized or free;
    free_aligned_sized_hook(align: usize, size: usize) => free_aligned_sized or free;
}

unsafe extern "C" fn posix_memalign_hook(
    result: *mut Block,
    align: usize,
    size: usize,
    slot: *const usize,
    fp: usize,
) -> i32 {
    const ENOMEM: i32 = 12;
    let Some(real) = real::posix_memalign() else {
        let block = real::arena_allocate(size, align);
        if block.is_null() {
            return ENOMEM;
        }
        // SAFETY: the caller's own place for the result.
        unsafe { *result = block };
        return 0;
    };
    let inside = Forwarding::begin();
    // SAFETY: the caller's own arguments.
    let status = unsafe { real(result, align, size) };
    drop(inside);
    let block = if status == 0 {
        // SAFETY: on success the function has stored the block there.
        unsafe { *result }
    } else {
        core::ptr::null_mut()
    };
    allocated(number::POSIX_MEMALIGN, block, size, site!(slot, fp));
    status
}

macro_rules! aligned_hooks {
    ($($hook:ident => $real:ident, $number:ident;)*) => {
        $(unsafe extern "C" fn $hook(align: usize, size: usize, slot: *const usize, fp: usize) -> Block {
            let Some(real) = real::$real() else { return real::arena_allocate(size, align) };
            let inside = Forwarding::begin();
            // SAFETY: the caller's own arguments.
            let block = unsafe { real(align, size) };
            drop(inside);
            allocated(number::$number, block, size, site!(slot, fp));
            block
        })*
    };
}

aligned_hooks! {
    aligned_alloc_hook => aligned_alloc, ALIGNED_ALLOC;
    memalign_hook => memalign, MEMALIGN;
}

macro_rules! page_hooks {
    ($($hook:ident => $real:ident, $number:ident;)*) => {
        $(unsafe extern "C" fn $hook(size: usize, slot: *const usize, fp: usize) -> Block {
            let Some(real) = real::$real() else { return real::arena_allocate(size, 4096) };
            let inside = Forwarding::begin();
            // SAFETY: the caller's own arguments.
            let block = unsafe { real(size) };
            drop(inside);
            allocated(number::$number, block, size, site!(slot, fp));
            block
        })*
    };
}

page_hooks! {
    valloc_hook => valloc, VALLOC;
    pvalloc_hook => pvalloc, PVALLOC;
}

unsafe extern "C" fn malloc_usable_size_hook(block: Block, _: *const usize, _: usize) -> usize {
    if real::in_arena(block) {
        return real::arena_size(block);
    }
    // SAFETY: the caller's own argument.
    real::malloc_usable_size().map_or(0, |real| unsafe { real(block) })
}

const MAP_FAILED: Block = usize::MAX as Block;
const MAP_ANONYMOUS: i32 = 0x20;

/// Records an event of the address space, with its stack.
#[inline(never)]
fn mapped<const N: usize>(kind: u8, api: u8, fields: [u64; N], site: Site) {
    modules::note_caller(site.caller());
    let inside = Mapping::begin();
    let arena = kind == kind::MAP && inside.as_ref().is_some_and(|inside| inside.is_arena(site));
    let api = if arena { map_api::PY_ARENA } else { api };
    if let Some(writer) = life::recording_now().and_then(|recording| event::begin(recording, site)) {
        writer.event(kind, api, fields, site);
    }
    drop(inside);
}

macro_rules! mmap_hooks {
    ($($hook:ident => $real:ident, $offset:ty;)*) => {
        $(#[allow(clippy::too_many_arguments)]
        unsafe extern "C" fn $hook(
            address: Block, length: usize, protection: i32, flags: i32, fd: i32, offset: $offset, slot: *const usize, fp: usize,
        ) -> Block {
            let Some(real) = real::$real() else {
                // An allocator behind us that begins to work while it is looked up (jemalloc does).
                return sys::map(address, length, protection, flags, fd, offset as i64).unwrap_or(MAP_FAILED);
            };
            // SAFETY: the caller's own arguments.
            let result = unsafe { real(address, length, protection, flags, fd, offset) };
            if result == MAP_FAILED {
                event::failed();
            } else {
                let api = u8::from(flags & MAP_ANONYMOUS == 0);
                mapped(kind::MAP, api, [result as u64, length as u64], site!(slot, fp));
            }
            result
        })*
    };
}

mmap_hooks! {
    mmap_hook => mmap, isize;
    mmap64_hook => mmap64, i64;
}

unsafe extern "C" fn munmap_hook(address: Block, length: usize, slot: *const usize, fp: usize) -> i32 {
    let Some(real) = real::munmap() else {
        // SAFETY: the caller's own arguments.
        return unsafe { sys::unmap(address, length) };
    };
    let site = site!(slot, fp);
    modules::note_caller(site.caller());
    // SAFETY: the caller's own arguments.
    let call = || unsafe { real(address, length) };
    types::unmapping(address as usize, length);
    let inside = Mapping::begin();
    let status = match life::recording_now().and_then(|recording| event::begin(recording, site)) {
        None => call(),
        Some(writer) => writer.unmapping(address as u64, length as u64, call),
    };
    drop(inside);
    status
}

#[allow(clippy::too_many_arguments)]
unsafe extern "C" fn mremap_hook(
    old: Block,
    old_length: usize,
    length: usize,
    flags: i32,
    target: Block,
    _: usize,
    slot: *const usize,
    fp: usize,
) -> Block {
    let Some(real) = real::mremap() else {
        return sys::remap(old, old_length, length, flags, target).unwrap_or(MAP_FAILED);
    };
    // SAFETY: the caller's own arguments (the fifth is only looked at with MREMAP_FIXED).
    let result = unsafe { real(old, old_length, length, flags, target) };
    if result == MAP_FAILED {
        event::failed();
    } else {
        mapped(
            kind::REMAP,
            0,
            [result as u64, length as u64, old as u64, old_length as u64],
            site!(slot, fp),
        );
    }
    result
}

/// The program break, without asking a hooked function.
fn program_break() -> u64 {
    // SAFETY: an increment of 0 only asks.
    unsafe { real::move_break(0) as u64 }
}

unsafe extern "C" fn brk_hook(end: Block, slot: *const usize, fp: usize) -> i32 {
    let before = program_break();
    // SAFETY: the caller's own argument.
    let status = unsafe {
        match real::brk() {
            Some(real) => real(end),
            None if real::move_break((end as isize).wrapping_sub(before as isize)) == MAP_FAILED => -1,
            None => 0,
        }
    };
    if status == 0 {
        mapped(kind::BRK, 0, [program_break(), before], site!(slot, fp));
    }
    status
}

unsafe extern "C" fn sbrk_hook(increment: isize, slot: *const usize, fp: usize) -> Block {
    // SAFETY: the caller's own argument.
    let result = unsafe { real::move_break(increment) };
    if result != MAP_FAILED && increment != 0 {
        let end = (result as usize).wrapping_add_signed(increment);
        mapped(kind::BRK, 0, [end as u64, result as u64], site!(slot, fp));
    }
    result
}

unsafe extern "C" fn setname_hook(thread: usize, name: *const core::ffi::c_char, _: *const usize, _: usize) -> i32 {
    const ENOSYS: i32 = 38;
    let Some(real) = real::pthread_setname_np() else {
        return ENOSYS;
    };
    // SAFETY: the caller's own arguments.
    let status = unsafe { real(thread, name) };
    if status == 0 && real::is_this_thread(thread) {
        if let Some(recording) = life::attached() {
            // SAFETY: the call has succeeded, so the name is a NUL-terminated string.
            event::lone_note(
                recording,
                note::THREAD_NAME,
                unsafe { core::ffi::CStr::from_ptr(name) }.to_bytes(),
            );
        }
    }
    status
}

unsafe extern "C" fn exit_hook(status: i32, _: *const usize, _: usize) {
    life::exiting(status);
    if let Some(real) = real::_exit() {
        // SAFETY: the caller's own argument; it does not return.
        unsafe { real(status) };
    }
    sys::exit(status)
}

unsafe extern "C" fn quick_exit_hook(status: i32, _: *const usize, _: usize) {
    life::exiting(status);
    if let Some(real) = real::quick_exit() {
        // SAFETY: the caller's own argument; it does not return.
        unsafe { real(status) };
    }
    sys::exit(status)
}

/// A task that is made with this process's memory, but without thread-local storage of its own, would be taken for the thread that made it: from here on each
/// of us is asked who it is. (`vfork` is harmless: the maker stands still meanwhile.) Returns the real `clone`, which is then called with the same arguments.
unsafe extern "C" fn clone_hook(_: usize, _: usize, flags: i32) -> usize {
    const CLONE_VM: i32 = 0x100;
    const CLONE_VFORK: i32 = 0x4000;
    const CLONE_SETTLS: i32 = 0x80000;
    if flags & (CLONE_VM | CLONE_VFORK | CLONE_SETTLS) == CLONE_VM {
        life::beware_of_twins();
    }
    real::clone_address()
}

/// `prctl` is looked at for the two things that take the CPU's counter away, after which reading it would kill the program.
#[allow(clippy::too_many_arguments)]
unsafe extern "C" fn prctl_hook(
    option: i32,
    first: usize,
    second: usize,
    third: usize,
    fourth: usize,
    _: usize,
    _: *const usize,
    _: usize,
) -> i32 {
    const PR_SET_SECCOMP: i32 = 22;
    const SECCOMP_MODE_STRICT: usize = 1;
    const PR_SET_TSC: i32 = 26;
    const PR_TSC_SIGSEGV: usize = 2;
    if (option, first) == (PR_SET_SECCOMP, SECCOMP_MODE_STRICT) || (option, first) == (PR_SET_TSC, PR_TSC_SIGSEGV) {
        life::leave(b"heaptape: recording of this process ends here: prctl takes the CPU's counter away");
    }
    // SAFETY: the caller's own arguments.
    unsafe {
        match real::prctl() {
            Some(real) => real(option, first, second, third, fourth),
            None => sys::control(option, first, second, third, fourth),
        }
    }
}
