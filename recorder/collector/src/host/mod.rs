//! What the collector asks the system about recorded processes. Behind a trait, so that tests can play processes that do not exist.
//!
//! Every answer may be missing: a process may be gone, belong to another process id namespace, or be out of reach. Nothing here is an error.

pub mod code;
pub mod elf;
pub mod linux;
pub mod maps;

use crate::clock::Anchor;
use heaptape_format::Bytes;

/// What a process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Path of the executable.
    pub exe: Vec<u8>,
    /// Its arguments.
    pub command: Vec<Vec<u8>>,
}

/// A process id made unambiguous by the time the process started, in clock ticks since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The process id, in the collector's namespace.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`.
    pub started: u64,
}

/// A file mapped into a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundModule {
    /// Path as the process sees it.
    pub path: Vec<u8>,
    /// GNU build-id, empty when unknown.
    pub build_id: Vec<u8>,
    /// Address in memory minus address in the file.
    pub bias: u64,
    /// Lowest mapped address.
    pub start: u64,
    /// End of the highest mapping.
    pub end: u64,
    /// Whether it has unwind tables, if that is known.
    pub unwind: Option<bool>,
}

/// Memory of a process as the system counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident set.
    pub rss: Bytes,
    /// Charge of the memory control group, 0 when unknown.
    pub cgroup: Bytes,
}

/// The shares of a process's memory, which cost the system a walk over all its pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Proportional set.
    pub pss: Bytes,
    /// Swapped out.
    pub swap: Bytes,
}

/// The system underneath.
pub trait Host {
    /// The clocks now.
    fn now(&self) -> Anchor;
    /// Tells a process from later ones with the same id; `None` when there is no such process here.
    fn identify(&self, pid: u32) -> Option<Identity>;
    /// Whether the process still runs; one that has ended and only waits to be reaped does not.
    fn alive(&self, process: Identity) -> bool;
    /// Whether the thread exists.
    fn thread_alive(&self, pid: u32, tid: u32) -> bool;
    /// Executable and arguments.
    fn facts(&self, pid: u32) -> Option<ProcessFacts>;
    /// Whether the process now runs another program than this, which has not mapped the segment: one that cannot be recorded.
    fn has_left(&self, process: Identity, exe: &[u8]) -> bool;
    /// Name of a thread.
    fn thread_name(&self, pid: u32, tid: u32) -> Option<Vec<u8>>;
    /// The files mapped executable.
    fn modules(&self, pid: u32) -> Vec<FoundModule>;
    /// The list of code that a program has made while it ran, and its length in bytes; see [`code`]. The program may have ended.
    fn made_code(&self, process: Identity) -> Option<(Box<dyn std::io::Read>, u64)>;
    /// Cheap figures.
    fn memory(&self, pid: u32) -> Option<Memory>;
    /// Costly figures.
    fn shares(&self, pid: u32) -> Option<Shares>;
    /// Process ids of programs started within the last two seconds whose environment names the segment of the collector `pid`: some of them may not have attached yet.
    fn starting(&self, collector: u32) -> Vec<u32>;
    /// Process ids of programs that have the segment mapped: the recorded ones, and forked children that have not come as far as making themselves known.
    fn holders(&self) -> Vec<u32>;
    /// Makes every processor see what this one has stored, and this one what every other has; see `heaptape_shm::ring`.
    fn barrier(&self);
    /// Wakes at most so many of the recorded threads that wait for space on this word.
    fn wake(&self, word: &std::sync::atomic::AtomicU32, most: u32);
}
