//! What the recorder must know of an ELF file, read from its headers without loading it.

use object::elf::{
    FileHeader32, FileHeader64, DT_NEEDED, EM_ARM, NT_GNU_BUILD_ID, PT_ARM_EXIDX, PT_GNU_EH_FRAME, PT_INTERP, PT_LOAD,
    PT_NOTE, SHT_DYNSYM, SHT_SYMTAB, STT_FUNC,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader, Sym};
use object::read::{ReadCache, ReadRef, StringTable};
use object::Endianness;
use std::fs::File;
use std::path::Path;

/// Facts of an ELF file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// Bytes of a pointer: 4 or 8.
    pub pointer_bytes: u8,
    /// `e_machine`.
    pub machine: u16,
    /// Whether it asks for a dynamic loader.
    pub interpreter: bool,
    /// Lowest address of a loaded segment.
    pub base: u64,
    /// GNU build-id, empty when there is none.
    pub build_id: Vec<u8>,
    /// Whether it has unwind tables.
    pub unwind: bool,
    /// Its loaded segments.
    pub loads: Vec<Load>,
}

/// A part of the file that is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes of it there.
    pub file_length: u64,
    /// Its address as linked.
    pub address: u64,
    /// Bytes of it in memory.
    pub length: u64,
}

impl Elf {
    /// End of the highest loaded segment; `None` when there is none.
    pub fn end(&self) -> Option<u64> {
        self.loads
            .iter()
            .map(|load| load.address.saturating_add(load.length))
            .max()
    }

    /// The address as linked of a page of the file.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        let holds =
            |load: &&Load| (load.offset & !0xfff) <= offset && offset < load.offset.saturating_add(load.file_length);
        let load = self.loads.iter().find(holds)?;
        Some(load.address.wrapping_add(offset).wrapping_sub(load.offset))
    }
}

/// A note segment larger than this is not searched for a build-id.
const NOTES_LIMIT: u64 = 64 << 10;

/// Reads a file's headers. `None` when it is no regular file, cannot be read, or is not ELF.
pub fn read(path: &Path) -> Option<Elf> {
    // Asked before opening, since opening a named pipe would wait for its other end.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let cache = ReadCache::new(File::open(path).ok()?);
    let data = &cache;
    match data.read_bytes_at(0, 5).ok()? {
        [0x7f, b'E', b'L', b'F', 1] => facts::<FileHeader32<Endianness>, _>(data, 4),
        [0x7f, b'E', b'L', b'F', 2] => facts::<FileHeader64<Endianness>, _>(data, 8),
        _ => None,
    }
}

fn facts<'data, H: FileHeader<Endian = Endianness>, R: ReadRef<'data>>(data: R, pointer_bytes: u8) -> Option<Elf> {
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?;
    let mut elf = Elf {
        pointer_bytes,
        machine: header.e_machine(endian).0,
        base: u64::MAX,
        ..Elf::default()
    };
    for segment in segments {
        match segment.p_type(endian) {
            PT_INTERP => elf.interpreter = true,
            PT_GNU_EH_FRAME => elf.unwind |= elf.machine != EM_ARM.0,
            PT_ARM_EXIDX => elf.unwind |= elf.machine == EM_ARM.0,
            PT_LOAD => {
                elf.base = elf.base.min(segment.p_vaddr(endian).into());
                elf.loads.push(Load {
                    offset: segment.p_offset(endian).into(),
                    file_length: segment.p_filesz(endian).into(),
                    address: segment.p_vaddr(endian).into(),
                    length: segment.p_memsz(endian).into(),
                });
            }
            PT_NOTE if elf.build_id.is_empty() && segment.p_filesz(endian).into() <= NOTES_LIMIT => {
                let Ok(Some(mut notes)) = segment.notes(endian, data) else {
                    continue;
                };
                while let Ok(Some(note)) = notes.next() {
                    if note.name() == b"GNU" && note.n_type(endian) == NT_GNU_BUILD_ID {
                        elf.build_id = note.desc().to_vec();
                    }
                }
            }
            _ => {}
        }
    }
    if elf.base == u64::MAX {
        elf.base = 0;
    }
    Some(elf)
}

