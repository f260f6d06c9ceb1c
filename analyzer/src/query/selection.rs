//! Selections of rows by what the table holds of them, and `FIELD:WHAT`, which names one on the command line.

use super::filter::{BadPattern, Pattern};
use super::lifetime::{part, Lifetime, Lives, SharedGauge};
use super::moment::TimeSpec;
use crate::table::{Alike, Domain, Heap, Item};
use crate::text::Text;
use globset::{Glob, GlobMatcher};
use heaptape_format::AllocApi;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

/// Lists of what rows can be, one for each property.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Thread ids or globs on thread names.
    pub threads: Vec<String>,
    /// Process ids or globs on executables.
    pub processes: Vec<String>,
    /// Sizes in bytes.
    pub sizes: Vec<RangeInclusive<u64>>,
    /// Entry points.
    pub apis: Vec<AllocApi>,
    /// Allocators.
    pub domains: Vec<Domain>,
    /// Globs on the names of types of objects; a block without one does not match.
    pub types: Vec<GlobMatcher>,
    /// How long they lived.
    pub lifetimes: Vec<Lives>,
    /// Born from the first instant on and before the second. A span that a tape does not have matches nothing.
    pub born: Vec<(TimeSpec, TimeSpec)>,
}

/// `FIELD:WHAT` of the command line.
#[derive(Clone, Debug)]
pub enum Rule {
    /// `GLOB`, `file:GLOB`, `func:GLOB`, `lib:GLOB`.
    Frame(Pattern),
    /// `thread:ID` or `thread:GLOB`.
    Thread(String),
    /// `process:ID` or `process:GLOB`.
    Process(String),
    /// `type:GLOB`.
    Type(GlobMatcher),
    /// `domain:ALLOCATOR`.
    Domain(Vec<Domain>),
    /// `api:NAME`.
    Api(AllocApi),
    /// `size:MIN..MAX`.
    Size(RangeInclusive<u64>),
    /// `lifetime:MIN..MAX`.
    Lifetime(Lives),
    /// `born:A..B`.
    Born(TimeSpec, TimeSpec),
}

impl FromStr for Rule {
    type Err = String;

    /// ```
    /// use heaptape::query::Rule;
    /// assert!(matches!("size:1KiB..64KiB".parse(), Ok(Rule::Size(sizes)) if sizes == (1024..=65536)));
    /// // A name of C++ is a pattern on a frame.
    /// assert!(matches!("size::of".parse(), Ok(Rule::Frame(_))));
    /// ```
    fn from_str(text: &str) -> Result<Rule, String> {
        let frame = || {
            text.parse()
                .map(Rule::Frame)
                .map_err(|error: BadPattern| error.to_string())
        };
        let Some((field, what)) = text.split_once(':').filter(|(_, what)| !what.starts_with(':')) else {
            return frame();
        };
        match field {
            "thread" => glob(what).map(|_| Rule::Thread(what.to_owned())),
            "process" => glob(what).map(|_| Rule::Process(what.to_owned())),
            "type" => glob(what).map(Rule::Type),
            "domain" => domains(what).map(Rule::Domain),
            "api" => api(what).map(Rule::Api),
            "size" => sizes(what).map(Rule::Size),
            "lifetime" => lives(what).map(Rule::Lifetime),
            "born" => span(what).map(|(from, until)| Rule::Born(from, until)),
            _ => frame(),
        }
    }
}

/// A glob.
///
/// # Errors
/// What is wrong with it.
pub fn glob(text: &str) -> Result<GlobMatcher, String> {
    match Glob::new(text) {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => Err(error.to_string()),
    }
}

