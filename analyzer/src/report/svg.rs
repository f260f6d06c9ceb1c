//! The timeline as a picture.

use super::size::{format_size, Units};
use super::text::text_instant;
use super::time::elapsed;
use crate::query::Timeline;
use crate::text::escape_markup;
use heaptape_format::Micros;
use std::fmt::Write;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 60.0;
/// Lines across the picture.
const GRID: u32 = 4;
/// Markers that are drawn; more would be a wall.
const MOST_MARKERS: usize = 50;

/// Where values lie in the picture.
struct Scale {
    begin: u64,
    duration: f64,
    top: f64,
}

impl Scale {
    fn x(&self, micros: u64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * micros.saturating_sub(self.begin) as f64 / self.duration
    }

    fn y(&self, value: u128) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value as f64 / self.top
    }
}

/// An SVG with live bytes as an area, resident and mapped memory as lines, the peak and the markers.
pub fn timeline_svg(timeline: &Timeline, units: Units) -> String {
    let values = timeline.points.iter().flat_map(|point| [point.highest, point.mapped]);
    // What is older than full history has no heap to stand beside.
    let samples = timeline.samples.iter();
    let samples = samples.filter(|sample| sample.micros >= timeline.span[0].micros);
    let top = values
        .chain(samples.clone().map(|sample| sample.rss))
        .max()
        .unwrap_or(0)
        .max(1);
    let [begin, end] = [timeline.span[0].micros, timeline.span[1].micros];
    let scale = Scale {
        begin,
        duration: end.saturating_sub(begin).max(1) as f64,
        top: top as f64,
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{}</text>\n",
        escape_markup(&format!("{}: heap over time", timeline.tape))
    );
    grid(timeline, &scale, top, units, &mut svg);
    area(timeline, &scale, &mut svg);
    let mapped = timeline.points.iter().map(|point| (point.micros, point.mapped));
    line(
        mapped,
        "#7a8a99",
        "address space mapped (beside the heap)",
        0,
        &scale,
        &mut svg,
    );
    let rss = samples.map(|sample| (sample.micros, sample.rss));
    line(rss, "#c0392b", "resident memory (system)", 1, &scale, &mut svg);
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" fill=\"#2f6fab\">live heap bytes</text>",
        LEFT + 520.0,
        HEIGHT - 8.0
    );
    let markers = timeline.markers.iter().filter(|marker| marker.live.is_some());
    for marker in markers.take(MOST_MARKERS) {
        let x = scale.x(marker.at.micros);
        let _ = writeln!(
            svg,
            "<g><line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\" stroke=\"#888\" stroke-dasharray=\"3 3\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#555\" font-size=\"10\">{}</text></g>",
            HEIGHT - BOTTOM,
            x + 3.0,
            TOP + 10.0,
            escape_markup(&format!("{}#{}", marker.name, marker.number))
        );
    }
    if let Some(peak) = &timeline.peak {
        let (x, y) = (scale.x(peak.at.micros), scale.y(peak.live.size));
        let anchor = if x > WIDTH * 0.6 { "end" } else { "start" };
        let label = format!(
            "peak {} at {}",
            format_size(peak.live.size, units),
            text_instant(&peak.at)
        );
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#e67e22\"/>\
             <text x=\"{x:.1}\" y=\"44\" text-anchor=\"{anchor}\" fill=\"#e67e22\">{}</text>",
            escape_markup(&label)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn grid(timeline: &Timeline, scale: &Scale, top: u128, units: Units, svg: &mut String) {
    for step in 0..=GRID {
        let value = top * u128::from(step) / u128::from(GRID);
        let y = scale.y(value);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            format_size(value, units)
        );
        let [begin, end] = [timeline.span[0].micros, timeline.span[1].micros];
        let passed = u128::from(end.saturating_sub(begin)) * u128::from(step) / u128::from(GRID);
        let micros = begin + passed as u64;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            scale.x(micros),
            HEIGHT - BOTTOM + 18.0,
            elapsed(Micros(micros))
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.1}\" fill=\"#555\">{}</text>",
        HEIGHT - BOTTOM + 34.0,
        escape_markup(&format!("starts {}", timeline.span[0].wall_clock))
    );
}

fn area(timeline: &Timeline, scale: &Scale, svg: &mut String) {
    let mut points = format!("{LEFT:.1},{:.1}", HEIGHT - BOTTOM);
    let mut begins = scale.begin;
    for point in &timeline.points {
        let y = scale.y(point.highest);
        let _ = write!(
            points,
            " {:.1},{y:.1} {:.1},{y:.1}",
            scale.x(begins),
            scale.x(point.micros)
        );
        begins = point.micros;
    }
    let _ = write!(points, " {:.1},{:.1}", scale.x(begins), HEIGHT - BOTTOM);
    let _ = writeln!(
        svg,
        "<polygon points=\"{points}\" fill=\"#2f6fab\" fill-opacity=\"0.55\" stroke=\"#2f6fab\"/>"
    );
}

fn line(
    values: impl Iterator<Item = (u64, u128)>,
    colour: &str,
    name: &str,
    place: u32,
    scale: &Scale,
    svg: &mut String,
) {
    let points: Vec<String> = values
        .map(|(micros, value)| format!("{:.1},{:.1}", scale.x(micros), scale.y(value)))
        .collect();
    if !points.is_empty() {
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"{colour}\">{name}</text>",
            points.join(" "),
            LEFT + 260.0 * f64::from(place),
            HEIGHT - 8.0
        );
    }
}
