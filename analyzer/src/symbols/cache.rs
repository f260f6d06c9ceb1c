//! Names that were looked up before, so that a second question pays nothing for them.
//!
//! One file for each build in a folder of the user's: `names/ab/cdef.names`. It holds only if it was made by this version of heaptape of the very same files (path,
//! length, time of change), and is whole by its checksum. What is read from it is text like any other: printable by its type, within bounds.

use super::names::Place;
use crate::text::Text;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How the file begins. The last byte is the version of its layout.
const MAGIC: [u8; 8] = *b"HTNAMES\x01";
/// Larger files are not read, and not written.
const LARGEST: u64 = 64 << 20;
/// Files of symbols that are smaller in all are looked up faster than a cache is worth.
const WORTH: u64 = 2 << 20;

/// A file that names were made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    path: Vec<u8>,
    length: u64,
    changed: (i64, i64),
    inode: u64,
}

/// A place as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    function: Option<u32>,
    file: Option<u32>,
    line: u32,
    declared: u32,
}

#[derive(Default, Serialize, Deserialize)]
struct Content {
    program: String,
    origins: Vec<Origin>,
    texts: Vec<Text>,
    /// By offset in the module; sorted.
    places: Vec<(u64, Vec<Kept>)>,
}

/// The names of one build.
pub(super) struct NamesCache {
    path: PathBuf,
    origins: Vec<Origin>,
    known: HashMap<u64, Vec<Place>>,
    is_changed: bool,
}

impl NamesCache {
    /// The cache of a build that is named from these files, in a folder; `None` when it is not worth one, or cannot be told from others.
    pub(super) fn open<'a>(
        folder: &Path,
        build_id: &str,
        files: impl Iterator<Item = &'a Path>,
        of: &Place,
    ) -> Option<NamesCache> {
        let (first, rest) = build_id.split_at_checked(2).filter(|(_, rest)| !rest.is_empty())?;
        let origins: Vec<Origin> = files.map(origin).collect::<io::Result<_>>().ok()?;
        if origins.iter().map(|origin| origin.length).sum::<u64>() < WORTH {
            return None;
        }
        let path = folder.join("names").join(first).join(format!("{rest}.names"));
        let known = read(&path)
            .filter(|content| content.origins == origins && content.program == env!("CARGO_PKG_VERSION"))
            .and_then(|content| places(content, of));
        Some(NamesCache {
            path,
            origins,
            known: known.unwrap_or_default(),
            is_changed: false,
        })
    }

    /// The places of a return address, if they were looked up before.
    pub(super) fn get(&self, offset: u64) -> Option<&[Place]> {
        self.known.get(&offset).map(Vec::as_slice)
    }

    /// Adds what was looked up.
    pub(super) fn add(&mut self, offset: u64, places: &[Place]) {
        self.known.insert(offset, places.to_vec());
        self.is_changed = true;
    }

    /// Writes what is new. A cache that cannot be written is none.
    pub(super) fn save(self) {
        if self.is_changed {
            // The names were found all the same.
            let _ = self.write();
        }
    }

    fn write(self) -> io::Result<()> {
        let mut texts = TextTable::default();
        let mut places: Vec<(u64, Vec<Kept>)> = Vec::with_capacity(self.known.len());
        for (offset, inner) in &self.known {
            let kept = inner.iter().map(|place| Kept {
                function: place.function.as_ref().map(|text| texts.number(text)),
                file: place.file.as_ref().map(|text| texts.number(text)),
                line: place.line,
                declared: place.declared,
            });
            places.push((*offset, kept.collect()));
        }
        places.sort_by_key(|(offset, _)| *offset);
        let content = Content {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            origins: self.origins,
            texts: texts.texts,
            places,
        };
        let raw = postcard::to_allocvec(&content).map_err(io::Error::other)?;
        if raw.len() as u64 > LARGEST {
            return Ok(());
        }
        let folder = self.path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&MAGIC)?;
        file.write_all(&crc32fast::hash(&raw).to_le_bytes())?;
        file.write_all(&raw)?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Texts by number.
#[derive(Default)]
struct TextTable {
    numbers: HashMap<Text, u32>,
    texts: Vec<Text>,
}

