//! The loaded objects of this process, as far as stacks have led to them.
//!
//! The loader is asked only when a program counter is met for the first time (glibc's `_dl_find_object`, which takes no lock; `dl_iterate_phdr` before glibc 2.35).
//! That something may have been loaded or unloaded is seen by a call from the loader's own code to one of the hooks: it cannot do either without allocating
//! or freeing. `dlopen` and `dlclose` themselves are not hooked: the loader looks at their caller.
#![allow(unsafe_code)]

use crate::{life, python, real, stack, sys};
use core::ffi::{c_char, c_void, CStr};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use heaptape_stacks::module::Tables;

/// Modules that can be told apart in one process.
const MOST_MODULES: usize = 2048;

/// Bytes of a path that are passed on.
pub const MOST_PATH: usize = 2048;

/// A loaded object as the loader describes it.
#[derive(Clone, Copy)]
pub struct Located {
    /// Lowest mapped address.
    pub start: usize,
    /// End of the mapping.
    pub end: usize,
    /// What to add to addresses of the file.
    pub bias: usize,
    /// Its path, NUL-terminated, empty for the program itself; may be null.
    pub name: *const c_char,
    /// Its `.eh_frame_hdr` (arm: `.ARM.exidx`), 0 when it has none.
    unwind: usize,
    /// Bytes from there to the end of the table, where that is known.
    unwind_bytes: usize,
}

/// A module that the collector has been told of.
struct Known {
    start: AtomicUsize,
    end: AtomicUsize,
    identity: AtomicU64,
    /// Where eight bytes lie that differ between modules, and what they are.
    sample_at: AtomicUsize,
    sample: AtomicU64,
}

static KNOWN: [Known; MOST_MODULES] = [const {
    Known {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        identity: AtomicU64::new(0),
        sample_at: AtomicUsize::new(0),
        sample: AtomicU64::new(0),
    }
}; MOST_MODULES];
static COUNT: AtomicU32 = AtomicU32::new(0);
/// 0, or who holds it.
static LOCK: AtomicUsize = AtomicUsize::new(0);

static LOADER_START: AtomicUsize = AtomicUsize::new(0);
static LOADER_END: AtomicUsize = AtomicUsize::new(0);
static LIBC_START: AtomicUsize = AtomicUsize::new(0);
static CHANGED: AtomicBool = AtomicBool::new(false);

/// Finds the loader itself, and libc.
pub fn prepare() {
    // A function that lies in the loader since glibc 2.0. musl's loader is libc itself; what it needs it does not ask of the hooks, and it unloads nothing.
    let loader = real::__tls_get_addr().filter(|_| cfg!(target_env = "gnu"));
    if let Some(found) = loader.and_then(|function| locate(function as usize)) {
        LOADER_START.store(found.start, Ordering::Relaxed);
        LOADER_END.store(found.end, Ordering::Relaxed);
    }
    if let Some(found) = real::pthread_self().and_then(|function| locate(function as usize)) {
        LIBC_START.store(found.start, Ordering::Relaxed);
    }
}

/// In a forked child: a lock of another thread of the parent's is nobody's here. What is loaded stays, but the collector is to hear nothing twice,
/// since the child inherits the parent's modules there too.
pub fn forget_parent() {
    LOCK.store(0, Ordering::Release);
}

/// Whoever is among these has jumped away and will not come back: if it held the lock, nobody does now, and what it was about is to be done again.
pub fn abandon(askers: &core::ops::Range<usize>) {
    if askers.contains(&LOCK.load(Ordering::Relaxed)) {
        CHANGED.store(true, Ordering::Relaxed);
        LOCK.store(0, Ordering::Release);
    }
}

/// Does a stack begin at an address, of which the tables of its object say nothing? The loader and libc of glibc have unwind tables for all their code but such places. musl has none,
/// or hardly any; its two functions that begin stacks are linked right before the public ones that lead to them, beside others that end threads.
pub fn is_start(located: &Located, address: usize) -> bool {
    if cfg!(target_env = "gnu") {
        return located.start == LOADER_START.load(Ordering::Relaxed)
            || located.start == LIBC_START.load(Ordering::Relaxed);
    }
    const START_CODE: usize = 192;
    let leads = [real::__libc_start_main(), real::pthread_create()];
    let mut leads = leads.into_iter().flatten().map(|function| function as usize);
    leads.any(|function| (function - START_CODE..function).contains(&address))
}

