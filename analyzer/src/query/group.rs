//! What rows of a report are made of: the groupings and their keys.

use super::site::Sites;
use super::Query;
use crate::symbols::{Names, Place, View};
use crate::table::Heap;
use crate::tape::{FrameIx, StackIx};
use crate::text::Text;
use hashbrown::HashMap;
use heaptape_format::{AllocApi, ProcessIx, ThreadIx};
use serde::Serialize;
use std::fmt;

/// What allocations are grouped by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
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
    /// The module that is shown for a stack.
    Library,
    /// The thread that allocated.
    Thread,
    /// The process.
    Process,
    /// The entry point.
    Api,
    /// The size of a block.
    Size,
}

impl Group {
    /// Whether the stack decides the key.
    pub fn is_by_stack(self) -> bool {
        matches!(
            self,
            Group::Line | Group::File | Group::Traceback | Group::Function | Group::Library
        )
    }

    /// The part of the key that the stack does not decide, of a row; `process` is whose copy is counted.
    pub(crate) fn aux(self, heap: &Heap, row: u32, process: Option<ProcessIx>) -> u64 {
        let rows = &heap.allocations;
        match self {
            Group::Thread => u64::from(rows.thread[row as usize].get()),
            Group::Process => process.map_or(u64::MAX, |process| u64::from(process.get())),
            Group::Api => rows.api[row as usize] as u64,
            Group::Size => rows.size[row as usize],
            _ => 0,
        }
    }
}

/// One frame of a traceback.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct KeyFrame {
    /// `file:line`, or what is known instead.
    pub location: Text,
    /// The function, if known.
    pub function: Option<Text>,
}

impl KeyFrame {
    /// The frame of a place.
    pub fn of(place: &Place) -> KeyFrame {
        KeyFrame {
            location: Text::new(&place.location()),
            function: place.function.clone(),
        }
    }
}

/// What the allocations of a row have in common. Orders as tracemalloc does: by file, then line; tracebacks from their oldest frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// File, function, module, thread, ...; for a traceback the location of its shown frame.
    pub name: String,
    /// Line or size; 0 for none.
    pub number: u64,
    /// Frames of a traceback, oldest first.
    pub frames: Vec<KeyFrame>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name.as_str(), self.number) {
            ("", number) => write!(f, "blocks of {number} B"),
            (name, 0) => f.write_str(name),
            (name, line) => write!(f, "{name}:{line}"),
        }
    }
}

/// Longest traceback that is kept, innermost frames first; a hostile tape has deeper ones.
const DEEPEST: usize = 1000;

/// Makes keys for one heap.
pub(crate) struct Keys<'a> {
    heap: &'a Heap,
    names: &'a Names,
    group: Group,
    view: View,
    pub(crate) sites: Sites<'a>,
    /// The labels of frames met so far: tracebacks share their texts.
    labels: HashMap<FrameIx, Vec<KeyFrame>>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(heap: &'a Heap, names: &'a Names, query: &Query) -> Keys<'a> {
        Keys {
            heap,
            names,
            group: query.group,
            view: query.view,
            sites: Sites::new(heap, names, query.raw_frames),
            labels: HashMap::new(),
        }
    }

    /// The key of a group of rows, and the function that is shown for it.
    pub(crate) fn key(&mut self, stack: StackIx, aux: u64) -> (Key, Option<Text>) {
        if !self.group.is_by_stack() {
            return (self.plain(aux), None);
        }
        let site = match self.group {
            Group::Library => self.sites.library_site(stack),
            _ => self.sites.site(stack),
        };
        let Some(site) = site else {
            return (
                Key {
                    name: self.view.nothing().to_owned(),
                    ..Key::default()
                },
                None,
            );
        };
        let named = |name: String| Key { name, ..Key::default() };
        let key = match self.group {
            Group::Line => match &site.file {
                Some(file) if site.line > 0 => Key {
                    name: file.to_string(),
                    number: u64::from(site.line),
                    frames: Vec::new(),
                },
                _ => named(site.location()),
            },
            Group::File => match &site.file {
                Some(file) => named(file.to_string()),
                None if site.is_special() => named(site.location()),
                None => named(site.library_or_unknown().to_owned()),
            },
            Group::Function => named(match &site.function {
                Some(function) => function.to_string(),
                None => site.address(),
            }),
            Group::Library if site.is_special() => named(site.location()),
            Group::Library => named(site.library_or_unknown().to_owned()),
            _ => {
                let mut frames: Vec<KeyFrame> = Vec::new();
                for frame in self.heap.catalog.stacks.frames(stack) {
                    let labels = self.labels.entry(frame);
                    frames.extend_from_slice(
                        labels.or_insert_with(|| self.names.places(frame).iter().map(KeyFrame::of).collect()),
                    );
                    if frames.len() >= DEEPEST {
                        break;
                    }
                }
                frames.reverse();
                Key {
                    name: site.location(),
                    number: 0,
                    frames,
                }
            }
        };
        (key, site.function.clone())
    }

    fn plain(&self, aux: u64) -> Key {
        let catalog = &self.heap.catalog;
        let process = |ix: ProcessIx| match catalog.processes.get(ix.get() as usize) {
            Some(info) => format!("process {} {}", info.pid, info.exe),
            None => "[unknown process]".to_owned(),
        };
        let name = match self.group {
            Group::Thread => match catalog.threads.get(aux as usize) {
                Some(info) => {
                    let name = if info.name.as_str().is_empty() {
                        "(unnamed)"
                    } else {
                        info.name.as_str()
                    };
                    format!("thread {} {name}, {}", info.tid, process(info.process))
                }
                None => format!("[unknown thread {}]", ThreadIx(aux as u32).get()),
            },
            Group::Process => process(ProcessIx(u32::try_from(aux).unwrap_or(u32::MAX))),
            Group::Api => AllocApi::from_u8(aux as u8)
                .map_or("[unknown]", AllocApi::name)
                .to_owned(),
            _ => {
                return Key {
                    name: String::new(),
                    number: aux,
                    frames: Vec::new(),
                }
            }
        };
        Key { name, ..Key::default() }
    }
}
