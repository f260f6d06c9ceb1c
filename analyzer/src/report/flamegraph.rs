//! Flame graphs as SVG, drawn by inferno.

use super::folded::folded_lines;
use crate::query::{Flame, Measure};
use inferno::flamegraph::{color::BackgroundColor, from_lines, Direction, Options};

/// What is written on a flame graph.
#[derive(Clone, Debug, Default)]
pub struct FlameOptions {
    /// Headline.
    pub title: String,
    /// Below it.
    pub subtitle: String,
    /// What the width means.
    pub measure: Measure,
    /// Colour by the change from the older to the newer state: red grew, blue shrank.
    pub is_diff: bool,
}

/// An SVG. A flame graph without any stack says so.
///
/// # Errors
/// When there is nothing to draw, or drawing fails.
pub fn flamegraph(flame: &Flame, options: &FlameOptions) -> Result<Vec<u8>, String> {
    // The older state counts for the colour only, so a stack that is gone altogether has no width; it is named in `heaptape diff`.
    let lines = folded_lines(flame, options.measure, options.is_diff);
    if lines.is_empty() {
        return Err("there is nothing to draw: no block matches".to_owned());
    }
    let mut drawing = Options::default();
    drawing.title = options.title.clone();
    drawing.subtitle = Some(options.subtitle.clone());
    drawing.count_name = match options.measure {
        Measure::Bytes => "bytes".to_owned(),
        Measure::Blocks => "blocks".to_owned(),
    };
    drawing.name_type = "Function:".to_owned();
    drawing.direction = Direction::Straight;
    drawing.bgcolors = Some(BackgroundColor::Flat((0xff, 0xff, 0xff).into()));
    // Colours hang on names, not on chance: the same question gives the same bytes.
    drawing.hash = true;
    drawing.deterministic = true;
    let mut svg = Vec::new();
    from_lines(&mut drawing, lines.iter().map(String::as_str), &mut svg).map_err(|error| error.to_string())?;
    Ok(svg)
}
