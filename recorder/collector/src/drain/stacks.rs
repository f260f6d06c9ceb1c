//! From the frames that threads pop and push to nodes of the tape's stack trie.
//!
//! A thread's stack is kept as addresses; its nodes are looked up only when an event carries the stack, and only for the part that has changed since.
//! Most addresses are known to [`Frames`]; the trie itself is the writer's.

use crate::modules::SpaceId;
use heaptape_format::{FrameId, StackId};

/// More frames than this in one stack are not believed: the library has memory for fewer.
pub const MOST_FRAMES: usize = 1 << 22;

/// What the frames that are to be looked up stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing: the first of them is the outermost there is.
    Root,
    /// Frames that are not known or not wanted.
    Cut,
    /// The stack with this node.
    Node(StackId),
}

/// The stack of one ring.
#[derive(Debug, Default)]
pub struct Stack {
    /// Return addresses, outermost first, each with the node of the stack up to it.
    frames: Vec<(u64, StackId)>,
    /// Outermost frames that are left out, since the stack is deeper than asked for.
    skipped: usize,
    /// Number of `frames` whose nodes are known, those left out among them.
    known: usize,
    /// Generation of those nodes.
    generation: u32,
    /// The outer end is missing.
    truncated: bool,
}

impl Stack {
    /// Forgets all frames.
    pub fn reset(&mut self) {
        self.frames.clear();
        self.known = 0;
    }

    /// Drops the innermost frames. `false`: there were fewer.
    #[inline]
    pub fn pop(&mut self, count: usize) -> bool {
        let Some(left) = self.frames.len().checked_sub(count) else {
            return false;
        };
        self.frames.truncate(left);
        self.known = self.known.min(left);
        true
    }

    /// Adds an inner frame. `false`: too many.
    #[inline]
    pub fn push(&mut self, address: u64) -> bool {
        self.frames.push((address, StackId::ROOT));
        self.frames.len() <= MOST_FRAMES
    }

    /// Says whether the outer end is missing.
    #[inline]
    pub fn set_truncated(&mut self, truncated: bool) {
        if self.truncated != truncated {
            self.truncated = truncated;
            self.known = 0;
        }
    }

    /// The node of the `depth` innermost frames, if it is known in this generation.
    #[inline]
    pub fn node(&self, generation: u32, depth: usize) -> Option<StackId> {
        let last = self.frames.last()?;
        let is_known = self.known == self.frames.len() && self.generation == generation;
        // After a pop others are left out.
        (is_known && self.skipped == self.skips(depth)).then_some(last.1)
    }

    #[inline]
    fn skips(&self, depth: usize) -> usize {
        self.frames.len().saturating_sub(depth)
    }

    /// Number of frames.
    #[inline]
    pub fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Frames whose nodes were known in another generation, so that they have to be told again.
    #[inline]
    pub fn retold(&self, generation: u32) -> usize {
        if self.generation == generation {
            0
        } else {
            self.known.saturating_sub(self.skipped)
        }
    }

    /// Of the `depth` innermost frames those whose nodes are not known in this generation, and where to go on from.
    #[inline]
    pub fn unknown(&mut self, generation: u32, depth: usize) -> (Base, &mut [(u64, StackId)]) {
        let skipped = self.skips(depth);
        if self.generation != generation || self.skipped != skipped {
            self.generation = generation;
            self.skipped = skipped;
            self.known = 0;
        }
        self.known = self.known.max(skipped);
        let (known, unknown) = self.frames.split_at_mut(self.known);
        let base = match known.last() {
            Some(frame) if known.len() > skipped => Base::Node(frame.1),
            _ if skipped > 0 || self.truncated => Base::Cut,
            _ => Base::Root,
        };
        (base, unknown)
    }

    /// All nodes have been filled in.
    #[inline]
    pub fn all_known(&mut self) {
        self.known = self.frames.len();
    }
}

#[derive(Clone, Copy, Debug)]
struct Known {
    address: u64,
    space: SpaceId,
    frame: FrameId,
}

/// An empty place: no code is at address 0.
const NOWHERE: Known = Known {
    address: 0,
    space: SpaceId(0),
    frame: FrameId(0),
};

/// A cache of (address, address space) -> frame, of bounded size. What has given way to another is found again by way of the module list.
#[derive(Debug)]
pub struct Frames {
    table: Vec<Known>,
    used: usize,
}

const FIRST_SIZE: usize = 1 << 10;
/// 1 MiB.
const LAST_SIZE: usize = 1 << 16;

impl Default for Frames {
    fn default() -> Self {
        Frames {
            table: vec![NOWHERE; FIRST_SIZE],
            used: 0,
        }
    }
}

impl Frames {
    #[inline]
    fn place(&self, address: u64, space: SpaceId) -> usize {
        let hash = (address ^ u64::from(space.0).rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash >> 40) as usize & (self.table.len() - 1)
    }

