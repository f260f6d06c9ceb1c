//! From plain data to what people and programs read. Nothing here asks questions of a heap.

mod arenas;
mod csv;
mod flamegraph;
mod folded;
mod json;
mod plot;
mod size;
mod svg;
mod text;
mod time;

pub use arenas::text_arenas;
pub use csv::csv_statistics;
pub use flamegraph::{flamegraph, FlameOptions};
pub use folded::{folded, folded_lines};
pub use json::json;
pub(crate) use plot::columns;
pub use plot::plot;
pub use size::{format_average, format_diff, format_size, Units};
pub use svg::timeline_svg;
pub use text::{text_diff, text_instant, text_statistics, text_tree, TextOptions};
pub use time::{elapsed, instant, wall_clock};
