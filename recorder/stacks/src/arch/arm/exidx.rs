//! From the exception index to a rule. Source: Exception Handling ABI for the Arm Architecture (ehabi32), sections 5 to 10.
//!
//! An entry says how a function's frame is taken apart after a call in it: a little program that moves a virtual stack pointer and pops registers.

use super::{Base, Saved};
use crate::module::Tables;
use crate::rule::{Kind, Rule};

/// Bytes of an entry of the index.
const ENTRY: usize = 8;
/// The second word of a function that nothing is known of.
const CANTUNWIND: u32 = 1;

/// The rule for `pc`, which lies in this module.
///
/// [`Kind::Guess`] when the table says nothing about `pc`, [`Kind::Unknown`] when it says what cannot be followed.
pub fn rule_for(tables: &Tables<'_>, pc: usize) -> Rule {
    let Some((entry, word)) = entry_for(tables, pc) else {
        return Rule::bare(Kind::Guess);
    };
    if word == CANTUNWIND {
        return Rule::bare(Kind::Guess);
    }
    let code = if word & 1 << 31 != 0 {
        Code::compact(word, &[])
    } else {
        prel31(tables.header_address + entry + 4, word).and_then(|at| Code::at(tables, at))
    };
    code.and_then(Frame::by)
        .and_then(Frame::rule)
        .unwrap_or(Rule::bare(Kind::Unknown))
}

