//! From a file to a heap. The file may hold anything.

use super::bytes::IndexBytes;
use super::layout::{ColumnPlace, Head, Rest, StratumPlace};
use super::stamp::Stamp;
use crate::replay::gaps;
use crate::table::{
    Allocations, Clock, Column, FileColumn, Heap, Lives, Mappings, Number, Run, Scale, Strata, Stratum, Wide, PIECE,
    STRATA,
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
    let tables = reader.tables(&rest).ok_or(Unusable::Damaged)?;
    let (allocations, clock, strata) = tables;
    let lives = reader.lives(&rest).ok_or(Unusable::Damaged)?;
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
        totals: OnceLock::from(rest.totals),
        strata: Some(strata),
        lives: Some(lives),
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
            Err(damage) if matches!(block.kind, BlockKind::Events | BlockKind::Keyframe) => Ok(damage),
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
            && rest.strata.len() == STRATA
            && rest.peak.is_none_or(|(_, level)| level.is_possible(rows))
            && rest.totals.level().is_possible(rows);
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

    fn lives(&self, rest: &Rest) -> Option<Lives> {
        let length = usize::try_from(rest.lives.numbers).ok()?;
        Some(Lives::in_bytes(self.column(&rest.lives, length, u8::MAX)?))
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

#[cfg(test)]
mod tests {
    use super::super::layout::{ALIGN, HEAD};
    use super::super::write;
    use super::*;
    use crate::query::{lifetimes, Group, Query};
    use crate::replay::{replay_within, Limits};
    use crate::symbols::NoSymbols;
    use crate::table::{Alike, Level, MOST_GROUPS};
    use heaptape_format::record::{End, Header, Process, ProcessOrigin, Record, Thread};
    use heaptape_format::{
        Address, AllocApi, Bytes, Event, Micros, Op, ProcessIx, StackId, ThreadIx, Writer, WriterOptions,
    };
    use std::fs::File;

    /// A tape of some blocks that two threads allocate in turn, and that are never freed.
    fn tape() -> Tape {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&Header::default(), WriterOptions::default(), &mut bytes);
        let process = Process {
            pid: 1,
            parent_pid: 0,
            origin: ProcessOrigin::Exec,
            exe: b"/bin/program".to_vec(),
            command: Vec::new(),
        };
        writer.record(Micros(0), Record::Process(process));
        for tid in 1..3 {
            let thread = Thread {
                process: ProcessIx(0),
                tid,
                name: Vec::new(),
            };
            writer.record(Micros(0), Record::Thread(thread));
        }
        for number in 0..9u64 {
            let op = Op::Alloc {
                api: AllocApi::Malloc,
                address: Address(0x1000 + number * 32),
                size: Bytes(10 + number),
                stack: StackId::ROOT,
            };
            let event = Event {
                time: Micros(number),
                thread: ThreadIx(number as u32 % 2),
                op,
            };
            writer.event(&event, &mut bytes);
        }
        writer.finish(&End::default(), &mut bytes);
        Tape::from_source(Box::new(bytes), Path::new("test.tape")).expect("it is a tape")
    }

    /// An index file with a good checksum, whatever is in it.
    fn file_of(mut columns: Vec<u8>, rest: &Rest) -> Vec<u8> {
        let rest = postcard::to_allocvec(rest).expect("it can be written");
        let head = Head {
            offset: columns.len() as u64,
            length: rest.len() as u64,
            checksum: crc32fast::hash(&rest),
        };
        columns[..HEAD].copy_from_slice(&head.to_bytes());
        columns.extend(rest);
        columns
    }

    #[test]
    fn threads_are_told_apart_unless_that_makes_too_many_groups() {
        let replayed = replay_within(&tape(), "test.tape", &Limits::none(), true, &|_, _| ());
        let mut heap = replayed.expect("there is no bound");
        let groups = |heap: &Heap| -> Vec<(bool, u64)> {
            let alike = heap.alike().expect("it has groups").iter();
            alike.map(|one| (one.has_thread(), one.level.count)).collect()
        };
        let answers = |heap: &Heap| {
            let by_thread = Query {
                by: Group::Thread.into(),
                ..Query::default()
            };
            let mut of_one = Query::default();
            of_one.filter.only.threads.push("2".into());
            [by_thread, of_one, Query::default()].map(|query| lifetimes(heap, &query, &NoSymbols).table)
        };
        let by_rows = answers(&heap);
        assert_eq!(by_rows[0].rows.len(), 2);
        assert_eq!(
            [by_rows[1].total.allocated.count, by_rows[2].total.allocated.count],
            [4, 9]
        );
        for (most, expected) in [(2, vec![(true, 5), (true, 4)]), (1, vec![(false, 9)])] {
            heap.lives = Some(Lives::of(&heap, most));
            assert_eq!(groups(&heap), expected);
            assert_eq!(answers(&heap), by_rows);
        }
    }

    #[test]
    fn sums_that_the_rows_cannot_add_up_to_are_refused_even_with_good_checksums() {
        let tape = tape();
        let replayed = replay_within(&tape, "test.tape", &Limits::none(), true, &|_, _| ());
        let mut heap = replayed.expect("there is no bound");
        heap.lives = Some(Lives::of(&heap, 0));
        assert!(heap.alike().is_none(), "there are more groups than none");
        heap.lives = Some(Lives::of(&heap, MOST_GROUPS));
        let path = std::env::temp_dir().join(format!("heaptape-sums-{}.idx", std::process::id()));
        write(&tape, &heap, &mut File::create(&path).expect("it can be made")).expect("it can be written");
        let good = std::fs::read(&path).expect("it is there");
        let head = Head::from_bytes(&good).expect("it is whole");
        let columns = &good[..head.offset as usize];
        let with = |change: &dyn Fn(&mut Rest), columns: &[u8]| {
            let mut rest: Rest = postcard::from_bytes(&good[head.offset as usize..]).expect("it is whole");
            change(&mut rest);
            std::fs::write(&path, file_of(columns.to_vec(), &rest)).expect("it can be written");
            read(&tape, "test.tape", &path)
        };
        let heap = with(&|_| (), columns).expect("nothing is wrong");
        let alike = heap.alike().expect("it has groups").to_vec();
        assert_eq!(alike.iter().map(|one| one.level.count).sum::<u64>(), 9);
        let much = Level {
            size: 1,
            count: u64::MAX,
        };
        let huge = Level {
            size: u128::MAX,
            count: 1,
        };
        for wrong in [much, huge] {
            assert!(with(&|rest| rest.totals.of[0][0] = wrong, columns).is_err());
            assert!(with(&|rest| rest.peak = rest.peak.map(|(event, _)| (event, wrong)), columns).is_err());
            let mut groups: Vec<Alike> = alike.clone();
            groups[0].level = wrong;
            let bytes = postcard::to_allocvec(&groups).expect("it can be written");
            let mut columns = columns.to_vec();
            columns.resize(columns.len().next_multiple_of(ALIGN as usize), 0);
            let place = |rest: &mut Rest| {
                rest.lives = ColumnPlace {
                    start: columns.len() as u64,
                    numbers: bytes.len() as u64,
                    checksums: vec![crc32fast::hash(&bytes)],
                };
            };
            let heap = with(&place, &[&columns[..], &bytes[..]].concat()).expect("it is looked at later");
            assert!(heap.alike().is_none() && heap.index_is_bad());
        }
        std::fs::remove_file(&path).expect("it is there");
    }
}
