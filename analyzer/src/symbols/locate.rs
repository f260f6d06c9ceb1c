//! Where the files of a module may lie on this machine.
//!
//! With a sysroot, paths of the tape and of debug information are looked up in it and nowhere else, as the device would: see `sysroot`. Folders with debug files are the
//! user's own: links in them are followed like any other.

use super::debuginfod::Debuginfod;
use super::sysroot::resolve;
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Where distributions put separate debug information.
const SYSTEM_DEBUG: &str = "/usr/lib/debug";
/// How deep below a folder with debug files trees of build-ids are looked for (`DIR/package/usr/lib/debug/.build-id`).
const TREE_DEPTH: usize = 6;
/// Folders that are looked into for that.
const MOST_FOLDERS: usize = 20_000;

/// Where to search.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A copy of the device's file system; paths of the tape are looked up inside it, and nowhere else.
    pub sysroot: Option<PathBuf>,
    /// Folders with debug files: trees of build-ids, copies of the file system, or files by name.
    pub debug_dirs: Vec<PathBuf>,
    /// Servers that are asked for what is not found here.
    pub debuginfod: Option<Debuginfod>,
    /// The folder in which names are kept that were looked up.
    pub cache: Option<PathBuf>,
}

/// By what a file was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FoundBy {
    /// At its path.
    Path,
    /// At its path in the sysroot.
    Sysroot,
    /// By its name or path in a folder with debug files.
    DebugDir,
    /// In a tree of build-ids.
    BuildId,
    /// By the name in `.gnu_debuglink`.
    DebugLink,
    /// In the folder `.debug` beside the module, as Yocto's packages have it.
    DebugFolder,
    /// By the name in `.gnu_debugaltlink`.
    AltLink,
    /// It came from a debuginfod server, now or earlier.
    Debuginfod,
}

impl FoundBy {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            FoundBy::Path => "at its path",
            FoundBy::Sysroot => "in the sysroot",
            FoundBy::DebugDir => "in a debug folder",
            FoundBy::BuildId => "by build-id",
            FoundBy::DebugLink => "by debug link",
            FoundBy::DebugFolder => "in .debug beside it",
            FoundBy::AltLink => "by alternate link",
            FoundBy::Debuginfod => "by debuginfod",
        }
    }
}

/// A file that may be the one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub path: PathBuf,
    pub by: FoundBy,
}

/// Names the files that are worth a look.
#[derive(Debug, Default)]
pub(super) struct Locator {
    pub options: Options,
    /// Folders with `.build-id` in them, or that mirror the file system with debug files.
    trees: Vec<PathBuf>,
}

impl Locator {
    /// Looks for trees of build-ids below the folders with debug files.
    pub(super) fn new(options: Options) -> Locator {
        let mut trees: Vec<PathBuf> = options.debug_dirs.iter().flat_map(|dir| trees_below(dir)).collect();
        match &options.sysroot {
            Some(root) => trees.extend(resolve(root, Path::new(SYSTEM_DEBUG))),
            None => trees.push(PathBuf::from(SYSTEM_DEBUG)),
        }
        Locator { options, trees }
    }

    /// Files that may be the module itself, best first. `path` is raw from the tape.
    pub(super) fn module_files(&self, path: &[u8], build_id: &[u8]) -> Vec<Candidate> {
        let path = path_of(path);
        let mut files = Files::default();
        files.add(
            self.on_device(path),
            match self.options.sysroot {
                Some(_) => FoundBy::Sysroot,
                None => FoundBy::Path,
            },
        );
        for dir in &self.options.debug_dirs {
            files.add(inside(dir, path), FoundBy::DebugDir);
            files.add(path.file_name().map(|name| dir.join(name)), FoundBy::DebugDir);
        }
        files.extend(self.by_build_id(build_id, ""), FoundBy::BuildId);
        files.0
    }

