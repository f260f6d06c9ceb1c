//! `demo`: records a leaking service, and walks through finding its leak. The service is one in Python where there is a Python to run it, or else the program that is
//! built beside this one.

use super::args::{DemoArgs, ReadingArgs, SymbolArgs};
use super::draw::width;
use super::load::{check, load, resolver_of, Reading};
use super::output::{print, print_difference};
use super::Failure;
use crate::query::{diff, leaks, timeline, DiffReport, Group, LeakQuery, Query, TimeSpec};
use crate::report::{columns, elapsed, format_size, plot, text_diff, TextOptions, Units};
use crate::symbols::Resolver;
use crate::table::Heap;
use heaptape_format::Micros;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// File name of the service that is built.
const BUILT: &str = "leaky-service";
/// File name of the service in Python, and its text.
const SCRIPT: &str = "service.py";
const SCRIPT_TEXT: &str = include_str!("demo_service.py");
/// Prints where the interpreter is that runs this, if it can run the service and its frames are known to the recorder.
const ASK_PYTHON: &str = "import json, sqlite3, sys
has_lock = getattr(sys, '_is_gil_enabled', lambda: True)()
known = sys.implementation.name == 'cpython' and (3, 8) <= sys.version_info < (3, 15) and has_lock
print(sys.executable if known else '')";
/// How long the service runs.
const SECONDS: &str = "5";
/// Early and late enough that the service neither starts nor stops: millionths of its run.
const FROM: TimeSpec = TimeSpec::Share(300_000);
const HALFWAY: TimeSpec = TimeSpec::Share(600_000);
const UNTIL: TimeSpec = TimeSpec::Share(900_000);

/// The service that is recorded.
struct Service {
    command: Vec<OsString>,
    /// Its command line as it is shown.
    shown: String,
    is_python: bool,
}

impl Service {
    /// The service in Python; `None` when there is no Python for it.
    fn in_python(folder: &Path) -> Result<Option<Service>, Failure> {
        let asked = Command::new("python3")
            .args(["-c", ASK_PYTHON])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let Ok(asked) = asked else { return Ok(None) };
        let text = String::from_utf8_lossy(&asked.stdout);
        let python = text.trim_end_matches('\n');
        if !asked.status.success() || python.is_empty() {
            return Ok(None);
        }
        let script = folder.join(SCRIPT);
        std::fs::write(&script, SCRIPT_TEXT)
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", script.display())))?;
        Ok(Some(Service {
            command: vec![python.into(), script.into(), SECONDS.into()],
            shown: format!("python3 {SCRIPT} {SECONDS}"),
            is_python: true,
        }))
    }

    /// The service that is built beside this program.
    fn built(own: &Path) -> Result<Service, Failure> {
        let service = own.with_file_name(BUILT);
        if !service.is_file() {
            return Err(Failure::Failed(format!(
                "there is no python3 with sqlite3 (CPython 3.8 to 3.14), nor {}, which `cargo build --release` builds beside heaptape; the demo needs one of them",
                service.display()
            )));
        }
        Ok(Service {
            command: vec![service.into(), "--seconds".into(), SECONDS.into()],
            shown: format!("{BUILT} --seconds {SECONDS}"),
            is_python: false,
        })
    }
}

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
    let scratch = Scratch::new()?;
    let service = match Service::in_python(&scratch.0)? {
        Some(service) => service,
        None => Service::built(&own)?,
    };
    let tape = args.output.clone().unwrap_or_else(|| scratch.0.join("demo.tape"));
    print(&format!(
        "$ heaptape record -o {} -- {}\n",
        shown(args, &tape),
        service.shown
    ))?;
    let status = Command::new(&own)
        .args(["record", "-o"])
        .arg(&tape)
        .arg("--")
        .args(&service.command)
        .status()
        .map_err(|error| Failure::Failed(format!("cannot start {}: {error}", own.display())))?;
    if !status.success() {
        return Err(Failure::Failed(format!("recording the service failed: {status}")));
    }
    let heap = load(&tape, &Reading::replayed())?;
    check(&heap, &super::args::ReadingArgs::default())?;
    let name = shown(args, &tape);
    let (text, verdict) = walk(&heap, &service)?;
    // Where the service lay meanwhile is of no interest.
    let folder = format!("{}/", scratch.0.display());
    print_difference(&text.replace(heap.name.as_str(), &name).replace(&folder, ""))?;
    print(&verdict.replace(&folder, ""))?;
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

