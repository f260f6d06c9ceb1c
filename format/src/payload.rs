//! The payload of a block: one zstd frame with its own checksum.

use crate::block::{MAX_PAYLOAD_LENGTH, MAX_RAW_LENGTH};
use crate::bytes::Malformed;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, DParameter};

/// The first bytes of a zstd frame.
const FRAME_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Base-2 logarithm of the largest window.
const WINDOW_LOG: u32 = MAX_RAW_LENGTH.ilog2();

/// Compresses payloads; reused over a whole tape.
pub(crate) struct Compressor {
    context: CCtx<'static>,
}

impl Compressor {
    pub(crate) fn new(level: i32) -> Self {
        let mut context = CCtx::create();
        // Only values out of range are refused; the level is brought into range here and the others are constants.
        let level = level.clamp(zstd_safe::min_c_level(), zstd_safe::max_c_level());
        for parameter in [CParameter::CompressionLevel(level), CParameter::ChecksumFlag(true)] {
            context
                .set_parameter(parameter)
                .expect("zstd takes parameters within their range");
        }
        Compressor { context }
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.context.sizeof()
    }

    /// Appends the frame to `out`.
    pub(crate) fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        debug_assert!(raw.len() <= MAX_RAW_LENGTH as usize);
        let start = out.len();
        out.resize(start + zstd_safe::compress_bound(raw.len()), 0);
        let written = self
            .context
            .compress2(&mut out[start..], raw)
            .expect("compress_bound bytes are enough for any payload");
        out.truncate(start + written);
    }
}

/// Decompresses payloads; reused from block to block.
pub(crate) struct Decompressor {
    context: DCtx<'static>,
}

impl Default for Decompressor {
    fn default() -> Self {
        let mut context = DCtx::create();
        context
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG))
            .expect("zstd takes parameters within their range");
        Decompressor { context }
    }
}

impl Decompressor {
    /// Decompresses exactly one frame to exactly `raw_length` bytes.
    pub(crate) fn decompress(&mut self, payload: &[u8], raw_length: u32, into: &mut Vec<u8>) -> Result<(), Malformed> {
        if payload.len() > MAX_PAYLOAD_LENGTH as usize || raw_length > MAX_RAW_LENGTH {
            return Err("it is longer than the format allows");
        }
        if !payload.starts_with(&FRAME_MAGIC) {
            return Err("it is no zstd frame");
        }
        // Bit 2 of the frame's descriptor says that the content has a checksum.
        if payload.get(4).is_none_or(|descriptor| descriptor & 4 == 0) {
            return Err("its zstd frame has no checksum");
        }
        if zstd_safe::find_frame_compressed_size(payload) != Ok(payload.len()) {
            return Err("it is not one whole zstd frame");
        }
        into.resize(raw_length as usize, 0);
        match self.context.decompress(into.as_mut_slice(), payload) {
            Ok(length) if length == into.len() => Ok(()),
            Ok(_) => Err("it decompresses to fewer bytes than its header says"),
            Err(code) => Err(zstd_safe::get_error_name(code)),
        }
    }
}
