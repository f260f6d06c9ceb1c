//! Who is told of everything that is done to the disk: in tests a model of it, else nobody.

#[cfg(test)]
pub use super::power::Witness;

/// Nobody.
#[cfg(not(test))]
#[derive(Clone, Debug, Default)]
pub struct Witness {}

#[cfg(not(test))]
impl Witness {
    pub(super) fn created(&self, _: &std::ffi::OsStr) {}
    pub(super) fn wrote(&self, _: &[u8]) {}
    pub(super) fn synced(&self) {}
    pub(super) fn renamed(&self, _: &std::ffi::OsStr, _: &std::ffi::OsStr) {}
    pub(super) fn synced_folder(&self) {}
    pub(super) fn removed(&self, _: &std::ffi::OsStr) {}
}
