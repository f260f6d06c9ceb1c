//! What the allocations of a row have in common, in words.

use super::coroutine::Coroutines;
use super::group::{Facts, Grouping};
use super::kind::Kind;
use super::site::Sites;
use super::{Group, Query};
use crate::symbols::{Names, Place, Sources, View};
use crate::table::Heap;
use crate::tape::{FrameIx, StackIx};
use crate::text::Text;
use hashbrown::HashMap;
use heaptape_format::{AllocApi, ProcessIx, ThreadIx};
use serde::Serialize;
use std::fmt;

/// One frame of a traceback.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct KeyFrame {
    /// `file:line`, or what is known instead.
    pub location: Text,
    /// The function, if known.
    pub function: Option<Text>,
    /// The text of the line, once [`Key::find_sources`] found it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Text>,
    /// File and line, if known.
    #[serde(skip)]
    place: Option<(Text, u32)>,
}

impl KeyFrame {
    /// The frame of a place.
    pub fn of(place: &Place) -> KeyFrame {
        let file = place.file.clone().filter(|_| place.line > 0);
        KeyFrame {
            location: Text::new(&place.location()),
            function: place.function.clone(),
            source: None,
            place: file.map(|file| (file, place.line)),
        }
    }

    /// What stands where there is no frame.
    pub(crate) fn without_place(name: &str) -> KeyFrame {
        KeyFrame {
            location: Text::new(name),
            function: None,
            source: None,
            place: None,
        }
    }

    /// The function, unless the location tells it already.
    pub fn function_beside(&self) -> Option<&Text> {
        let location = self.location.as_str();
        self.function.as_ref().filter(|function| {
            let inside = location
                .strip_suffix(')')
                .and_then(|rest| rest.strip_suffix(function.as_str()));
            location != function.as_str() && !inside.is_some_and(|rest| rest.ends_with('('))
        })
    }

    fn find_source(&mut self, sources: &Sources) {
        self.source = self.place.as_ref().and_then(|(file, line)| sources.line(file, *line));
    }
}

/// One property of a key. Orders as tracemalloc does: by file, then line; tracebacks from their oldest frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// File, function, module, thread, ...; for a traceback the location of its shown frame.
    pub name: String,
    /// Line or size; 0 for none.
    pub number: u64,
    /// Frames of a traceback, oldest first.
    pub frames: Vec<KeyFrame>,
    /// The text of the line, once [`Key::find_sources`] found it.
    pub source: Option<Text>,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name.as_str(), self.number) {
            ("", number) => write!(f, "blocks of {number} B"),
            (name, 0) => f.write_str(name),
            (name, line) => write!(f, "{name}:{line}"),
        }
    }
}

/// What the allocations of a row have in common: a part for each property that is grouped by, in that order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Vec<Part>);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{part}")?;
        }
        Ok(())
    }
}

impl Key {
    /// The frames of its traceback, oldest first; empty without one.
    pub fn frames(&self) -> &[KeyFrame] {
        let part = self.0.iter().find(|part| !part.frames.is_empty());
        part.map_or(&[], |part| &part.frames)
    }

    /// The text of its line, if it has one and it was found.
    pub fn source(&self) -> Option<&Text> {
        self.0.iter().find_map(|part| part.source.as_ref())
    }

    /// Looks up the text of its lines.
    pub fn find_sources(&mut self, by: &Grouping, sources: &Sources) {
        for (part, &group) in self.0.iter_mut().zip(by.groups()) {
            if let (Group::Line, Ok(line @ 1..)) = (group, u32::try_from(part.number)) {
                part.source = sources.line(&Text::new(&part.name), line);
            }
            part.frames.iter_mut().for_each(|frame| frame.find_source(sources));
        }
    }
}

/// Longest traceback that is kept, innermost frames first; a hostile tape has deeper ones.
const DEEPEST: usize = 1000;

