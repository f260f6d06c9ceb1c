//! Threads and processes as lines of text.

use super::sites::short;
use super::size::Units;
use super::text::text_instant;
use crate::query::{ProcessRow, Processes, Threads, Work};
use std::fmt::Write;

fn work(work: &Work, units: Units) -> String {
    format!(
        "allocated {}, never freed {}, alive {}",
        short(work.allocated, units),
        short(work.never_freed, units),
        short(work.live, units)
    )
}

/// Threads.
pub fn text_threads(report: &Threads, units: Units) -> String {
    let mut text = format!("{} at {}\n", report.tape, text_instant(&report.at));
    let _ = writeln!(text, "total: {}\n", work(&report.total, units));
    for row in &report.rows {
        let name = if row.name.as_str().is_empty() {
            "(unnamed)"
        } else {
            row.name.as_str()
        };
        let _ = writeln!(
            text,
            "thread {} {name}, process {}: {}",
            row.tid,
            row.pid,
            work(&row.work, units)
        );
    }
    if report.omitted_rows > 0 {
        let _ = writeln!(text, "{} more", report.omitted_rows);
    }
    text
}

/// Processes, each below the one that it comes from.
pub fn text_processes(report: &Processes, units: Units) -> String {
    let mut text = format!("{} at {}\n", report.tape, text_instant(&report.at));
    let _ = writeln!(text, "total: {}\n", work(&report.total, units));
    // A parent is always an earlier one. The way is kept by hand: a hostile tape has deep lines of descent.
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); report.processes.len()];
    let mut waiting: Vec<(usize, usize)> = Vec::new();
    for (number, row) in report.processes.iter().enumerate() {
        match row.parent {
            Some(parent) if (parent as usize) < number => children[parent as usize].push(number),
            _ => waiting.push((number, 0)),
        }
    }
    waiting.reverse();
    while let Some((number, depth)) = waiting.pop() {
        process(&report.processes[number], depth, units, &mut text);
        waiting.extend(children[number].iter().rev().map(|&child| (child, depth + 1)));
    }
    text
}

/// Deeper ones are shown at this depth.
const DEEPEST: usize = 40;

fn process(row: &ProcessRow, depth: usize, units: Units, text: &mut String) {
    let indent = "  ".repeat(depth.min(DEEPEST));
    let _ = writeln!(
        text,
        "{indent}process {} {} ({}), {} thread(s), from {}{}",
        row.pid,
        row.exe,
        row.origin,
        row.threads,
        text_instant(&row.began),
        match (&row.ended, &row.ending) {
            (Some(ended), Some(ending)) => format!(" to {}: {ending}", text_instant(ended)),
            _ => String::new(),
        }
    );
    let _ = write!(text, "{indent}    {}", work(&row.work, units));
    if row.inherited.count > 0 {
        let _ = write!(text, ", inherited {}", short(row.inherited, units));
    }
    text.push('\n');
}
