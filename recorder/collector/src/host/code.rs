//! Names of machine code that a program makes while it runs, from the list that it keeps for `perf`: `/tmp/perf-PID.map`.
//!
//! A line is `START SIZE NAME`, both numbers hexadecimal. The folder is everybody's, so the file is believed only if it is a plain file of the right user, written to since the
//! program was started; and it is read in pieces, since it may be of any size.

use std::io::{BufRead, BufReader, Read};

/// Bytes of a list that are copied.
pub const LONGEST_LIST: u64 = 16 << 20;
/// Longest line; what is longer is no entry.
const LONGEST_LINE: u64 = 64 << 10;

/// Gives each entry (start, length, name) to `each`, and returns how many bytes of the list were not copied.
pub fn entries(list: &mut dyn Read, length: u64, mut each: impl FnMut(u64, u64, &[u8])) -> u64 {
    let mut reader = BufReader::with_capacity(LONGEST_LINE as usize, list);
    let mut line = Vec::new();
    let (mut taken, mut refused) = (0u64, 0u64);
    while taken < LONGEST_LIST {
        line.clear();
        let most = LONGEST_LINE.min(LONGEST_LIST - taken);
        let Ok(read) = (&mut reader).take(most).read_until(b'\n', &mut line) else {
            break;
        };
        if read == 0 {
            break;
        }
        taken += read as u64;
        match entry(&line) {
            Some((start, length, name)) => each(start, length, name),
            None => refused += read as u64,
        }
    }
    refused + length.saturating_sub(taken)
}

/// A line that was written to its end.
fn entry(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let mut parts = line.strip_suffix(b"\n")?.splitn(3, |&byte| byte == b' ');
    let mut number = || {
        let digits = std::str::from_utf8(parts.next()?).ok()?;
        u64::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok()
    };
    let (start, length) = (number()?, number()?);
    let name = parts.next()?;
    (!name.is_empty() && length > 0).then_some((start, length, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[u8]) -> (Vec<(u64, u64, String)>, u64) {
        let mut found = Vec::new();
        let cut = entries(&mut &*list, list.len() as u64, |start, length, name| {
            found.push((start, length, String::from_utf8_lossy(name).into_owned()));
        });
        (found, cut)
    }

    #[test]
    fn each_whole_line_is_an_entry_and_every_other_byte_is_counted() {
        let (found, cut) = read(b"7f01 20 LazyCompile:~f /app/x.js:1:2\nnonsense\n0x10 8 g\n30 4 cut sho");
        let wanted = [
            (0x7f01, 0x20, "LazyCompile:~f /app/x.js:1:2".to_owned()),
            (0x10, 8, "g".to_owned()),
        ];
        assert_eq!(found, wanted);
        assert_eq!(cut, 9 + 12);
    }

    #[test]
    fn a_list_is_copied_up_to_its_bound() {
        let line = b"10 8 a name of some length\n";
        let list: Vec<u8> = line
            .iter()
            .copied()
            .cycle()
            .take(LONGEST_LIST as usize + 10 * line.len())
            .collect();
        let (found, cut) = read(&list);
        assert_eq!(found.len(), LONGEST_LIST as usize / line.len());
        assert_eq!(cut, list.len() as u64 - (found.len() * line.len()) as u64);
        let (found, cut) = read(&vec![b'a'; 1 << 20]);
        assert_eq!((found.len(), cut), (0, 1 << 20));
    }
}
