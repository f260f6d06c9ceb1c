//! Python in the recorded processes: what the numbers of code objects and types mean that a process uses.

mod lines;
mod text;

use heaptape_format::record::{Code, Runtime};
use heaptape_format::{CodeIx, ProcessIx, TypeIx};
use heaptape_shm::entry::python::{FRAME, NO_OFFSET};
use lines::Lines;
use rustc_hash::FxHashMap;
use std::collections::HashMap;
use std::rc::Rc;
use text::Reader;

/// Bytes of lines that a code object may have.
const MOST_LINE_BYTES: usize = 1 << 24;
/// How far ahead of all others a number may be.
const MOST_AHEAD: usize = 1 << 20;

/// A code object of one process.
#[derive(Debug)]
struct Entry {
    code: CodeIx,
    lines: Lines,
}

/// One that has been announced, and whose lines are still to come.
#[derive(Clone, Debug)]
struct Announced {
    number: u32,
    record: Code,
    format: u8,
    bytes: usize,
    table: Vec<u8>,
}

/// What the numbers of one process mean. A forked child begins with a copy of its parent's.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    codes: Vec<Option<Rc<Entry>>>,
    types: FxHashMap<u32, TypeIx>,
    announced: Vec<Announced>,
    /// What stands for a code object that was never told of: its note was lost.
    unknown: Option<CodeIx>,
}

/// What the tape knows of code and types.
#[derive(Debug, Default)]
pub struct Known {
    codes: HashMap<(Vec<u8>, Vec<u8>, u32), CodeIx>,
    types: HashMap<Vec<u8>, TypeIx>,
}

impl Known {
    /// The code object on the tape, and what is to be written (but for the process) if it is new.
    fn code(&mut self, record: Code) -> (CodeIx, Option<Code>) {
        let next = CodeIx(self.codes.len() as u32);
        let key = (record.name.clone(), record.file.clone(), record.first_line);
        let code = *self.codes.entry(key).or_insert(next);
        (code, (code == next).then_some(record))
    }

    /// A type was told of. What is to be written if it is new.
    pub fn name_type(&mut self, numbers: &mut Numbers, bytes: &[u8]) -> Option<Vec<u8>> {
        let (number, name) = bytes.split_first_chunk()?;
        let next = TypeIx(self.types.len() as u32 + 1);
        let kind = *self.types.entry(name.to_vec()).or_insert(next);
        numbers.types.insert(u32::from_le_bytes(*number), kind);
        (kind == next).then(|| name.to_vec())
    }

    /// A code object was told of. What is to be written if it is complete, and new.
    pub fn announce(&mut self, numbers: &mut Numbers, bytes: &[u8]) -> Option<Code> {
        let mut reader = Reader(bytes);
        let number = reader.number()?;
        let first_line = reader.number()?;
        let format = reader.byte()?;
        let bytes = reader.number()? as usize;
        let name = reader.text()?;
        let file = reader.text()?;
        let announced = Announced {
            number,
            record: Code {
                name,
                file,
                first_line,
                ..Code::default()
            },
            format,
            bytes: bytes.min(MOST_LINE_BYTES),
            table: Vec::new(),
        };
        // A number is announced again when its object is gone, or when the note was cut off.
        numbers.announced.retain(|other| other.number != number);
        if announced.bytes == 0 {
            return self.complete(numbers, announced);
        }
        numbers.announced.push(announced);
        None
    }

    /// More lines of a code object. What is to be written if it is complete now, and new.
    pub fn lines(&mut self, numbers: &mut Numbers, bytes: &[u8]) -> Option<Code> {
        let (number, part) = bytes.split_first_chunk()?;
        let number = u32::from_le_bytes(*number);
        let at = numbers
            .announced
            .iter()
            .position(|announced| announced.number == number)?;
        let announced = &mut numbers.announced[at];
        announced.table.extend_from_slice(part);
        if announced.table.len() < announced.bytes {
            return None;
        }
        let announced = numbers.announced.swap_remove(at);
        self.complete(numbers, announced)
    }

    fn complete(&mut self, numbers: &mut Numbers, announced: Announced) -> Option<Code> {
        let first_line = announced.record.first_line;
        let (code, fresh) = self.code(announced.record);
        let entry = Entry {
            code,
            lines: Lines::decode(announced.format, first_line, &announced.table),
        };
        let index = announced.number as usize;
        if index >= numbers.codes.len() {
            if index - numbers.codes.len() > MOST_AHEAD {
                return fresh;
            }
            numbers.codes.resize(index + 1, None);
        }
        numbers.codes[index] = Some(Rc::new(entry));
        fresh
    }

