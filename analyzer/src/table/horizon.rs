//! Which event is the first that happens later than a length of time after another.

use super::{Clock, Times};
use heaptape_format::{EventNo, Micros};
use std::ops::Range;

/// Compares lengths of lives with one length. For births that lie near each other the event to ask about lies between two others, so hardly any time is looked up.
pub(crate) struct Horizon<'a> {
    clock: &'a Clock,
    /// In microseconds.
    length: u64,
    /// Births for which the ends are known.
    births: Range<u64>,
    /// So long after the first of them, and after the last one: when, and between which two the first event lies that happens later.
    ends: [(Micros, [EventNo; 2]); 2],
}

impl<'a> Horizon<'a> {
    pub(crate) fn new(clock: &'a Clock, length: u64) -> Horizon<'a> {
        Horizon {
            clock,
            length,
            births: 0..0,
            ends: [(Micros(0), [EventNo(0); 2]); 2],
        }
    }

    /// Whether an event happens later than so long after a birth; fastest for births in their order.
    #[inline]
    pub(crate) fn is_before(&mut self, birth: EventNo, event: EventNo, times: &mut Times<'_>) -> bool {
        if !self.births.contains(&birth.get()) {
            self.find(birth, times);
        }
        let [(_, [earliest, _]), (_, [_, latest])] = self.ends;
        event >= latest || event >= earliest && self.is_later(birth, event, times)
    }

    fn is_later(&self, birth: EventNo, event: EventNo, times: &mut Times<'_>) -> bool {
        let birth = times.time_of(birth).get();
        times.time_of(event).get().saturating_sub(birth) > self.length
    }

    #[cold]
    fn find(&mut self, birth: EventNo, times: &mut Times<'_>) {
        let (births, bounds) = times.around(birth);
        let before = std::mem::replace(&mut self.births, births);
        let known = if before.is_empty() { None } else { Some(self.ends[1]) };
        self.ends = bounds.map(|time| {
            let end = Micros(time.get().saturating_add(self.length));
            let known = known.filter(|&(known, _)| known == end);
            known.unwrap_or_else(|| (end, self.clock.first_after(end)))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::clock::testing::made_up;

    #[test]
    fn it_lies_where_the_times_say_in_any_order() {
        let clock = made_up(1000);
        for length in [0, 3, 900, 250_000, u64::MAX] {
            let (mut horizon, mut times) = (Horizon::new(&clock, length), Times::new(&clock));
            for step in 0..20_000u64 {
                let birth = if step % 3 == 0 { step * 7919 % 11_000 } else { step / 2 };
                let event = birth + step * 31 % 4_000;
                let time = |event| clock.time_of(EventNo(event)).get();
                let expected = time(event) - time(birth) > length;
                assert_eq!(
                    horizon.is_before(EventNo(birth), EventNo(event), &mut times),
                    expected,
                    "{birth} to {event}, {length}"
                );
            }
        }
    }
}
