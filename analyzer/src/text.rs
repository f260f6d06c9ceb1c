//! Text that came from outside: from a tape, from debug information, from the command line.
//!
//! A tape is written by somebody else's program, so a name in it may hold terminal escapes, newlines that fake a row, or marks that
//! reverse the reading direction. A [`Text`] can only be made by escaping those, therefore everything that prints a `Text` is safe
//! by its type. Markup (HTML, SVG) has its own escaping on top, in the exporters.

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Longest text that is kept, in bytes; the rest is replaced by its length.
pub const LONGEST: usize = 4096;

/// Longest text as it is printed: each byte kept can become an escape, and the length cut off is told.
const LONGEST_PRINTED: usize = LONGEST * 6 + 64;

/// A printable piece of text: control bytes, invisible marks and invalid UTF-8 are written out as escapes.
///
/// ```
/// use heaptape::text::Text;
/// assert_eq!(Text::from_bytes(b"a\x1b[31m\nb\xff").as_str(), "a\\u{1b}[31m\\u{a}b\\xff");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Text(#[serde(serialize_with = "as_str")] Arc<str>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        Ok(Text::again(String::deserialize(deserializer)?.as_bytes()))
    }
}

fn as_str<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl Text {
    /// Escapes `raw`, whose invalid UTF-8 becomes `\xNN`.
    pub fn from_bytes(raw: &[u8]) -> Text {
        let kept = &raw[..raw.len().min(LONGEST)];
        let mut text = String::with_capacity(kept.len());
        for chunk in kept.utf8_chunks() {
            escape_into(chunk.valid(), &mut text);
            for byte in chunk.invalid() {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
        if kept.len() < raw.len() {
            let _ = write!(text, "…[{} bytes more]", raw.len() - kept.len());
        }
        Text(text.into())
    }

    /// A text that was printable when it was written down: it comes back as it was, even if escapes had made it longer than the bound. Escaped again, since whoever wrote it
    /// down may not be who says so.
    pub fn again(raw: &[u8]) -> Text {
        match std::str::from_utf8(raw) {
            Ok(valid) if valid.len() <= LONGEST_PRINTED && !valid.chars().any(is_unsafe) => Text(valid.into()),
            _ => Text::from_bytes(raw),
        }
    }

    /// Escapes `raw`.
    pub fn new(raw: &str) -> Text {
        Text::from_bytes(raw.as_bytes())
    }

    /// The printable text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the last slash, as for a path.
    pub fn basename(&self) -> &str {
        match self.0.rsplit('/').next() {
            Some(name) if !name.is_empty() => name,
            _ => &self.0,
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Default for Text {
    fn default() -> Text {
        Text("".into())
    }
}

/// Whether a character may not reach a terminal or a page as it is.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

fn escape_into(raw: &str, into: &mut String) {
    for c in raw.chars() {
        if is_unsafe(c) {
            let _ = write!(into, "{}", c.escape_unicode());
        } else {
            into.push(c);
        }
    }
}

/// Escapes a message that is about to be shown, leaving its own line ends alone.
///
/// Messages of libraries and of the system quote file names; this is the last gate before the terminal.
pub fn escape_message(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for (number, line) in message.split('\n').enumerate() {
        if number > 0 {
            text.push('\n');
        }
        escape_into(line, &mut text);
    }
    text
}

/// Escapes for the inside of an XML or HTML element or attribute.
pub fn escape_markup(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_byte_or_direction_mark_survives() {
        for code in (0u32..0xa0).chain(0x2000..0x2070).chain([0xfeff, 0xe0001]) {
            let Some(c) = char::from_u32(code) else { continue };
            let text = Text::new(&c.to_string());
            assert!(
                !text.as_str().chars().any(is_unsafe),
                "{code:x} came through as {text:?}"
            );
        }
    }

    #[test]
    fn a_very_long_name_is_cut_and_says_so() {
        let text = Text::from_bytes(&vec![b'x'; LONGEST + 7]);
        assert!(text.as_str().ends_with("…[7 bytes more]"));
    }

    #[test]
    fn what_was_printable_stays_as_it_is() {
        for raw in [
            &b"plain"[..],
            b"a\x1b[0m\xff",
            &[0x1b; LONGEST + 9],
            &vec![b'x'; LONGEST + 9],
        ] {
            let text = Text::from_bytes(raw);
            assert_eq!(Text::again(text.as_str().as_bytes()), text);
        }
        assert_eq!(Text::again(b"\x1b[0m"), Text::from_bytes(b"\x1b[0m"));
    }

    #[test]
    fn markup_cannot_be_opened() {
        assert_eq!(escape_markup("</script>\"'&"), "&lt;/script&gt;&quot;&#39;&amp;");
    }

    #[test]
    fn a_message_keeps_its_lines_and_loses_its_escapes() {
        assert_eq!(escape_message("a\nb\x1b"), "a\nb\\u{1b}");
    }
}
