//! New frames and stacks: the writer's table of a generation, and their coding.
//!
//! The payload of a stacks block is a run of varints:
//! ```text
//! first frame, number of frames, first stack, number of stacks
//! each frame:  0, module, zigzag(offset - offset of the frame before)      native
//!              1, process, zigzag(address - address of the frame before)   raw
//!              2                                                           truncated
//!              3, code, line                                               Python
//! each stack:  its id - 1 - its parent's id
//!              its frame: 0    the one after the newest that a stack of this block used, at first the first frame of the block
//!                         1    the one that the last stack with the same key had; the key is the parent's frame if this
//!                              block defines the parent, its id otherwise, modulo 4096
//!                         n+2  the newest defined frame - n
//! ```

use crate::bytes::{put_varint, unzigzag, zigzag, Cursor, Malformed};
use crate::id::{Address, CodeIx, FrameId, ModuleIx, ProcessIx, StackId};
use crate::record::{Frame, Stacks};

/// Slots of a new table; a power of two.
const FIRST_SLOTS: usize = 1 << 10;
/// A free slot.
const FREE: u32 = u32::MAX;
/// Entries of the table of expected frames.
const EXPECTED: usize = 1 << 12;

const NATIVE: u64 = 0;
const RAW: u64 = 1;
const TRUNCATED: u64 = 2;
const PYTHON: u64 = 3;

/// Interns values: an open-addressed table of ids over the list of values.
#[derive(Clone)]
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
        self.slots.fill(FREE);
    }

    fn memory(&self) -> usize {
        self.values.capacity() * size_of::<T>() + self.slots.capacity() * size_of::<u32>()
    }

    /// The index of `value`; a new value is appended.
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
        Frame::Python { code, line } => mix(u64::from(code.get()) << 32 | u64::from(line) ^ 2),
    }
}

/// A node of the trie of stacks.
#[derive(Clone, Copy)]
struct Node {
    parent: StackId,
    frame: FrameId,
    /// The child that was asked for last; the root when there was none.
    child: StackId,
    /// The sibling that was asked for after this one the last time; the root when there was none.
    next: StackId,
}

/// Interns nodes. The nodes of a new path follow each other in memory, and paths that are walked again
/// in the same order are found from node to node, without hashing.
#[derive(Clone)]
struct Nodes {
    /// By id; the first is the root.
    list: Vec<Node>,
    /// Open-addressed; the root is a free slot.
    slots: Vec<StackId>,
}

impl Nodes {
    const ROOT: Node = Node {
        parent: StackId::ROOT,
        frame: FrameId(u32::MAX),
        child: StackId::ROOT,
        next: StackId::ROOT,
    };

    fn new() -> Self {
        Nodes {
            list: vec![Self::ROOT],
            slots: vec![StackId::ROOT; FIRST_SLOTS],
        }
    }

    fn clear(&mut self) {
        self.list.truncate(1);
        self.list[0] = Self::ROOT;
        self.slots.fill(StackId::ROOT);
    }

    fn memory(&self) -> usize {
        self.list.capacity() * size_of::<Node>() + self.slots.capacity() * size_of::<StackId>()
    }

    /// The child of `parent` with this frame; a new one is appended.
    #[inline]
    fn intern(&mut self, parent: StackId, frame: FrameId) -> StackId {
        let last = self.list[parent.get() as usize].child;
        let node = self.list[last.get() as usize];
        if node.parent == parent && node.frame == frame {
            return last;
        }
        let next = &self.list[node.next.get() as usize];
        let found = if next.parent == parent && next.frame == frame {
            node.next
        } else {
            let found = self.look_up(parent, frame);
            self.list[last.get() as usize].next = found;
            found
        };
        self.list[parent.get() as usize].child = found;
        found
    }

    fn look_up(&mut self, parent: StackId, frame: FrameId) -> StackId {
        let mask = self.slots.len() - 1;
        let mut slot = Self::slot(parent, frame) & mask;
        loop {
            let found = self.slots[slot];
            if found == StackId::ROOT {
                break;
            }
            let node = &self.list[found.get() as usize];
            if node.parent == parent && node.frame == frame {
                return found;
            }
            slot = (slot + 1) & mask;
        }
        let id = StackId(self.list.len() as u32);
        self.list.push(Node {
            parent,
            frame,
            child: StackId::ROOT,
            next: StackId::ROOT,
        });
        self.slots[slot] = id;
        if self.list.len() * 2 > self.slots.len() {
            self.grow();
        }
        id
    }

