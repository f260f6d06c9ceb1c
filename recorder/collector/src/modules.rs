//! Which object lies where in which process.
//!
//! An *address space* is a list of ranges with a number. A forked child shares its parent's until one of them changes; then the one that changed gets a list and a number of its own.
//! The number also changes when an answer that was given before may be wrong now (an object is gone, or came to where an address had none), so that whoever caches
//! answers by it need not be told.

use crate::host::FoundModule;
use heaptape_format::record::Module;
use heaptape_format::{Address, ModuleIx, ProcessIx};
use std::collections::HashMap;
use std::rc::Rc;

/// Number of an address space; a cached answer holds for one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SpaceId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: u64,
    end: u64,
    bias: u64,
    module: ModuleIx,
}

/// An address space.
#[derive(Clone, Debug)]
pub struct Space {
    id: SpaceId,
    /// Sorted, without overlaps.
    ranges: Vec<Range>,
    /// Some address was found in no module.
    has_raw: bool,
}

/// Where an address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a module, at this offset.
    Module(ModuleIx, u64),
    /// In none.
    Nowhere,
}

/// All modules, and the numbers of the address spaces.
#[derive(Debug, Default)]
pub struct Modules {
    known: HashMap<(Vec<u8>, Vec<u8>, u64), ModuleIx>,
    next_space: u32,
}

/// A module that is new to the tape, by its number, with what is to be written.
pub type Fresh = Option<(ModuleIx, Module)>;

impl Modules {
    /// An address space without modules.
    pub fn empty_space(&mut self) -> Rc<Space> {
        Rc::new(Space {
            id: self.fresh_id(),
            ranges: Vec::new(),
            has_raw: false,
        })
    }

    fn fresh_id(&mut self) -> SpaceId {
        self.next_space += 1;
        SpaceId(self.next_space)
    }

    /// A module came to an address space: what lay in its range is gone. Returns what the tape must be told, if it is new to the tape.
    pub fn add(&mut self, space: &mut Rc<Space>, process: ProcessIx, found: FoundModule) -> Fresh {
        let FoundModule {
            path,
            build_id,
            bias,
            start,
            end,
            unwind: _,
        } = found;
        if start >= end {
            return None;
        }
        let next = ModuleIx(self.known.len() as u32);
        let key = (path, build_id, bias);
        let module = self.known.get(&key).copied().unwrap_or(next);
        let range = Range {
            start,
            end,
            bias,
            module,
        };
        if space.ranges.contains(&range) {
            return None;
        }
        let fresh = (module == next).then(|| {
            let record = Module {
                process,
                path: key.0.clone(),
                build_id: key.1.clone(),
                bias: Address(bias),
                start: Address(start),
                end: Address(end),
            };
            (module, record)
        });
        if fresh.is_some() {
            self.known.insert(key, module);
        }
        let taken = space.ranges.iter().any(|other| other.start < end && start < other.end);
        let space = self.change(space, taken);
        space.ranges.retain(|other| other.end <= start || end <= other.start);
        let at = space.ranges.partition_point(|other| other.start < start);
        space.ranges.insert(at, range);
        fresh
    }

    /// The modules within a range are gone from an address space.
    pub fn remove(&mut self, space: &mut Rc<Space>, start: u64, end: u64) {
        if space.ranges.iter().any(|range| range.start < end && start < range.end) {
            let space = self.change(space, true);
            space.ranges.retain(|range| range.end <= start || end <= range.start);
        }
    }

    /// Notes that an address of this space was answered with [`Place::Nowhere`]. The answer names the process, so relatives that share the space part ways.
    pub fn note_raw(&mut self, space: &mut Rc<Space>) {
        if !space.has_raw {
            self.change(space, false).has_raw = true;
        }
    }

