//! The functions behind the hooks, and what else is asked of libc. Found by `dlsym(RTLD_NEXT)`, so that other preloaded allocators keep working.
//!
//! `dlsym` may itself allocate; such calls, and any before the lookup is done, are served from a small static arena whose blocks are never given back.
#![allow(unsafe_code)]

use crate::modules;
use core::cell::UnsafeCell;
use core::ffi::{c_char, c_void, CStr};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn abort() -> !;
    fn __errno_location() -> *mut i32;
    fn dlerror() -> *mut c_char;
}

#[cfg(target_env = "gnu")]
extern "C" {
    // glibc's other name of `sbrk`, which no hook has.
    fn __sbrk(increment: isize) -> *mut u8;
    // Likewise of `clone`.
    fn __clone() -> i32;
}

/// Stands for those where libc has no other names: musl moves no break and makes no task while a function is looked up.
#[cfg(not(target_env = "gnu"))]
extern "C" fn __clone() -> i32 {
    -1
}

/// Likewise.
#[cfg(not(target_env = "gnu"))]
unsafe fn __sbrk(_: isize) -> *mut u8 {
    out_of_memory();
    usize::MAX as *mut u8
}

const RTLD_NEXT: *mut c_void = usize::MAX as *mut c_void;

const UNRESOLVED: u32 = 0;
const RESOLVING: u32 = 1;
const RESOLVED: u32 = 2;
static STATE: AtomicU32 = AtomicU32::new(UNRESOLVED);

/// Bounds of the module of the real allocator when that is not libc: it may call itself by its public names.
static FOREIGN_START: AtomicUsize = AtomicUsize::new(0);
static FOREIGN_END: AtomicUsize = AtomicUsize::new(0);

macro_rules! real_functions {
    ($($name:ident: fn($($argument:ty),*) -> $result:ty;)*) => {
        mod cell {
            $(
                #[allow(non_upper_case_globals)]
                pub static $name: super::AtomicUsize = super::AtomicUsize::new(0);
            )*
        }
        $(
            /// The real function; `None` while it is being looked up, or where there is none.
            #[inline(always)]
            pub fn $name() -> Option<unsafe extern "C" fn($($argument),*) -> $result> {
                let mut address = cell::$name.load(Ordering::Relaxed);
                if address == 0 {
                    resolve();
                    address = cell::$name.load(Ordering::Relaxed);
                }
                // SAFETY: the address of the function of that name, whose C signature this is; 0 is the niche of `None`.
                unsafe { core::mem::transmute::<usize, Option<unsafe extern "C" fn($($argument),*) -> $result>>(address) }
            }
        )*

        fn resolve_all() {
            $(
                const _: &str = stringify!($name);
                // SAFETY: a NUL-terminated name; dlsym has no other requirement.
                let address = unsafe { dlsym(RTLD_NEXT, concat!(stringify!($name), "\0").as_ptr() as *const c_char) };
                cell::$name.store(address as usize, Ordering::Relaxed);
            )*
        }
    };
}

