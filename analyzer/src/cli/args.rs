//! The arguments as they are typed. Help, completions and man pages are made of this table.

use super::epochs::EpochsArgs;
use super::fragmentation::FragmentationArgs;
use super::growth::GrowthArgs;
use super::homes::HomesArgs;
use super::lifetimes::LifetimesArgs;
use super::load::Reading;
use super::peak::PeakArgs;
use super::realloc::ReallocArgs;
use super::replay::ReplayArgs;
use super::rss::RssArgs;
use super::sizes::SizesArgs;
use super::temporary::TemporaryArgs;
use crate::index::IndexPlace;
use crate::query::{api, glob, time, Group, Grouping, Lifetime, Pattern, Rule, TimeSpec};
use crate::replay::default_memory;
use crate::table::Domain;
use clap::{Args, Parser, Subcommand, ValueEnum};
use globset::GlobMatcher;
use heaptape_format::AllocApi;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const TIMES: &str = "\
Times, behind the @ of a tape:
  @start @end @peak           the ends of the recording, and its highest number of live bytes
  @90s @10m30s @250ms @-5m    since its beginning, or before its end
  @50%                        of its duration
  @marker:NAME  @marker:NAME#3
  @2026-11-22T10:00:00Z       wall clock, with Z or an offset
  @#123456                    just before an event";