    /// The space, this process's alone, with a number under which nothing wrong is cached.
    fn change<'a>(&mut self, space: &'a mut Rc<Space>, answers_change: bool) -> &'a mut Space {
        let shared = Rc::strong_count(space) > 1;
        let inner = Rc::make_mut(space);
        if shared || answers_change || inner.has_raw {
            inner.id = self.fresh_id();
            inner.has_raw = false;
        }
        inner
    }
}

impl Space {
    /// Its number now.
    #[inline]
    pub fn id(&self) -> SpaceId {
        self.id
    }

    /// Where a return address lies. It belongs to the instruction before it, which may be the last of its module.
    pub fn find(&self, address: u64) -> Place {
        let at = address.wrapping_sub(1);
        let after = self.ranges.partition_point(|range| range.start <= at);
        match after.checked_sub(1).map(|index| self.ranges[index]) {
            Some(range) if at < range.end => Place::Module(range.module, address.wrapping_sub(range.bias)),
            _ => Place::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, start: u64, end: u64) -> FoundModule {
        FoundModule {
            path: path.into(),
            build_id: vec![1],
            bias: start,
            start,
            end,
            unwind: None,
        }
    }

    #[test]
    fn an_address_belongs_to_the_instruction_before_it() {
        let mut modules = Modules::default();
        let mut space = modules.empty_space();
        assert!(modules
            .add(&mut space, ProcessIx(0), found("/a", 0x1000, 0x2000))
            .is_some());
        assert_eq!(space.find(0x1000), Place::Nowhere);
        assert_eq!(space.find(0x1001), Place::Module(ModuleIx(0), 1));
        assert_eq!(space.find(0x2000), Place::Module(ModuleIx(0), 0x1000));
        assert_eq!(space.find(0x2001), Place::Nowhere);
        assert_eq!(space.find(0), Place::Nowhere);
    }

    #[test]
    fn a_module_at_the_place_of_another_replaces_it_and_voids_what_was_cached() {
        let mut modules = Modules::default();
        let mut space = modules.empty_space();
        modules.add(&mut space, ProcessIx(0), found("/a", 0x1000, 0x3000));
        let before = space.id();
        modules.add(&mut space, ProcessIx(0), found("/b", 0x2000, 0x4000));
        assert_ne!(space.id(), before);
        assert_eq!(space.find(0x1800), Place::Nowhere);
        assert_eq!(space.find(0x2800), Place::Module(ModuleIx(1), 0x800));
        modules.remove(&mut space, 0x2000, 0x4000);
        assert_eq!(space.find(0x2800), Place::Nowhere);
    }

    #[test]
    fn a_forked_child_shares_the_space_until_one_of_them_changes() {
        let mut modules = Modules::default();
        let mut parent = modules.empty_space();
        modules.add(&mut parent, ProcessIx(0), found("/a", 0x1000, 0x2000));
        let mut child = Rc::clone(&parent);
        assert_eq!(child.id(), parent.id());
        modules.add(&mut child, ProcessIx(1), found("/b", 0x5000, 0x6000));
        assert_ne!(child.id(), parent.id());
        assert_eq!(parent.find(0x5800), Place::Nowhere);
        assert_eq!(child.find(0x1800), Place::Module(ModuleIx(0), 0x800));
        // The same object at the same place in another process is the same module.
        let mut other = modules.empty_space();
        assert!(modules
            .add(&mut other, ProcessIx(2), found("/b", 0x5000, 0x6000))
            .is_none());
        assert_eq!(other.find(0x5800), Place::Module(ModuleIx(1), 0x800));
    }

    #[test]
    fn a_module_that_comes_to_where_an_address_had_none_voids_that_answer() {
        let mut modules = Modules::default();
        let mut space = modules.empty_space();
        let quiet = space.id();
        modules.add(&mut space, ProcessIx(0), found("/a", 0x1000, 0x2000));
        assert_eq!(space.id(), quiet, "nothing that was answered changes");
        modules.note_raw(&mut space);
        modules.add(&mut space, ProcessIx(0), found("/b", 0x2000, 0x3000));
        assert_ne!(space.id(), quiet);
    }
}
