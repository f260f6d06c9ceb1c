//! Looking for block headers in the bytes of a file.

use crate::block::{RawHeader, HEADER_LENGTH, MAGIC};
use crate::damage::DamageCause;
use crate::source::Source;

/// Most bytes read at once while searching.
const WINDOW: usize = 64 << 10;
/// Bytes read first while searching: often the next block is near.
const FIRST_WINDOW: usize = 1 << 10;

/// What lies where a header belongs.
pub(crate) enum Found {
    Header(RawHeader),
    /// Bytes that are no header, for good.
    Other(DamageCause),
    /// The file ends here, or within what may become a header.
    Tail,
}

/// Looks at one place.
pub(crate) fn look<S: Source + ?Sized>(source: &S, at: u64, length: u64) -> Found {
    let Some(left) = length.checked_sub(at) else {
        return Found::Tail;
    };
    let mut bytes = [0; HEADER_LENGTH];
    let there = usize::try_from(left).map_or(HEADER_LENGTH, |left| left.min(HEADER_LENGTH));
    if let Err(error) = source.read_at(at, &mut bytes[..there]) {
        return Found::Other(DamageCause::Unreadable { message: error.message });
    }
    if there < HEADER_LENGTH {
        let magic = there.min(MAGIC.len());
        return if bytes[..magic] == MAGIC[..magic] {
            Found::Tail
        } else {
            Found::Other(DamageCause::NoBlock)
        };
    }
    match RawHeader::from_bytes(&bytes) {
        Some(header) => Found::Header(header),
        None => Found::Other(DamageCause::NoBlock),
    }
}

/// The first header in `from..until` that is valid and wanted. Parts of the file that cannot be read are passed over.
pub(crate) fn search<S: Source + ?Sized>(
    source: &S,
    from: u64,
    until: u64,
    wanted: impl Fn(&RawHeader) -> bool,
) -> Option<(u64, RawHeader)> {
    let mut window = vec![0; FIRST_WINDOW];
    let mut start = from;
    while until.saturating_sub(start) >= HEADER_LENGTH as u64 {
        let there = usize::try_from(until - start).map_or(window.len(), |left| left.min(window.len()));
        let bytes = window.get_mut(..there)?;
        if source.read_at(start, bytes).is_ok() {
            for (place, candidate) in bytes.windows(HEADER_LENGTH).enumerate() {
                if candidate[0] != MAGIC[0] {
                    continue;
                }
                let header = <&[u8; HEADER_LENGTH]>::try_from(candidate)
                    .ok()
                    .and_then(RawHeader::from_bytes);
                if let Some(header) = header.filter(|header| wanted(header)) {
                    return Some((start + place as u64, header));
                }
            }
        }
        // The last bytes of this window may begin a header.
        start += (there - (HEADER_LENGTH - 1)) as u64;
        window.resize((window.len() * 4).min(WINDOW), 0);
    }
    None
}
