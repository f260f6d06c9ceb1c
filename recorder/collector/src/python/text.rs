//! The parts of a note about a code object.

/// What is left of the note.
pub struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number of four bytes.
    pub fn number(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    /// A text of characters of 1, 2 or 4 bytes, as the interpreter holds it: in UTF-8. A character that stands for a byte that was no UTF-8 (a file name's) becomes
    /// that byte again.
    pub fn text(&mut self) -> Option<Vec<u8>> {
        let size = usize::from(self.byte()?);
        let length = self.number()? as usize;
        let bytes = length.checked_mul(size)?;
        let (text, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        if !matches!(size, 1 | 2 | 4) {
            return None;
        }
        let mut utf8 = Vec::with_capacity(bytes);
        for character in text.chunks_exact(size) {
            let mut number = [0; 4];
            number[..size].copy_from_slice(character);
            match u32::from_le_bytes(number) {
                escaped @ 0xdc80..=0xdcff => utf8.push(escaped as u8),
                number => {
                    let character = char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER);
                    utf8.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
        Some(utf8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(size: u8, characters: &[u32]) -> Option<Vec<u8>> {
        let mut bytes = vec![size];
        bytes.extend((characters.len() as u32).to_le_bytes());
        for character in characters {
            bytes.extend(&character.to_le_bytes()[..size.into()]);
        }
        Reader(&bytes).text()
    }

    #[test]
    fn texts_of_every_width_become_utf8() {
        assert_eq!(text(1, &[0x61, 0xe9]), Some("aé".into()));
        assert_eq!(text(2, &[0x61, 0x20ac]), Some("a€".into()));
        assert_eq!(text(4, &[0x1f600]), Some("😀".into()));
        assert_eq!(text(2, &[0x66, 0xdcff]), Some(vec![b'f', 0xff]));
        assert_eq!(text(4, &[0x110000, 0xd800]), Some("\u{fffd}\u{fffd}".into()));
        assert_eq!(text(3, &[1]), None);
        assert_eq!(Reader(&[1, 9, 0, 0, 0, b'a']).text(), None);
    }
}