impl TextTable {
    fn number(&mut self, text: &Text) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(text.clone());
        self.numbers.insert(text.clone(), number);
        number
    }
}

fn origin(path: &Path) -> io::Result<Origin> {
    let metadata = std::fs::metadata(path)?;
    Ok(Origin {
        path: path.as_os_str().as_encoded_bytes().to_vec(),
        length: metadata.len(),
        changed: (metadata.mtime(), metadata.mtime_nsec()),
        inode: metadata.ino(),
    })
}

fn read(path: &Path) -> Option<Content> {
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > LARGEST + 12 {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .ok()?
        .take(LARGEST + 12)
        .read_to_end(&mut bytes)
        .ok()?;
    content(&bytes)
}

/// The content of a file that is whole.
fn content(bytes: &[u8]) -> Option<Content> {
    let (checksum, raw) = bytes.strip_prefix(&MAGIC)?.split_first_chunk()?;
    if crc32fast::hash(raw) != u32::from_le_bytes(*checksum) {
        return None;
    }
    postcard::from_bytes(raw).ok()
}

/// The places of a file, as places of the module that `of` tells; `None` when it contradicts itself.
fn places(content: Content, of: &Place) -> Option<HashMap<u64, Vec<Place>>> {
    let text = |number: Option<u32>| match number {
        Some(number) => content.texts.get(number as usize).map(|text| Some(text.clone())),
        None => Some(None),
    };
    let mut known = HashMap::with_capacity(content.places.len().min(1 << 20));
    for (offset, kept) in &content.places {
        let last = kept.len().checked_sub(1)?;
        let places = kept.iter().enumerate().map(|(number, kept)| {
            Some(Place {
                function: text(kept.function)?,
                file: text(kept.file)?,
                line: kept.line,
                declared: kept.declared,
                inlined: number < last,
                offset: *offset,
                ..of.clone()
            })
        });
        known.insert(*offset, places.collect::<Option<Vec<Place>>>()?);
    }
    Some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(function: &str, line: u32) -> Place {
        Place {
            function: Some(Text::new(function)),
            line,
            ..Place::default()
        }
    }

    #[test]
    fn what_was_added_is_known_next_time_until_a_file_changes() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("libx.so");
        std::fs::write(&file, vec![0; WORTH as usize]).expect("a file can be written");
        let of = Place {
            library: Text::new("/lib/libx.so"),
            ..Place::default()
        };
        let open = || NamesCache::open(folder.path(), "abcdef", std::iter::once(file.as_path()), &of);
        let mut cache = open().expect("it is worth it");
        let long = "x".repeat(2 * crate::text::LONGEST);
        let places = [place("inner", 3), place(&long, 6)];
        assert_eq!(cache.get(7), None);
        cache.add(7, &places);
        cache.save();
        let expected: Vec<Place> = [true, false]
            .into_iter()
            .zip(places)
            .map(|(inlined, place)| Place {
                library: of.library.clone(),
                offset: 7,
                inlined,
                ..place
            })
            .collect();
        assert_eq!(open().expect("it is there").get(7), Some(expected.as_slice()));
        std::fs::write(&file, vec![0; WORTH as usize + 1]).expect("a file can be written");
        assert_eq!(open().expect("it is worth it").get(7), None);
        assert!(NamesCache::open(folder.path(), "ab", std::iter::once(file.as_path()), &of).is_none());
    }

    #[test]
    fn a_file_that_is_not_whole_is_none() {
        let raw = postcard::to_allocvec(&Content::default()).expect("memory takes it");
        let mut bytes = [&MAGIC[..], &crc32fast::hash(&raw).to_le_bytes(), &raw].concat();
        assert!(content(&bytes).is_some());
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(content(&bytes).is_none(), "byte {at}");
            bytes[at] ^= 1;
            assert!(content(&bytes[..at]).is_none());
        }
        let absurd = Content {
            places: vec![(
                1,
                vec![Kept {
                    function: Some(9),
                    file: None,
                    line: 0,
                    declared: 0,
                }],
            )],
            ..Content::default()
        };
        assert!(places(absurd, &Place::default()).is_none());
    }
}
