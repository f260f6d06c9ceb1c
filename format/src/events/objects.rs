//! The blocks that were born here by Python's object allocator, with the type that the reader takes each for. Only the writer needs to ask.

use super::heap::{Heap, Home};
use crate::id::{Address, ProcessIx, StackId, TypeIx};

/// A type is nearly always said of one of the latest blocks: so many are tried before the table of addresses is asked.
const LATELY: usize = 8;

#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    pub node: u32,
    pub stack: StackId,
    pub kind: TypeIx,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    /// In the order of their births, the dead ones, too.
    all: Vec<Object>,
    /// Whether a block was born where another still lived, so that two live nodes have one address.
    ambiguous: bool,
}

impl Objects {
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.ambiguous = false;
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        self.all.capacity() * size_of::<Object>()
    }

    #[inline]
    pub(super) fn birth(&mut self, node: u32, stack: StackId, kind: TypeIx) {
        self.all.push(Object { node, stack, kind });
    }

    /// From now on an address does not tell which of the latest blocks is meant.
    #[cold]
    pub(super) fn distrust_addresses(&mut self) {
        self.ambiguous = true;
    }

    /// The live block at this address, if it is one of the latest.
    #[inline]
    pub(super) fn lately(&self, heap: &Heap, address: Address, process: ProcessIx) -> Option<&Object> {
        if self.ambiguous {
            return None;
        }
        self.all.iter().rev().take(LATELY).find(|object| {
            let node = &heap.nodes[object.node as usize];
            node.address == address && node.tag == process.get() && heap.home(object.node) == Home::Live
        })
    }

    /// The object with this node.
    #[inline]
    pub(super) fn get(&self, node: u32) -> Option<&Object> {
        let found = self.all.binary_search_by_key(&node, |object| object.node).ok()?;
        self.all.get(found)
    }

    /// The object with this node, to be told its type.
    #[inline]
    pub(super) fn get_mut(&mut self, node: u32) -> Option<&mut Object> {
        let found = self.all.binary_search_by_key(&node, |object| object.node).ok()?;
        self.all.get_mut(found)
    }
}
