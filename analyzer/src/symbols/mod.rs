//! From addresses to functions, files and lines, by the files of this machine.
//!
//! Separate from replay: a heap is exact without any symbol. A module's file is used only if its build-id is the recorded one; a name
//! from another build would be a lie. Only frames that a query needs are looked up, and only their modules opened.

mod declared;
mod demangle;
mod image;
mod locate;
mod module;
mod names;
mod sources;

pub use demangle::demangle;
pub use locate::Options;
pub use module::Coverage;
pub use names::{Language, Names, Place, Resolver, View};
pub use sources::Sources;

use crate::table::Heap;
use crate::tape::{FrameIx, PlaceKind};
use crate::text::Text;
use heaptape_format::ModuleIx;
use module::Symbols;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Looks names up in local files.
#[derive(Debug, Default)]
pub struct Symbolizer {
    options: Options,
    coverage: Mutex<BTreeMap<(Text, ModuleIx), Coverage>>,
}

impl Symbolizer {
    /// A symbolizer that searches where `options` say.
    pub fn new(options: Options) -> Symbolizer {
        Symbolizer {
            options,
            coverage: Mutex::default(),
        }
    }

    /// What was found of each module that was needed so far, by tape and module.
    pub fn coverage(&self) -> Vec<Coverage> {
        self.coverage
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .values()
            .cloned()
            .collect()
    }

    /// Opens all modules of a heap and says what is there, looking nothing up.
    pub fn survey(&self, heap: &Heap) -> Vec<Coverage> {
        heap.catalog
            .modules
            .par_iter()
            .map(|module| Symbols::find(module, &self.options).1)
            .collect()
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
                kind => places[slot] = vec![Place::without_symbols(heap, kind)],
            }
        }
        let by_module: Vec<_> = by_module.into_iter().collect();
        let found: Vec<_> = by_module
            .par_iter()
            .map(|(module, wanted)| {
                let info = &heap.catalog.modules[module.get() as usize];
                let (symbols, mut coverage) = Symbols::find(info, &self.options);
                let found: Vec<(usize, Vec<Place>)> = symbols.look_up(info, wanted, &mut coverage);
                (*module, found, coverage)
            })
            .collect();
        let mut known = self.coverage.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
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
