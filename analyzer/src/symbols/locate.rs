//! Where the files of a module may lie on this machine.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Where distributions put separate debug information.
const SYSTEM_DEBUG: &str = "/usr/lib/debug";

/// Where to search.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A copy of the device's file system; paths of the tape are looked up inside it, and nowhere else.
    pub sysroot: Option<PathBuf>,
    /// Folders with debug files: `.build-id` trees, or files by name.
    pub debug_dirs: Vec<PathBuf>,
}

impl Options {
    /// Files that may be the module itself, best first. `path` is raw from the tape.
    pub(super) fn module_files(&self, path: &[u8], build_id: &[u8]) -> Vec<PathBuf> {
        let path = Path::new(OsStr::from_bytes(path));
        let mut files = Vec::new();
        match &self.sysroot {
            Some(root) => files.extend(inside(root, path)),
            None if path.is_absolute() => files.push(path.to_owned()),
            None => {}
        }
        for dir in &self.debug_dirs {
            files.extend(path.file_name().map(|name| dir.join(name)));
            files.extend(inside(dir, path));
        }
        files.extend(self.by_build_id(build_id, ""));
        files
    }

    /// Files that may hold the debug information of a module, best first. `link` is the name in its `.gnu_debuglink`.
    pub(super) fn debug_files(&self, module: Option<&Path>, build_id: &[u8], link: Option<&[u8]>) -> Vec<PathBuf> {
        let mut files = self.by_build_id(build_id, ".debug");
        let name = link
            .map(OsStr::from_bytes)
            .filter(|name| Path::new(name).components().count() == 1);
        if let (Some(name), Some(folder)) = (name, module.and_then(Path::parent)) {
            files.push(folder.join(name));
            files.push(folder.join(".debug").join(name));
            files.extend(self.roots().iter().filter_map(|root| inside(root, &folder.join(name))));
        }
        if let Some(name) = name {
            files.extend(self.debug_dirs.iter().map(|dir| dir.join(name)));
        }
        if let Some(name) = module.and_then(Path::file_name) {
            let mut with_suffix = name.to_owned();
            with_suffix.push(".debug");
            files.extend(self.debug_dirs.iter().map(|dir| dir.join(&with_suffix)));
        }
        files
    }

    /// Folders that mirror the file system with debug files in it.
    fn roots(&self) -> Vec<PathBuf> {
        let mut roots = self.debug_dirs.clone();
        match &self.sysroot {
            Some(root) => roots.push(root.join(SYSTEM_DEBUG.trim_start_matches('/'))),
            None => roots.push(PathBuf::from(SYSTEM_DEBUG)),
        }
        roots
    }

    fn by_build_id(&self, build_id: &[u8], suffix: &str) -> Vec<PathBuf> {
        let Some((first, rest)) = build_id.split_first().filter(|(_, rest)| !rest.is_empty()) else {
            return Vec::new();
        };
        let name = format!("{first:02x}/{}{suffix}", hex(rest));
        self.roots()
            .into_iter()
            .flat_map(|root| [root.join(".build-id").join(&name), root.join(&name)])
            .collect()
    }
}

/// `path` as seen from `root`; nothing for a path that tries to climb out of it.
pub(super) fn inside(root: &Path, path: &Path) -> Option<PathBuf> {
    let mut joined = root.to_owned();
    for part in path.components() {
        match part {
            Component::Normal(name) => joined.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(joined)
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_sysroot_no_path_of_the_tape_leads_out_of_it() {
        let options = Options {
            sysroot: Some("/sysroot".into()),
            debug_dirs: vec!["/debug".into()],
        };
        for path in [&b"/lib/x.so"[..], b"/../etc/shadow", b"../../x", b"lib/../../x"] {
            for file in options.module_files(path, &[1, 2, 3]) {
                assert!(file.starts_with("/sysroot") || file.starts_with("/debug"), "{file:?}");
                assert!(!file.components().any(|part| part == Component::ParentDir), "{file:?}");
            }
        }
    }

    #[test]
    fn debug_files_are_found_by_build_id_and_by_link() {
        let options = Options {
            sysroot: None,
            debug_dirs: vec!["/d".into()],
        };
        let files = options.debug_files(Some(Path::new("/bin/x")), &[0xab, 0xcd, 0xef], Some(b"x.dbg"));
        for expected in [
            "/d/.build-id/ab/cdef.debug",
            "/usr/lib/debug/.build-id/ab/cdef.debug",
            "/bin/.debug/x.dbg",
            "/d/x.dbg",
        ] {
            assert!(files.contains(&PathBuf::from(expected)), "{expected} in {files:?}");
        }
        let hostile = options.debug_files(Some(Path::new("/bin/x")), &[], Some(b"../../etc/shadow"));
        assert!(hostile.iter().all(|file| !file.to_string_lossy().contains("shadow")));
    }
}
