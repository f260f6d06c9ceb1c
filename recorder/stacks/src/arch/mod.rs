//! What depends on the processor: the registers that are followed, where a function saves them, how its rule is read from the module's unwind table,
//! and one step by a rule. A folder per processor with the same names in it; what has its return address in a register (`linked`) shares most.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;

#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
pub mod linked;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
pub use aarch64::*;

#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "riscv64")]
pub use riscv64::*;

#[cfg(target_arch = "arm")]
mod arm;
#[cfg(target_arch = "arm")]
pub use arm::*;
