//! Which line an instruction belongs to, by the tables of CPython's code objects: `co_lnotab` until 3.9, `co_linetable` in its first form in 3.10, in its second since 3.11.
//!
//! All three are lists of steps over ranges of bytecode. The bytes come from a program's memory: whatever they say, this ends, and holds no more than [`MOST`] lines.

use heaptape_shm::entry::python::lines;

/// Bytes of bytecode that a code object may have.
const MOST: usize = 1 << 24;

/// The line of each instruction of two bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    first: u32,
    all: All,
}

/// As small as they can be: a large program has tens of thousands of code objects.
#[derive(Clone, Debug, PartialEq, Eq)]
enum All {
    /// So many lines behind this one; 0 is no line.
    Near(u32, Box<[u16]>),
    Far(Box<[u32]>),
}

impl Lines {
    /// Reads a table.
    pub fn decode(format: u8, first: u32, table: &[u8]) -> Lines {
        let mut steps = Steps {
            first,
            all: Vec::new(),
            bytes: 0,
        };
        match format {
            lines::LNOTAB => steps.read_lnotab(table),
            lines::RANGES => steps.read_ranges(table),
            lines::LOCATIONS => steps.read_locations(table),
            _ => {}
        }
        let lines = steps.all.iter().copied().filter(|line| *line != 0);
        let before = lines.min().map_or(0, |least| least - 1);
        let near = |line: &u32| u16::try_from(line.saturating_sub(before)).ok();
        let all = match steps.all.iter().map(near).collect() {
            Some(near) => All::Near(before, near),
            None => All::Far(steps.all.into()),
        };
        Lines { first, all }
    }

    /// The line of the instruction at this offset in bytes; 0 when it belongs to none.
    #[inline]
    pub fn at(&self, offset: u32) -> u32 {
        let index = offset as usize / 2;
        // The last range has no end of its own in the oldest format.
        let found = match &self.all {
            All::Near(before, lines) => {
                let line = lines.get(index).or(lines.last());
                line.map(|line| if *line == 0 { 0 } else { before + u32::from(*line) })
            }
            All::Far(lines) => lines.get(index).or(lines.last()).copied(),
        };
        found.unwrap_or(self.first)
    }

    /// The line of a frame of which no instruction has run.
    pub fn first(&self) -> u32 {
        self.first
    }
}

/// A table being read.
struct Steps {
    first: u32,
    all: Vec<u32>,
    /// Bytes of bytecode that `all` stands for.
    bytes: usize,
}

impl Steps {
    fn extend(&mut self, bytes: usize, line: i64) {
        let line = u32::try_from(line).unwrap_or(0);
        self.bytes = (self.bytes + bytes).min(MOST);
        self.all.resize(self.bytes.div_ceil(2), line);
    }

    /// Pairs: bytes of bytecode, then how much further down its line is than the one before. A line holds until the next step of the bytecode.
    fn read_lnotab(&mut self, table: &[u8]) {
        let mut line = i64::from(self.first);
        for pair in table.chunks_exact(2) {
            if pair[0] > 0 {
                self.extend(usize::from(pair[0]), line);
            }
            line += i64::from(pair[1] as i8);
        }
        // Whatever comes after the last step.
        self.extend(2, line);
    }

    /// Pairs: bytes of bytecode, then how much further down their line is than the last one; -128: they have none.
    fn read_ranges(&mut self, table: &[u8]) {
        const NONE: u8 = 0x80;
        let mut line = i64::from(self.first);
        for pair in table.chunks_exact(2) {
            if pair[1] == NONE {
                self.extend(usize::from(pair[0]), 0);
            } else {
                line += i64::from(pair[1] as i8);
                self.extend(usize::from(pair[0]), line);
            }
        }
    }

    /// Entries that begin with a byte whose highest bit is set: bits 3..7 a kind, bits 0..3 the number of instructions less one.
    fn read_locations(&mut self, table: &[u8]) {
        let mut line = i64::from(self.first);
        let mut rest = table.iter().copied();
        while let Some(head) = rest.next() {
            let instructions = usize::from(head & 7) + 1;
            let own = match head >> 3 & 15 {
                15 => 0,
                // Columns follow, which nobody asks for; they are skipped below.
                13 | 14 => {
                    line = line.saturating_add(signed(&mut rest));
                    line
                }
                kind @ 10..=12 => {
                    line = line.saturating_add(i64::from(kind) - 10);
                    line
                }
                _ => line,
            };
            self.extend(instructions * 2, own);
            // To the next byte that begins an entry.
            while rest.clone().next().is_some_and(|byte| byte & 0x80 == 0) {
                rest.next();
            }
        }
    }
}