/// Names under which allocators that are linked into a program are known. Of the Rust crates' the linker keeps no more than what a global allocator calls.
const ALLOCATORS: [&str; 7] = [
    "malloc",
    "_rjem_malloc",
    "je_malloc",
    "mi_malloc",
    "mi_malloc_aligned",
    "sn_rust_alloc",
    "tc_malloc",
];

/// What a Python interpreter exports: it has mimalloc linked into it, and is recorded above that.
const INTERPRETER: &[u8] = b"PyMem_SetAllocator";

/// Symbol tables and their names longer than this are not searched.
const SYMBOLS_LIMIT: u64 = 64 << 20;

/// The function by which a program that has an allocator of its own linked into it allocates; `None` when there is no such.
pub fn own_allocator(path: &Path) -> Option<&'static str> {
    let cache = ReadCache::new(File::open(path).ok()?);
    let data = &cache;
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok()?;
    let is_small =
        |section: &<FileHeader64<Endianness> as FileHeader>::SectionHeader| section.sh_size(endian) < SYMBOLS_LIMIT;
    let symbols_of = |kind| {
        let mut tables = sections.iter().filter(|section| section.sh_type(endian) == kind);
        let kind = tables.any(is_small).then_some(kind)?;
        let symbols = sections.symbols(endian, data, kind).ok()?;
        // All names at once: asked for one by one, each would be a read of the file.
        let names = sections
            .section(symbols.string_section())
            .ok()
            .filter(|section| is_small(section))?;
        let names = names.data(endian, data).ok()?;
        Some((symbols, StringTable::new(names, 0, names.len() as u64)))
    };
    let mut is_interpreter = false;
    for kind in [SHT_DYNSYM, SHT_SYMTAB] {
        let Some((symbols, names)) = symbols_of(kind) else {
            continue;
        };
        let functions = symbols
            .iter()
            .filter(|symbol| symbol.st_type() == STT_FUNC && !symbol.is_undefined(endian));
        let mut found = [false; ALLOCATORS.len()];
        for name in functions.filter_map(|symbol| names.get(symbol.st_name(endian)).ok()) {
            is_interpreter |= name == INTERPRETER;
            if let Some(known) = ALLOCATORS.iter().position(|known| known.as_bytes() == name) {
                found[known] = true;
            }
        }
        let is_own = |name: &str| !(is_interpreter && name.starts_with("mi_"));
        let mut own = ALLOCATORS.into_iter().zip(found);
        if let Some((name, _)) = own.find(|&(name, is_found)| is_found && is_own(name)) {
            return Some(name);
        }
    }
    None
}

/// Whether the program asks for a library whose name begins so.
pub fn needs(path: &Path, library: &str) -> bool {
    let names = || {
        let cache = ReadCache::new(File::open(path).ok()?);
        let data = &cache;
        let header = FileHeader64::<Endianness>::parse(data).ok()?;
        let endian = header.endian().ok()?;
        let sections = header.sections(endian, data).ok()?;
        let (entries, link) = sections.dynamic(endian, data).ok()??;
        let strings = sections.strings(endian, data, link).ok()?;
        let needed = entries.iter().filter(|entry| entry.d_tag(endian) == DT_NEEDED);
        Some(needed.into_iter().any(|entry| {
            let name = u32::try_from(entry.d_val(endian)).ok().map(|at| strings.get(at));
            matches!(name, Some(Ok(name)) if name.starts_with(library.as_bytes()))
        }))
    };
    names().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_program_is_a_dynamic_executable_of_this_machine() {
        let elf = read(Path::new("/proc/self/exe")).unwrap();
        assert_eq!(usize::from(elf.pointer_bytes), std::mem::size_of::<usize>());
        assert!(elf.interpreter && elf.unwind);
        assert_eq!(own_allocator(Path::new("/proc/self/exe")), None);
        assert_eq!(own_allocator(Path::new("/etc/passwd")), None);
        assert!(needs(Path::new("/proc/self/exe"), "libc.so"));
        assert!(!needs(Path::new("/proc/self/exe"), "libasan.so"));
    }

    #[test]
    fn what_is_no_elf_file_is_none() {
        assert_eq!(read(Path::new("/etc/passwd")), None);
        assert_eq!(read(Path::new("/dev/zero")), None);
        assert_eq!(read(Path::new("/")), None);
        assert_eq!(read(Path::new("/nonexistent")), None);
    }
}
