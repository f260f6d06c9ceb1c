//! The whole recording, ready for questions.

use super::allocations::Item;
use super::strata::Strata;
use super::{Allocations, Clock, InheritedDeath, Level, Lineage, Lives, Mappings, Scale, Sweep, Totals, NEVER, PIECE};
use crate::index::IndexBytes;
use crate::tape::Catalog;
use crate::text::Text;
use heaptape_format::fold::MAX_MARKERS;
use heaptape_format::record::FoldedPeak;
use heaptape_format::Ending;
use heaptape_format::{Damage, EventNo, Micros, ProcessIx, ThreadIx};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Frees of an address at which no block was ever seen; where not all blocks were recorded, at which none was alive.
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
    pub(crate) totals: OnceLock<Totals>,
    /// The long-lived rows, listed apart: of a heap with an index.
    pub(crate) strata: Option<Strata>,
    /// Rows in groups of alike ones: of a heap with an index.
    pub(crate) lives: Option<Lives>,
    /// The index file that the tables lie in.
    pub(crate) index: Option<Arc<IndexBytes>>,
}

/// Rows that lie next to each other, in the table or in one of the strata, within one piece of a column.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    stratum: Option<usize>,
    pub(super) range: Range<usize>,
}

/// Rows that are looked at in one go: few enough that two threads are busy to the end.
const ROWS_AT_ONCE: usize = PIECE / 4;

/// A range of the table, or of one of the strata, in pieces.
pub(super) fn cut(stratum: Option<usize>, range: Range<usize>) -> impl Iterator<Item = Piece> {
    let mut from = range.start;
    std::iter::from_fn(move || {
        let until = range.end.min((from / ROWS_AT_ONCE + 1) * ROWS_AT_ONCE);
        let piece = (from < until).then_some(Piece {
            stratum,
            range: from..until,
        });
        from = until;
        piece
    })
}

impl Heap {
    /// The blocks and bytes that a row counts for: itself, or what it stands for in a sample.
    #[inline]
    pub fn level_of(&self, row: u32) -> Level {
        self.scale.level(row, self.allocations.size(row as usize).get())
    }

    #[inline]
    pub(crate) fn level(&self, item: &Item) -> Level {
        self.scale.level(item.row, item.size)
    }

    /// All rows of a range, in parts.
    pub(crate) fn pieces(&self, range: Range<usize>) -> Vec<Piece> {
        cut(None, range).collect()
    }

    /// All rows that may be alive at a moment, and perhaps others that were born before it. What [`Heap::visit`] with the moment's cut shows of them is alive,
    /// unless its process has ended.
    pub(crate) fn candidates(&self, cut_at: EventNo) -> Vec<Piece> {
        let born = self.allocations.born_before(cut_at);
        match &self.strata {
            None => self.pieces(0..born),
            Some(strata) => {
                let listed = strata.ranges(born);
                let listed = listed.flat_map(|(stratum, range)| cut(Some(stratum), range));
                listed.chain(cut(None, born / PIECE * PIECE..born)).collect()
            }
        }
    }

    /// All rows of a range that were never freed, and perhaps others.
    pub(crate) fn never_freed(&self, range: Range<usize>) -> Vec<Piece> {
        match &self.strata {
            None => self.pieces(range),
            Some(strata) => {
                let number = strata.never();
                let list = &strata.0[number];
                cut(
                    Some(number),
                    list.below(range.start as u64)..list.below(range.end as u64),
                )
                .collect()
            }
        }
    }

    /// Calls `visit` with every row of a piece that was not freed before an event.
    #[inline]
    pub(crate) fn visit(&self, piece: &Piece, not_before: u64, visit: impl FnMut(&Item)) {
        let range = piece.range.clone();
        match (piece.stratum, &self.strata) {
            (Some(number), Some(strata)) => strata.0[number].visit(range, not_before, visit),
            _ => self.allocations.visit(range, not_before, visit),
        }
    }

    /// The index file that the tables lie in; `None` when the tape was replayed.
    pub fn index_path(&self) -> Option<&Path> {
        self.index.as_ref().map(|index| index.path())
    }

    /// Whether the index file turned out to be damaged while it was used: what was asked of this heap then is not to be trusted.
    pub fn index_is_bad(&self) -> bool {
        self.index.as_ref().is_some_and(|index| index.is_bad())
    }

    /// The event before which the process image of a thread ended, or [`NEVER`].
    pub(crate) fn process_end_of(&self, thread: ThreadIx) -> EventNo {
        let process = self.catalog.process_of(thread);
        process.map_or(NEVER, |process| self.process_end(process))
    }

    /// The event at which a row stopped being alive: its free, or the end of its process, or [`NEVER`].
    ///
    /// The state just before the end of the process still has it.
    pub fn effective_death(&self, row: u32) -> EventNo {
        let row = row as usize;
        let end = self.process_end_of(self.allocations.thread(row));
        self.allocations.death(row).min(end)
    }

