//! Paths of a device in a copy of its file system.
//!
//! A symbolic link in the copy means what it would mean on the device: an absolute target begins at the copy's root, and `..` at the root stays there. So no path and
//! no link, however hostile, leads out of the copy.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Links that are followed on one path; the kernel's bound is the same.
const MOST_LINKS: u32 = 40;
/// Names in one path, links included; the kernel's bound on its length comes to less.
const MOST_PARTS: usize = 4096;

/// The file that `path` is on the device, as a path of this machine without links below `root`; `None` when there is none.
pub(super) fn resolve(root: &Path, path: &Path) -> Option<PathBuf> {
    // Names that are still to be walked, the next one last.
    let mut ahead: Vec<OsString> = Vec::new();
    push(&mut ahead, path);
    let mut at: Vec<OsString> = Vec::new();
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if ahead.len() > MOST_PARTS {
            return None;
        }
        if name == ".." {
            at.pop();
            continue;
        }
        at.push(name);
        let here = root.join(at.iter().collect::<PathBuf>());
        if !std::fs::symlink_metadata(&here).ok()?.is_symlink() {
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return None;
        }
        let target = std::fs::read_link(&here).ok()?;
        at.pop();
        if target.is_absolute() {
            at.clear();
        }
        push(&mut ahead, &target);
    }
    Some(root.join(at.iter().collect::<PathBuf>()))
}

/// Puts the names of a path before what is ahead.
fn push(ahead: &mut Vec<OsString>, path: &Path) {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    ahead.extend(names);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_mean_what_they_mean_on_the_device_and_never_lead_out() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("usr/lib")).expect("a folder can be made");
        std::fs::write(root.join("usr/lib/x.so.1"), b"x").expect("a file can be written");
        std::fs::write(folder.path().join("outside"), b"o").expect("a file can be written");
        for (target, link) in [
            ("usr/lib", "lib"),
            ("/usr/lib/x.so.1", "usr/lib/x.so"),
            ("../../../outside", "usr/lib/up"),
            ("/../../outside", "usr/lib/over"),
            ("loop", "loop"),
        ] {
            symlink(target, root.join(link)).expect("a link can be made");
        }
        symlink(folder.path().join("outside"), root.join("abroad")).expect("a link can be made");
        let found = Some(root.join("usr/lib/x.so.1"));
        for path in ["/lib/x.so", "lib/x.so.1", "/../lib/./x.so", "/usr/../../lib/x.so"] {
            assert_eq!(resolve(&root, Path::new(path)), found, "{path}");
        }
        for path in [
            "/usr/lib/up",
            "/usr/lib/over",
            "/abroad",
            "/loop",
            "/loop/x",
            "/../outside",
            "/none",
        ] {
            assert_eq!(resolve(&root, Path::new(path)), None, "{path}");
        }
    }
}
