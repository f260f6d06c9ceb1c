//! The arguments as they are typed. Help, completions and man pages are made of this table.

use crate::index::IndexPlace;
use crate::query::{Group, Grouping, Pattern, TimeSpec};
use crate::table::Domain;
use clap::{Args, Parser, Subcommand, ValueEnum};
use globset::{Glob, GlobMatcher};
use heaptape_format::AllocApi;
use std::ffi::OsString;
use std::path::PathBuf;

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
        /// A process that is being recorded
        pid: u32,
        /// The marker's name, as in FILE@marker:NAME
        name: OsString,
    },
    /// Pause, resume or ask about the recording of a running program
    Ctl {
        /// A process that is being recorded
        pid: u32,
        /// What to do
        action: Action,
    },
    /// What is in a tape: program, duration, processes, modules, markers, losses
    Info(InfoArgs),
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
    /// What was allocated and never freed
    #[command(after_help = "Example:\n  heaptape leaks svc.tape --born 10m..20m --alive-at 50m")]
    Leaks(LeaksArgs),
    /// The call tree of what was alive at an instant
    Tree(TreeArgs),
    /// Which memory Python's object allocator holds mapped, and what lives in it: why the resident set does not fall
    #[command(after_help = "Example:\n  heaptape arenas svc.tape@50m --below 10")]
    Arenas(ArenasArgs),
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
}

impl ReadingArgs {
    /// Where the index is.
    pub fn place(&self) -> IndexPlace {
        match &self.index_dir {
            _ if self.no_index => IndexPlace::Nowhere,
            Some(folder) => IndexPlace::Folder(folder.clone()),
            None => IndexPlace::Beside,
        }
    }
}

#[derive(Args, Debug)]
pub struct UnitsArg {
    /// Print exact numbers of bytes
    #[arg(long)]
    pub bytes: bool,
}

#[derive(Args, Debug)]
pub struct SymbolArgs {
    /// A copy of the device's file system, in which modules are looked up
    #[arg(long, value_name = "DIR")]
    pub sysroot: Option<PathBuf>,
    /// A folder with debug files (a .build-id tree, or files by name); may be repeated
    #[arg(long, value_name = "DIR")]
    pub debug_dir: Vec<PathBuf>,
    /// Look up no names: every frame is a module and an offset
    #[arg(long)]
    pub no_symbols: bool,
}

#[derive(Args, Debug)]
pub struct FilterArgs {
    /// Only allocations whose frame matches: GLOB, file:GLOB, func:GLOB or lib:GLOB; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<Pattern>,
    /// No allocations whose frame matches; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<Pattern>,
    /// Hold --include and --exclude against every frame of a stack, not only the one shown
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
    #[command(flatten)]
    pub query: QueryArgs,
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
    /// Only what was born in this span; either end may be left out
    #[arg(long, value_name = "A..B", value_parser = span)]
    pub born: Option<Span>,
    /// What was alive at this instant, instead of what was never freed
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub alive_at: Option<TimeSpec>,
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
    /// Sites to keep, those that matter most; 0 for all
    #[arg(long, value_name = "N", default_value = "100")]
    pub sites: usize,
    #[command(flatten)]
    pub paths: PathArgs,
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
    /// Where a differential flame graph can be found, for a link in markdown
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

/// An instant, with or without its `@`.
fn time(text: &str) -> Result<TimeSpec, String> {
    text.strip_prefix('@')
        .unwrap_or(text)
        .parse()
        .map_err(|error: crate::query::NotATime| error.to_string())
}

fn span(text: &str) -> Result<Span, String> {
    let (from, until) = text
        .split_once("..")
        .ok_or("expected A..B, for example 10m..20m or @marker:ready..@end")?;
    Ok(Span {
        from: if from.is_empty() { TimeSpec::Start } else { time(from)? },
        until: if until.is_empty() { TimeSpec::End } else { time(until)? },
    })
}

fn remap(text: &str) -> Result<(String, String), String> {
    let (old, new) = text
        .split_once('=')
        .ok_or("expected OLD=NEW, for example /build/app=src")?;
    Ok((old.to_owned(), new.to_owned()))
}

fn glob(text: &str) -> Result<GlobMatcher, String> {
    match Glob::new(text) {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => Err(error.to_string()),
    }
}

fn api(text: &str) -> Result<AllocApi, String> {
    AllocApi::ALL.into_iter().find(|api| api.name() == text).ok_or_else(|| {
        let names: Vec<&str> = AllocApi::ALL.iter().map(|api| api.name()).collect();
        format!("expected one of {}", names.join(", "))
    })
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
