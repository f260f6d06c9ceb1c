//! All stacks of the folded span in one trie, and what has died by stack.

use crate::id::{Bytes, FrameId, StackId};
use crate::record::{Folded, FoldedSite, Stacks};
use crate::stacks::StackTable;
use crate::writer::Writer;

/// Nodes beyond those of what is alive that are kept before the trie is cleared of what nobody needs.
const SPARE_NODES: usize = 260_000;
/// Stacks whose dead blocks are counted apart.
const MAX_SITES: usize = 16_384;

/// Blocks that have died.
#[derive(Clone, Copy, Default)]
struct Total {
    blocks: u64,
    bytes: u64,
}

/// The work trie: equal stacks of all generations are one.
#[derive(Clone)]
pub(super) struct Sites {
    table: StackTable,
    generation: Option<u32>,
    /// What the ids of the generation at hand are here.
    frames: Vec<FrameId>,
    stacks: Vec<StackId>,
    /// By stack.
    totals: Vec<Total>,
    others: Total,
    /// Never freed, in processes that have ended.
    left: Total,
    /// With more nodes than this, a new generation begins with clearing up.
    limit: usize,
}

/// Where stacks have gone.
pub(super) struct Moved(Vec<StackId>);

impl Moved {
    pub(super) fn of(&self, stack: StackId) -> StackId {
        self.0.get(stack.get() as usize).copied().unwrap_or(StackId::ROOT)
    }
}

impl Sites {
    pub(super) fn new() -> Sites {
        Sites {
            table: StackTable::new(),
            generation: None,
            frames: Vec::new(),
            stacks: vec![StackId::ROOT],
            totals: Vec::new(),
            others: Total::default(),
            left: Total::default(),
            limit: SPARE_NODES,
        }
    }

    /// Whether stacks of this generation would be the first of it.
    pub(super) fn is_new(&self, generation: u32) -> bool {
        self.generation != Some(generation)
    }

    /// Ids are those of this generation from here on.
    pub(super) fn begin(&mut self, generation: u32) {
        if self.is_new(generation) {
            self.generation = Some(generation);
            self.frames.clear();
            self.stacks.clear();
            self.stacks.push(StackId::ROOT);
        }
    }

    /// Takes in new frames and stacks. Ids that damage has left without a meaning are the empty stack.
    pub(super) fn add(&mut self, new: &Stacks) {
        self.begin(new.generation);
        let first = new.first_frame.get() as usize;
        if first != self.frames.len() || new.first_stack.get() as usize != self.stacks.len() {
            return;
        }
        let frames = new.frames.iter().map(|&frame| self.table.frame(frame));
        self.frames.extend(frames);
        for (parent, frame) in new.parents.iter().zip(&new.frame_ids) {
            let parent = self.stack(*parent);
            let stack = self.table.stack(parent, self.frames[frame.get() as usize]);
            self.stacks.push(stack);
        }
    }

    /// A stack of the generation at hand in the work trie.
    #[inline]
    pub(super) fn stack(&self, stack: StackId) -> StackId {
        self.stacks.get(stack.get() as usize).copied().unwrap_or(StackId::ROOT)
    }

    /// A block has died.
    #[inline]
    pub(super) fn freed(&mut self, stack: StackId, size: Bytes) {
        let total = self.total(stack);
        total.blocks += 1;
        total.bytes = total.bytes.saturating_add(size.get());
    }

    /// A block is gone with its process.
    pub(super) fn left(&mut self, size: Bytes) {
        self.left.blocks = self.left.blocks.saturating_add(1);
        self.left.bytes = self.left.bytes.saturating_add(size.get());
    }

    #[inline]
    fn total(&mut self, stack: StackId) -> &mut Total {
        let at = stack.get() as usize;
        if at >= self.totals.len() {
            self.totals.resize(at + 1, Total::default());
        }
        &mut self.totals[at]
    }

