//! The files that one recording was cut into: their names, and what each says of itself.
//!
//! Each begins with a keyframe of all that was before, so it is a tape that can be read alone. [`crate::Chain`] reads several of them as one.

use crate::damage::{Damage, DamageCause};
use crate::decode::{damage, read_raw};
use crate::scan::Scan;
use crate::source::Source;
use crate::BlockKind;
use serde::{Deserialize, Serialize};

/// Ends the names of tapes.
const SUFFIX: &[u8] = b".tape";
/// Digits of a number in a name, at least.
const DIGITS: usize = 6;

/// What a file that is not the first of its recording says of its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its number, from 2 on: the first of a recording says nothing.
    pub number: u32,
    /// The sequence number that the first block after this file's keyframe has in the file before it. What that file has from there on is here, too.
    pub continues: u64,
}

impl Part {
    /// What a file says of itself; `None` for the first of its recording, and for one that is not cut.
    ///
    /// # Errors
    /// When it says something and that is damaged.
    pub fn of<S: Source + ?Sized>(source: &S, scan: &Scan) -> Result<Option<Part>, Damage> {
        let Some(block) = scan.blocks.iter().find(|block| block.kind == BlockKind::Part) else {
            return Ok(None);
        };
        let raw = read_raw(source, block)?;
        let content = |what| damage(block, DamageCause::Content { what });
        match postcard::take_from_bytes::<Part>(&raw) {
            Ok((part, [])) if part.number > 1 => Ok(Some(part)),
            _ => Err(content("the place of the file in its recording is malformed")),
        }
    }

    /// The name of a file of the recording with this name: `svc.tape` has `svc.000001.tape` and so on.
    pub fn name(recording: &[u8], number: u32) -> Vec<u8> {
        let (stem, suffix) = apart(recording);
        let mut name = stem.to_vec();
        name.extend_from_slice(format!(".{number:0DIGITS$}").as_bytes());
        name.extend_from_slice(suffix);
        name
    }

    /// The number of the file with this name, if it can be one of the recording.
    pub fn number(recording: &[u8], name: &[u8]) -> Option<u32> {
        let (stem, suffix) = apart(recording);
        let digits = name.strip_prefix(stem)?.strip_prefix(b".")?.strip_suffix(suffix)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (number > 0 && Part::name(recording, number) == name).then_some(number)
    }
}

fn apart(recording: &[u8]) -> (&[u8], &[u8]) {
    match recording.strip_suffix(SUFFIX) {
        Some(stem) if !stem.is_empty() => (stem, SUFFIX),
        _ => (recording, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_and_read_back_and_others_are_none() {
        for (recording, name, number) in [
            ("svc.tape", "svc.000001.tape", 1),
            ("svc.tape", "svc.1234567.tape", 1_234_567),
            ("svc", "svc.000002", 2),
            (".tape", ".tape.000003", 3),
        ] {
            assert_eq!(Part::name(recording.as_bytes(), number), name.as_bytes());
            assert_eq!(Part::number(recording.as_bytes(), name.as_bytes()), Some(number));
        }
        for name in [
            "svc.tape",
            "svc.1.tape",
            "svc.000000.tape",
            "svc.0000001.tape",
            "svc.+00001.tape",
            "svc.000001.tape.idx",
            "svc.99999999999.tape",
            ".svc.000001.tape.folding",
        ] {
            assert_eq!(Part::number(b"svc.tape", name.as_bytes()), None, "{name}");
        }
    }
}