    fn slot(parent: StackId, frame: FrameId) -> usize {
        (mix((u64::from(parent.get()) << 32) | u64::from(frame.get())) >> 32) as usize
    }

    fn grow(&mut self) {
        let slots = self.slots.len() * 2;
        self.slots.clear();
        self.slots.resize(slots, StackId::ROOT);
        for (id, node) in self.list.iter().enumerate().skip(1) {
            let mut slot = Self::slot(node.parent, node.frame) & (slots - 1);
            while self.slots[slot] != StackId::ROOT {
                slot = (slot + 1) & (slots - 1);
            }
            self.slots[slot] = StackId(id as u32);
        }
    }
}

/// The frames and stacks of one generation.
#[derive(Clone)]
pub(crate) struct StackTable {
    frames: Interner<Frame>,
    nodes: Nodes,
    written_frames: usize,
    written_nodes: usize,
    coder: NodeCoder,
}

impl StackTable {
    pub(crate) fn new() -> Self {
        StackTable {
            frames: Interner::new(),
            nodes: Nodes::new(),
            written_frames: 0,
            written_nodes: 0,
            coder: NodeCoder::default(),
        }
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.frames.memory() + self.nodes.memory() + EXPECTED * size_of::<Option<FrameId>>()
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
        self.nodes.intern(parent, frame)
    }

    /// The parent and the frame of a node.
    pub(crate) fn node(&self, stack: StackId) -> (StackId, Frame) {
        let node = &self.nodes.list[stack.get() as usize];
        (node.parent, self.frames.values[node.frame.get() as usize])
    }

    /// All frames.
    pub(crate) fn all_frames(&self) -> &[Frame] {
        &self.frames.values
    }

    /// Frames that are defined.
    pub(crate) fn frames(&self) -> u32 {
        self.frames.values.len() as u32
    }

    /// Nodes that are defined, without the root; also the highest id.
    pub(crate) fn stacks(&self) -> u32 {
        self.nodes.list.len() as u32 - 1
    }

    pub(crate) fn written_frames(&self) -> u32 {
        self.written_frames as u32
    }

    pub(crate) fn written_stacks(&self) -> u32 {
        self.written_nodes as u32
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        self.written_nodes < self.stacks() as usize || self.written_frames < self.frames.values.len()
    }

    /// Codes what is new since the last call, at most `limit` frames and `limit` nodes of it.
    pub(crate) fn encode_unwritten(&mut self, limit: usize, out: &mut Vec<u8>) {
        let (first_frame, first_node) = (self.written_frames, self.written_nodes);
        self.written_frames = self.frames.values.len().min(first_frame + limit);
        // Nodes may need frames that are still to come.
        let all_frames = self.written_frames == self.frames.values.len();
        self.written_nodes = if all_frames {
            (self.stacks() as usize).min(first_node + limit)
        } else {
            first_node
        };
        let frames = &self.frames.values[first_frame..self.written_frames];
        let nodes = &self.nodes.list[first_node + 1..self.written_nodes + 1];
        for number in [first_frame, frames.len(), first_node + 1, nodes.len()] {
            put_varint(out, number as u64);
        }
        let mut near = 0u64;
        for frame in frames {
            let (kind, space, place) = match *frame {
                Frame::Native { module, offset } => (NATIVE, module.get(), offset),
                Frame::Raw { process, address } => (RAW, process.get(), address.get()),
                Frame::Truncated => {
                    put_varint(out, TRUNCATED);
                    continue;
                }
                Frame::Python { code, line } => {
                    put_varint(out, PYTHON);
                    put_varint(out, u64::from(code.get()));
                    put_varint(out, u64::from(line));
                    continue;
                }
            };
            put_varint(out, kind);
            put_varint(out, u64::from(space));
            put_varint(out, zigzag(place.wrapping_sub(near) as i64));
            near = place;
        }
        self.coder.start(first_frame as u32);
        for (index, &Node { parent, frame, .. }) in nodes.iter().enumerate() {
            let own = (first_node + index) as u32;
            let inside = parent
                .get()
                .checked_sub(first_node as u32 + 1)
                .and_then(|node| nodes.get(node as usize))
                .map(|node| node.frame);
            let slot = NodeCoder::slot(parent, inside);
            put_varint(out, u64::from(own - parent.get()));
            let code = if frame.get() == self.coder.fresh {
                0
            } else if self.coder.expected[slot] == Some(frame) {
                1
            } else {
                u64::from(self.written_frames as u32 - 1 - frame.get()) + 2
            };
            put_varint(out, code);
            self.coder.learn(slot, frame);
        }
    }
}

