//! From a file to a heap. The file may hold anything.

use super::bytes::IndexBytes;
use super::layout::{ColumnPlace, Head, Rest, StratumPlace};
use super::stamp::Stamp;
use crate::replay::gaps;
use crate::table::{
    Allocations, Clock, Column, FileColumn, Heap, Mappings, Number, Run, Scale, Strata, Stratum, Wide, PIECE, STRATA,
};
use crate::tape::{Catalog, Tape};
use crate::text::Text;
use heaptape_format::{read_events, BlockKind, Damage, EventColumns};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Why a file is not the index of a tape.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unusable {
    /// It cannot be read, or is not there.
    Io(io::Error),
    /// It is damaged, or of another version.
    Damaged,
    /// It belongs to another tape, or to another state of it.
    Stale,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Io(error) => write!(f, "cannot read the index: {error}"),
            Unusable::Damaged => f.write_str("the index is damaged, or of another version"),
            Unusable::Stale => f.write_str("the index belongs to another tape, or to another state of it"),
        }
    }
}

impl std::error::Error for Unusable {}

/// The heap of a tape by its index. The columns stay in the file and are checked as they are used: see [`Heap::index_is_bad`].
///
/// # Errors
/// When the file is not the index of this tape as it is now.
pub fn read(tape: &Tape, name: &str, path: &Path) -> Result<Heap, Unusable> {
    if cfg!(target_endian = "big") {
        return Err(Unusable::Damaged);
    }
    let bytes = Arc::new(IndexBytes::open(path).map_err(Unusable::Io)?);
    let rest = rest(&bytes).ok_or(Unusable::Damaged)?;
    if rest.stamp != Stamp::of(tape) {
        return Err(Unusable::Stale);
    }
    let mut catalog = Catalog::read(tape);
    let mut damage: Vec<Damage> = tape.damage().to_vec();
    damage.append(&mut catalog.damage);
    damage.extend(broken_blocks(tape, &rest.broken)?);
    damage.sort_by_key(|d| (d.offset, d.length));
    let reader = Reader {
        bytes: &bytes,
        catalog: &catalog,
    };
    let heap = reader.tables(&rest).ok_or(Unusable::Damaged)?;
    let (allocations, clock, strata) = heap;
    let heap = Heap {
        name: Text::new(name),
        gaps: gaps(&damage, &catalog),
        scale: Scale::new(catalog.header.options.sample_bytes),
        catalog,
        allocations,
        mappings: Mappings::of_rows(rest.mappings),
        inherited_deaths: rest.inherited_deaths,
        clock,
        counters: rest.counters,
        damage,
        ending: tape.scan().ending.clone(),
        file_length: tape.length(),
        peak: OnceLock::from(rest.peak),
        strata: Some(strata),
        index: Some(bytes),
    };
    Ok(heap)
}

fn rest(bytes: &IndexBytes) -> Option<Rest> {
    let head = Head::from_bytes(bytes.get())?;
    let (from, length) = (usize::try_from(head.offset).ok()?, usize::try_from(head.length).ok()?);
    let rest = bytes.get().get(from..from.checked_add(length)?)?;
    // The rest is the end of the file.
    if from + length != bytes.get().len() || crc32fast::hash(rest) != head.checksum {
        return None;
    }
    postcard::from_bytes(rest).ok()
}

/// Reads the blocks again that could not be read: what is wrong with them is not in the index.
fn broken_blocks(tape: &Tape, offsets: &[u64]) -> Result<Vec<Damage>, Unusable> {
    let blocks = &tape.scan().blocks;
    let mut columns = EventColumns::default();
    let again = offsets.iter().map(|offset| {
        let found = blocks.binary_search_by_key(offset, |block| block.offset);
        let block = found.map(|at| &blocks[at]).map_err(|_| Unusable::Damaged)?;
        match read_events(tape.source(), block, &mut columns) {
            Err(damage) if block.kind == BlockKind::Events => Ok(damage),
            // It was a failure of the medium, perhaps.
            _ => Err(Unusable::Stale),
        }
    });
    again.collect()
}

struct Reader<'a> {
    bytes: &'a Arc<IndexBytes>,
    catalog: &'a Catalog,
}