/// Does this address lie in the start code of a program, which calls `main` by way of libc?
pub fn is_entry(located: &Located, address: usize) -> bool {
    const START_CODE: usize = 96;
    // Where the header says where the program begins.
    const PLACE: usize = 24;
    if program_headers(located).is_empty() {
        return false;
    }
    // SAFETY: the first page of a loaded object, which begins with a header.
    let entry = unsafe { ((located.start + PLACE) as *const usize).read_unaligned() };
    address.wrapping_sub(located.bias.wrapping_add(entry)) < START_CODE
}

/// Does this address lie in the loader?
#[inline(always)]
pub fn is_loader(address: usize) -> bool {
    let start = LOADER_START.load(Ordering::Relaxed);
    address.wrapping_sub(start) < LOADER_END.load(Ordering::Relaxed).wrapping_sub(start)
}

/// Does a hook's caller lie in the loader? Then something may be about to change.
#[inline(always)]
pub fn note_caller(address: usize) -> bool {
    let inside = is_loader(address);
    if inside {
        CHANGED.store(true, Ordering::Relaxed);
    }
    inside
}

/// Has the loader been at work since the last [`refresh`]?
#[inline(always)]
pub fn changed() -> bool {
    CHANGED.load(Ordering::Relaxed)
}

/// Where the program, libc and the loader lie: modules that every stack leads to.
pub fn usual() -> [usize; 3] {
    let program = real::stack_top().map_or(0, program_entry);
    [
        program,
        LIBC_START.load(Ordering::Relaxed),
        LOADER_START.load(Ordering::Relaxed),
    ]
}

/// The program's entry point, from the vector that the kernel has put behind the environment.
fn program_entry(arguments: *const *const u8) -> usize {
    const AT_ENTRY: usize = 9;
    // SAFETY: arguments and environment end with a null pointer each, the vector with a pair of key 0; all of it is the kernel's.
    unsafe {
        let mut at = arguments.add(*(arguments as *const usize) + 2);
        while !(*at).is_null() {
            at = at.add(1);
        }
        let mut pair = at.add(1) as *const [usize; 2];
        while (*pair)[0] != 0 {
            if (*pair)[0] == AT_ENTRY {
                return (*pair)[1];
            }
            pair = pair.add(1);
        }
    }
    0
}

/// Looks up the loaded object that contains an address.
pub fn locate(address: usize) -> Option<Located> {
    match real::_dl_find_object() {
        Some(find) => locate_by(find, address),
        None => locate_by_iteration(address),
    }
}

type FindObject = unsafe extern "C" fn(*const c_void, *mut Found) -> i32;

/// `struct dl_find_object`.
#[repr(C)]
#[derive(Default)]
pub struct Found {
    flags: u64,
    start: usize,
    end: usize,
    /// `struct link_map`, which begins with the bias and the name.
    map: usize,
    unwind: usize,
    /// arm: the number of entries of the table. Reserved elsewhere, as the rest.
    entries: usize,
    _reserved: [u64; 8],
}

fn locate_by(find: FindObject, address: usize) -> Option<Located> {
    let mut found = Found::default();
    // SAFETY: the struct is at least as long as the loader's on all targets.
    if unsafe { find(address as *const c_void, &mut found) } != 0 {
        return None;
    }
    // Of a program whose segments do not lie side by side (linked for pages of 64 KiB, and run with smaller ones) it names the segment that holds the address.
    if !sys::holds(found.start, ELF_MAGIC) {
        return locate_by_iteration(address);
    }
    let map = found.map as *const usize;
    let (bias, name) = if map.is_null() {
        (found.start, 0)
    } else {
        // SAFETY: the loader's entry of an object that is loaded now.
        unsafe { (*map, *map.add(1)) }
    };
    Some(Located {
        start: found.start,
        end: found.end,
        bias,
        name: name as *const c_char,
        unwind: found.unwind,
        unwind_bytes: match cfg!(target_arch = "arm") {
            true => (found.entries as u32 as usize).saturating_mul(8),
            false => usize::MAX,
        },
    })
}

