//! From a replayed heap to a file.

use super::layout::{ColumnPlace, Head, Rest, StratumPlace, ALIGN, HEAD};
use super::stamp::Stamp;
use crate::table::{Column, Heap, Number, PIECE};
use crate::tape::Tape;
use heaptape_format::{BlockKind, EventNo};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;

/// Pieces of a column that are written before their memory is given back.
const RELEASED: usize = 128;

/// A file in the making.
struct Output<'a> {
    file: &'a mut File,
    at: u64,
    /// Whether what is written is given up in the heap.
    uses_up: bool,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn written<T: Number>(&self, column: &Column<T>, numbers: Range<usize>) {
        column.release();
        if self.uses_up {
            column.discard(numbers);
        }
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
            if piece % RELEASED == RELEASED - 1 {
                self.written(column, (piece + 1 - RELEASED) * PIECE..(piece + 1) * PIECE);
            }
        }
        self.written(
            column,
            column.len() / (RELEASED * PIECE) * (RELEASED * PIECE)..column.len(),
        );
        Ok(place)
    }
}

/// Writes the index of a heap that was replayed from this tape into an empty file. The head comes last: without it the file is none.
///
/// # Errors
/// When the file cannot be written.
pub fn write(tape: &Tape, heap: &Heap, file: &mut File) -> io::Result<()> {
    write_out(tape, heap, file, false)
}

/// The same; with `uses_up`, what of the heap lies on disk is given up as it is written, so that it is not there twice. Nothing can be asked of such a heap afterwards.
pub(super) fn write_out(tape: &Tape, heap: &Heap, file: &mut File, uses_up: bool) -> io::Result<()> {
    if cfg!(target_endian = "big") {
        return Err(io::Error::other(
            "an index is little-endian, and so must be the machine",
        ));
    }
    let is_events = |offset: u64| {
        let blocks = &tape.scan().blocks;
        let found = blocks.binary_search_by_key(&offset, |block| block.offset);
        found.is_ok_and(|at| matches!(blocks[at].kind, BlockKind::Events | BlockKind::Keyframe))
    };
    let (peak, totals) = (heap.peak(), *heap.totals());
    let mut out = Output { file, at: 0, uses_up };
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
        peak: peak.map(|(moment, level)| (EventNo(moment.cut.get().saturating_sub(1)), level)),
        totals,
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
        lives: match &heap.lives {
            Some(lives) => out.column(&lives.bytes)?,
            None => ColumnPlace::default(),
        },
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
