//! Tables of sites as lines of text: temporary blocks, lifetimes, growth, epochs, `realloc`.

use super::size::{format_diff, format_size, Units};
use super::text::{level, row_details, text_instant, TextOptions};
use super::time::elapsed;
use crate::query::{Epochs, Growth, LifetimeSum, Lifetimes, Reallocs, SiteRow, Table, Temporary, TemporarySum};
use crate::table::Level;
use heaptape_format::Micros;
use serde::Serialize;
use std::fmt::Write;

/// Rows, one line each and what belongs below it, and the sum of the others.
fn table<T: Serialize>(table: &Table<T>, options: TextOptions, text: &mut String, line: impl Fn(&T) -> String) {
    rows(&table.rows, options, text, &line);
    if table.omitted_rows > 0 {
        let _ = writeln!(text, "{} more: {}", table.omitted_rows, line(&table.omitted));
    }
}

fn rows<T: Serialize>(rows: &[SiteRow<T>], options: TextOptions, text: &mut String, line: impl Fn(&T) -> String) {
    for row in rows {
        let _ = writeln!(text, "{}: {}", row.key, line(&row.sum));
        row_details(&row.key, options, text);
    }
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / whole.max(1) as f64)
}

/// Temporary blocks.
pub fn text_temporary(report: &Temporary, options: TextOptions) -> String {
    let units = options.units;
    let line = |sum: &TemporarySum| {
        let share = percent(sum.temporary.count, sum.allocated.count);
        let size = format_size(sum.temporary.size, units);
        format!(
            "temporary={} of {} ({share}), size={size}",
            sum.temporary.count, sum.allocated.count
        )
    };
    let mut text = format!("{}: freed within {} of the allocation\n", report.tape, report.within);
    let _ = writeln!(text, "total: {}\n", line(&report.table.total));
    table(&report.table, options, &mut text, line);
    text
}

/// `<10us`.
fn bounds(report: &Lifetimes) -> Vec<String> {
    let short = |micros: u64| match micros {
        0..1_000 => format!("{micros}us"),
        1_000..1_000_000 => format!("{}ms", micros / 1_000),
        1_000_000..60_000_000 => format!("{}s", micros / 1_000_000),
        60_000_000..3_600_000_000 => format!("{}m", micros / 60_000_000),
        _ => format!("{}h", micros / 3_600_000_000),
    };
    let bounds = report.bounds_micros.iter().map(|&bound| format!("<{}", short(bound)));
    let last = report
        .bounds_micros
        .last()
        .map_or_else(String::new, |&bound| format!("longer than {}", short(bound)));
    bounds.chain([last, "never freed".to_owned()]).collect()
}

/// Lifetimes.
pub fn text_lifetimes(report: &Lifetimes, options: TextOptions) -> String {
    let units = options.units;
    let bounds = bounds(report);
    let line = |sum: &LifetimeSum| {
        let mut line = level(sum.allocated, units);
        let used = sum.histogram.iter().zip(&bounds).filter(|(column, _)| column.count > 0);
        for (number, (column, bound)) in used.enumerate() {
            let sign = if number == 0 { ";" } else { "," };
            let share = percent(column.count, sum.allocated.count);
            let _ = write!(line, "{sign} {bound}: {} ({share})", column.count);
        }
        line
    };
    let mut text = format!("{}: blocks by the length of their lives\n\n", report.tape);
    let widest = bounds.iter().map(String::len).max().unwrap_or(0);
    let total = &report.table.total;
    for (column, bound) in total.histogram.iter().zip(&bounds) {
        let share = percent(column.count, total.allocated.count);
        let _ = writeln!(text, "{bound:>widest$} {share:>7}  {}", level(*column, units));
    }
    let _ = writeln!(
        text,
        "{:>widest$} {:>7}  {}\n",
        "all",
        "",
        level(total.allocated, units)
    );
    table(&report.table, options, &mut text, line);
    text
}

/// What rounds of work left behind.
pub fn text_epochs(report: &Epochs, options: TextOptions) -> String {
    let mut text = format!(
        "{}: {} span(s) of marker {}, of which {} can be judged\n",
        report.tape, report.spans, report.marker, report.judged
    );
    let _ = match report.after {
        0 => writeln!(text, "born in one of them and alive at its end"),
        after => writeln!(
            text,
            "born in one of them and alive at the end of the span {after} later"
        ),
    };
    if let (Some(from), Some(until)) = (&report.from, &report.until) {
        let _ = writeln!(
            text,
            "born from {}\nborn before {}",
            text_instant(from),
            text_instant(until)
        );
    }
    let units = options.units;
    let line = |sum: &crate::query::EpochSum| format!("{}, from {} span(s)", level(sum.level, units), sum.epochs);
    let _ = writeln!(text, "total: {}\n", line(&report.table.total));
    table(&report.table, options, &mut text, line);
    text
}

/// What `realloc` copied.
pub fn text_reallocs(report: &Reallocs, options: TextOptions) -> String {
    let units = options.units;
    let line = |sum: &crate::query::ReallocSum| {
        format!(
            "copied={}, calls={}, moved={}, grown={}, shrunk={}, chains={}, longest={}, largest={}",
            format_size(sum.copied, units),
            sum.level.count,
            sum.moved,
            sum.grown,
            sum.shrunk,
            sum.chains,
            sum.longest,
            format_size(u128::from(sum.largest), units)
        )
    };
    let mut text = format!("{}: blocks that realloc made of others\n", report.tape);
    let _ = writeln!(text, "total: {}\n", line(&report.table.total));
    table(&report.table, options, &mut text, line);
    text
}

/// Growth.
pub fn text_growth(report: &Growth, options: TextOptions) -> String {
    let units = options.units;
    let line = |sum: &crate::query::GrowthSum| {
        let rate = format_diff(sum.trend.slope.round() as i128, units);
        let mut line = format!(
            "{}, {rate}/s, monotonicity {:+.2}, {}",
            sum.trend.shape.words(),
            sum.trend.monotonicity,
            level(sum.level, units)
        );
        if let Some(seconds) = sum.seconds_to_limit {
            // A rate of nearly nothing takes for ever.
            let micros = (seconds * 1e6).min(1e18) as u64;
            let _ = write!(line, ", reaches the limit in {}", elapsed(Micros(micros)));
        }
        line
    };
    let mut text = format!("{}: growth from {}\n", report.tape, text_instant(&report.from));
    let _ = writeln!(
        text,
        "to {}, {} points",
        text_instant(&report.until),
        report.points.len()
    );
    if let Some(limit) = report.limit {
        let _ = writeln!(text, "limit: {}", format_size(u128::from(limit), units));
    }
    let _ = writeln!(text, "total: {}\n", line(&report.total));
    rows(&report.rows, options, &mut text, line);
    if report.omitted_rows > 0 {
        let _ = writeln!(text, "{} more", report.omitted_rows);
    }
    let _ = writeln!(text, "{} row(s) are level", report.level_rows);
    text
}

/// A level that may be nothing.
pub(super) fn short(level: Level, units: Units) -> String {
    format!("{} in {}", format_size(level.size, units), level.count)
}