/// Records the heap of a program and puts it back together at any instant.
#[derive(Debug, Parser)]
#[command(name = "heaptape", version, propagate_version = true, after_help = TIMES, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a program and record its heap
    #[command(after_help = "Example:\n  heaptape record -o svc.tape -- ./service --port 8080")]
    Record(RepeatArgs),
    /// Put a marker into the recording of a running program
    Mark {
        /// A process that is being recorded, or the `heaptape record` that started it
        pid: u32,
        /// The marker's name, as in FILE@marker:NAME
        name: OsString,
    },
    /// Pause, resume or ask about the recording of a running program
    Ctl {
        /// A process that is being recorded, or the `heaptape record` that started it
        pid: u32,
        /// What to do
        action: Action,
    },
    /// What is in a tape: program, duration, processes, modules, markers, losses
    Info(InfoArgs),
    /// Whether the symbols of a tape are here
    Symbols {
        #[command(subcommand)]
        action: SymbolsAction,
    },
    /// Write a copy of a tape that holds the names of all its frames, so that it reads the same anywhere
    #[command(after_help = "Example:\n  heaptape symbolize svc.tape --sysroot /srv/sysroot -o svc.named.tape")]
    Symbolize(SymbolizeArgs),
    /// Read every byte of a tape and list all damage; exit status 0 when it is whole, 1 when not
    Verify(VerifyArgs),
    /// Draw the heap over time
    #[command(after_help = "Example:\n  heaptape timeline svc.tape --svg svc.svg")]
    Timeline(TimelineArgs),
    /// What was alive at an instant
    #[command(after_help = "Example:\n  heaptape snapshot svc.tape@peak --by function")]
    Snapshot(SnapshotArgs),
    /// What changed between two instants, of one tape or of two
    #[command(
        after_help = "Examples:\n  heaptape diff svc.tape@10m @50m\n  heaptape diff old.tape@peak new.tape@peak --by function"
    )]
    Diff(DiffArgs),
    /// The live heap of a recording that goes on, and what has changed since the last look; q ends it
    #[command(
        after_help = "Examples:\n  heaptape follow svc.tape --by function\n  heaptape follow tcp://127.0.0.1:7357"
    )]
    Follow(FollowArgs),
    /// Receive a tape that a recorder sends from a device: record --to tcp://HOST:PORT
    #[command(
        after_help = "Examples:\n  heaptape receive -o svc.tape\n  heaptape receive -o svc.tape --listen 0.0.0.0:7357\n  heaptape receive -o svc.tape --add rest.tape\nNothing is encrypted, and whoever can connect can send: for a network that is not trusted, tunnel it (ssh -R 7357:localhost:7357 device), or record -o - over ssh."
    )]
    Receive(ReceiveArgs),
    /// What was allocated and never freed
    #[command(after_help = "Example:\n  heaptape leaks svc.tape --born 10m..20m --alive-at 50m")]
    Leaks(LeaksArgs),
    /// The call tree of what was alive at an instant
    Tree(TreeArgs),
    /// Which memory Python's object allocator holds mapped, and what lives in it: why the resident set does not fall
    #[command(after_help = "Example:\n  heaptape arenas svc.tape@50m --below 10")]
    Arenas(ArenasArgs),
    /// What was alive when most was: the exact peak
    #[command(after_help = "Example:\n  heaptape peak svc.tape --include lib:libsqlite3*")]
    Peak(PeakArgs),
    /// Which sites allocate only to free at once
    #[command(after_help = "Examples:\n  heaptape temporary svc.tape\n  heaptape temporary svc.tape --within 1ms")]
    Temporary(TemporaryArgs),
    /// How long blocks live, site by site
    Lifetimes(LifetimesArgs),
    /// How large blocks are: all of the recording, or those alive at an instant
    #[command(after_help = "Example:\n  heaptape sizes svc.tape@peak")]
    Sizes(SizesArgs),
    /// Which sites grow over the run: leaks told from warm-up and caches
    #[command(after_help = "Example:\n  heaptape growth svc.tape --limit 64MiB")]
    Growth(GrowthArgs),
    /// What every round of work leaves behind: born in one span of a marker, alive some spans later
    #[command(after_help = "Example:\n  heaptape epochs svc.tape --marker request")]
    Epochs(EpochsArgs),
    /// What every thread allocated
    Threads(HomesArgs),
    /// The processes as a tree, with what each allocated and inherited
    Processes(HomesArgs),
    /// How blocks grow by realloc, and what is copied for it
    Realloc(ReallocArgs),
    /// How live blocks lie in the address space: how full their pages are, and the holes between them
    #[command(after_help = "Example:\n  heaptape fragmentation svc.tape@50m")]
    Fragmentation(FragmentationArgs),
    /// The heap beside the resident set, as far as it was sampled
    Rss(RssArgs),
    /// Perform the recorded allocations with other allocators, or other settings, and measure time and memory
    #[command(
        after_help = "Example:\n  heaptape replay svc.tape --preload libjemalloc.so.2 --env GLIBC_TUNABLES=glibc.malloc.arena_max=1"
    )]
    Replay(ReplayArgs),
    /// What `replay` starts
    #[command(hide = true)]
    PerformCalls {
        /// What is to be known beforehand
        stage: String,
    },
    /// Draw a flame graph as SVG
    #[command(
        after_help = "Examples:\n  heaptape flamegraph svc.tape@peak\n  heaptape flamegraph svc.tape --between 10m..20m -o new.svg\n  heaptape flamegraph --diff svc.tape@10m svc.tape@50m"
    )]
    Flamegraph(FlamegraphArgs),
    /// Write a snapshot for other programs
    Export(ExportArgs),
    /// Keep what a run came to in a small file: totals, sites, spans, threads
    #[command(after_help = "Example:\n  heaptape summarize svc.tape -o heap.json")]
    Summarize(SummarizeArgs),
    /// Hold a run against a baseline or a budget; exit status 0 when it holds, 1 when a limit is broken, 2 when it cannot be judged
    #[command(
        after_help = "Examples:\n  heaptape check svc.tape --baseline heap.json\n  heaptape check svc.tape --budget heaptape.toml --format junit -o heap.xml"
    )]
    Check(CheckArgs),
    /// Record a small leaking service and find its leak
    Demo(DemoArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder
    Man {
        /// The folder, which must exist
        dir: PathBuf,
        /// Overwrite existing pages
        #[arg(long)]
        force: bool,
    },
}

