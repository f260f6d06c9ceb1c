//! A tape in the making, for the tests of whoever folds it.

use super::power::Witness;
use super::{Cut, Folding};
use heaptape_format::record::{End, Header};
use heaptape_format::{
    scan, Address, AllocApi, Bytes, Event, Frame, Micros, Op, ProcessIx, StackId, ThreadIx, Writer, WriterOptions,
};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("heaptape-bound-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A tape in the making, as the collector makes it.
pub struct Making {
    pub path: PathBuf,
    pub writer: Writer,
    pub file: File,
    pub out: Vec<u8>,
    pub written: u64,
    pub events: u64,
    /// Is told of all that is written.
    pub witness: Witness,
    /// The file, as the witness knows it.
    known_as: usize,
    /// Whether the disk is waited for when a file is closed.
    pub waits: bool,
}

/// The block of memory that an event is about: at an address that nobody can guess.
pub fn address(event: u64) -> Address {
    let number = event / 2;
    let allocated = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    // Every hundredth block is never freed, but another one.
    let is_missed = !event.is_multiple_of(2) && number.is_multiple_of(100);
    Address(allocated + u64::from(is_missed))
}

impl Making {
    pub fn new(folder: &Path) -> Making {
        let path = folder.join("a.tape");
        let mut out = Vec::new();
        let writer = Writer::new(&Header::default(), WriterOptions::tiny(), &mut out);
        let file = File::options()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&path)
            .unwrap();
        let mut making = Making {
            path,
            writer,
            file,
            out,
            written: 0,
            events: 0,
            witness: Witness::default(),
            known_as: 0,
            waits: false,
        };
        making.witness.created("a.tape".as_ref());
        making.witness.synced_folder();
        making.write();
        making
    }

    fn write(&mut self) {
        self.file.write_all(&self.out).unwrap();
        self.witness.wrote_to(self.known_as, &self.out);
        self.written += self.out.len() as u64;
        self.out.clear();
    }

    /// Tells the witness that the disk was waited for, and that what was written so far has to stay.
    pub fn synced(&self) {
        self.witness.synced_one(self.known_as);
        self.witness.promised(self.events);
    }

    /// Blocks of which every hundredth stays.
    pub fn go_on(&mut self, events: u64) {
        for _ in 0..events {
            let number = self.events / 2;
            let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let address = address(self.events);
            let frame = self.writer.frame(Frame::Raw {
                process: ProcessIx(0),
                address: Address(number % 50),
            });
            let stack = self.writer.stack(StackId::ROOT, frame);
            let op = if self.events.is_multiple_of(2) {
                Op::Alloc {
                    api: AllocApi::Malloc,
                    address,
                    size: Bytes(mixed >> 50),
                    stack,
                }
            } else {
                Op::Free { address }
            };
            let event = Event {
                time: Micros(self.events),
                thread: ThreadIx(0),
                op,
            };
            self.writer.event(&event, &mut self.out);
            self.events += 1;
        }
        self.writer.flush(&mut self.out);
        self.write();
    }

    pub fn cut(&mut self, bound: &mut dyn Folding) {
        self.writer.new_generation(&mut self.out);
        self.write();
        bound.cut(Cut {
            offset: self.written,
            generation: self.writer.file_generation(),
            sequence: self.writer.sequence(),
        });
    }

    pub fn exchange(&mut self, bound: &mut dyn Folding) -> bool {
        let Some(exchanged) = bound.exchange(self.written).unwrap() else {
            return false;
        };
        if exchanged.goes_on {
            let mut last = Vec::new();
            self.writer.close(&End::default(), &mut last);
            self.file.write_all(&last).unwrap();
            self.witness.wrote_to(self.known_as, &last);
            if self.waits {
                self.witness.synced_one(self.known_as);
            }
        }
        self.known_as = self.witness.latest();
        let generation = self.writer.file_generation() - exchanged.generation + exchanged.stamp.generation;
        self.writer.rebase(exchanged.stamp.sequence, generation);
        self.file = exchanged.file;
        self.written = exchanged.length;
        true
    }

    /// What is under the tape's name is whole, and holds everything.
    pub fn assert_whole(&self) {
        let bytes = std::fs::read(&self.path).unwrap();
        assert_eq!(bytes.len() as u64, self.written);
        let found = scan(&bytes[..]).unwrap();
        assert_eq!(found.damage, []);
        let events: u64 = found.blocks.iter().map(|block| u64::from(block.span())).sum();
        assert_eq!(events, self.events);
    }
}

pub fn wait_for(bound: &dyn Folding) {
    while bound.is_done() == Some(false) {
        std::thread::yield_now();
    }
}
