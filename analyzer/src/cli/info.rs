//! `info`: what is in a tape.

use super::args::InfoArgs;
use super::load::{check, load, symbol_options, trust};
use super::output::print;
use super::stats::{print_json, units};
use super::verify::ending;
use super::Failure;
use crate::query::{
    domains, mapped, overview, unwinding, DomainRow, Domains, Instant, MappedRow, MarkerPoint, PeakPoint, SamplePoint,
    Unwinding,
};
use crate::replay::loss_name;
use crate::report::{elapsed, format_size, text_instant, Units};
use crate::symbols::{Coverage, Symbolizer};
use crate::table::{Counters, Domain, Heap, Level};
use crate::text::Text;
use heaptape_format::record::{ProcessEnd, ProcessOrigin};
use heaptape_format::Ending;
use heaptape_format::Micros;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Processes, modules and losses that text lists; `--json` lists all.
const MOST_LISTED: usize = 20;

/// What is in a tape.
#[derive(Debug, Serialize)]
struct Info {
    tape: Text,
    writer: Text,
    host: Text,
    machine: Text,
    kernel: Text,
    /// The C libraries of the processes.
    libc: Vec<Text>,
    command: Vec<Text>,
    start: String,
    duration_micros: u64,
    bytes: u64,
    counters: Counters,
    ending: String,
    ended_cleanly: bool,
    /// How the recorded program ended.
    status: Option<String>,
    sampled_bytes: Option<u64>,
    min_size: u64,
    truncated_stacks: Option<u64>,
    /// By `--check-stacks`.
    stack_mismatches: Option<u64>,
    failed_calls: Option<u64>,
    /// Processor time of the collector.
    collector_cpu_micros: Option<u64>,
    stacks: usize,
    frames: usize,
    runtimes: Vec<RuntimeLine>,
    code_objects: usize,
    /// Bytes of lists of code that programs made while they ran, which were not copied.
    code_names_cut: u64,
    /// Names of types of objects.
    type_names: usize,
    domains: Domains,
    peak: Option<PeakPoint>,
    end: Level,
    mapped_at_end: Vec<MappedRow>,
    highest_rss: Option<SamplePoint>,
    processes: Vec<ProcessLine>,
    modules: Vec<Coverage>,
    unwinding: Vec<Unwinding>,
    markers: Vec<MarkerPoint>,
    losses: Vec<LossLine>,
    damage: Vec<String>,
}

#[derive(Debug, Serialize)]
struct RuntimeLine {
    /// Id of its process, if known.
    pid: Option<u32>,
    name: Text,
    frames: bool,
    types: bool,
    note: Text,
}

#[derive(Debug, Serialize)]
struct ProcessLine {
    pid: u32,
    parent_pid: u32,
    origin: &'static str,
    exe: Text,
    start_micros: u64,
    end_micros: Option<u64>,
    end: String,
    threads: usize,
}

#[derive(Debug, Serialize)]
struct LossLine {
    at: Instant,
    events: u64,
    cause: &'static str,
}

pub(super) fn info(args: &InfoArgs) -> Result<(), Failure> {
    let heap = load(&args.tape, &args.reading.place())?;
    let notes = check(&heap, &args.reading)?;
    let modules = if args.symbols.no_symbols {
        Vec::new()
    } else {
        Symbolizer::new(symbol_options(&args.symbols, &args.reading)?).survey(&heap)
    };
    let info = gather(&heap, modules);
    trust(&heap)?;
    if args.json {
        print_json("info", &info, &notes)
    } else {
        print(&text(&info, units(&args.units)))
    }
}

