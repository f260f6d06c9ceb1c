//! How much memory a replay may take, and what happens beyond.

use crate::table::{Storage, GROUP_BYTES, MOST_GROUPS};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Most bytes of a row of the table, its share of the list of long-lived rows and of the times of its events.
const BYTES_PER_EVENT: u64 = 32;

/// The least bound: so much is taken to decode blocks whatever is said.
pub const LEAST_MEMORY: u64 = 128 << 20;

/// How much memory a replay may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes. A table that could become larger lies in files without a name; what cannot lie there must fit into this, or into [`LEAST_MEMORY`].
    pub memory: u64,
    /// Folders for those files, the best first.
    pub folders: Vec<PathBuf>,
}

impl Limits {
    /// As much as there is.
    pub fn none() -> Limits {
        Limits {
            memory: u64::MAX,
            folders: Vec::new(),
        }
    }

    /// Whether the table of a tape with this many events is kept on disk.
    pub(crate) fn spills(&self, events: u64) -> bool {
        events.saturating_mul(BYTES_PER_EVENT) > self.memory
    }

    /// How many groups of alike rows may be kept.
    pub(crate) fn groups(&self) -> usize {
        let most = self.memory.max(LEAST_MEMORY) / GROUP_BYTES;
        usize::try_from(most).map_or(MOST_GROUPS, |most| most.min(MOST_GROUPS))
    }

    /// Where the table of a tape with this many events goes.
    pub(super) fn storage(&self, events: u64) -> Result<Storage, ReplayError> {
        if !self.spills(events) {
            return Ok(Storage::Memory);
        }
        Storage::in_one_of(&self.folders).map_err(|cause| ReplayError::Disk {
            folders: self.folders.clone(),
            cause,
        })
    }

    /// Refuses to hold this much in memory.
    pub(super) fn check(&self, held: usize) -> Result<(), ReplayError> {
        let most = self.memory.max(LEAST_MEMORY);
        if held as u64 <= most {
            return Ok(());
        }
        Err(ReplayError::TooLarge {
            held: held as u64,
            most,
        })
    }

    /// Whether the process holds so much that what lies on disk as well had better be given back.
    pub(super) fn is_tight(&self) -> bool {
        resident().is_some_and(|resident| resident > self.memory.max(LEAST_MEMORY) / 2)
    }

    /// A failure to write the table to disk.
    pub(super) fn disk(&self) -> impl Fn(io::Error) -> ReplayError + '_ {
        move |cause| ReplayError::Disk {
            folders: self.folders.clone(),
            cause,
        }
    }
}

/// Bytes of memory of this process.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// A quarter of the machine's memory.
pub fn default_memory() -> u64 {
    let total = || {
        let info = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    };
    total().map_or(1 << 30, |total| total / 4)
}

/// Why a tape was not replayed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplayError {
    /// What has to be in memory is more than was allowed.
    TooLarge {
        /// Bytes.
        held: u64,
        /// Bytes allowed.
        most: u64,
    },
    /// The table is to lie on disk, and cannot.
    Disk {
        /// Where it was tried.
        folders: Vec<PathBuf>,
        /// What the system said.
        cause: io::Error,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::TooLarge { held, most } => write!(
                f,
                "the addresses of live blocks, and what else must be in memory, take {} MiB of the {} MiB allowed: give more with --memory",
                held >> 20,
                most >> 20
            ),
            ReplayError::Disk { folders, cause } => {
                let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
                write!(
                    f,
                    "the table is larger than --memory allows, and cannot be kept in a file in {}: {cause}",
                    folders.join(" or ")
                )
            }
        }
    }
}

impl std::error::Error for ReplayError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_tape_stays_in_memory_and_a_large_one_goes_to_the_first_folder_that_takes_it() {
        let limits = Limits {
            memory: 32_000,
            folders: vec!["/proc".into(), std::env::temp_dir()],
        };
        assert_eq!(limits.storage(1000).expect("it fits"), Storage::Memory);
        let folder = Storage::Folder(std::env::temp_dir());
        assert_eq!(limits.storage(1001).expect("a folder takes it"), folder);
        let nowhere = Limits {
            folders: vec!["/proc".into()],
            ..limits
        };
        let refused = nowhere.storage(1001).expect_err("there is no place");
        assert!(refused.to_string().contains("a file in /proc"), "{refused}");
        assert_eq!(Limits::none().storage(u64::MAX).expect("it fits"), Storage::Memory);
    }

    #[test]
    fn what_must_be_in_memory_is_refused_beyond_the_bound_and_never_below_the_least() {
        let limits = |memory| Limits {
            memory,
            folders: Vec::new(),
        };
        assert!(limits(0).check(LEAST_MEMORY as usize).is_ok());
        assert!(limits(256 << 20).check(256 << 20).is_ok());
        let refused = limits(256 << 20).check(300 << 20).expect_err("it is too much");
        let text = "take 300 MiB of the 256 MiB allowed: give more with --memory";
        assert!(refused.to_string().contains(text), "{refused}");
    }
}
