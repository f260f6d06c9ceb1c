//! Where a tape lies, held by its folder: the collector has no current folder, and names may be moved.

use super::witness::Witness;
use rustix::fs::{fsync, open, openat, renameat, statat, unlinkat, AtFlags, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

/// A tape's folder, its name there, and its permissions.
#[derive(Debug)]
pub struct Place {
    folder: OwnedFd,
    name: OsString,
    mode: Mode,
    pub(super) witness: Witness,
}

/// A file that is made beside a tape.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    witness: Witness,
}

impl NewFile {
    /// Writes at its end.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.witness.wrote(bytes);
        Ok(())
    }

    /// Waits until all of it is on the disk.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.witness.synced();
        Ok(())
    }

    /// The file itself.
    pub fn into_file(self) -> File {
        self.file
    }
}

impl Place {
    /// The place of a tape that is there.
    ///
    /// # Errors
    /// When it is no regular file, or its folder cannot be opened.
    pub fn of(path: &Path) -> io::Result<Place> {
        use std::os::unix::fs::PermissionsExt;
        // Through symbolic links: what is exchanged is the file itself.
        let path = std::fs::canonicalize(path)?;
        let facts = std::fs::metadata(&path)?;
        let (Some(folder), Some(name), true) = (path.parent(), path.file_name(), facts.is_file()) else {
            return Err(io::Error::other("it is not a regular file"));
        };
        let folder = open(
            folder,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Place {
            folder,
            name: name.to_owned(),
            mode: Mode::from_raw_mode(facts.permissions().mode()),
            witness: Witness::default(),
        })
    }

    /// A place beside this one, for a file that is not there yet.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn sibling(&self, name: OsString) -> io::Result<Place> {
        Ok(Place {
            folder: self.folder.try_clone()?,
            name,
            mode: self.mode,
            witness: self.witness.clone(),
        })
    }

    /// The descriptor that must stay open.
    pub fn fd(&self) -> RawFd {
        self.folder.as_raw_fd()
    }

    /// The tape, to read.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(openat(&self.folder, &self.name, flags, Mode::empty())?.into())
    }

    fn name_beside(&self) -> OsString {
        let mut name = OsString::from(".");
        name.push(OsStr::new(&self.name));
        name.push(".folding");
        name
    }

    /// A new file beside the tape. What a recording of the same tape that was killed has left there is taken away.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn beside(&self) -> io::Result<NewFile> {
        self.remove_beside();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file: File = openat(&self.folder, self.name_beside(), flags, self.mode)?.into();
        let witness = self.witness.clone();
        witness.created(&self.name_beside());
        rustix::fs::fchmod(&file, self.mode)?;
        Ok(NewFile { file, witness })
    }

    /// Whether anything has this name.
    pub fn is_taken(&self) -> bool {
        statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Takes the file itself away, if it is there.
    pub fn remove_own(&self) {
        self.remove(&self.name);
    }

    /// Takes a file of this folder away, if it is there.
    pub fn remove(&self, name: &OsStr) {
        if unlinkat(&self.folder, name, AtFlags::empty()).is_ok() {
            self.witness.removed(name);
        }
    }

    /// Takes the file beside the tape away, if it is there.
    pub fn remove_beside(&self) {
        self.remove(&self.name_beside());
    }

    /// The file beside the tape becomes the tape, also when the power fails right afterwards.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn exchange(&self) -> io::Result<()> {
        renameat(&self.folder, self.name_beside(), &self.folder, &self.name)?;
        self.witness.renamed(&self.name_beside(), &self.name);
        self.sync_folder();
        Ok(())
    }

    /// Waits until what is in the folder has its names on the disk.
    pub fn sync_folder(&self) {
        // Not every file system can.
        if fsync(&self.folder).is_ok() {
            self.witness.synced_folder();
        }
    }
}
