//! The timeline as a drawing of characters.

use super::size::{format_size, Units};
use super::text::text_instant;
use super::time::elapsed;
use crate::query::{MarkerPoint, Timeline};
use heaptape_format::Micros;
use std::fmt::Write;

/// Rows of the drawing.
const HEIGHT: usize = 12;
/// Width of the labels at its left.
const LABEL: usize = 10;
/// Heights of a cell in eighths.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Markers that are named below the drawing.
const MOST_MARKERS: usize = 12;

/// Columns of a drawing that shall be `width` characters wide.
pub(crate) const fn columns(width: usize) -> usize {
    let room = width.saturating_sub(LABEL + 3);
    if room < 20 {
        20
    } else {
        room
    }
}

/// The drawing and what belongs to it. It has one column for each point of the timeline.
pub fn plot(timeline: &Timeline, units: Units) -> String {
    let points = &timeline.points;
    let top = points.iter().map(|point| point.highest).max().unwrap_or(0).max(1);
    let [begin, end] = [timeline.span[0].micros, timeline.span[1].micros];
    let duration = end.saturating_sub(begin);
    let column = |micros: u64| {
        let at = u128::from(micros.saturating_sub(begin)) * points.len() as u128 / u128::from(duration.max(1));
        (at as usize).min(points.len().saturating_sub(1))
    };
    let mut text = format!(
        "{}: {} from {}\n",
        timeline.tape,
        elapsed(Micros(duration)),
        timeline.span[0].wall_clock
    );
    if let Some(peak) = &timeline.peak {
        let _ = writeln!(text, "{:LABEL$}  {}▼ peak", "", " ".repeat(column(peak.at.micros)));
    }
    for row in (0..HEIGHT).rev() {
        let label = match row {
            row if row == HEIGHT - 1 => format_size(top, units),
            row if row == HEIGHT / 2 => format_size(top * (row as u128 + 1) / HEIGHT as u128, units),
            _ => String::new(),
        };
        let _ = write!(text, "{label:>LABEL$} {}", if label.is_empty() { '│' } else { '┤' });
        let cells: String = points
            .iter()
            .map(|point| BARS[eighths(point.highest, top, row)])
            .collect();
        let _ = writeln!(text, "{}", cells.trim_end());
    }
    let _ = writeln!(text, "{:>LABEL$} └{}", "0 B", "─".repeat(points.len()));
    if !timeline.markers.is_empty() {
        let mut line = vec![' '; points.len()];
        for marker in timeline.markers.iter().filter(|marker| marker.live.is_some()) {
            line[column(marker.at.micros)] = '▲';
        }
        let _ = writeln!(
            text,
            "{:LABEL$}  {}",
            "",
            line.into_iter().collect::<String>().trim_end()
        );
    }
    axis(points.len(), begin, end, &mut text);
    text.push('\n');
    facts(timeline, units, &mut text);
    text
}

/// What was alive at a marker, in words.
pub(crate) fn live(marker: &MarkerPoint, units: Units) -> String {
    match marker.live {
        Some(level) => format!("{} live", format_size(level.size, units)),
        None => "before full history".to_owned(),
    }
}

/// How many eighths of a cell are filled. Something alive shows as at least one eighth of the lowest cell.
fn eighths(value: u128, top: u128, row: usize) -> usize {
    let all = HEIGHT as u128 * 8;
    let filled = value * all / top;
    let filled = if value > 0 { filled.max(1) } else { 0 };
    filled.saturating_sub(row as u128 * 8).min(8) as usize
}

fn axis(width: usize, begin: u64, end: u64, text: &mut String) {
    let middle = begin + end.saturating_sub(begin) / 2;
    let labels = [(0, begin), (width / 2, middle), (width, end)];
    let mut line = String::new();
    for (at, micros) in labels {
        let label = elapsed(Micros(micros));
        let begins = at.saturating_sub(if at == 0 {
            0
        } else if at == width {
            label.len()
        } else {
            label.len() / 2
        });
        while line.chars().count() < begins {
            line.push(' ');
        }
        line.push_str(&label);
    }
    let _ = writeln!(text, "{:LABEL$}  {line}", "");
}

fn facts(timeline: &Timeline, units: Units, text: &mut String) {
    match &timeline.peak {
        None => text.push_str("no allocation was recorded\n"),
        Some(peak) => {
            let _ = writeln!(
                text,
                "peak    {} in {} block(s) at {}",
                format_size(peak.live.size, units),
                peak.live.count,
                text_instant(&peak.at)
            );
        }
    }
    let _ = writeln!(
        text,
        "end     {} in {} block(s) at {}",
        format_size(timeline.end.size, units),
        timeline.end.count,
        text_instant(&timeline.span[1])
    );
    if let Some(highest) = timeline
        .points
        .iter()
        .map(|point| point.mapped)
        .max()
        .filter(|&mapped| mapped > 0)
    {
        let _ = writeln!(text, "mapped  up to {} beside the heap", format_size(highest, units));
    }
    if let Some(highest) = timeline.samples.iter().max_by_key(|sample| sample.rss) {
        let _ = writeln!(
            text,
            "rss     up to {} as the system saw it, at {} ({} sample(s))",
            format_size(highest.rss, units),
            elapsed(Micros(highest.micros)),
            timeline.samples.len()
        );
    }
    for marker in timeline.markers.iter().take(MOST_MARKERS) {
        let _ = writeln!(
            text,
            "▲ {}#{}  {} at {}",
            marker.name,
            marker.number,
            live(marker, units),
            text_instant(&marker.at)
        );
    }
    if timeline.markers.len() > MOST_MARKERS {
        let _ = writeln!(
            text,
            "▲ {} more marker(s); --json lists all",
            timeline.markers.len() - MOST_MARKERS
        );
    }
}
