//! Everything a tape says that is not an event: processes, threads, modules, markers, samples, losses, stacks.

use super::names::KeptNames;
use super::stacks::{FrameIx, Interner, PlaceKind, StackTable};
use crate::text::Text;
use heaptape_format::record::{FoldedPeak, FoldedSite};
use heaptape_format::record::{Header, LossCause, MemorySample, Module, Placed, ProcessEnd, ProcessOrigin, Record};
use heaptape_format::BlockKind;
use heaptape_format::{read_folded, read_tables};
use heaptape_format::{CodeIx, Damage, EventNo, Micros, ModuleIx, ProcessIx, ThreadIx, TypeIx};
use rayon::prelude::*;

/// Table blocks decoded at once; bounds the memory of the undigested ones.
const BATCH: usize = 32;

/// The tables of a tape, in the order of their ids.
#[derive(Debug)]
pub struct Catalog {
    /// The first block.
    pub header: Header,
    /// By [`ProcessIx`].
    pub processes: Vec<ProcessInfo>,
    /// By [`ThreadIx`].
    pub threads: Vec<ThreadInfo>,
    /// By [`ModuleIx`].
    pub modules: Vec<ModuleInfo>,
    /// By [`CodeIx`].
    pub codes: Vec<CodeInfo>,
    /// Names of types of objects, by [`TypeIx`]; the first is that of the unknown one.
    pub types: Vec<Text>,
    /// Interpreters, in the order of the tape.
    pub runtimes: Vec<RuntimeInfo>,
    /// In the order of the tape.
    pub markers: Vec<MarkerInfo>,
    /// In the order of the tape.
    pub samples: Vec<SampleInfo>,
    /// What the recorder knows to be missing, in the order of the tape.
    pub losses: Vec<LossInfo>,
    /// The beginning of the recording, when the tape has a keyframe in its place.
    pub folded: Option<FoldedInfo>,
    /// All stacks.
    pub stacks: StackTable,
    /// Names of their frames that are in the tape.
    pub names: KeptNames,
    /// Whether stack records were missing or made no sense.
    pub stacks_incomplete: bool,
    /// Whether records of processes, threads, modules, code objects, types or markers could not be read. Ids count these records, so ids after the hole may
    /// mean others than they should.
    pub records_lost: bool,
    /// Table blocks that could not be read.
    pub damage: Vec<Damage>,
    /// The latest time that any record bears.
    pub last_time: Micros,
}

/// How and where a process image ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageEnd {
    /// The image was alive up to just before this event.
    pub at: EventNo,
    /// When.
    pub time: Micros,
    /// How.
    pub how: ProcessEnd,
}

/// A process image.
#[derive(Clone, Debug)]
pub struct ProcessInfo {
    /// Its id on the device.
    pub pid: u32,
    /// Its parent's id.
    pub parent_pid: u32,
    /// How it came to be.
    pub origin: ProcessOrigin,
    /// Its executable.
    pub exe: Text,
    /// Its command line.
    pub command: Vec<Text>,
    /// Its C library, with version; empty when not known.
    pub libc: Text,
    /// It began just before this event.
    pub at: EventNo,
    /// When.
    pub time: Micros,
    /// Its end, if the tape tells.
    pub end: Option<ImageEnd>,
}

/// A thread.
#[derive(Clone, Debug)]
pub struct ThreadInfo {
    /// Its process image.
    pub process: ProcessIx,
    /// Its id on the device.
    pub tid: u32,
    /// Its latest name.
    pub name: Text,
}

/// A loaded object.
#[derive(Clone, Debug)]
pub struct ModuleInfo {
    /// What the tape says of it; the path is raw.
    pub raw: Module,
    /// Its path, printable.
    pub path: Text,
    /// Whether it has unwind tables, if the tape tells.
    pub unwind_tables: Option<bool>,
}

/// A code object of an interpreted language.
#[derive(Clone, Debug)]
pub struct CodeInfo {
    /// Its name.
    pub name: Text,
    /// The file it was compiled from.
    pub file: Text,
    /// The line it begins at.
    pub first_line: u32,
}

/// An interpreter.
#[derive(Clone, Debug)]
pub struct RuntimeInfo {
    /// Process that runs it.
    pub process: ProcessIx,
    /// Its name and version.
    pub name: Text,
    /// Whether its frames are recorded.
    pub frames: bool,
    /// Whether the types of its objects are recorded.
    pub types: bool,
    /// Why not.
    pub note: Text,
}