    /// Adds what was folded earlier, whose stacks are those of the generation at hand.
    pub(super) fn add_folded(&mut self, folded: &Folded) {
        self.others.blocks = self.others.blocks.saturating_add(folded.other_blocks);
        self.others.bytes = self.others.bytes.saturating_add(folded.other_bytes);
        self.left.blocks = self.left.blocks.saturating_add(folded.left_blocks);
        self.left.bytes = self.left.bytes.saturating_add(folded.left_bytes);
        for site in &folded.sites {
            let stack = self.stack(site.stack);
            let total = self.total(stack);
            total.blocks = total.blocks.saturating_add(site.blocks);
            total.bytes = total.bytes.saturating_add(site.bytes);
        }
    }

    /// Clears the trie of what nobody needs, if it has grown too much. For the beginning of a generation, when nothing else names its stacks.
    pub(super) fn collect(&mut self, needed: impl Iterator<Item = StackId>) -> Option<Moved> {
        if (self.table.stacks() as usize) < self.limit {
            return None;
        }
        let sites = self.largest();
        let mut table = StackTable::new();
        let needed = needed.chain(sites.iter().map(|(stack, _)| *stack));
        let moved = self.move_to(needed, |parent, frame| {
            let frame = table.frame(frame);
            table.stack(parent, frame)
        });
        self.limit = SPARE_NODES.max(2 * table.stacks() as usize);
        self.table = table;
        self.totals.clear();
        for (stack, total) in sites {
            *self.total(moved.of(stack)) = total;
        }
        Some(moved)
    }

    /// The stacks with most dead bytes; the others are added to `others`.
    fn largest(&mut self) -> Vec<(StackId, Total)> {
        let totals = std::mem::take(&mut self.totals);
        let mut sites: Vec<(StackId, Total)> = (0..).map(StackId).zip(totals).collect();
        sites.retain(|(_, total)| total.blocks > 0);
        sites.sort_unstable_by_key(|(stack, total)| (std::cmp::Reverse(total.bytes), *stack));
        for (_, total) in sites.drain(MAX_SITES.min(sites.len())..) {
            self.others.blocks = self.others.blocks.saturating_add(total.blocks);
            self.others.bytes = self.others.bytes.saturating_add(total.bytes);
        }
        sites
    }

    /// Gives the stacks that are needed, and their callers, to somebody else, callers first.
    fn move_to(
        &self,
        needed: impl Iterator<Item = StackId>,
        mut give: impl FnMut(StackId, crate::Frame) -> StackId,
    ) -> Moved {
        let nodes = self.table.stacks() as usize + 1;
        let mut is_needed = vec![false; nodes];
        for stack in needed {
            is_needed[stack.get() as usize] = true;
        }
        for node in (1..nodes).rev() {
            if is_needed[node] {
                let (parent, _) = self.table.node(StackId(node as u32));
                is_needed[parent.get() as usize] = true;
            }
        }
        let mut moved = vec![StackId::ROOT; nodes];
        for node in 1..nodes {
            if is_needed[node] {
                let (parent, frame) = self.table.node(StackId(node as u32));
                moved[node] = give(moved[parent.get() as usize], frame);
            }
        }
        Moved(moved)
    }

    /// Gives a writer the stacks that are needed, and makes the totals, but for the highest level.
    pub(super) fn finish(mut self, needed: impl Iterator<Item = StackId>, writer: &mut Writer) -> (Moved, Folded) {
        let sites = self.largest();
        let needed = needed.chain(sites.iter().map(|(stack, _)| *stack));
        let moved = self.move_to(needed, |parent, frame| {
            let frame = writer.frame(frame);
            writer.stack(parent, frame)
        });
        let folded = Folded {
            peak: None,
            sites: sites
                .iter()
                .map(|(stack, total)| FoldedSite {
                    stack: moved.of(*stack),
                    blocks: total.blocks,
                    bytes: total.bytes,
                })
                .collect(),
            other_blocks: self.others.blocks,
            other_bytes: self.others.bytes,
            left_blocks: self.left.blocks,
            left_bytes: self.left.bytes,
        };
        (moved, folded)
    }
}
