//! From a replayed heap to a file.

use super::layout::{ColumnPlace, Head, Rest, StratumPlace, ALIGN, HEAD};
use super::stamp::Stamp;
use crate::table::{Column, Heap, Number, PIECE};
use crate::tape::Tape;
use heaptape_format::{BlockKind, EventNo};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// A file in the making.
struct Output<'a> {
    file: &'a mut File,
    at: u64,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn column<T: Number>(&mut self, column: &Column<T>) -> io::Result<ColumnPlace> {
        let padding = self.at.next_multiple_of(ALIGN) - self.at;
        self.put(&[0; ALIGN as usize][..padding as usize])?;
        let mut place = ColumnPlace {
            start: self.at,
            numbers: column.len() as u64,
            checksums: Vec::new(),
        };
        for piece in 0..column.len().div_ceil(PIECE) {
            let numbers = column.piece(piece);
            let bytes: &[u8] = bytemuck::cast_slice(&numbers[..numbers.len().min(column.len() - piece * PIECE)]);
            place.checksums.push(crc32fast::hash(bytes));
            self.put(bytes)?;
        }
        Ok(place)
    }
}

/// Writes the index of a heap that was replayed from this tape into an empty file. The head comes last: without it the file is none.
///
/// # Errors
/// When the file cannot be written.
pub fn write(tape: &Tape, heap: &Heap, file: &mut File) -> io::Result<()> {
    if cfg!(target_endian = "big") {
        return Err(io::Error::other(
            "an index is little-endian, and so must be the machine",
        ));
    }
    let is_events = |offset: u64| {
        let blocks = &tape.scan().blocks;
        let found = blocks.binary_search_by_key(&offset, |block| block.offset);
        found.is_ok_and(|at| blocks[at].kind == BlockKind::Events)
    };
    let mut out = Output { file, at: 0 };
    out.put(&[0; HEAD])?;
    let (rows, clock) = (&heap.allocations, &heap.clock);
    let strata = heap.strata.iter().flat_map(|strata| &strata.0);
    let strata = strata
        .map(|stratum| {
            Ok(StratumPlace {
                row: out.column(&stratum.row)?,
                death: out.column(&stratum.death)?,
                size: out.column(&stratum.size)?,
                stack: out.column(&stratum.stack)?,
                thread: out.column(&stratum.thread)?,
                kind: out.column(&stratum.kind)?,
                marks: out.column(&stratum.marks)?,
            })
        })
        .collect::<io::Result<Vec<StratumPlace>>>()?;
    let rest = Rest {
        stamp: Stamp::of(tape),
        counters: heap.counters,
        peak: heap
            .peak()
            .map(|(moment, level)| (EventNo(moment.cut.get().saturating_sub(1)), level)),
        base: rows.base.clone(),
        birth: out.column(&rows.birth)?,
        death: out.column(&rows.death)?,
        address: out.column(&rows.address)?,
        size: out.column(&rows.size)?,
        stack: out.column(&rows.stack)?,
        thread: out.column(&rows.thread)?,
        kind: out.column(&rows.kind)?,
        marks: out.column(&rows.marks)?,
        wide_birth: rows.wide_birth.clone(),
        wide_death: rows.wide_death.clone(),
        wide_size: rows.wide_size.clone(),
        successor: out.column(&rows.successor)?,
        predecessor: out.column(&rows.predecessor)?,
        mappings: heap.mappings.rows.clone(),
        inherited_deaths: heap.inherited_deaths.clone(),
        runs: clock.runs.clone(),
        mark_times: out.column(&clock.mark_times)?,
        mark_steps: out.column(&clock.mark_steps)?,
        steps: out.column(&clock.steps)?,
        strata,
        broken: heap
            .damage
            .iter()
            .map(|damage| damage.offset)
            .filter(|&offset| is_events(offset))
            .collect(),
    };
    let rest = postcard::to_allocvec(&rest).map_err(io::Error::other)?;
    let head = Head {
        offset: out.at,
        length: rest.len() as u64,
        checksum: crc32fast::hash(&rest),
    };
    out.put(&rest)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&head.to_bytes())
}
