//! From plain data to what people and programs read. Nothing here asks questions of a heap.

mod arenas;
mod csv;
mod flamegraph;
mod folded;
mod homes;
mod json;
mod plot;
mod replay;
mod sites;
mod size;
mod space;
mod svg;
mod text;
mod time;

pub use arenas::text_arenas;
pub use csv::csv_statistics;
pub use flamegraph::{flamegraph, FlameOptions};
pub use folded::{folded, folded_lines};
pub use homes::{text_processes, text_threads};
pub use json::json;
pub use plot::plot;
pub(crate) use plot::{columns, live as live_at};
pub use replay::text_replay;
pub use sites::{text_epochs, text_growth, text_lifetimes, text_reallocs, text_temporary};
pub use size::{format_average, format_diff, format_size, Units};
pub use space::{text_fragmentation, text_rss, text_sizes};
pub use svg::timeline_svg;
pub use text::{text_diff, text_instant, text_statistics, text_tree, TextOptions};
pub use time::{elapsed, instant, wall_clock};
