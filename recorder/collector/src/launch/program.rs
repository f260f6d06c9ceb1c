//! Which file a command names, and whether it can be recorded.

use crate::host::elf;
use crate::summary::shown;
use crate::sys::process::executable;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why a program is not started.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such program.
    #[error("{}: not found{}", shown(.file), if .file.as_os_str().as_bytes().contains(&b'/') { "" } else { " in the folders of PATH" })]
    NotFound {
        /// As it was called.
        file: PathBuf,
    },
    /// There is, but it may not be executed.
    #[error("{}: cannot be executed: {reason}", shown(.file))]
    NotExecutable {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// Nothing can be loaded into it.
    #[error("{}: statically linked: it cannot be recorded, since no library can be loaded into it; link it dynamically, or use --anyway to start it nevertheless (programs that it starts are recorded)", shown(.file))]
    Static {
        /// The file.
        file: PathBuf,
    },
    /// The system would ignore LD_PRELOAD.
    #[error("{}: runs with the rights of another user or with privileges of its own ({reason}): the system loads no library into such a program; record it as that user, or use --anyway to start it nevertheless", shown(.file))]
    Privileged {
        /// The file.
        file: PathBuf,
        /// What gives it the rights.
        reason: &'static str,
    },
    /// It ends itself when another library is preloaded.
    #[error("{}: built with AddressSanitizer, which ends a program that another library is preloaded into: record a build without it, or use --anyway with ASAN_OPTIONS=verify_asan_link_order=0", shown(.file))]
    AddressSanitizer {
        /// The file.
        file: PathBuf,
    },
    /// Another kind of processor.
    #[error("{}: built for another machine ({found}) than this recorder ({own}): use the recorder built for it, or --anyway to start it nevertheless", shown(.file))]
    OtherMachine {
        /// The file.
        file: PathBuf,
        /// What it was built for.
        found: String,
        /// What this program was built for.
        own: String,
    },
}

impl Refusal {
    /// The exit status that a shell gives for it, or 2 for what only the recorder refuses.
    pub fn status(&self) -> u8 {
        match self {
            Refusal::NotFound { .. } => 127,
            Refusal::NotExecutable { .. } => 126,
            _ => 2,
        }
    }

    /// Whether `--anyway` overrules it.
    pub fn can_be_overruled(&self) -> bool {
        self.status() == 2
    }
}

/// Finds the file that a command names, as `execvp` does.
///
/// # Errors
/// [`Refusal::NotFound`] and [`Refusal::NotExecutable`].
pub fn find(command: &OsStr) -> Result<PathBuf, Refusal> {
    let name = Path::new(command);
    if command.is_empty() {
        return Err(Refusal::NotFound { file: name.into() });
    }
    if command.as_bytes().contains(&b'/') {
        return usable(name).map(|()| name.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut refusal = Refusal::NotFound { file: name.into() };
    for folder in std::env::split_paths(&path) {
        // An empty part is the current folder.
        let file = if folder.as_os_str().is_empty() {
            Path::new(".").join(name)
        } else {
            folder.join(name)
        };
        match usable(&file) {
            Ok(()) => return Ok(file),
            Err(Refusal::NotFound { .. }) => {}
            Err(other) => refusal = other,
        }
    }
    Err(refusal)
}

fn usable(file: &Path) -> Result<(), Refusal> {
    let facts = std::fs::metadata(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => Refusal::NotExecutable {
            file: file.into(),
            reason: "permission denied",
        },
        _ => Refusal::NotFound { file: file.into() },
    })?;
    if facts.is_dir() {
        return Err(Refusal::NotExecutable {
            file: file.into(),
            reason: "it is a folder",
        });
    }
    if !executable(file) {
        return Err(Refusal::NotExecutable {
            file: file.into(),
            reason: "permission denied",
        });
    }
    Ok(())
}

/// Whether the recorder can be loaded into this program; for a script, into its interpreter.
///
/// # Errors
/// The reason why not.
pub fn check(file: &Path) -> Result<(), Refusal> {
    let file = executed(file);
    usable(&file)?;
    // Something that is neither a script nor ELF is the system's or the shell's business.
    let Some(found) = elf::read(&file) else { return Ok(()) };
    if let Some(own) = elf::read(Path::new("/proc/self/exe")) {
        if (own.machine, own.pointer_bytes) != (found.machine, found.pointer_bytes) {
            return Err(Refusal::OtherMachine {
                file,
                found: machine(&found),
                own: machine(&own),
            });
        }
    }
    // The loader itself, called by hand, names no loader.
    let is_loader = file.file_name().is_some_and(|name| name.as_bytes().starts_with(b"ld"));
    if !found.interpreter && !is_loader {
        return Err(Refusal::Static { file });
    }
    if elf::needs(&file, "libasan.so") {
        return Err(Refusal::AddressSanitizer { file });
    }
    match privilege(&file) {
        Some(reason) => Err(Refusal::Privileged { file, reason }),
        None => Ok(()),
    }
}

/// The program that the system executes for this file: itself, or a script's interpreter.
pub fn executed(file: &Path) -> PathBuf {
    let mut file = file.to_path_buf();
    // The system follows a script's interpreter as often, for one that is a script itself.
    for _ in 0..5 {
        match interpreter(&file) {
            Some(next) => file = next,
            None => break,
        }
    }
    file
}

fn machine(elf: &elf::Elf) -> String {
    let name = match elf.machine {
        3 => "x86",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv",
        _ => return format!("{}-bit, ELF machine {}", elf.pointer_bytes * 8, elf.machine),
    };
    format!("{name}, {}-bit", u32::from(elf.pointer_bytes) * 8)
}

/// The interpreter that a script's first line names.
fn interpreter(file: &Path) -> Option<PathBuf> {
    use std::io::Read;
    if !std::fs::metadata(file).ok()?.is_file() {
        return None;
    }
    let mut start = Vec::new();
    std::fs::File::open(file).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let path = line.trim_ascii().split(|byte| matches!(byte, b' ' | b'\t')).next()?;
    (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)))
}

/// What makes the system start the program in its secure mode.
fn privilege(file: &Path) -> Option<&'static str> {
    let facts = std::fs::metadata(file).ok()?;
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    if facts.mode() & 0o4000 != 0 && facts.uid() != user.as_raw() {
        return Some("set-user-id");
    }
    if facts.mode() & 0o2010 == 0o2010 && facts.gid() != group.as_raw() {
        return Some("set-group-id");
    }
    let mut value = [0u8; 64];
    let has_capabilities = rustix::fs::getxattr(file, "security.capability", &mut value[..]).is_ok();
    (has_capabilities && !user.is_root()).then_some("file capabilities")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_as_a_shell_finds_it() {
        assert!(find(OsStr::new("true")).unwrap().ends_with("true"));
        assert_eq!(find(OsStr::new("/bin/true")), Ok("/bin/true".into()));
        assert_eq!(find(OsStr::new("no-such-program")).unwrap_err().status(), 127);
        assert_eq!(find(OsStr::new("./no-such-program")).unwrap_err().status(), 127);
        assert_eq!(find(OsStr::new("")).unwrap_err().status(), 127);
        assert_eq!(find(OsStr::new("/tmp")).unwrap_err().status(), 126);
        assert_eq!(find(OsStr::new("/etc/passwd")).unwrap_err().status(), 126);
    }

    #[test]
    fn a_dynamic_program_may_be_recorded() {
        assert_eq!(check(&find(OsStr::new("true")).unwrap()), Ok(()));
        assert_eq!(check(Path::new("/proc/self/exe")), Ok(()));
    }
}
