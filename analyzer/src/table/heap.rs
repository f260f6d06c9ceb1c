//! The whole recording, ready for questions.

use super::{Allocations, Clock, InheritedDeath, Level, Lineage, Mappings, Scale, Sweep, NEVER};
use crate::tape::Catalog;
use crate::text::Text;
use heaptape_format::Ending;
use heaptape_format::{Damage, EventNo, Micros, ProcessIx};
use serde::Serialize;
use std::sync::OnceLock;

/// A state of the heap: after all events with a lower number than `cut`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Events before this one have happened.
    pub cut: EventNo,
    /// When, since the recording began.
    pub time: Micros,
    /// Whether the time decides about processes that ended between two events. When it was asked for by a place in the order of
    /// events (`@end`, `@peak`), a process that ended at this very place still counts as alive.
    pub by_time: bool,
}

/// What was counted while the tape was replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Events as they are shown in totals: a `realloc` is a free and an allocation.
    pub events: u64,
    /// Blocks that came to life.
    pub allocations: u64,
    /// Frees that found their block, those by `realloc` included.
    pub frees: u64,
    /// All bytes ever asked for.
    pub bytes_allocated: u128,
    /// Frees of a block that had been freed already.
    pub double_frees: u64,
    /// Frees of an address at which no block was ever seen.
    pub unknown_frees: u64,
    /// Blocks whose free was not seen: another block was born at their address.
    pub lost_frees: u64,
    /// Frees, by a forked child, of blocks that it inherited.
    pub inherited_frees: u64,
    /// Heap events of threads that the tape does not describe.
    pub unknown_threads: u64,
    /// Events that name types of objects that the tape does not describe.
    pub unknown_types: u64,
    /// Rows that did not fit into the table.
    pub overflow: u64,
}

/// A place in the tape where events are missing: a block that was alive there and is never freed later may have been freed inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Before this event.
    #[serde(serialize_with = "event_number")]
    pub at: EventNo,
    /// How many events are missing, if that is known.
    pub events: Option<u64>,
    /// What happened.
    pub cause: Text,
}

fn event_number<S: serde::Serializer>(event: &EventNo, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(event.get())
}

/// The whole recording.
#[derive(Debug)]
pub struct Heap {
    /// Name of the tape, for messages and reports.
    pub name: Text,
    /// Processes, threads, modules, markers, samples, stacks.
    pub catalog: Catalog,
    /// One row per block that ever lived.
    pub allocations: Allocations,
    /// One row per piece of a mapping that ever existed.
    pub mappings: Mappings,
    /// Deaths, in forked children, of blocks that they inherited.
    pub inherited_deaths: Vec<InheritedDeath>,
    /// Times of events.
    pub clock: Clock,
    /// What was counted.
    pub counters: Counters,
    /// All damage, of block headers and of contents, in the order of the file.
    pub damage: Vec<Damage>,
    /// Places where frees may be missing, in the order of events.
    pub gaps: Vec<Gap>,
    /// How the file ends.
    pub ending: Ending,
    /// Length of the file in bytes.
    pub file_length: u64,
    /// What a row counts for.
    pub scale: Scale,
    pub(crate) peak: OnceLock<Option<(EventNo, Level)>>,
}

impl Heap {
    /// The blocks and bytes that a row counts for: itself, or what it stands for in a sample.
    #[inline]
    pub fn level_of(&self, row: u32) -> Level {
        self.scale.level(row, self.allocations.size[row as usize])
    }

    /// The event at which a row stopped being alive: its free, or the end of its process, or [`NEVER`].
    ///
    /// The state just before the end of the process still has it.
    pub fn effective_death(&self, row: u32) -> EventNo {
        let freed = EventNo(self.allocations.death[row as usize]);
        freed.min(self.process_of(row).map_or(NEVER, |process| self.process_end(process)))
    }

    /// The process image of a row; `None` when the tape does not describe its thread.
    pub fn process_of(&self, row: u32) -> Option<ProcessIx> {
        self.catalog.process_of(self.allocations.thread[row as usize])
    }

    /// The event before which a process image ended, or [`NEVER`].
    pub fn process_end(&self, process: ProcessIx) -> EventNo {
        let end = self
            .catalog
            .processes
            .get(process.get() as usize)
            .and_then(|info| info.end);
        end.map_or(NEVER, |end| end.at)
    }

    /// Whether a row is part of the heap at a moment.
    pub fn is_live(&self, row: u32, moment: &Moment) -> bool {
        self.allocations.birth[row as usize] < moment.cut.get()
            && self.allocations.death[row as usize] >= moment.cut.get()
            && self
                .process_of(row)
                .is_none_or(|process| self.is_process_alive(process, moment))
    }