/// Makes keys for one heap.
pub(crate) struct Keys<'a> {
    heap: &'a Heap,
    names: &'a Names,
    by: &'a Grouping,
    view: View,
    pub(crate) sites: Sites<'a>,
    coroutines: Coroutines<'a>,
    /// The labels of frames met so far: tracebacks share their texts.
    labels: HashMap<FrameIx, Vec<KeyFrame>>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(heap: &'a Heap, names: &'a Names, query: &'a Query) -> Keys<'a> {
        Keys {
            heap,
            names,
            by: &query.by,
            view: query.view,
            sites: Sites::new(heap, names, query.raw_frames),
            coroutines: Coroutines::new(heap, names),
            labels: HashMap::new(),
        }
    }

    /// The key of a group of rows, and the function that is shown for it.
    pub(crate) fn key(&mut self, stack: StackIx, facts: Facts) -> (Key, Option<Text>) {
        let by = self.by;
        let mut function = None;
        let parts = by.groups().iter().map(|&group| {
            if group.is_by_stack() {
                let (part, shown) = self.by_stack(group, stack);
                function = shown.or(function.take());
                part
            } else {
                self.by_fact(group, facts)
            }
        });
        (Key(parts.collect()), function)
    }

    fn by_stack(&mut self, group: Group, stack: StackIx) -> (Part, Option<Text>) {
        let site = match group {
            Group::Library => self.sites.library_site(stack),
            _ => self.sites.site(stack),
        };
        let named = |name: String| Part {
            name,
            ..Part::default()
        };
        if group == Group::Coroutine {
            let run = self.coroutines.find(stack).and_then(|run| run.function.as_ref());
            let name = run.map_or("[outside asyncio]", |function| function.as_str());
            return (named(name.to_owned()), None);
        }
        let Some(site) = site else {
            return (named(self.view.nothing().to_owned()), None);
        };
        let part = match group {
            Group::Line => match &site.file {
                Some(file) if site.line > 0 => Part {
                    number: u64::from(site.line),
                    ..named(file.to_string())
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
            _ => Part {
                frames: self.traceback(stack),
                ..named(site.location())
            },
        };
        (part, site.function.clone())
    }

    fn traceback(&mut self, stack: StackIx) -> Vec<KeyFrame> {
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
        frames
    }

    fn by_fact(&self, group: Group, facts: Facts) -> Part {
        let catalog = &self.heap.catalog;
        let fact = self.by.fact(facts, group).unwrap_or(0);
        let process = |ix: ProcessIx| match catalog.processes.get(ix.get() as usize) {
            Some(info) => format!("process {} {}", info.pid, info.exe),
            None => "[unknown process]".to_owned(),
        };
        let name = match group {
            Group::Thread => match catalog.threads.get(fact as usize) {
                Some(info) => {
                    let name = if info.name.as_str().is_empty() {
                        "(unnamed)"
                    } else {
                        info.name.as_str()
                    };
                    format!("thread {} {name}, {}", info.tid, process(info.process))
                }
                None => format!("[unknown thread {}]", ThreadIx(fact as u32).get()),
            },
            Group::Process => process(ProcessIx(fact as u32)),
            Group::Api => AllocApi::from_u8(fact as u8)
                .map_or("[unknown]", AllocApi::name)
                .to_owned(),
            Group::Domain => crate::table::Domain::ALL
                .get(fact as usize)
                .map_or("[unknown]", |domain| domain.name())
                .to_owned(),
            Group::Type => match self.by.kind(facts) {
                Some(Kind::Object(kind)) => match catalog.types.get(kind.get() as usize) {
                    Some(name) if !name.as_str().is_empty() => name.to_string(),
                    _ => "[unnamed type]".to_owned(),
                },
                Some(Kind::Untyped(domain)) => format!("[no type: {}]", domain.name()),
                None => "[unknown]".to_owned(),
            },
            _ => {
                return Part {
                    number: fact,
                    ..Part::default()
                }
            }
        };
        Part {
            name,
            ..Part::default()
        }
    }
}
