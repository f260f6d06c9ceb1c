//! Which event happened when: an exact map between event numbers and times, a byte or two per event.

use heaptape_format::{EventNo, Micros};

/// Events between two marks; looking up a time decodes at most this many steps.
const STRIDE: usize = 256;

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
    /// Encodes the times of the events from `first_event` on. A time that goes back is taken as standing still.
    pub fn new(first_event: EventNo, times: impl Iterator<Item = Micros>) -> ClockBlock {
        let mut block = ClockBlock {
            first_event,
            events: 0,
            first_time: Micros(0),
            last_time: Micros(0),
            marks: Vec::new(),
            steps: Vec::new(),
        };
        for time in times {
            if block.events == 0 {
                block.first_time = time;
                block.last_time = time;
            }
            let step = time.get().saturating_sub(block.last_time.get());
            block.last_time = Micros(block.last_time.get() + step);
            if (block.events as usize).is_multiple_of(STRIDE) {
                block.marks.push((block.last_time.get(), block.steps.len() as u32));
            } else {
                push_step(&mut block.steps, step);
            }
            block.events += 1;
        }
        block
    }

    fn time_at(&self, index: u32) -> Micros {
        let Some(&(mark, start)) = self.marks.get(index as usize / STRIDE) else {
            return self.last_time;
        };
        let mut steps = self.steps[start as usize..].iter();
        let walked = (0..index as usize % STRIDE).map(|_| take_step(&mut steps)).sum::<u64>();
        Micros(mark + walked)
    }

    /// How many of its events happened at or before `time`.
    fn count_until(&self, time: Micros) -> u32 {
        let mark = self.marks.partition_point(|&(at, _)| at <= time.get());
        if mark == 0 {
            return 0;
        }
        let first = (mark - 1) * STRIDE;
        let (mut at, start) = self.marks[mark - 1];
        let mut steps = self.steps[start as usize..].iter();
        let mut count = first + 1;
        while count < self.events as usize && count % STRIDE != 0 {
            at += take_step(&mut steps);
            if at > time.get() {
                break;
            }
            count += 1;
        }
        count as u32
    }

    fn end_event(&self) -> EventNo {
        EventNo(self.first_event.get().saturating_add(u64::from(self.events)))
    }
}

fn push_step(steps: &mut Vec<u8>, mut step: u64) {
    while step >= 0x80 {
        steps.push(step as u8 | 0x80);
        step >>= 7;
    }
    steps.push(step as u8);
}

fn take_step(steps: &mut std::slice::Iter<'_, u8>) -> u64 {
    let mut value = 0;
    for (i, &byte) in steps.by_ref().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// The times of all events of a tape. Runs may have gaps between them, where the tape is damaged.
#[derive(Debug, Default, PartialEq)]
pub struct Clock {
    blocks: Vec<ClockBlock>,
}

impl Clock {
    /// Appends the next run of events. A run that begins before the end of the last one is ignored.
    pub fn push(&mut self, block: ClockBlock) {
        if block.events > 0 && block.first_event >= self.end_event() {
            self.blocks.push(block);
        }
    }

    /// Number of the event after the last one.
    pub fn end_event(&self) -> EventNo {
        self.blocks.last().map_or(EventNo(0), ClockBlock::end_event)
    }

    /// Time of the last event.
    pub fn last_time(&self) -> Micros {
        self.blocks.last().map_or(Micros(0), |block| block.last_time)
    }

    /// When an event happened. In a gap, the time of the last event before it; before the first event, its time.
    pub fn time_of(&self, event: EventNo) -> Micros {
        let after = self.blocks.partition_point(|block| block.first_event <= event);
        match after.checked_sub(1).map(|i| &self.blocks[i]) {
            None => self.blocks.first().map_or(Micros(0), |block| block.first_time),
            Some(block) if event < block.end_event() => block.time_at((event.get() - block.first_event.get()) as u32),
            Some(block) => block.last_time,
        }
    }

    /// The number of the first event that happened after `time`.
    pub fn cut_at(&self, time: Micros) -> EventNo {
        let after = self.blocks.partition_point(|block| block.first_time <= time);
        match after.checked_sub(1).map(|i| &self.blocks[i]) {
            None => EventNo(0),
            Some(block) => EventNo(block.first_event.get() + u64::from(block.count_until(time))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_and_every_time_is_found_exactly() {
        let times: Vec<u64> = (0..2000u64).map(|i| i / 3 + (i / 700) * 100_000).collect();
        let mut clock = Clock::default();
        for (n, chunk) in times.chunks(900).enumerate() {
            clock.push(ClockBlock::new(
                EventNo(n as u64 * 900),
                chunk.iter().map(|&t| Micros(t)),
            ));
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
        clock.push(ClockBlock::new(EventNo(0), [1, 2].into_iter().map(Micros)));
        clock.push(ClockBlock::new(EventNo(10), [7, 8].into_iter().map(Micros)));
        assert_eq!(clock.time_of(EventNo(5)), Micros(2));
        assert_eq!(clock.time_of(EventNo(11)), Micros(8));
        assert_eq!(clock.cut_at(Micros(6)), EventNo(2));
        assert_eq!(clock.cut_at(Micros(7)), EventNo(11));
    }
}