/// `struct dl_phdr_info`, its beginning.
#[repr(C)]
pub struct ObjectInfo {
    bias: usize,
    name: *const c_char,
    headers: *const ProgramHeader,
    count: u16,
}

/// `Elf64_Phdr`, or `Elf32_Phdr`.
#[repr(C)]
#[derive(Clone, Copy)]
struct ProgramHeader {
    kind: u32,
    #[cfg(target_pointer_width = "64")]
    flags: u32,
    offset: usize,
    address: usize,
    physical: usize,
    file_size: usize,
    memory_size: usize,
    #[cfg(target_pointer_width = "32")]
    flags: u32,
    align: usize,
}

/// What every loaded object begins with: `\x7fELF`, as the machine reads it.
const ELF_MAGIC: u32 = u32::from_ne_bytes(*b"\x7fELF");
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_NOTE: u32 = 4;
/// Where the unwind table is: `PT_GNU_EH_FRAME`, or `PT_ARM_EXIDX`.
const PT_UNWIND: u32 = if cfg!(target_arch = "arm") {
    0x7000_0001
} else {
    0x6474_e550
};

fn locate_by_iteration(address: usize) -> Option<Located> {
    let mut found = None;
    visit_all(&mut |located| {
        let here = (located.start..located.end).contains(&address);
        if here {
            found = Some(*located);
        }
        !here
    });
    found
}

/// Visits the loaded objects until the visitor says `false`. Takes the loader's lock.
pub fn visit_all(mut visitor: &mut dyn FnMut(&Located) -> bool) {
    unsafe extern "C" fn visit(info: *const ObjectInfo, _: usize, visitor: *mut c_void) -> i32 {
        // SAFETY: the loader passes a valid description and our own pointer.
        let (info, visitor) = unsafe { (&*info, &mut *(visitor as *mut &mut dyn FnMut(&Located) -> bool)) };
        // SAFETY: as many headers as it says.
        let headers = unsafe { core::slice::from_raw_parts(info.headers, info.count as usize) };
        i32::from(!visitor(&describe(info.bias, info.name, headers)))
    }
    if let Some(iterate) = real::dl_iterate_phdr() {
        // SAFETY: the signature of `dl_iterate_phdr`; the callback gets our reference while it lives.
        unsafe {
            iterate(
                visit,
                &mut visitor as *mut &mut dyn FnMut(&Located) -> bool as *mut c_void,
            )
        };
    }
}

fn describe(bias: usize, name: *const c_char, headers: &[ProgramHeader]) -> Located {
    let mut located = Located {
        start: usize::MAX,
        end: 0,
        bias,
        name,
        unwind: 0,
        unwind_bytes: 0,
    };
    for header in headers {
        let address = bias.wrapping_add(header.address);
        match header.kind {
            PT_LOAD => {
                located.start = located.start.min(address & !4095);
                located.end = located.end.max(address + header.memory_size);
            }
            PT_UNWIND => {
                located.unwind = address;
                located.unwind_bytes = header.memory_size;
            }
            _ => {}
        }
    }
    located
}

/// The program headers of a loaded object, by the ELF header at its start.
fn program_headers(located: &Located) -> &'static [ProgramHeader] {
    const WIDE: bool = size_of::<usize>() == 8;
    const MAGIC: [u8; 5] = if WIDE { *b"\x7fELF\x02" } else { *b"\x7fELF\x01" };
    // Where the header says where the program headers are, and how large and how many.
    const PLACES: (usize, usize) = if WIDE { (32, 54) } else { (28, 42) };
    // SAFETY: the first page of a loaded object is mapped and readable.
    unsafe {
        let head = located.start as *const u8;
        if located.end - located.start < 4096 || *(head as *const [u8; 5]) != MAGIC {
            return &[];
        }
        let offset = (head.add(PLACES.0) as *const usize).read_unaligned();
        let size = (head.add(PLACES.1) as *const u16).read_unaligned() as usize;
        let count = (head.add(PLACES.1 + 2) as *const u16).read_unaligned() as usize;
        if size != size_of::<ProgramHeader>()
            || !offset.is_multiple_of(size_of::<usize>())
            || offset + count * size > 4096
        {
            return &[];
        }
        core::slice::from_raw_parts(head.add(offset) as *const ProgramHeader, count)
    }
}

