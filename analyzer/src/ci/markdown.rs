//! A verdict as GitHub-flavoured markdown.

use super::text::{change_line, conclusion, measured, site_line};
use super::{Outcome, Verdict};
use crate::text::escape_markup;
use std::fmt::Write as _;

pub(super) fn markdown(verdict: &Verdict, notes: &[String], flamegraph: Option<&str>) -> String {
    let word = match verdict.outcome {
        Outcome::Holds => "✅",
        Outcome::Unjudged => "⚠️",
        Outcome::Broken => "❌",
    };
    let mut text = format!("### {word} Heap: {}\n\n", safe(&conclusion(verdict)));
    for note in notes.iter().chain(&verdict.remarks) {
        let _ = writeln!(text, "> {}\n", safe(note));
    }
    text.push_str("| | of | limit | measured |\n|---|---|---|---|\n");
    for judged in &verdict.limits {
        let mark = match judged.outcome {
            Outcome::Holds => "✅",
            Outcome::Unjudged => "⚠️",
            Outcome::Broken => "❌",
        };
        let _ = writeln!(
            text,
            "| {mark} | {} | {} | {} |",
            safe(judged.scope.as_str()),
            safe(&judged.limit),
            safe(&measured(judged))
        );
    }
    for judged in verdict.limits.iter().filter(|judged| !judged.sites.is_empty()) {
        let _ = writeln!(
            text,
            "\n#### {}: {}\n",
            safe(judged.scope.as_str()),
            safe(&judged.limit)
        );
        for site in &judged.sites {
            let _ = writeln!(
                text,
                "<details><summary>{}</summary>\n<pre>",
                escape_markup(&site_line(judged.metric, site))
            );
            for frame in &site.stack {
                let _ = writeln!(text, "{}", escape_markup(frame.as_str()));
            }
            text.push_str("</pre>\n</details>\n");
        }
    }
    if let Some(place) = flamegraph {
        let _ = writeln!(
            text,
            "\nWhat grew and what shrank: [differential flame graph]({})",
            link(place)
        );
    }
    if !verdict.changes.is_empty() {
        text.push_str("\n<details><summary>Sites that are not where they were</summary>\n\n");
        for change in &verdict.changes {
            let _ = writeln!(text, "- {}", safe(&change_line(change)));
        }
        text.push_str("\n</details>\n");
    }
    text
}

/// Text that cannot be taken for markup, a cell's end, or a mention of somebody.
fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push(' '),
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '@' => safe.push_str("&#64;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '~' | '!' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    safe
}

fn link(place: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || "/:.-_~?&=%+#,".contains(c);
    place
        .chars()
        .map(|c| {
            if kept(c) {
                c.to_string()
            } else {
                format!("%{:02X}", c as u32 & 0xff)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_a_tape_cannot_open_markup_or_end_a_cell() {
        assert_eq!(safe("a|b<c>@x*\n"), "a\\|b&lt;c&gt;&#64;x\\* ");
        assert_eq!(link("x.svg)(<a>"), "x.svg%29%28%3Ca%3E");
    }
}
