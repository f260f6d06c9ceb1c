//! Looking the frames of one module up.

use super::cache::NamesCache;
use super::coverage::Coverage;
use super::dwarf::{DebugInfo, Opened, SplitSections};
use super::elf;
use super::module::{text_of, Found, Symbols};
use super::names::Place;
use super::sections::{Sections, Which};
use super::texts::Texts;
use crate::tape::ModuleInfo;
use crate::text::Text;
use object::{Architecture, Object, SymbolMap, SymbolMapName};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Look-ups after which the memory of mapped files is given back.
const RELEASE_AFTER: usize = 256;

/// Places that frames have on average, at most: real functions are inlined some tens deep, and not all of them.
const MOST_PLACES: usize = 16;
/// Places that are given however few frames there are.
const PLACES: usize = 1 << 16;

/// What turned out on the way.
#[derive(Default)]
struct Findings {
    problem: Option<String>,
    /// Files of split debug information that are not here.
    missing: BTreeSet<String>,
    /// Packages of it that are.
    packages: BTreeSet<PathBuf>,
}

impl Symbols<'_> {
    /// The places of return addresses, given as (slot, offset). What turns out to be wrong with the files is noted.
    pub(super) fn look_up(
        &self,
        info: &ModuleInfo,
        wanted: &[(usize, u64)],
        coverage: &mut Coverage,
    ) -> Vec<(usize, Vec<Place>)> {
        let of = Place {
            library: info.path.clone(),
            ..Place::default()
        };
        let files = self.files();
        let folder = self.locator.options.cache.as_deref();
        let cache = folder.and_then(|folder| {
            NamesCache::open(folder, &coverage.build_id, files.map(|found| found.path.as_path()), &of)
        });
        let Some(mut cache) = cache else {
            return self.look_up_afresh(&of, wanted, coverage);
        };
        let (mut found, mut unknown) = (Vec::with_capacity(wanted.len()), Vec::new());
        for &(slot, offset) in wanted {
            match cache.get(offset) {
                Some(places) => found.push((slot, places.to_vec())),
                None => unknown.push((slot, offset)),
            }
        }
        if unknown.is_empty() {
            return found;
        }
        let problem = coverage.problem.clone();
        let fresh = self.look_up_afresh(&of, &unknown, coverage);
        // What was found with difficulties may be found without them next time.
        if coverage.problem == problem {
            for (_, places) in &fresh {
                places
                    .first()
                    .into_iter()
                    .for_each(|inner| cache.add(inner.offset, places));
            }
            cache.save();
        }
        found.extend(fresh);
        found
    }

    fn files(&self) -> impl Iterator<Item = &Found> {
        self.image.iter().chain(&self.debug).chain(&self.alternate)
    }

    fn look_up_afresh(&self, of: &Place, wanted: &[(usize, u64)], coverage: &mut Coverage) -> Vec<(usize, Vec<Place>)> {
        let files: Vec<&Found> = self.debug.iter().chain(&self.image).collect();
        let objects: Vec<object::File<'_>> = files.iter().filter_map(|found| found.object()).collect();
        let load = |object| Sections::load(object, Which::Main);
        let sections: Vec<Sections<'_>> = objects.iter().map(load).collect();
        let alternate = self.alternate.as_ref().and_then(Found::object);
        let alternate = alternate.as_ref().map(load);
        let mini = self.mini.as_ref();
        let mini = mini.and_then(|bytes| elf::parse(bytes));
        let tables: OnceCell<Vec<SymbolMap<SymbolMapName<'_>>>> = OnceCell::new();
        let tables = || tables.get_or_init(|| objects.iter().chain(&mini).map(Object::symbol_map).collect());
        let is_arm = objects.iter().any(|object| object.architecture() == Architecture::Arm);

        let mut texts = Texts::default();
        let mut sorted = wanted.to_vec();
        sorted.sort_by_key(|&(_, offset)| offset);
        let mut found = Vec::with_capacity(wanted.len());
        let mut findings = Findings::default();
        // Places that may still be given beside one for each frame.
        let mut room = wanted.len() * MOST_PLACES + PLACES;
        // Debug information that is not to be asked again.
        let mut is_spent = vec![false; files.len()];
        let mut ahead = sorted.into_iter().peekable();
        // Neighbours lie in the same units, so that little is read twice when what was read is let go.
        while ahead.peek().is_some() {
            let (opened, split) = (Opened::default(), SplitSections::default());
            let ready = |number: usize| {
                let file: &Found = files[number];
                if is_spent[number] || !file.has_lines() {
                    return None;
                }
                let path = &file.path;
                DebugInfo::new(
                    &sections[number],
                    alternate.as_ref(),
                    path,
                    &self.build_id,
                    self.locator,
                    &opened,
                    &split,
                )
            };
            let mut infos: Vec<Option<DebugInfo<'_>>> = (0..objects.len()).map(ready).collect();
            for (slot, offset) in ahead.by_ref() {
                // A return address may be the first byte of the next line or function; the call lies before it. The lowest bit of one in Thumb code says just that.
                let address = if is_arm { offset & !1 } else { offset };
                let probe = address.saturating_sub(1);
                let of = Place { offset, ..of.clone() };
                let mut places = Vec::new();
                for (info, is_spent) in infos.iter_mut().zip(&mut is_spent) {
                    let Some(asked) = info.as_ref().filter(|_| places.is_empty()) else {
                        continue;
                    };
                    match asked.places(probe, &of, &mut texts) {
                        Ok(named) => places = named,
                        Err(spent) => {
                            findings.problem = Some(spent.to_string());
                            *is_spent = true;
                            *info = None;
                        }
                    }
                }
                if places.len() > room {
                    findings.problem = Some("its functions are inlined into each other without end".to_owned());
                    places.drain(..places.len() - 1);
                }
                room -= places.len().min(room);
                if places.is_empty() {
                    places.push(of);
                }
                if let Some(outer) = places.last_mut().filter(|place| place.function.is_none()) {
                    let symbol = tables().iter().find_map(|table| table.containing(probe));
                    outer.function = symbol.and_then(|symbol| texts.function(symbol.name()));
                }
                found.push((slot, places));
                let is_full = infos.iter().flatten().any(DebugInfo::is_full);
                if is_full || found.len().is_multiple_of(RELEASE_AFTER) {
                    self.files().for_each(|file| file.image.release());
                    sections.iter().chain(&alternate).for_each(Sections::release);
                }
                if is_full {
                    break;
                }
            }
            for info in infos.iter().flatten() {
                findings.missing.extend(info.missing());
                findings.packages.extend(info.packages().map(PathBuf::from));
            }
        }
        if sections.iter().chain(&alternate).any(|sections| sections.is_damaged) {
            findings.problem = Some("a section with debug information is damaged".to_owned());
        }
        if texts.were_cut() {
            findings.problem = Some("its names take more memory than any program's, and some are left out".to_owned());
        }
        findings.tell(coverage);
        found
    }
}

impl Findings {
    fn tell(self, coverage: &mut Coverage) {
        let count = self.missing.len();
        let missing = self.missing.first();
        let missing = missing.map(|first| format!("{count} file(s) of split debug information are not here ({first})"));
        if let Some(problem) = self.problem.or(missing) {
            coverage.problem = Some(Text::new(&problem));
        }
        coverage
            .supplements
            .extend(self.packages.iter().map(|path| text_of(path)));
    }
}