/// `record`, once or several times.
#[derive(Args, Debug)]
pub struct RepeatArgs {
    /// Record so many runs, one after the other, into NAME.1.tape, NAME.2.tape, ...: for `check`, which learns from them what is noise
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "exec")]
    pub repeat: Option<u32>,
    /// Which of them this process records.
    #[arg(long, hide = true, requires = "repeat")]
    pub repeat_run: Option<u32>,
    #[command(flatten)]
    pub record: heaptape_collector::RecordArgs,
}

#[derive(Args, Debug, Default)]
pub struct ReadingArgs {
    /// Fail (exit status 1) when the tape is damaged, unfinished, or misses events
    #[arg(long)]
    pub strict: bool,
    /// Keep the indexes of tapes in this folder instead of beside them
    #[arg(long, value_name = "DIR", conflicts_with = "no_index")]
    pub index_dir: Option<PathBuf>,
    /// Replay the tape, and neither use nor write an index of it
    #[arg(long)]
    pub no_index: bool,
    /// Memory to read a tape in, what does not fit being kept on disk meanwhile; and most live bytes that `replay` performs [default: a quarter of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = heaptape_collector::cli::bytes)]
    pub memory: Option<u64>,
}

impl ReadingArgs {
    /// Where the index is, and how a tape is replayed that has none.
    pub(super) fn place(&self) -> Reading {
        let index = match &self.index_dir {
            _ if self.no_index => IndexPlace::Nowhere,
            Some(folder) => IndexPlace::Folder(folder.clone()),
            None => IndexPlace::Beside,
        };
        Reading {
            index,
            memory: self.memory.unwrap_or_else(default_memory),
        }
    }
}

#[derive(Args, Debug)]
pub struct UnitsArg {
    /// Print exact numbers of bytes
    #[arg(long)]
    pub bytes: bool,
}

#[derive(Args, Debug, Default)]
pub struct SymbolArgs {
    /// A copy of the device's file system, in which modules are looked up
    #[arg(long, value_name = "DIR")]
    pub sysroot: Option<PathBuf>,
    /// A folder with debug files (a .build-id tree at any depth, a copy of the file system, or files by name); may be repeated
    #[arg(long, value_name = "DIR")]
    pub debug_dir: Vec<PathBuf>,
    /// Ask the servers in DEBUGINFOD_URLS for what is not found here
    #[arg(long)]
    pub debuginfod: bool,
    /// Look up no names: every frame is a module and an offset
    #[arg(long)]
    pub no_symbols: bool,
}

#[derive(Args, Debug)]
pub struct FilterArgs {
    /// Only what this says, may be repeated: GLOB, file:GLOB, func:GLOB or lib:GLOB of its frame; thread:, process:, type:, domain:, api:, size:MIN..MAX,
    /// lifetime:MIN..MAX or born:A..B
    #[arg(long, value_name = "RULE")]
    pub include: Vec<Rule>,
    /// Nothing that this says; may be repeated
    #[arg(long, value_name = "RULE")]
    pub exclude: Vec<Rule>,
    /// Hold patterns against every frame of a stack, not only the one shown
    #[arg(long)]
    pub all_frames: bool,
    /// Only this thread: its id or a glob on its name; may be repeated
    #[arg(long, value_name = "THREAD")]
    pub thread: Vec<String>,
    /// Only this process: its id or a glob on its executable; may be repeated
    #[arg(long, value_name = "PROCESS")]
    pub process: Vec<String>,
    /// Only blocks of at least this size
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = heaptape_collector::cli::bytes)]
    pub min_size: u64,
    /// Only blocks of at most this size
    #[arg(long, value_name = "SIZE", value_parser = heaptape_collector::cli::bytes)]
    pub max_size: Option<u64>,
    /// Only blocks that lived at least so long: #EVENTS, bytes allocated meanwhile (64KiB), or time (10ms)
    #[arg(long, value_name = "LIFETIME")]
    pub min_lifetime: Option<Lifetime>,
    /// Only blocks that were freed after at most so long
    #[arg(long, value_name = "LIFETIME")]
    pub max_lifetime: Option<Lifetime>,
    /// Only blocks born in this span; either end may be left out
    #[arg(long, value_name = "A..B", value_parser = span)]
    pub born: Option<Span>,
    /// Only this entry point (malloc, calloc, realloc, ...); may be repeated
    #[arg(long, value_name = "NAME", value_parser = api)]
    pub api: Vec<AllocApi>,
    /// Only blocks of this allocator; may be repeated
    #[arg(long, value_name = "ALLOCATOR")]
    pub domain: Vec<DomainArg>,
    /// Only objects of this type: a glob on its name; may be repeated
    #[arg(long = "type", value_name = "GLOB", value_parser = glob)]
    pub object_type: Vec<GlobMatcher>,
    /// Look at the Python frames of stacks only
    #[arg(long, conflicts_with = "native")]
    pub python: bool,
    /// Look at the native frames of stacks only
    #[arg(long)]
    pub native: bool,
    /// Count what a forked process inherited as its own, too
    #[arg(long)]
    pub inherited: bool,
    /// Show the innermost frame even if it lies in an allocator or a standard library
    #[arg(long)]
    pub raw_frames: bool,
}

