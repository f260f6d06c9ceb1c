//! How alike two stacks are.

use super::Frame;

/// The share of frames that two stacks have in common, in order: 0 for none, 1 for all. Two empty ones are alike.
pub(super) fn stacks(a: &[Frame], b: &[Frame]) -> f64 {
    if a.is_empty() && b.is_empty() {
        return 1.0;
    }
    let mut row = vec![0usize; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (at, y) in b.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if is_same(x, y) {
                diagonal + 1
            } else {
                above.max(row[at])
            };
            diagonal = above;
        }
    }
    2.0 * row[b.len()] as f64 / (a.len() + b.len()) as f64
}

fn is_same(a: &Frame, b: &Frame) -> bool {
    let (a, b) = (&a.place, &b.place);
    match (&a.function, &b.function) {
        (Some(a), Some(b)) => a == b,
        (None, None) => (&a.library, a.offset) == (&b.library, b.offset),
        _ => false,
    }
}

/// How near two amounts are: 1 when equal, towards 0 with their ratio.
pub(super) fn amounts(a: f64, b: f64) -> f64 {
    let (less, more) = (a.min(b), a.max(b));
    if more <= 0.0 {
        1.0
    } else {
        less / more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;

    #[test]
    fn a_frame_more_or_less_takes_little_away() {
        let stack = |names: &str| -> Vec<Frame> {
            let place = |name: &str| crate::ci::Place {
                function: Some(Text::new(name)),
                ..Default::default()
            };
            let frame = |name| Frame {
                place: place(name),
                line: 0,
            };
            names.split_whitespace().map(frame).collect()
        };
        assert_eq!(stacks(&stack("a b c"), &stack("a b c")), 1.0);
        assert_eq!(stacks(&stack("a c d"), &stack("a b c d")), 6.0 / 7.0);
        assert_eq!(stacks(&stack("a b"), &stack("c d")), 0.0);
        assert_eq!(stacks(&stack(""), &stack("")), 1.0);
    }
}
