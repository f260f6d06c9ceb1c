//! The symbols of one module: its file, its debug file, and looking offsets up in them.

use super::declared;
use super::demangle::demangle;
use super::image::Image;
use super::locate::{hex, Options};
use super::names::Place;
use crate::tape::ModuleInfo;
use crate::text::Text;
use gimli::{EndianSlice, RunTimeEndian};
use object::{Object, ObjectSection};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Debug sections that would decompress to more than this are left alone.
const LARGEST_SECTION: u64 = 4 << 30;
/// Inlined functions taken from one frame; deeper nesting than this is no compiler's work.
const MOST_INLINED: usize = 256;

/// What could be found of a module.
#[derive(Clone, Debug, Serialize)]
pub struct Coverage {
    /// The module as the tape names it.
    pub module: Text,
    /// The recorded build-id in hexadecimal; empty when there was none.
    pub build_id: String,
    /// The file that is used for symbols.
    pub file: Option<Text>,
    /// The file that is used for lines and inlined functions.
    pub debug_file: Option<Text>,
    /// Why there is nothing, or less than there could be.
    pub problem: Option<Text>,
    /// Frames that were asked for.
    pub frames: u64,
    /// Of these, frames whose function was found.
    pub with_function: u64,
    /// Of these, frames whose line was found.
    pub with_line: u64,
}

/// The files of a module.
pub(super) struct Symbols {
    image: Option<Image>,
    debug: Option<Image>,
}

impl Symbols {
    /// Finds and checks the files of a module.
    pub(super) fn find(info: &ModuleInfo, options: &Options) -> (Symbols, Coverage) {
        let build_id = info.raw.build_id.as_slice();
        let mut coverage = Coverage {
            module: info.path.clone(),
            build_id: hex(build_id),
            file: None,
            debug_file: None,
            problem: None,
            frames: 0,
            with_function: 0,
            with_line: 0,
        };
        let mut problems = Vec::new();
        let found = first_good(options.module_files(&info.raw.path, build_id), build_id, &mut problems);
        let link = found.as_ref().and_then(|(_, image)| debug_link(image));
        let has_lines = found.as_ref().is_some_and(|(_, image)| has_debug_info(image));
        let path = found.as_ref().map(|(path, _)| path.clone());
        let debug = if has_lines {
            None
        } else {
            let files = options.debug_files(path.as_deref(), build_id, link.as_deref());
            first_good(files, build_id, &mut Vec::new()).filter(|(_, image)| has_debug_info(image))
        };
        coverage.file = path.as_deref().map(text_of);
        coverage.debug_file = match (&debug, has_lines) {
            (Some((path, _)), _) => Some(text_of(path)),
            (None, true) => coverage.file.clone(),
            (None, false) => None,
        };
        coverage.problem = match (&found, &coverage.debug_file) {
            (None, None) => Some(
                problems
                    .into_iter()
                    .next()
                    .unwrap_or_else(|| "no file of this name or build-id is here".to_owned()),
            ),
            (_, None) => Some("no debug information (lines unknown)".to_owned()),
            _ if build_id.is_empty() => Some("no build-id was recorded, so the file could not be checked".to_owned()),
            _ => None,
        }
        .map(|problem| Text::new(&problem));
        (
            Symbols {
                image: found.map(|(_, image)| image),
                debug: debug.map(|(_, image)| image),
            },
            coverage,
        )
    }

    /// The places of return addresses, given as (slot, offset), and counts of what was found.
    pub(super) fn look_up(
        &self,
        info: &ModuleInfo,
        wanted: &[(usize, u64)],
        coverage: &mut Coverage,
    ) -> Vec<(usize, Vec<Place>)> {
        let objects: Vec<object::File<'_>> = self
            .debug
            .iter()
            .chain(&self.image)
            .filter_map(|image| object::File::parse(image.bytes()).ok())
            .collect();
        let sections: Vec<Sections<'_>> = objects.iter().map(Sections::load).collect();
        let contexts: Vec<_> = sections.iter().filter_map(Sections::context).collect();
        let symbols: Vec<_> = objects.iter().map(Object::symbol_map).collect();
        let mut texts = Texts::default();
        let mut found = Vec::with_capacity(wanted.len());
        for &(slot, offset) in wanted {
            // A return address may be the first byte of the next line or function; the call lies before it.
            let probe = offset.saturating_sub(1);
            let mut places = contexts
                .iter()
                .map(|context| frames(context, probe, offset, info, &mut texts))
                .find(|places| !places.is_empty())
                .unwrap_or_else(|| {
                    vec![Place {
                        library: info.path.clone(),
                        offset,
                        ..Place::default()
                    }]
                });
            if let Some(outer) = places.last_mut().filter(|place| place.function.is_none()) {
                outer.function = symbols
                    .iter()
                    .find_map(|map| map.containing(probe))
                    .map(|symbol| texts.function(symbol.name()));
            }
            coverage.frames += 1;
            coverage.with_function += u64::from(places.iter().any(|place| place.function.is_some()));
            coverage.with_line += u64::from(places.iter().any(|place| place.line > 0));
            found.push((slot, places));
        }
        found
    }
}

