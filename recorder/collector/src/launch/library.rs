//! The preload library: where it is, and the environment that makes a program load it.

use crate::summary::shown;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Its file name.
pub const NAME: &str = "libheaptape_preload.so";

/// Finds the library: where `HEAPTAPE_PRELOAD` says, next to this program, or in `../lib/heaptape`.
///
/// # Errors
/// One line that says where it was looked for.
pub fn find() -> Result<PathBuf, String> {
    let places: Vec<PathBuf> = match std::env::var_os("HEAPTAPE_PRELOAD").filter(|path| !path.is_empty()) {
        Some(path) => vec![path.into()],
        None => {
            let own = std::env::current_exe().unwrap_or_default();
            let folder = own.parent().unwrap_or(Path::new("/"));
            vec![folder.join(NAME), folder.join("../lib/heaptape").join(NAME)]
        }
    };
    let Some(found) = places
        .iter()
        .find_map(|place| std::fs::canonicalize(place).ok().filter(|path| path.is_file()))
    else {
        let places: Vec<String> = places.iter().map(|place| shown(place)).collect();
        return Err(format!(
            "the recording library is not at {}; put it there, or name it in HEAPTAPE_PRELOAD",
            places.join(" nor at ")
        ));
    };
    if found
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| matches!(byte, b':' | b' ' | b'\t' | b'\n'))
    {
        return Err(format!(
            "{}: the dynamic loader cannot load a library from a path with blanks or colons; copy it elsewhere and name it in HEAPTAPE_PRELOAD",
            shown(&found)
        ));
    }
    Ok(found)
}

/// This process's environment with the library and the segment added, each variable at its old place.
pub fn environment(library: &Path, segment: &str) -> Vec<CString> {
    let mut preload = library.as_os_str().to_os_string();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    let mut set: Vec<(&str, Option<OsString>)> = vec![
        ("LD_PRELOAD", Some(preload)),
        ("HEAPTAPE_SEGMENT", Some(segment.into())),
    ];
    let mut environment = Vec::new();
    for (name, value) in std::env::vars_os() {
        let ours = set.iter_mut().find(|(own, _)| OsStr::new(own) == name);
        let value = match ours {
            Some((_, new)) => match new.take() {
                Some(new) => new,
                // A name that stands there twice.
                None => continue,
            },
            None => value,
        };
        environment.push(variable(&name, &value));
    }
    for (name, value) in set {
        if let Some(value) = value {
            environment.push(variable(OsStr::new(name), &value));
        }
    }
    environment
}

fn variable(name: &OsStr, value: &OsStr) -> CString {
    let mut text = name.to_os_string();
    text.push("=");
    text.push(value);
    // What comes from the environment or a path holds no NUL.
    CString::new(text.into_vec()).unwrap_or_default()
}
