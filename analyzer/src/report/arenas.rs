//! The arenas of Python's object allocator as lines of text.

use super::size::{format_size, Units};
use super::text::{level, text_instant};
use crate::query::Arenas;
use crate::table::Level;
use std::fmt::Write;

/// `3072 KiB in 3 arena(s)`.
fn mapped(arenas: Level, units: Units) -> String {
    format!("{} in {} arena(s)", format_size(arenas.size, units), arenas.count)
}

/// Which arenas are mapped and what keeps them.
pub fn text_arenas(report: &Arenas, units: Units) -> String {
    let mut text = format!("{} at {}\n", report.tape, text_instant(&report.at));
    if report.arenas.count == 0 {
        text.push_str("no arena of Python's object allocator is mapped\n");
        return text;
    }
    let share = report.live.size as f64 * 100.0 / report.arenas.size.max(1) as f64;
    let _ = writeln!(
        text,
        "mapped: {}, {share:.1} % live: {}",
        mapped(report.arenas, units),
        level(report.live, units)
    );
    for (what, blocks) in [
        ("in arenas that forked processes inherited", report.inherited),
        ("python mem and obj blocks in no arena", report.outside),
    ] {
        if blocks.count > 0 {
            let _ = writeln!(text, "{what}: {}", level(blocks, units));
        }
    }
    text.push('\n');
    for fill in report.fill.iter().filter(|fill| fill.arenas.count > 0) {
        let _ = writeln!(
            text,
            "filled {:3} to {:3} %: {}, live: {}",
            fill.percent,
            fill.percent + 10,
            mapped(fill.arenas, units),
            level(fill.live, units)
        );
    }
    let _ = writeln!(
        text,
        "\nnearly empty (below {} %): {}, kept by: {}",
        report.below_percent,
        mapped(report.nearly_empty, units),
        level(report.nearly_empty_live, units)
    );
    for holder in &report.holders {
        let _ = writeln!(
            text,
            "{}: keeps {}, alone {}: {}",
            holder.key,
            mapped(holder.arenas, units),
            holder.alone.count,
            level(holder.live, units)
        );
    }
    if report.omitted_holders > 0 {
        let _ = writeln!(text, "{} more", report.omitted_holders);
    }
    text.push_str("\nemptiest\n");
    for arena in &report.emptiest {
        let process = arena.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        let _ = writeln!(
            text,
            "{} of process {process}, {}: {}",
            arena.address,
            format_size(u128::from(arena.length), units),
            level(arena.live, units)
        );
    }
    if report.omitted_arenas > 0 {
        let _ = writeln!(text, "{} more", report.omitted_arenas);
    }
    text
}