/// The timeline and the diffs, and the leak in plain words.
fn walk(heap: &Heap, service: &Service) -> Result<(String, String), Failure> {
    let resolver = resolver_of(&SymbolArgs::default(), &ReadingArgs::default())?;
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
    let mut compare = |by: Group, command: &str| {
        let query = Query {
            by: by.into(),
            ..query.clone()
        };
        let change = diff((heap, &from), (heap, &until), &query, &*resolver);
        text.push_str(&format!("\n$ heaptape diff {name}@30% @90%{command} -n 5\n"));
        text.push_str(&text_diff(&change, TextOptions::default()));
    };
    compare(Group::Line, "");
    if service.is_python {
        compare(Group::Type, " --by type");
    }
    let verdict = verdict(heap, service, &*resolver)?;
    Ok((text, verdict))
}

fn verdict(heap: &Heap, service: &Service, resolver: &dyn Resolver) -> Result<String, Failure> {
    let (from, until) = (FROM.resolve(heap)?, UNTIL.resolve(heap)?);
    // What is born in the middle and outlives the program is a leak, unlike caches (born early) and requests (freed soon). An interpreter gives all back at its end: there,
    // what is born before the middle and lives long after it.
    let which = LeakQuery {
        born_from: Some(from),
        born_until: Some(if service.is_python {
            HALFWAY.resolve(heap)?
        } else {
            until
        }),
        alive_at: Some(if service.is_python { until } else { heap.end() }),
        ..LeakQuery::default()
    };
    let by_line = Query {
        rows: 1,
        ..Query::default()
    };
    let found = leaks(heap, &which, &by_line, resolver);
    let Some(row) = found.rows.first() else {
        return Ok("\nNothing that was born in the middle of the run outlived it: no leak.\n".to_owned());
    };
    let function = row
        .function
        .as_ref()
        .map_or("an unknown function", |name| name.as_str());
    let born_until = which.born_until.as_ref().unwrap_or(&until);
    let span = born_until.time.get() - from.time.get();
    let rate = row.size * 1_000_000 / u128::from(span.max(1));
    let mut text = format!("\nThe leak: {function}, at {}.\n", row.key);
    let line = row.key.0.first().map_or(0, |part| part.number as usize);
    if let (true, Some(source)) = (service.is_python, SCRIPT_TEXT.lines().nth(line.wrapping_sub(1))) {
        text.push_str(&format!("    {}\n", source.trim()));
    }
    let fate = if service.is_python {
        "was still there at 90%"
    } else {
        "was never freed"
    };
    text.push_str(&format!(
        "Of what it allocated in {}, {} in {} blocks {fate}: {} per second.\n",
        elapsed(Micros(span)),
        format_size(row.size, Units::Binary),
        row.count,
        format_size(rate, Units::Binary)
    ));
    if service.is_python {
        let by_type = Query {
            by: Group::Type.into(),
            rows: 0,
            ..Query::default()
        };
        if let Some((name, before, after)) = growing(&diff((heap, &from), (heap, &until), &by_type, resolver)) {
            text.push_str(&format!(
                "The type that grows: {name}, from {before} to {after} objects between the two instants.\n"
            ));
        }
    }
    Ok(text)
}

/// Of the types whose objects have become more by a hundred at least, the one that has grown by the largest share, with how many there were and are.
fn growing(change: &DiffReport) -> Option<(String, u64, u64)> {
    let before = |count: u64, diff: i64| count.saturating_add_signed(-diff);
    let named = change.rows.iter().filter(|row| row.count_diff >= 100);
    let named = named.map(|row| (row.key.to_string(), before(row.count, row.count_diff), row.count));
    named
        .filter(|(name, ..)| !name.starts_with('['))
        // after / before, without a division by nothing.
        .max_by(|one, other| (one.2 * (other.1 + 1)).cmp(&(other.2 * (one.1 + 1))))
}
