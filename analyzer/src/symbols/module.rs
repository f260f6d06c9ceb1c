//! The symbols of one module: its file, and its debug files.

use super::coverage::{Coverage, Refused, State};
use super::debuginfod::Kind;
use super::elf;
use super::image::Image;
use super::locate::{hex, Candidate, FoundBy, Locator};
use super::mini;
use crate::tape::ModuleInfo;
use crate::text::Text;
use object::{Object, ObjectSection};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A file that was found.
pub(super) struct Found {
    pub path: PathBuf,
    pub by: FoundBy,
    pub image: Image,
}

impl Found {
    pub(super) fn object(&self) -> Option<object::File<'_>> {
        object::File::parse(self.image.bytes()).ok()
    }

    fn has(&self, section: &str) -> bool {
        self.object()
            .is_some_and(|object| object.section_by_name(section).is_some())
    }

    pub(super) fn has_lines(&self) -> bool {
        self.has(".debug_info")
    }
}

/// The files of a module.
pub(super) struct Symbols<'a> {
    pub locator: &'a Locator,
    pub build_id: Vec<u8>,
    pub image: Option<Found>,
    pub debug: Option<Found>,
    pub alternate: Option<Found>,
    /// MiniDebugInfo: a symbol table in the module itself, decompressed.
    pub mini: Option<Vec<u8>>,
}

impl<'a> Symbols<'a> {
    /// Finds and checks the files of a module.
    pub(super) fn find(info: &ModuleInfo, locator: &'a Locator) -> (Symbols<'a>, Coverage) {
        let recorded = info.raw.build_id.as_slice();
        let mut search = Search {
            build_id: recorded.to_vec(),
            refused: Vec::new(),
            problem: None,
        };
        let mut image = search.module(locator.module_files(&info.raw.path, recorded));
        if search.build_id.is_empty() {
            search.build_id = image.as_ref().and_then(build_id_of).unwrap_or_default();
        }
        let has_lines = image.as_ref().is_some_and(Found::has_lines);
        let mut debug = None;
        if !has_lines {
            let link = image.as_ref().and_then(debug_link);
            let found = image.as_ref().map(|image| image.path.as_path());
            let name = link.as_ref().map(|(name, _)| name.as_slice());
            let files = locator.debug_files(&info.raw.path, found, &search.build_id, name);
            debug = search.debug(files, link.as_ref().map(|(_, crc)| *crc));
            if !debug.as_ref().is_some_and(Found::has_lines) {
                debug = search.ask_servers(locator, Kind::DebugInfo).or(debug);
            }
            if image.is_none() && debug.is_none() {
                image = search.ask_servers(locator, Kind::Executable);
            }
        }
        let lines = if has_lines { image.as_ref() } else { debug.as_ref() };
        let alternate = lines.and_then(|lines| search.alternate(lines, locator));
        let has_table = [&image, &debug].into_iter().flatten().any(|found| found.has(".symtab"));
        let mini = image.as_ref().filter(|_| !has_table).and_then(mini_debug_info);
        let lines = lines.filter(|found| found.has_lines());
        let coverage = Coverage {
            module: info.path.clone(),
            build_id: hex(recorded),
            state: if has_table || mini.is_some() || lines.is_some() {
                State::Found
            } else if image.is_some() {
                State::Stripped
            } else if search.refused.is_empty() {
                State::Missing
            } else {
                State::Mismatched
            },
            file: image.as_ref().map(|found| text_of(&found.path)),
            found_by: image.as_ref().map(|found| found.by),
            debug_file: lines.map(|found| text_of(&found.path)),
            debug_found_by: lines.map(|found| found.by),
            supplements: alternate.iter().map(|found| text_of(&found.path)).collect(),
            problem: search
                .explain(image.is_some(), lines.is_some(), recorded.is_empty())
                .map(|problem| Text::new(&problem)),
            refused: search.refused,
            ..Coverage::default()
        };
        let symbols = Symbols {
            locator,
            build_id: search.build_id,
            image,
            debug,
            alternate,
            mini,
        };
        (symbols, coverage)
    }
}

/// The search for the files of one module.
struct Search {
    build_id: Vec<u8>,
    refused: Vec<Refused>,
    /// What servers said.
    problem: Option<String>,
}

impl Search {
    /// The module itself. Where no build-id was recorded, its name must do.
    fn module(&mut self, files: Vec<Candidate>) -> Option<Found> {
        files.into_iter().find_map(|file| {
            let found = self.open(file)?;
            self.build_id
                .is_empty()
                .then_some(())
                .or_else(|| self.is_this_build(&found))?;
            Some(found)
        })
    }

    /// A debug file: the first with lines, else the first with symbols. It must belong to the module, by build-id or by the CRC of the link.
    fn debug(&mut self, files: Vec<Candidate>, crc: Option<u32>) -> Option<Found> {
        let mut second = None;
        for file in files {
            let Some(found) = self.open(file) else { continue };
            let is_linked = found.by == FoundBy::DebugLink && crc.is_some();
            if !self.build_id.is_empty() && self.is_this_build(&found).is_none() {
                continue;
            }
            if is_linked && !self.has_crc(&found, crc.unwrap_or_default()) {
                continue;
            }
            if self.build_id.is_empty() && !is_linked {
                continue;
            }
            if found.has_lines() {
                return Some(found);
            }
            if found.has(".symtab") && second.is_none() {
                second = Some(found);
            }
        }
        second
    }

