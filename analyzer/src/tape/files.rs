//! What a name stands for: a tape, or the files that a recording was cut into.
//!
//! Where there is no file `svc.tape`, its files `svc.000001.tape` and so on are the tape. The first may be gone, as the recorder removes what is old; between two others none may be missing.

use super::{FileSource, OpenError};
use heaptape_format::{scan, Chain, Part, Source};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Missing files that a message names.
const MOST_NAMED: usize = 5;

/// The files of a recording by their numbers; none when it is a single file, or nothing.
pub(super) fn numbered(recording: &Path) -> Vec<(u32, PathBuf)> {
    let Some(name) = recording.file_name().filter(|_| !recording.exists()) else {
        return Vec::new();
    };
    let folder = match recording.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let number = Part::number(name.as_bytes(), entry.file_name().as_bytes())?;
            Some((number, recording.with_file_name(entry.file_name())))
        })
        .collect();
    files.sort_unstable();
    files
}

/// Whether a tape can be expected under this name.
pub fn is_tape(path: &Path) -> bool {
    path.is_file() || !numbered(path).is_empty()
}

/// The file that is written to last, of a recording in several files; else the file itself.
pub(super) fn latest(path: &Path) -> PathBuf {
    numbered(path).pop().map_or_else(|| path.into(), |(_, file)| file)
}

/// The bytes that a name stands for, and the file that says who may read them.
pub(super) fn open(path: &Path) -> Result<(Box<dyn Source>, PathBuf), OpenError> {
    let files = numbered(path);
    let (Some((first, file)), Some((last, _))) = (files.first(), files.last()) else {
        return Ok((Box::new(FileSource::open(path)?), path.into()));
    };
    let name = path.file_name().unwrap_or_default().as_bytes();
    let is_there = |number: &u32| files.binary_search_by_key(number, |(number, _)| *number).is_ok();
    let mut missing = (*first..*last).filter(|number| !is_there(number));
    let named: Vec<PathBuf> = missing
        .by_ref()
        .take(MOST_NAMED)
        .map(|number| path.with_file_name(OsString::from_vec(Part::name(name, number))))
        .collect();
    if !named.is_empty() {
        return Err(OpenError::Missing {
            more: missing.count(),
            files: named,
        });
    }
    let mut parts = Vec::new();
    for (_, file) in &files {
        let source = FileSource::open(file)?;
        let scan = scan(&source).map_err(|cause| OpenError::NotATape {
            path: file.clone(),
            cause,
        })?;
        parts.push((source, scan));
    }
    let chain = Chain::new(parts, *first).map_err(|cause| OpenError::NotInPlace {
        path: files[cause.file()].1.clone(),
        cause,
    })?;
    Ok((Box::new(chain), file.clone()))
}
