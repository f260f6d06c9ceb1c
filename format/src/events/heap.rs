//! The heap blocks of one tape block: which are live, in the order of their births, and which addresses wait to be used again.
//!
//! Both sides of the coding hold the same. Every event has a node: a birth's node is the heap block; the node of a death whose birth lies
//! elsewhere is a *stray*, an address that became free; the nodes of other events are empty. A node is in one list at most:
//! a live one in the list of the thread that gave birth to it (newest first), a free one in a list of its size class and of the thread that
//! freed it (latest first), as allocators keep them.

use super::habits::slot;
use super::layout::{PLACE_FIRST, PLACE_OLDER};
use crate::event::AllocApi;
use crate::id::Address;

/// No node.
pub(super) const NONE: u32 = u32::MAX;
/// Set in the `newer` link of the first node of a list; the other bits are the list.
const FIRST: u32 = 1 << 31;
/// Lists of free addresses.
const LISTS: usize = 1 << 11;

/// Where a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// In no list.
    Nowhere,
    /// Among the live blocks of a thread.
    Live,
    /// In the list of free addresses with this number.
    Free(u16),
}

/// A size class of the allocator, as far as it can be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class(u16);

impl Class {
    /// The class of strays: their size is not known.
    pub(super) const STRAY: Class = Class(0);

    /// The class and the bytes that a block takes. Most C libraries keep a word of their own in front and go by 16 bytes; Python's
    /// allocator has no such word.
    #[inline]
    pub(super) fn of(api: u8, size: u64) -> (Class, u64) {
        let python = api == AllocApi::PyObj as u8 || api == AllocApi::PyMem as u8;
        if python && size <= 512 {
            let taken = (size.max(1) + 15) & !15;
            return (Class(0x8000 | (taken >> 4) as u16), taken);
        }
        let taken = (size.saturating_add(8 + 15) & !15).max(32);
        (Class((taken >> 4).min(0x7fff) as u16), taken)
    }
}

/// [`Home`] in two bytes: a number of a list, or one of these.
const LIVE: u16 = u16::MAX;
const NOWHERE: u16 = u16::MAX - 1;

/// 24 bytes, so that most lie in one line of the processor's cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub address: Address,
    older: u32,
    newer: u32,
    /// At the writer's side the process, at the reader's what the sink answered last.
    pub tag: u32,
    home: u16,
    pub class: Class,
}

impl List {
    /// By the form of an address: [`PLACE_FIRST`], [`PLACE_OLDER`], or else the newer one.
    #[inline]
    pub(super) fn at(self, place: u8) -> u32 {
        // No branch: which of them it is nobody can foresee.
        let neighbour = if place == PLACE_OLDER { self.older } else { self.newer };
        if place == PLACE_FIRST {
            self.first
        } else {
            neighbour
        }
    }
}

/// A list of free addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    /// The latest one.
    pub first: u32,
    /// The neighbours of the one that was taken last.
    pub older: u32,
    pub newer: u32,
}

const EMPTY: List = List {
    first: NONE,
    older: NONE,
    newer: NONE,
};

/// The live blocks of a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Living {
    newest: u32,
    /// The neighbours of the one whose death this thread caused last.
    pub older: u32,
    pub newer: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Heap {
    pub nodes: Vec<Node>,
    lists: Vec<List>,
    pub threads: Vec<Living>,
}

impl Default for Heap {
    fn default() -> Self {
        Heap {
            nodes: Vec::new(),
            lists: vec![EMPTY; LISTS],
            threads: Vec::new(),
        }
    }
}

