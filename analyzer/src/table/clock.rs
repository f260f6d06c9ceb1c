//! Which event happened when: an exact map between event numbers and times, a byte or two per event.

use super::column::{Column, PIECE};
use super::store::Storage;
use super::NEVER;
use heaptape_format::{EventNo, Micros};
use serde::{Deserialize, Serialize};
use std::io;
use std::ops::Range;

/// Events between two marks; looking up a time decodes at most this many steps.
pub(super) const STRIDE: usize = 256;

/// The times of one unbroken run of events.
#[derive(Debug, PartialEq)]
pub struct ClockBlock {
    first_event: EventNo,
    events: u32,
    first_time: Micros,
    last_time: Micros,
    /// Time of every `STRIDE`th event, and where its successors' steps begin in `steps`.
    marks: Vec<(u64, u32)>,
    /// From each event to the next, LEB128.
    steps: Vec<u8>,
}

impl ClockBlock {
    /// The times of the events from `first_event` on; none yet.
    pub fn new(first_event: EventNo) -> ClockBlock {
        ClockBlock {
            first_event,
            events: 0,
            first_time: Micros(0),
            last_time: Micros(0),
            marks: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Number of the event after the last one.
    pub fn end_event(&self) -> EventNo {
        EventNo(self.first_event.get().saturating_add(u64::from(self.events)))
    }

    /// The next events all have this time. A time that goes back is taken as standing still.
    pub fn push(&mut self, events: u32, time: Micros) {
        if self.events == 0 {
            self.first_time = time;
            self.last_time = time;
        }
        let mut step = time.get().saturating_sub(self.last_time.get());
        self.last_time = self.last_time.max(time);
        let mut left = events as usize;
        while left > 0 {
            let within = self.events as usize % STRIDE;
            let taken = if within == 0 {
                self.marks.push((self.last_time.get(), self.steps.len() as u32));
                1
            } else {
                let taken = left.min(STRIDE - within);
                push_step(&mut self.steps, step);
                self.steps.resize(self.steps.len() + taken - 1, 0);
                taken
            };
            step = 0;
            self.events += taken as u32;
            left -= taken;
        }
    }
}

fn push_step(steps: &mut Vec<u8>, mut step: u64) {
    while step >= 0x80 {
        steps.push(step as u8 | 0x80);
        step >>= 7;
    }
    steps.push(step as u8);
}

/// A run of events, and where its marks begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub first_event: EventNo,
    pub events: u32,
    pub first_time: Micros,
    pub last_time: Micros,
    pub first_mark: u64,
}

impl Run {
    pub(crate) fn end_event(&self) -> EventNo {
        EventNo(self.first_event.get().saturating_add(u64::from(self.events)))
    }
}

/// The times of all events of a tape. Runs may have gaps between them, where the tape is damaged.
#[derive(Debug, Default, PartialEq)]
pub struct Clock {
    pub(crate) runs: Vec<Run>,
    /// Time of every `STRIDE`th event of a run, and where its successors' steps begin in `steps`.
    pub(crate) mark_times: Column<u64>,
    pub(crate) mark_steps: Column<u64>,
    /// From each event to the next, LEB128.
    pub(crate) steps: Column<u8>,
}

impl Clock {
    /// An empty clock that is going to hold about so many events.
    pub(crate) fn stored(storage: &Storage, events: usize) -> io::Result<Clock> {
        Ok(Clock {
            runs: Vec::new(),
            mark_times: Column::Memory(storage.store(events / STRIDE)?),
            mark_steps: Column::Memory(storage.store(events / STRIDE)?),
            steps: Column::Memory(storage.store(events)?),
        })
    }

    /// Appends the next run of events. A run that begins before the end of the last one is ignored.
    ///
    /// # Errors
    /// When there is no room on disk for a clock that lies there.
    pub fn push(&mut self, block: &ClockBlock) -> io::Result<()> {
        if block.events == 0 || block.first_event < self.end_event() {
            return Ok(());
        }
        let first_mark = self.mark_times.len() as u64;
        let columns = (
            self.mark_times.in_memory(),
            self.mark_steps.in_memory(),
            self.steps.in_memory(),
        );
        let (Some(times), Some(starts), Some(steps)) = columns else {
            return Ok(());
        };
        times.reserve(block.marks.len())?;
        starts.reserve(block.marks.len())?;
        steps.reserve(block.steps.len())?;
        times.extend(block.marks.iter().map(|&(time, _)| time));
        let before = steps.len() as u64;
        starts.extend(block.marks.iter().map(|&(_, start)| before + u64::from(start)));
        steps.extend_from_slice(&block.steps);
        self.runs.push(Run {
            first_event: block.first_event,
            events: block.events,
            first_time: block.first_time,
            last_time: block.last_time,
            first_mark,
        });
        Ok(())
    }