    /// What a debug file shares with others.
    fn alternate(&mut self, lines: &Found, locator: &Locator) -> Option<Found> {
        let object = lines.object()?;
        let (name, build_id) = object.gnu_debugaltlink().ok()??;
        let mut search = Search {
            build_id: build_id.to_vec(),
            refused: Vec::new(),
            problem: None,
        };
        let files = locator.alternate_files(&lines.path, name, build_id);
        let found = search
            .debug(files, None)
            .or_else(|| search.ask_servers(locator, Kind::DebugInfo));
        self.refused.append(&mut search.refused);
        if found.is_none() {
            let name = String::from_utf8_lossy(name);
            self.problem = search
                .problem
                .or_else(|| Some(format!("the alternate debug file {name} is not here")));
        }
        found
    }

    fn ask_servers(&mut self, locator: &Locator, kind: Kind) -> Option<Found> {
        let path = match locator.options.debuginfod.as_ref()?.fetch(&self.build_id, kind) {
            Ok(path) => path?,
            Err(problem) => {
                self.problem = Some(problem);
                return None;
            }
        };
        let found = self.open(Candidate {
            path,
            by: FoundBy::Debuginfod,
        })?;
        self.is_this_build(&found).map(|()| found)
    }

    /// Opens a file. One that is not there is passed over, any other that cannot be used is noted.
    fn open(&mut self, file: Candidate) -> Option<Found> {
        let Candidate { path, by } = file;
        let what = match Image::open(&path) {
            Ok(image) if elf::parse(image.bytes()).is_some() => return Some(Found { path, by, image }),
            Ok(image) if object::File::parse(image.bytes()).is_ok() => {
                "content has names or notes without end".to_owned()
            }
            Ok(_) => "content is not ELF".to_owned(),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return None
            }
            Err(error) => format!("content cannot be read: {error}"),
        };
        self.refuse(&path, what);
        None
    }

    fn refuse(&mut self, path: &Path, found: String) {
        self.refuse_for(path, found, format!("build-id {}", id_text(&self.build_id)));
    }

    fn refuse_for(&mut self, path: &Path, found: String, expected: String) {
        let refused = Refused {
            file: text_of(path),
            expected: Text::new(&expected),
            found: Text::new(&found),
        };
        if !self.refused.contains(&refused) {
            self.refused.push(refused);
        }
    }

    fn is_this_build(&mut self, found: &Found) -> Option<()> {
        let own = build_id_of(found).unwrap_or_default();
        if own == self.build_id {
            return Some(());
        }
        self.refuse(&found.path, format!("build-id is {}", id_text(&own)));
        None
    }

    /// Whether a debug file is the one that a link was made for.
    fn has_crc(&mut self, found: &Found, expected: u32) -> bool {
        match crc_of(&found.path) {
            Ok(crc) if crc == expected => true,
            Ok(crc) => {
                self.refuse_for(
                    &found.path,
                    format!("CRC is {crc:08x}"),
                    format!("CRC {expected:08x} in .gnu_debuglink"),
                );
                false
            }
            Err(error) => {
                self.refuse(&found.path, format!("content cannot be read: {error}"));
                false
            }
        }
    }

    /// Why there is nothing, or less than there could be.
    fn explain(&self, has_image: bool, has_lines: bool, is_unchecked: bool) -> Option<String> {
        let refused = self.refused.first().map(Refused::message);
        match (has_image, has_lines) {
            (false, false) => refused
                .or_else(|| self.problem.clone())
                .or_else(|| Some("no file of this name or build-id is here".to_owned())),
            (true, false) => {
                let why = refused.or_else(|| self.problem.clone()).map(|why| format!("; {why}"));
                Some(format!(
                    "no debug information (lines unknown){}",
                    why.unwrap_or_default()
                ))
            }
            (_, true) if self.problem.is_some() => self.problem.clone(),
            _ if is_unchecked => Some("no build-id was recorded, so the file could not be checked".to_owned()),
            _ => None,
        }
    }
}

fn build_id_of(found: &Found) -> Option<Vec<u8>> {
    Some(found.object()?.build_id().ok()??.to_vec())
}

/// Name and CRC of the debug file that a module names.
fn debug_link(found: &Found) -> Option<(Vec<u8>, u32)> {
    let object = found.object()?;
    let (name, crc) = object.gnu_debuglink().ok()??;
    Some((name.to_owned(), crc))
}

fn mini_debug_info(found: &Found) -> Option<Vec<u8>> {
    let object = found.object()?;
    mini::unpack(object.section_by_name(".gnu_debugdata")?.data().ok()?)
}

/// The CRC-32 of a whole file, as `.gnu_debuglink` has it.
fn crc_of(path: &Path) -> io::Result<u32> {
    let mut file = File::open(path)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut piece = vec![0; 1 << 18];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finalize()),
            length => hasher.update(&piece[..length]),
        }
    }
}

fn id_text(build_id: &[u8]) -> String {
    if build_id.is_empty() {
        return "none".to_owned();
    }
    hex(build_id)
}

pub(super) fn text_of(path: &Path) -> Text {
    Text::from_bytes(path.as_os_str().as_encoded_bytes())
}
