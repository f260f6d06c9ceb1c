//! Which site a stack belongs to.

use super::{Frame, Paths, Place};
use crate::query::{is_wrapper, Sites};
use crate::symbols::{self, Language, Names};
use crate::table::Heap;
use crate::tape::StackIx;
use std::collections::HashMap;
use std::rc::Rc;

/// Frames of a stack that are kept, from the site outwards.
const KEPT: usize = 10;

/// The site of a stack.
#[derive(Debug)]
pub(super) struct Named {
    pub place: Place,
    pub line: u32,
    /// From the site outwards.
    pub stack: Vec<Frame>,
}

/// Names stacks of one heap, each once.
pub(super) struct Naming<'a> {
    heap: &'a Heap,
    names: &'a Names,
    paths: &'a Paths,
    sites: Sites<'a>,
    known: HashMap<StackIx, Rc<Named>>,
}

impl<'a> Naming<'a> {
    pub fn new(heap: &'a Heap, names: &'a Names, paths: &'a Paths) -> Naming<'a> {
        Naming {
            heap,
            names,
            paths,
            sites: Sites::new(heap, names, false),
            known: HashMap::new(),
        }
    }

    pub fn name(&mut self, stack: StackIx) -> Rc<Named> {
        if let Some(named) = self.known.get(&stack) {
            return named.clone();
        }
        let named = Rc::new(self.look(stack));
        self.known.insert(stack, named.clone());
        named
    }

    fn look(&mut self, stack: StackIx) -> Named {
        let Some(site) = self.sites.site(stack) else {
            return Named {
                place: Place::nowhere(),
                line: 0,
                stack: Vec::new(),
            };
        };
        // What an interpreter does between two lines of Python, and what a standard library does between a program's functions or before its
        // first, is their own affair, and differs from version to version.
        let is_shown = |place: &&symbols::Place| {
            let is_own = place.language == Language::Python || site.language == Language::Native && !is_runtime(place);
            is_own || std::ptr::eq(*place, site)
        };
        let outwards = self.names.stack(self.heap, stack);
        let from_site = outwards.skip_while(|place| !std::ptr::eq(*place, site));
        let frame = |place: &symbols::Place| Frame {
            place: Place::of(place, self.paths),
            line: place.line,
        };
        Named {
            place: Place::of(site, self.paths),
            line: site.line,
            stack: from_site.filter(is_shown).take(KEPT).map(frame).collect(),
        }
    }
}

fn is_runtime(place: &symbols::Place) -> bool {
    is_wrapper(place) || place.function.as_ref().is_some_and(|name| name.as_str() == "_start")
}