/// What every question can be narrowed and helped by.
#[derive(Args, Debug)]
pub struct ScopeArgs {
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub symbols: SymbolArgs,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

#[derive(Args, Debug)]
pub struct QueryArgs {
    #[command(flatten)]
    pub by: ByArg,
    /// Rows to print; 0 for all
    #[arg(short = 'n', long = "rows", value_name = "N", default_value = "10")]
    pub rows: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print tracebacks with their newest frame first
    #[arg(long)]
    pub most_recent_first: bool,
    /// A folder in which source files are looked up, to show the lines; may be repeated
    #[arg(long, value_name = "DIR")]
    pub source_root: Vec<PathBuf>,
    #[command(flatten)]
    pub units: UnitsArg,
    #[command(flatten)]
    pub scope: ScopeArgs,
}

/// `--by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Source line
    Line,
    /// Source file
    File,
    /// Whole stack
    Traceback,
    /// Function
    Function,
    /// Coroutine or callback that asyncio's event loop ran
    Coroutine,
    /// Module
    Library,
    /// Thread
    Thread,
    /// Process
    Process,
    /// Entry point
    Api,
    /// Allocator: the C library's, or one of Python's domains
    Domain,
    /// Size of a block
    Size,
    /// Type of object (recordings of Python programs)
    Type,
}

impl By {
    fn group(self) -> Group {
        match self {
            By::Line => Group::Line,
            By::File => Group::File,
            By::Traceback => Group::Traceback,
            By::Function => Group::Function,
            By::Coroutine => Group::Coroutine,
            By::Library => Group::Library,
            By::Thread => Group::Thread,
            By::Process => Group::Process,
            By::Api => Group::Api,
            By::Domain => Group::Domain,
            By::Size => Group::Size,
            By::Type => Group::Type,
        }
    }
}

#[derive(Args, Debug)]
pub struct ByArg {
    /// What rows are made of; up to three, with commas: type,line
    #[arg(long, value_name = "WHAT", default_value = "line", value_delimiter = ',')]
    by: Vec<By>,
}

impl ByArg {
    /// The grouping.
    pub fn grouping(&self) -> Result<Grouping, super::Failure> {
        grouping(&self.by)
    }
}

/// The grouping that a list on the command line means.
pub fn grouping(by: &[By]) -> Result<Grouping, super::Failure> {
    let groups: Vec<Group> = by.iter().map(|by| by.group()).collect();
    Grouping::new(&groups).map_err(|error| {
        let names: Vec<&str> = groups.iter().map(|group| group.name()).collect();
        super::Failure::Usage(format!("--by {}: {error}", names.join(",")))
    })
}