impl Located {
    /// Its unwind table, if it has one that lies in it.
    pub fn tables(&self) -> Option<Tables<'_>> {
        // SAFETY: the mapping of a loaded object; the reader only follows its tables, which lie in mapped segments.
        let module = unsafe { core::slice::from_raw_parts(self.start as *const u8, self.end - self.start) };
        let header = module.get(self.unwind.checked_sub(self.start)?..)?;
        Some(Tables {
            header_address: self.unwind,
            header: &header[..self.unwind_bytes.min(header.len())],
            start: self.start,
            module,
        })
    }

    /// The writable segment that contains an address.
    pub fn writable(&self, address: usize) -> Option<core::ops::Range<usize>> {
        const PF_W: u32 = 2;
        let headers = program_headers(self).iter();
        let mut segments = headers
            .filter(|header| header.kind == PT_LOAD && header.flags & PF_W != 0)
            .map(|header| {
                let start = self.bias.wrapping_add(header.address);
                start..start.wrapping_add(header.memory_size)
            });
        segments.find(|segment| segment.contains(&address))
    }

    /// Address and bytes of its dynamic section.
    pub fn dynamic(&self) -> Option<(usize, usize)> {
        let headers = program_headers(self).iter();
        let header = headers.copied().find(|header| header.kind == PT_DYNAMIC)?;
        Some((self.bias.wrapping_add(header.address), header.memory_size))
    }
}

/// The GNU build-id of a loaded object, empty when there is none.
fn build_id(located: &Located) -> &'static [u8] {
    const NT_GNU_BUILD_ID: u32 = 3;
    for header in program_headers(located) {
        let (start, size) = (located.bias.wrapping_add(header.address), header.memory_size);
        if header.kind != PT_NOTE || start < located.start || start.saturating_add(size) > located.end {
            continue;
        }
        let mut at = 0;
        while at + 16 <= size {
            // SAFETY: within a note segment of a loaded object, checked against its bounds.
            let [name_size, data_size, kind] = unsafe { ((start + at) as *const [u32; 3]).read_unaligned() };
            let data_at = at + 12 + (name_size as usize).next_multiple_of(4);
            let next = data_at + (data_size as usize).next_multiple_of(4);
            if next > size {
                break;
            }
            // SAFETY: as above.
            let name = unsafe { ((start + at + 12) as *const [u8; 4]).read_unaligned() };
            if kind == NT_GNU_BUILD_ID && name_size == 4 && name == *b"GNU\0" && data_size <= 64 {
                // SAFETY: as above.
                return unsafe { core::slice::from_raw_parts((start + data_at) as *const u8, data_size as usize) };
            }
            at = next;
        }
    }
    &[]
}

/// FNV-1a over what makes a module that one.
fn identity(located: &Located, id: &[u8], path: &[u8]) -> u64 {
    let numbers = [located.start, located.end, located.bias];
    let bytes = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .chain(id.iter().copied())
        .chain(path.iter().copied());
    bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    }) | 1
}

/// Runs `inside` alone; `None` when another thread is in there and does not come out in time (it may be the one we interrupted).
fn alone<T>(inside: impl FnOnce() -> T) -> Option<T> {
    let asker = stack::asker();
    for _ in 0..100_000 {
        if LOCK
            .compare_exchange(0, asker, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
        {
            let result = inside();
            LOCK.store(0, Ordering::Release);
            return Some(result);
        }
        core::hint::spin_loop();
    }
    None
}

/// Tells the collector of a module if it has not been told yet. `write(kind is MODULE_GONE, bytes)`.
pub fn announce(located: &Located, write: &mut dyn FnMut(Note, &[u8]) -> bool) {
    alone(|| announce_alone(located, write));
}

/// What is said of a module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It is here.
    Here,
    /// It is gone.
    Gone,
    /// It is an interpreter.
    Runtime,
}