    /// Files that may hold the debug information of a module, best first. `found` is the module's own file on this machine, `link` the name in its `.gnu_debuglink`.
    pub(super) fn debug_files(
        &self,
        path: &[u8],
        found: Option<&Path>,
        build_id: &[u8],
        link: Option<&[u8]>,
    ) -> Vec<Candidate> {
        let mut files = Files::default();
        files.extend(self.by_build_id(build_id, ".debug"), FoundBy::BuildId);
        let link = link
            .map(path_of)
            .filter(|name| name.components().count() == 1 && is_name(name));
        let dirs = &self.options.debug_dirs;
        // What the tape calls the module, and what it is called without links.
        let real = found.and_then(|found| self.as_on_device(found));
        let named = [Some(path_of(path).to_owned()), real];
        for named in named.iter().flatten().filter(|named| !named.as_os_str().is_empty()) {
            let (Some(folder), Some(name)) = (named.parent(), named.file_name()) else {
                continue;
            };
            let beside = folder.join(".debug").join(name);
            if let Some(link) = link {
                for place in [folder.join(link), folder.join(".debug").join(link)] {
                    files.add(self.on_device(&place), FoundBy::DebugLink);
                    files.extend(dirs.iter().filter_map(|dir| inside(dir, &place)), FoundBy::DebugLink);
                    files.extend(
                        self.trees.iter().filter_map(|tree| inside(tree, &place)),
                        FoundBy::DebugLink,
                    );
                }
                files.extend(dirs.iter().map(|dir| dir.join(link)), FoundBy::DebugLink);
            }
            files.add(self.on_device(&beside), FoundBy::DebugFolder);
            files.extend(dirs.iter().filter_map(|dir| inside(dir, &beside)), FoundBy::DebugFolder);
            files.extend(
                dirs.iter().map(|dir| dir.join(".debug").join(name)),
                FoundBy::DebugFolder,
            );
            let suffixed = with_suffix(named, ".debug");
            for tree in &self.trees {
                files.add(inside(tree, &suffixed), FoundBy::DebugDir);
                files.add(inside(tree, named), FoundBy::DebugDir);
            }
            files.extend(
                dirs.iter().map(|dir| dir.join(with_suffix(Path::new(name), ".debug"))),
                FoundBy::DebugDir,
            );
        }
        files.0
    }

    /// Files that may be the one that `.gnu_debugaltlink` of a debug file names (dwz).
    pub(super) fn alternate_files(&self, debug_file: &Path, name: &[u8], build_id: &[u8]) -> Vec<Candidate> {
        let name = path_of(name);
        let mut files = Files::default();
        files.extend(self.by_build_id(build_id, ".debug"), FoundBy::BuildId);
        if name.is_absolute() {
            files.add(self.on_device(name), FoundBy::AltLink);
        } else {
            files.add(self.beside(debug_file, name), FoundBy::AltLink);
        }
        files.extend(
            self.options.debug_dirs.iter().filter_map(|dir| inside(dir, name)),
            FoundBy::AltLink,
        );
        if let Some(base) = name.file_name() {
            for tree in self.trees.iter().chain(&self.options.debug_dirs) {
                files.add(Some(tree.join(".dwz").join(base)), FoundBy::AltLink);
                files.add(Some(tree.join(base)), FoundBy::AltLink);
            }
        }
        files.0
    }

    /// Files that may be the package of split debug information that belongs to a file (`.dwp`).
    pub(super) fn packages(&self, file: &Path, build_id: &[u8]) -> Vec<PathBuf> {
        let mut files = Vec::new();
        if let Some(name) = file.file_name() {
            let name = with_suffix(Path::new(name), ".dwp");
            files.extend(self.beside(file, &name));
            files.extend(self.options.debug_dirs.iter().map(|dir| dir.join(&name)));
        }
        files.extend(self.by_build_id(build_id, ".dwp"));
        files
    }

    /// Files that may hold the split debug information of a unit (`.dwo`), as its skeleton in `file` names it.
    pub(super) fn split_files(&self, file: &Path, compiled_in: &[u8], name: &[u8]) -> Vec<PathBuf> {
        let name = path_of(name);
        let full = path_of(compiled_in).join(name);
        let dirs = &self.options.debug_dirs;
        let mut files: Vec<PathBuf> = self.on_device(&full).into_iter().collect();
        files.extend(dirs.iter().filter_map(|dir| inside(dir, &full)));
        if let Some(base) = name.file_name() {
            if !name.is_absolute() {
                files.extend(self.beside(file, name));
                files.extend(dirs.iter().filter_map(|dir| inside(dir, name)));
            }
            files.extend(self.beside(file, Path::new(base)));
            files.extend(dirs.iter().map(|dir| dir.join(base)));
        }
        files
    }

    fn by_build_id(&self, build_id: &[u8], suffix: &str) -> Vec<PathBuf> {
        let Some((first, rest)) = build_id.split_first().filter(|(_, rest)| !rest.is_empty()) else {
            return Vec::new();
        };
        let name = format!("{first:02x}/{}{suffix}", hex(rest));
        let places = self.trees.iter().chain(&self.options.debug_dirs);
        let in_tree = |tree: &PathBuf| [tree.join(".build-id").join(&name), tree.join(&name)];
        let below = |path: PathBuf| match &self.options.sysroot {
            // The sysroot's own tree may have links, like all of it.
            Some(root) => match path.strip_prefix(root) {
                Ok(inner) => resolve(root, inner),
                Err(_) => Some(path),
            },
            None => Some(path),
        };
        places.flat_map(in_tree).filter_map(below).collect()
    }

    /// A path of the device on this machine. Only an absolute one means anything.
    fn on_device(&self, path: &Path) -> Option<PathBuf> {
        if !path.is_absolute() {
            return None;
        }
        match &self.options.sysroot {
            Some(root) => resolve(root, path),
            None => Some(path.to_owned()),
        }
    }

    /// A file of this machine as the device calls it, without links.
    fn as_on_device(&self, found: &Path) -> Option<PathBuf> {
        match &self.options.sysroot {
            Some(root) => match found.strip_prefix(root) {
                Ok(inner) => Some(Path::new("/").join(inner)),
                Err(_) => None,
            },
            None => found.canonicalize().ok(),
        }
    }