/// An entry point by its name.
///
/// # Errors
/// With all names.
pub fn api(text: &str) -> Result<AllocApi, String> {
    AllocApi::ALL.into_iter().find(|api| api.name() == text).ok_or_else(|| {
        let names: Vec<&str> = AllocApi::ALL.iter().map(|api| api.name()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

fn domains(text: &str) -> Result<Vec<Domain>, String> {
    Ok(match text {
        "malloc" => vec![Domain::Malloc],
        "raw" => vec![Domain::PyRaw],
        "mem" => vec![Domain::PyMem],
        "obj" => vec![Domain::PyObj],
        "python" => vec![Domain::PyRaw, Domain::PyMem, Domain::PyObj],
        _ => return Err("expected one of malloc, raw, mem, obj, python".into()),
    })
}

fn sizes(text: &str) -> Result<RangeInclusive<u64>, String> {
    let bytes = heaptape_collector::cli::bytes;
    let Some((from, until)) = text.split_once("..") else {
        return bytes(text).map(|size| size..=size);
    };
    let from = if from.is_empty() { 0 } else { bytes(from)? };
    let until = if until.is_empty() { u64::MAX } else { bytes(until)? };
    match from <= until {
        true => Ok(from..=until),
        false => Err("the range MIN..MAX ends before it begins".into()),
    }
}

fn lives(text: &str) -> Result<Lives, String> {
    const FORM: &str = "expected MIN..MAX, either of which may be left out, for example ..10ms, #1000.. or 1s..1m";
    let (from, until) = text.split_once("..").ok_or(FORM)?;
    let read = |text: &str| match text {
        "" => Ok(None),
        text => text
            .parse::<Lifetime>()
            .map(Some)
            .map_err(|error: super::NotALifetime| error.to_string()),
    };
    match (read(from)?, read(until)?) {
        (None, None) => Err(FORM.into()),
        (Some(from), None) => Ok(Lives::at_least(from)),
        (None, Some(until)) => Ok(Lives::at_most(until)),
        (Some(from), Some(until)) if from.measured != until.measured => {
            Err("both ends of MIN..MAX must be events, bytes, or times".into())
        }
        (Some(from), Some(until)) if from.length > until.length => {
            Err("the range MIN..MAX ends before it begins".into())
        }
        (Some(from), Some(until)) => Ok(Lives {
            least: from.length,
            ..Lives::at_most(until)
        }),
    }
}

/// An instant, with or without its `@`.
///
/// # Errors
/// When it is none.
pub fn time(text: &str) -> Result<TimeSpec, String> {
    text.strip_prefix('@')
        .unwrap_or(text)
        .parse()
        .map_err(|error: super::NotATime| error.to_string())
}

/// Two instants, `A..B`; either may be left out.
///
/// # Errors
/// When it is no such span.
pub fn span(text: &str) -> Result<(TimeSpec, TimeSpec), String> {
    let (from, until) = text
        .split_once("..")
        .ok_or("expected A..B, for example 10m..20m or @marker:ready..@end")?;
    Ok((
        if from.is_empty() { TimeSpec::Start } else { time(from)? },
        if until.is_empty() { TimeSpec::End } else { time(until)? },
    ))
}

fn is_glob_match(wanted: &str, texts: &[&str]) -> bool {
    Glob::new(wanted).is_ok_and(|glob| {
        let glob = glob.compile_matcher();
        texts.iter().any(|text| glob.is_match(text))
    })
}

impl Selection {
    /// Adds a rule that is not about a frame; a pattern is given back.
    pub fn add(&mut self, rule: Rule) -> Option<Pattern> {
        match rule {
            Rule::Frame(pattern) => return Some(pattern),
            Rule::Thread(thread) => self.threads.push(thread),
            Rule::Process(process) => self.processes.push(process),
            Rule::Type(glob) => self.types.push(glob),
            Rule::Domain(domains) => self.domains.extend(domains),
            Rule::Api(api) => self.apis.push(api),
            Rule::Size(sizes) => self.sizes.push(sizes),
            Rule::Lifetime(lives) => self.lifetimes.push(lives),
            Rule::Born(from, until) => self.born.push((from, until)),
        }
        None
    }

    /// Whether it selects nothing.
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
            && self.processes.is_empty()
            && self.sizes.is_empty()
            && self.apis.is_empty()
            && self.domains.is_empty()
            && self.types.is_empty()
            && self.lifetimes.is_empty()
            && self.born.is_empty()
    }

    /// By process, whether it is selected; `None` when processes do not matter.
    pub(super) fn processes_of(&self, heap: &Heap) -> Option<Vec<bool>> {
        let is_wanted = |info: &crate::tape::ProcessInfo| {
            let mut wanted = self.processes.iter();
            wanted.any(|wanted| {
                wanted.parse() == Ok(info.pid) || is_glob_match(wanted, &[info.exe.as_str(), info.exe.basename()])
            })
        };
        (!self.processes.is_empty()).then(|| heap.catalog.processes.iter().map(is_wanted).collect())
    }

    /// Looks everything up in a heap.
    pub(super) fn tests<'a>(&'a self, heap: &'a Heap) -> Tests<'a> {
        let mut tests = Vec::new();
        if !self.born.is_empty() {
            let rows = self.born.iter().filter_map(|(from, until)| {
                let (from, until) = (from.resolve_birth(heap).ok()?, until.resolve_birth(heap).ok()?);
                let born = |cut| heap.allocations.born_before(cut) as u32;
                Some(born(from.cut)..born(until.cut))
            });
            tests.push(Test::Rows(rows.collect()));
        }
        if !self.sizes.is_empty() {
            tests.push(Test::Sizes(&self.sizes));
        }
        let by_api = |is_wanted: &dyn Fn(AllocApi) -> bool| {
            Test::Apis(
                (0..=u8::MAX)
                    .map(|number| AllocApi::from_u8(number).is_some_and(is_wanted))
                    .collect(),
            )
        };
        if !self.apis.is_empty() {
            tests.push(by_api(&|api| self.apis.contains(&api)));
        }
        if !self.domains.is_empty() {
            tests.push(by_api(&|api| self.domains.contains(&Domain::of(api))));
        }
        if !self.types.is_empty() {
            let is_wanted =
                |name: &Text| !name.as_str().is_empty() && self.types.iter().any(|glob| glob.is_match(name.as_str()));
            tests.push(Test::Kinds(heap.catalog.types.iter().map(is_wanted).collect()));
        }
        let mut homes = Vec::new();
        let threads = &heap.catalog.threads;
        if let Some(processes) = self.processes_of(heap) {
            let is_wanted = |process: usize| processes.get(process).copied().unwrap_or(false);
            homes.push(
                threads
                    .iter()
                    .map(|info| is_wanted(info.process.get() as usize))
                    .collect(),
            );
        }
        if !self.threads.is_empty() {
            let is_wanted = |info: &crate::tape::ThreadInfo| {
                let mut wanted = self.threads.iter();
                wanted.any(|wanted| wanted.parse() == Ok(info.tid) || is_glob_match(wanted, &[info.name.as_str()]))
            };
            homes.push(threads.iter().map(is_wanted).collect());
        }
        // The dearest one is asked last.
        if !self.lifetimes.is_empty() {
            let gauges = self
                .lifetimes
                .iter()
                .map(|lives| (*lives, SharedGauge::new(heap, lives)));
            tests.push(Test::Lives(gauges.collect()));
        }
        Tests { homes, block: tests }
    }
}

/// A selection, looked up in a heap.
pub(super) struct Tests<'a> {
    /// By thread: whether it, or its process, is selected.
    homes: Vec<Vec<bool>>,
    block: Vec<Test<'a>>,
}

enum Test<'a> {
    Rows(Vec<Range<u32>>),
    Sizes(&'a [RangeInclusive<u64>]),
    Apis(Vec<bool>),
    Kinds(Vec<bool>),
    Lives(Vec<(Lives, SharedGauge<'a>)>),
}

impl Test<'_> {
    fn matches(&self, item: &Item) -> bool {
        match self {
            Test::Rows(ranges) => ranges.iter().any(|range| range.contains(&item.row)),
            Test::Sizes(ranges) => ranges.iter().any(|range| range.contains(&item.size)),
            Test::Apis(apis) => apis[item.marks.api() as usize],
            Test::Kinds(kinds) => kinds.get(item.kind.get() as usize).copied().unwrap_or(false),
            Test::Lives(lives) => lives.iter().any(|(_, gauge)| gauge.holds(item)),
        }
    }

    /// Whether all of some alike rows match; `None` when some do and some do not, or when that cannot be told.
    fn judge(&self, alike: &Alike, item: &Item) -> Option<bool> {
        match self {
            Test::Rows(ranges) => ranges.is_empty().then_some(false),
            Test::Sizes(ranges) => any(ranges.iter().map(|range| part(range, &alike.sizes()))),
            Test::Apis(_) | Test::Kinds(_) => Some(self.matches(item)),
            Test::Lives(lives) => any(lives.iter().map(|(lives, _)| lives.judge(alike))),
        }
    }
}

/// Whether any holds, as far as that can be told.
fn any(mut tests: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let sum = tests.try_fold(Some(false), |sum, test| match test {
        Some(true) => Err(()),
        Some(false) => Ok(sum),
        None => Ok(None),
    });
    sum.unwrap_or(Some(true))
}

fn is_home(threads: &[bool], item: &Item) -> bool {
    threads.get(item.thread.get() as usize).copied().unwrap_or(false)
}

impl Tests<'_> {
    #[inline]
    pub(super) fn all(&self, item: &Item) -> bool {
        self.homes.iter().all(|threads| is_home(threads, item)) && self.all_of_block(item)
    }

    #[inline]
    pub(super) fn any(&self, item: &Item) -> bool {
        self.homes.iter().any(|threads| is_home(threads, item)) || self.any_of_block(item)
    }

    /// [`Tests::all`] of some alike rows; `None` when that cannot be told.
    pub(super) fn judge_all(&self, alike: &Alike, item: &Item) -> Option<bool> {
        let homes = self
            .homes
            .iter()
            .map(|threads| alike.has_thread().then(|| !is_home(threads, item)));
        let block = self
            .block
            .iter()
            .map(|test| test.judge(alike, item).map(|is_it| !is_it));
        any(homes.chain(block)).map(|fails| !fails)
    }

    /// [`Tests::any`] of some alike rows; `None` when that cannot be told.
    pub(super) fn judge_any(&self, alike: &Alike, item: &Item) -> Option<bool> {
        let homes = self
            .homes
            .iter()
            .map(|threads| alike.has_thread().then(|| is_home(threads, item)));
        any(homes.chain(self.block.iter().map(|test| test.judge(alike, item))))
    }

    #[inline]
    pub(super) fn all_of_block(&self, item: &Item) -> bool {
        self.block.iter().all(|test| test.matches(item))
    }

    #[inline]
    pub(super) fn any_of_block(&self, item: &Item) -> bool {
        self.block.iter().any(|test| test.matches(item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_a_rule_and_bad_ones_say_what_is_expected() {
        for text in [
            "*",
            "file:*.c",
            "func:main",
            "lib:libc*",
            "thread:12",
            "thread:worker*",
            "process:python*",
            "type:dict",
            "domain:python",
            "api:calloc",
            "size:4096",
            "size:..64k",
            "size:1KiB..",
            "lifetime:..10ms",
            "lifetime:#5..#9",
            "born:10m..20m",
            "born:..@marker:ready",
            "std::vector",
            "type::of",
        ] {
            assert!(text.parse::<Rule>().is_ok(), "{text}");
        }
        for (text, says) in [
            ("size:2k..1k", "ends before"),
            ("size:big", "expected a size"),
            ("lifetime:5ms", "MIN..MAX"),
            ("lifetime:..", "MIN..MAX"),
            ("lifetime:#5..5ms", "both ends"),
            ("lifetime:5s..5ms", "ends before"),
            ("born:5s", "A..B"),
            ("domain:heap", "expected one of"),
            ("api:mallok", "posix_memalign"),
            ("type:[", "unclosed"),
            ("lib:[", "lib:GLOB"),
        ] {
            let refused = text.parse::<Rule>().expect_err(text);
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }
}
