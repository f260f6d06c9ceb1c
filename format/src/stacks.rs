//! The frames and stacks of the generation in force, at the writer's side: interning, and which of them are not yet in the tape.

use crate::id::{FrameId, StackId};
use crate::record::{Frame, Stacks};

/// Slots of a new table; a power of two.
const FIRST_SLOTS: usize = 1 << 10;
/// A free slot.
const FREE: u32 = u32::MAX;

/// Interns values: an open-addressed table of ids over the list of values.
struct Interner<T> {
    values: Vec<T>,
    slots: Vec<u32>,
}

impl<T: Copy + PartialEq> Interner<T> {
    fn new() -> Self {
        Interner {
            values: Vec::new(),
            slots: vec![FREE; FIRST_SLOTS],
        }
    }

    fn clear(&mut self) {
        self.values.clear();
        self.slots.clear();
        self.slots.resize(FIRST_SLOTS, FREE);
    }

    /// The index of `value`, whose hash is `hash`; new values are appended.
    #[inline]
    fn intern(&mut self, value: T, hash: impl Fn(&T) -> u64) -> u32 {
        let mask = self.slots.len() - 1;
        let mut slot = (hash(&value) >> 32) as usize & mask;
        loop {
            let found = self.slots[slot];
            if found == FREE {
                break;
            }
            if self.values[found as usize] == value {
                return found;
            }
            slot = (slot + 1) & mask;
        }
        let index = self.values.len() as u32;
        self.values.push(value);
        self.slots[slot] = index;
        if self.values.len() * 2 > self.slots.len() {
            self.grow(hash);
        }
        index
    }

    fn grow(&mut self, hash: impl Fn(&T) -> u64) {
        let slots = self.slots.len() * 2;
        self.slots.clear();
        self.slots.resize(slots, FREE);
        for (index, value) in self.values.iter().enumerate() {
            let mut slot = (hash(value) >> 32) as usize & (slots - 1);
            while self.slots[slot] != FREE {
                slot = (slot + 1) & (slots - 1);
            }
            self.slots[slot] = index as u32;
        }
    }
}

/// Mixes a number so that its upper half depends on all of it.
#[inline]
fn mix(value: u64) -> u64 {
    (value ^ (value >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline]
fn frame_hash(frame: &Frame) -> u64 {
    match *frame {
        Frame::Native { module, offset } => mix(offset ^ (u64::from(module.get()) << 48)),
        Frame::Raw { process, address } => mix(address.get() ^ (u64::from(process.get()) << 48) ^ 1),
        Frame::Truncated => 0,
    }
}

#[inline]
fn node_hash(&(parent, frame): &(StackId, FrameId)) -> u64 {
    mix((u64::from(parent.get()) << 32) | u64::from(frame.get()))
}

/// The frames and stacks of one generation.
pub(crate) struct StackTable {
    frames: Interner<Frame>,
    /// Node `i` is `StackId(i + 1)`.
    nodes: Interner<(StackId, FrameId)>,
    written_frames: usize,
    written_nodes: usize,
}

impl StackTable {
    pub(crate) fn new() -> Self {
        StackTable {
            frames: Interner::new(),
            nodes: Interner::new(),
            written_frames: 0,
            written_nodes: 0,
        }
    }

    /// Starts a new generation.
    pub(crate) fn clear(&mut self) {
        self.frames.clear();
        self.nodes.clear();
        self.written_frames = 0;
        self.written_nodes = 0;
    }

    #[inline]
    pub(crate) fn frame(&mut self, frame: Frame) -> FrameId {
        FrameId(self.frames.intern(frame, frame_hash))
    }

    #[inline]
    pub(crate) fn stack(&mut self, parent: StackId, frame: FrameId) -> StackId {
        debug_assert!(parent.get() <= self.stacks(), "the parent is of this generation");
        debug_assert!(frame.get() < self.frames(), "the frame is of this generation");
        StackId(self.nodes.intern((parent, frame), node_hash) + 1)
    }

    pub(crate) fn frames(&self) -> u32 {
        self.frames.values.len() as u32
    }

    /// Nodes without the root; also the highest id.
    pub(crate) fn stacks(&self) -> u32 {
        self.nodes.values.len() as u32
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        self.written_nodes < self.nodes.values.len() || self.written_frames < self.frames.values.len()
    }

    /// What is new since the last call.
    pub(crate) fn take_unwritten(&mut self, generation: u32) -> Stacks {
        let nodes = &self.nodes.values[self.written_nodes..];
        let new = Stacks {
            generation,
            first_frame: FrameId(self.written_frames as u32),
            frames: self.frames.values[self.written_frames..].to_vec(),
            first_stack: StackId(self.written_nodes as u32 + 1),
            parents: nodes.iter().map(|&(parent, _)| parent).collect(),
            frame_ids: nodes.iter().map(|&(_, frame)| frame).collect(),
        };
        self.written_frames = self.frames.values.len();
        self.written_nodes = self.nodes.values.len();
        new
    }
}
