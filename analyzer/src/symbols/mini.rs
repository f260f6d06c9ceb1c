//! MiniDebugInfo: an ELF file with a symbol table, xz-compressed in the section `.gnu_debugdata` of a stripped module.

use liblzma::read::XzDecoder;
use liblzma::stream::Stream;
use std::io::Read;

/// Larger tables are left alone.
const LARGEST: u64 = 256 << 20;
/// No symbol table shrinks to less than one part in so many.
const MOST_GAIN: u64 = 64;
/// Memory for decompression: enough for xz's highest level.
const MEMORY: u64 = 80 << 20;

/// The decompressed file; `None` when it is damaged or beyond bounds.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let most = LARGEST.min((packed.len() as u64).saturating_mul(MOST_GAIN));
    let stream = Stream::new_stream_decoder(MEMORY, 0).ok()?;
    let mut unpacked = Vec::new();
    XzDecoder::new_stream(packed, stream)
        .take(most + 1)
        .read_to_end(&mut unpacked)
        .ok()?;
    (unpacked.len() as u64 <= most).then_some(unpacked)
}

#[cfg(test)]
mod tests {
    use super::unpack;
    use std::io::Write;

    fn pack(raw: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
        encoder.write_all(raw).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    #[test]
    fn what_was_packed_comes_back_and_a_bomb_does_not() {
        let raw: Vec<u8> = (0..10_000u32).map(|n| ((n * n) >> 3) as u8).collect();
        let packed = pack(&raw);
        assert_eq!(unpack(&packed), Some(raw));
        assert_eq!(unpack(&packed[..packed.len() / 2]), None);
        assert_eq!(unpack(b"no xz"), None);
        assert_eq!(unpack(&pack(&vec![0; 16 << 20])), None);
    }
}
