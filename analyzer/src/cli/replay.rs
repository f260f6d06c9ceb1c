//! `replay`, and the hidden command of the process that performs.

use super::args::{ReadingArgs, UnitsArg};
use super::load::{check, load, trust};
use super::output::print;
use super::stats::{print_json, units};
use super::Failure;
use crate::perform::{self, Replay, Setting, Stage, Touch};
use crate::report::text_replay;
use crate::table::Heap;
use crate::tape::Tape;
use clap::Args;
use heaptape_format::ProcessIx;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// The tape
    #[arg(value_name = "FILE")]
    pub tape: PathBuf,
    /// An allocator to preload, a path or a name that the loader finds; may be repeated, and is measured beside the system's
    #[arg(long, value_name = "LIBRARY")]
    pub preload: Vec<String>,
    /// Measure the system's allocator with this variable, too; NAME=VALUE pairs with commas between belong to one variant; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = environment)]
    pub env: Vec<Environment>,
    /// The process: its id, or a glob on its executable [default: the one that allocated most]
    #[arg(long, value_name = "PROCESS")]
    pub process: Option<String>,
    /// What is written to of a block after it was allocated
    #[arg(long, value_name = "WHAT", default_value = "page")]
    pub touch: Touch,
    /// Let one thread make all calls
    #[arg(long)]
    pub one_thread: bool,
    /// Take the small blocks of Python's own allocator for calls of malloc, too: as with PYTHONMALLOC=malloc
    #[arg(long)]
    pub python: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub units: UnitsArg,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

/// Variables of one variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment(Vec<(String, String)>);

fn environment(text: &str) -> Result<Environment, String> {
    let pair = |text: &str| {
        let (name, value) = text.split_once('=')?;
        let is_sound = !name.is_empty() && name != "LD_PRELOAD" && !text.contains('\0');
        is_sound.then(|| (name.to_owned(), value.to_owned()))
    };
    let pairs: Option<Vec<_>> = text.split(',').map(pair).collect();
    pairs.map(Environment).ok_or_else(|| {
        "expected NAME=VALUE, as in GLIBC_TUNABLES=glibc.malloc.arena_max=1; libraries go to --preload".into()
    })
}

/// The image that allocated most, or the first that is named so.
fn choose(args: &ReplayArgs, heap: &Heap) -> Result<ProcessIx, Failure> {
    let mut query = crate::query::Query::default();
    query.filter.only.processes.extend(args.process.clone());
    let report = crate::query::processes(heap, &heap.end(), &query, &crate::symbols::NoSymbols);
    let most = report
        .processes
        .iter()
        .max_by_key(|row| (row.work.allocated, std::cmp::Reverse(row.number)));
    match most.filter(|row| row.work.allocated.count > 0) {
        Some(row) => Ok(ProcessIx(row.number)),
        None => Err(Failure::Usage(format!(
            "{}: {}; heaptape processes lists them",
            heap.name,
            match &args.process {
                Some(process) => format!("no process {process} allocated anything"),
                None => "nothing was allocated".to_owned(),
            }
        ))),
    }
}

pub(super) fn replay(args: &ReplayArgs) -> Result<(), Failure> {
    let heap = load(&args.tape, &args.reading.place())?;
    let notes = check(&heap, &args.reading)?;
    if heap.scale.is_estimate() {
        return Err(Failure::Failed(format!(
            "{}: a sample was recorded, and not the sequence of allocations, which is what is performed",
            heap.name
        )));
    }
    let process = choose(args, &heap)?;
    trust(&heap)?;
    let tape = Tape::open(&args.tape)?;
    let mut plan = perform::plan(&tape, &heap.catalog, process, args.python);
    let most = args.reading.place().memory;
    // Its own table, too, is counted.
    let needed = plan.peak_live + u128::from(plan.slots) * 8;
    if needed > u128::from(most) {
        return Err(Failure::Failed(format!(
            "{}: the blocks of process {} hold {} bytes at their peak, and --memory allows {most}; nothing was performed",
            heap.name, heap.catalog.processes[process.get() as usize].pid, plan.peak_live
        )));
    }
    if args.one_thread {
        plan.threads = plan.threads.min(1);
    }
    let stage = Stage {
        slots: plan.slots,
        threads: plan.threads,
        touch: args.touch,
        memory: most.saturating_mul(2),
    };
    let program = std::env::current_exe()
        .map_err(|error| Failure::Failed(format!("cannot tell where this program lies: {error}")))?;
    let system = std::iter::once(Setting::default());
    let tuned = args.env.iter().map(|Environment(environment)| Setting {
        environment: environment.clone(),
        ..Setting::default()
    });
    let preloaded = args.preload.iter().map(|library| Setting {
        preload: Some(library.clone()),
        ..Setting::default()
    });
    let mut variants = Vec::new();
    for setting in system.chain(tuned).chain(preloaded) {
        let variant = perform::run(&program, &tape, &heap.catalog, process, args.python, &stage, &setting)
            .map_err(|error| Failure::Failed(format!("{setting}: {error}")))?;
        variants.push(variant);
    }
    let info = &heap.catalog.processes[process.get() as usize];
    let report = Replay {
        tape: heap.name.clone(),
        pid: info.pid,
        exe: info.exe.clone(),
        touch: args.touch,
        one_thread: args.one_thread,
        plan,
        variants,
    };
    if args.json {
        print_json("replay", &report, &notes)
    } else {
        print(&text_replay(&report, units(&args.units)))
    }
}

/// Performs what comes from standard input. Nobody but `replay` starts this.
pub(super) fn perform_calls(stage: &str) -> Result<(), Failure> {
    let stage: Stage =
        serde_json::from_str(stage).map_err(|_| Failure::Usage("this command is for `replay` alone".into()))?;
    let outcome =
        perform::perform(&stage, std::io::stdin().lock()).map_err(|error| Failure::Failed(error.to_string()))?;
    let text = serde_json::to_string(&outcome).map_err(|error| Failure::Failed(error.to_string()))?;
    print(&text)
}
