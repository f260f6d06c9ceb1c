//! Which allocations a question is about: patterns on frames, and selections of rows.

use super::lifetime::Measured;
use super::selection::{Selection, Tests};
use crate::symbols::Place;
use crate::table::{Alike, Heap, Item};
use crate::text::Text;
use globset::{Glob, GlobMatcher};
use heaptape_format::ProcessIx;
use std::fmt;
use std::str::FromStr;

/// What a pattern is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Any of the others.
    Any,
    /// The source file.
    File,
    /// The function.
    Function,
    /// The module.
    Library,
}

/// A glob on a frame: `GLOB`, `file:GLOB`, `func:GLOB` or `lib:GLOB`. A `*` also crosses slashes. A path matches as a whole or by
/// its last part.
///
/// ```
/// use heaptape::query::Pattern;
/// assert!("file:*/leaky.c".parse::<Pattern>().is_ok());
/// assert!("lib:[".parse::<Pattern>().is_err());
/// ```
#[derive(Clone, Debug)]
pub struct Pattern {
    field: Field,
    glob: GlobMatcher,
}

/// A glob that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPattern {
    message: String,
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; expected GLOB, file:GLOB, func:GLOB or lib:GLOB", self.message)
    }
}

impl std::error::Error for BadPattern {}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Pattern, BadPattern> {
        let (field, glob) = match text.split_once(':') {
            Some(("file", rest)) => (Field::File, rest),
            Some(("func" | "function", rest)) => (Field::Function, rest),
            Some(("lib" | "library", rest)) => (Field::Library, rest),
            // C++ names hold colons themselves.
            _ => (Field::Any, text),
        };
        let (field, glob) = match glob.strip_prefix(':') {
            Some(_) => (Field::Any, text),
            None => (field, glob),
        };
        let glob = Glob::new(glob)
            .map_err(|error| BadPattern {
                message: error.to_string(),
            })?
            .compile_matcher();
        Ok(Pattern { field, glob })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = match self.field {
            Field::Any => "",
            Field::File => "file:",
            Field::Function => "func:",
            Field::Library => "lib:",
        };
        write!(f, "{field}{}", self.glob.glob())
    }
}

impl Pattern {
    /// Whether a frame matches.
    pub fn matches(&self, place: &Place) -> bool {
        let file = || place.file.as_ref().is_some_and(|file| self.matches_path(file));
        let function = || {
            place
                .function
                .as_ref()
                .is_some_and(|name| self.glob.is_match(name.as_str()))
        };
        let library = || self.matches_path(&place.library);
        match self.field {
            Field::Any => file() || function() || library(),
            Field::File => file(),
            Field::Function => function(),
            Field::Library => library(),
        }
    }

    /// Whether a stack matches, given the place that is shown for it and the one that tells its module. They differ where a line of Python
    /// is shown and native code below it allocates.
    fn matches_shown(&self, shown: Option<&Place>, library: Option<&Place>) -> bool {
        let module = library.is_some_and(|place| self.matches_path(&place.library));
        match self.field {
            Field::Library => module,
            Field::Any => module || shown.is_some_and(|place| self.matches(place)),
            Field::File | Field::Function => shown.is_some_and(|place| self.matches(place)),
        }
    }

    fn matches_path(&self, text: &Text) -> bool {
        self.glob.is_match(text.as_str()) || self.glob.is_match(text.basename())
    }
}

/// Which allocations a question is about. The default is all of them.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// If any: the frame must match one.
    pub include: Vec<Pattern>,
    /// The frame must match none.
    pub exclude: Vec<Pattern>,
    /// Hold patterns against every frame of the stack (one match is enough) instead of the frame that is shown.
    pub all_frames: bool,
    /// Of every list that is not empty, an entry must match.
    pub only: Selection,
    /// Of no list may an entry match.
    pub without: Selection,
    /// Count what a forked process inherited as its own, too.
    pub inherited: bool,
}

impl Filter {
    /// Whether stacks matter.
    pub fn has_patterns(&self) -> bool {
        !self.include.is_empty() || !self.exclude.is_empty()
    }

    /// Whether it accepts every row.
    pub fn is_open(&self) -> bool {
        !self.has_patterns() && self.only.is_empty() && self.without.is_empty()
    }

    /// Whether types of objects matter.
    pub fn asks_for_types(&self) -> bool {
        !self.only.types.is_empty() || !self.without.types.is_empty()
    }

    /// Whether any rule is about lives measured in this.
    pub fn asks_for_lives_in(&self, measured: Measured) -> bool {
        let mut lives = self.only.lifetimes.iter().chain(&self.without.lifetimes);
        lives.any(|lives| lives.measured == measured)
    }

    /// Whether the patterns accept a stack, given the places to look at.
    pub fn accepts<'a>(&self, places: impl Iterator<Item = &'a Place>) -> bool {
        let mut included = self.include.is_empty();
        for place in places {
            if self.exclude.iter().any(|pattern| pattern.matches(place)) {
                return false;
            }
            included = included || self.include.iter().any(|pattern| pattern.matches(place));
        }
        included
    }

    /// Whether the patterns accept a stack by the place that is shown for it, and its module by the place that tells that.
    pub(crate) fn accepts_shown(&self, shown: Option<&Place>, library: Option<&Place>) -> bool {
        let matches = |pattern: &Pattern| pattern.matches_shown(shown, library);
        (self.include.is_empty() || self.include.iter().any(matches)) && !self.exclude.iter().any(matches)
    }

    /// Prepares the part of the filter that concerns rows for one heap.
    pub(crate) fn rows<'a>(&'a self, heap: &'a Heap) -> RowFilter<'a> {
        RowFilter {
            filter: self,
            only: self.only.tests(heap),
            without: self.without.tests(heap),
            only_processes: self.only.processes_of(heap),
            without_processes: self.without.processes_of(heap),
        }
    }
}

/// A filter on rows, with the selections looked up beforehand.
pub(crate) struct RowFilter<'a> {
    filter: &'a Filter,
    only: Tests<'a>,
    without: Tests<'a>,
    /// By process; `None` when it does not matter.
    only_processes: Option<Vec<bool>>,
    without_processes: Option<Vec<bool>>,
}

impl RowFilter<'_> {
    /// Whether a row is wanted.
    #[inline]
    pub(crate) fn accepts(&self, item: &Item) -> bool {
        self.only.all(item) && !self.without.any(item)
    }

    /// Whether alike rows are wanted, all of them; `None` when some are and some are not, or when that cannot be told.
    pub(crate) fn judge(&self, alike: &Alike) -> Option<bool> {
        let item = alike.item();
        let only = self.only.judge_all(alike, &item);
        let without = self.without.judge_any(alike, &item);
        match (only, without) {
            (Some(false), _) | (_, Some(true)) => Some(false),
            (Some(true), Some(false)) => Some(true),
            _ => None,
        }
    }

    /// Whether a row that another process inherited is wanted: the thread that allocated it is the parent's.
    pub(crate) fn accepts_inherited(&self, item: &Item) -> bool {
        self.filter.only.threads.is_empty() && self.only.all_of_block(item) && !self.without.any_of_block(item)
    }

    /// Whether a process is wanted.
    pub(crate) fn accepts_process(&self, process: ProcessIx) -> bool {
        let is_in = |list: &Vec<bool>| list.get(process.get() as usize).copied().unwrap_or(false);
        self.only_processes.as_ref().is_none_or(is_in) && !self.without_processes.as_ref().is_some_and(is_in)
    }
}
