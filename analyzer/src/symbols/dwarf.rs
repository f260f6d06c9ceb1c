//! Functions, files and lines of a module's addresses, inlined functions included, by its debug information.

use super::declared;
use super::elf;
use super::image::Image;
use super::locate::Locator;
use super::names::Place;
use super::reader::{Bounded, Budget};
use super::sections::{endian, section, Sections, Which};
use super::texts::Texts;
use addr2line::{Context, LookupContinuation, LookupResult, SplitDwarfLoad};
use gimli::{Dwarf, DwarfPackage, DwarfPackageSections, Reader, RunTimeEndian};
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use typed_arena::Arena;

/// Inlined functions taken from one frame; deeper nesting than this is no compiler's work.
const MOST_INLINED: usize = 256;
/// Reads that a parser may do for each byte of debug information: it goes over the same few times, and no more.
const READS_PER_BYTE: u64 = 4;
/// Reads that any debug information is worth, and that none is, in one look-up.
const READS: std::ops::RangeInclusive<u64> = (1 << 22)..=(1 << 29);

/// Reads after which what was made of them is let go.
const KEPT_READS: u64 = 64 << 20;
/// The same for bytes of split debug information that was decompressed: each unit may name a file of its own, or all the same.
const KEPT_BYTES: u64 = 256 << 20;
/// No path to a file is longer.
const LONGEST_PATH: usize = 4096;

/// What is opened on the way: files of split debug information, and their sections.
#[derive(Default)]
pub(super) struct Opened {
    images: Arena<Image>,
}

/// Sections of files of split debug information.
#[derive(Default)]
pub(super) struct SplitSections<'i>(
    Arena<Sections<'i>>,
    Arena<DwarfPackageSections<super::sections::Bytes<'i>>>,
);

/// Debug information that is ready to be asked.
pub(super) struct DebugInfo<'s> {
    context: Context<Bounded<'s>>,
    split: Split<'s>,
    /// Reads that one look-up may do.
    reads: u64,
    /// Reads that were done for the units that are kept.
    done: Cell<u64>,
}

/// Where split debug information comes from.
struct Split<'s> {
    locator: &'s Locator,
    file: PathBuf,
    opened: &'s Opened,
    sections: &'s SplitSections<'s>,
    packages: Vec<(PathBuf, DwarfPackage<Bounded<'s>>)>,
    /// Names of files that were not found.
    missing: RefCell<Vec<String>>,
    /// Bytes that were decompressed into memory.
    kept: Cell<u64>,
}

impl<'s> DebugInfo<'s> {
    /// Makes sections ready; `None` when they make no sense, or there are none.
    pub(super) fn new(
        main: &'s Sections<'_>,
        alternate: Option<&'s Sections<'_>>,
        file: &Path,
        build_id: &[u8],
        locator: &'s Locator,
        opened: &'s Opened,
        sections: &'s SplitSections<'s>,
    ) -> Option<DebugInfo<'s>> {
        let length = main.length() + alternate.map_or(0, Sections::length);
        let reads = length
            .saturating_mul(READS_PER_BYTE)
            .clamp(*READS.start(), *READS.end());
        let _budget = Budget::begin(reads);
        let mut dwarf = main.borrow();
        if let Some(alternate) = alternate {
            dwarf.set_sup(alternate.borrow());
        }
        let context = Context::from_dwarf(dwarf).ok()?;
        let mut split = Split {
            locator,
            file: file.to_owned(),
            opened,
            sections,
            packages: Vec::new(),
            missing: RefCell::default(),
            kept: Cell::new(0),
        };
        let packages = locator.packages(file, build_id).into_iter();
        split.packages = packages
            .filter_map(|path| split.package(&path).map(|package| (path, package)))
            .collect();
        Some(DebugInfo {
            context,
            split,
            reads,
            done: Cell::new(0),
        })
    }

    /// Whether so much was read that it is time to let it go: what is kept of a unit takes about a byte for each read.
    pub(super) fn is_full(&self) -> bool {
        self.done.get() > KEPT_READS || self.split.kept.get() > KEPT_BYTES
    }

    /// Packages of split debug information that were found.
    pub(super) fn packages(&self) -> impl Iterator<Item = &Path> {
        self.split.packages.iter().map(|(path, _)| path.as_path())
    }

    /// Files of split debug information that were needed and not found.
    pub(super) fn missing(&self) -> Vec<String> {
        self.split.missing.borrow().clone()
    }

    /// The places of an address, innermost first; none when nothing is known. `Err`: this debug information is not to be asked again.
    pub(super) fn places(&self, probe: u64, of: &Place, texts: &mut Texts) -> Result<Vec<Place>, Spent> {
        let budget = Budget::begin(self.reads);
        let mut places = self.frames(probe, of, texts);
        self.done.set(self.done.get() + self.reads - budget.left());
        if budget.is_spent() {
            return Err(Spent);
        }
        if let Some(outer) = places.last_mut() {
            outer.inlined = false;
        }
        let is_known = |place: &Place| place.function.is_some() || place.file.is_some();
        if !places.iter().any(is_known) {
            places.clear();
        }
        Ok(places)
    }

    fn frames(&self, probe: u64, of: &Place, texts: &mut Texts) -> Vec<Place> {
        let mut places = Vec::new();
        let Ok(mut frames) = self.split.finish(self.context.find_frames(probe)) else {
            return places;
        };
        let unit = self.split.finish(self.context.find_dwarf_and_unit(probe));
        while let Ok(Some(frame)) = frames.next() {
            let function = frame
                .function
                .as_ref()
                .and_then(|name| name.raw_name().ok().and_then(|raw| texts.function(&raw)));
            let (file, line) = match &frame.location {
                Some(location) => (
                    location.file.and_then(|file| texts.file(file)),
                    location.line.unwrap_or(0),
                ),
                None => (None, 0),
            };
            places.push(Place {
                function,
                file,
                line,
                inlined: true,
                declared: match (unit, frame.dw_die_offset) {
                    (Some(unit), Some(entry)) => declared::line(unit, entry),
                    _ => 0,
                },
                ..of.clone()
            });
            if places.len() >= MOST_INLINED {
                break;
            }
        }
        places
    }
}

