//! The stamp that orders all events: the counter of the CPU, the same that the preload library reads.
#![allow(unsafe_code)]

/// The stamp of this moment: no stamp that the library takes from now on is lower.
#[inline]
pub fn now() -> u64 {
    counter() << heaptape_shm::TICK_BITS
}

/// The counter; where user code may not read it, CLOCK_MONOTONIC in nanoseconds.
#[inline]
fn counter() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86_64 processor has rdtsc, and it touches no memory.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let counter: u64;
        // SAFETY: Linux lets user code read the virtual counter; the instruction touches no memory.
        unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) counter, options(nomem, nostack)) };
        counter
    }
    #[cfg(target_arch = "riscv64")]
    {
        let counter: u64;
        // SAFETY: Linux lets user code read the counter of time; the instruction touches no memory.
        unsafe { core::arch::asm!("rdtime {}", out(reg) counter, options(nomem, nostack)) };
        counter
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
    {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }
}

/// Seconds by which local time is ahead of UTC at a moment (seconds since the epoch).
pub fn utc_offset(at: i64) -> i32 {
    // SAFETY: plain memory for the call to fill in; the process has a single thread, so nobody changes the environment meanwhile.
    unsafe {
        let mut local: libc::tm = std::mem::zeroed();
        // The C library's type for it has 32 bits on some machines.
        let at = at as _;
        if libc::localtime_r(&at, &mut local).is_null() {
            return 0;
        }
        local.tm_gmtoff as i32
    }
}
