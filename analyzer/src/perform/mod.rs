//! Performs the recorded sequence of allocations against an allocator: what would this program take with another one, or with other settings?
//!
//! | module | |
//! |---|---|
//! | `call` | one call, as it goes from process to process |
//! | `script` | from a tape to the calls of one process, in their order |
//! | `allocator` | the calls themselves, of the process's own `malloc` |
//! | `threads` | the recorded threads, as threads |
//! | `stage` | the performing process: takes calls, measures, tells the outcome |
//! | `variant` | starts a performing process and feeds it |
//!
//! **Every variant is a fresh process**, this program itself with a hidden command, so that the loader puts the allocator in place as it would for any program. The
//! tape is read by the parent and comes through a pipe: reading it costs the performing process nothing.
//!
//! **Order and threads.** Calls are performed in the recorded order, one after the other, each by the thread that made it: an allocator's arenas and caches belong
//! to threads, and a block that one thread allocates and another frees is what fragments them. That calls never overlap changes the time (no contention), not
//! which block comes from where.
//!
//! **Bookkeeping** of the performing process is mapped, touched and waited for before the first call, and its resident set then is what the peak is counted from.
//! What is left in the heap of the allocator under test is what the start of a process and of its threads takes.

mod allocator;
mod call;
mod script;
mod stage;
mod threads;
mod variant;

pub use script::{plan, Plan};
pub use stage::{perform, Outcome};
pub use variant::{run, Setting, Variant, VariantError};

use crate::text::Text;
use serde::{Deserialize, Serialize};

/// What of a block is written to after it was allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Touch {
    /// Nothing: the calls alone.
    None,
    /// A byte of each page.
    #[default]
    Page,
    /// Every byte.
    All,
}

/// What the performing process has to know beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Most blocks alive at once.
    pub slots: u32,
    /// Threads.
    pub threads: u32,
    /// What is written.
    pub touch: Touch,
    /// It gives up when more than this is resident.
    pub memory: u64,
}

/// Allocators side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// The tape.
    pub tape: Text,
    /// The process's id on the device.
    pub pid: u32,
    /// Its executable.
    pub exe: Text,
    /// What was written.
    pub touch: Touch,
    /// Whether one thread made all calls.
    pub one_thread: bool,
    /// What was to be performed.
    pub plan: Plan,
    /// What came of it, in the order of the command line.
    pub variants: Vec<Variant>,
}
