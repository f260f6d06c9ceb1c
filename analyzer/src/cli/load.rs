//! Opening tapes: replay with a progress bar, notes about what is missing, names of instants.

use super::args::{FilterArgs, ReadingArgs, SymbolArgs};
use super::Failure;
use crate::index::{self, IndexPlace};
use crate::query::{Filter, TapeTime, TimeSpec};
use crate::symbols::{NoSymbols, Options, Resolver, Symbolizer};
use crate::table::{Heap, Moment};
use crate::tape::Tape;
use crate::text::escape_message;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Work that takes longer shows how far it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// Opens a tape: by its index, or by a replay.
pub(super) fn load(path: &Path, place: &IndexPlace) -> Result<Heap, Failure> {
    let tape = Tape::open(path)?;
    let begun = Instant::now();
    let bar: Mutex<Option<ProgressBar>> = Mutex::new(None);
    let is_shown = std::io::stderr().is_terminal();
    let progress = |done: u64, total: u64| {
        if is_shown && begun.elapsed() > PATIENCE {
            let mut bar = bar.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            bar.get_or_insert_with(|| new_bar(total)).set_position(done);
        }
    };
    let heap = index::open(&tape, path, place, &progress);
    if let Some(bar) = bar.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        bar.finish_and_clear();
    }
    Ok(heap?)
}

/// Refuses what was found by an index that turned out to be damaged on the way. The damage is repaired when the command runs again.
pub(super) fn trust(heap: &Heap) -> Result<(), Failure> {
    match heap.index.as_ref().filter(|index| index.is_bad()) {
        Some(index) => Err(Failure::BadIndex(index.path().to_owned())),
        None => Ok(()),
    }
}

/// The instant of that name.
pub(super) fn resolve(time: &TimeSpec, heap: &Heap) -> Result<Moment, Failure> {
    let found = time.resolve(heap);
    trust(heap)?;
    Ok(found?)
}

fn new_bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("reading {wide_bar} {percent}% of {human_len} events") {
        bar.set_style(style);
    }
    bar
}

/// Says on stderr what is missing from a tape; with `--strict` that is a failure.
pub(super) fn check(heap: &Heap, strict: &ReadingArgs) -> Result<Vec<String>, Failure> {
    let mut notes = heap.notes();
    let is_whole = notes.is_empty();
    notes.extend(heap.remark());
    for note in &notes {
        let style = anstyle::Style::new()
            .bold()
            .fg_color(Some(anstyle::AnsiColor::Yellow.into()));
        anstream::eprintln!("{style}warning:{style:#} {}", escape_message(note));
    }
    if strict.strict && !is_whole {
        return Err(Failure::Failed(format!(
            "{} is not whole, and --strict was given",
            heap.name
        )));
    }
    Ok(notes)
}

/// `FILE@TIME` of the command line.
pub(super) fn parse(text: &str) -> Result<TapeTime, Failure> {
    Ok(TapeTime::parse(text, Path::is_file)?)
}

/// A tape and an instant of it; `default` when none is named.
pub(super) fn load_at(text: &str, default: TimeSpec, reading: &ReadingArgs) -> Result<(Heap, Moment), Failure> {
    let TapeTime { file, time } = parse(text)?;
    let heap = load(&file, &reading.place())?;
    let moment = resolve(&time.unwrap_or(default), &heap)?;
    Ok((heap, moment))
}

/// Where names come from.
pub(super) fn resolver(args: &SymbolArgs) -> Box<dyn Resolver> {
    if args.no_symbols {
        return Box::new(NoSymbols);
    }
    Box::new(Symbolizer::new(Options {
        sysroot: args.sysroot.clone(),
        debug_dirs: args.debug_dir.clone(),
    }))
}

/// The filter of the command line.
pub(super) fn filter(args: &FilterArgs) -> Filter {
    Filter {
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        all_frames: args.all_frames,
        threads: args.thread.clone(),
        processes: args.process.clone(),
        min_size: args.min_size,
        max_size: args.max_size,
        apis: args.api.clone(),
        domains: args
            .domain
            .iter()
            .flat_map(|domain| domain.domains())
            .copied()
            .collect(),
        types: args.object_type.clone(),
        inherited: args.inherited,
    }
}
