//! The process images that are recorded, and how one came from another.
//!
//! ```text
//!  seen (slot claimed) --> told (first event or fork stamp reached: Record::Process) --> ended (dead, replaced) --> drained (Record::ProcessEnd) --> forgotten
//! ```
//! A process id is the one that the process itself sees. When it has moved to a process id namespace of its own, that id means nothing to the collector, or another
//! process: such an image has no [`Identity`], and is taken to live until the launched process and every image with an identity are gone.

use crate::host::{Identity, ProcessFacts};
use crate::modules::Space;
use crate::python::Numbers;
use heaptape_format::record::{ProcessEnd, ProcessOrigin};
use heaptape_format::{Micros, ProcessIx};
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::rc::Rc;

/// Number of an image; never reused, unlike its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(pub u32);

/// Where an image came from, as far as its slot tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ancestry {
    /// Loaded by a process that was not recorded, or is another one.
    Loaded,
    /// Loaded in place of an earlier image of the same process.
    Replaces(ImageId),
    /// Forked from this image.
    Forked(ImageId),
}

/// A process image.
#[derive(Debug)]
pub struct Image {
    /// Its slot.
    pub slot: u32,
    /// Process id, as the process itself sees it.
    pub pid: u32,
    /// Parent's process id, likewise.
    pub parent_pid: u32,
    /// Where it came from.
    pub ancestry: Ancestry,
    /// Stamp of the fork or load.
    pub stamp: u64,
    /// What it is to the system, if the collector can see it.
    pub identity: Option<Identity>,
    /// Its number on the tape, once told.
    pub told: Option<ProcessIx>,
    /// Executable and arguments, once known.
    pub facts: ProcessFacts,
    /// Its modules.
    pub space: Rc<Space>,
    /// What its numbers of Python code and types mean; its threads hold it, too.
    pub numbers: Rc<RefCell<Numbers>>,
    /// A stack of it led through code in no module: it may have made that itself.
    pub runs_made_code: bool,
    /// When `/proc/PID/maps` was last read for an address in no module.
    pub maps_read: Option<Micros>,
    /// Its id is of another process id namespace.
    pub foreign: bool,
    /// How often in a row it was found to run a program that does not record.
    pub absent: u8,
    /// How it ended. Set: nothing new will come from it.
    pub end: Option<ProcessEnd>,
    /// The status that it said it would end with.
    pub exit_status: Option<i32>,
    /// The end is on the tape.
    pub end_told: bool,
    /// Number of its thread slots that are not yet drained.
    pub streams: u32,
    /// When it was found to be drained and dead, so that its slot can be kept a while for children that name it.
    pub drained_at: Option<u64>,
    /// Counters of the slot at the last look.
    pub failed_calls: u64,
    /// Likewise.
    pub truncated: u64,
    /// Likewise.
    pub mismatches: u64,
    /// Proportional set and swap at the last costly look.
    pub shares: crate::host::Shares,
}

/// All images that still matter.
#[derive(Debug, Default)]
pub struct Images {
    all: FxHashMap<ImageId, Image>,
    by_slot: FxHashMap<u32, ImageId>,
    next: u32,
    next_told: u32,
}

impl Images {
    /// Takes a new image in; a slot has one image at a time.
    pub fn add(&mut self, image: Image) -> ImageId {
        let id = ImageId(self.next);
        self.next += 1;
        self.by_slot.insert(image.slot, id);
        self.all.insert(id, image);
        id
    }

    /// The image in a slot.
    pub fn in_slot(&self, slot: u32) -> Option<ImageId> {
        self.by_slot.get(&slot).copied()
    }

    /// An image.
    #[inline]
    pub fn get(&self, id: ImageId) -> Option<&Image> {
        self.all.get(&id)
    }

    /// An image, to change.
    #[inline]
    pub fn get_mut(&mut self, id: ImageId) -> Option<&mut Image> {
        self.all.get_mut(&id)
    }

    /// Forgets an image.
    pub fn remove(&mut self, id: ImageId) -> Option<Image> {
        let image = self.all.remove(&id)?;
        if self.by_slot.get(&image.slot) == Some(&id) {
            self.by_slot.remove(&image.slot);
        }
        Some(image)
    }

    /// The living image of a process id, the newest if there should be several.
    pub fn living(&self, pid: u32) -> Option<ImageId> {
        self.iter()
            .filter(|(_, image)| image.pid == pid && image.end.is_none())
            .map(|(id, _)| id)
            .max()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (ImageId, &Image)> {
        self.all.iter().map(|(id, image)| (*id, image))
    }

    /// All of them in the order they were seen.
    pub fn ids(&self) -> Vec<ImageId> {
        let mut ids: Vec<ImageId> = self.all.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Number of images in the table.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Number of images ever seen.
    pub fn seen(&self) -> u32 {
        self.next
    }

    /// Gives an image its number on the tape.
    pub fn tell(&mut self, id: ImageId) -> ProcessIx {
        let ix = ProcessIx(self.next_told);
        self.next_told += 1;
        if let Some(image) = self.all.get_mut(&id) {
            image.told = Some(ix);
        }
        ix
    }

    /// The origin to write for an image whose ancestors have been told.
    pub fn origin(&self, ancestry: Ancestry) -> ProcessOrigin {
        let told = |id| self.get(id).and_then(|image| image.told);
        match ancestry {
            Ancestry::Loaded => ProcessOrigin::Exec,
            Ancestry::Replaces(id) => told(id).map_or(ProcessOrigin::Exec, ProcessOrigin::Replace),
            Ancestry::Forked(id) => told(id).map_or(ProcessOrigin::Exec, ProcessOrigin::Fork),
        }
    }
}