    /// Bytes that stay in memory wherever the columns are.
    pub(crate) fn memory(&self) -> usize {
        self.runs.capacity() * size_of::<Run>()
    }

    /// Gives memory back.
    pub(crate) fn release(&self) {
        self.mark_times.release();
        self.mark_steps.release();
        self.steps.release();
    }

    /// Number of the event after the last one.
    pub fn end_event(&self) -> EventNo {
        self.runs.last().map_or(EventNo(0), Run::end_event)
    }

    /// Time of the last event.
    pub fn last_time(&self) -> Micros {
        self.runs.last().map_or(Micros(0), |run| run.last_time)
    }

    /// When an event happened. In a gap, the time of the last event before it; before the first event, its time.
    pub fn time_of(&self, event: EventNo) -> Micros {
        let after = self.runs.partition_point(|run| run.first_event <= event);
        match after.checked_sub(1).map(|i| &self.runs[i]) {
            None => self.runs.first().map_or(Micros(0), |run| run.first_time),
            Some(run) if event < run.end_event() => self.time_at(run, (event.get() - run.first_event.get()) as u32),
            Some(run) => run.last_time,
        }
    }

    /// The number of the first event that happened after `time`.
    pub fn cut_at(&self, time: Micros) -> EventNo {
        let after = self.runs.partition_point(|run| run.first_time <= time);
        match after.checked_sub(1).map(|i| &self.runs[i]) {
            None => EventNo(0),
            Some(run) => EventNo(run.first_event.get() + u64::from(self.count_until(run, time))),
        }
    }

    /// Between which numbers the lowest one lies of which [`Clock::time_of`] says that it is after `time`; at the last of them at the latest. Takes no decoding.
    pub(crate) fn first_after(&self, time: Micros) -> [EventNo; 2] {
        let after = self.runs.partition_point(|run| run.first_time <= time);
        let next = self.runs.get(after).map_or(NEVER, |next| next.first_event);
        let Some(run) = after.checked_sub(1).map(|i| &self.runs[i]) else {
            let first = if self.runs.is_empty() { NEVER } else { EventNo(0) };
            return [first, first];
        };
        if run.last_time <= time {
            return [next, next];
        }
        let marks = self.marks_of(run);
        let passed = self.mark_times.partition_within(marks.clone(), |at| at <= time.get()) - marks.start;
        let event = |index: usize| EventNo(run.first_event.get() + index.min(run.events as usize) as u64);
        [event((passed * STRIDE).saturating_sub(STRIDE)), event(passed * STRIDE)]
    }

    fn time_at(&self, run: &Run, index: u32) -> Micros {
        let mark = run.first_mark as usize + index as usize / STRIDE;
        if mark >= self.mark_times.len() {
            return run.last_time;
        }
        let mut steps = self.steps_from(mark);
        let walked = (0..index as usize % STRIDE)
            .map(|_| steps.take())
            .fold(0, u64::saturating_add);
        Micros(self.mark_times.get(mark).saturating_add(walked))
    }

    /// The times of the first `events` events from a mark of a run on.
    pub(super) fn decode_stride(&self, run: &Run, mark: usize, events: usize, times: &mut Vec<u64>) {
        if mark >= self.mark_times.len() {
            times.resize(events, run.last_time.get());
            return;
        }
        let (mut now, mut steps) = (self.mark_times.get(mark), self.steps_from(mark));
        times.push(now);
        times.extend((1..events).map(|_| {
            now = now.saturating_add(steps.take());
            now
        }));
    }

    fn marks_of(&self, run: &Run) -> Range<usize> {
        let marks = (run.events as usize).div_ceil(STRIDE);
        let first = (run.first_mark as usize).min(self.mark_times.len());
        first..self.mark_times.len().min(first + marks)
    }

