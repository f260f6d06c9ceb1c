//! Where the tape goes.

use crate::collect::plain;
use crate::output::{Sink, Stream};
use crate::summary::shown;
use heaptape_format::Part;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The default name: in the current folder, telling program and process.
pub fn default_name(program: &OsStr, pid: u32) -> PathBuf {
    let base = Path::new(program).file_name().unwrap_or(OsStr::new("program"));
    // A file name is at most 255 bytes; the rest of ours needs less than 32.
    let base = &base.as_bytes()[..base.len().min(200)];
    let mut name = b"heaptape.".to_vec();
    name.extend(
        base.iter()
            .map(|byte| if byte.is_ascii_control() { b'_' } else { *byte }),
    );
    name.extend_from_slice(format!(".{pid}.tape").as_bytes());
    PathBuf::from(OsString::from_vec(name))
}

/// Whether the tape goes to standard output.
pub fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// What the tape is written to.
#[derive(Debug)]
pub enum Destination {
    /// A file of its own.
    File(File),
    /// Standard output.
    Stream(File),
}

impl Destination {
    /// The descriptor that the collector needs.
    pub fn fd(&self) -> RawFd {
        match self {
            Destination::File(file) | Destination::Stream(file) => file.as_raw_fd(),
        }
    }

    /// What the collector writes to.
    pub fn sink(self) -> Box<dyn Sink> {
        match self {
            Destination::File(file) => Box::new(file),
            Destination::Stream(file) => Box::new(Stream(file)),
        }
    }
}

/// A tape that was opened.
#[derive(Debug)]
pub struct Opened {
    /// To write to.
    pub to: Destination,
    /// It was not there before, so it may be taken away again if nothing comes of it.
    pub fresh: bool,
}

/// The first file of a recording that is cut into files. With `force`, the files of an earlier one of this name are taken away.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub fn first_file(recording: &Path, force: bool) -> Result<PathBuf, String> {
    if is_stdout(recording) {
        return Err("-: --rotate makes files, and standard output is none; name a file with -o".into());
    }
    let Some(name) = recording.file_name() else {
        return Err(format!("{}: expected the name of a file to write", shown(recording)));
    };
    let folder = match recording.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // A folder that cannot be read is found out by whoever makes a file there.
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.file_name()).filter(|file| {
        // A file of the name of the recording would be taken for all of it.
        file == name || Part::number(name.as_bytes(), file.as_bytes()).is_some()
    });
    for file in files {
        let path = recording.with_file_name(file);
        if !force {
            return Err(format!(
                "{}: exists already, from another recording of this name; choose another name with -o, or remove all its files with --force",
                shown(&path)
            ));
        }
        if !std::fs::symlink_metadata(&path).is_ok_and(|facts| facts.is_file()) {
            return Err(format!("{}: is not a regular file; a tape needs one", shown(&path)));
        }
        std::fs::remove_file(&path)
            .map_err(|error| format!("{}: cannot be removed: {}", shown(&path), plain(&error)))?;
    }
    let first = OsString::from_vec(Part::name(name.as_bytes(), 1));
    Ok(recording.with_file_name(first))
}

/// Opens a tape. Nothing that exists is touched without `force`, and with it only a regular file is emptied.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub fn open(path: &Path, force: bool) -> Result<Opened, String> {
    if is_stdout(path) {
        return stdout();
    }
    let mut options = OpenOptions::new();
    // Without waiting: opening a named pipe would wait for a reader.
    options
        .write(true)
        .mode(0o666)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            return Ok(Opened {
                to: Destination::File(file),
                fresh: true,
            })
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(explain(path, &error)),
    }
    let kind = std::fs::metadata(path)
        .map_err(|error| explain(path, &error))?
        .file_type();
    if kind.is_dir() {
        return Err(format!(
            "{}: is a folder; expected the name of a file to write",
            shown(path)
        ));
    }
    if kind.is_fifo() || kind.is_socket() || kind.is_block_device() {
        return Err(format!("{}: is not a regular file; a tape needs one", shown(path)));
    }
    if !force {
        return Err(format!(
            "{}: exists already; choose another name with -o, or overwrite it with --force",
            shown(path)
        ));
    }
    let file = options.open(path).map_err(|error| explain(path, &error))?;
    let facts = file.metadata().map_err(|error| explain(path, &error))?;
    if facts.is_file() {
        file.set_len(0).map_err(|error| explain(path, &error))?;
    }
    Ok(Opened {
        to: Destination::File(file),
        fresh: false,
    })
}

fn stdout() -> Result<Opened, String> {
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        return Err("-: standard output is a terminal, where nobody can read a tape; send it to a file or a pipe, or name a file with -o".into());
    }
    let copy = stdout.as_fd().try_clone_to_owned();
    let copy = copy.map_err(|error| format!("-: standard output cannot be written to: {}", plain(&error)))?;
    Ok(Opened {
        to: Destination::Stream(copy.into()),
        fresh: false,
    })
}

fn explain(path: &Path, error: &Error) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match (error.kind(), folder) {
        (ErrorKind::NotFound, Some(folder)) if !folder.exists() => {
            format!(
                "{}: there is no folder {} to write the tape into",
                shown(path),
                shown(folder)
            )
        }
        _ => format!("{}: the tape cannot be written: {}", shown(path), plain(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("heaptape-tape-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn nothing_is_overwritten_without_force() {
        let folder = folder("force");
        let path = folder.join("a.tape");
        std::fs::write(&path, b"precious").unwrap();
        let refusal = open(&path, false).unwrap_err();
        assert!(
            refusal.contains("exists already") && refusal.contains("--force"),
            "{refusal}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        drop(open(&path, true).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_cannot_be_a_tape_is_refused_in_plain_words() {
        let folder = folder("kinds");
        let pipe = folder.join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        for (path, force, words) in [
            (folder.clone(), true, "is a folder"),
            (pipe, true, "not a regular file"),
            (folder.join("missing/a.tape"), false, "no folder"),
            (PathBuf::from("/proc/a.tape"), false, "cannot be written"),
        ] {
            let refusal = open(&path, force).unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_default_name_tells_program_and_process() {
        assert_eq!(
            default_name(OsStr::new("/usr/bin/svc"), 7),
            Path::new("heaptape.svc.7.tape")
        );
        assert_eq!(
            default_name(OsStr::from_bytes(b"a\x1bb"), 7),
            Path::new("heaptape.a_b.7.tape")
        );
        assert_eq!(
            default_name(OsStr::new(&"x".repeat(300)), 7).as_os_str().len(),
            200 + "heaptape..7.tape".len()
        );
    }
}
