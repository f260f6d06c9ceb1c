//! The unwind table of a loaded module, as memory.

/// The table, and the module that it lies in.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    /// Address of `header`.
    pub header_address: usize,
    /// The bytes from `.eh_frame_hdr` to the end of the module's mapping; on arm those of `.ARM.exidx`.
    pub header: &'a [u8],
    /// Lowest address of the module.
    pub start: usize,
    /// The bytes of the module from `start` on.
    pub module: &'a [u8],
}
