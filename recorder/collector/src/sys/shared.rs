//! The memory that recorded programs and the collector share.
#![allow(unsafe_code)]

use heaptape_shm::{Geometry, Segment};
use rustix::fs::{ftruncate, memfd_create, open, unlink, MemfdFlags, Mode, OFlags};
use rustix::mm::{mmap, MapFlags, ProtFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Makes a fresh segment: its descriptor, to be opened by the recorded programs through `/proc`, and the mapping. The mapping lasts as long as the process.
///
/// # Errors
/// When neither a memory file nor a file in `/dev/shm` or the folder for temporary files can be made, or memory is short.
pub fn create(geometry: Geometry) -> io::Result<(OwnedFd, Segment)> {
    let file = memory_file()?;
    ftruncate(&file, geometry.length() as u64)?;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe {
        mmap(
            std::ptr::null_mut(),
            geometry.length(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            &file,
            0,
        )?
    };
    // SAFETY: fresh, zeroed, page-aligned, of the right length, never unmapped, and nobody else has the file yet.
    let segment = unsafe { Segment::create(base.cast_const().cast(), geometry) };
    Ok((file, segment))
}

fn memory_file() -> io::Result<OwnedFd> {
    let first = match memfd_create("heaptape", MemfdFlags::CLOEXEC) {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    // Kernels without memfd_create: a file that nobody else can name.
    for folder in [PathBuf::from("/dev/shm"), std::env::temp_dir()] {
        let path = folder.join(format!("heaptape.{}", std::process::id()));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if let Ok(file) = open(&path, flags, Mode::RUSR | Mode::WUSR) {
            unlink(&path)?;
            return Ok(file);
        }
    }
    Err(first.into())
}
