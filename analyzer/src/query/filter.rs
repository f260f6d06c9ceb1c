//! Which allocations a question is about.

use crate::symbols::Place;
use crate::table::{Domain, Heap, Item};
use crate::text::Text;
use globset::{Glob, GlobMatcher};
use heaptape_format::{AllocApi, ProcessIx};
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
        let glob = Glob::new(glob)
            .map_err(|error| BadPattern {
                message: error.to_string(),
            })?
            .compile_matcher();
        Ok(Pattern { field, glob })
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
    /// If any: thread ids or globs on thread names.
    pub threads: Vec<String>,
    /// If any: process ids or globs on executables.
    pub processes: Vec<String>,
    /// Smallest block, bytes.
    pub min_size: u64,
    /// Largest block, bytes.
    pub max_size: Option<u64>,
    /// If any: entry points.
    pub apis: Vec<AllocApi>,
    /// If any: allocators.
    pub domains: Vec<Domain>,
    /// If any: globs on the names of types of objects; a block without one does not match.
    pub types: Vec<GlobMatcher>,
    /// Count what a forked process inherited as its own, too.
    pub inherited: bool,
}

impl Filter {
    /// Whether stacks matter.
    pub fn has_patterns(&self) -> bool {
        !self.include.is_empty() || !self.exclude.is_empty()
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
    pub(crate) fn rows<'a>(&'a self, heap: &Heap) -> RowFilter<'a> {
        let processes: Vec<bool> = heap
            .catalog
            .processes
            .iter()
            .map(|info| {
                self.processes.is_empty()
                    || self.processes.iter().any(|wanted| {
                        wanted.parse() == Ok(info.pid)
                            || is_glob_match(wanted, &[info.exe.as_str(), info.exe.basename()])
                    })
            })
            .collect();
        let threads =
            heap.catalog
                .threads
                .iter()
                .map(|info| {
                    let process = processes
                        .get(info.process.get() as usize)
                        .copied()
                        .unwrap_or(self.processes.is_empty());
                    let thread = self.threads.is_empty()
                        || self.threads.iter().any(|wanted| {
                            wanted.parse() == Ok(info.tid) || is_glob_match(wanted, &[info.name.as_str()])
                        });
                    (process, thread)
                })
                .collect();
        let apis = (0..=u8::MAX)
            .map(|number| {
                let domain = AllocApi::from_u8(number).map_or(Domain::Malloc, Domain::of);
                (self.apis.is_empty() || self.apis.iter().any(|&api| api as u8 == number))
                    && (self.domains.is_empty() || self.domains.contains(&domain))
            })
            .collect();
        let is_type_wanted =
            |name: &Text| !name.as_str().is_empty() && self.types.iter().any(|glob| glob.is_match(name.as_str()));
        let kinds = heap.catalog.types.iter().map(is_type_wanted).collect();
        RowFilter {
            filter: self,
            processes,
            threads,
            apis,
            kinds,
        }
    }
}

fn is_glob_match(glob: &str, texts: &[&str]) -> bool {
    Glob::new(glob).is_ok_and(|glob| {
        let glob = glob.compile_matcher();
        texts.iter().any(|text| glob.is_match(text))
    })
}

/// A filter on rows, with the selections of threads, processes and entry points looked up beforehand.
pub(crate) struct RowFilter<'a> {
    filter: &'a Filter,
    processes: Vec<bool>,
    /// By thread: whether its process and itself are wanted.
    threads: Vec<(bool, bool)>,
    apis: Vec<bool>,
    /// By type.
    kinds: Vec<bool>,
}

impl RowFilter<'_> {
    /// Whether a row is wanted.
    pub(crate) fn accepts(&self, item: &Item) -> bool {
        let thread = item.thread;
        let by_default = (self.filter.processes.is_empty(), self.filter.threads.is_empty());
        let (process, thread) = self.threads.get(thread.get() as usize).copied().unwrap_or(by_default);
        process && thread && self.accepts_block(item)
    }

    /// Whether a row that another process inherited is wanted: the thread that allocated it is the parent's.
    pub(crate) fn accepts_inherited(&self, item: &Item) -> bool {
        self.filter.threads.is_empty() && self.accepts_block(item)
    }

    /// Whether a process is wanted.
    pub(crate) fn accepts_process(&self, process: ProcessIx) -> bool {
        self.processes.get(process.get() as usize).copied().unwrap_or(false)
    }

    #[inline]
    fn accepts_block(&self, item: &Item) -> bool {
        item.size >= self.filter.min_size
            && self.filter.max_size.is_none_or(|most| item.size <= most)
            && self.apis[item.marks.api() as usize]
            && (self.filter.types.is_empty() || self.kinds[item.kind.get() as usize])
    }
}