    /// The word of a Python frame that means the same in all processes, and what is to be written first.
    #[inline]
    pub fn frame(&mut self, numbers: &mut Numbers, word: u64) -> (u64, Option<Code>) {
        let (number, offset) = ((word & !FRAME) >> 32, word as u32);
        match numbers.codes.get(number as usize) {
            Some(Some(entry)) => {
                let line = if offset == NO_OFFSET {
                    entry.lines.first()
                } else {
                    entry.lines.at(offset)
                };
                (common(entry.code, line), None)
            }
            _ => self.unknown_frame(numbers),
        }
    }

    #[cold]
    fn unknown_frame(&mut self, numbers: &mut Numbers) -> (u64, Option<Code>) {
        if let Some(code) = numbers.unknown {
            return (common(code, 0), None);
        }
        let (code, fresh) = self.code(Code {
            name: b"?".to_vec(),
            ..Code::default()
        });
        numbers.unknown = Some(code);
        (common(code, 0), fresh)
    }
}

impl Numbers {
    /// The type with this number.
    #[inline]
    pub fn kind(&self, number: u32) -> TypeIx {
        match number {
            0 => TypeIx::UNKNOWN,
            number => self.types.get(&number).copied().unwrap_or(TypeIx::UNKNOWN),
        }
    }
}

#[inline]
fn common(code: CodeIx, line: u32) -> u64 {
    FRAME | u64::from(code.get() & (u32::MAX >> 1)) << 32 | u64::from(line)
}

/// The code and line of a word that [`Known::frame`] gave; `None` for a return address.
#[inline]
pub fn place(word: u64) -> Option<(CodeIx, u32)> {
    (word & FRAME != 0).then_some((CodeIx(((word & !FRAME) >> 32) as u32), word as u32))
}

/// What was found out of an interpreter.
pub fn runtime(process: ProcessIx, bytes: &[u8]) -> Option<Runtime> {
    let ([frames, types], rest) = bytes.split_first_chunk()?;
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    Some(Runtime {
        process,
        name: parts.next()?.to_vec(),
        frames: *frames != 0,
        types: *types != 0,
        note: parts.next().unwrap_or_default().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use heaptape_shm::entry::python::lines;

    fn note(number: u32, name: &str, table: usize) -> Vec<u8> {
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.extend(10u32.to_le_bytes());
        bytes.push(lines::RANGES);
        bytes.extend((table as u32).to_le_bytes());
        for text in [name, "/app/a.py"] {
            bytes.push(1);
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.bytes());
        }
        bytes
    }

    fn word(number: u32, offset: u32) -> u64 {
        FRAME | u64::from(number) << 32 | u64::from(offset)
    }

    #[test]
    fn a_code_object_is_told_once_all_its_lines_have_come() {
        let (mut known, mut numbers) = (Known::default(), Numbers::default());
        assert_eq!(known.announce(&mut numbers, &note(7, "work", 4)), None);
        let part = |bytes: [u8; 2]| [&7u32.to_le_bytes()[..], &bytes].concat();
        assert_eq!(known.lines(&mut numbers, &part([4, 1])), None);
        let told = known.lines(&mut numbers, &part([2, 2])).unwrap();
        assert_eq!(
            (told.name, told.file, told.first_line),
            (b"work".to_vec(), b"/app/a.py".to_vec(), 10)
        );
        for (offset, line) in [(0, 11), (4, 13), (NO_OFFSET, 10)] {
            let (word, fresh) = known.frame(&mut numbers, word(7, offset));
            assert_eq!((place(word), fresh), (Some((CodeIx(0), line)), None));
        }
    }

    #[test]
    fn a_number_that_is_given_again_means_the_new_object_and_the_same_code_is_told_once() {
        let (mut known, mut numbers) = (Known::default(), Numbers::default());
        assert!(known.announce(&mut numbers, &note(1, "a", 0)).is_some());
        assert!(known.announce(&mut numbers, &note(1, "b", 0)).is_some());
        let mut child = numbers.clone();
        assert!(known.announce(&mut child, &note(1, "a", 0)).is_none());
        let mut code = |numbers: &mut Numbers| place(known.frame(numbers, word(1, 0)).0).unwrap().0;
        assert_eq!((code(&mut numbers), code(&mut child)), (CodeIx(1), CodeIx(0)));
    }

    #[test]
    fn a_number_that_nobody_told_of_is_shown_as_unknown() {
        let (mut known, mut numbers) = (Known::default(), Numbers::default());
        let (first, fresh) = known.frame(&mut numbers, word(5, 8));
        assert_eq!(fresh.map(|code| code.name), Some(b"?".to_vec()));
        assert_eq!(known.frame(&mut numbers, word(6, 8)), (first, None));
        // Nor does a number out of all bounds cost memory.
        assert!(known.announce(&mut numbers, &note(u32::MAX, "far", 0)).is_some());
        assert!(numbers.codes.is_empty());
        assert_eq!(place(0x7fff_1234_5678), None);
    }
}