/// `--domain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DomainArg {
    /// The C library's
    Malloc,
    /// Python's for raw memory
    Raw,
    /// Python's for memory
    Mem,
    /// Python's for objects
    Obj,
    /// All three of Python's
    Python,
}

impl DomainArg {
    /// The allocators that it names.
    pub fn domains(self) -> &'static [Domain] {
        match self {
            DomainArg::Malloc => &[Domain::Malloc],
            DomainArg::Raw => &[Domain::PyRaw],
            DomainArg::Mem => &[Domain::PyMem],
            DomainArg::Obj => &[Domain::PyObj],
            DomainArg::Python => &[Domain::PyRaw, Domain::PyMem, Domain::PyObj],
        }
    }
}

#[derive(Args, Debug)]
pub struct InfoArgs {
    /// The tape
    #[arg(value_name = "FILE")]
    pub tape: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub units: UnitsArg,
    #[command(flatten)]
    pub symbols: SymbolArgs,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

#[derive(Debug, Subcommand)]
pub enum SymbolsAction {
    /// List every module: found, missing or of another build, and what share of frames and bytes has names. Exit status 0 when all is found, 1 when not
    #[command(
        after_help = "Example:\n  heaptape symbols check svc.tape --sysroot /srv/sysroot --debug-dir /srv/debug"
    )]
    Check(SymbolsCheckArgs),
}