    /// Whether a process image had not ended at a moment.
    pub fn is_process_alive(&self, process: ProcessIx, moment: &Moment) -> bool {
        match self
            .catalog
            .processes
            .get(process.get() as usize)
            .and_then(|info| info.end)
        {
            None => true,
            Some(end) => moment.cut < end.at || moment.cut == end.at && !(moment.by_time && moment.time > end.time),
        }
    }

    /// Whether a row that looks alive at a moment may have been freed where events are missing.
    pub fn is_doubtful(&self, row: u32, moment: &Moment) -> bool {
        if self.gaps.is_empty() || self.allocations.death[row as usize] != NEVER.get() {
            return false;
        }
        let birth = self.allocations.birth[row as usize];
        let after = self.gaps.partition_point(|gap| gap.at.get() <= birth);
        self.gaps
            .get(after)
            .is_some_and(|gap| gap.at <= moment.cut && gap.at <= self.effective_death(row))
    }

    /// The state before anything happened.
    pub fn start(&self) -> Moment {
        Moment {
            cut: EventNo(0),
            time: Micros(0),
            by_time: false,
        }
    }

    /// The state after the last event.
    pub fn end(&self) -> Moment {
        Moment {
            cut: self.clock.end_event(),
            time: self.duration(),
            by_time: false,
        }
    }

    /// The latest time that the tape knows.
    pub fn duration(&self) -> Micros {
        self.clock.last_time().max(self.catalog.last_time)
    }

    /// The first state with the most live bytes, exact to the event; `None` when nothing was allocated.
    pub fn peak(&self) -> Option<(Moment, Level)> {
        let (event, level) = (*self.peak.get_or_init(|| Sweep::new(self, |_| true).peak()))?;
        Some((self.after(event), level))
    }

    /// The state just after an event.
    pub fn after(&self, event: EventNo) -> Moment {
        Moment {
            cut: EventNo(event.get().saturating_add(1)),
            time: self.clock.time_of(event),
            by_time: false,
        }
    }

    /// Which process began as a copy of which.
    pub fn lineage(&self) -> Lineage<'_> {
        Lineage::new(&self.catalog.processes)
    }

    /// Whether anything is known to be missing from the tape.
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty() || self.catalog.stacks_incomplete || self.counters.overflow > 0
    }

    /// Whether the writer ended the tape properly.
    pub fn ended_cleanly(&self) -> bool {
        matches!(self.ending, Ending::Clean(_))
    }

    /// Notes that belong to every result drawn from this tape: what is missing and what it means. Empty for a sound tape.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.damage.is_empty() {
            let lost: u64 = self
                .damage
                .iter()
                .filter_map(|d| d.lost_events)
                .fold(0, u64::saturating_add);
            let open = if self.damage.iter().any(|d| d.lost_events.is_none()) {
                " at least"
            } else {
                ""
            };
            notes.push(format!(
                "{}: damaged in {} place(s),{open} {lost} event(s) lost; what follows is what could be read (list: heaptape verify)",
                self.name,
                self.damage.len()
            ));
        }
        if self.catalog.records_lost {
            notes.push(format!(
                "{}: records of processes, threads, modules, code or types are lost; names and processes shown after that may be others'",
                self.name
            ));
        }
        if self.catalog.stacks_incomplete {
            notes.push(format!("{}: some stacks are lost and shown as [stack lost]", self.name));
        }
        if !self.ended_cleanly() {
            notes.push(format!(
                "{}: the tape was not ended properly (still being written, or its writer was killed); it reads up to event #{}",
                self.name,
                self.clock.end_event().get()
            ));
        }
        let lost: u64 = self
            .catalog
            .losses
            .iter()
            .map(|loss| loss.events)
            .fold(0, u64::saturating_add);
        if !self.catalog.losses.is_empty() {
            notes.push(format!(
                "{}: the recorder reports {} loss(es), {lost} event(s) in all (list: heaptape info)",
                self.name,
                self.catalog.losses.len()
            ));
        }
        if self.counters.overflow > 0 {
            notes.push(format!(
                "{}: {} allocation(s) beyond what this version can hold",
                self.name, self.counters.overflow
            ));
        }
        notes
    }
    /// What whoever reads the numbers must know although nothing is missing.
    pub fn remark(&self) -> Option<String> {
        let mean = self.catalog.header.options.sample_bytes.filter(|&mean| mean > 0)?;
        Some(format!(
            "{}: a sample of one block in {mean} bytes was recorded: sizes and counts are estimates from it",
            self.name
        ))
    }
}
