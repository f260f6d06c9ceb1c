//! What the C library's allocator keeps of the memory that is freed. glibc's learns from large blocks that come and go to keep them, and gives each thread an arena of its own: what a
//! fold takes for a second would stay for ever. Other C libraries give memory back by themselves.
#![allow(unsafe_code)]

/// Blocks from this size on are mapped, and unmapped when they are freed, bytes. So it is in glibc until the first of them is freed.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: libc::c_int = 128 << 10;

/// From now on memory goes back to the system when it is freed, as far as it lies in large blocks. To be called before there are threads.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only settings of the allocator, and no other thread that allocates.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
        libc::mallopt(libc::M_TRIM_THRESHOLD, MAPPED_FROM);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives all free pages of small blocks back.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