fn gather(heap: &Heap, modules: Vec<Coverage>) -> Info {
    let header = &heap.catalog.header;
    let line = overview(heap);
    let end = match &heap.ending {
        Ending::Clean(end) => Some(end),
        Ending::Unclean { .. } => None,
    };
    let mut threads = vec![0; heap.catalog.processes.len()];
    for thread in &heap.catalog.threads {
        if let Some(count) = threads.get_mut(thread.process.get() as usize) {
            *count += 1;
        }
    }
    Info {
        tape: heap.name.clone(),
        writer: Text::new(&header.writer),
        host: Text::new(&header.host),
        machine: Text::new(&header.machine),
        kernel: Text::new(&header.kernel),
        libc: libraries(heap),
        command: header.command.iter().map(|arg| Text::from_bytes(arg)).collect(),
        start: crate::report::wall_clock(header, Micros(0)),
        duration_micros: heap.duration().get(),
        bytes: heap.file_length,
        counters: heap.counters,
        ending: ending(&heap.ending),
        ended_cleanly: heap.ended_cleanly(),
        status: end.and_then(|end| end.status).map(end_text),
        sampled_bytes: header.options.sample_bytes,
        min_size: header.options.min_size.get(),
        truncated_stacks: end.map(|end| end.truncated_stacks),
        stack_mismatches: end.and_then(|end| end.stack_mismatches),
        failed_calls: end.map(|end| end.failed_calls),
        collector_cpu_micros: end.map(|end| end.collector_cpu.get()),
        stacks: heap.catalog.stacks.len(),
        frames: heap.catalog.stacks.frame_count(),
        runtimes: heap
            .catalog
            .runtimes
            .iter()
            .map(|info| {
                let process = heap.catalog.processes.get(info.process.get() as usize);
                RuntimeLine {
                    pid: process.map(|process| process.pid),
                    name: info.name.clone(),
                    frames: info.frames,
                    types: info.types,
                    note: info.note.clone(),
                }
            })
            .collect(),
        code_objects: heap.catalog.codes.len(),
        code_names_cut: heap
            .catalog
            .names
            .cut
            .values()
            .fold(0, |sum, &bytes| sum.saturating_add(bytes)),
        type_names: heap.catalog.types.len() - 1,
        domains: domains(heap),
        peak: line.peak,
        end: line.end,
        mapped_at_end: mapped(heap, &heap.end()),
        highest_rss: line.samples.into_iter().max_by_key(|sample| sample.rss),
        processes: heap
            .catalog
            .processes
            .iter()
            .zip(threads)
            .map(|(info, threads)| ProcessLine {
                pid: info.pid,
                parent_pid: info.parent_pid,
                origin: match info.origin {
                    ProcessOrigin::Exec => "started",
                    ProcessOrigin::Replace(_) => "exec",
                    ProcessOrigin::Fork(_) => "fork",
                },
                exe: info.exe.clone(),
                start_micros: info.time.get(),
                end_micros: info.end.map(|end| end.time.get()),
                end: info.end.map_or_else(
                    || "running when the recording ended".to_owned(),
                    |end| end_text(end.how),
                ),
                threads,
            })
            .collect(),
        modules,
        unwinding: unwinding(heap),
        markers: line.markers,
        losses: heap
            .catalog
            .losses
            .iter()
            .map(|loss| LossLine {
                at: Instant {
                    event: loss.at.get(),
                    micros: loss.time.get(),
                    wall_clock: crate::report::wall_clock(header, loss.time),
                },
                events: loss.events,
                cause: loss_name(loss.cause),
            })
            .collect(),
        damage: heap
            .damage
            .iter()
            .map(|damage| Text::new(&damage.to_string()).to_string())
            .collect(),
    }
}

/// The C libraries of all processes that tell, each once.
fn libraries(heap: &Heap) -> Vec<Text> {
    let told = heap.catalog.processes.iter().map(|process| &process.libc);
    let distinct: BTreeSet<&Text> = told.filter(|name| !name.as_str().is_empty()).collect();
    distinct.into_iter().cloned().collect()
}

fn end_text(end: ProcessEnd) -> String {
    match end {
        ProcessEnd::Exit(status) => format!("exit status {status}"),
        ProcessEnd::Signal(signal) => format!("killed by signal {signal}"),
        ProcessEnd::Replaced => "replaced by exec".to_owned(),
        ProcessEnd::Gone => "gone".to_owned(),
        ProcessEnd::Running => "running when the recording ended".to_owned(),
    }
}

