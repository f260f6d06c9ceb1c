//! From plain data to what people and programs read. Nothing here asks questions of a heap.

mod size;
mod time;

pub use size::{format_average, format_diff, format_size, Units};
pub use time::{elapsed, instant, wall_clock};
