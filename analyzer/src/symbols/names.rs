//! Where a frame lies in the source, and the names of all frames that a query needs.

use crate::table::Heap;
use crate::tape::{FrameIx, ModuleInfo, PlaceKind, StackIx, StackTable};
use crate::text::Text;
use serde::Serialize;

/// The module of code that a program made while it ran.
const MADE_CODE: &str = "[made at run time]";

/// Which frames of the stacks are looked at. The blocks are the same in every view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// All: Python frames among the native ones that run them.
    #[default]
    Merged,
    /// Python frames only.
    Python,
    /// Native frames only.
    Native,
}

impl View {
    /// Whether it shows a frame. What says that a stack is not whole is shown always.
    pub fn shows(self, kind: PlaceKind) -> bool {
        match kind {
            PlaceKind::Native { .. } | PlaceKind::Raw { .. } => self != View::Python,
            PlaceKind::Python { .. } => self != View::Native,
            PlaceKind::Truncated | PlaceKind::Lost | PlaceKind::Unknown => true,
        }
    }

    /// What stands for a stack without any frame to show.
    pub fn nothing(self) -> &'static str {
        match self {
            View::Merged => "[no stack]",
            View::Python => "[no Python frame]",
            View::Native => "[no native frame]",
        }
    }
}

/// What a frame's code is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Whatever became machine code.
    #[default]
    Native,
    /// Python.
    Python,
}

/// One frame of the source. Where functions are inlined, one frame of the machine is several of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The function's readable name, if known.
    pub function: Option<Text>,
    /// The source file, if known.
    pub file: Option<Text>,
    /// The line, from 1; 0 when not known.
    pub line: u32,
    /// The line at which the function is declared, from 1; 0 when not known.
    #[serde(skip)]
    pub declared: u32,
    /// Path of the module; empty when the frame lies in none.
    pub library: Text,
    /// The return address in the module's own address space (or in memory, without a module).
    pub offset: u64,
    /// Whether the compiler put it into its caller.
    pub inlined: bool,
    /// What it is written in.
    pub language: Language,
}

impl Place {
    /// The place of a frame of which nothing but its address is known.
    pub fn without_symbols(heap: &Heap, kind: PlaceKind) -> Place {
        let special = |name: &str| Place {
            function: Some(Text::new(name)),
            ..Place::default()
        };
        match kind {
            PlaceKind::Python { code, line } => match heap.catalog.code(code) {
                Some(info) => Place {
                    function: Some(info.name.clone()),
                    file: Some(info.file.clone()),
                    line,
                    declared: info.first_line,
                    language: Language::Python,
                    ..Place::default()
                },
                None => Place {
                    language: Language::Python,
                    ..special("[unknown Python code]")
                },
            },
            PlaceKind::Native { module, offset } => Place {
                library: heap
                    .catalog
                    .module(module)
                    .map(|info| info.path.clone())
                    .unwrap_or_default(),
                offset,
                ..Place::default()
            },
            PlaceKind::Raw { address, .. } => Place {
                offset: address.get(),
                ..Place::default()
            },
            PlaceKind::Truncated => special("[stack cut short]"),
            PlaceKind::Lost => special("[stack lost]"),
            PlaceKind::Unknown => special("[unknown kind of frame]"),
        }
    }

    /// A frame in no module: code that the program made while it ran has the name that the program gave it.
    pub(super) fn in_no_module(heap: &Heap, frame: FrameIx, kind: PlaceKind) -> Place {
        let bare = Place::without_symbols(heap, kind);
        match heap.catalog.names.code(frame) {
            Some(name) => Place {
                function: Some(name.clone()),
                library: Text::new(MADE_CODE),
                ..bare
            },
            None => bare,
        }
    }

    /// A frame of a module as the tape names it, innermost first; one place without a name when it does not.
    pub(super) fn kept(heap: &Heap, info: &ModuleInfo, frame: FrameIx, offset: u64) -> Vec<Place> {
        let bare = Place {
            library: info.path.clone(),
            offset,
            ..Place::default()
        };
        let kept = heap.catalog.names.places(frame);
        let kept_in_all = kept.len();
        let places = kept.iter().enumerate().map(|(number, kept)| Place {
            function: kept.function.clone(),
            file: kept.file.clone(),
            line: kept.line,
            declared: kept.declared,
            inlined: number + 1 < kept_in_all,
            ..bare.clone()
        });
        let places: Vec<Place> = places.collect();
        if places.is_empty() {
            vec![bare]
        } else {
            places
        }
    }