real_functions! {
    malloc: fn(usize) -> *mut u8;
    calloc: fn(usize, usize) -> *mut u8;
    realloc: fn(*mut u8, usize) -> *mut u8;
    free: fn(*mut u8) -> ();
    cfree: fn(*mut u8) -> ();
    free_sized: fn(*mut u8, usize) -> ();
    free_aligned_sized: fn(*mut u8, usize, usize) -> ();
    posix_memalign: fn(*mut *mut u8, usize, usize) -> i32;
    aligned_alloc: fn(usize, usize) -> *mut u8;
    memalign: fn(usize, usize) -> *mut u8;
    valloc: fn(usize) -> *mut u8;
    pvalloc: fn(usize) -> *mut u8;
    malloc_usable_size: fn(*mut u8) -> usize;
    mmap: fn(*mut u8, usize, i32, i32, i32, isize) -> *mut u8;
    mmap64: fn(*mut u8, usize, i32, i32, i32, i64) -> *mut u8;
    munmap: fn(*mut u8, usize) -> i32;
    mremap: fn(*mut u8, usize, usize, i32, *mut u8) -> *mut u8;
    brk: fn(*mut u8) -> i32;
    sbrk: fn(isize) -> *mut u8;
    prctl: fn(i32, usize, usize, usize, usize) -> i32;
    _exit: fn(i32) -> ();
    quick_exit: fn(i32) -> ();
    pthread_setname_np: fn(usize, *const c_char) -> i32;
    // Never called with this signature: its address is handed on (see the hook).
    clone: fn() -> ();
    // What else is asked of libc. All of it is looked up at once, at the first call of a hook: a later `dlsym` would take the place of an
    // error message that the target has yet to ask for.
    pthread_self: fn() -> usize;
    pthread_atfork: fn(extern "C" fn(), Option<extern "C" fn()>, extern "C" fn()) -> i32;
    __register_atfork: fn(extern "C" fn(), Option<extern "C" fn()>, extern "C" fn(), *mut c_void) -> i32;
    _dl_find_object: fn(*const c_void, *mut modules::Found) -> i32;
    on_exit: fn(extern "C" fn(i32, *mut c_void), *mut c_void) -> i32;
    dl_iterate_phdr: fn(VisitObject, *mut c_void) -> i32;
    gnu_get_libc_version: fn() -> *const c_char;
    // Not called: their addresses tell where the loader and its idea of the stack are, and where stacks begin.
    __tls_get_addr: fn() -> ();
    __libc_start_main: fn() -> ();
    pthread_create: fn() -> ();
    __libc_stack_end: fn() -> ();
}

/// A visitor of loaded objects: description, its size, the visitor's own pointer.
pub type VisitObject = unsafe extern "C" fn(*const modules::ObjectInfo, usize, *mut c_void) -> i32;

#[cold]
#[inline(never)]
fn resolve() {
    if STATE
        .compare_exchange(UNRESOLVED, RESOLVING, Ordering::AcqRel, Ordering::Relaxed)
        .is_err()
    {
        return;
    }
    let errno = Errno::save();
    resolve_all();
    // Takes back the message about what this libc does not have: it is not the target's. The second call frees it.
    // SAFETY: no arguments.
    unsafe {
        dlerror();
        dlerror();
    }
    if let (Some(allocator), Some(libc)) = (
        modules::locate(cell::malloc.load(Ordering::Relaxed)),
        modules::locate(abort as *const () as usize),
    ) {
        if allocator.start != libc.start {
            FOREIGN_START.store(allocator.start, Ordering::Relaxed);
            FOREIGN_END.store(allocator.end, Ordering::Relaxed);
        }
    }
    STATE.store(RESOLVED, Ordering::Release);
    drop(errno);
}

/// Looks everything up, if that has not been done.
pub fn prepare() {
    resolve();
}

/// Has everything been looked up? What `dlsym` allocates and frees meanwhile is ours, and not recorded.
pub fn is_resolved() -> bool {
    STATE.load(Ordering::Acquire) == RESOLVED
}

/// Writes the name of the C library, and its version where it tells that. Returns the length; the version is cut where the room ends.
pub fn libc_name(room: &mut [u8; 64]) -> usize {
    let name: &[u8] = match cfg!(target_env = "gnu") {
        true => b"glibc ",
        false => b"musl",
    };
    let version = match gnu_get_libc_version() {
        // SAFETY: libc's own constant, NUL-terminated.
        Some(version) if cfg!(target_env = "gnu") => unsafe { CStr::from_ptr(version()) }.to_bytes(),
        _ => &[],
    };
    let bytes = name.iter().chain(version);
    room.iter_mut().zip(bytes).map(|(place, byte)| *place = *byte).count()
}

/// Is the allocator behind us another one than libc's?
#[inline(always)]
pub fn is_foreign() -> bool {
    FOREIGN_END.load(Ordering::Relaxed) != 0
}

