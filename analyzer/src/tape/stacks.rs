//! All stacks of a tape in one trie, over all generations: equal stacks have equal ids, whatever generation wrote them.

use hashbrown::HashMap;
use heaptape_format::record::{Frame, Stacks};
use heaptape_format::{Address, CodeIx, ModuleIx, ProcessIx, StackId};
use serde::{Deserialize, Serialize};

/// A stack of the whole tape: a node of the trie. 0 is the empty stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StackIx(pub u32);

/// A distinct frame of the whole tape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameIx(pub u32);

/// What a frame of the trie stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlaceKind {
    /// Native code in a known module.
    Native {
        /// The module.
        module: ModuleIx,
        /// Return address in the module's own address space.
        offset: u64,
    },
    /// Native code in no known module.
    Raw {
        /// Whose address.
        process: ProcessIx,
        /// The return address.
        address: Address,
    },
    /// Python code.
    Python {
        /// What.
        code: CodeIx,
        /// The line; 0 when not known.
        line: u32,
    },
    /// The recorder could not follow the stack further out.
    Truncated,
    /// The stack was written to a part of the tape that is damaged.
    Lost,
    /// A kind of frame that this version does not know.
    Unknown,
}

/// The trie: dense columns, parents before children.
#[derive(Debug)]
pub struct StackTable {
    parents: Vec<StackIx>,
    frame_of: Vec<FrameIx>,
    frames: Vec<PlaceKind>,
    /// What a stack id of each generation means here.
    generations: Vec<Vec<StackIx>>,
    lost: StackIx,
}

/// What the stacks of a generation mean here.
#[derive(Clone, Copy)]
pub(crate) struct Generation<'a> {
    ids: &'a [StackIx],
    lost: StackIx,
}

impl Generation<'_> {
    /// The stack that an event names.
    #[inline]
    pub(crate) fn resolve(self, stack: StackId) -> StackIx {
        if stack == StackId::ROOT {
            return StackTable::ROOT;
        }
        self.ids.get(stack.get() as usize).copied().unwrap_or(self.lost)
    }
}

/// Lookup tables that only exist while the trie is built.
pub(crate) struct Interner {
    nodes: HashMap<(StackIx, FrameIx), StackIx>,
    frames: HashMap<PlaceKind, FrameIx>,
    /// The global id of each frame of each generation.
    local_frames: Vec<Vec<FrameIx>>,
    /// How many ids may yet be taken for lost.
    holes_left: usize,
}

impl Default for Interner {
    fn default() -> Interner {
        Interner {
            nodes: HashMap::new(),
            frames: HashMap::new(),
            local_frames: Vec::new(),
            holes_left: MOST_LOST_IDS,
        }
    }
}

impl Interner {
    /// Whether `count` ids may be filled in as lost, and takes them from the budget.
    fn take_holes(&mut self, count: usize) -> bool {
        let granted = count <= self.holes_left;
        if granted {
            self.holes_left -= count;
        }
        granted
    }
}

impl StackTable {
    /// The empty stack.
    pub const ROOT: StackIx = StackIx(0);

    pub(crate) fn new(interner: &mut Interner) -> StackTable {
        let mut table = StackTable {
            parents: vec![StackIx(0)],
            frame_of: vec![FrameIx(0)],
            frames: vec![PlaceKind::Unknown],
            generations: Vec::new(),
            lost: StackIx(0),
        };
        let frame = table.intern_frame(PlaceKind::Lost, interner);
        table.lost = table.intern_node(StackTable::ROOT, frame, interner);
        table
    }

    fn intern_frame(&mut self, kind: PlaceKind, interner: &mut Interner) -> FrameIx {
        *interner.frames.entry(kind).or_insert_with(|| {
            self.frames.push(kind);
            FrameIx(self.frames.len() as u32 - 1)
        })
    }

    fn intern_node(&mut self, parent: StackIx, frame: FrameIx, interner: &mut Interner) -> StackIx {
        *interner.nodes.entry((parent, frame)).or_insert_with(|| {
            self.parents.push(parent);
            self.frame_of.push(frame);
            StackIx(self.parents.len() as u32 - 1)
        })
    }