/// What both sides expect of the frame of a new node.
#[derive(Clone, Debug)]
pub(crate) struct NodeCoder {
    /// The frame after the newest that a node of the block used, from the first frame of the block on.
    fresh: u32,
    /// The last frame inside each frame.
    expected: Vec<Option<FrameId>>,
}

impl Default for NodeCoder {
    fn default() -> Self {
        NodeCoder {
            fresh: 0,
            expected: vec![None; EXPECTED],
        }
    }
}

impl NodeCoder {
    fn start(&mut self, first_frame: u32) {
        self.fresh = first_frame;
        self.expected.fill(None);
    }

    /// Where the frame inside this parent is expected: by the parent's frame if this block defines it, by its id otherwise.
    fn slot(parent: StackId, frame: Option<FrameId>) -> usize {
        frame.map_or(parent.get(), FrameId::get) as usize % EXPECTED
    }

    fn learn(&mut self, slot: usize, frame: FrameId) {
        if frame.get() >= self.fresh {
            self.fresh = frame.get().saturating_add(1);
        }
        self.expected[slot] = Some(frame);
    }
}

/// Decodes a stacks block; `frames` and `stacks` are what its header says is defined after it.
pub(crate) fn decode(raw: &[u8], generation: u32, frames: u32, stacks: u32) -> Result<Stacks, Malformed> {
    const OUT_OF_PLACE: Malformed = "its frames or stacks are not those of its header";
    let mut cursor = Cursor::new(raw);
    let first_frame = cursor.varint32()?;
    let frame_count = cursor.varint32()?;
    let first_stack = cursor.varint32()?;
    let stack_count = cursor.varint32()?;
    // Every frame takes a byte and every stack two, so that these lengths are no more than what is there.
    let needed = u64::from(frame_count) + 2 * u64::from(stack_count);
    let in_place = first_frame.checked_add(frame_count) == Some(frames)
        && first_stack.checked_add(stack_count) == stacks.checked_add(1)
        && first_stack > 0;
    if needed > cursor.remaining() as u64 || !in_place {
        return Err(OUT_OF_PLACE);
    }
    let mut new = Stacks {
        generation,
        first_frame: FrameId(first_frame),
        frames: Vec::with_capacity(frame_count as usize),
        first_stack: StackId(first_stack),
        parents: Vec::with_capacity(stack_count as usize),
        frame_ids: Vec::with_capacity(stack_count as usize),
    };
    let mut near = 0u64;
    for _ in 0..frame_count {
        let kind = cursor.varint()?;
        if kind == TRUNCATED {
            new.frames.push(Frame::Truncated);
            continue;
        }
        let space = cursor.varint32()?;
        if kind == PYTHON {
            let (code, line) = (CodeIx(space), cursor.varint32()?);
            new.frames.push(Frame::Python { code, line });
            continue;
        }
        near = near.wrapping_add(unzigzag(cursor.varint()?) as u64);
        new.frames.push(match kind {
            NATIVE => Frame::Native {
                module: ModuleIx(space),
                offset: near,
            },
            RAW => Frame::Raw {
                process: ProcessIx(space),
                address: Address(near),
            },
            _ => return Err("an unknown kind of frame"),
        });
    }
    let mut coder = NodeCoder::default();
    coder.start(first_frame);
    for index in 0..stack_count {
        let own = first_stack - 1 + index;
        let parent = u64::from(own)
            .checked_sub(cursor.varint()?)
            .ok_or("a stack's parent does not come before it")?;
        let parent = StackId(parent as u32);
        let inside = parent
            .get()
            .checked_sub(first_stack)
            .and_then(|node| new.frame_ids.get(node as usize))
            .copied();
        let slot = NodeCoder::slot(parent, inside);
        let frame = match cursor.varint()? {
            0 => FrameId(coder.fresh),
            1 => coder.expected[slot].ok_or("a stack's frame is expected, but none is")?,
            code => {
                let frame = (u64::from(frames) + 1)
                    .checked_sub(code)
                    .ok_or("a stack's frame is not defined")?;
                FrameId(frame as u32)
            }
        };
        if frame.get() >= frames {
            return Err("a stack's frame is not defined");
        }
        coder.learn(slot, frame);
        new.parents.push(parent);
        new.frame_ids.push(frame);
    }
    if cursor.is_at_end() {
        Ok(new)
    } else {
        Err("bytes are left over")
    }
}
