//! The system calls that have no safe wrapper elsewhere. The only module of this crate with `unsafe` in it; everything it offers is safe to call.

pub mod memory;
pub mod process;
pub mod shared;
pub mod signal;
pub mod stamp;
pub mod startup;