    /// Takes in one record. Ids that point nowhere, as after damage, lead to the lost stack. Returns whether ids were missing.
    ///
    /// Ids count up, so a jump is a hole left by a lost block; all holes together have a budget, or a few bytes of a hostile tape
    /// would cost gigabytes. A record beyond the budget is not taken in.
    pub(crate) fn add(&mut self, record: &Stacks, interner: &mut Interner) -> bool {
        let mut holes = false;
        let generation = record.generation as usize;
        if generation > self.generations.len() {
            holes = true;
            if !interner.take_holes(generation - self.generations.len()) {
                return true;
            }
        }
        while self.generations.len() <= generation {
            self.generations.push(vec![StackTable::ROOT]);
            interner.local_frames.push(Vec::new());
        }
        let lost_frame = self.frame_of[self.lost.0 as usize];
        let first = record.first_frame.get() as usize;
        let known = interner.local_frames[generation].len();
        if first > known {
            holes = true;
            if !interner.take_holes(first - known) {
                return true;
            }
        }
        let local_frames = &mut interner.local_frames[generation];
        local_frames.resize(first.max(local_frames.len()), lost_frame);
        for (i, frame) in record.frames.iter().enumerate() {
            let kind = match *frame {
                Frame::Native { module, offset } => PlaceKind::Native { module, offset },
                Frame::Raw { process, address } => PlaceKind::Raw { process, address },
                Frame::Python { code, line } => PlaceKind::Python { code, line },
                Frame::Truncated => PlaceKind::Truncated,
                _ => PlaceKind::Unknown,
            };
            let id = self.intern_frame(kind, interner);
            let local_frames = &mut interner.local_frames[generation];
            match local_frames.get_mut(first + i) {
                Some(slot) => *slot = id,
                None => local_frames.push(id),
            }
        }
        let first = record.first_stack.get() as usize;
        let known = self.generations[generation].len();
        if first > known {
            holes = true;
            if !interner.take_holes(first - known) {
                return true;
            }
            let lost = self.lost;
            self.generations[generation].resize(first, lost);
        }
        for (i, (parent, frame)) in record.parents.iter().zip(&record.frame_ids).enumerate() {
            let at = first + i;
            let local = &self.generations[generation];
            let parent = if (parent.get() as usize) < at {
                local.get(parent.get() as usize).copied()
            } else {
                None
            };
            let frame = interner.local_frames[generation].get(frame.get() as usize).copied();
            holes |= parent.is_none() || frame.is_none();
            let node = self.intern_node(parent.unwrap_or(self.lost), frame.unwrap_or(lost_frame), interner);
            let local = &mut self.generations[generation];
            match local.get_mut(at) {
                Some(slot) => *slot = node,
                None => local.push(node),
            }
        }
        holes
    }

    /// The stack that an event of `generation` names.
    pub fn resolve(&self, generation: u32, stack: StackId) -> StackIx {
        self.of_generation(generation).resolve(stack)
    }

    /// What the stacks of a generation mean.
    pub(crate) fn of_generation(&self, generation: u32) -> Generation<'_> {
        Generation {
            ids: self.generations.get(generation as usize).map_or(&[], Vec::as_slice),
            lost: self.lost,
        }
    }

    /// Number of nodes, the root included.
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether there is nothing but the root: never, since the lost stack has a node.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// Number of distinct frames.
    pub fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// The next outer stack; `None` for the root. Always a lower id.
    pub fn parent(&self, stack: StackIx) -> Option<StackIx> {
        (stack != StackTable::ROOT).then(|| self.parents[stack.0 as usize])
    }

    /// The innermost frame; `None` for the root.
    pub fn frame(&self, stack: StackIx) -> Option<FrameIx> {
        (stack != StackTable::ROOT).then(|| self.frame_of[stack.0 as usize])
    }

    /// What a frame stands for.
    pub fn kind(&self, frame: FrameIx) -> PlaceKind {
        self.frames[frame.0 as usize]
    }

    /// The frames of a stack, innermost first.
    pub fn frames(&self, stack: StackIx) -> impl Iterator<Item = FrameIx> + '_ {
        let mut at = stack;
        std::iter::from_fn(move || {
            let frame = self.frame(at)?;
            at = self.parents[at.0 as usize];
            Some(frame)
        })
    }
}

/// Ids and generations that may be missing in all; more is no damage but an invention.
const MOST_LOST_IDS: usize = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;
    use heaptape_format::FrameId;

    fn native(offset: u64) -> Frame {
        Frame::Native {
            module: ModuleIx(0),
            offset,
        }
    }

    fn record(generation: u32, first_stack: u32, parents: &[u32]) -> Stacks {
        Stacks {
            generation,
            first_frame: FrameId(0),
            frames: vec![native(1), native(2)],
            first_stack: StackId(first_stack),
            parents: parents.iter().map(|&p| StackId(p)).collect(),
            frame_ids: parents.iter().enumerate().map(|(i, _)| FrameId(i as u32 % 2)).collect(),
        }
    }

    #[test]
    fn equal_stacks_of_two_generations_are_one() {
        let mut interner = Interner::default();
        let mut table = StackTable::new(&mut interner);
        assert!(!table.add(&record(0, 1, &[0, 1]), &mut interner));
        assert!(!table.add(&record(1, 1, &[0, 1]), &mut interner));
        assert_eq!(table.resolve(0, StackId(2)), table.resolve(1, StackId(2)));
        assert_eq!(table.frames(table.resolve(0, StackId(2))).count(), 2);
    }

    #[test]
    fn a_stack_whose_block_is_lost_is_the_lost_stack() {
        let mut interner = Interner::default();
        let mut table = StackTable::new(&mut interner);
        assert!(table.add(&record(0, 5, &[4, 5]), &mut interner));
        for id in [3, 5, 99] {
            let outermost = table
                .frames(table.resolve(0, StackId(id)))
                .last()
                .map(|f| table.kind(f));
            assert_eq!(outermost, Some(PlaceKind::Lost), "stack {id}");
        }
    }

    #[test]
    fn a_parent_that_is_not_older_ends_the_stack_instead_of_looping() {
        let mut interner = Interner::default();
        let mut table = StackTable::new(&mut interner);
        assert!(table.add(&record(0, 1, &[1, 7]), &mut interner));
        assert_eq!(table.frames(table.resolve(0, StackId(1))).count(), 2);
    }

    #[test]
    fn an_absurd_id_costs_no_memory() {
        let mut interner = Interner::default();
        let mut table = StackTable::new(&mut interner);
        assert!(table.add(&record(u32::MAX, 1, &[0]), &mut interner));
        assert!(table.add(&record(0, u32::MAX, &[0]), &mut interner));
        assert!(table.len() < 10);
    }
}
