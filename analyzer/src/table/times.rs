//! Times of events that lie near each other, without decoding the same steps again and again.

use super::clock::{Clock, STRIDE};
use heaptape_format::{EventNo, Micros};
use std::ops::Range;

/// Strides that are remembered, decoded.
const SLOTS: usize = 16;

/// Reads the clock as [`Clock::time_of`] does, and remembers the strides that it decoded last.
pub(crate) struct Times<'a> {
    clock: &'a Clock,
    /// The run that was looked at last.
    run: usize,
    strides: Vec<Stride>,
}

/// The times of the events from one mark to the next.
#[derive(Clone, Default)]
struct Stride {
    /// One more than the number of its mark; 0 for none.
    mark: usize,
    times: Vec<u64>,
}

impl<'a> Times<'a> {
    pub(crate) fn new(clock: &'a Clock) -> Times<'a> {
        Times {
            clock,
            run: 0,
            strides: vec![Stride::default(); SLOTS],
        }
    }

    /// The run that an event lies in; `None` in a gap and before the first event.
    #[inline]
    fn run_of(&mut self, event: EventNo) -> Option<&'a super::Run> {
        let runs: &'a [super::Run] = &self.clock.runs;
        let is_in = |run: &super::Run| run.first_event <= event && event < run.end_event();
        if let Some(run) = runs.get(self.run).filter(|run| is_in(run)) {
            return Some(run);
        }
        let run = runs.partition_point(|run| run.first_event <= event).checked_sub(1)?;
        let found = runs.get(run).filter(|found| is_in(found))?;
        self.run = run;
        Some(found)
    }

    /// When an event happened.
    #[inline]
    pub(crate) fn time_of(&mut self, event: EventNo) -> Micros {
        let Some(run) = self.run_of(event) else {
            return self.clock.time_of(event);
        };
        let index = (event.get() - run.first_event.get()) as usize;
        let mark = run.first_mark as usize + index / STRIDE;
        let stride = &mut self.strides[mark % SLOTS];
        if stride.mark != mark + 1 {
            stride.times.clear();
            let events = (run.events as usize - index / STRIDE * STRIDE).min(STRIDE);
            self.clock.decode_stride(run, mark, events, &mut stride.times);
            stride.mark = mark + 1;
        }
        Micros(stride.times.get(index % STRIDE).copied().unwrap_or(run.last_time.get()))
    }

    /// An event's neighbours, itself among them: not before the first time, and not after the second, did any of them happen.
    pub(crate) fn around(&mut self, event: EventNo) -> (Range<u64>, [Micros; 2]) {
        let Some(run) = self.run_of(event) else {
            let time = self.clock.time_of(event);
            return (event.get()..event.get().saturating_add(1), [time, time]);
        };
        let first = run.first_event.get();
        let index = (event.get() - first) as usize;
        let from = first + (index / STRIDE * STRIDE) as u64;
        let until = from.saturating_add(STRIDE as u64).min(run.end_event().get());
        (from..until, self.ends_of_stride(run, index))
    }

    /// Not before the first time, and not after the second, did an event happen. Takes no decoding.
    #[inline]
    pub(crate) fn bounds_of(&mut self, event: EventNo) -> [Micros; 2] {
        let Some(run) = self.run_of(event) else {
            let time = self.clock.time_of(event);
            return [time, time];
        };
        let index = (event.get() - run.first_event.get()) as usize;
        let mark = run.first_mark as usize + index / STRIDE;
        let stride = &self.strides[mark % SLOTS];
        if stride.mark == mark + 1 {
            let time = stride.times.get(index % STRIDE).copied().unwrap_or(run.last_time.get());
            return [Micros(time), Micros(time)];
        }
        self.ends_of_stride(run, index)
    }

    /// The time of the mark before an event of a run, and that of the next one.
    #[inline]
    fn ends_of_stride(&self, run: &super::Run, index: usize) -> [Micros; 2] {
        let mark = run.first_mark as usize + index / STRIDE;
        let marks = &self.clock.mark_times;
        let next = (index / STRIDE + 1) * STRIDE;
        let latest = if next < run.events as usize && mark + 1 < marks.len() {
            marks.get(mark + 1)
        } else {
            run.last_time.get()
        };
        let earliest = if mark < marks.len() { marks.get(mark) } else { latest };
        [Micros(earliest.min(latest)), Micros(latest)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::clock::testing::made_up;

    #[test]
    fn times_are_those_of_the_clock_in_any_order() {
        let clock = made_up(100);
        let mut times = Times::new(&clock);
        for event in (0..11_000).chain((0..11_000).map(|step| step * 7919 % 11_000)) {
            let time = clock.time_of(EventNo(event));
            let (events, [earliest, latest]) = times.around(EventNo(event));
            let bounds = times.bounds_of(EventNo(event));
            assert!(
                events.contains(&event) && earliest <= bounds[0] && bounds[1] <= latest,
                "{event}"
            );
            assert!((bounds[0]..=bounds[1]).contains(&time), "{event}");
            assert_eq!(times.time_of(EventNo(event)), time, "{event}");
        }
    }
}
