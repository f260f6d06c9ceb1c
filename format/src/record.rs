//! The tables of a tape: everything that is not an event. Serialized with postcard, in blocks of their own.
//!
//! New kinds of records and new fields come at the end of their enum or behind a new block kind; see `docs/FORMAT.md`.

use crate::id::{Address, Bytes, CodeIx, EventNo, FrameId, Micros, ModuleIx, ProcessIx, StackId, ThreadIx};
use serde::{Deserialize, Serialize};

/// The first block of every tape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Program that wrote it, with version (`heaptape 0.1.0`).
    pub writer: String,
    /// Wall clock at `Micros(0)`, nanoseconds since the Unix epoch.
    pub start_unix_nanos: u64,
    /// Offset of local time from UTC at the device, seconds east; for display.
    pub utc_offset_seconds: i32,
    /// Machine as `uname -m` says it (`x86_64`, `aarch64`, `armv7l`).
    pub machine: String,
    /// Host name.
    pub host: String,
    /// Operating system and kernel, as `uname -sr`.
    pub kernel: String,
    /// Bytes of a pointer of the recorded program: 4 or 8.
    pub pointer_bytes: u8,
    /// Bytes of a page.
    pub page_bytes: u32,
    /// The command line that was recorded, raw bytes per argument.
    pub command: Vec<Vec<u8>>,
    /// The options that shape what is recorded.
    pub options: Options,
}

/// The recording options that an analyzer must know to read the numbers rightly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// How stacks were taken.
    pub stacks: StackMode,
    /// Innermost frames kept per stack; `None` is all.
    pub depth: Option<u32>,
    /// Poisson sampling: mean bytes between samples. `None`: every event is here.
    pub sample_bytes: Option<u64>,
    /// Blocks smaller than this were not recorded.
    pub min_size: Bytes,
}

impl Options {
    /// Whether some blocks were left out.
    pub fn is_partial(&self) -> bool {
        self.sample_bytes.is_some() || self.min_size.get() > 0
    }
}

/// How stacks were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StackMode {
    /// By the unwind tables of each module.
    #[default]
    Dwarf,
    /// By frame pointers.
    FramePointers,
    /// None.
    None,
}

/// A record and its place in the order of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The record holds from just before this event.
    pub at: EventNo,
    /// When.
    pub time: Micros,
    /// What.
    pub record: Record,
}

/// One entry of the tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Record {
    /// A process image began: the next `ProcessIx`.
    Process(Process),
    /// A process image ended.
    ProcessEnd {
        /// Which.
        process: ProcessIx,
        /// How.
        end: ProcessEnd,
    },
    /// A thread was first seen: the next `ThreadIx`.
    Thread(Thread),
    /// A thread's name became known or changed; raw bytes.
    ThreadName {
        /// Which.
        thread: ThreadIx,
        /// Its name.
        name: Vec<u8>,
    },
    /// A thread is gone.
    ThreadEnd {
        /// Which.
        thread: ThreadIx,
    },
    /// A loaded object was first seen in a process: the next `ModuleIx`.
    Module(Module),
    /// A marker set by the program or by a user.
    Marker(Marker),
    /// New frames and stacks.
    Stacks(Stacks),
    /// Memory of a process as the system sees it.
    Sample(MemorySample),
    /// Something is missing here.
    Loss(Loss),
    /// A code object was first seen in a stack: the next `CodeIx`.
    Code(Code),
    /// A type of objects was first seen: the next `TypeIx`, from 1 on.
    Type {
        /// Its name, raw bytes; with its module where the recorder could tell (`dict`, `service.Session`).
        name: Vec<u8>,
    },
    /// A process runs an interpreter whose allocators are recorded, or would have been.
    Runtime(Runtime),
    /// What a module brings along for stacks to be followed through its code.
    Unwind {
        /// Which.
        module: ModuleIx,
        /// Whether it has unwind tables. What they cover is another question: `Frame::Truncated` tells where stacks end.
        tables: bool,
    },
    /// The C library that a process uses.
    Libc {
        /// Which process.
        process: ProcessIx,
        /// The library, and its version where it tells that, raw bytes (`glibc 2.36`, `musl`).
        name: Vec<u8>,
    },
}

/// A process image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The process id on the device.
    pub pid: u32,
    /// The parent's process id.
    pub parent_pid: u32,
    /// How it came to be.
    pub origin: ProcessOrigin,
    /// Path of the executable, raw bytes.
    pub exe: Vec<u8>,
    /// Its arguments, raw bytes each.
    pub command: Vec<Vec<u8>>,
}

/// How a process image came to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessOrigin {
    /// It loaded a program (the launched one, or by exec or posix_spawn): its heap began empty.
    #[default]
    Exec,
    /// It replaced an earlier image of the same process, which ended thereby.
    Replace(ProcessIx),
    /// Forked: its heap began as a copy of the parent's at this point.
    Fork(ProcessIx),
}

/// How a process image ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessEnd {
    /// By exit, with this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// Another image replaced it.
    Replaced,
    /// It is gone, nobody could tell how.
    Gone,
    /// It was still running when the recording ended.
    Running,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Its process.
    pub process: ProcessIx,
    /// Its id on the device; reused by the system, unlike `ThreadIx`.
    pub tid: u32,
    /// Its name, raw bytes; may be empty.
    pub name: Vec<u8>,
}

