//! The calls themselves. Whatever `malloc` the loader found for this process is asked.
#![allow(unsafe_code)]

use super::call::{kind, Call, Packed};
use super::Touch;
use memmap2::MmapMut;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes from one touched byte to the next.
const PAGE: usize = 4096;

/// The addresses of live blocks, and the calls that change them. The table is mapped beforehand and no part of the heap.
pub(super) struct Blocks {
    table: MmapMut,
    touch: Touch,
}

/// What calls came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub allocations: u64,
    pub reallocations: u64,
    pub frees: u64,
    pub bytes: u128,
    pub failed: u64,
}

impl Done {
    pub(super) fn add(&mut self, other: Done) {
        self.allocations += other.allocations;
        self.reallocations += other.reallocations;
        self.frees += other.frees;
        self.bytes += other.bytes;
        self.failed += other.failed;
    }
}

impl Blocks {
    /// A table of so many places, its memory there already.
    pub(super) fn new(slots: u32, touch: Touch) -> io::Result<Blocks> {
        let mut table = MmapMut::map_anon((slots as usize).max(1) * size_of::<usize>())?;
        table.iter_mut().step_by(PAGE).for_each(|byte| *byte = 0);
        // The first page of a mapping of zeros may be shared until something else is written.
        table.fill(0);
        Ok(Blocks { table, touch })
    }

    fn slots(&self) -> &[AtomicUsize] {
        let bytes: &[u8] = &self.table;
        let count = bytes.len() / size_of::<AtomicUsize>();
        // SAFETY: a mapping begins at a page and lives as long as `self`; an atomic of any bits is valid, and nobody reads or writes the table in any other way
        // after `new`.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), count) }
    }

    /// Performs calls, one after the other.
    pub(super) fn perform(&self, calls: &[Packed]) -> Done {
        let mut done = Done::default();
        let slots = self.slots();
        for &packed in calls {
            let call = Call::unpack(packed);
            let Some(slot) = slots.get(call.slot as usize) else {
                done.failed += 1;
                continue;
            };
            self.one(&call, slot, &mut done);
        }
        done
    }

    fn one(&self, call: &Call, slot: &AtomicUsize, done: &mut Done) {
        let old = slot.load(Ordering::Relaxed) as *mut libc::c_void;
        let Ok(size) = usize::try_from(call.size) else {
            done.failed += 1;
            return;
        };
        if call.kind == kind::FREE {
            // SAFETY: a slot holds what an allocation call returned, or null, and is emptied here: no address is freed twice.
            unsafe { libc::free(old) };
            slot.store(0, Ordering::Relaxed);
            done.frees += 1;
            return;
        }
        let new = match call.kind {
            kind::CALLOC => {
                // SAFETY: `calloc` takes any numbers.
                unsafe { libc::calloc(1, size) }
            }
            kind::ALIGNED => {
                let alignment = 1usize << call.alignment_log2.clamp(4, 16);
                let mut block = std::ptr::null_mut();
                // SAFETY: the alignment is a power of two and a multiple of a pointer's size; the address goes to a local variable.
                let status = unsafe { libc::posix_memalign(&mut block, alignment, size) };
                if status == 0 {
                    block
                } else {
                    std::ptr::null_mut()
                }
            }
            // The size 0 would free the block; what the program then had is a block of no bytes.
            kind::REALLOC => {
                // SAFETY: as with `free`; the old address is replaced below by the new one, unless the call fails, and then it still holds.
                unsafe { libc::realloc(old, size.max(1)) }
            }
            _ => {
                // SAFETY: `malloc` takes any number.
                unsafe { libc::malloc(size) }
            }
        };
        if call.kind == kind::REALLOC {
            done.reallocations += 1;
        } else {
            done.allocations += 1;
        }
        done.bytes += u128::from(call.size);
        if new.is_null() {
            // Some allocators give no block for no bytes.
            done.failed += u64::from(size > 0);
            return;
        }
        slot.store(new as usize, Ordering::Relaxed);
        let step = match self.touch {
            Touch::None => return,
            Touch::Page => PAGE,
            Touch::All => 1,
        };
        for at in (0..size).step_by(step) {
            // SAFETY: `at` lies in the block of `size` bytes that was just returned, which nobody else knows of. Volatile, since nothing reads it.
            unsafe { new.cast::<u8>().add(at).write_volatile(1) };
        }
    }
}

/// The file that `malloc` comes from.
pub(super) fn library() -> String {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    let malloc: unsafe extern "C" fn(usize) -> *mut libc::c_void = libc::malloc;
    // SAFETY: the address is that of a function of a loaded object, and `info` is a whole record to be filled.
    let found = unsafe { libc::dladdr(malloc as *const libc::c_void, &mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return "unknown".to_owned();
    }
    // SAFETY: after success the name is a string of the loader, which lives as long as the object is loaded: to the end.
    let name = unsafe { std::ffi::CStr::from_ptr(info.dli_fname) };
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_performed_and_counted() {
        let blocks = Blocks::new(3, Touch::All).expect("memory");
        let call = |kind, slot, size| {
            let call = Call {
                size,
                slot,
                kind,
                alignment_log2: 6,
                ..Call::default()
            };
            call.pack()
        };
        let done = blocks.perform(&[
            call(kind::MALLOC, 0, 100),
            call(kind::CALLOC, 1, 0),
            call(kind::ALIGNED, 2, 64),
            call(kind::REALLOC, 0, 10_000),
            call(kind::REALLOC, 2, 0),
            call(kind::FREE, 0, 0),
            call(kind::FREE, 1, 0),
            call(kind::FREE, 2, 0),
            call(kind::MALLOC, 9999, 1),
            call(kind::MALLOC, 1, u64::MAX / 2),
        ]);
        assert_eq!((done.allocations, done.reallocations, done.frees), (4, 2, 3));
        // A slot that is not there, and more memory than there can be.
        assert_eq!(done.failed, 2);
        assert_eq!(done.bytes, 10_164 + u128::from(u64::MAX / 2));
    }
}
