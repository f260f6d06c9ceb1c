//! `symbols check`: what of a tape can be named here.

use super::args::SymbolsCheckArgs;
use super::load::{self, load, symbol_options, trust};
use super::output::print;
use super::stats::print_json;
use super::Failure;
use crate::symbols::{self, ModuleCheck, Share, SymbolCheck, Symbolizer};
use std::fmt::Write;

pub(super) fn check(args: &SymbolsCheckArgs) -> Result<(), Failure> {
    if args.symbols.no_symbols {
        return Err(Failure::Usage(
            "symbols check --no-symbols: nothing would be looked up".to_owned(),
        ));
    }
    let options = symbol_options(&args.symbols, &args.reading)?;
    let heap = load(&args.tape, &args.reading.place())?;
    let notes = load::check(&heap, &args.reading)?;
    let report = symbols::check(&heap, &Symbolizer::new(options));
    trust(&heap)?;
    if args.json {
        print_json("symbols", &report, &notes)?;
    } else {
        print(&text(&report))?;
    }
    if report.is_complete {
        Ok(())
    } else {
        Err(Failure::Silent(1))
    }
}

fn text(report: &SymbolCheck) -> String {
    let mut text = String::new();
    for module in &report.modules {
        let _ = writeln!(text, "{:<10} {}", module.coverage.state.text(), module.coverage.module);
        details(module, &mut text);
    }
    if report.outside.all > 0 {
        let _ = writeln!(
            text,
            "{:<10} {} frame(s), {} named by the program",
            "no module", report.outside.all, report.outside.with_function
        );
    }
    if report.is_frozen {
        text.push_str("names were frozen into this tape; the files are where they came from\n");
    }
    for (what, share) in [("frames", report.frames), ("bytes allocated", report.bytes)] {
        let _ = writeln!(
            text,
            "{what}: {:.1} % with function, {:.1} % with line",
            Share::percent(share.with_function, share.all),
            Share::percent(share.with_line, share.all)
        );
    }
    text
}

fn details(module: &ModuleCheck, text: &mut String) {
    let coverage = &module.coverage;
    if !coverage.build_id.is_empty() {
        let _ = writeln!(text, "    build-id {}", coverage.build_id);
    }
    let by = |found: Option<symbols::FoundBy>| found.map_or("", |found| found.text());
    if let Some(file) = &coverage.file {
        let _ = writeln!(text, "    symbols from {file} {}", by(coverage.found_by));
    }
    if let Some(file) = coverage
        .debug_file
        .as_ref()
        .filter(|file| coverage.file.as_ref() != Some(*file))
    {
        let _ = writeln!(text, "    lines from {file} {}", by(coverage.debug_found_by));
    }
    for file in &coverage.supplements {
        let _ = writeln!(text, "    with {file}");
    }
    for refused in &coverage.refused {
        let _ = writeln!(
            text,
            "    refused {}: its {}, expected was {}",
            refused.file, refused.found, refused.expected
        );
    }
    if let Some(problem) = coverage.problem.as_ref().filter(|_| coverage.refused.is_empty()) {
        let _ = writeln!(text, "    {problem}");
    }
    if coverage.frames > 0 {
        let share = Share {
            all: coverage.frames.into(),
            with_function: coverage.with_function.into(),
            with_line: coverage.with_line.into(),
        };
        for (what, share) in [("frame(s)", share), ("byte(s) allocated through it", module.bytes)] {
            let _ = writeln!(
                text,
                "    {} {what}: {:.1} % with function, {:.1} % with line",
                share.all,
                Share::percent(share.with_function, share.all),
                Share::percent(share.with_line, share.all)
            );
        }
    } else {
        text.push_str("    no frame lies in it\n");
    }
}
