//! Names met again are shared, and demangled once.
//!
//! A file of some megabytes can give every frame a name that is as long as itself, so what is kept of a module's names is bounded.

use super::demangle::demangle;
use crate::text::Text;
use hashbrown::HashMap;

/// Bytes of the names of one module, raw and readable; no program's come near.
const MOST: usize = 256 << 20;

/// Names of functions and files.
#[derive(Default)]
pub(super) struct Texts {
    functions: Shared,
    files: Shared,
}

impl Texts {
    /// The readable name of a function; `None` when there is no room for it.
    pub(super) fn function(&mut self, raw: &str) -> Option<Text> {
        self.functions.get(raw, |raw| Text::new(&demangle(raw)))
    }

    /// A file; `None` when there is no room for its name.
    pub(super) fn file(&mut self, raw: &str) -> Option<Text> {
        self.files.get(raw, Text::new)
    }

    /// Whether there was no room for a name.
    pub(super) fn were_cut(&self) -> bool {
        self.functions.were_cut || self.files.were_cut
    }
}

#[derive(Default)]
struct Shared {
    known: HashMap<String, Text>,
    bytes: usize,
    were_cut: bool,
}

impl Shared {
    fn get(&mut self, raw: &str, make: impl Fn(&str) -> Text) -> Option<Text> {
        if let Some(text) = self.known.get(raw) {
            return Some(text.clone());
        }
        if self.bytes + raw.len() > MOST {
            self.were_cut = true;
            return None;
        }
        let text = make(raw);
        self.bytes += raw.len() + text.as_str().len();
        self.known.insert(raw.to_owned(), text.clone());
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_as_long_as_their_file_take_no_more_than_their_share() {
        let all = "x".repeat(MOST / 8);
        let mut texts = Texts::default();
        let known = (0..20).filter(|&from| texts.file(&all[from..]).is_some()).count();
        assert!(known == 7 && texts.were_cut(), "{known}");
        // Those that are known stay so.
        assert!(texts.file(&all).is_some() && texts.file("short.c").is_some());
        assert!(texts.function(&all).is_some_and(|text| text.as_str().len() < 5000));
    }
}
