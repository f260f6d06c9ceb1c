//! Folded stacks: `outer;inner 576`, one stack a line, as flame graph tools read them.

use crate::query::{Flame, Measure};
use std::fmt::Write;

/// A frame's name without the characters that the format gives a meaning.
fn frame(name: &str) -> String {
    name.replace(';', ":").replace(['\n', '\r'], " ")
}

/// All stacks with a number other than 0.
pub fn folded(flame: &Flame, measure: Measure) -> String {
    folded_lines(flame, measure, false)
        .into_iter()
        .fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
}

/// One line a stack. With `both`, the older number comes before the newer.
pub fn folded_lines(flame: &Flame, measure: Measure, both: bool) -> Vec<String> {
    let mut lines: Vec<String> = Vec::with_capacity(flame.lines.len());
    for line in &flame.lines {
        let (old, new) = (measure.of(line.old), measure.of(line.new));
        if new == 0 && !(both && old > 0) {
            continue;
        }
        let stack = line.frames.iter().map(|name| frame(name)).collect::<Vec<_>>().join(";");
        lines.push(if both {
            format!("{stack} {old} {new}")
        } else {
            format!("{stack} {new}")
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::FlameLine;
    use crate::table::Level;

    #[test]
    fn a_name_cannot_fake_a_frame_or_a_line() {
        let line = FlameLine {
            frames: vec!["a;b".into(), "c\nd 5".into()],
            old: Level::default(),
            new: Level { size: 7, count: 1 },
        };
        assert_eq!(folded(&Flame { lines: vec![line] }, Measure::Bytes), "a:b;c d 5 7\n");
    }
}