    /// How many events of a run happened at or before `time`.
    fn count_until(&self, run: &Run, time: Micros) -> u32 {
        let marks = self.marks_of(run);
        let first = marks.start;
        let from = self.mark_times.partition_within(marks, |at| at <= time.get());
        if from == first {
            return 0;
        }
        let mut now = self.mark_times.get(from - 1);
        let mut steps = self.steps_from(from - 1);
        let mut count = (from - 1 - first) * STRIDE + 1;
        while count < run.events as usize && !count.is_multiple_of(STRIDE) {
            now = now.saturating_add(steps.take());
            if now > time.get() {
                break;
            }
            count += 1;
        }
        count as u32
    }

    fn steps_from(&self, mark: usize) -> Steps<'_> {
        Steps {
            column: &self.steps,
            at: self.mark_steps.get(mark) as usize,
            piece: &[],
        }
    }
}

/// Steps in their order, from a place on.
struct Steps<'a> {
    column: &'a Column<u8>,
    at: usize,
    /// What of the column's piece lies at and behind that place.
    piece: &'a [u8],
}

impl Steps<'_> {
    #[inline]
    fn take(&mut self) -> u64 {
        if let [step @ ..0x80, rest @ ..] = self.piece {
            (self.at, self.piece) = (self.at + 1, rest);
            return u64::from(*step);
        }
        self.take_long()
    }

    /// A step of several bytes, or the first of a piece; nothing behind the last.
    #[cold]
    fn take_long(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let Some(byte) = self.byte() else { break };
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn byte(&mut self) -> Option<u8> {
        if self.piece.is_empty() {
            let left = self.column.len().checked_sub(self.at)?;
            let piece = self.column.piece(self.at / PIECE);
            let until = piece.len().min(self.at % PIECE + left).min(PIECE);
            self.piece = piece.get(self.at % PIECE..until)?;
        }
        let (&byte, rest) = self.piece.split_first()?;
        (self.at, self.piece) = (self.at + 1, rest);
        Some(byte)
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// Three runs with gaps between them, which begin after so many microseconds for each event before.
    pub fn made_up(micros: u64) -> Clock {
        let mut clock = Clock::default();
        for first in [5u64, 2000, 9000] {
            let mut block = ClockBlock::new(EventNo(first));
            (0..1500).for_each(|at| block.push(1, Micros(first * micros + at * at / 7)));
            clock.push(&block).expect("memory takes it");
        }
        clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(first_event: u64, times: &[u64]) -> ClockBlock {
        let mut block = ClockBlock::new(EventNo(first_event));
        for same in times.chunk_by(|a, b| a == b) {
            block.push(same.len() as u32, Micros(same[0]));
        }
        block
    }

    #[test]
    fn every_event_and_every_time_is_found_exactly() {
        let times: Vec<u64> = (0..2000u64).map(|i| i / 3 + (i / 700) * 100_000).collect();
        let mut clock = Clock::default();
        for (n, chunk) in times.chunks(900).enumerate() {
            clock.push(&block(n as u64 * 900, chunk)).expect("memory takes it");
        }
        for (i, &time) in times.iter().enumerate() {
            assert_eq!(clock.time_of(EventNo(i as u64)), Micros(time));
        }
        for time in (0..1000).chain(100_000..101_000).chain([0, 500_000]) {
            let expected = times.partition_point(|&t| t <= time) as u64;
            assert_eq!(clock.cut_at(Micros(time)), EventNo(expected), "at {time}");
        }
    }

    #[test]
    fn a_gap_keeps_the_numbers_of_what_follows() {
        let mut clock = Clock::default();
        clock.push(&block(0, &[1, 2])).expect("memory takes it");
        clock.push(&block(10, &[7, 8])).expect("memory takes it");
        assert_eq!(clock.time_of(EventNo(5)), Micros(2));
        assert_eq!(clock.time_of(EventNo(11)), Micros(8));
        assert_eq!(clock.cut_at(Micros(6)), EventNo(2));
        assert_eq!(clock.cut_at(Micros(7)), EventNo(11));
        for time in 0..10 {
            let first = (0..12).find(|&event| clock.time_of(EventNo(event)) > Micros(time));
            let first = first.map_or(NEVER, EventNo);
            let [earliest, latest] = clock.first_after(Micros(time));
            assert!((earliest..=latest).contains(&first), "{time}");
        }
        assert_eq!(clock.first_after(Micros(2)), [EventNo(10); 2]);
        assert_eq!(clock.first_after(Micros(8)), [NEVER; 2]);
        assert_eq!(Clock::default().first_after(Micros(0)), [NEVER; 2]);
    }
}
