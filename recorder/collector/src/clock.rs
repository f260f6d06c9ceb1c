//! From stamps to microseconds.
//!
//! The rate of the CPU's counter against the system's monotonic clock is measured all along: every stamp is placed on the line through the two last anchors, so that neither
//! a first guess nor a drift adds up, and a counter that stands still while the machine sleeps costs at most one interval. Exact order comes from the stamps alone;
//! the time that is stored only has to be close, and must never run backwards.

use heaptape_format::Micros;

/// Stamp and monotonic clock, read at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The CPU's counter.
    pub stamp: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub nanos: u64,
}

/// Anchors closer than this are not worth a new line.
const INTERVAL_NANOS: u64 = 5_000_000;

/// Places stamps in time.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Anchor,
    /// Where the line begins.
    from: Anchor,
    /// The newest anchor.
    last: Anchor,
    /// Nanoseconds per stamp, times 2^32.
    slope: u64,
    /// No stamp is placed before this.
    floor: Micros,
}

impl Clock {
    /// A clock whose zero is `start`. Until the second anchor it takes a stamp for a nanosecond.
    pub fn new(start: Anchor) -> Clock {
        Clock {
            start,
            from: start,
            last: start,
            slope: 1 << 32,
            floor: Micros(0),
        }
    }

    /// Learns a new anchor.
    pub fn anchor(&mut self, now: Anchor) {
        let first = self.last == self.start;
        let nanos = now.nanos.saturating_sub(self.last.nanos);
        let stamps = now.stamp.saturating_sub(self.last.stamp);
        if stamps == 0 || nanos == 0 || (!first && nanos < INTERVAL_NANOS) {
            return;
        }
        // Rounded up, so that a stamp on an anchor is placed exactly there when rounded down.
        self.slope = (u128::from(nanos) << 32)
            .div_ceil(u128::from(stamps))
            .min(u128::from(u64::MAX)) as u64;
        self.from = self.last;
        self.last = now;
    }

    /// The time of a stamp; never before an earlier answer.
    #[inline]
    pub fn micros(&mut self, stamp: u64) -> Micros {
        // Stamps in order come in the order of their answers but for a change of the line between them, so the floor rarely does anything.
        let offset = stamp.wrapping_sub(self.from.stamp) as i64;
        let nanos = (i128::from(offset) * i128::from(self.slope)) >> 32;
        let base = (self.from.nanos - self.start.nanos) as i64;
        let micros = (base.saturating_add(nanos as i64)).max(0) as u64 / 1000;
        self.floor = self.floor.max(Micros(micros));
        self.floor
    }

    /// Stamps in this many nanoseconds, as measured last.
    pub fn stamps(&self, nanos: u64) -> u64 {
        (u128::from(nanos) << 32)
            .div_ceil(u128::from(self.slope.max(1)))
            .min(u128::from(u64::MAX)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(stamp: u64, nanos: u64) -> Anchor {
        Anchor { stamp, nanos }
    }

    #[test]
    fn stamps_fall_on_the_line_between_anchors() {
        let mut clock = Clock::new(anchor(1_000_000, 50_000));
        clock.anchor(anchor(4_000_000, 1_050_000));
        assert_eq!(clock.micros(1_000_000), Micros(0));
        assert_eq!(clock.micros(2_500_000), Micros(500));
        assert_eq!(clock.micros(4_000_000), Micros(1000));
        assert_eq!(clock.stamps(1000), 3000);
    }

    #[test]
    fn a_change_of_rate_is_followed_and_time_never_runs_back() {
        let mut clock = Clock::new(anchor(0, 0));
        clock.anchor(anchor(30_000_000, 10_000_000));
        let before = clock.micros(33_000_000);
        assert_eq!(before, Micros(11_000));
        // The counter ran twice as fast in the second interval.
        clock.anchor(anchor(90_000_000, 20_000_000));
        assert_eq!(
            clock.micros(33_000_000),
            before,
            "clamped: on the new line it would be earlier"
        );
        assert_eq!(clock.micros(90_000_000), Micros(20_000));
    }

    #[test]
    fn stamps_from_before_the_start_are_at_zero() {
        let mut clock = Clock::new(anchor(1 << 40, 1 << 40));
        clock.anchor(anchor((1 << 40) + 1_000_000, (1 << 40) + 1_000_000));
        assert_eq!(clock.micros(0), Micros(0));
        assert_eq!(clock.micros(u64::MAX), Micros(0));
    }
}
