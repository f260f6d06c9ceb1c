//! How long blocks live: in events, in bytes that the program allocates meanwhile, or in time.

use super::moment::duration;
use crate::table::{Alike, Heap, Item, Times, NEVER};
use heaptape_format::{EventNo, Micros};
use rayon::prelude::*;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

/// What a life is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measured {
    /// Events of the tape, from the birth's to the free's.
    Events,
    /// Bytes that the program, all threads and processes of it, asked for in between. Of a tape whose beginning was folded away ([`Heap::start`]), this is too few for a
    /// block that was born before.
    Bytes,
    /// Microseconds.
    Time,
}

/// A length of life: `#100` events, `64KiB` allocated meanwhile, `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lifetime {
    /// In which measure.
    pub measured: Measured,
    /// How much of it.
    pub length: u64,
}

/// The text is no length of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotALifetime {
    found: String,
}

impl fmt::Display for NotALifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = crate::text::Text::new(&self.found);
        write!(
            f,
            "\"{found}\" is no length of life; expected events (#100), bytes allocated meanwhile (64KiB, with its B) or time (250ms)"
        )
    }
}

impl std::error::Error for NotALifetime {}

impl FromStr for Lifetime {
    type Err = NotALifetime;

    /// ```
    /// use heaptape::query::{Lifetime, Measured};
    /// let lifetime: Lifetime = "64KiB".parse().unwrap();
    /// assert_eq!(lifetime, Lifetime { measured: Measured::Bytes, length: 65536 });
    /// ```
    fn from_str(text: &str) -> Result<Lifetime, NotALifetime> {
        let of = |measured, length| Lifetime { measured, length };
        let events = || text.strip_prefix('#')?.parse().ok().map(|n| of(Measured::Events, n));
        let time = || duration(text).map(|time| of(Measured::Time, time.get()));
        // `5m` are minutes: a number of bytes has its B.
        let bytes = || {
            let length = heaptape_collector::cli::bytes(text)
                .ok()
                .filter(|_| text.ends_with(['B', 'b']))?;
            Some(of(Measured::Bytes, length))
        };
        events()
            .or_else(time)
            .or_else(bytes)
            .ok_or_else(|| NotALifetime { found: text.to_owned() })
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.measured {
            Measured::Events => write!(f, "#{}", self.length),
            Measured::Bytes => write!(f, "{}B", self.length),
            Measured::Time => write!(f, "{}us", self.length),
        }
    }
}

/// Lives of at least and at most so long; both ends in one measure. A block that was never freed outlives every end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// In which measure.
    pub measured: Measured,
    /// Not shorter.
    pub least: u64,
    /// Not longer; `None` for no end, which includes what was never freed.
    pub most: Option<u64>,
}

impl Lives {
    /// At least so long.
    pub fn at_least(lifetime: Lifetime) -> Lives {
        Lives {
            measured: lifetime.measured,
            least: lifetime.length,
            most: None,
        }
    }

    /// At most so long.
    pub fn at_most(lifetime: Lifetime) -> Lives {
        Lives {
            measured: lifetime.measured,
            least: 0,
            most: Some(lifetime.length),
        }
    }

    /// Whether a life, `None` for one without an end, is such.
    pub fn holds(&self, life: Option<u64>) -> bool {
        match life {
            Some(life) => life >= self.least && self.most.is_none_or(|most| life <= most),
            None => self.most.is_none(),
        }
    }

    /// Whether the lives of alike rows are all such, or none is; `None` when that cannot be told.
    pub(super) fn judge(&self, alike: &Alike) -> Option<bool> {
        let Some(lives) = alike.lives() else {
            return Some(self.holds(None));
        };
        match self.measured {
            Measured::Time if self.holds(Some(*lives.start())) && self.holds(Some(*lives.end())) => Some(true),
            Measured::Time => {
                let is_apart = *lives.end() < self.least || self.most.is_some_and(|most| most < *lives.start());
                is_apart.then_some(false)
            }
            Measured::Events if alike.is_at_once() => Some(self.holds(Some(1))),
            // Lives of more than one event.
            Measured::Events if self.most.is_some_and(|most| most <= 1) => Some(false),
            Measured::Events if self.least <= 2 && self.most.is_none() => Some(true),
            Measured::Events | Measured::Bytes => None,
        }
    }
}

/// Rows between two sums of [`BytesBefore`].
const STEP: usize = 256;

/// How many bytes had been asked for before each row.
struct BytesBefore {
    sums: Vec<u128>,
}

impl BytesBefore {
    fn new(heap: &Heap) -> BytesBefore {
        let rows = heap.allocations.len();
        let steps: Vec<u128> = (0..rows.div_ceil(STEP))
            .into_par_iter()
            .map(|step| sum(heap, step * STEP..rows.min((step + 1) * STEP)))
            .collect();
        let mut before = 0;
        let sums = std::iter::once(0).chain(steps.into_iter().map(|step| {
            before += step;
            before
        }));
        BytesBefore { sums: sums.collect() }
    }