/// Debug information that took more work than any honest one.
#[derive(Debug)]
pub(super) struct Spent;

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("its debug information nests or repeats without end, and is not used")
    }
}

impl<'s> Split<'s> {
    /// Answers what the look-up asks for on the way.
    fn finish<L: LookupContinuation<Buf = Bounded<'s>>>(&self, mut result: LookupResult<L>) -> L::Output {
        loop {
            result = match result {
                LookupResult::Output(found) => return found,
                LookupResult::Load { load, continuation } => continuation.resume(self.load(&load)),
            };
        }
    }

    fn load(&self, load: &SplitDwarfLoad<Bounded<'s>>) -> Option<Arc<Dwarf<Bounded<'s>>>> {
        for (_, package) in &self.packages {
            if let Ok(Some(dwarf)) = package.find_cu(load.dwo_id, &load.parent) {
                return Some(Arc::new(dwarf));
            }
        }
        let bytes = |reader: &Option<Bounded<'s>>| match reader {
            Some(reader) if reader.len() <= LONGEST_PATH => {
                reader.to_slice().map(|bytes| bytes.into_owned()).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let (folder, name) = (bytes(&load.comp_dir), bytes(&load.path));
        let files = self.locator.split_files(&self.file, &folder, &name);
        let found = files.iter().find_map(|path| self.split_file(path, load));
        if found.is_none() {
            self.missing
                .borrow_mut()
                .push(String::from_utf8_lossy(&name).into_owned());
        }
        found
    }

    /// A `.dwo`, if it is the one that the skeleton belongs to.
    fn split_file(&self, path: &Path, load: &SplitDwarfLoad<Bounded<'s>>) -> Option<Arc<Dwarf<Bounded<'s>>>> {
        let image: &'s Image = self.opened.images.alloc(Image::open(path).ok()?);
        let object = elf::parse(image.bytes())?;
        let sections: &'s Sections<'s> = self.sections.0.alloc(Sections::load(&object, Which::Split));
        self.kept.set(self.kept.get() + sections.in_memory());
        let mut dwarf = sections.borrow();
        dwarf.make_dwo(&load.parent);
        let header = dwarf.units().next().ok()??;
        let unit = dwarf.unit(header).ok()?;
        (unit.dwo_id == Some(load.dwo_id)).then(|| Arc::new(dwarf))
    }

    /// A `.dwp`.
    fn package(&self, path: &Path) -> Option<DwarfPackage<Bounded<'s>>> {
        let image: &'s Image = self.opened.images.alloc(Image::open(path).ok()?);
        let object = elf::parse(image.bytes())?;
        let endian: RunTimeEndian = endian(&object);
        let Ok(sections) = DwarfPackageSections::load(|id| {
            // A section that is damaged is one that is not there.
            Ok::<_, gimli::Error>(section(&object, id, Which::Split, &mut false))
        }) else {
            return None;
        };
        let sections: &'s DwarfPackageSections<_> = self.sections.1.alloc(sections);
        let borrow = |bytes: &'s super::sections::Bytes<'s>| Bounded::new(bytes, endian);
        sections.borrow(borrow, Bounded::new(&[], endian)).ok()
    }
}
