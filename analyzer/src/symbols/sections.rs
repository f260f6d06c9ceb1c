//! The DWARF sections of a file, decompressed where they must be.
//!
//! What a file says of its sizes is believed within bounds only. Large sections are decompressed into a file without a name, of which memory holds what is looked at.

use super::image::Image;
use super::reader::Bounded;
use gimli::{RunTimeEndian, SectionId};
use object::{CompressedData, CompressionFormat, Object, ObjectSection};
use std::convert::Infallible;
use std::io::{self, Read};
use std::ops::Deref;

/// Debug sections that would decompress to more than this are left alone.
const LARGEST: u64 = 4 << 30;
/// Sections that decompress to more than this go to a file.
const LARGEST_IN_MEMORY: u64 = 8 << 20;
/// No debug information shrinks to less than one part in so many; a file that claims so is a bomb.
const MOST_GAIN: u64 = 128;
/// No abbreviation has more bytes than this: it says what hundreds of attributes an entry has, and each of them may take none.
const LONGEST_ABBREVIATION: usize = 1 << 10;
/// zstd's window, base-2 logarithm, that is the memory it takes to decompress.
const WINDOW_LOG: u32 = 26;

/// The bytes of a section.
pub(super) enum Bytes<'a> {
    /// As they lie in the file.
    InFile(&'a [u8]),
    /// Decompressed.
    InMemory(Vec<u8>),
    /// Decompressed into a file without a name.
    Spilled(Image),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::InFile(bytes) => bytes,
            Bytes::InMemory(bytes) => bytes,
            Bytes::Spilled(image) => image.bytes(),
        }
    }
}

/// Which of the sections of a file are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those of a program, a library or its debug file.
    Main,
    /// Those of split debug information.
    Split,
}

/// Debug sections and the order of their bytes.
pub(super) struct Sections<'a> {
    pub dwarf: gimli::DwarfSections<Bytes<'a>>,
    pub endian: RunTimeEndian,
    /// A section could not be decompressed.
    pub is_damaged: bool,
}

impl<'a> Sections<'a> {
    pub(super) fn load(object: &object::File<'a>, which: Which) -> Sections<'a> {
        let mut is_damaged = false;
        let load = |id: SectionId| Ok::<_, Infallible>(section(object, id, which, &mut is_damaged));
        let Ok(dwarf) = gimli::DwarfSections::load(load);
        Sections {
            dwarf,
            endian: endian(object),
            is_damaged,
        }
    }

    /// The sections for a parser.
    pub(super) fn borrow(&self) -> gimli::Dwarf<Bounded<'_>> {
        self.dwarf.borrow(|bytes| Bounded::new(bytes, self.endian))
    }

    /// Bytes in all.
    pub(super) fn length(&self) -> u64 {
        let mut length = 0;
        self.dwarf.borrow(|bytes| {
            length += bytes.len() as u64;
            Bounded::new(&[], self.endian)
        });
        length
    }

    /// Bytes that were decompressed into memory.
    pub(super) fn in_memory(&self) -> u64 {
        let mut length = 0;
        self.dwarf.borrow(|bytes| {
            if let Bytes::InMemory(bytes) = bytes {
                length += bytes.len() as u64;
            }
            Bounded::new(&[], self.endian)
        });
        length
    }

    /// Gives the memory back that decompressed sections have taken.
    pub(super) fn release(&self) {
        self.dwarf.borrow(|bytes| {
            if let Bytes::Spilled(image) = bytes {
                image.release();
            }
            Bounded::new(&[], self.endian)
        });
    }
}

/// The order of a file's bytes.
pub(super) fn endian(object: &object::File<'_>) -> RunTimeEndian {
    if object.is_little_endian() {
        RunTimeEndian::Little
    } else {
        RunTimeEndian::Big
    }
}

