//! `demo`: records the leaking service that is built beside this program, and walks through finding its leak.

use super::args::DemoArgs;
use super::draw::width;
use super::load::{check, load, resolver};
use super::output::{print, print_difference};
use super::Failure;
use crate::index::IndexPlace;
use crate::query::{diff, leaks, timeline, LeakQuery, Query, TimeSpec};
use crate::report::{columns, elapsed, format_size, plot, text_diff, TextOptions, Units};
use crate::table::Heap;
use heaptape_format::Micros;
use std::path::{Path, PathBuf};
use std::process::Command;

/// File name of the service.
const SERVICE: &str = "leaky-service";
/// How long the service runs.
const SECONDS: &str = "5";
/// Early and late enough that the service neither starts nor stops: millionths of its run.
const FROM: TimeSpec = TimeSpec::Share(300_000);
const UNTIL: TimeSpec = TimeSpec::Share(900_000);

/// A folder that is gone when the demo is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, Failure> {
        let dir = std::env::temp_dir().join(format!("heaptape-demo-{}", std::process::id()));
        // Not `create_dir_all`: a folder that is there already is somebody else's.
        std::fs::create_dir(&dir)
            .map_err(|error| Failure::Failed(format!("cannot make the folder {}: {error}", dir.display())))?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left in the system's folder for temporary files; there is nobody to tell.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let own = std::env::current_exe()
        .map_err(|error| Failure::Failed(format!("cannot tell where this program lies: {error}")))?;
    let service = own.with_file_name(SERVICE);
    if !service.is_file() {
        return Err(Failure::Failed(format!(
            "{} is not there; the demo needs the program that `cargo build --release` builds beside heaptape",
            service.display()
        )));
    }
    let scratch = Scratch::new()?;
    let tape = args.output.clone().unwrap_or_else(|| scratch.0.join("demo.tape"));
    print(&format!(
        "$ heaptape record -o {} -- {SERVICE} --seconds {SECONDS}\n",
        shown(args, &tape)
    ))?;
    let status = Command::new(&own)
        .args(["record", "-o"])
        .arg(&tape)
        .arg("--")
        .arg(&service)
        .args(["--seconds", SECONDS])
        .status()
        .map_err(|error| Failure::Failed(format!("cannot start {}: {error}", own.display())))?;
    if !status.success() {
        return Err(Failure::Failed(format!("recording the service failed: {status}")));
    }
    let heap = load(&tape, &IndexPlace::Nowhere)?;
    check(&heap, &super::args::ReadingArgs::default())?;
    let name = shown(args, &tape);
    let (text, verdict) = walk(&heap)?;
    print_difference(&text.replace(heap.name.as_str(), &name))?;
    print(&verdict)?;
    if args.output.is_some() {
        print(&format!(
            "\nThe tape is {name}; ask on with `heaptape info {name}`, `heaptape flamegraph {name}@peak`.\n"
        ))?;
    }
    Ok(())
}

/// What the tape is called in the text: its scratch folder will be gone.
fn shown(args: &DemoArgs, tape: &Path) -> String {
    match &args.output {
        Some(path) => crate::text::escape_message(&path.display().to_string()),
        None => tape.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// The timeline and the diff, and the leak in plain words.
fn walk(heap: &Heap) -> Result<(String, String), Failure> {
    let resolver = resolver(&super::args::SymbolArgs {
        sysroot: None,
        debug_dir: Vec::new(),
        no_symbols: false,
    });
    let query = Query {
        rows: 5,
        ..Query::default()
    };
    let name = &heap.name;
    let mut text = format!("\n$ heaptape timeline {name}\n");
    text.push_str(&plot(
        &timeline(heap, &query, columns(width().min(100)), &*resolver),
        Units::Binary,
    ));

    let (from, until) = (FROM.resolve(heap)?, UNTIL.resolve(heap)?);
    text.push_str(&format!("\n$ heaptape diff {name}@30% @90% -n 5\n"));
    let change = diff((heap, &from), (heap, &until), &query, &*resolver);
    text.push_str(&text_diff(&change, TextOptions::default()));

    // What is born in the middle and outlives the program is a leak, unlike caches (born early) and requests (freed soon).
    let which = LeakQuery {
        born_from: Some(from),
        born_until: Some(until),
        alive_at: Some(heap.end()),
    };
    let by_stack = Query {
        rows: 1,
        ..Query::default()
    };
    let found = leaks(heap, &which, &by_stack, &*resolver);
    let verdict = match found.rows.first() {
        None => "\nNothing that was born in the middle of the run outlived it: no leak.\n".to_owned(),
        Some(row) => {
            let function = row
                .function
                .as_ref()
                .map_or("an unknown function", |name| name.as_str());
            let span = until.time.get() - from.time.get();
            let rate = row.size * 1_000_000 / u128::from(span.max(1));
            format!(
                "\nThe leak: {function}, at {}.\nIn the {} between the two instants it allocated {} in {} blocks that were never freed: {} per second.\n",
                row.key,
                elapsed(Micros(span)),
                format_size(row.size, Units::Binary),
                row.count,
                format_size(rate, Units::Binary)
            )
        }
    };
    Ok((text, verdict))
}
