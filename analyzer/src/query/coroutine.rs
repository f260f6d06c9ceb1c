//! Which coroutine an event loop of asyncio was running: the outermost function of a task, whatever it called and awaited.
//!
//! A stack tells: the loop runs everything by `Handle._run` of `asyncio/events.py`, and the first frame of Python inside of that call, outside of asyncio itself, is the coroutine of the
//! task, or the callback that was asked for. A loop inside another one counts for what it runs itself.

use crate::symbols::{Language, Names, Place};
use crate::table::Heap;
use crate::tape::{FrameIx, StackIx, StackTable};

/// What a stack says, from the outermost frame up to one of its frames.
#[derive(Clone, Copy)]
enum Run {
    /// No loop runs anything.
    Outside,
    /// A loop runs something that is yet to come.
    Begun,
    /// It runs this.
    Function(FrameIx, u32),
}

/// Finds the coroutines of stacks, each looked for once.
pub(crate) struct Coroutines<'a> {
    heap: &'a Heap,
    names: &'a Names,
    /// By stack.
    runs: Vec<Option<Run>>,
}

impl<'a> Coroutines<'a> {
    pub(crate) fn new(heap: &'a Heap, names: &'a Names) -> Coroutines<'a> {
        Coroutines {
            heap,
            names,
            runs: Vec::new(),
        }
    }

    /// The coroutine or callback that was run; `None` when no loop of asyncio is on the stack.
    pub(crate) fn find(&mut self, stack: StackIx) -> Option<&'a Place> {
        match self.run(stack) {
            Run::Function(frame, place) => self.names.places(frame).get(place as usize),
            Run::Outside | Run::Begun => None,
        }
    }

    fn run(&mut self, stack: StackIx) -> Run {
        let trie = &self.heap.catalog.stacks;
        self.runs.resize(trie.len(), None);
        let mut inner = Vec::new();
        let mut at = stack;
        let mut run = loop {
            if at == StackTable::ROOT {
                break Run::Outside;
            }
            if let Some(known) = self.runs[at.0 as usize] {
                break known;
            }
            let (Some(frame), Some(parent)) = (trie.frame(at), trie.parent(at)) else {
                break Run::Outside;
            };
            inner.push((at, frame));
            at = parent;
        };
        for (at, frame) in inner.into_iter().rev() {
            run = self.step(run, frame);
            self.runs[at.0 as usize] = Some(run);
        }
        run
    }

    /// One frame further in.
    fn step(&self, run: Run, frame: FrameIx) -> Run {
        for (index, place) in (0..).zip(self.names.places(frame)) {
            if is_handle(place) {
                return Run::Begun;
            }
            if matches!(run, Run::Begun) && place.language == Language::Python && !is_asyncio(place) {
                return Run::Function(frame, index);
            }
        }
        run
    }
}

/// Whether a frame is that of `Handle._run`.
fn is_handle(place: &Place) -> bool {
    let function = place.function.as_ref().map_or("", |function| function.as_str());
    is_asyncio(place)
        && place
            .file
            .as_ref()
            .is_some_and(|file| file.as_str().ends_with("/events.py"))
        && function.rsplit('.').next() == Some("_run")
}

/// Whether a frame is of asyncio itself.
fn is_asyncio(place: &Place) -> bool {
    let file = place.file.as_ref().map_or("", |file| file.as_str());
    place.language == Language::Python && file.rsplit('/').nth(1) == Some("asyncio")
}
