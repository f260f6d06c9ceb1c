//! `summarize`, and reading what `check` compares.

use super::args::{LeaveOutArgs, PathArgs, ReadingArgs, SummarizeArgs, SymbolArgs};
use super::load::{load, resolver_of, trust};
use super::output::{write, wrote};
use super::Failure;
use crate::ci::{measure, merge, Paths, SpanRule, Summary, Wanted};
use crate::tape::is_tape;
use crate::text::{escape_message, Text};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// No summary is as large; a file that is gets refused rather than read.
const LARGEST: u64 = 256 << 20;

/// How runs are read.
pub(super) struct Runs<'a> {
    pub paths: &'a PathArgs,
    pub leave_out: &'a LeaveOutArgs,
    pub symbols: &'a SymbolArgs,
    pub reading: &'a ReadingArgs,
    /// Spans that are wanted; `None` for all.
    pub rules: Option<&'a [SpanRule]>,
    /// Whether nothing but spans is asked about.
    pub spans_only: bool,
    /// Whether a tape may be one that is still being written.
    pub unfinished: bool,
}

impl Runs<'_> {
    /// The summary of some files together, each a tape or a summary.
    pub fn read(&self, files: &[PathBuf]) -> Result<Summary, Failure> {
        let parts: Result<Vec<Summary>, Failure> = files.iter().map(|file| self.read_one(file)).collect();
        merge(parts?).map_err(|error| Failure::Failed(error.to_string()))
    }

    fn read_one(&self, file: &Path) -> Result<Summary, Failure> {
        if let Some(bytes) = summary_bytes(file)? {
            let summary =
                Summary::read(&bytes).map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
            return self.alike(file, summary);
        }
        let heap = load(file, &self.reading.place())?;
        let paths = paths(self.paths);
        let wanted = Wanted {
            paths: &paths,
            rules: self.rules,
            spans_only: self.spans_only,
            exclude: &self.leave_out.exclude,
        };
        let mut summary = measure(&heap, &wanted, &*resolver_of(self.symbols, self.reading)?);
        trust(&heap)?;
        let mut notes = if self.unfinished {
            heap.notes_so_far()
        } else {
            heap.notes()
        };
        let mut remarks = heap.remarks();
        if heap.catalog.folded.is_some() {
            // Sums over the whole run, its peak and its spans are not known.
            notes.append(&mut remarks);
        }
        let name = format!("{}: ", heap.name);
        for note in notes.iter().chain(&remarks) {
            anstream::eprintln!("warning: {}", escape_message(note));
        }
        // A summary says nothing of where its tape lay.
        summary.notes = notes
            .iter()
            .map(|note| Text::new(note.strip_prefix(&name).unwrap_or(note)))
            .collect();
        Ok(summary)
    }

    /// Refuses a summary of which other things were left out.
    fn alike(&self, file: &Path, summary: Summary) -> Result<Summary, Failure> {
        let told = |patterns: &[String]| match patterns {
            [] => "no --exclude".to_owned(),
            patterns => patterns
                .iter()
                .map(|pattern| format!("--exclude {pattern}"))
                .collect::<Vec<_>>()
                .join(" "),
        };
        let wanted: Vec<String> = self.leave_out.exclude.iter().map(ToString::to_string).collect();
        let found: Vec<String> = summary.excluded.iter().map(ToString::to_string).collect();
        match wanted == found {
            true => Ok(summary),
            false => Err(Failure::Failed(format!(
                "{}: expected a summary made with {}, found one made with {}; give the same here, or summarize that run again",
                file.display(),
                told(&wanted),
                told(&found)
            ))),
        }
    }
}

/// The content of a file that looks like a summary; `None` for a tape, or what may be one.
fn summary_bytes(file: &Path) -> Result<Option<Vec<u8>>, Failure> {
    if !file.is_file() && is_tape(file) {
        // The files of a recording.
        return Ok(None);
    }
    let failed = |error: std::io::Error| Failure::Failed(format!("{}: {error}", file.display()));
    let mut opened = File::open(file).map_err(failed)?;
    let mut bytes = Vec::new();
    opened.by_ref().take(64).read_to_end(&mut bytes).map_err(failed)?;
    if !Summary::is_one(&bytes) {
        return Ok(None);
    }
    opened.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::Failed(format!(
            "{}: expected a summary, found a file of more than {} MiB",
            file.display(),
            LARGEST >> 20
        )));
    }
    Ok(Some(bytes))
}

fn paths(args: &PathArgs) -> Paths {
    let mut strip = args.strip_prefix.clone();
    if strip.is_empty() {
        strip.extend(
            std::env::current_dir()
                .ok()
                .and_then(|dir| dir.into_os_string().into_string().ok()),
        );
        // Of a root folder every path would lose its slash.
        strip.retain(|dir| dir != "/");
    }
    Paths {
        strip,
        remap: args.remap.clone(),
    }
}

pub(super) fn summarize(args: &SummarizeArgs) -> Result<(), Failure> {
    let runs = Runs {
        paths: &args.paths,
        leave_out: &args.leave_out,
        symbols: &args.symbols,
        reading: &args.reading,
        rules: None,
        spans_only: false,
        unfinished: false,
    };
    let mut summary = runs.read(&args.runs)?;
    if args.reading.strict && !summary.notes.is_empty() {
        return Err(Failure::Failed(
            "a tape is not whole, and --strict was given".to_owned(),
        ));
    }
    summary.keep(args.sites);
    let text = summary.write().map_err(|error| Failure::Failed(error.to_string()))?;
    write(&args.output, text.as_bytes(), args.force)?;
    wrote(&args.output);
    Ok(())
}