fn text(info: &Info, units: Units) -> String {
    let mut text = String::new();
    let counters = &info.counters;
    let command: Vec<&str> = info.command.iter().map(Text::as_str).collect();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<12}{value}");
        }
    };
    line(
        "tape",
        format!(
            "{}, {} by {}",
            info.tape,
            format_size(u128::from(info.bytes), units),
            info.writer
        ),
    );
    line("command", command.join(" "));
    let libc: Vec<&str> = info.libc.iter().map(Text::as_str).collect();
    let machine = [info.host.as_str(), info.machine.as_str(), info.kernel.as_str()];
    line("machine", [&machine[..], &libc].concat().join(", "));
    line("start", info.start.clone());
    line("duration", elapsed(Micros(info.duration_micros)));
    line("ending", info.ending.clone());
    line("program", info.status.clone().unwrap_or_default());
    let per_event = info.bytes as f64 / counters.events.max(1) as f64;
    line(
        "events",
        format!("{} ({per_event:.2} bytes of file each)", counters.events),
    );
    line(
        "allocations",
        format!(
            "{} of {} in all, {} freed, {} never freed",
            counters.allocations,
            format_size(counters.bytes_allocated, units),
            counters.frees,
            counters
                .allocations
                .saturating_sub(counters.frees.saturating_add(counters.lost_frees))
        ),
    );
    for (count, what) in [
        (counters.double_frees, "frees of blocks that were freed already"),
        (
            counters.unknown_frees,
            match info.min_size > 0 || info.sampled_bytes.is_some() {
                true => "frees of blocks that were not recorded",
                false => "frees of addresses that were never seen allocated",
            },
        ),
        (
            counters.lost_frees,
            "blocks whose free was not seen (their address was used again)",
        ),
        (
            counters.inherited_frees,
            "frees of inherited blocks in forked processes",
        ),
        (
            info.failed_calls.unwrap_or(0),
            "allocation calls that failed in the program",
        ),
        (
            info.truncated_stacks.unwrap_or(0),
            "stacks that could not be followed to their outer end",
        ),
    ] {
        if count > 0 {
            line("", format!("{count} {what}"));
        }
    }
    if let Some(peak) = &info.peak {
        line(
            "peak",
            format!(
                "{} in {} block(s) at {}",
                format_size(peak.live.size, units),
                peak.live.count,
                text_instant(&peak.at)
            ),
        );
    }
    line(
        "end",
        format!("{} in {} block(s)", format_size(info.end.size, units), info.end.count),
    );
    for row in info.mapped_at_end.iter().filter(|row| row.level.count > 0) {
        let kind = format!("{:?}", row.kind).to_lowercase();
        line(
            "mapped",
            format!(
                "{} {kind} in {} range(s) at the end",
                format_size(row.level.size, units),
                row.level.count
            ),
        );
    }
    if let Some(sample) = &info.highest_rss {
        line(
            "rss",
            format!(
                "up to {} at {}",
                format_size(sample.rss, units),
                elapsed(Micros(sample.micros))
            ),
        );
    }
    line("stacks", format!("{} of {} frames", info.stacks, info.frames));
    if let Some(count) = info.stack_mismatches {
        line(
            "",
            format!("every stack was checked: {count} differed from a full walk"),
        );
    }
    if info.code_names_cut > 0 {
        let cut = format_size(u128::from(info.code_names_cut), units);
        line("", format!("{cut} of names of code made at run time were not copied"));
    }
    python(info, units, &mut line);
    if let Some(bytes) = info.sampled_bytes {
        line(
            "sampling",
            format!("one block in {bytes} bytes on average: numbers are of the sample"),
        );
    }
    if info.min_size > 0 {
        line("not recorded", format!("blocks smaller than {} bytes", info.min_size));
    }
    lists(info, units, &mut text);
    text
}

/// What is there of Python; nothing in a recording without.
fn python(info: &Info, units: Units, line: &mut impl FnMut(&str, String)) {
    for runtime in info.runtimes.iter().take(MOST_LISTED) {
        let recorded = match (runtime.frames, runtime.types) {
            (true, true) => "frames and types of objects",
            (true, false) => "frames",
            (false, true) => "types of objects, native frames only",
            (false, false) => "native frames only",
        };
        let note = match runtime.note.as_str() {
            "" => String::new(),
            note => format!(" ({note})"),
        };
        let process = runtime.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        line(
            "python",
            format!("{} in process {process}: {recorded}{note}", runtime.name),
        );
    }
    if info.runtimes.len() > MOST_LISTED {
        let more = info.runtimes.len() - MOST_LISTED;
        line("", format!("{more} more; --json lists all"));
    }
    let is_python = |row: &&DomainRow| row.domain != Domain::Malloc;
    if info.domains.rows.iter().find(is_python).is_none() {
        return;
    }
    line(
        "code",
        format!(
            "{} code objects, {} types of objects",
            info.code_objects, info.type_names
        ),
    );
    for row in &info.domains.rows {
        line(
            "domain",
            format!(
                "{}: {} block(s) of {} in all; at the end {} in {}",
                row.domain.name(),
                row.allocated.count,
                format_size(row.allocated.size, units),
                format_size(row.end.size, units),
                row.end.count
            ),
        );
    }
    for (when, types) in [
        ("in all", info.domains.types),
        ("at the end", info.domains.types_at_end),
    ] {
        if types.objects.count > 0 {
            let typed = types.objects.count - types.untyped.count;
            let share = typed as f64 * 100.0 / types.objects.count as f64;
            line(
                "types",
                format!(
                    "{share:.2} % of {} python obj block(s) {when} have one",
                    types.objects.count
                ),
            );
        }
    }
}