/// Names met again are shared and demangled once.
#[derive(Default)]
struct Texts {
    functions: HashMap<String, Text>,
    files: HashMap<String, Text>,
}

impl Texts {
    fn function(&mut self, raw: &str) -> Text {
        if let Some(text) = self.functions.get(raw) {
            return text.clone();
        }
        let text = Text::new(&demangle(raw));
        self.functions.insert(raw.to_owned(), text.clone());
        text
    }

    fn file(&mut self, raw: &str) -> Text {
        if let Some(text) = self.files.get(raw) {
            return text.clone();
        }
        let text = Text::new(raw);
        self.files.insert(raw.to_owned(), text.clone());
        text
    }
}

type Reader<'a> = EndianSlice<'a, RunTimeEndian>;

fn frames(
    context: &addr2line::Context<Reader<'_>>,
    probe: u64,
    offset: u64,
    info: &ModuleInfo,
    texts: &mut Texts,
) -> Vec<Place> {
    let mut places = Vec::new();
    let Ok(mut frames) = context.find_frames(probe).skip_all_loads() else {
        return places;
    };
    let unit = context.find_dwarf_and_unit(probe).skip_all_loads();
    while let Ok(Some(frame)) = frames.next() {
        let function = frame
            .function
            .as_ref()
            .and_then(|name| name.raw_name().ok().map(|raw| texts.function(&raw)));
        let (file, line) = match &frame.location {
            Some(location) => (location.file.map(|file| texts.file(file)), location.line.unwrap_or(0)),
            None => (None, 0),
        };
        places.push(Place {
            function,
            file,
            line,
            library: info.path.clone(),
            offset,
            inlined: true,
            declared: match (unit, frame.dw_die_offset) {
                (Some(unit), Some(entry)) => declared::line(unit, entry),
                _ => 0,
            },
            ..Place::default()
        });
        if places.len() >= MOST_INLINED {
            break;
        }
    }
    if let Some(outer) = places.last_mut() {
        outer.inlined = false;
    }
    if places
        .iter()
        .all(|place| place.function.is_none() && place.file.is_none())
    {
        places.clear();
    }
    places
}

/// The DWARF sections of a file, decompressed where they must be.
struct Sections<'a> {
    dwarf: gimli::DwarfSections<Cow<'a, [u8]>>,
    endian: RunTimeEndian,
}

impl<'a> Sections<'a> {
    fn load(object: &object::File<'a>) -> Sections<'a> {
        let load = |id: gimli::SectionId| -> Result<Cow<'a, [u8]>, gimli::Error> {
            let section = object.section_by_name(id.name());
            let data = section.and_then(|section| section.compressed_data().ok());
            let data = data.filter(|data| data.uncompressed_size <= LARGEST_SECTION);
            Ok(data
                .and_then(|data| data.decompress().ok())
                .unwrap_or(Cow::Borrowed(&[])))
        };
        let endian = if object.is_little_endian() {
            RunTimeEndian::Little
        } else {
            RunTimeEndian::Big
        };
        Sections {
            dwarf: gimli::DwarfSections::load(load).unwrap_or_default(),
            endian,
        }
    }

    fn context(&self) -> Option<addr2line::Context<Reader<'_>>> {
        let dwarf = self.dwarf.borrow(|section| EndianSlice::new(section, self.endian));
        addr2line::Context::from_dwarf(dwarf).ok()
    }
}

/// The first file that can be read as a module of this build-id. Files that are there but wrong are noted as problems.
fn first_good(files: Vec<PathBuf>, build_id: &[u8], problems: &mut Vec<String>) -> Option<(PathBuf, Image)> {
    for path in files {
        let image = match Image::open(&path) {
            Ok(image) => image,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                problems.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        match object::File::parse(image.bytes()) {
            Err(_) => problems.push(format!("{}: not an ELF file", path.display())),
            Ok(object) => {
                let found = object.build_id().ok().flatten().unwrap_or_default();
                if build_id.is_empty() || found == build_id {
                    return Some((path, image));
                }
                let found = if found.is_empty() {
                    "none".to_owned()
                } else {
                    hex(found)
                };
                problems.push(format!(
                    "{}: its build-id is {found}, recorded was {}; refused (use the recorded build, or --sysroot, --debug-dir)",
                    path.display(),
                    hex(build_id)
                ));
            }
        }
    }
    None
}

fn has_debug_info(image: &Image) -> bool {
    object::File::parse(image.bytes()).is_ok_and(|object| object.section_by_name(".debug_info").is_some())
}

fn debug_link(image: &Image) -> Option<Vec<u8>> {
    let object = object::File::parse(image.bytes()).ok()?;
    let (name, _) = object.gnu_debuglink().ok()??;
    Some(name.to_owned())
}

fn text_of(path: &Path) -> Text {
    Text::from_bytes(path.as_os_str().as_encoded_bytes())
}
