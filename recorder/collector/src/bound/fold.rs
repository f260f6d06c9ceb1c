//! The thread that makes the folded tape.

use super::place::NewFile;
use crate::sys::memory;
use heaptape_format::fold::{rehead, Restamp};
use heaptape_format::{scan, Folder, Part, Source, SourceError, WriterOptions};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Bytes that are copied at once, if a whole block is among them.
const COPY: u64 = 1 << 20;
/// More than any block has.
const MOST_COPY: u64 = 10 << 20;
/// With less than this to copy, the rest is left to the collector.
const LITTLE: u64 = 64 << 10;
/// So much later than others this thread is given a processor.
const NICE: i32 = 10;

/// What is to be done.
pub(super) struct Fold {
    pub tape: File,
    pub to: NewFile,
    pub cut: u64,
    /// The generation that begins at the cut.
    pub generation: u32,
    /// Which file of its recording the new one is, if it is to say so.
    pub part: Option<Part>,
    /// Most bytes that the new file may have.
    pub room: u64,
    /// Bytes of the tape so far.
    pub written: Arc<AtomicU64>,
    pub stop: Arc<AtomicBool>,
}

/// What was done.
pub(super) struct Folded {
    pub file: NewFile,
    /// Bytes of the keyframe and what stands before it.
    pub keyframe: u64,
    pub length: u64,
    /// Up to here the tape is in the new file.
    pub copied: u64,
    pub stamp: Restamp,
    /// Whether all has had room.
    pub is_whole: bool,
}

/// The part of the tape before the cut.
struct Beginning<'a> {
    file: &'a File,
    length: u64,
}

impl Source for Beginning<'_> {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.file.read_exact_at(into, offset).map_err(|error| SourceError {
            message: error.to_string(),
        })
    }
}

impl Folded {
    /// Copies the rest of the tape, of which `written` bytes are there, and waits until all is on the disk.
    ///
    /// # Errors
    /// When the system refuses, or the tape is not what was written.
    pub(super) fn take_rest(&mut self, mut tape: File, written: u64, generation: u32) -> io::Result<()> {
        let rest = written - self.copied;
        tape.seek(SeekFrom::Start(self.copied))?;
        let mut bytes = Vec::new();
        tape.take(rest).read_to_end(&mut bytes)?;
        if rehead(&mut bytes, generation, &mut self.stamp) as u64 != rest {
            return Err(io::Error::other("the tape does not hold what was written to it"));
        }
        self.file.write_all(&bytes)?;
        self.length += rest;
        self.copied = written;
        self.file.sync()
    }
}

impl Fold {
    /// Begins the work.
    pub(super) fn spawn(self) -> io::Result<JoinHandle<io::Result<Folded>>> {
        let thread = std::thread::Builder::new().name("fold".into());
        thread.spawn(move || {
            let folded = self.run();
            memory::give_back();
            folded
        })
    }

    fn run(self) -> io::Result<Folded> {
        // A request; without it the thread is only less modest.
        let own = rustix::thread::gettid();
        let _ = rustix::process::setpriority_process(Some(own), NICE);
        let Fold {
            tape,
            to: mut file,
            cut,
            generation,
            part,
            room,
            written,
            stop,
        } = self;
        let mut length = 0;
        let stopped = || stop.load(Ordering::Relaxed);
        let stamp = {
            let source = Beginning {
                file: &tape,
                length: cut,
            };
            let found = scan(&source).map_err(|error| io::Error::other(error.to_string()))?;
            let mut folder = Folder::new(&found.header);
            if let Some(part) = part {
                folder.begins(part);
            }
            for block in &found.blocks {
                if stopped() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                folder.take(&source, block);
            }
            drop(found);
            let mut failure = None;
            let stamp = folder.finish(WriterOptions::default(), |bytes| {
                length += bytes.len() as u64;
                if length > room || stopped() {
                    return false;
                }
                failure = file.write_all(bytes).err();
                failure.is_none()
            });
            match (failure, stamp) {
                (Some(error), _) => return Err(error),
                (None, stamp) => stamp,
            }
        };
        let mut folded = Folded {
            file,
            keyframe: length,
            length,
            copied: cut,
            stamp: stamp.unwrap_or(Restamp {
                sequence: 0,
                generation: 0,
            }),
            is_whole: stamp.is_some(),
        };
        let mut bytes = Vec::new();
        let mut at_once = COPY;
        while folded.is_whole && !stopped() {
            let until = written.load(Ordering::Acquire);
            let left = until - folded.copied;
            if left < LITTLE {
                // So that little is left for later.
                folded.file.sync()?;
                break;
            }
            if folded.length + left > room {
                folded.is_whole = false;
                break;
            }
            bytes.resize(left.min(at_once) as usize, 0);
            tape.read_exact_at(&mut bytes, folded.copied)?;
            let whole = rehead(&mut bytes, generation, &mut folded.stamp);
            if whole == 0 {
                if at_once < MOST_COPY.min(left) {
                    at_once = MOST_COPY;
                    continue;
                }
                return Err(io::Error::other("the tape does not hold what was written to it"));
            }
            folded.file.write_all(&bytes[..whole])?;
            folded.length += whole as u64;
            folded.copied += whole as u64;
        }
        Ok(folded)
    }
}
