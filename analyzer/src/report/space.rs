//! Sizes, address space and resident sets as lines of text.

use super::sites::short;
use super::size::{format_diff, format_size, Units};
use super::text::{level, text_instant};
use crate::query::{Fragmentation, Rss, Sizes};
use std::fmt::Write;

fn share(part: u128, whole: u128) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string())
}

/// Blocks by size.
pub fn text_sizes(report: &Sizes, units: Units) -> String {
    let mut text = match &report.at {
        Some(at) => format!("{} alive at {}\n", report.tape, text_instant(at)),
        None => format!("{}: all blocks of the recording\n", report.tape),
    };
    let _ = writeln!(text, "total: {}\n", level(report.total, units));
    let size = |size: u64| format_size(u128::from(size), units);
    let ranges: Vec<String> = report
        .columns
        .iter()
        .map(|column| match column.from == column.until {
            true => size(column.from),
            false => format!("{} to {}", size(column.from), size(column.until)),
        })
        .collect();
    let widest = ranges.iter().map(String::len).max().unwrap_or(0);
    for (column, range) in report.columns.iter().zip(&ranges) {
        let blocks = share(u128::from(column.level.count), u128::from(report.total.count));
        let _ = writeln!(text, "{range:>widest$} {blocks:5.1} %  {}", level(column.level, units));
    }
    text
}

/// Live blocks in the address space.
pub fn text_fragmentation(report: &Fragmentation, units: Units) -> String {
    let mut text = format!("{} at {}\n", report.tape, text_instant(&report.at));
    let _ = writeln!(
        text,
        "live: {}\npages that hold any of it: {}, {:.1} % live\nholes: {}\n",
        level(report.live, units),
        format_size(report.pages, units),
        share(report.live.size, report.pages),
        level(report.holes, units)
    );
    for fill in report.fill.iter().filter(|fill| fill.pages > 0) {
        let _ = writeln!(
            text,
            "filled {:3} to {:3} %: {} page(s), live: {}",
            fill.percent,
            fill.percent + 10,
            fill.pages,
            format_size(fill.live, units)
        );
    }
    if report.holes.count > 0 {
        text.push_str("\nholes by length\n");
    }
    for column in &report.holes_by_length {
        let from = format_size(u128::from(column.from), units);
        let _ = writeln!(text, "from {from}: {}", level(column.level, units));
    }
    if report.holes.count > 0 {
        text.push_str("\nlargest holes\n");
    }
    for hole in &report.largest_holes {
        let length = format_size(u128::from(hole.length), units);
        let _ = writeln!(text, "{} of process {}: {length}", hole.address, process(hole.pid));
    }
    text.push_str("\nregions\n");
    for region in &report.regions {
        let _ = writeln!(
            text,
            "{} of process {}, {} of {}: {}, pages {}, holes {}",
            region.address,
            process(region.pid),
            format_size(u128::from(region.length), units),
            region.kind,
            level(region.live, units),
            format_size(region.pages, units),
            short(region.holes, units)
        );
    }
    if report.omitted_regions > 0 {
        let _ = writeln!(text, "{} more", report.omitted_regions);
    }
    text
}

/// The heap beside the resident set.
pub fn text_rss(report: &Rss, units: Units) -> String {
    let mut text = format!("{} at {}\n", report.tape, text_instant(&report.at));
    if report.processes.is_empty() {
        text.push_str("no process that was alive then had been sampled\n");
    }
    let size = |size: u128| format_size(size, units);
    for row in &report.processes {
        let _ = writeln!(
            text,
            "\nprocess {} {}, sampled {}",
            row.pid,
            row.exe,
            text_instant(&row.at)
        );
        let _ = writeln!(text, "resident: {}", size(u128::from(row.rss)));
        let _ = writeln!(text, "    live blocks: {}", level(row.live, units));
        let _ = writeln!(text, "    around them, in the same pages: {}", size(row.around));
        let _ = writeln!(
            text,
            "    the rest: {}: code, stacks, mappings as far as touched, what the allocator keeps, the recorder's buffers",
            format_diff(row.rest, units)
        );
        for (what, bytes) in [
            ("proportional", row.pss),
            ("swapped out", row.swap),
            ("memory group", row.cgroup),
        ] {
            if bytes > 0 {
                let _ = writeln!(text, "{what}: {}", size(u128::from(bytes)));
            }
        }
        if row.mapped.count > 0 {
            let _ = writeln!(
                text,
                "mapped by the program, touched or not: {}",
                short(row.mapped, units)
            );
        }
        if row.inherited.count > 0 {
            let _ = writeln!(text, "inherited: {}", level(row.inherited, units));
        }
    }
    text
}