    /// The frame, if it is cached.
    #[inline]
    pub fn find(&self, address: u64, space: SpaceId) -> Option<FrameId> {
        let known = &self.table[self.place(address, space)];
        (known.address == address && known.space == space && address != 0).then_some(known.frame)
    }

    /// Caches a frame.
    pub fn insert(&mut self, address: u64, space: SpaceId, frame: FrameId) {
        if self.used * 2 >= self.table.len() && self.table.len() < LAST_SIZE {
            let old = std::mem::take(&mut self.table);
            self.table = vec![NOWHERE; old.len() * 2];
            self.used = 0;
            for known in old.into_iter().filter(|known| known.address != 0) {
                self.put(known);
            }
        }
        self.put(Known { address, space, frame });
    }

    fn put(&mut self, known: Known) {
        let place = self.place(known.address, known.space);
        self.used += usize::from(self.table[place].address == 0);
        self.table[place] = known;
    }

    /// Forgets everything: the frames of another generation come.
    pub fn clear(&mut self) {
        self.table.fill(NOWHERE);
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = usize::MAX;

    #[test]
    fn what_is_found_is_what_was_put_in_even_when_much_was_dropped() {
        let mut frames = Frames::default();
        for index in 0..400_000u32 {
            frames.insert(u64::from(index + 1) * 16, SpaceId(index % 2), FrameId(index));
        }
        assert_eq!(frames.table.len(), LAST_SIZE);
        let mut found = 0;
        for index in 0..400_000u32 {
            let address = u64::from(index + 1) * 16;
            if let Some(id) = frames.find(address, SpaceId(index % 2)) {
                assert_eq!(id, FrameId(index));
                found += 1;
            }
            assert_eq!(frames.find(address, SpaceId(2)), None);
        }
        assert!(found > LAST_SIZE / 2, "{found}");
        frames.clear();
        assert_eq!(frames.find(16, SpaceId(0)), None);
    }

    #[test]
    fn only_what_changed_of_a_stack_is_looked_up_again() {
        let mut stack = Stack::default();
        for address in [1, 2, 3] {
            assert!(stack.push(address));
        }
        let (base, unknown) = stack.unknown(0, ALL);
        assert_eq!((base, unknown.len()), (Base::Root, 3));
        for (index, frame) in unknown.iter_mut().enumerate() {
            frame.1 = StackId(index as u32 + 1);
        }
        stack.all_known();
        assert_eq!(stack.node(0, ALL), Some(StackId(3)));
        assert!(stack.pop(1));
        assert!(stack.push(9));
        let (base, unknown) = stack.unknown(0, ALL);
        assert_eq!((base, unknown.len()), (Base::Node(StackId(2)), 1));
        // Another generation, or another outer end: nothing is known.
        assert_eq!(stack.unknown(1, ALL).1.len(), 3);
        stack.all_known();
        stack.set_truncated(true);
        let (base, unknown) = stack.unknown(1, ALL);
        assert_eq!((base, unknown.len()), (Base::Cut, 3));
        assert!(!stack.pop(4));
    }

    #[test]
    fn a_stack_deeper_than_asked_for_is_its_innermost_frames_on_a_cut() {
        let mut stack = Stack::default();
        for address in [1, 2, 3, 4] {
            assert!(stack.push(address));
        }
        let (base, unknown) = stack.unknown(0, 2);
        let addresses: Vec<u64> = unknown.iter().map(|frame| frame.0).collect();
        assert_eq!((base, addresses), (Base::Cut, vec![3, 4]));
        stack.all_known();
        assert!(stack.node(0, 2).is_some());
        // A frame that was left out is the innermost now: its node was never asked for.
        assert!(stack.pop(2));
        assert_eq!(stack.node(0, 2), None);
        let (base, unknown) = stack.unknown(0, 2);
        assert_eq!((base, unknown.len()), (Base::Root, 2));
        stack.all_known();
        assert!(stack.push(3) && stack.push(4));
        assert_eq!(stack.unknown(0, 2).1.len(), 2);
        stack.all_known();
        // One frame in the place of another: the cut is where it was.
        assert!(stack.pop(1) && stack.push(5));
        let (base, unknown) = stack.unknown(0, 2);
        assert_eq!((matches!(base, Base::Node(_)), unknown.len()), (true, 1));
        stack.all_known();
        // One frame more: everything that is left has another place in the trie.
        assert!(stack.push(6));
        assert_eq!(stack.unknown(0, 2).1.len(), 2);
        stack.all_known();
        // As deep as asked for: whole.
        assert!(stack.pop(3));
        let (base, unknown) = stack.unknown(0, 2);
        assert_eq!((base, unknown.len()), (Base::Root, 2));
    }
}