/// A marker.
#[derive(Clone, Debug)]
pub struct MarkerInfo {
    /// Just before this event.
    pub at: EventNo,
    /// When.
    pub time: Micros,
    /// Its name.
    pub name: Text,
    /// Process that it is about.
    pub process: ProcessIx,
    /// Thread that set it, if one did.
    pub thread: Option<ThreadIx>,
}

/// Memory of a process as the system saw it.
#[derive(Clone, Debug)]
pub struct SampleInfo {
    /// When.
    pub time: Micros,
    /// What.
    pub memory: MemorySample,
}

/// What is known of a span whose events are gone, but for those of what has lived on.
#[derive(Clone, Debug, Default)]
pub struct FoldedInfo {
    /// Its end: from this event on everything is there.
    pub cut: EventNo,
    /// Time of its last event.
    pub time: Micros,
    /// Its highest level, if known.
    pub peak: Option<FoldedPeak>,
    /// Blocks that were freed in it.
    pub blocks: u64,
    /// Blocks that were never freed, of processes that ended in it.
    pub left_blocks: u64,
    /// The bytes of both.
    pub bytes: u64,
}

/// Something missing that the recorder knew of.
#[derive(Clone, Debug)]
pub struct LossInfo {
    /// Just before this event.
    pub at: EventNo,
    /// When.
    pub time: Micros,
    /// How many events; 0 when not countable.
    pub events: u64,
    /// Why.
    pub cause: LossCause,
}

impl Catalog {
    /// Reads all tables of a tape. What cannot be read is listed as damage.
    pub fn read(tape: &super::Tape) -> Catalog {
        let mut interner = Interner::default();
        let mut catalog = Catalog {
            header: tape.scan().header.clone(),
            processes: Vec::new(),
            threads: Vec::new(),
            modules: Vec::new(),
            codes: Vec::new(),
            types: vec![Text::default()],
            runtimes: Vec::new(),
            markers: Vec::new(),
            samples: Vec::new(),
            losses: Vec::new(),
            folded: None,
            stacks: StackTable::new(&mut interner),
            names: KeptNames::default(),
            stacks_incomplete: false,
            records_lost: false,
            damage: Vec::new(),
            last_time: Micros(0),
        };
        let blocks: Vec<_> = tape
            .scan()
            .blocks
            .iter()
            .filter(|block| matches!(block.kind, BlockKind::Records | BlockKind::Stacks))
            .collect();
        for batch in blocks.chunks(BATCH) {
            let read: Vec<_> = batch
                .par_iter()
                .map(|block| read_tables(tape.source(), block))
                .collect();
            for (records, block) in read.into_iter().zip(batch) {
                match records {
                    Ok(records) => records
                        .into_iter()
                        .for_each(|placed| catalog.add(placed, &mut interner)),
                    Err(damage) => {
                        catalog.records_lost |= block.kind == BlockKind::Records;
                        catalog.damage.push(damage);
                    }
                }
            }
        }
        catalog.read_folded(tape);
        catalog.names = KeptNames::read(tape, &catalog.stacks, &mut catalog.damage);
        catalog
    }