    /// The process image of a row; `None` when the tape does not describe its thread.
    pub fn process_of(&self, row: u32) -> Option<ProcessIx> {
        self.catalog.process_of(self.allocations.thread(row as usize))
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
        self.allocations.birth(row as usize) < moment.cut
            && self.allocations.death(row as usize) >= moment.cut
            && self.is_home_alive(self.allocations.thread(row as usize), moment)
    }

    /// Whether the process of a thread had not ended at a moment, as far as the tape tells.
    #[inline]
    pub(crate) fn is_home_alive(&self, thread: ThreadIx, moment: &Moment) -> bool {
        let process = self.catalog.process_of(thread);
        process.is_none_or(|process| self.is_process_alive(process, moment))
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
        if self.gaps.is_empty() || self.allocations.death(row as usize) != NEVER {
            return false;
        }
        let birth = self.allocations.birth(row as usize);
        let after = self.gaps.partition_point(|gap| gap.at <= birth);
        self.gaps
            .get(after)
            .is_some_and(|gap| gap.at <= moment.cut && gap.at <= self.effective_death(row))
    }

    /// The first state that is known: before anything happened, or where a keyframe ends.
    pub fn start(&self) -> Moment {
        let folded = self.catalog.folded.as_ref();
        Moment {
            cut: folded.map_or(EventNo(0), |folded| folded.cut),
            time: folded.map_or(Micros(0), |folded| folded.time),
            by_time: false,
        }
    }

    /// The state after the last event.
    pub fn end(&self) -> Moment {
        Moment {
            cut: self.clock.end_event().max(self.start().cut),
            time: self.duration(),
            by_time: false,
        }
    }

    /// The latest time that the tape knows.
    pub fn duration(&self) -> Micros {
        self.clock
            .last_time()
            .max(self.catalog.last_time)
            .max(self.start().time)
    }

    /// The first state with the most live bytes, exact to the event; `None` when nothing was allocated. Of the states that are known: see [`Heap::folded_peak`].
    pub fn peak(&self) -> Option<(Moment, Level)> {
        let (event, level) = (*self.peak.get_or_init(|| Sweep::new(self, |_| true).peak()))?;
        let moment = self.after(event);
        let start = self.start();
        Some((if moment.cut < start.cut { start } else { moment }, level))
    }

    /// The highest level of all, if it lies among the states that are not known any more.
    pub fn folded_peak(&self) -> Option<FoldedPeak> {
        let peak = self.catalog.folded.as_ref()?.peak?;
        let known = self.peak().map_or(0, |(_, level)| level.size);
        (u128::from(peak.bytes) >= known).then_some(peak)
    }

    /// The bytes and blocks that are alive at a moment.
    pub fn live_level(&self, moment: &Moment) -> Level {
        let parts = self.candidates(moment.cut).into_par_iter().map(|piece| {
            let mut level = Level::default();
            self.visit(&piece, moment.cut.get(), |item| {
                if self.is_home_alive(item.thread, moment) {
                    level.add(self.level(item));
                }
            });
            level
        });
        parts.reduce(Level::default, |mut sum, part| {
            sum.add(part);
            sum
        })
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
        let mut notes = self.notes_so_far();
        if !self.ended_cleanly() {
            notes.push(format!(
                "{}: the tape was not ended properly (still being written, or its writer was killed); it reads up to event #{}",
                self.name,
                self.clock.end_event().get()
            ));
        }
        notes
    }

    /// The notes on what is missing before the last event that could be read: empty for a sound tape that is still being written.
    pub fn notes_so_far(&self) -> Vec<String> {
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
        if self.scale.is_cut() {
            notes.push(format!(
                "{}: its samples are so far apart that sizes and counts of small blocks are cut off",
                self.name
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
    pub fn remarks(&self) -> Vec<String> {
        let mean = self.catalog.header.options.sample_bytes.filter(|&mean| mean > 0);
        let sample = mean.map(|mean| {
            format!(
                "{}: a sample of one block in {mean} bytes was recorded: sizes and counts are estimates from it",
                self.name
            )
        });
        let folded = self.catalog.folded.as_ref().map(|_| self.history());
        let peak = self.folded_peak().map(|peak| {
            format!(
                "{}: the peak, {} bytes, was reached before that, at {}: later levels are lower",
                self.name,
                peak.bytes,
                crate::report::elapsed(peak.time)
            )
        });
        let of_folded = folded.into_iter().chain(peak).chain(self.markers_gone());
        sample.into_iter().chain(of_folded).collect()
    }

    /// Of very many markers, a folded span keeps the latest: the others have no number any more.
    fn markers_gone(&self) -> Option<String> {
        let start = self.start().cut;
        let older = self.catalog.markers.iter().filter(|marker| marker.at < start);
        (older.count() >= MAX_MARKERS).then(|| {
            format!(
                "{}: of the markers before that, the latest {MAX_MARKERS} are known: markers are numbered from these on",
                self.name
            )
        })
    }

    /// From when on everything is known.
    pub fn history(&self) -> String {
        let start = self.start();
        format!(
            "{}: full history begins at {} (event #{}): what was freed before, or left by processes that ended, has been folded away to keep the tape small",
            self.name,
            crate::report::elapsed(start.time),
            start.cut.get()
        )
    }
}
