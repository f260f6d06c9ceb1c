//! Which frame stands for a stack.
//!
//! Like tracemalloc, the most recent frame of Python, if there is one. An allocation without ends in layers that nobody wrote for this
//! program: `operator new`, `std::vector::push_back`, `alloc::vec::Vec::push`, `strdup`. These are skipped, so that the line shown is the
//! program's own. The rule is this file, is described in `docs/QUERIES.md`, and is switched off by `--raw-frames`.

use crate::symbols::{Language, Names, Place};
use crate::table::Heap;
use crate::tape::{FrameIx, StackIx, StackTable};

/// Modules that are allocators, language runtimes or the C library, by the beginning of their file names.
const LIBRARIES: &[&str] = &[
    "libheaptape",
    "libc.so",
    "libc-2.",
    "libc++",
    "libstdc++",
    "libgcc_s",
    "ld-linux",
    "ld-musl",
    "libpthread",
    "ld-2.",
];

/// Namespaces of the standard libraries of C++ and Rust.
const NAMESPACES: &[&str] = &[
    "std::",
    "__gnu_cxx::",
    "alloc::",
    "core::",
    "hashbrown::",
    "allocator_api2::",
];

/// Functions by the beginning of their names.
const FUNCTIONS: &[&str] = &[
    "operator new",
    "__rust_alloc",
    "__rust_realloc",
    "__rdl_",
    "__rg_",
    "__rustc::",
    "__libc_",
    "_int_malloc",
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
    "valloc",
    "pvalloc",
    "strdup",
    "strndup",
    "__strdup",
];

/// Whether a frame is a layer of an allocator or of a standard library.
pub fn is_wrapper(place: &Place) -> bool {
    if place.language == Language::Python {
        return false;
    }
    let library = place.library.basename();
    if LIBRARIES.iter().any(|name| library.starts_with(name)) {
        return true;
    }
    // Inline code of the standard libraries lies in the program's own module; its source file tells.
    if let Some(file) = &place.file {
        let file = file.as_str();
        if file.contains("/include/c++/") || file.starts_with("/rustc/") && file.contains("/library/") {
            return true;
        }
    }
    place
        .function
        .as_ref()
        .is_some_and(|function| is_wrapper_name(function.as_str()))
}

fn is_wrapper_name(name: &str) -> bool {
    if NAMESPACES.iter().any(|namespace| name.starts_with(namespace)) {
        return true;
    }
    if let Some(implementation) = name.strip_prefix('<') {
        // `<Type as Trait>::method` belongs to the type; a type without a path (`T`, `[u8]`) has no owner but the trait's.
        let (of, by) = implementation.split_once(" as ").unwrap_or((implementation, ""));
        let of = of
            .trim_start_matches(['&', '*', '[', '<', '('])
            .trim_start_matches("mut ");
        let by_runtime = NAMESPACES.iter().any(|namespace| by.starts_with(namespace));
        return NAMESPACES.iter().any(|namespace| of.starts_with(namespace)) || by_runtime && !of.contains("::");
    }
    FUNCTIONS.iter().any(|function| {
        name.strip_prefix(function).is_some_and(|rest| {
            // `malloc_stats_of_mine` is no `malloc`; `__libc_start` and `operator new[]` are families.
            function.ends_with(['_', ':', 'w']) || rest.is_empty() || rest.starts_with(['(', '@', '.'])
        })
    })
}

/// Finds the frames that stand for stacks. What a view hides is not there.
pub(crate) struct Sites<'a> {
    names: &'a Names,
    raw_frames: bool,
    python: Search<'a>,
    native: Search<'a>,
    any: Search<'a>,
}