impl Reader<'_> {
    fn column<T: Number>(&self, place: &ColumnPlace, numbers: usize, highest: T) -> Option<Column<T>> {
        if place.numbers != numbers as u64 {
            return None;
        }
        let bytes = Arc::clone(self.bytes);
        let column = FileColumn::new(bytes, place.start, numbers, place.checksums.clone(), highest)?;
        Some(Column::File(column))
    }

    fn highest_stack(&self) -> u32 {
        self.catalog.stacks.len() as u32 - 1
    }

    fn highest_kind(&self) -> u32 {
        self.catalog.types.len() as u32 - 1
    }

    fn tables(&self, rest: &Rest) -> Option<(Allocations, Clock, Strata)> {
        let rows = usize::try_from(rest.birth.numbers)
            .ok()
            .filter(|&rows| rows < u32::MAX as usize)?;
        let is_wide = |wide: &Wide| wide.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let is_row = |row: u32| (row as usize) < rows;
        let are_lists = [&rest.wide_birth, &rest.wide_death, &rest.wide_size]
            .into_iter()
            .all(is_wide)
            && rest.inherited_deaths.is_sorted()
            && rest.inherited_deaths.iter().all(|death| is_row(death.row.0))
            && rest.mappings.iter().all(|row| row.stack.0 <= self.highest_stack())
            && rest.base.len() == rows.div_ceil(PIECE)
            && rest.base.is_sorted_by(|a, b| a < b)
            && rest.strata.len() == STRATA;
        if !are_lists {
            return None;
        }
        let moved = usize::try_from(rest.successor.numbers).ok()?;
        let kinds = if rest.kind.numbers == 0 { 0 } else { rows };
        let allocations = Allocations {
            base: rest.base.clone(),
            birth: self.column(&rest.birth, rows, u32::MAX)?,
            death: self.column(&rest.death, rows, u32::MAX)?,
            address: self.column(&rest.address, rows, u64::MAX)?,
            size: self.column(&rest.size, rows, u32::MAX)?,
            stack: self.column(&rest.stack, rows, self.highest_stack())?,
            thread: self.column(&rest.thread, rows, u32::MAX)?,
            kind: self.column(&rest.kind, kinds, self.highest_kind())?,
            marks: self.column(&rest.marks, rows, u8::MAX)?,
            wide_birth: rest.wide_birth.clone(),
            wide_death: rest.wide_death.clone(),
            wide_size: rest.wide_size.clone(),
            successor: self.column(&rest.successor, moved, u32::MAX)?,
            predecessor: self.column(&rest.predecessor, moved, (rows as u32).saturating_sub(1))?,
        };
        let strata: Option<Vec<Stratum>> = rest.strata.iter().map(|place| self.stratum(place, rows)).collect();
        Some((allocations, self.clock(rest)?, Strata(strata?)))
    }

    fn stratum(&self, place: &StratumPlace, rows: usize) -> Option<Stratum> {
        let listed = usize::try_from(place.row.numbers)
            .ok()
            .filter(|&listed| listed <= rows)?;
        Some(Stratum {
            row: self.column(&place.row, listed, (rows as u32).saturating_sub(1))?,
            death: self.column(&place.death, listed, u64::MAX)?,
            size: self.column(&place.size, listed, u64::MAX)?,
            stack: self.column(&place.stack, listed, self.highest_stack())?,
            thread: self.column(&place.thread, listed, u32::MAX)?,
            kind: self.column(&place.kind, listed, self.highest_kind())?,
            marks: self.column(&place.marks, listed, u8::MAX)?,
        })
    }

    fn clock(&self, rest: &Rest) -> Option<Clock> {
        let is_run = |run: &Run| {
            run.first_event.get().checked_add(u64::from(run.events)).is_some()
                && run.first_time <= run.last_time
                && run.first_mark <= rest.mark_times.numbers
        };
        let follows =
            |pair: &[Run]| pair[0].end_event() <= pair[1].first_event && pair[0].last_time <= pair[1].first_time;
        if !rest.runs.iter().all(is_run) || !rest.runs.windows(2).all(follows) {
            return None;
        }
        let marks = usize::try_from(rest.mark_times.numbers).ok()?;
        let steps = usize::try_from(rest.steps.numbers).ok()?;
        Some(Clock {
            runs: rest.runs.clone(),
            mark_times: self.column(&rest.mark_times, marks, u64::MAX)?,
            mark_steps: self.column(&rest.mark_steps, marks, u64::MAX)?,
            steps: self.column(&rest.steps, steps, u8::MAX)?,
        })
    }
}