/// A number of six bits a byte, the least first; bit 6 says that it goes on, bit 0 of the whole is its sign.
fn signed(bytes: &mut impl Iterator<Item = u8>) -> i64 {
    let mut number = 0u64;
    for shift in (0..60).step_by(6) {
        let Some(byte) = bytes.next() else { break };
        number |= u64::from(byte & 63) << shift;
        if byte & 64 == 0 {
            break;
        }
    }
    let size = (number >> 1) as i64;
    if number & 1 == 0 {
        size
    } else {
        -size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(lines: &Lines) -> usize {
        match &lines.all {
            All::Near(_, lines) => lines.len(),
            All::Far(lines) => lines.len(),
        }
    }

    fn all(format: u8, first: u32, table: &[u8]) -> Vec<u32> {
        let lines = Lines::decode(format, first, table);
        (0..count(&lines) as u32).map(|index| lines.at(2 * index)).collect()
    }

    #[test]
    fn lines_far_from_each_other_are_kept_as_they_are() {
        // Long form: 70,000 down, in three groups of six bits.
        let far = [0x80, 0x80 | 14 << 3, 0x60, 0x4b, 0x22, 0, 0, 0];
        assert_eq!(all(lines::LOCATIONS, 5, &far), [5, 70_005]);
        assert!(matches!(Lines::decode(lines::LOCATIONS, 5, &far).all, All::Far(_)));
        assert!(matches!(
            Lines::decode(lines::LOCATIONS, 5, &far[..1]).all,
            All::Near(4, _)
        ));
    }

    #[test]
    fn the_oldest_format_steps_from_line_to_line() {
        // The example of CPython's own notes: 0 at 1, 6 at 2, 50 at 7, 350 at 207, 361 at 208, with first line 1.
        let table = [0, 0, 6, 1, 44, 5, 255, 0, 45, 127, 0, 73, 11, 1];
        let lines = Lines::decode(lines::LNOTAB, 1, &table);
        for (offset, line) in [
            (0, 1),
            (4, 1),
            (6, 2),
            (48, 2),
            (50, 7),
            (348, 7),
            (350, 207),
            (362, 208),
            (9000, 208),
        ] {
            assert_eq!(lines.at(offset), line, "{offset}");
        }
        assert_eq!(Lines::decode(lines::LNOTAB, 7, &[]).at(4), 7);
        // Downwards.
        assert_eq!(all(lines::LNOTAB, 10, &[2, 5, 2, 0xfb, 2, 0]), [10, 15, 10, 10]);
    }

    #[test]
    fn ranges_may_have_no_line() {
        assert_eq!(all(lines::RANGES, 10, &[4, 1, 2, 0x80, 2, 0xff]), [11, 11, 0, 10]);
    }

    #[test]
    fn locations_of_every_kind_are_told_apart() {
        // Short form, one line 2 down, long form 5 up with columns, no columns 3 down, none at all.
        let table = [
            0x80,
            0x11,
            0x80 | 12 << 3 | 1,
            4,
            5,
            0x80 | 14 << 3,
            11,
            0,
            1,
            2,
            0x80 | 13 << 3,
            6,
            0x80 | 15 << 3,
        ];
        assert_eq!(all(lines::LOCATIONS, 100, &table), [100, 102, 102, 97, 100, 0]);
        assert_eq!(signed(&mut [0x40 | 0x3f, 0x01].into_iter()), -63);
    }

    #[test]
    fn no_table_breaks_the_reader() {
        let mut random = 1u64;
        let mut byte = || {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (random >> 56) as u8
        };
        for round in 0..20_000 {
            let table: Vec<u8> = (0..byte()).map(|_| byte()).collect();
            let first = u32::from(byte()) << (round % 25);
            let lines = Lines::decode(byte() % 5, first, &table);
            assert!(count(&lines) <= MOST / 2);
            lines.at(u32::from(byte()) << (round % 25));
        }
    }
}