/// A loaded object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Process that was seen to load it. Others may share the entry when path, build-id and load address agree.
    pub process: ProcessIx,
    /// Path on the device, raw bytes. Empty when unknown.
    pub path: Vec<u8>,
    /// GNU build-id; empty when there is none.
    pub build_id: Vec<u8>,
    /// What must be added to an address in the file to get the address in memory (`l_addr`).
    pub bias: Address,
    /// Lowest mapped address.
    pub start: Address,
    /// End of the highest mapped address.
    pub end: Address,
}

/// A code object of an interpreted language: a function, a class body, a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Process that was seen to run it. A forked child shares the entry.
    pub process: ProcessIx,
    /// Its name, qualified where the interpreter keeps that, raw bytes.
    pub name: Vec<u8>,
    /// The file it was compiled from as the interpreter names it, raw bytes.
    pub file: Vec<u8>,
    /// The line it begins at.
    pub first_line: u32,
}

/// An interpreter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// Process that runs it.
    pub process: ProcessIx,
    /// Its name and version, raw bytes (`CPython 3.11.2`).
    pub name: Vec<u8>,
    /// Whether its frames are in the stacks.
    pub frames: bool,
    /// Whether the types of its objects are said.
    pub types: bool,
    /// Why not, in plain words, raw bytes; empty when all is recorded.
    pub note: Vec<u8>,
}

/// A marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Process that it is about.
    pub process: ProcessIx,
    /// Thread that set it; `None` when it came from outside.
    pub thread: Option<ThreadIx>,
    /// Its name, raw bytes.
    pub name: Vec<u8>,
}

/// A frame: a place in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Frame {
    /// Native code in a known module. `offset` is the return address minus the module's bias, so that
    /// `offset - 1` lies in the calling instruction.
    Native {
        /// The module.
        module: ModuleIx,
        /// Return address in the module's own address space.
        offset: u64,
    },
    /// A native return address in no known module (JIT code, or memory unknown).
    Raw {
        /// Process whose address it is.
        process: ProcessIx,
        /// The return address.
        address: Address,
    },
    /// The stack could not be followed further out from here.
    Truncated,
    /// Python code that was running.
    Python {
        /// What.
        code: CodeIx,
        /// At which line of its file; 0 when not known.
        line: u32,
    },
}

/// New frames and new nodes of the stack trie.
///
/// A *generation* is a span of the tape with one trie; a writer that must bound its memory starts a new one, with all ids from the start again.
/// Events refer to the generation in force at their place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stacks {
    /// The generation, from 0.
    pub generation: u32,
    /// Id of the first of `frames`.
    pub first_frame: FrameId,
    /// Frames, ids counting up.
    pub frames: Vec<Frame>,
    /// Id of the first of `parents` and `frame_ids`; 1 for the first of a generation (0 is the root).
    pub first_stack: StackId,
    /// The parent (next outer frame's node) of each new node; always a lower id than the node's own.
    pub parents: Vec<StackId>,
    /// The frame of each new node.
    pub frame_ids: Vec<FrameId>,
}

/// Memory of a process as the system sees it, from `/proc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySample {
    /// Which process.
    pub process: ProcessIx,
    /// Resident set.
    pub rss: Bytes,
    /// Proportional set; 0 when not known.
    pub pss: Bytes,
    /// Swapped out; 0 when not known.
    pub swap: Bytes,
    /// The memory control group's charge; 0 when not known.
    pub cgroup: Bytes,
}

/// Something that is missing from the tape, known to the recorder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Thread whose events are missing, if it is one.
    pub thread: Option<ThreadIx>,
    /// Number of events, 0 when not countable.
    pub events: u64,
    /// Why.
    pub cause: LossCause,
}

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LossCause {
    /// The ring pool was full and `--on-full drop` or the bound on blocking applied.
    PoolFull,
    /// No thread slot was free.
    NoSlot,
    /// An event inside the recorder itself (a signal handler that interrupted it too deeply).
    Nested,
    /// An event came out of its order by more than the recorder could mend.
    Late,
    /// The output could not be written.
    Output,
    /// Recording was paused by request.
    Paused,
    /// The program wrote over the memory that it shares with the recorder.
    Overwritten,
}

/// What is gone of the events that a keyframe stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// The highest number of live bytes in that span; `None` when nothing lived, or when a sample was recorded.
    pub peak: Option<FoldedPeak>,
    /// Blocks that had died, by the stack that had asked for them, those with the most bytes first.
    pub sites: Vec<FoldedSite>,
    /// Blocks that had died, of all other stacks.
    pub other_blocks: u64,
    /// Their bytes.
    pub other_bytes: u64,
    /// Blocks that were never freed, of processes that had ended.
    pub left_blocks: u64,
    /// Their bytes.
    pub left_bytes: u64,
}

/// The first highest level of a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldedPeak {
    /// It was reached by this event.
    pub event: EventNo,
    /// When.
    pub time: Micros,
    /// Bytes.
    pub bytes: u64,
    /// Blocks.
    pub blocks: u64,
}

/// Blocks of one stack that had died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldedSite {
    /// Who had asked for them, in the generation of the block.
    pub stack: StackId,
    /// How many.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The last block of a tape that was ended properly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Events as counted by [`crate::Op::weight`].
    pub events: u64,
    /// Events known to be lost.
    pub lost: u64,
    /// Stacks that could not be followed to their outer end.
    pub truncated_stacks: u64,
    /// Allocation calls that failed in the target.
    pub failed_calls: u64,
    /// Mismatches found by `--check-stacks`; `None` when it was off.
    pub stack_mismatches: Option<u64>,
    /// Exit status or signal of the launched program, when known.
    pub status: Option<ProcessEnd>,
    /// CPU time of the collector, microseconds.
    pub collector_cpu: Micros,
}
