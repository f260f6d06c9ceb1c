//! Lines of source files of this machine, to be shown under what a tape names.
//!
//! Paths come from a tape or from debug information: they are looked up inside the given folders and never lead out of them.

use super::locate::inside;
use crate::text::Text;
use hashbrown::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Largest file that is read; a source file is not larger.
const LARGEST: u64 = 16 << 20;
/// Longest line that is shown, in bytes.
const LONGEST: usize = 200;

/// Folders with sources.
#[derive(Debug, Default)]
pub struct Sources {
    roots: Vec<PathBuf>,
    /// Files that were looked for; `None` is not here.
    files: Mutex<HashMap<Text, Option<Vec<u8>>>>,
}

impl Sources {
    /// Sources under these folders.
    pub fn new(roots: Vec<PathBuf>) -> Sources {
        Sources {
            roots,
            files: Mutex::default(),
        }
    }

    /// A line of a file, without the white space around it; `None` when it is not here or empty.
    ///
    /// The file is the one under a folder whose path ends like the recorded one, the longer the better: `/srv/app/pkg/io.py` is looked for
    /// as `srv/app/pkg/io.py`, `app/pkg/io.py`, `pkg/io.py` and `io.py`.
    pub fn line(&self, file: &Text, line: u32) -> Option<Text> {
        let mut files = self.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let content = files.entry(file.clone()).or_insert_with(|| self.read(file));
        let index = (line as usize).checked_sub(1)?;
        let text = content.as_ref()?.split(|&byte| byte == b'\n').nth(index)?.trim_ascii();
        let shown = &text[..text.len().min(LONGEST)];
        (!shown.is_empty()).then(|| Text::from_bytes(shown))
    }

    fn read(&self, file: &Text) -> Option<Vec<u8>> {
        let path = Path::new(OsStr::from_bytes(file.as_str().as_bytes()));
        let ends = std::iter::successors(Some(path.strip_prefix("/").unwrap_or(path)), |path| {
            let mut parts = path.components();
            parts.next()?;
            Some(parts.as_path()).filter(|rest| !rest.as_os_str().is_empty())
        });
        for end in ends {
            // Every package has files of these names: alone they tell nothing.
            let is_anybodys = end.components().count() == 1 && end.as_os_str().as_bytes().starts_with(b"__");
            if is_anybodys && end != path {
                continue;
            }
            let found = self.roots.iter().filter_map(|root| inside(root, end)).find_map(read);
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// A regular file of no absurd size. Anything else is not even opened: a pipe would block, a device may act.
fn read(path: PathBuf) -> Option<Vec<u8>> {
    let metadata = std::fs::metadata(&path).ok()?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return None;
    }
    std::fs::read(path).ok()
}