    /// Whether this stands for something that is no place in a program.
    pub fn is_special(&self) -> bool {
        self.library.as_str().is_empty() && self.file.is_none() && self.function.is_some()
    }

    /// `file.c:12`, else `libfoo.so (function)`, else `libfoo.so+0x1234 (??)`.
    ///
    /// The offset is left out where the function is known, so that two builds of a program can be compared.
    pub fn location(&self) -> String {
        match (&self.file, &self.function) {
            (Some(file), _) if self.line > 0 => format!("{file}:{}", self.line),
            (Some(file), _) => format!("{file}:?"),
            (None, Some(function)) if self.is_special() => function.to_string(),
            (None, Some(function)) => format!("{} ({function})", self.library_or_unknown()),
            (None, None) => format!("{} (??)", self.address()),
        }
    }

    /// `libfoo.so+0x1234`, or the bare address of code in no module.
    pub fn address(&self) -> String {
        format!("{}+{:#x}", self.library_or_unknown(), self.offset)
    }

    /// The frame in a flame graph: the function's name, else its address. A Python frame is `file.py:function:line`, since a function is
    /// long and its lines are what a user asks for.
    pub fn flame_name(&self) -> String {
        match (&self.function, &self.file) {
            (Some(function), Some(file)) if self.language == Language::Python => {
                format!("{}:{function}:{}", file.basename(), self.line)
            }
            (Some(function), _) => function.to_string(),
            (None, _) => format!("?? ({}+{:#x})", self.library.basename_or("no module"), self.offset),
        }
    }

    /// Path of the module, or what to say instead.
    pub fn library_or_unknown(&self) -> &str {
        match (self.library.as_str(), self.language) {
            ("", Language::Python) => "[Python code]",
            ("", Language::Native) => "[no module]",
            (library, _) => library,
        }
    }
}

impl Text {
    fn basename_or<'a>(&'a self, otherwise: &'a str) -> &'a str {
        if self.as_str().is_empty() {
            otherwise
        } else {
            self.basename()
        }
    }
}

/// Turns frames into places of the source.
pub trait Resolver: Sync {
    /// The places of each frame, innermost first; at least one for every frame.
    fn resolve(&self, heap: &Heap, frames: &[FrameIx]) -> Vec<Vec<Place>>;
}

/// The places of the frames on chosen stacks.
#[derive(Debug)]
pub struct Names {
    /// By frame; empty for frames that were not asked for and for those that the view hides.
    places: Vec<Vec<Place>>,
}

impl Names {
    /// Looks up every frame on the given stacks that the view shows.
    pub fn of(heap: &Heap, resolver: &dyn Resolver, view: View, stacks: impl IntoIterator<Item = StackIx>) -> Names {
        let trie = &heap.catalog.stacks;
        let mut seen = vec![false; trie.len()];
        let mut wanted = vec![false; trie.frame_count()];
        for stack in stacks {
            let mut at = stack;
            while at != StackTable::ROOT && !std::mem::replace(&mut seen[at.0 as usize], true) {
                if let (Some(frame), Some(parent)) = (trie.frame(at), trie.parent(at)) {
                    wanted[frame.0 as usize] = true;
                    at = parent;
                }
            }
        }
        let frames: Vec<FrameIx> = (0..wanted.len() as u32)
            .map(FrameIx)
            .filter(|&frame| wanted[frame.0 as usize] && view.shows(trie.kind(frame)))
            .collect();
        let mut places = vec![Vec::new(); wanted.len()];
        for (frame, found) in frames.iter().zip(resolver.resolve(heap, &frames)) {
            places[frame.0 as usize] = found;
        }
        Names { places }
    }

    /// Whether a stack's innermost frame is one to show.
    pub fn shows(&self, heap: &Heap, stack: StackIx) -> bool {
        let frame = heap.catalog.stacks.frame(stack);
        frame.is_some_and(|frame| !self.places(frame).is_empty())
    }

    /// The places of one frame, innermost first.
    pub fn places(&self, frame: FrameIx) -> &[Place] {
        &self.places[frame.0 as usize]
    }

    /// The places of a stack, innermost first.
    pub fn stack<'a>(&'a self, heap: &'a Heap, stack: StackIx) -> impl Iterator<Item = &'a Place> + 'a {
        heap.catalog.stacks.frames(stack).flat_map(|frame| self.places(frame))
    }
}