/// One section; empty when there is none, when it is of no use for names and lines, or when it is damaged.
pub(super) fn section<'a>(object: &object::File<'a>, id: SectionId, which: Which, is_damaged: &mut bool) -> Bytes<'a> {
    use SectionId as Id;
    let is_useless = matches!(
        id,
        Id::DebugLoc | Id::DebugLocLists | Id::DebugMacinfo | Id::DebugMacro | Id::DebugNames | Id::DebugTypes
    );
    let name = match which {
        Which::Main => Some(id.name()),
        Which::Split => id.dwo_name(),
    };
    let section = name
        .filter(|_| !is_useless)
        .and_then(|name| object.section_by_name(name));
    let Some(section) = section else {
        return Bytes::InFile(&[]);
    };
    let bytes = section
        .compressed_data()
        .map_err(|_| io::ErrorKind::InvalidData.into())
        .and_then(decompress)
        .and_then(|bytes| match id {
            Id::DebugAbbrev if longest_abbreviation(&bytes) > LONGEST_ABBREVIATION => {
                Err(io::ErrorKind::InvalidData.into())
            }
            _ => Ok(bytes),
        });
    bytes.unwrap_or_else(|_| {
        *is_damaged = true;
        Bytes::InFile(&[])
    })
}

/// Wherever a parser begins, it has come to the end of an abbreviation after so many bytes: two zeros.
fn longest_abbreviation(bytes: &[u8]) -> usize {
    let (mut longest, mut length) = (0, 0);
    let mut before = 0xff;
    for &byte in bytes {
        length = if byte == 0 && before == 0 { 0 } else { length + 1 };
        longest = longest.max(length);
        before = byte;
    }
    longest
}

fn decompress(data: CompressedData<'_>) -> io::Result<Bytes<'_>> {
    let size = data.uncompressed_size;
    let is_plain = data.format == CompressionFormat::None;
    if !is_plain && (size > LARGEST || size / MOST_GAIN > data.data.len() as u64) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    match data.format {
        CompressionFormat::None => Ok(Bytes::InFile(data.data)),
        CompressionFormat::Zlib => unpack(flate2::read::ZlibDecoder::new(data.data), size),
        CompressionFormat::Zstandard => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(data.data)?;
            decoder.window_log_max(WINDOW_LOG)?;
            unpack(decoder, size)
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Exactly `size` bytes from a decoder.
fn unpack<'a>(decoder: impl Read, size: u64) -> io::Result<Bytes<'a>> {
    let mut decoder = decoder.take(size + 1);
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    if size <= LARGEST_IN_MEMORY {
        let mut bytes = Vec::new();
        decoder.read_to_end(&mut bytes)?;
        return if bytes.len() as u64 == size {
            Ok(Bytes::InMemory(bytes))
        } else {
            Err(wrong())
        };
    }
    let mut file = tempfile::tempfile()?;
    let mut written = 0;
    let mut piece = vec![0; 1 << 20];
    loop {
        let length = decoder.read(&mut piece)?;
        if length == 0 {
            break;
        }
        io::Write::write_all(&mut file, &piece[..length])?;
        written += length as u64;
    }
    if written != size {
        return Err(wrong());
    }
    Image::of(&file).map(Bytes::Spilled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn zlib(raw: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(raw).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    fn given(data: &[u8], size: u64, format: CompressionFormat) -> io::Result<Bytes<'_>> {
        decompress(CompressedData {
            format,
            data,
            uncompressed_size: size,
        })
    }

    #[test]
    fn a_section_is_as_long_as_it_says_or_none() {
        // Bytes that shrink to a half or so: four bits each, from a generator of pseudo-random numbers.
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8 & 15
        };
        let raw: Vec<u8> = (0..LARGEST_IN_MEMORY + 5).map(|_| next()).collect();
        for raw in [&raw[..1000], &raw] {
            let size = raw.len() as u64;
            let zstd = zstd::bulk::compress(raw, 1).expect("memory takes it");
            for (packed, format) in [
                (zlib(raw), CompressionFormat::Zlib),
                (zstd, CompressionFormat::Zstandard),
            ] {
                assert_eq!(&*given(&packed, size, format).expect("it is whole"), raw);
                assert!(given(&packed, size - 1, format).is_err());
                assert!(given(&packed, size + 1, format).is_err());
                assert!(given(&packed[..packed.len() / 2], size, format).is_err());
            }
        }
    }

    #[test]
    fn a_bomb_is_not_lit() {
        let packed = zlib(&vec![0; 64 << 20]);
        assert!(given(&packed, 64 << 20, CompressionFormat::Zlib).is_err());
        assert!(given(&[1; 100], u64::MAX, CompressionFormat::Zlib).is_err());
    }
}