fn announce_alone(located: &Located, write: &mut dyn FnMut(Note, &[u8]) -> bool) {
    let known = &KNOWN[..COUNT.load(Ordering::Relaxed) as usize];
    let (id, name) = (build_id(located), name_of(located));
    let identity = identity(located, id, name);
    if known
        .iter()
        .any(|known| known.identity.load(Ordering::Relaxed) == identity)
    {
        return;
    }
    let path = match name {
        [] => life::executable(),
        name => &name[..name.len().min(MOST_PATH)],
    };
    let mut note = [0u8; 32 + 64 + MOST_PATH];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        note[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    for number in [located.bias, located.start, located.end] {
        put(&(number as u64).to_le_bytes());
    }
    for number in [u32::from(located.tables().is_some()), id.len() as u32] {
        put(&number.to_le_bytes());
    }
    put(id);
    put(path);
    if !write(Note::Here, &note[..at]) {
        return;
    }
    python::types::forget_pages();
    python::look(located, &mut |bytes| write(Note::Runtime, bytes));
    let free = known
        .iter()
        .position(|known| known.identity.load(Ordering::Relaxed) == 0)
        .unwrap_or(known.len());
    if let Some(entry) = KNOWN.get(free) {
        entry.start.store(located.start, Ordering::Relaxed);
        entry.end.store(located.end, Ordering::Relaxed);
        let (sample_at, sample) = sample(located, id);
        entry.sample_at.store(sample_at, Ordering::Relaxed);
        entry.sample.store(sample, Ordering::Relaxed);
        entry.identity.store(identity, Ordering::Relaxed);
        if free == known.len() {
            COUNT.store(free as u32 + 1, Ordering::Relaxed);
        }
    }
}

/// After the loader has been at work: forgets modules that are gone or replaced, with all rules if there are such. `false` when it could not be done now.
///
/// The rules go first, and then every module is looked at once more: another thread may have loaded one again at its old place meanwhile, and has not told of it if it
/// still found the rules. From here on it does not find them, and waits for us to tell of it.
pub fn refresh(write: &mut dyn FnMut(Note, &[u8]) -> bool) -> bool {
    alone(|| {
        CHANGED.store(false, Ordering::Relaxed);
        let known = &KNOWN[..COUNT.load(Ordering::Relaxed) as usize];
        let is_gone = |entry: &&Known| entry.identity.load(Ordering::Relaxed) != 0 && !is_still(entry);
        if !known.iter().any(|entry| is_gone(&entry)) {
            return;
        }
        stack::forget_rules();
        for entry in known.iter().filter(is_gone) {
            entry.identity.store(0, Ordering::Relaxed);
            let (start, end) = (entry.start.load(Ordering::Relaxed), entry.end.load(Ordering::Relaxed));
            let mut note = [0u8; 16];
            note[..8].copy_from_slice(&(start as u64).to_le_bytes());
            note[8..].copy_from_slice(&(end as u64).to_le_bytes());
            write(Note::Gone, &note);
        }
    })
    .is_some()
}

/// Is the object still where it was? Another thread may be about to unmap it: its memory is not touched.
fn is_still(entry: &Known) -> bool {
    let (start, end) = (entry.start.load(Ordering::Relaxed), entry.end.load(Ordering::Relaxed));
    let (at, sample) = (
        entry.sample_at.load(Ordering::Relaxed),
        entry.sample.load(Ordering::Relaxed),
    );
    locate(start).is_some_and(|located| (located.start, located.end) == (start, end))
        && sys::holds(at, sample as u32)
        && sys::holds(at + 4, (sample >> 32) as u32)
}

/// Eight bytes that tell a loaded object from another at its place, and where they lie: the beginning of its build-id, or where its file has its section headers.
fn sample(located: &Located, id: &[u8]) -> (usize, u64) {
    // `e_shoff` and what follows.
    const SECTION_HEADERS: usize = if size_of::<usize>() == 8 { 40 } else { 32 };
    let address = id.as_ptr() as usize;
    let at = match id.len() >= 8 && address.is_multiple_of(4) {
        true => address,
        false => located.start + SECTION_HEADERS,
    };
    // SAFETY: within the build-id, or the first page, of an object that is loaded.
    (at, unsafe { (at as *const u64).read_unaligned() })
}

/// The loader's name of an object: its path, empty for the program itself.
fn name_of(located: &Located) -> &'static [u8] {
    if located.name.is_null() {
        return &[];
    }
    // SAFETY: NUL-terminated, and there while the object is loaded, which is all the time that callers look at it.
    unsafe { CStr::from_ptr(located.name) }.to_bytes()
}
