//! From addresses to functions, files and lines, by the files of this machine.
//!
//! Separate from replay: a heap is exact without any symbol. A module's file is used only if its build-id is the recorded one; a name
//! from another build would be a lie. Only frames that a query needs are looked up, and only their modules opened. Names that were frozen into the tape need no files.
//!
//! | module | |
//! |---|---|
//! | `names` | a place in the source, and the names of all frames that a query needs |
//! | `locate`, `sysroot`, `debuginfod` | where files may lie |
//! | `module`, `look_up` | finds and checks the files of a module, looks its frames up, drops them |
//! | `image`, `elf`, `sections`, `reader`, `mini` | bytes that may be hostile, within bounds |
//! | `dwarf`, `declared` | functions, lines, inlined functions |
//! | `cache` | names that were looked up before |
//! | `coverage`, `check` | what was found, what was refused, what share of a tape it names |
//! | `freeze` | names into the tape |
//! | `sources` | lines of source files |

mod cache;
mod check;
mod coverage;
mod debuginfod;
mod declared;
mod demangle;
mod dwarf;
mod elf;
mod freeze;
mod image;
mod locate;
mod look_up;
mod mini;
mod module;
mod names;
mod reader;
mod sections;
mod sources;
mod sysroot;
mod texts;

pub use check::{check, ModuleCheck, Share, SymbolCheck};
pub use coverage::{Coverage, Refused, State};
pub use debuginfod::Debuginfod;
pub use demangle::demangle;
pub use freeze::freeze;
pub use locate::{FoundBy, Options};
pub use names::{Language, Names, Place, Resolver, View};
pub use sources::Sources;

use crate::table::Heap;
use crate::tape::{FrameIx, PlaceKind};
use crate::text::Text;
use heaptape_format::ModuleIx;
use locate::Locator;
use module::Symbols;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// Looks names up in the tape itself, and in local files.
#[derive(Debug, Default)]
pub struct Symbolizer {
    locator: Locator,
    coverage: Mutex<BTreeMap<(Text, ModuleIx), Coverage>>,
}

impl Symbolizer {
    /// A symbolizer that searches where `options` say.
    pub fn new(options: Options) -> Symbolizer {
        Symbolizer {
            locator: Locator::new(options),
            coverage: Mutex::default(),
        }
    }

    /// What was found of each module that was needed so far, by tape and module.
    pub fn coverage(&self) -> Vec<Coverage> {
        self.known().values().cloned().collect()
    }

    /// What was found of one module, if it was needed.
    fn coverage_of(&self, heap: &Heap, module: ModuleIx) -> Option<Coverage> {
        self.known().get(&(heap.name.clone(), module)).cloned()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<(Text, ModuleIx), Coverage>> {
        self.coverage.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What is there of each module of a heap. Looks nothing up, and searches only for those that were not needed so far.
    pub fn survey(&self, heap: &Heap) -> Vec<Coverage> {
        let modules: Vec<_> = heap.catalog.modules.iter().enumerate().collect();
        modules
            .par_iter()
            .map(|&(ix, info)| {
                let ix = ModuleIx(ix as u32);
                let known = self.coverage_of(heap, ix).or_else(|| self.frozen(heap, ix));
                known.unwrap_or_else(|| Symbols::find(info, &self.locator).1)
            })
            .collect()
    }

    /// What was known of a module when the tape's names were frozen, if that is what holds: a module that had no symbols then is looked for where the user says, and
    /// nowhere else.
    fn frozen(&self, heap: &Heap, module: ModuleIx) -> Option<Coverage> {
        let info = heap.catalog.module(module)?;
        let kept = heap.catalog.names.module(module)?;
        let coverage = Coverage::frozen(info, kept);
        let options = &self.locator.options;
        let asks = options.sysroot.is_some() || !options.debug_dirs.is_empty() || options.debuginfod.is_some();
        (coverage.state == State::Found || !asks).then_some(coverage)
    }
}

impl Resolver for Symbolizer {
    fn resolve(&self, heap: &Heap, frames: &[FrameIx]) -> Vec<Vec<Place>> {
        let mut by_module: BTreeMap<ModuleIx, Vec<(usize, u64)>> = BTreeMap::new();
        let mut places: Vec<Vec<Place>> = vec![Vec::new(); frames.len()];
        for (slot, &frame) in frames.iter().enumerate() {
            match heap.catalog.stacks.kind(frame) {
                PlaceKind::Native { module, offset } if heap.catalog.module(module).is_some() => {
                    by_module.entry(module).or_default().push((slot, offset));
                }
                kind => places[slot] = vec![Place::in_no_module(heap, frame, kind)],
            }
        }
        let by_module: Vec<_> = by_module.into_iter().collect();
        let found: Vec<_> = by_module
            .par_iter()
            .map(|(module, wanted)| {
                let info = &heap.catalog.modules[module.get() as usize];
                let kept = |slot: usize, offset: u64| Place::kept(heap, info, frames[slot], offset);
                if let Some(mut coverage) = self.frozen(heap, *module) {
                    let found = wanted.iter().map(|&(slot, offset)| (slot, kept(slot, offset)));
                    let found: Vec<_> = found.inspect(|(_, places)| coverage.count(places)).collect();
                    return (*module, found, coverage);
                }
                let (symbols, mut coverage) = Symbols::find(info, &self.locator);
                let mut found = symbols.look_up(info, wanted, &mut coverage);
                for (slot, places) in &mut found {
                    // What was frozen is better than nothing.
                    if places
                        .iter()
                        .all(|place| place.function.is_none() && place.file.is_none())
                    {
                        *places = kept(*slot, places.first().map_or(0, |place| place.offset));
                    }
                    coverage.count(places);
                }
                (*module, found, coverage)
            })
            .collect();
        let mut known = self.known();
        for (module, found, coverage) in found {
            known.insert((heap.name.clone(), module), coverage);
            for (slot, inner) in found {
                places[slot] = inner;
            }
        }
        places
    }
}

/// A resolver that knows no symbols at all: every frame is its module and offset. For tests and for `--no-symbols`.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSymbols;

impl Resolver for NoSymbols {
    fn resolve(&self, heap: &Heap, frames: &[FrameIx]) -> Vec<Vec<Place>> {
        frames
            .iter()
            .map(|&frame| vec![Place::without_symbols(heap, heap.catalog.stacks.kind(frame))])
            .collect()
    }
}
