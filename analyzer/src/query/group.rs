//! What rows of a report are made of.

use super::kind::Kind;
use crate::table::{Domain, Item};
use heaptape_format::ProcessIx;
use serde::{Serialize, Serializer};
use std::fmt;

/// A property that allocations have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Group {
    /// The line that is shown for a stack.
    #[default]
    Line,
    /// Its file.
    File,
    /// The whole stack.
    Traceback,
    /// The function that is shown for a stack.
    Function,
    /// The coroutine, or the callback, that an event loop of asyncio was running.
    Coroutine,
    /// The module that is shown for a stack.
    Library,
    /// The thread that allocated.
    Thread,
    /// The process.
    Process,
    /// The entry point.
    Api,
    /// The allocator.
    Domain,
    /// The size of a block.
    Size,
    /// The type of the object.
    Type,
}

impl Group {
    /// All of them.
    pub const ALL: [Group; 12] = [
        Group::Line,
        Group::File,
        Group::Traceback,
        Group::Function,
        Group::Coroutine,
        Group::Library,
        Group::Thread,
        Group::Process,
        Group::Api,
        Group::Domain,
        Group::Size,
        Group::Type,
    ];

    /// Whether the stack decides the key.
    pub fn is_by_stack(self) -> bool {
        self.bits() == 0
    }

    /// What it is called on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Line => "line",
            Group::File => "file",
            Group::Traceback => "traceback",
            Group::Function => "function",
            Group::Coroutine => "coroutine",
            Group::Library => "library",
            Group::Thread => "thread",
            Group::Process => "process",
            Group::Api => "api",
            Group::Domain => "domain",
            Group::Size => "size",
            Group::Type => "type",
        }
    }

    /// Bits of the fact that it needs of a row, besides the stack.
    const fn bits(self) -> u32 {
        match self {
            Group::Line | Group::File | Group::Traceback | Group::Function | Group::Coroutine | Group::Library => 0,
            Group::Api | Group::Domain => 8,
            Group::Thread | Group::Process | Group::Type => 32,
            Group::Size => 64,
        }
    }

    /// That fact; `process` is whose copy is counted.
    fn fact(self, item: &Item, process: Option<ProcessIx>) -> u64 {
        match self {
            Group::Thread => u64::from(item.thread.get()),
            Group::Process => process.map_or(u64::from(u32::MAX), |process| u64::from(process.get())),
            Group::Api => item.marks.api() as u64,
            Group::Domain => Domain::of(item.marks.api()) as u64,
            Group::Size => item.size,
            Group::Type => u64::from(Kind::of_item(item).number()),
            Group::Line | Group::File | Group::Traceback | Group::Function | Group::Coroutine | Group::Library => 0,
        }
    }
}

/// Most properties at once: with more, their facts could take more bits than there are.
const MOST: usize = 3;

/// One to three properties: a row for each combination, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping(Vec<Group>);

/// A list of properties that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAGrouping;

impl fmt::Display for NotAGrouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected one to {MOST} different properties, as in `type,line`")
    }
}

impl std::error::Error for NotAGrouping {}

impl Grouping {
    /// Rows by these properties.
    ///
    /// # Errors
    /// When there is none, when there are more than three, and when one is named twice.
    pub fn new(groups: &[Group]) -> Result<Grouping, NotAGrouping> {
        let is_repeated = |(index, group): (usize, &Group)| groups[..index].contains(group);
        if groups.is_empty() || groups.len() > MOST || groups.iter().enumerate().any(is_repeated) {
            return Err(NotAGrouping);
        }
        Ok(Grouping(groups.to_vec()))
    }

    /// The properties, in their order.
    pub fn groups(&self) -> &[Group] {
        &self.0
    }

    /// Whether nothing but the stack has a part in the key.
    pub(crate) fn is_by_stack_alone(&self) -> bool {
        self.0.iter().all(|group| group.is_by_stack())
    }

    /// Whether the stack has a part in the key.
    pub fn is_by_stack(&self) -> bool {
        self.0.iter().any(|group| group.is_by_stack())
    }

    /// All that a row's key needs, besides its stack.
    pub(crate) fn facts(&self, item: &Item, process: Option<ProcessIx>) -> Facts {
        let fold = |packed: u128, group: &Group| match group.bits() {
            0 => packed,
            bits => packed << bits | u128::from(group.fact(item, process)),
        };
        Facts(self.0.iter().fold(0, fold))
    }

    /// One of the facts; `None` when it is not among them.
    pub(crate) fn fact(&self, facts: Facts, wanted: Group) -> Option<u64> {
        let place = self.0.iter().position(|&group| group == wanted)?;
        let behind: u32 = self.0[place + 1..].iter().map(|group| group.bits()).sum();
        let mask = (1u128 << wanted.bits()) - 1;
        Some((facts.0.checked_shr(behind).unwrap_or(0) & mask) as u64)
    }

    /// What a block holds, if that is asked for.
    pub(crate) fn kind(&self, facts: Facts) -> Option<Kind> {
        let number = self.fact(facts, Group::Type)?;
        Some(Kind::from_number(number as u32))
    }
}

impl Default for Grouping {
    fn default() -> Grouping {
        Group::default().into()
    }
}

impl From<Group> for Grouping {
    fn from(group: Group) -> Grouping {
        Grouping(vec![group])
    }
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, group) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}", group.name())?;
        }
        Ok(())
    }
}

impl Serialize for Grouping {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Facts of a row, packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Facts(u128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_three_properties_fit() {
        let all = Group::ALL.into_iter().filter(|group| !group.is_by_stack());
        let all: Vec<Group> = all.collect();
        for &a in &all {
            for &b in &all {
                for &c in &all {
                    let Ok(grouping) = Grouping::new(&[a, b, c]) else {
                        continue;
                    };
                    let bits: u32 = grouping.groups().iter().map(|group| group.bits()).sum();
                    assert!(bits <= u128::BITS, "{grouping}");
                    let most = grouping.groups().iter().fold(0u128, |packed, group| {
                        packed << group.bits() | ((1u128 << group.bits()) - 1)
                    });
                    for group in [a, b, c] {
                        let fact = grouping.fact(Facts(most), group);
                        assert_eq!(fact, Some(((1u128 << group.bits()) - 1) as u64), "{grouping}");
                    }
                }
            }
        }
        assert_eq!(Grouping::new(&[]), Err(NotAGrouping));
        assert_eq!(Grouping::new(&[Group::Line, Group::Line]), Err(NotAGrouping));
        assert_eq!(Grouping::default().fact(Facts(0), Group::Size), None);
    }
}
