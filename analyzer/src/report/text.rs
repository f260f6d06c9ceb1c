//! Statistics as lines of text, in the format of tracemalloc.

use super::size::{format_average, format_diff, format_size, Units};
use super::time::elapsed;
use crate::query::{
    DiffReport, DiffRow, Instant, Key, KeyFrame, Node, Row, Statistics, SuppressionUse, Tree, TypeShare,
};
use crate::table::Level;
use crate::text::Text;
use heaptape_format::Micros;
use std::fmt::Write;

/// How text is laid out.
#[derive(Clone, Copy, Debug, Default)]
pub struct TextOptions {
    /// How sizes are printed.
    pub units: Units,
    /// Print tracebacks with their newest frame first.
    pub most_recent_first: bool,
}

/// `12.35 s (2026-11-22 10:00:00.000Z, event #123)`.
pub fn text_instant(instant: &Instant) -> String {
    format!(
        "{} ({}, event #{})",
        elapsed(Micros(instant.micros)),
        instant.wall_clock,
        instant.event
    )
}

/// `size=576 B, count=1, average=576 B`.
pub(super) fn level(level: Level, units: Units) -> String {
    let mut text = format!("size={}, count={}", format_size(level.size, units), level.count);
    if level.count > 0 {
        let _ = write!(text, ", average={}", format_average(level.size, level.count, units));
    }
    text
}

/// A snapshot or leaks.
pub fn text_statistics(report: &Statistics, title: &str, options: TextOptions) -> String {
    let units = options.units;
    let mut text = format!("{} {title} {}\n", report.tape, text_instant(&report.at));
    if let Some(from) = &report.born_from {
        let _ = writeln!(text, "born from {}", text_instant(from));
    }
    if let Some(until) = &report.born_until {
        let _ = writeln!(text, "born before {}", text_instant(until));
    }
    let error = standard_error(report.standard_error, units);
    let _ = writeln!(text, "total: {}{error}", level(report.total, units));
    if report.unknown_after_gap.count > 0 {
        let _ = writeln!(
            text,
            "of these may have been freed where events are missing: {}",
            level(report.unknown_after_gap, units)
        );
    }
    let _ = writeln!(
        text,
        "mapped beside the heap: {} in {} range(s)",
        format_size(report.mapped.size, units),
        report.mapped.count
    );
    text.push('\n');
    for row in &report.rows {
        text_row(row, options, &mut text);
    }
    if report.omitted_rows > 0 {
        let _ = writeln!(text, "{} more: {}", report.omitted_rows, level(report.omitted, units));
    }
    if let Some(types) = &report.types {
        let _ = writeln!(text, "\n{}", type_share(types, units));
    }
    suppressions(&report.suppressions, units, &mut text);
    text
}

/// What was suppressed, as LeakSanitizer prints it, and which suppressions are of no use any more.
fn suppressions(uses: &[SuppressionUse], units: Units, text: &mut String) {
    let (used, unused): (Vec<_>, Vec<_>) = uses.iter().partition(|one| one.level.count > 0);
    if !used.is_empty() {
        text.push_str("\nsuppressed\n");
    }
    for one in used {
        let _ = writeln!(text, "{}: {}", one.pattern, level(one.level, units));
    }
    if !unused.is_empty() {
        text.push_str("\nsuppressions that matched nothing\n");
    }
    for one in unused {
        let _ = writeln!(text, "{} (line {})", one.pattern, one.line);
    }
}

/// How much a table by type cannot tell.
fn type_share(types: &TypeShare, units: Units) -> String {
    if types.objects.count == 0 {
        return "no python obj block is among them".to_owned();
    }
    let share = types.untyped.count as f64 * 100.0 / types.objects.count as f64;
    format!(
        "{} of {} python obj blocks ({share:.1} %) hold no object or one of unknown type: size={}",
        types.untyped.count,
        types.objects.count,
        format_size(types.untyped.size, units)
    )
}

fn text_row(row: &Row, options: TextOptions, text: &mut String) {
    let units = options.units;
    let _ = write!(
        text,
        "{}: {}",
        row.key,
        level(
            Level {
                size: row.size,
                count: row.count
            },
            units
        )
    );
    let unknown = row.unknown_after_gap;
    if unknown.count > 0 {
        let _ = write!(
            text,
            ", unknown after a gap: size={}, count={}",
            format_size(unknown.size, units),
            unknown.count
        );
    }
    text.push_str(&standard_error(row.standard_error, units));
    text.push('\n');
    row_details(&row.key, options, text);
}

/// How sure an estimate is, behind it.
fn standard_error(error: Option<u128>, units: Units) -> String {
    error.map_or(String::new(), |error| {
        format!(", standard error={}", format_size(error, units))
    })
}