/// Does this return address lie in the allocator behind us (when that is not libc's)?
#[inline]
pub fn is_foreign_caller(address: usize) -> bool {
    (FOREIGN_START.load(Ordering::Relaxed)..FOREIGN_END.load(Ordering::Relaxed)).contains(&address)
}

/// The target's errno, put back at the end of a scope.
pub struct Errno(i32);

impl Errno {
    /// Remembers errno.
    pub fn save() -> Errno {
        // SAFETY: libc gives the calling thread's own word.
        Errno(unsafe { *__errno_location() })
    }
}

/// Sets the target's errno to ENOMEM, for a call that fails without asking the real function.
pub fn out_of_memory() {
    const ENOMEM: i32 = 12;
    // SAFETY: libc gives the calling thread's own word.
    unsafe { *__errno_location() = ENOMEM };
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { *__errno_location() = self.0 };
    }
}

/// Registers the handlers that run before a fork, and in the child.
pub fn register_at_fork(before: extern "C" fn(), child: extern "C" fn()) {
    if let Some(register) = __register_atfork() {
        // SAFETY: glibc's `__register_atfork(prepare, parent, child, dso_handle)`; this library is never unloaded, so it needs no handle.
        unsafe { register(before, None, child, core::ptr::null_mut()) };
    } else if let Some(register) = pthread_atfork() {
        // SAFETY: as POSIX has it; glibc links it into each object and exports none.
        unsafe { register(before, None, child) };
    }
}

/// Registers a handler that runs in `exit` and is told the status.
pub fn register_at_exit(handler: extern "C" fn(i32, *mut c_void)) {
    if let Some(register) = on_exit() {
        // SAFETY: glibc's `on_exit`; this library is never unloaded.
        unsafe { register(handler, core::ptr::null_mut()) };
    }
}

/// Is this `pthread_t` the calling thread's?
pub fn is_this_thread(thread: usize) -> bool {
    // SAFETY: takes nothing.
    pthread_self().is_some_and(|this| unsafe { this() } == thread)
}

/// Where the kernel has put the number of arguments, the arguments and the environment: above all frames of the main thread.
#[cfg(target_env = "gnu")]
pub fn stack_top() -> Option<*const *const u8> {
    // SAFETY: not a function but a pointer variable of the loader's, set before any program code runs.
    let top = unsafe { *(__libc_stack_end()? as *const *const *const u8) };
    (!top.is_null()).then_some(top)
}

/// Where the kernel has put the number of arguments, the arguments and the environment: above all frames of the main thread. It is found once, from the
/// environment as it is before the program runs.
#[cfg(not(target_env = "gnu"))]
pub fn stack_top() -> Option<*const *const u8> {
    extern "C" {
        static environ: *const *const u8;
    }
    static TOP: AtomicUsize = AtomicUsize::new(0);
    if TOP.load(Ordering::Relaxed) == 0 {
        // SAFETY: before the environment stand the null pointer that ends the arguments, the arguments, and their number.
        unsafe {
            if environ.is_null() {
                return None;
            }
            let mut at = environ.sub(2);
            let mut count = 0;
            while *at as usize != count {
                at = at.sub(1);
                count += 1;
            }
            TOP.store(at as usize, Ordering::Relaxed);
        }
    }
    Some(TOP.load(Ordering::Relaxed) as *const *const u8)
}

/// End of the main thread's stack, 0 when unknown.
pub fn stack_end() -> usize {
    stack_top().map_or(0, |top| (top as usize + 4096) & !4095)
}

/// Bytes of libc's thread descriptor that are looked at, fewer than it has: glibc's has had more since 2.4, musl's since 1.1.
const DESCRIPTOR_BYTES: usize = match (cfg!(target_env = "musl"), size_of::<usize>()) {
    // On x86_64 it begins with a larger head.
    (false, 8) if cfg!(target_arch = "x86_64") => 2048,
    (false, 8) => 1664,
    (false, _) => 1024,
    (true, 8) => 184,
    (true, _) => 104,
};

