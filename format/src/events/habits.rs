//! Which stack allocates next, and what a stack asks for: learned within a block, the same at both sides.

use crate::id::{Bytes, StackId, TypeIx};

/// Entries of each table of expected stacks.
const CONTEXTS: usize = 1 << 12;
/// Entries of the table of what stacks ask for.
const SITES: usize = 1 << 14;

/// What a thread did lately, as far as it tells which stack comes next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trail {
    /// The stack of its last birth.
    pub last: StackId,
    before: StackId,
    /// Births (0) and deaths (1), the latest in the lowest bit.
    history: u32,
}

impl Trail {
    #[inline]
    pub(super) fn death(&mut self) {
        self.history = self.history << 1 | 1;
    }

    /// Where the expected stacks are kept.
    #[inline]
    fn slots(&self) -> [usize; 2] {
        let last = u64::from(self.last.get()) << 32;
        let wide = last | u64::from(self.history & 0xf);
        let narrow =
            (last | u64::from(self.before.get())).wrapping_mul(0xff51_afd7_ed55_8ccd) ^ u64::from(self.history & 0xff);
        [slot(narrow, CONTEXTS), slot(wide, CONTEXTS)]
    }
}

/// A place for a key in a table of this many entries, a power of two.
#[inline]
pub(super) fn slot(key: u64, entries: usize) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize & (entries - 1)
}

/// What a stack asked for last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Site {
    pub size: Bytes,
    /// The type that was last said of an object of its own.
    pub kind: TypeIx,
    /// Operation and entry point, see `layout`.
    pub call: u8,
}

/// The tables. Entries are shared by whatever falls on them: a wrong expectation costs bytes, nothing else.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    narrow: Vec<StackId>,
    wide: Vec<StackId>,
    sites: Vec<Site>,
}

impl Default for Habits {
    fn default() -> Self {
        Habits {
            narrow: vec![StackId::ROOT; CONTEXTS],
            wide: vec![StackId::ROOT; CONTEXTS],
            sites: vec![Site::default(); SITES],
        }
    }
}

impl Habits {
    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        2 * CONTEXTS * size_of::<StackId>() + SITES * size_of::<Site>()
    }

    pub(super) fn clear(&mut self) {
        self.narrow.fill(StackId::ROOT);
        self.wide.fill(StackId::ROOT);
        self.sites.fill(Site::default());
    }

    /// The two stacks to expect of a thread, the likelier one first, and what they ask for.
    #[inline]
    pub(super) fn expect(&mut self, trail: &Trail) -> Expected<'_> {
        let [narrow, wide] = trail.slots();
        Expected {
            narrow: &mut self.narrow[narrow],
            wide: &mut self.wide[wide],
            sites: &mut self.sites,
        }
    }

    /// What this stack asked for last.
    #[inline]
    pub(super) fn site(&mut self, stack: StackId) -> &mut Site {
        site(&mut self.sites, stack)
    }
}

#[inline]
fn site(sites: &mut [Site], stack: StackId) -> &mut Site {
    &mut sites[stack.get() as usize & (SITES - 1)]
}

/// The expectations for one birth.
pub(super) struct Expected<'a> {
    pub narrow: &'a mut StackId,
    pub wide: &'a mut StackId,
    sites: &'a mut [Site],
}

impl<'a> Expected<'a> {
    /// Learns which stack it was; gives what that stack asked for last, to be compared and replaced.
    #[inline]
    pub(super) fn learn(self, stack: StackId, trail: &mut Trail) -> &'a mut Site {
        *self.narrow = stack;
        *self.wide = stack;
        trail.before = trail.last;
        trail.last = stack;
        trail.history <<= 1;
        site(self.sites, stack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_as_long_as_the_specification_says() {
        let specification = include_str!("../../../docs/FORMAT.md");
        for text in [
            format!("Both tables have {CONTEXTS} entries"),
            format!("kept in {SITES} entries by stack id modulo {SITES},"),
        ] {
            assert!(specification.contains(&text), "{text}");
        }
    }
}