fn lists(info: &Info, units: Units, text: &mut String) {
    let _ = writeln!(text, "\nprocesses ({})", info.processes.len());
    for process in info.processes.iter().take(MOST_LISTED) {
        let _ = writeln!(
            text,
            "  {} {} ({} by {}, {} thread(s)), {} to {}: {}",
            process.pid,
            process.exe,
            process.origin,
            process.parent_pid,
            process.threads,
            elapsed(Micros(process.start_micros)),
            process
                .end_micros
                .map_or_else(|| "the end".to_owned(), |micros| elapsed(Micros(micros))),
            process.end
        );
    }
    more(info.processes.len(), text);
    if !info.modules.is_empty() {
        let _ = writeln!(text, "\nmodules ({})", info.modules.len());
        for module in info.modules.iter().take(MOST_LISTED) {
            let state = match (&module.problem, &module.debug_file, &module.file) {
                (None, _, _) if module.is_frozen => "names are in the tape".to_owned(),
                (Some(problem), _, _) => problem.to_string(),
                (None, Some(debug), Some(file)) if debug == file => "symbols and lines".to_owned(),
                (None, Some(debug), _) => format!("lines from {debug}"),
                _ => String::new(),
            };
            let _ = writeln!(text, "  {}: {state}", module.module);
        }
        more(info.modules.len(), text);
    }
    stack_ends(&info.unwinding, text);
    if !info.markers.is_empty() {
        let _ = writeln!(text, "\nmarkers ({})", info.markers.len());
        for marker in info.markers.iter().take(MOST_LISTED) {
            let _ = writeln!(
                text,
                "  {}#{} at {}: {}",
                marker.name,
                marker.number,
                text_instant(&marker.at),
                crate::report::live_at(marker, units)
            );
        }
        more(info.markers.len(), text);
    }
    if !info.losses.is_empty() {
        let _ = writeln!(text, "\nlosses reported by the recorder ({})", info.losses.len());
        for loss in info.losses.iter().take(MOST_LISTED) {
            let count = if loss.events > 0 {
                loss.events.to_string()
            } else {
                "an unknown number of".to_owned()
            };
            let _ = writeln!(text, "  {count} event(s) at {}: {}", text_instant(&loss.at), loss.cause);
        }
        more(info.losses.len(), text);
    }
    if !info.damage.is_empty() {
        let _ = writeln!(text, "\ndamage ({})", info.damage.len());
        for damage in info.damage.iter().take(MOST_LISTED) {
            let _ = writeln!(text, "  {damage}");
        }
        more(info.damage.len(), text);
    }
}

/// Modules without unwind tables, and those in which stacks end; nothing when all stacks are whole and all modules have tables.
fn stack_ends(unwinding: &[Unwinding], text: &mut String) {
    let rows: Vec<&Unwinding> = unwinding
        .iter()
        .filter(|row| row.places > 0 || row.cut.count > 0 || row.tables == Some(false))
        .collect();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\nstacks are not whole, or by frame pointers only ({} module(s))",
        rows.len()
    );
    for row in rows.iter().take(MOST_LISTED) {
        let name = row.module.as_ref().map_or("no module", Text::as_str);
        let ends = match row.places {
            0 if row.cut.count > 0 => format!(": no native frame of {} block(s)", row.cut.count),
            0 => String::new(),
            places => format!(", stacks end here: {places} place(s), {} block(s)", row.cut.count),
        };
        let tables = match (row.tables, row.places) {
            (Some(false), 0) => "no unwind tables: followed by frame pointers, where there are any",
            (Some(false), _) => "no unwind tables",
            (Some(true), _) => "not covered by its unwind tables",
            (None, _) if row.module.is_none() => "",
            (None, _) => "unwind tables not known",
        };
        let colon = if tables.is_empty() { "" } else { ": " };
        let _ = writeln!(text, "  {name}{colon}{tables}{ends}");
    }
    more(rows.len(), text);
}

fn more(all: usize, text: &mut String) {
    if all > MOST_LISTED {
        let _ = writeln!(text, "  {} more; --json lists all", all - MOST_LISTED);
    }
}