/// Bounds of the calling thread's stack, `(0, 0)` when unknown.
///
/// `pthread_getattr_np` would tell, but it allocates, and takes a lock of the thread's: a thread may come here for the first time from inside an allocator, or from
/// inside that very function. libc keeps address and size of the stack side by side in the descriptor of the thread (musl: those of the mapping), which itself lies at the
/// upper end of that stack: the thread pointer points to its beginning on x86_64, elsewhere to its end.
pub fn thread_stack() -> (usize, usize) {
    let pointer = crate::arch::thread_pointer();
    let descriptor = match cfg!(target_arch = "x86_64") {
        true => pointer,
        false => pointer - DESCRIPTOR_BYTES,
    };
    const WORDS: usize = DESCRIPTOR_BYTES / size_of::<usize>();
    // SAFETY: within the descriptor, which only its thread and libc write.
    let words = unsafe { core::slice::from_raw_parts(descriptor as *const AtomicUsize, WORDS) };
    let found = words.windows(2).find_map(|pair| {
        let (low, size) = (pair[0].load(Ordering::Relaxed), pair[1].load(Ordering::Relaxed));
        let above = low.checked_add(size)?.checked_sub(pointer)?;
        let is_it = low < descriptor && low % 16 == 0 && (LEAST_ABOVE..MOST_ABOVE).contains(&above);
        (is_it && size >= LEAST_STACK).then_some((low, descriptor))
    });
    found.unwrap_or((0, 0))
}

/// No thread has a smaller stack.
const LEAST_STACK: usize = 4096;
/// The descriptor, where it begins at the thread pointer, and static thread-local storage above a stack are no smaller.
const LEAST_ABOVE: usize = if cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
    2048
} else {
    0
};
/// Descriptor and static thread-local storage above a stack are no larger.
const MOST_ABOVE: usize = 1 << 20;

/// Bytes of the arena: `dlsym` asks for a few dozen in all.
const ARENA_BYTES: usize = 64 << 10;
/// Bytes before each block, which hold its size.
const ARENA_HEAD: usize = 16;

#[repr(C, align(4096))]
struct Arena(UnsafeCell<[u8; ARENA_BYTES]>);
// SAFETY: each byte is handed out once (`arena_allocate`).
unsafe impl Sync for Arena {}
static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_BYTES]));
static ARENA_USED: AtomicUsize = AtomicUsize::new(0);

/// Address of the real `clone`, glibc's own while that is being looked up.
pub fn clone_address() -> usize {
    clone().map_or(__clone as *const () as usize, |real| real as usize)
}

/// The real `sbrk`. While that is being looked up it is glibc's own: the system call itself would leave libc with an old idea of where the break is.
///
/// # Safety
/// As for `sbrk`: memory that is in use must not be given back.
pub unsafe fn move_break(increment: isize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        match sbrk() {
            Some(real) => real(increment),
            None => __sbrk(increment),
        }
    }
}

/// Zeroed memory for calls that come before the real allocator is known; null when the arena is full.
#[cold]
pub fn arena_allocate(size: usize, align: usize) -> *mut u8 {
    let align = align.max(ARENA_HEAD);
    let taken = ARENA_USED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
        let start = used.checked_add(ARENA_HEAD)?.checked_next_multiple_of(align)?;
        start.checked_add(size).filter(|end| *end <= ARENA_BYTES)
    });
    let Ok(used) = taken else { return core::ptr::null_mut() };
    let start = (used + ARENA_HEAD).next_multiple_of(align);
    // SAFETY: `start..start + size` and the head before it lie in the arena and are handed out only here.
    unsafe {
        let block = (ARENA.0.get() as *mut u8).add(start);
        (block.sub(8) as *mut usize).write(size);
        block
    }
}

/// Does this block come from the arena?
#[inline(always)]
pub fn in_arena(block: *const u8) -> bool {
    (block as usize).wrapping_sub(ARENA.0.get() as usize) < ARENA_BYTES
}

/// Size of a block of the arena.
pub fn arena_size(block: *const u8) -> usize {
    // SAFETY: every block of the arena has its size before it.
    unsafe { (block.sub(8) as *const usize).read() }
}