/// What belongs below the line of a row.
pub(super) fn row_details(key: &Key, options: TextOptions, text: &mut String) {
    source(key.source(), "    ", text);
    traceback(key, options, text);
}

/// The text of a line, below what names it.
fn source(line: Option<&Text>, indent: &str, text: &mut String) {
    if let Some(line) = line {
        let _ = writeln!(text, "{indent}{line}");
    }
}

fn traceback(key: &Key, options: TextOptions, text: &mut String) {
    let mut print = |frame: &KeyFrame| {
        let _ = match frame.function_beside() {
            Some(function) => writeln!(text, "    {} in {function}", frame.location),
            None => writeln!(text, "    {}", frame.location),
        };
        source(frame.source.as_ref(), "        ", text);
    };
    if options.most_recent_first {
        key.frames().iter().rev().for_each(&mut print);
    } else {
        key.frames().iter().for_each(&mut print);
    }
}

/// A difference.
pub fn text_diff(report: &DiffReport, options: TextOptions) -> String {
    let units = options.units;
    let mut text = format!("old: {} at {}\n", report.old_tape, text_instant(&report.old));
    let _ = writeln!(text, "new: {} at {}", report.new_tape, text_instant(&report.new));
    let (old, new) = (report.old_total, report.new_total);
    let _ = writeln!(
        text,
        "total: {}{}",
        changed(
            new,
            new.size as i128 - old.size as i128,
            new.count as i64 - old.count as i64,
            units
        ),
        standard_error(report.standard_error, units)
    );
    let [old, new] = report.mapped;
    let _ = writeln!(
        text,
        "mapped beside the heap: {} ({}) in {} range(s)\n",
        format_size(new.size, units),
        format_diff(new.size as i128 - old.size as i128, units),
        new.count
    );
    for row in &report.rows {
        let DiffRow {
            key,
            size,
            size_diff,
            count,
            count_diff,
            ..
        } = row;
        let level = Level {
            size: *size,
            count: *count,
        };
        let error = standard_error(row.standard_error, units);
        let _ = writeln!(text, "{key}: {}{error}", changed(level, *size_diff, *count_diff, units));
        source(key.source(), "    ", &mut text);
        traceback(key, options, &mut text);
    }
    if report.omitted_rows > 0 {
        let _ = writeln!(
            text,
            "{} more: ({})",
            report.omitted_rows,
            format_diff(report.omitted_size_diff, units)
        );
    }
    if let Some([old, new]) = &report.types {
        let (old, new) = (type_share(old, units), type_share(new, units));
        let _ = writeln!(text, "\nold: {old}\nnew: {new}");
    }
    text
}

/// `size=576 B (+112 B), count=1 (+0), average=576 B`.
fn changed(level: Level, size_diff: i128, count_diff: i64, units: Units) -> String {
    let mut text = format!(
        "size={} ({}), count={} ({count_diff:+})",
        format_size(level.size, units),
        format_diff(size_diff, units),
        level.count
    );
    if level.count > 0 {
        let _ = write!(text, ", average={}", format_average(level.size, level.count, units));
    }
    text
}

/// A call tree.
pub fn text_tree(tree: &Tree, options: TextOptions) -> String {
    let mut text = format!("{} at {}\n", tree.tape, text_instant(&tree.at));
    let _ = writeln!(text, "total: {}\n", level(tree.total, options.units));
    nodes(&tree.roots, tree.omitted, tree.total.size, "", options.units, &mut text);
    text
}

fn nodes(children: &[Node], omitted: usize, total: u128, indent: &str, units: Units, text: &mut String) {
    for (index, node) in children.iter().enumerate() {
        let is_last = index + 1 == children.len() && omitted == 0;
        let share = if total == 0 {
            0.0
        } else {
            node.total.size as f64 * 100.0 / total as f64
        };
        let name = match node.frame.function_beside() {
            Some(function) => format!("{function} ({})", node.frame.location),
            None => node.frame.location.to_string(),
        };
        let _ = write!(
            text,
            "{indent}{} {share:5.1}% {name}: {}",
            if is_last { "└" } else { "├" },
            level(node.total, units)
        );
        if node.own.count > 0 && node.own != node.total {
            let _ = write!(
                text,
                ", own size={}, own count={}",
                format_size(node.own.size, units),
                node.own.count
            );
        }
        text.push('\n');
        let deeper = format!("{indent}{} ", if is_last { " " } else { "│" });
        nodes(&node.children, node.omitted, total, &deeper, units, text);
    }
    if omitted > 0 {
        let _ = writeln!(text, "{indent}└ {omitted} more");
    }
}