#[derive(Args, Debug)]
pub struct SymbolsCheckArgs {
    /// The tape
    #[arg(value_name = "FILE")]
    pub tape: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub symbols: SymbolArgs,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

#[derive(Args, Debug)]
pub struct SymbolizeArgs {
    /// The tape
    #[arg(value_name = "FILE")]
    pub tape: PathBuf,
    /// The copy with names
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub symbols: SymbolArgs,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The tape
    #[arg(value_name = "FILE")]
    pub tape: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct TimelineArgs {
    /// The tape
    #[arg(value_name = "FILE")]
    pub tape: PathBuf,
    /// Draw into an SVG file instead (- for stdout)
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    /// Spans of time; by default as many as the terminal has columns
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub points: Option<u32>,
    /// Print JSON
    #[arg(long, conflicts_with = "svg")]
    pub json: bool,
    #[command(flatten)]
    pub units: UnitsArg,
    #[command(flatten)]
    pub scope: ScopeArgs,
}

#[derive(Args, Debug)]
pub struct SnapshotArgs {
    /// The tape and the instant (the end when none is named)
    #[arg(value_name = "FILE[@TIME]")]
    pub tape: String,
    /// What was freed before full history begins, by stack, of a tape whose beginning was folded away
    #[arg(long)]
    pub freed: bool,
    #[command(flatten)]
    pub query: QueryArgs,
}

/// Seconds between two looks.
fn interval(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected a number of seconds from 0.1 to 86400".into())
}

#[derive(Args, Debug)]
pub struct FollowArgs {
    /// The tape; or where to listen for one that a device sends (`record --to`), which is kept in a temporary file for as long as this runs
    #[arg(value_name = "FILE|tcp://HOST:PORT")]
    pub tape: PathBuf,
    #[command(flatten)]
    pub by: ByArg,
    /// Most rows to print; 0 for all
    #[arg(short = 'n', long = "rows", value_name = "N", default_value = "20")]
    pub rows: usize,
    /// Look again after so many seconds, at least 0.1
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub interval: Duration,
    #[command(flatten)]
    pub units: UnitsArg,
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub symbols: SymbolArgs,
}

#[derive(Args, Debug)]
pub struct ReceiveArgs {
    /// The tape to write, which ends with the recording; or a folder for any number of tapes. A tape that was received in part is gone on with
    #[arg(short, long, value_name = "FILE|FOLDER")]
    pub output: PathBuf,
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7357")]
    pub listen: String,
    /// Overwrite a file that is no part of the tape
    #[arg(long)]
    pub force: bool,
    /// Do not listen: add what a recorder could not send, and has left in this file
    #[arg(long, value_name = "FILE", conflicts_with = "listen")]
    pub add: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct DiffArgs {
    /// The older state
    #[arg(value_name = "OLD[@TIME]")]
    pub old: String,
    /// The newer state; @TIME alone means the same tape
    #[arg(value_name = "NEW[@TIME]")]
    pub new: String,
    #[command(flatten)]
    pub query: QueryArgs,
}

#[derive(Args, Debug)]
pub struct LeaksArgs {
    /// The tape
    #[arg(value_name = "FILE")]
    pub tape: PathBuf,
    /// What was alive at this instant, instead of what was never freed
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub alive_at: Option<TimeSpec>,
    /// A file of known leaks, as LeakSanitizer reads it: leak:PATTERN on each line
    #[arg(long, value_name = "FILE")]
    pub suppressions: Option<PathBuf>,
    #[command(flatten)]
    pub query: QueryArgs,
}

#[derive(Args, Debug)]
pub struct TreeArgs {
    /// The tape and the instant (the end when none is named)
    #[arg(value_name = "FILE[@TIME]")]
    pub tape: String,
    /// Leave out what holds less than this share of all bytes, in percent
    #[arg(long, value_name = "PERCENT", default_value = "1")]
    pub least: f64,
    /// Levels to print
    #[arg(long, value_name = "N", default_value = "30")]
    pub depth: usize,
    /// Most children of one frame; 0 for all
    #[arg(short = 'n', long = "rows", value_name = "N", default_value = "10")]
    pub rows: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub units: UnitsArg,
    #[command(flatten)]
    pub scope: ScopeArgs,
}

#[derive(Args, Debug)]
pub struct ArenasArgs {
    /// The tape and the instant (the end when none is named)
    #[arg(value_name = "FILE[@TIME]")]
    pub tape: String,
    /// Show what keeps arenas mapped that are filled to less than this, in percent
    #[arg(long, value_name = "PERCENT", default_value = "25")]
    pub below: u32,
    /// What it is grouped by [default: type,line, or line in a tape without types]
    #[arg(long = "by", value_name = "WHAT", value_delimiter = ',')]
    pub by: Vec<By>,
    /// Rows to print; 0 for all
    #[arg(short = 'n', long = "rows", value_name = "N", default_value = "10")]
    pub rows: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub units: UnitsArg,
    #[command(flatten)]
    pub symbols: SymbolArgs,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

#[derive(Args, Debug)]
pub struct FlamegraphArgs {
    /// The tape and the instant (the end when none is named)
    #[arg(
        value_name = "FILE[@TIME]",
        required_unless_present = "diff",
        conflicts_with = "diff"
    )]
    pub tape: Option<String>,
    /// What was allocated in this span, whatever became of it
    #[arg(long, value_name = "A..B", value_parser = span, conflicts_with = "diff")]
    pub between: Option<Span>,
    /// The newer state, coloured by its difference from the older: red grew, blue shrank
    #[arg(long, num_args = 2, value_names = ["OLD[@TIME]", "NEW[@TIME]"])]
    pub diff: Vec<String>,
    /// Width is the number of blocks, not their bytes
    #[arg(long)]
    pub blocks: bool,
    /// Where to write the SVG (- for stdout) [default: TAPE.flamegraph.svg in the current folder]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub scope: ScopeArgs,
}

#[derive(Args, Debug)]
pub struct ExportArgs {
    /// The tape and the instant (the end when none is named)
    #[arg(value_name = "FILE[@TIME]")]
    pub tape: String,
    /// The format
    #[arg(long, value_name = "FORMAT")]
    pub format: Format,
    #[command(flatten)]
    pub by: ByArg,
    /// Write into a file (- for stdout)
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub scope: ScopeArgs,
}

/// Formats of `export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Folded stacks with bytes, for flame graph tools
    Folded,
    /// All rows as JSON
    Json,
    /// All rows as comma-separated values
    Csv,
}

/// How paths are made the same on every machine.
#[derive(Args, Debug)]
pub struct PathArgs {
    /// Cut this folder off the paths of source files; may be repeated [default: the current folder]
    #[arg(long, value_name = "DIR")]
    pub strip_prefix: Vec<String>,
    /// Replace the beginning of paths of source files; may be repeated
    #[arg(long, value_name = "OLD=NEW", value_parser = remap)]
    pub remap: Vec<(String, String)>,
}

/// What does not count.
#[derive(Args, Debug)]
pub struct LeaveOutArgs {
    /// Leave out what has a frame anywhere in its stack that matches: GLOB, file:GLOB, func:GLOB or lib:GLOB; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<Pattern>,
}

#[derive(Args, Debug)]
pub struct SummarizeArgs {
    /// Tapes or summaries, each of a run of the same program
    #[arg(value_name = "FILE", required = true)]
    pub runs: Vec<PathBuf>,
    /// Where to write it (- for stdout)
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    /// Sites to keep, those that matter most: some 1.5 KB each; 0 for all
    #[arg(long, value_name = "N", default_value = "50")]
    pub sites: usize,
    #[command(flatten)]
    pub paths: PathArgs,
    #[command(flatten)]
    pub leave_out: LeaveOutArgs,
    #[command(flatten)]
    pub symbols: SymbolArgs,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Tapes or summaries, each of a run of the program
    #[arg(value_name = "FILE", required = true)]
    pub runs: Vec<PathBuf>,
    /// A summary or a tape of a good run; may be repeated
    #[arg(long, value_name = "FILE")]
    pub baseline: Vec<PathBuf>,
    /// The limits, as TOML [default: nothing may be more than in the baseline]
    #[arg(long, value_name = "FILE")]
    pub budget: Option<PathBuf>,
    /// The form of the verdict
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: crate::ci::Form,
    /// Write it into a file, and text to stdout
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    /// Draw the run's sites as a flame graph (SVG), coloured by what they have more or less than in the baseline
    #[arg(long, value_name = "FILE")]
    pub draw: Option<PathBuf>,
    /// Where that can be found, for a link in markdown [default: the file beside it]
    #[arg(long, value_name = "URL")]
    pub flamegraph: Option<String>,
    /// Compare with a baseline of a program of another name
    #[arg(long)]
    pub any_program: bool,
    /// Judge a tape that is still being written by what is in it
    #[arg(long)]
    pub unfinished: bool,
    #[command(flatten)]
    pub paths: PathArgs,
    #[command(flatten)]
    pub leave_out: LeaveOutArgs,
    #[command(flatten)]
    pub symbols: SymbolArgs,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Keep the tape here
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What `ctl` can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// Record again after a pause
    Start,
    /// Pause
    Stop,
    /// Tell how things stand
    Status,
}

/// A span of time; an end that is left out is that of the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: TimeSpec,
    pub until: TimeSpec,
}

pub fn span(text: &str) -> Result<Span, String> {
    crate::query::span(text).map(|(from, until)| Span { from, until })
}

fn remap(text: &str) -> Result<(String, String), String> {
    let (old, new) = text
        .split_once('=')
        .ok_or("expected OLD=NEW, for example /build/app=src")?;
    Ok((old.to_owned(), new.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_table_of_arguments_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_span_may_lack_either_end() {
        assert_eq!(span("..5s").unwrap().from, TimeSpec::Start);
        assert_eq!(
            span("@marker:a..").unwrap(),
            Span {
                from: TimeSpec::Marker("a".into(), 1),
                until: TimeSpec::End
            }
        );
        assert!(span("5s").is_err() && span("x..y").is_err());
    }
}