impl<'a> Sites<'a> {
    pub(crate) fn new(heap: &'a Heap, names: &'a Names, raw_frames: bool) -> Sites<'a> {
        let search = |is_wanted| Search::new(heap, names, is_wanted);
        Sites {
            names,
            raw_frames,
            python: search(|place| place.language == Language::Python),
            native: search(|place| place.language == Language::Native && !is_wrapper(place)),
            any: search(|_| true),
        }
    }

    /// The place that stands for a stack; `None` for the empty one.
    pub(crate) fn site(&mut self, stack: StackIx) -> Option<&'a Place> {
        self.choose(stack, |sites| {
            sites.python.find(stack).or_else(|| sites.native.find(stack))
        })
    }

    /// The place that tells which module a stack's memory belongs to: a native one where there is any.
    pub(crate) fn library_site(&mut self, stack: StackIx) -> Option<&'a Place> {
        self.choose(stack, |sites| {
            sites.native.find(stack).or_else(|| sites.python.find(stack))
        })
    }

    fn choose(&mut self, stack: StackIx, best: impl Fn(&mut Sites<'a>) -> Option<(FrameIx, u32)>) -> Option<&'a Place> {
        let chosen = if self.raw_frames { None } else { best(self) };
        // With nothing but runtime all the way out, the innermost frame stands.
        let (frame, place) = chosen.or_else(|| self.any.find(stack))?;
        self.names.places(frame).get(place as usize)
    }
}

/// The innermost wanted place of each stack, looked for once.
struct Search<'a> {
    heap: &'a Heap,
    names: &'a Names,
    is_wanted: fn(&Place) -> bool,
    /// By frame: its innermost wanted place. Outer `None`: not looked at yet.
    visible: Vec<Option<Option<u32>>>,
    /// By stack, likewise.
    sites: Vec<Option<Option<(FrameIx, u32)>>>,
}

impl<'a> Search<'a> {
    fn new(heap: &'a Heap, names: &'a Names, is_wanted: fn(&Place) -> bool) -> Search<'a> {
        let trie = &heap.catalog.stacks;
        Search {
            heap,
            names,
            is_wanted,
            visible: vec![None; trie.frame_count()],
            sites: vec![None; trie.len()],
        }
    }

    fn find(&mut self, stack: StackIx) -> Option<(FrameIx, u32)> {
        let trie = &self.heap.catalog.stacks;
        let mut walked = Vec::new();
        let mut at = stack;
        let found = loop {
            if at == StackTable::ROOT {
                break None;
            }
            if let Some(known) = self.sites[at.0 as usize] {
                break known;
            }
            walked.push(at);
            let (Some(frame), Some(parent)) = (trie.frame(at), trie.parent(at)) else {
                break None;
            };
            let (names, is_wanted) = (self.names, self.is_wanted);
            let visible = self.visible[frame.0 as usize].get_or_insert_with(|| {
                let place = names.places(frame).iter().position(is_wanted);
                place.map(|place| place as u32)
            });
            if let Some(place) = *visible {
                break Some((frame, place));
            }
            at = parent;
        };
        for stack in walked {
            self.sites[stack.0 as usize] = Some(found);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_allocators_and_standard_libraries_are_skipped_and_nothing_else() {
        for name in [
            "operator new(unsigned long)",
            "operator new[](unsigned long)",
            "std::vector<int, std::allocator<int> >::push_back(int&&)",
            "__rust_alloc",
            "__rdl_realloc",
            "alloc::vec::Vec<T,A>::push",
            "<alloc::string::String as core::clone::Clone>::clone",
            "<[T] as alloc::slice::hack::ConvertVec>::to_vec",
            "hashbrown::raw::RawTable<T,A>::reserve_rehash",
            "strdup",
            "malloc",
        ] {
            assert!(is_wrapper_name(name), "{name}");
        }
        for name in [
            "main",
            "standard::thing",
            "malloc_everything",
            "my::alloc::thing",
            "<mine::Thing as core::clone::Clone>::clone",
            "newspaper",
            "allocate",
        ] {
            assert!(!is_wrapper_name(name), "{name}");
        }
    }
}
