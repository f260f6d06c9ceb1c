//! Allocators side by side, as lines of text.

use super::size::{format_size, Units};
use super::time::elapsed;
use crate::perform::{Replay, Touch, Variant};
use crate::text::Text;
use heaptape_format::Micros;
use std::fmt::Write;

/// What each variant took.
pub fn text_replay(report: &Replay, units: Units) -> String {
    let plan = &report.plan;
    let calls = plan.allocations + plan.reallocations + plan.frees;
    let mut text = format!("{}: process {} {}\n", report.tape, report.pid, report.exe);
    let _ = writeln!(
        text,
        "{calls} calls in the recorded order, by {} thread(s); {}",
        plan.threads,
        match report.touch {
            Touch::None => "blocks are not touched",
            Touch::Page => "a byte of each page is written",
            Touch::All => "every byte is written",
        }
    );
    let size = |size: u128| format_size(size, units);
    let _ = writeln!(
        text,
        "allocations={}, reallocs={}, frees={}, allocated={}, most alive={}, alive at the end={}",
        plan.allocations,
        plan.reallocations,
        plan.frees,
        size(plan.bytes),
        size(plan.peak_live),
        size(plan.end_live)
    );
    for (what, count) in [
        ("small blocks of Python's own allocator, left out", plan.python_small),
        ("events that found no block, left out", plan.skipped),
    ] {
        if count > 0 {
            let _ = writeln!(text, "{what}: {count}");
        }
    }
    text.push('\n');
    let heads = [
        "allocator",
        "time",
        "peak RSS",
        "peak RSS / peak live",
        "RSS at the end",
        "failed",
    ];
    let mut lines: Vec<[String; 6]> = vec![heads.map(str::to_owned)];
    lines.extend(
        report
            .variants
            .iter()
            .map(|variant| line(variant, plan.peak_live, units)),
    );
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    for line in &lines {
        let _ = write!(text, "{:<1$}", line[0], widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
    for variant in report
        .variants
        .iter()
        .filter(|variant| !variant.outcome.gave_up.is_empty())
    {
        let _ = writeln!(text, "{} gave up: {}", name(variant), variant.outcome.gave_up);
    }
    text
}

fn name(variant: &Variant) -> String {
    Text::new(&variant.setting.to_string()).to_string()
}

fn line(variant: &Variant, peak_live: u128, units: Units) -> [String; 6] {
    let outcome = &variant.outcome;
    let ratio = outcome.peak_rss as f64 / peak_live.max(1) as f64;
    [
        name(variant),
        elapsed(Micros(outcome.micros)),
        format_size(u128::from(outcome.peak_rss), units),
        format!("{ratio:.2}"),
        format_size(u128::from(outcome.end_rss), units),
        outcome.failed.to_string(),
    ]
}