/// The address that a word at `at` stands for, relative to itself.
fn prel31(at: usize, word: u32) -> Option<usize> {
    at.checked_add_signed(((word << 1) as i32 >> 1) as isize)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The last entry whose function begins at or before `pc`: its offset in the index, and its second word.
fn entry_for(tables: &Tables<'_>, pc: usize) -> Option<(usize, u32)> {
    let start = |index: usize| {
        let at = index * ENTRY;
        prel31(tables.header_address + at, word(tables.header, at)?)
    };
    let (mut low, mut high) = (0, tables.header.len() / ENTRY);
    while low < high {
        let middle = low + (high - low) / 2;
        if start(middle)? <= pc {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let at = low.checked_sub(1)? * ENTRY;
    Some((at, word(tables.header, at + 4)?))
}

/// The bytes of a little program: what is left of its first word, then more words, the highest byte of each first.
struct Code<'a> {
    first: u32,
    left: u32,
    more: &'a [u8],
    at: usize,
}

impl<'a> Code<'a> {
    /// In the compact model, by its first word and what comes behind it.
    fn compact(first: u32, behind: &'a [u8]) -> Option<Code<'a>> {
        match first >> 24 & 15 {
            0 => Some(Code::new(first << 8, 3, &[])),
            1 | 2 => {
                let words = (first >> 16 & 0xff) as usize;
                Some(Code::new(first << 16, 2, behind.get(..words * 4)?))
            }
            _ => None,
        }
    }

    /// From the table that an entry of the index points to.
    fn at(tables: &Tables<'a>, address: usize) -> Option<Code<'a>> {
        let table = tables.module.get(address.checked_sub(tables.start)?..)?;
        let first = word(table, 0)?;
        if first & 1 << 31 != 0 {
            return Code::compact(first, &table[4..]);
        }
        // A personality routine of the language's own; the program follows in the form that all of them use.
        let second = word(table, 4)?;
        let words = (second >> 24) as usize;
        Some(Code::new(second << 8, 3, table.get(8..8 + words * 4)?))
    }

    fn new(first: u32, left: u32, more: &'a [u8]) -> Code<'a> {
        Code {
            first,
            left,
            more,
            at: 0,
        }
    }

    fn next(&mut self) -> Option<u8> {
        if self.left > 0 {
            let byte = (self.first >> 24) as u8;
            self.first <<= 8;
            self.left -= 1;
            return Some(byte);
        }
        let byte = *self.more.get(self.at & !3 | 3 - (self.at & 3))?;
        self.at += 1;
        Some(byte)
    }

    /// Unsigned LEB128 of at most 28 bits.
    fn uleb(&mut self) -> Option<i32> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.next()?;
            value |= i32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// A frame as it is taken apart: how far the virtual stack pointer is from its base, and from where registers were popped.
struct Frame {
    base: Base,
    offset: i32,
    link: Option<i32>,
    r7: Option<i32>,
    r11: Option<i32>,
}

impl Frame {
    fn by(mut code: Code<'_>) -> Option<Frame> {
        let mut frame = Frame {
            base: Base::Sp,
            offset: 0,
            link: None,
            r7: None,
            r11: None,
        };
        while let Some(byte) = code.next() {
            match byte {
                0x00..=0x3f => frame.offset += (i32::from(byte) << 2) + 4,
                0x40..=0x7f => frame.offset -= (i32::from(byte & 0x3f) << 2) + 4,
                0x80..=0x8f => {
                    let mask = u32::from(byte & 15) << 12 | u32::from(code.next()?) << 4;
                    if mask == 0 {
                        return None;
                    }
                    frame.pop(mask)?;
                }
                0x97 => frame.rebase(Base::R7)?,
                0x9b => frame.rebase(Base::R11)?,
                0xa0..=0xaf => {
                    let registers = (0x10u32 << (byte & 7) << 1) - 0x10;
                    frame.pop(registers | u32::from(byte & 8) << 11)?;
                }
                0xb0 => break,
                0xb1 => {
                    let mask = code.next()?;
                    if mask == 0 || mask > 15 {
                        return None;
                    }
                    frame.pop(u32::from(mask))?;
                }
                0xb2 => frame.offset = frame.offset.checked_add(0x204 + (code.uleb()? << 2))?,
                // Floating point registers: two words each, and one more in the older form.
                0xb3 => frame.offset += (i32::from(code.next()? & 15) + 1) * 8 + 4,
                0xb8..=0xbf => frame.offset += (i32::from(byte & 7) + 1) * 8 + 4,
                0xc8 | 0xc9 => frame.offset += (i32::from(code.next()? & 15) + 1) * 8,
                0xd0..=0xd7 => frame.offset += (i32::from(byte & 7) + 1) * 8,
                _ => return None,
            }
        }
        Some(frame)
    }

    /// Pops registers; bit n is rn.
    fn pop(&mut self, mask: u32) -> Option<()> {
        const SP: u32 = 1 << 13;
        if mask & SP != 0 {
            return None;
        }
        for register in 0..16 {
            if mask & 1 << register == 0 {
                continue;
            }
            match register {
                7 => self.r7 = Some(self.offset),
                11 => self.r11 = Some(self.offset),
                // What is popped into the program counter is where it goes on.
                14 | 15 => self.link = Some(self.offset),
                _ => {}
            }
            self.offset += 4;
        }
        Some(())
    }

    /// The virtual stack pointer is taken from a register, which must still be the frame's own.
    fn rebase(&mut self, base: Base) -> Option<()> {
        if self.link.or(self.r7).or(self.r11).is_some() {
            return None;
        }
        (self.base, self.offset) = (base, 0);
        Some(())
    }

    fn rule(self) -> Option<Rule> {
        let below = |place: Option<i32>| match place {
            None => Some(0),
            Some(place) => u8::try_from((self.offset - place) / 4).ok().filter(|words| *words > 0),
        };
        let saved = Saved {
            link: below(self.link)?,
            r7: below(self.r7)?,
            r11: below(self.r11)?,
        };
        Some(Rule::new(self.base, self.offset, saved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(bytes: [u8; 3]) -> Rule {
        let [first, second, third] = bytes.map(u32::from);
        let code = Code::compact(1 << 31 | first << 16 | second << 8 | third, &[]).unwrap();
        Frame::by(code).unwrap().rule().unwrap()
    }

    #[test]
    fn programs_become_rules() {
        // pop {r4, r5, r6, r7, lr} after 16 bytes of locals.
        let saved = Saved { link: 1, r7: 2, r11: 0 };
        assert_eq!(rule([0x03, 0xab, 0xb0]), Rule::new(Base::Sp, 36, saved));
        // sp = r11, then pop {r4 to r11, lr}.
        let saved = Saved { link: 1, r7: 6, r11: 2 };
        assert_eq!(rule([0x9b, 0x84, 0xff]), Rule::new(Base::R11, 36, saved));
        // A function with nothing saved.
        assert_eq!(rule([0xb0, 0xb0, 0xb0]), Rule::new(Base::Sp, 0, Saved::default()));
    }

    #[test]
    fn entries_are_found_by_binary_search() {
        // Functions at 0x1000, 0x1010 and 0x1040; the index lies at 0x2000.
        let mut index = std::vec::Vec::new();
        for (number, start) in [0x1000u32, 0x1010, 0x1040].into_iter().enumerate() {
            index.extend((start.wrapping_sub(0x2000 + number as u32 * 8) & 0x7fff_ffff).to_ne_bytes());
            index.extend((if number == 1 { CANTUNWIND } else { 0x80a8_b0b0 }).to_ne_bytes());
        }
        let tables = Tables {
            header_address: 0x2000,
            header: &index,
            start: 0x1000,
            module: &[],
        };
        assert_eq!(rule_for(&tables, 0xfff), Rule::bare(Kind::Guess));
        let popped = Rule::new(Base::Sp, 8, Saved { link: 1, r7: 0, r11: 0 });
        assert_eq!(rule_for(&tables, 0x1008), popped);
        assert_eq!(rule_for(&tables, 0x1010), Rule::bare(Kind::Guess));
        assert_eq!(rule_for(&tables, 0x103f), Rule::bare(Kind::Guess));
        assert_eq!(rule_for(&tables, 0x2fff), popped);
    }
}
