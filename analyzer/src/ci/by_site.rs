//! Sums by site, with the stack that has most of each.

use super::naming::Named;
use super::{Frame, SiteKey};
use crate::table::Heap;
use crate::text::Text;
use heaptape_format::TypeIx;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The name of a type; of the unknown one none.
pub(super) fn type_name(heap: &Heap, kind: TypeIx) -> Option<Text> {
    let name = heap.catalog.types.get(kind.get() as usize)?;
    (kind != TypeIx::UNKNOWN && !name.as_str().is_empty()).then(|| name.clone())
}

/// What stands for a site while it is summed.
pub(super) struct Gathered<T> {
    pub sum: T,
    pub line: u32,
    /// Bytes by stack.
    stacks: BTreeMap<Vec<Frame>, u128>,
}

/// Things of a heap by site.
pub(super) struct BySite<T>(pub BTreeMap<SiteKey, Gathered<T>>);

impl<T: Default> BySite<T> {
    pub fn new() -> BySite<T> {
        BySite(BTreeMap::new())
    }

    pub fn add(&mut self, named: &Rc<Named>, kind: Option<Text>, size: u128, merge: impl FnOnce(&mut T)) {
        let key = SiteKey {
            place: named.place.clone(),
            kind,
        };
        let site = self.0.entry(key).or_insert_with(|| Gathered {
            sum: T::default(),
            line: named.line,
            stacks: BTreeMap::new(),
        });
        merge(&mut site.sum);
        // One function can be declared in two files of one name.
        site.line = site.line.min(named.line);
        match site.stacks.get_mut(&named.stack) {
            Some(sum) => *sum += size,
            None => drop(site.stacks.insert(named.stack.clone(), size)),
        }
    }
}

impl<T> Gathered<T> {
    pub fn heaviest(&mut self) -> Vec<Frame> {
        let stacks = std::mem::take(&mut self.stacks);
        let heaviest = stacks
            .into_iter()
            .max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)));
        heaviest.map_or(Vec::new(), |(stack, _)| stack)
    }
}
