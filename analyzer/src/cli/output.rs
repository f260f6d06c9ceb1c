//! Where results go: stdout, or a file that did not exist.

use super::Failure;
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
