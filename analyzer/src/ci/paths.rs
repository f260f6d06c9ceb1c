//! Paths without the machine that they come from.

use crate::text::Text;

/// How paths are made the same on every machine.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// Folders that are cut off the front.
    pub strip: Vec<String>,
    /// Beginnings that are replaced; the first that fits.
    pub remap: Vec<(String, String)>,
}

/// What follows one of these is the same everywhere, what is before it is where a registry or an interpreter happens to lie.
const HOMES: [(&str, &str); 4] = [
    ("/site-packages/", "site-packages/"),
    ("/dist-packages/", "dist-packages/"),
    ("/registry/src/", ""),
    ("/git/checkouts/", ""),
];

impl Paths {
    /// A source file's path as it is kept: remapped, or without what is known to differ between machines (the
    /// compiler's hash in paths of Rust's library, the folder of cargo's registry, of Python's packages and library), or without its prefix.
    pub fn file(&self, path: &Text) -> Text {
        let raw = path.as_str();
        for (old, new) in &self.remap {
            if let Some(rest) = raw.strip_prefix(old.as_str()) {
                return Text::new(&format!("{new}{rest}"));
            }
        }
        if let Some(rest) = raw.strip_prefix("/rustc/") {
            return Text::new(rest.split_once('/').map_or(rest, |(_, inside)| inside));
        }
        for (home, kept) in HOMES {
            if let Some((_, rest)) = raw.rsplit_once(home) {
                // Below cargo's folders the first name is a registry's or a checkout's own.
                let rest = match kept {
                    "" => rest.split_once('/').map_or(rest, |(_, inside)| inside),
                    _ => rest,
                };
                return Text::new(&format!("{kept}{rest}"));
            }
        }
        if let Some((_, rest)) = raw.rsplit_once("/lib/python3.") {
            return Text::new(&format!(
                "python/{}",
                rest.split_once('/').map_or(rest, |(_, inside)| inside)
            ));
        }
        for prefix in &self.strip {
            let below = raw.strip_prefix(prefix.trim_end_matches('/'));
            if let Some(rest) = below.and_then(|rest| rest.strip_prefix('/')) {
                return Text::new(rest);
            }
        }
        path.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_nothing_of_the_machine_it_was_built_on() {
        let paths = Paths {
            strip: vec!["/builds/team/app/".to_owned(), "/work".to_owned()],
            remap: vec![("/usr/src/dep".to_owned(), "vendor/dep".to_owned())],
        };
        for (raw, kept) in [
            ("/builds/team/app/src/main.c", "src/main.c"),
            ("/workshop/src/main.c", "/workshop/src/main.c"),
            ("/usr/src/dep/x.c", "vendor/dep/x.c"),
            ("/rustc/0a1b2c/library/alloc/src/vec.rs", "library/alloc/src/vec.rs"),
            (
                "/root/.cargo/registry/src/index.crates.io-1949/serde-1.0.1/src/lib.rs",
                "serde-1.0.1/src/lib.rs",
            ),
            (
                "/home/a/venv/lib/python3.11/site-packages/app/io.py",
                "site-packages/app/io.py",
            ),
            ("/usr/lib/python3.11/json/decoder.py", "python/json/decoder.py"),
            ("src/main.c", "src/main.c"),
        ] {
            assert_eq!(paths.file(&Text::new(raw)).as_str(), kept, "{raw}");
        }
    }
}
