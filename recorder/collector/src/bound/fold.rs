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
use std::time::Instant;

/// Bytes that are copied at once, if a whole block is among them.
const COPY: u64 = 1 << 20;
/// More than any block has.
const MOST_COPY: u64 = 10 << 20;
/// With less than this to copy, the rest is left to the collector.
const LITTLE: u64 = 64 << 10;
/// So many times as long as it has worked the thread rests, while nobody waits for it: others may have but one processor. It is no less of a thread than others, though: whoever waits for it
/// could not make it one again.
const REST: u32 = 2;

/// What the collector wants of the thread that folds.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Bytes of the tape so far.
    pub written: AtomicU64,
    /// It is waited for.
    pub hurry: AtomicBool,
    /// It is to stop.
    pub stop: AtomicBool,
}

impl Wishes {
    /// None, for a tape of this length.
    pub(super) fn at(written: u64) -> Arc<Wishes> {
        Arc::new(Wishes {
            written: AtomicU64::new(written),
            ..Wishes::default()
        })
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// After something that was begun then.
    fn rest(&self, begun: Instant) {
        if !self.hurry.load(Ordering::Relaxed) {
            std::thread::sleep(begun.elapsed() * REST);
        }
    }
}

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
    pub wishes: Arc<Wishes>,
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
        let Fold {
            tape,
            to: mut file,
            cut,
            generation,
            part,
            room,
            wishes,
        } = self;
        let mut length = 0;
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
                if wishes.stopped() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let begun = Instant::now();
                folder.take(&source, block);
                wishes.rest(begun);
            }
            drop(found);
            let mut failure = None;
            let stamp = folder.finish(WriterOptions::default(), |bytes| {
                length += bytes.len() as u64;
                if length > room || wishes.stopped() {
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
        while folded.is_whole && !wishes.stopped() {
            let begun = Instant::now();
            let until = wishes.written.load(Ordering::Acquire);
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
            wishes.rest(begun);
        }
        Ok(folded)
    }
}
