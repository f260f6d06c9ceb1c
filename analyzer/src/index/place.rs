//! Where the index of a tape goes.

use super::stamp::Fnv;
use std::ffi::OsString;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where indexes are looked for and written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IndexPlace {
    /// Beside the tape; where that cannot be written, in the user's cache (`$XDG_CACHE_HOME/heaptape`, `~/.cache/heaptape`).
    #[default]
    Beside,
    /// In this folder.
    Folder(PathBuf),
    /// No index is read or written.
    Nowhere,
}

/// An index could not be written.
#[derive(Debug)]
pub struct PlaceError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub cause: io::Error,
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write the index {}: {}", self.path.display(), self.cause)
    }
}

impl std::error::Error for PlaceError {}

impl IndexPlace {
    /// The files that may be the index of a tape, the best first.
    pub fn candidates(&self, tape: &Path) -> Vec<PathBuf> {
        match self {
            IndexPlace::Beside => {
                let mut beside = tape.as_os_str().to_owned();
                beside.push(".idx");
                let cache = cache_folder().map(|folder| folder.join(elsewhere(tape)));
                std::iter::once(PathBuf::from(beside)).chain(cache).collect()
            }
            IndexPlace::Folder(folder) => vec![folder.join(elsewhere(tape))],
            IndexPlace::Nowhere => Vec::new(),
        }
    }

    /// Folders for what does not fit into memory while a tape is replayed, the best first.
    pub fn folders(&self, tape: &Path) -> Vec<PathBuf> {
        let beside = tape.parent().map(|folder| match folder {
            folder if folder.as_os_str().is_empty() => PathBuf::from("."),
            folder => folder.to_owned(),
        });
        let named = match self {
            IndexPlace::Folder(folder) => Some(folder.clone()),
            IndexPlace::Beside | IndexPlace::Nowhere => None,
        };
        let others = [beside, cache_folder(), Some(std::env::temp_dir())];
        named.into_iter().chain(others.into_iter().flatten()).collect()
    }

    /// The folder for what is kept besides indexes and belongs to no single tape.
    pub fn shared_folder(&self) -> Option<PathBuf> {
        match self {
            IndexPlace::Beside => cache_folder(),
            IndexPlace::Folder(folder) => Some(folder.clone()),
            IndexPlace::Nowhere => None,
        }
    }

    /// Writes to the first of some files that can be written.
    pub(super) fn write(
        &self,
        candidates: &[PathBuf],
        write: impl Fn(&mut File) -> io::Result<()>,
    ) -> Result<(), PlaceError> {
        let mut first_error = None;
        for (number, path) in candidates.iter().enumerate() {
            // The cache is ours to make; a folder that a user names or a tape lies in is not.
            if number > 0 {
                let _ = path.parent().map(std::fs::create_dir_all);
            }
            match write_whole(path, &write) {
                Ok(()) => return Ok(()),
                Err(cause) => {
                    first_error.get_or_insert(PlaceError {
                        path: path.clone(),
                        cause,
                    });
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }
}

/// Writes a file under another name and renames it, so that it is there as a whole or not at all. Two that do so at once do not meet.
fn write_whole(path: &Path, write: impl Fn(&mut File) -> io::Result<()>) -> io::Result<()> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    // An index replaces an index; another file of this name is somebody's.
    if path.exists() && !is_index(path)? {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file of this name that is no index",
        ));
    }
    remove_abandoned(path);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}-{number}.tmp", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
    let written = write(&mut file).and_then(|()| std::fs::rename(&temporary, path));
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

fn is_index(path: &Path) -> io::Result<bool> {
    use std::io::Read;
    let mut begins = Vec::new();
    File::open(path)?.take(7).read_to_end(&mut begins)?;
    Ok(begins.is_empty() || begins == super::layout::MAGIC[..7])
}

/// Removes what builders left that were killed.
fn remove_abandoned(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return;
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let prefix = format!("{}.", name.to_string_lossy());
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let numbers = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".tmp"));
        let process = numbers.and_then(|numbers| numbers.split_once('-')?.0.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The user's folder for what can be made again.
fn cache_folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(cache.join("heaptape"))
}

/// The name of an index in a folder where those of many tapes lie: the tape's, and a number made of its path.
fn elsewhere(tape: &Path) -> OsString {
    use std::os::unix::ffi::OsStrExt;
    let full = std::fs::canonicalize(tape).unwrap_or_else(|_| tape.to_owned());
    let mut hash = Fnv::default();
    hash.bytes(full.as_os_str().as_bytes());
    let mut name = full.file_name().unwrap_or_default().to_owned();
    name.push(format!("-{:016x}.idx", hash.0));
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn where_an_index_cannot_lie_beside_its_tape_it_goes_to_the_cache() {
        let folder = std::env::temp_dir().join(format!("heaptape-place-{}", std::process::id()));
        let taken = folder.join("svc.tape.idx");
        // Not even the superuser writes over a folder.
        std::fs::create_dir_all(&taken).expect("a folder can be made");
        let cache = folder.join("cache/heaptape/svc.tape-1.idx");
        let bytes = super::super::layout::MAGIC;
        let written = IndexPlace::Beside.write(&[taken.clone(), cache.clone()], |file| file.write_all(&bytes));
        assert!(written.is_ok());
        assert_eq!(std::fs::read(&cache).expect("it was written"), bytes);
        let refused = IndexPlace::Beside.write(&[taken.clone(), taken.clone()], |file| file.write_all(&bytes));
        assert_eq!(refused.expect_err("there is no place").path, taken);
        // A builder that fails leaves nothing.
        let failed = IndexPlace::Beside.write(std::slice::from_ref(&cache), |_| Err(io::Error::other("full")));
        assert!(failed.is_err());
        let left = std::fs::read_dir(folder.join("cache/heaptape"))
            .expect("it is there")
            .count();
        assert_eq!(left, 1);
        std::fs::remove_dir_all(&folder).expect("it can be removed");
    }

    #[test]
    fn two_tapes_of_one_name_have_two_indexes_in_one_folder() {
        let place = IndexPlace::Folder("/indexes".into());
        let of = |tape: &str| place.candidates(Path::new(tape)).remove(0);
        assert_ne!(of("/a/svc.tape"), of("/b/svc.tape"));
        assert!(of("/a/svc.tape").to_string_lossy().starts_with("/indexes/svc.tape-"));
        let beside = IndexPlace::Beside.candidates(Path::new("dir/svc.tape")).remove(0);
        assert_eq!(beside, Path::new("dir/svc.tape.idx"));
    }
}
