//! Opening tapes: replay with a progress bar, notes about what is missing, names of instants.

use super::args::{FilterArgs, ReadingArgs, ScopeArgs, SymbolArgs};
use super::Failure;
use crate::index::{self, IndexPlace};
use crate::query::{Filter, Lifetime, Lives, TapeTime, TimeSpec};
use crate::replay::default_memory;
use crate::symbols::{Debuginfod, NoSymbols, Options, Resolver, Symbolizer};
use crate::table::{Heap, Moment};
use crate::tape::{is_tape, Tape};
use crate::text::escape_message;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Work that takes longer shows how far it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// How tapes are read.
pub(super) struct Reading {
    /// Where their indexes are.
    pub index: IndexPlace,
    /// Bytes of memory to replay them in.
    pub memory: u64,
}

impl Reading {
    /// By a replay, without an index.
    pub(super) fn replayed() -> Reading {
        Reading {
            index: IndexPlace::Nowhere,
            memory: default_memory(),
        }
    }
}

/// Opens a tape: by its index, or by a replay.
pub(super) fn load(path: &Path, reading: &Reading) -> Result<Heap, Failure> {
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
    let heap = index::open_within(&tape, path, &reading.index, reading.memory, &progress);
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
    notes.extend(heap.remarks());
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
    Ok(TapeTime::parse(text, is_tape)?)
}

/// A tape and the instant of it that is named, if one is.
pub(super) fn load_perhaps_at(text: &str, reading: &ReadingArgs) -> Result<(Heap, Option<Moment>), Failure> {
    let TapeTime { file, time } = parse(text)?;
    let heap = load(&file, &reading.place())?;
    let moment = time.map(|time| resolve(&time, &heap)).transpose()?;
    Ok((heap, moment))
}

/// A tape and an instant of it; `default` when none is named.
pub(super) fn load_at(text: &str, default: TimeSpec, reading: &ReadingArgs) -> Result<(Heap, Moment), Failure> {
    let (heap, named) = load_perhaps_at(text, reading)?;
    let moment = named.map_or_else(|| resolve(&default, &heap), Ok)?;
    Ok((heap, moment))
}

/// Where names come from.
pub(super) fn resolver(scope: &ScopeArgs) -> Result<Box<dyn Resolver>, Failure> {
    resolver_of(&scope.symbols, &scope.reading)
}

/// The same for a question that cannot be narrowed.
pub(super) fn resolver_of(args: &SymbolArgs, reading: &ReadingArgs) -> Result<Box<dyn Resolver>, Failure> {
    Ok(if args.no_symbols {
        Box::new(NoSymbols)
    } else {
        Box::new(Symbolizer::new(symbol_options(args, reading)?))
    })
}

/// Where names are looked for, and where they are kept.
pub(super) fn symbol_options(args: &SymbolArgs, reading: &ReadingArgs) -> Result<Options, Failure> {
    for folder in args.sysroot.iter().chain(&args.debug_dir) {
        if !folder.is_dir() {
            let shown = folder.display();
            return Err(Failure::Usage(format!(
                "{shown} is no folder: --sysroot and --debug-dir take one each"
            )));
        }
    }
    Ok(Options {
        sysroot: args.sysroot.clone(),
        debug_dirs: args.debug_dir.clone(),
        debuginfod: match args.debuginfod {
            true => Some(Debuginfod::from_environment().map_err(Failure::Usage)?),
            false => None,
        },
        cache: reading.place().index.shared_folder(),
    })
}

/// The filter of the command line. The options that name one property are short for rules about it.
pub(super) fn filter(args: &FilterArgs) -> Filter {
    let mut filter = Filter {
        all_frames: args.all_frames,
        inherited: args.inherited,
        ..Filter::default()
    };
    for rule in &args.include {
        filter.include.extend(filter.only.add(rule.clone()));
    }
    for rule in &args.exclude {
        filter.exclude.extend(filter.without.add(rule.clone()));
    }
    let only = &mut filter.only;
    only.threads.extend(args.thread.iter().cloned());
    only.processes.extend(args.process.iter().cloned());
    only.apis.extend(&args.api);
    only.domains
        .extend(args.domain.iter().flat_map(|domain| domain.domains()));
    only.types.extend(args.object_type.iter().cloned());
    if args.min_size > 0 || args.max_size.is_some() {
        only.sizes.push(args.min_size..=args.max_size.unwrap_or(u64::MAX));
    }
    only.born
        .extend(args.born.iter().map(|span| (span.from.clone(), span.until.clone())));
    // What is not to be there: so each holds, whatever rules about lifetimes say, and whatever both are measured in.
    let too_short = args
        .min_lifetime
        .filter(|least| least.length > 0)
        .map(|least| Lifetime {
            length: least.length - 1,
            ..least
        });
    let too_long = args.max_lifetime.map(|most| Lifetime {
        length: most.length.saturating_add(1),
        ..most
    });
    let unwanted = too_short
        .map(Lives::at_most)
        .into_iter()
        .chain(too_long.map(Lives::at_least));
    filter.without.lifetimes.extend(unwanted);
    filter
}
