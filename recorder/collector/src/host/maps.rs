//! `/proc/PID/maps`: one line a mapping, `start-end perms offset dev inode path`.

/// One executable-file mapping's worth of facts, as a line gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Whether code may run there.
    pub executable: bool,
    /// Offset of the mapping in its file.
    pub offset: u64,
    /// Number of that file in its file system, 0 for none.
    pub inode: u64,
    /// The path, empty for anonymous memory; `[stack]` and the like for the kernel's own.
    pub path: &'a [u8],
}

impl Line<'_> {
    /// Whether it maps a file.
    pub fn is_file(&self) -> bool {
        self.path.first() == Some(&b'/')
    }
}

/// The lines of the file; what cannot be read as one is left out.
pub fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    text.split(|&byte| byte == b'\n').filter_map(line)
}

fn line(text: &[u8]) -> Option<Line<'_>> {
    let (range, rest) = field(text)?;
    let (permissions, rest) = field(rest)?;
    let (offset, rest) = field(rest)?;
    let (_device, rest) = field(rest)?;
    let (inode, path) = field(rest)?;
    let dash = range.iter().position(|&byte| byte == b'-')?;
    Some(Line {
        start: hexadecimal(&range[..dash])?,
        end: hexadecimal(&range[dash + 1..])?,
        executable: permissions.get(2) == Some(&b'x'),
        offset: hexadecimal(offset)?,
        inode: std::str::from_utf8(inode).ok()?.parse().ok()?,
        path: path.trim_ascii_start(),
    })
}

/// The text up to the next blank, and what follows the blank.
fn field(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.is_empty() {
        return None;
    }
    let end = text.iter().position(|&byte| byte == b' ').unwrap_or(text.len());
    Some((&text[..end], text.get(end + 1..).unwrap_or(&[])))
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_anonymous_memory_and_paths_with_blanks_are_told_apart() {
        let text = b"7f0000001000-7f0000002000 r-xp 00001000 08:01 42                         /opt/a b/lib (deleted)\n\
            7f0000002000-7f0000003000 rw-p 00000000 00:00 0 \n\
            7ffc00000000-7ffc00001000 rw-p 00000000 00:00 0                          [stack]\n\
            garbage\n";
        let all: Vec<Line> = lines(text).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].path, b"/opt/a b/lib (deleted)");
        assert!(all[0].executable && all[0].is_file());
        assert_eq!(
            (all[0].start, all[0].end, all[0].offset),
            (0x7f0000001000, 0x7f0000002000, 0x1000)
        );
        assert!(!all[1].is_file() && all[1].path.is_empty());
        assert_eq!(all[2].path, b"[stack]");
        assert!(!all[2].is_file());
    }
}
