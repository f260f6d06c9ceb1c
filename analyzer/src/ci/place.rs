//! A place in a program, as it can be told from one build to the next.

use super::Paths;
use crate::symbols;
use crate::text::Text;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A place in a program: function, file, and the line counted from the function's beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The source file, without the machine's part of its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Text>,
    /// The function. Without it the place is one in machine code: `libfoo.so+0x1234`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<Text>,
    /// Lines below the function's declaration, or, when that is not known, the line in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<i64>,
    /// The module's file name; empty for Python code.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub library: Text,
    /// Where in the module, of code without a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

fn is_empty(text: &Text) -> bool {
    text.as_str().is_empty()
}

/// What compilers append to the names of copies that they make of a function.
const COPIES: [&str; 5] = [".constprop.", ".isra.", ".part.", ".cold", ".llvm."];

impl Place {
    /// The place of a symbolized frame.
    pub fn of(place: &symbols::Place, paths: &Paths) -> Place {
        let line = i64::from(place.line);
        Place {
            file: place.file.as_ref().map(|file| paths.file(file)),
            function: place.function.as_ref().map(original),
            relative: (line > 0).then(|| line - i64::from(place.declared)),
            library: Text::new(place.library.basename()),
            offset: place.function.is_none().then_some(place.offset),
        }
    }

    /// What stands for a stack without frames.
    pub(super) fn nowhere() -> Place {
        Place {
            function: Some(Text::new(symbols::View::Merged.nothing())),
            ..Place::default()
        }
    }

    /// Whether it can be recognised in another build.
    pub fn is_named(&self) -> bool {
        self.function.is_some()
    }

    /// The function, or the address of code without a name.
    pub fn name(&self) -> String {
        match (&self.function, self.offset) {
            (Some(function), _) => function.to_string(),
            (None, offset) => format!("{}+{:#x}", self.library, offset.unwrap_or(0)),
        }
    }
}

/// The name of the function that a compiler's copy was made from.
fn original(name: &Text) -> Text {
    let raw = name.as_str();
    let end = COPIES
        .iter()
        .filter_map(|copy| raw.find(copy))
        .chain(raw.find(" [clone "))
        .min();
    end.filter(|&end| end > 0)
        .map_or(name.clone(), |end| Text::new(&raw[..end]))
}

/// One frame of a site's stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Frame {
    /// Where it lies.
    #[serde(flatten)]
    pub place: Place,
    /// Its line in the file, for messages; 0 when not known. It is not kept in a file: an edit further up would change it.
    #[serde(skip)]
    pub line: u32,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place.file, self.line) {
            (Some(file), 1..) => write!(f, "{} ({file}:{})", self.place.name(), self.line),
            _ => self.place.fmt(f),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        match (&self.file, self.relative) {
            (Some(file), Some(relative)) => write!(f, " ({file} {relative:+})"),
            (Some(file), None) => write!(f, " ({file})"),
            (None, _) if self.function.is_some() && !is_empty(&self.library) => write!(f, " ({})", self.library),
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copies_that_a_compiler_makes_bear_the_functions_name() {
        for (raw, name) in [
            ("parse.constprop.0", "parse"),
            ("parse.isra.0.cold", "parse"),
            ("f(int) [clone .part.0]", "f(int)"),
            (".cold", ".cold"),
            ("plain", "plain"),
        ] {
            assert_eq!(original(&Text::new(raw)).as_str(), name);
        }
    }

    #[test]
    fn a_place_counts_its_line_from_the_functions_beginning() {
        let frame = symbols::Place {
            function: Some(Text::new("parse")),
            file: Some(Text::new("src/a.c")),
            line: 112,
            declared: 100,
            ..symbols::Place::default()
        };
        assert_eq!(Place::of(&frame, &Paths::default()).to_string(), "parse (src/a.c +12)");
        let bare = symbols::Place {
            library: Text::new("/usr/lib/libz.so"),
            offset: 0x30,
            ..symbols::Place::default()
        };
        assert_eq!(Place::of(&bare, &Paths::default()).to_string(), "libz.so+0x30");
    }
}
