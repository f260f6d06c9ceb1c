//! ELF files whose names and notes come to an end.
//!
//! A name is found by its offset, so that thousands of sections and symbols of a small file can each have one as long as the file, and thousands of sections the same notes. The
//! parser goes through every one of them; so what they come to is added up before, without doing so.

use object::elf::{FileHeader32, FileHeader64, PT_NOTE, SHT_DYNSYM, SHT_NOTE, SHT_SYMTAB};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, File, FileKind};

/// Names and notes may come to so many times what the file has: they overlap where a linker joins ends that are alike, and no more.
const MOST_TIMES: u64 = 8;
/// What they may come to in a small file.
const SMALL: u64 = 1 << 20;
/// Names are looked through in such parts.
const PART: usize = 256;

/// The file; `None` when it is not ELF, or one that takes longer to look through than its size is worth.
pub(super) fn parse(bytes: &[u8]) -> Option<File<'_>> {
    let file = File::parse(bytes).ok()?;
    let read = match FileKind::parse(bytes).ok()? {
        FileKind::Elf32 => names_and_notes::<FileHeader32<Endianness>>(bytes),
        FileKind::Elf64 => names_and_notes::<FileHeader64<Endianness>>(bytes),
        _ => return None,
    };
    let most = (bytes.len() as u64).saturating_mul(MOST_TIMES).max(SMALL);
    read.filter(|&read| read <= most).map(|_| file)
}

/// Bytes that the parser goes through when it looks at each name and each note once. What cannot be found counts nothing: the parser does not find it either.
fn names_and_notes<Elf: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Option<u64> {
    let header = Elf::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.section_headers(endian, bytes).unwrap_or_default();
    let strings = |index: u32| {
        let section = sections.get(index as usize);
        section
            .and_then(|section| section.data(endian, bytes).ok())
            .unwrap_or_default()
    };
    let own = header.shstrndx(endian, bytes).map_or(&[][..], strings);
    let mut read = lengths(own, sections.iter().map(|section| section.sh_name(endian)));
    for kind in [SHT_SYMTAB, SHT_DYNSYM] {
        // The parser looks at the first one, too.
        if let Some(table) = sections.iter().find(|section| section.sh_type(endian) == kind) {
            let symbols: &[Elf::Sym] = table.data_as_array(endian, bytes).unwrap_or_default();
            let of_symbols = symbols.iter().map(|symbol| symbol.st_name(endian));
            read = read.saturating_add(lengths(strings(table.sh_link(endian)), of_symbols));
        }
    }
    let notes = sections.iter().filter(|section| section.sh_type(endian) == SHT_NOTE);
    let in_sections = notes.map(|section| section.sh_size(endian).into());
    let segments = header.program_headers(endian, bytes).unwrap_or_default();
    let notes = segments.iter().filter(|segment| segment.p_type(endian) == PT_NOTE);
    let in_segments = notes.map(|segment| segment.p_filesz(endian).into());
    Some(in_sections.chain(in_segments).fold(read, u64::saturating_add))
}

/// Bytes from each of these offsets to the end of the name that is there.
fn lengths(strings: &[u8], offsets: impl Iterator<Item = u32>) -> u64 {
    let end_in = |bytes: &[u8]| bytes.iter().position(|&byte| byte == 0);
    // The first end in a part or behind it.
    let mut ends = vec![strings.len(); strings.len().div_ceil(PART) + 1];
    for (number, part) in strings.chunks(PART).enumerate().rev() {
        ends[number] = end_in(part).map_or(ends[number + 1], |at| number * PART + at);
    }
    let length = |offset: u32| {
        let offset = offset as usize;
        if offset >= strings.len() {
            return 0;
        }
        let behind = offset / PART + 1;
        let part = &strings[offset..strings.len().min(behind * PART)];
        end_in(part).unwrap_or_else(|| ends[behind] - offset) as u64
    };
    offsets.map(length).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of 64 bits with so many sections of a kind, all over its last bytes and with names at this offset in them.
    fn file(sections: u16, kind: u32, name: u32, content: &[u8]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let table = 64 + u64::from(sections) * 64;
        for (value, width) in [
            (3, 2),
            (62, 2),
            (1, 4),
            (0, 8),
            (0, 8),
            (64, 8),
            (0, 4),
            (64, 2),
            (56, 2),
            (0, 2),
            (64, 2),
        ] {
            file.extend(&u64::to_le_bytes(value)[..width]);
        }
        file.extend(sections.to_le_bytes());
        file.extend(1u16.to_le_bytes());
        for number in 0..sections {
            // The second one has the names.
            let kind = if number == 1 { 3 } else { kind };
            let fields = [
                (name.into(), 4),
                (kind.into(), 4),
                (0, 8),
                (0, 8),
                (table, 8),
                (content.len() as u64, 8),
            ];
            for (value, width) in fields.into_iter().chain([(1, 4), (0, 4), (1, 8), (0, 8)]) {
                file.extend(&u64::to_le_bytes(value)[..width]);
            }
        }
        file.extend(content);
        file
    }

    #[test]
    fn names_and_notes_that_are_as_long_as_the_file_again_and_again_are_refused() {
        let mut long = vec![b'x'; 1 << 20];
        long.push(0);
        let short = vec![0; 1 << 20];
        assert!(parse(&file(100, 1, 0, &short)).is_some());
        assert!(parse(&file(5, 1, 0, &long)).is_some());
        assert!(parse(&file(100, 1, 0, &long)).is_none());
        assert!(parse(&file(100, 1, u32::MAX, &long)).is_some());
        // Notes, and symbols of 24 bytes.
        assert!(parse(&file(100, 7, 0, &short)).is_none());
        let symbols = vec![1; 24 * 742_741];
        assert!(parse(&file(3, 2, 0, &symbols)).is_none());
    }

    #[test]
    fn a_name_is_as_long_as_it_is_wherever_its_end_lies() {
        let mut strings = vec![b'x'; 3 * PART];
        strings[2 * PART] = 0;
        let of = |offset: usize| lengths(&strings, std::iter::once(offset as u32));
        assert_eq!([of(0), of(2 * PART - 1), of(2 * PART)], [2 * PART as u64, 1, 0]);
        assert_eq!([of(2 * PART + 1), of(3 * PART), of(9 * PART)], [PART as u64 - 1, 0, 0]);
        assert_eq!(lengths(&[], [0, 7].into_iter()), 0);
    }
}
