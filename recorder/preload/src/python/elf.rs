//! Exported symbols of a loaded object, looked up in its own tables: the loader, whose functions take locks, is not asked in a hook.
#![allow(unsafe_code)]

use crate::modules::Located;

const DT_STRTAB: usize = 5;
const DT_SYMTAB: usize = 6;
const DT_STRSZ: usize = 10;
const DT_GNU_HASH: usize = 0x6fff_fef5;
/// Bytes of an `Elf64_Sym` or `Elf32_Sym`, and where its value and its section stand in it.
const SYMBOL: (usize, usize, usize) = if WORD == 8 { (24, 8, 6) } else { (16, 4, 14) };
const WORD: usize = size_of::<usize>();
/// More symbols of one hash value than any object has.
const MOST_STEPS: u32 = 1 << 16;

/// The dynamic symbol table of an object.
pub struct Symbols {
    start: usize,
    end: usize,
    bias: usize,
    names: usize,
    names_bytes: usize,
    table: usize,
    hash: usize,
}

/// A symbol of the object.
#[derive(Clone, Copy)]
pub struct Symbol {
    /// Its address.
    pub address: usize,
    /// Its size in bytes.
    pub size: usize,
}

impl Symbols {
    /// The symbols of an object that has a GNU hash table.
    pub fn of(located: &Located) -> Option<Symbols> {
        let (dynamic, bytes) = located.dynamic()?;
        let mut symbols = Symbols {
            start: located.start,
            end: located.end,
            bias: located.bias,
            names: 0,
            names_bytes: 0,
            table: 0,
            hash: 0,
        };
        for index in 0..bytes / (2 * WORD) {
            let [tag, value] = symbols.read::<[usize; 2]>(dynamic + index * 2 * WORD)?;
            match tag {
                0 => break,
                DT_STRTAB => symbols.names = symbols.inside(value)?,
                DT_SYMTAB => symbols.table = symbols.inside(value)?,
                DT_GNU_HASH => symbols.hash = symbols.inside(value)?,
                DT_STRSZ => symbols.names_bytes = value,
                _ => {}
            }
        }
        (symbols.names != 0 && symbols.table != 0 && symbols.hash != 0).then_some(symbols)
    }

    /// The loader has made an address of what the file says, or has left it.
    fn inside(&self, value: usize) -> Option<usize> {
        let range = self.start..self.end;
        let moved = value.wrapping_add(self.bias);
        [value, moved].into_iter().find(|address| range.contains(address))
    }

    fn read<T: Copy>(&self, address: usize) -> Option<T> {
        let end = address.checked_add(core::mem::size_of::<T>())?;
        // SAFETY: inside the mapping of a loaded object, at a place that its own tables name.
        (self.start <= address && end <= self.end).then(|| unsafe { (address as *const T).read_unaligned() })
    }

    /// Looks up an exported symbol.
    pub fn find(&self, name: &[u8]) -> Option<Symbol> {
        let hash = name.iter().fold(5381u32, |hash, byte| {
            hash.wrapping_mul(33).wrapping_add(u32::from(*byte))
        });
        let [buckets, first, words, _shift] = self.read::<[u32; 4]>(self.hash)?;
        let buckets_at = self.hash + 16 + words as usize * WORD;
        let bucket = hash.checked_rem(buckets)? as usize;
        let begin = self.read::<u32>(buckets_at + bucket * 4)?;
        let chains_at = buckets_at + buckets as usize * 4;
        for index in begin..begin.saturating_add(MOST_STEPS) {
            let chain = self.read::<u32>(chains_at + index.checked_sub(first)? as usize * 4)?;
            if chain | 1 == hash | 1 {
                let symbol = self.table + index as usize * SYMBOL.0;
                let name_at = self.read::<u32>(symbol)? as usize;
                let section = self.read::<u16>(symbol + SYMBOL.2)?;
                let [value, size] = self.read::<[usize; 2]>(symbol + SYMBOL.1)?;
                if section != 0 && self.is_name(name_at, name) {
                    let address = value.wrapping_add(self.bias);
                    return Some(Symbol { address, size });
                }
            }
            if chain & 1 != 0 {
                return None;
            }
        }
        None
    }

    fn is_name(&self, at: usize, name: &[u8]) -> bool {
        at < self.names_bytes
            && name.iter().chain(&[0]).enumerate().all(|(index, byte)| {
                let place = self.names.wrapping_add(at).wrapping_add(index);
                self.read::<u8>(place) == Some(*byte)
            })
    }
}