    /// At least and at most so many bytes.
    fn bounds(&self, row: usize) -> (u128, u128) {
        let last = self.sums.len() - 1;
        (self.sums[row / STEP], self.sums[(row / STEP + 1).min(last)])
    }

    fn before(&self, heap: &Heap, row: usize) -> u128 {
        self.sums[row / STEP] + sum(heap, row / STEP * STEP..row)
    }
}

fn sum(heap: &Heap, rows: std::ops::Range<usize>) -> u128 {
    rows.map(|row| u128::from(heap.allocations.size(row).get())).sum()
}

/// What measuring lives in one measure needs of a heap.
pub(crate) struct Measure<'a> {
    heap: &'a Heap,
    measured: Measured,
    bytes: Option<BytesBefore>,
}

impl<'a> Measure<'a> {
    pub(crate) fn new(heap: &'a Heap, measured: Measured) -> Arc<Measure<'a>> {
        Arc::new(Measure {
            heap,
            measured,
            bytes: (measured == Measured::Bytes).then(|| BytesBefore::new(heap)),
        })
    }

    /// For one thread, and fastest for rows in their order.
    pub(crate) fn meter(self: &Arc<Self>) -> Meter<'a> {
        Meter {
            measure: Arc::clone(self),
            times: Times::new(&self.heap.clock),
        }
    }
}

/// Measures lives.
pub(crate) struct Meter<'a> {
    measure: Arc<Measure<'a>>,
    times: Times<'a>,
}

impl Meter<'_> {
    /// How long a block lived until it was freed; `None` when it never was.
    #[inline]
    pub(crate) fn life(&mut self, item: &Item) -> Option<u64> {
        let row = item.row as usize;
        if item.death == NEVER.get() {
            return None;
        }
        let heap = self.measure.heap;
        let death = EventNo(item.death);
        Some(match &self.measure.bytes {
            Some(bytes) => {
                let until = heap.allocations.born_before(death).max(row + 1);
                let meanwhile = bytes.before(heap, until) - bytes.before(heap, row + 1);
                u64::try_from(meanwhile).unwrap_or(u64::MAX)
            }
            None if self.measure.measured == Measured::Time => {
                let birth = self.times.time_of(heap.allocations.birth(row));
                self.times.time_of(death).get().saturating_sub(birth.get())
            }
            None => item.death.saturating_sub(heap.allocations.birth(row).get()),
        })
    }
}

impl Meter<'_> {
    /// Whether a block was freed after at most so long. Mostly that is seen without measuring its life exactly.
    #[inline]
    pub(crate) fn is_at_most(&mut self, item: &Item, length: u64) -> bool {
        if item.death == NEVER.get() {
            return false;
        }
        let heap = self.measure.heap;
        let row = item.row as usize;
        let death = EventNo(item.death);
        let (least, most) = match &self.measure.bytes {
            Some(bytes) => {
                let until = heap.allocations.born_before(death).max(row + 1);
                let (from, until) = (bytes.bounds(row + 1), bytes.bounds(until));
                (until.0.saturating_sub(from.1), until.1 - from.0)
            }
            None if self.measure.measured == Measured::Time => {
                let birth = self.times.time_of(heap.allocations.birth(row)).get();
                let (earliest, latest) = self.times.bounds_of(death);
                let life = |death: Micros| u128::from(death.get().saturating_sub(birth));
                (life(earliest), life(latest))
            }
            None => {
                let life = item.death.saturating_sub(heap.allocations.birth(row).get());
                return life <= length;
            }
        };
        let length = u128::from(length);
        most <= length || least <= length && self.life(item).is_some_and(|life| u128::from(life) <= length)
    }
}

/// Meters for all threads of a pool.
pub(crate) struct SharedMeter<'a> {
    meters: Vec<Mutex<Meter<'a>>>,
}

impl<'a> SharedMeter<'a> {
    pub(crate) fn new(measure: &Arc<Measure<'a>>) -> SharedMeter<'a> {
        // One more, for who asks from outside of the pool.
        let meters = (0..=rayon::current_num_threads()).map(|_| Mutex::new(measure.meter()));
        SharedMeter {
            meters: meters.collect(),
        }
    }

    pub(crate) fn life(&self, item: &Item) -> Option<u64> {
        let last = self.meters.len() - 1;
        let own = rayon::current_thread_index().unwrap_or(last).min(last);
        let mut meter = self.meters[own].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        meter.life(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_read_and_what_could_mean_two_things_is_refused() {
        let of = |measured, length| Ok(Lifetime { measured, length });
        assert_eq!("#1".parse(), of(Measured::Events, 1));
        assert_eq!("5m".parse(), of(Measured::Time, 300_000_000));
        assert_eq!("5MB".parse(), of(Measured::Bytes, 5 << 20));
        assert_eq!("100B".parse(), of(Measured::Bytes, 100));
        for text in ["", "5", "5M", "#", "#x", "-5s", "5 minutes"] {
            assert!(text.parse::<Lifetime>().is_err(), "{text}");
        }
    }
}