impl Heap {
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
        self.lists.fill(EMPTY);
        self.threads.clear();
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
            + self.lists.capacity() * size_of::<List>()
            + self.threads.capacity() * size_of::<Living>()
    }

    pub(super) fn add_thread(&mut self) {
        self.threads.push(Living {
            newest: NONE,
            older: NONE,
            newer: NONE,
        });
    }

    /// The number of the list for a thread and a class.
    #[inline]
    pub(super) fn list_of(thread: usize, class: Class) -> u16 {
        slot((thread as u64) << 16 | u64::from(class.0), LISTS) as u16
    }

    #[inline]
    pub(super) fn list(&self, list: u16) -> List {
        self.lists[usize::from(list) % LISTS]
    }

    #[inline]
    pub(super) fn home(&self, node: u32) -> Home {
        match self.nodes.get(node as usize).map_or(NOWHERE, |node| node.home) {
            NOWHERE => Home::Nowhere,
            LIVE => Home::Live,
            list => Home::Free(list),
        }
    }

    /// The node of an event that is neither birth nor stray death.
    #[inline]
    pub(super) fn nothing(&mut self) {
        self.nodes.push(Node {
            address: Address(0),
            older: NONE,
            newer: NONE,
            home: NOWHERE,
            class: Class::STRAY,
            tag: 0,
        });
    }

    /// The node of a birth.
    #[inline]
    pub(super) fn birth(&mut self, thread: usize, address: Address, class: Class, tag: u32) {
        let index = self.nodes.len() as u32;
        let newest = std::mem::replace(&mut self.threads[thread].newest, index);
        if let Some(node) = self.nodes.get_mut(newest as usize) {
            node.newer = index;
        }
        let newer = FIRST | thread as u32;
        self.nodes.push(Node {
            address,
            older: newest,
            newer,
            home: LIVE,
            class,
            tag,
        });
    }

    /// The node of a death whose birth lies elsewhere.
    #[inline]
    pub(super) fn stray(&mut self, thread: usize, address: Address, tag: u32) {
        let index = self.nodes.len() as u32;
        self.nothing();
        let node = &mut self.nodes[index as usize];
        node.address = address;
        node.tag = tag;
        self.free(index, Self::list_of(thread, Class::STRAY));
    }

    /// Ends the life of a live node. It is in no list after this.
    #[inline]
    pub(super) fn death(&mut self, index: u32, thread: usize) {
        let Node { older, newer, .. } = self.nodes[index as usize];
        let living = &mut self.threads[thread];
        living.older = older;
        living.newer = newer;
        if newer & FIRST != 0 {
            if let Some(living) = self.threads.get_mut((newer & !FIRST) as usize) {
                living.newest = older;
            }
        }
        self.take_out(index);
    }

    /// Links the neighbours of a node with each other.
    #[inline]
    fn take_out(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        let (older, newer) = (node.older, node.newer);
        node.home = NOWHERE;
        if newer & FIRST == 0 {
            self.nodes[newer as usize].older = older;
        }
        if older != NONE {
            self.nodes[older as usize].newer = newer;
        }
    }

    /// Puts a node into a list of free addresses.
    #[inline]
    pub(super) fn free(&mut self, index: u32, list: u16) {
        let first = std::mem::replace(&mut self.lists[usize::from(list) % LISTS].first, index);
        if first != NONE {
            self.nodes[first as usize].newer = index;
        }
        let node = &mut self.nodes[index as usize];
        node.older = first;
        node.newer = FIRST | u32::from(list);
        node.home = list;
    }

    /// Takes a node out of the list of free addresses that it is in.
    #[inline]
    pub(super) fn reuse(&mut self, index: u32, list: u16) {
        let Node { older, newer, .. } = self.nodes[index as usize];
        let entry = &mut self.lists[usize::from(list) % LISTS];
        entry.older = older;
        entry.newer = newer;
        if newer & FIRST != 0 {
            entry.first = older;
        }
        self.take_out(index);
    }

    /// The live node of a thread that has `rank` newer ones.
    #[inline]
    pub(super) fn ranked(&self, thread: usize, rank: u32) -> u32 {
        self.walk(self.threads[thread].newest, rank)
    }

    /// The node `steps` older than this one.
    #[inline]
    pub(super) fn walk(&self, mut node: u32, steps: u32) -> u32 {
        for _ in 0..steps {
            node = self.nodes.get(node as usize).map_or(NONE, |node| node.older);
        }
        node
    }

    /// How many steps below `limit` lead from `node` to `index`.
    #[inline]
    pub(super) fn steps(&self, mut node: u32, index: u32, limit: u32) -> Option<u32> {
        for steps in 0..limit {
            if node == index {
                return Some(steps);
            }
            node = self.nodes.get(node as usize)?.older;
        }
        None
    }
}
