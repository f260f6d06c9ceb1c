//! Where results go: stdout, or a file that did not exist.

use super::Failure;
use anstyle::{AnsiColor, Style};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Prints a result.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::writing("stdout", &error))
}

/// Prints a result with what grew in red and what shrank in green, if stdout shows colours.
pub(super) fn print_difference(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    stdout
        .write_all(painted(text).as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::writing("stdout", &error))
}

/// The text with colours on `(+1 KiB)` and `(-1)`.
fn painted(text: &str) -> String {
    let style = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
    let (grew, shrank) = (style(AnsiColor::Red), style(AnsiColor::Green));
    let mut painted = String::with_capacity(text.len() * 5 / 4);
    let mut rest = text;
    while let Some(open) = rest.find('(') {
        let (before, inside) = rest.split_at(open);
        let length = inside.find(')').map_or(inside.len(), |close| close + 1);
        let (bracket, after) = inside.split_at(length);
        let is_number = bracket[1..].starts_with(['+', '-']) && bracket[2..].starts_with(|c: char| c.is_ascii_digit());
        painted.push_str(before);
        match bracket {
            _ if !is_number || bracket.starts_with("(+0") => painted.push_str(bracket),
            _ => {
                let style = if bracket.starts_with("(+") { grew } else { shrank };
                painted.push_str(&format!("{style}{bracket}{style:#}"));
            }
        }
        rest = after;
    }
    painted + rest
}

/// Writes a result into a file, or to stdout for `-`. An existing file is refused without `force`.
pub(super) fn write(path: &Path, bytes: &[u8], force: bool) -> Result<(), Failure> {
    if path == Path::new("-") {
        let mut stdout = std::io::stdout().lock();
        return stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::writing("stdout", &error));
    }
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let shown = path.display().to_string();
    let mut file = options.open(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::Failed(format!("{shown} exists; give another name, or --force to overwrite it"))
        }
        _ => Failure::writing(&shown, &error),
    })?;
    file.write_all(bytes).map_err(|error| Failure::writing(&shown, &error))
}

/// Says on stderr where a result went.
pub(super) fn wrote(path: &Path) {
    if path != Path::new("-") {
        let shown = crate::text::escape_message(&path.display().to_string());
        anstream::eprintln!("wrote {shown}");
    }
}

#[cfg(test)]
mod tests {
    use super::painted;

    #[test]
    fn only_what_changed_has_a_colour() {
        assert_eq!(
            painted("f(x): size=2 KiB (+1 KiB), count=1 (+0), average=2 B\n2 more: (-5 B)\n(unclosed"),
            "f(x): size=2 KiB \u{1b}[31m(+1 KiB)\u{1b}[0m, count=1 (+0), average=2 B\n2 more: \u{1b}[32m(-5 B)\u{1b}[0m\n(unclosed"
        );
        assert_eq!(painted("(é) (+"), "(é) (+");
    }
}
