//! Where the bytes of a tape come from.

use std::fmt;

/// Random access to the bytes of a tape. Files, memory maps and network objects are the caller's to adapt.
pub trait Source: Sync {
    /// Number of bytes there are now. May grow between calls, never shrink.
    fn len(&self) -> u64;

    /// Whether there is nothing at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `into` with the bytes from `offset` on.
    ///
    /// # Errors
    /// When the range does not lie within the source, or the medium fails.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError>;
}

/// The medium failed, or there are fewer bytes than asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    /// What the medium said.
    pub message: String,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SourceError {}

impl Source for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        let found = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(into.len())?))
            .ok_or_else(|| SourceError {
                message: "there are no bytes there".into(),
            })?;
        into.copy_from_slice(found);
        Ok(())
    }
}

impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        Source::len(self.as_slice())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.as_slice().read_at(offset, into)
    }
}