    fn read_folded(&mut self, tape: &super::Tape) {
        for block in &tape.scan().blocks {
            if !matches!(block.kind, BlockKind::Keyframe | BlockKind::Folded) {
                continue;
            }
            let folded = self.folded.get_or_insert_default();
            folded.cut = EventNo(block.first_event.get() + u64::from(block.span()));
            folded.time = folded.time.max(block.last_time);
            match read_folded(tape.source(), block) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    let sum = |of: fn(&FoldedSite) -> u64| found.sites.iter().map(of).fold(0, u64::saturating_add);
                    folded.peak = found.peak;
                    folded.blocks = found.other_blocks.saturating_add(sum(|site| site.blocks));
                    folded.left_blocks = found.left_blocks;
                    let others = found.other_bytes.saturating_add(found.left_bytes);
                    folded.bytes = others.saturating_add(sum(|site| site.bytes));
                }
                Err(damage) => self.damage.push(damage),
            }
        }
    }

    fn add(&mut self, placed: Placed, interner: &mut Interner) {
        let Placed { at, time, record } = placed;
        self.last_time = self.last_time.max(time);
        match record {
            Record::Process(process) => {
                let ix = ProcessIx(self.processes.len() as u32);
                if let ProcessOrigin::Replace(old) = process.origin {
                    self.end(
                        old,
                        ImageEnd {
                            at,
                            time,
                            how: ProcessEnd::Replaced,
                        },
                    );
                }
                self.processes.push(ProcessInfo {
                    pid: process.pid,
                    parent_pid: process.parent_pid,
                    origin: older_only(process.origin, ix),
                    exe: Text::from_bytes(&process.exe),
                    command: process.command.iter().map(|arg| Text::from_bytes(arg)).collect(),
                    libc: Text::default(),
                    at,
                    time,
                    end: None,
                });
            }
            Record::ProcessEnd { process, end } => self.end(process, ImageEnd { at, time, how: end }),
            Record::Thread(thread) => self.threads.push(ThreadInfo {
                process: thread.process,
                tid: thread.tid,
                name: Text::from_bytes(&thread.name),
            }),
            Record::ThreadName { thread, name } => {
                if let Some(info) = self.threads.get_mut(thread.get() as usize) {
                    info.name = Text::from_bytes(&name);
                }
            }
            Record::Module(raw) => {
                let path = Text::from_bytes(&raw.path);
                self.modules.push(ModuleInfo {
                    raw,
                    path,
                    unwind_tables: None,
                });
            }
            Record::Unwind { module, tables } => {
                if let Some(info) = self.modules.get_mut(module.get() as usize) {
                    info.unwind_tables = Some(tables);
                }
            }
            Record::Libc { process, name } => {
                if let Some(info) = self.processes.get_mut(process.get() as usize) {
                    info.libc = Text::from_bytes(&name);
                }
            }
            Record::Code(code) => self.codes.push(CodeInfo {
                name: Text::from_bytes(&code.name),
                file: Text::from_bytes(&code.file),
                first_line: code.first_line,
            }),
            Record::Type { name } => self.types.push(Text::from_bytes(&name)),
            Record::Runtime(runtime) => self.runtimes.push(RuntimeInfo {
                process: runtime.process,
                name: Text::from_bytes(&runtime.name),
                frames: runtime.frames,
                types: runtime.types,
                note: Text::from_bytes(&runtime.note),
            }),
            Record::Marker(marker) => self.markers.push(MarkerInfo {
                at,
                time,
                name: Text::from_bytes(&marker.name),
                process: marker.process,
                thread: marker.thread,
            }),
            Record::Stacks(stacks) => self.stacks_incomplete |= self.stacks.add(&stacks, interner),
            Record::Sample(memory) => self.samples.push(SampleInfo { time, memory }),
            Record::Loss(loss) => {
                self.losses.push(LossInfo {
                    at,
                    time,
                    events: loss.events,
                    cause: loss.cause,
                });
            }
            // The end of a thread changes nothing about the heap; kinds of a later version are skipped.
            _ => {}
        }
    }

    /// The first end that is told holds: a `Replaced` may be followed by an explicit record of the same fact.
    /// `Running` is what the recorder says of those it leaves behind and ends nothing.
    fn end(&mut self, process: ProcessIx, end: ImageEnd) {
        if let Some(info) = self.processes.get_mut(process.get() as usize) {
            if info.end.is_none() && end.how != ProcessEnd::Running {
                info.end = Some(end);
            }
        }
    }

    /// The process image of a thread; `None` when the tape does not tell.
    pub fn process_of(&self, thread: ThreadIx) -> Option<ProcessIx> {
        self.threads.get(thread.get() as usize).map(|info| info.process)
    }

    /// A code object by its id.
    pub fn code(&self, code: CodeIx) -> Option<&CodeInfo> {
        self.codes.get(code.get() as usize)
    }

    /// Frames of code objects that the tape does not describe.
    pub fn unknown_code_frames(&self) -> usize {
        let frames = (0..self.stacks.frame_count() as u32).map(FrameIx);
        let is_unknown = |frame: &FrameIx| match self.stacks.kind(*frame) {
            PlaceKind::Python { code, .. } => self.code(code).is_none(),
            _ => false,
        };
        frames.filter(is_unknown).count()
    }

    /// The type itself if the tape names it, else the unknown one.
    pub fn known_type(&self, kind: TypeIx) -> TypeIx {
        if (kind.get() as usize) < self.types.len() {
            kind
        } else {
            TypeIx::UNKNOWN
        }
    }

    /// A module by its id.
    pub fn module(&self, module: ModuleIx) -> Option<&ModuleInfo> {
        self.modules.get(module.get() as usize)
    }
}

/// A process descends from an older one; anything else would be a loop, and counts as a fresh image.
fn older_only(origin: ProcessOrigin, own: ProcessIx) -> ProcessOrigin {
    match origin {
        ProcessOrigin::Fork(parent) | ProcessOrigin::Replace(parent) if parent >= own => ProcessOrigin::Exec,
        origin => origin,
    }
}
