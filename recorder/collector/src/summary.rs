//! What the launcher says in the end.

use crate::channel::Summary;
use std::fmt::Write;
use std::path::Path;

/// Stacks of so many frames cost more than all else, since each event compares all of them.
const DEEP: u64 = 4096;

/// One line about a recording that is complete, or about what is missing from it.
pub fn line(summary: &Summary, tape: &Path) -> String {
    let mut line = format!("heaptape: {} events, {}", grouped(summary.events), size(summary.bytes));
    if summary.events > 0 {
        let _ = write!(
            line,
            ", {:.2} bytes per event",
            summary.bytes as f64 / summary.events as f64
        );
    }
    let _ = write!(line, ", {} lost", grouped(summary.lost));
    if summary.lost_processes > 0 {
        let _ = write!(line, ", {} processes not recorded", grouped(summary.lost_processes));
    }
    if let Some(mismatches) = summary.mismatches {
        let _ = write!(line, ", {} stacks differed", grouped(mismatches));
    }
    if summary.deepest >= DEEP {
        let deepest = grouped(summary.deepest);
        let _ = write!(
            line,
            "; stacks of up to {deepest} frames, which every event compares: --depth N compares and keeps N"
        );
    }
    if let Some(error) = &summary.error {
        let _ = write!(
            line,
            "; recording ended after {} events: {error}",
            grouped(summary.events)
        );
    }
    if let Some(note) = &summary.note {
        let _ = write!(line, "; {note}");
    }
    line.push_str(&next("; next: heaptape timeline", tape));
    line
}

/// A command to look at the tape with; nothing for a tape that went to standard output, as nobody here knows where it is.
pub fn next(command: &str, tape: &Path) -> String {
    if tape.as_os_str() == "-" {
        return String::new();
    }
    format!("{command} {}", shown(tape))
}

/// A path for a terminal, to be pasted into a shell: control characters are shown, blanks quoted.
pub fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |letter: char| letter.is_alphanumeric() || "/._-+=:@%,".contains(letter);
    if text.chars().all(plain) {
        return text.into_owned();
    }
    let mut quoted = String::from("'");
    for letter in text.chars() {
        match letter {
            '\'' => quoted.push_str("'\\''"),
            // Also what turns the direction of writing, and what takes no place.
            _ if letter.is_control()
                || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') =>
            {
                let _ = write!(quoted, "\\u{{{:x}}}", letter as u32);
            }
            _ => quoted.push(letter),
        }
    }
    quoted.push('\'');
    quoted
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_events_size_loss_and_what_to_type_next() {
        let summary = Summary {
            events: 1_234_567,
            bytes: 3 << 20,
            ..Summary::default()
        };
        assert_eq!(
            line(&summary, Path::new("a.tape")),
            "heaptape: 1,234,567 events, 3.0 MiB, 2.55 bytes per event, 0 lost; next: heaptape timeline a.tape"
        );
        assert!(line(&summary, Path::new("-")).ends_with("0 lost"));
        let deep = Summary {
            deepest: 100_000,
            ..summary.clone()
        };
        assert!(line(&deep, Path::new("-")).contains("0 lost; stacks of up to 100,000 frames"));
        let broken = Summary {
            error: Some("No space left on device".into()),
            lost: 1000,
            ..summary
        };
        let text = line(&broken, Path::new("a.tape"));
        assert!(
            text.contains("1,000 lost; recording ended after 1,234,567 events: No space left on device;"),
            "{text}"
        );
    }

    #[test]
    fn a_hostile_path_cannot_write_to_the_terminal() {
        assert_eq!(
            shown(Path::new("a b'c\u{1b}[31m\u{202e}")),
            "'a b'\\''c\\u{1b}[31m\\u{202e}'"
        );
        assert_eq!(shown(Path::new("/tmp/x-1.tape")), "/tmp/x-1.tape");
    }
}
