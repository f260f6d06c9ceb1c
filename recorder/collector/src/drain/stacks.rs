//! From the frames that threads pop and push to nodes of the tape's stack trie.
//!
//! A thread's stack is kept as addresses; its nodes are looked up only when an event carries the stack, and only for the part that has changed since. Most lookups are
//! answered by [`Edges`], a cache of bounded size; what it has dropped is found again by way of the module list and the writer's own tables.

use crate::modules::SpaceId;
use heaptape_format::StackId;

/// More frames than this in one stack are not believed.
pub const MOST_FRAMES: usize = 1 << 20;

/// The stack of one ring.
#[derive(Debug, Default)]
pub struct Stack {
    /// Return addresses, outermost first, each with the node of the stack up to it.
    frames: Vec<(u64, StackId)>,
    /// Number of `frames` whose nodes are known.
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

    /// Whether the outer end is missing.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// The node of the whole stack, if it is known in this generation.
    #[inline]
    pub fn node(&self, generation: u32) -> Option<StackId> {
        let last = self.frames.last()?;
        (self.known == self.frames.len() && self.generation == generation).then_some(last.1)
    }

    /// The frames whose nodes are not known in this generation, and the node to go on from; `None` for the latter: from the base.
    #[inline]
    pub fn unknown(&mut self, generation: u32) -> (Option<StackId>, &mut [(u64, StackId)]) {
        if self.generation != generation {
            self.generation = generation;
            self.known = 0;
        }
        let (known, unknown) = self.frames.split_at_mut(self.known);
        (known.last().map(|frame| frame.1), unknown)
    }

    /// All nodes have been filled in.
    #[inline]
    pub fn all_known(&mut self) {
        self.known = self.frames.len();
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Edge {
    address: u64,
    parent: StackId,
    space: SpaceId,
    /// The root: an empty place.
    node: StackId,
}

/// A cache of (parent node, address, address space) -> node.
#[derive(Debug)]
pub struct Edges {
    table: Vec<Edge>,
    used: usize,
    /// Takes turns over which place of a full group gives way.
    turn: usize,
}

/// Places that an edge may stand in.
const GROUP: usize = 4;
const FIRST_SIZE: usize = 1 << 12;
/// 3 MiB. What does not fit is found the slow way.
const LAST_SIZE: usize = 1 << 17;

impl Default for Edges {
    fn default() -> Self {
        Edges {
            table: vec![Edge::default(); FIRST_SIZE],
            used: 0,
            turn: 0,
        }
    }
}

impl Edges {
    #[inline]
    fn group(&self, parent: StackId, address: u64, space: SpaceId) -> usize {
        let key = address ^ (u64::from(parent.0) << 32) ^ u64::from(space.0).rotate_left(20) ^ u64::from(parent.0);
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (hash >> 40) as usize & (self.table.len() - 1) & !(GROUP - 1)
    }

    /// The node, if it is cached.
    #[inline]
    pub fn find(&self, parent: StackId, address: u64, space: SpaceId) -> Option<StackId> {
        let group = self.group(parent, address, space);
        self.table[group..group + GROUP]
            .iter()
            .find(|edge| {
                edge.address == address && edge.parent == parent && edge.space == space && edge.node != StackId::ROOT
            })
            .map(|edge| edge.node)
    }

    /// Caches a node.
    pub fn insert(&mut self, parent: StackId, address: u64, space: SpaceId, node: StackId) {
        if self.used * 2 >= self.table.len() && self.table.len() < LAST_SIZE {
            let old = std::mem::take(&mut self.table);
            self.table = vec![Edge::default(); old.len() * 2];
            self.used = 0;
            for edge in old.into_iter().filter(|edge| edge.node != StackId::ROOT) {
                self.place(edge);
            }
        }
        self.place(Edge {
            address,
            parent,
            space,
            node,
        });
    }

    fn place(&mut self, edge: Edge) {
        let group = self.group(edge.parent, edge.address, edge.space);
        let places = &mut self.table[group..group + GROUP];
        if let Some(free) = places.iter_mut().find(|place| place.node == StackId::ROOT) {
            *free = edge;
            self.used += 1;
        } else {
            self.turn = (self.turn + 1) % GROUP;
            places[self.turn] = edge;
        }
    }

    /// Forgets everything: the nodes of another generation come.
    pub fn clear(&mut self) {
        self.table.fill(Edge::default());
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_what_was_put_in_even_when_much_was_dropped() {
        let mut edges = Edges::default();
        let node = |index: u32| StackId(index + 1);
        for index in 0..400_000u32 {
            edges.insert(
                StackId(index / 3),
                u64::from(index) * 16,
                SpaceId(index % 2),
                node(index),
            );
        }
        assert_eq!(edges.table.len(), LAST_SIZE);
        let mut found = 0;
        for index in 0..400_000u32 {
            if let Some(id) = edges.find(StackId(index / 3), u64::from(index) * 16, SpaceId(index % 2)) {
                assert_eq!(id, node(index));
                found += 1;
            }
            assert_eq!(edges.find(StackId(index / 3), u64::from(index) * 16, SpaceId(2)), None);
        }
        assert!(found > LAST_SIZE / 2, "{found}");
        edges.clear();
        assert_eq!(edges.find(StackId(0), 16, SpaceId(1)), None);
    }

    #[test]
    fn only_what_changed_of_a_stack_is_looked_up_again() {
        let mut stack = Stack::default();
        for address in [1, 2, 3] {
            assert!(stack.push(address));
        }
        let (base, unknown) = stack.unknown(0);
        assert_eq!((base, unknown.len()), (None, 3));
        for (index, frame) in unknown.iter_mut().enumerate() {
            frame.1 = StackId(index as u32 + 1);
        }
        stack.all_known();
        assert_eq!(stack.node(0), Some(StackId(3)));
        assert!(stack.pop(1));
        assert!(stack.push(9));
        let (base, unknown) = stack.unknown(0);
        assert_eq!((base, unknown.len()), (Some(StackId(2)), 1));
        // Another generation, or another outer end: nothing is known.
        assert_eq!(stack.unknown(1).1.len(), 3);
        stack.all_known();
        stack.set_truncated(true);
        assert_eq!(stack.unknown(1).1.len(), 3);
        assert!(!stack.pop(4));
    }
}