    /// A file in the folder of another one, which this machine has.
    fn beside(&self, file: &Path, name: &Path) -> Option<PathBuf> {
        let folder = file.parent()?;
        match &self.options.sysroot {
            Some(root) => match folder.strip_prefix(root) {
                Ok(inner) => resolve(root, &inner.join(name)),
                Err(_) => inside(folder, name),
            },
            None => Some(folder.join(name)),
        }
    }
}

/// Candidates in the making.
#[derive(Default)]
struct Files(Vec<Candidate>);

impl Files {
    fn add(&mut self, path: Option<PathBuf>, by: FoundBy) {
        self.0.extend(path.map(|path| Candidate { path, by }));
    }

    fn extend(&mut self, paths: impl IntoIterator<Item = PathBuf>, by: FoundBy) {
        self.0.extend(paths.into_iter().map(|path| Candidate { path, by }));
    }
}

/// The folder itself, and the folders below it in which there is a `.build-id`.
fn trees_below(dir: &Path) -> Vec<PathBuf> {
    let mut trees = vec![dir.to_owned()];
    let mut level = vec![dir.to_owned()];
    let mut looked_into = 0;
    for _ in 0..TREE_DEPTH {
        let mut next = Vec::new();
        for folder in level {
            looked_into += 1;
            if looked_into > MOST_FOLDERS {
                return trees;
            }
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                match entry.file_name() == ".build-id" {
                    true if folder != dir => trees.push(folder.clone()),
                    true => {}
                    false => next.push(entry.path()),
                }
            }
        }
        next.sort();
        level = next;
    }
    trees
}

/// `path` as seen from `root`, by its names alone; nothing for a path that tries to climb out of it.
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

fn path_of(raw: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(raw))
}

fn is_name(path: &Path) -> bool {
    matches!(path.components().next(), Some(Component::Normal(_)))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_the_tape_leads_out_of_the_folders_given() {
        let root = tempfile::tempdir().expect("a folder can be made");
        std::fs::create_dir(root.path().join("etc")).expect("a folder can be made");
        std::fs::write(root.path().join("etc/shadow"), b"").expect("a file can be written");
        let locator = Locator::new(Options {
            sysroot: Some(root.path().to_owned()),
            debug_dirs: vec!["/debug".into()],
            ..Options::default()
        });
        for path in [&b"/lib/x.so"[..], b"/../etc/shadow", b"../../x", b"lib/../../x"] {
            let mut files = locator.module_files(path, &[1, 2, 3]);
            files.extend(locator.debug_files(path, None, &[1, 2, 3], Some(b"shadow")));
            files.extend(locator.debug_files(path, None, &[1, 2, 3], Some(b"..")));
            files.extend(locator.alternate_files(&root.path().join("x"), path, &[1, 2]));
            let split = locator.split_files(&root.path().join("x"), b"/..", path);
            for file in files.into_iter().map(|file| file.path).chain(split) {
                assert!(file.starts_with(root.path()) || file.starts_with("/debug"), "{file:?}");
                assert!(!file.components().any(|part| part == Component::ParentDir), "{file:?}");
            }
        }
    }

    #[test]
    fn debug_files_are_looked_for_by_build_id_by_link_and_beside() {
        let locator = Locator::new(Options {
            debug_dirs: vec!["/d".into()],
            ..Options::default()
        });
        let files = locator.debug_files(b"/bin/x", None, &[0xab, 0xcd, 0xef], Some(b"x.dbg"));
        for expected in [
            "/d/.build-id/ab/cdef.debug",
            "/usr/lib/debug/.build-id/ab/cdef.debug",
            "/bin/x.dbg",
            "/bin/.debug/x.dbg",
            "/usr/lib/debug/bin/x.dbg",
            "/d/x.dbg",
            "/bin/.debug/x",
            "/d/bin/.debug/x",
            "/usr/lib/debug/bin/x.debug",
        ] {
            let is_listed = files.iter().any(|file| file.path == Path::new(expected));
            assert!(is_listed, "{expected} in {files:?}");
        }
        let hostile = locator.debug_files(b"/bin/x", None, &[], Some(b"../../etc/shadow"));
        assert!(hostile
            .iter()
            .all(|file| !file.path.to_string_lossy().contains("shadow")));
    }

    #[test]
    fn trees_of_build_ids_are_found_where_packages_were_unpacked() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let tree = folder.path().join("libc6-dbg/usr/lib/debug");
        std::fs::create_dir_all(tree.join(".build-id/ab")).expect("a folder can be made");
        let locator = Locator::new(Options {
            debug_dirs: vec![folder.path().to_owned()],
            ..Options::default()
        });
        let files = locator.debug_files(b"/x", None, &[0xab, 1], None);
        assert!(files.iter().any(|file| file.path == tree.join(".build-id/ab/01.debug")));
    }
}
