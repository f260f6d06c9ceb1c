//! How long blocks live: in events, in bytes that the program allocates meanwhile, or in time.

use super::moment::duration;
use crate::table::{Alike, Heap, Horizon, Item, Times, NEVER};
use heaptape_format::EventNo;
use rayon::prelude::*;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

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
        let Some(times) = alike.lives() else {
            return Some(self.holds(None));
        };
        let lives = match self.measured {
            Measured::Time => times,
            Measured::Events => alike.events(),
            Measured::Bytes if alike.is_at_once() => 0..=0,
            Measured::Bytes => 0..=u64::MAX,
        };
        part(&(self.least..=self.most.unwrap_or(u64::MAX)), &lives)
    }
}

/// Whether all of a range lies in another one, or nothing of it; `None` when a part does.
pub(super) fn part(whole: &RangeInclusive<u64>, range: &RangeInclusive<u64>) -> Option<bool> {
    if whole.contains(range.start()) && whole.contains(range.end()) {
        return Some(true);
    }
    (whole.end() < range.start() || range.end() < whole.start()).then_some(false)
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

    fn before(&self, heap: &Heap, row: usize) -> u128 {
        self.sums[row / STEP] + sum(heap, row / STEP * STEP..row)
    }

    /// The last row, of those that have a sum, before which no more bytes were asked for.
    fn reach(&self, bytes: u128) -> usize {
        (self.sums.partition_point(|&sum| sum <= bytes) * STEP).saturating_sub(STEP)
    }
}

fn sum(heap: &Heap, rows: Range<usize>) -> u128 {
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
    pub(crate) fn limit(self: &Arc<Self>, length: u64) -> Limit<'a> {
        Limit {
            measure: Arc::clone(self),
            length,
            window: Window::default(),
            horizon: Horizon::new(&self.heap.clock, length),
            times: Times::new(&self.heap.clock),
        }
    }
}

/// Which lives are longer than a length. That a row's is not is the same as that it was freed before some event, and that event comes the later, the later the row was born: so from row
/// to row there is little to look for.
pub(crate) struct Limit<'a> {
    measure: Arc<Measure<'a>>,
    length: u64,
    window: Window,
    horizon: Horizon<'a>,
    times: Times<'a>,
}

impl Limit<'_> {
    /// Whether a block lived longer, or was never freed.
    #[inline]
    pub(crate) fn is_outlived_by(&mut self, item: &Item) -> bool {
        if item.death == NEVER.get() {
            return true;
        }
        let heap = self.measure.heap;
        let row = item.row as usize;
        let death = EventNo(item.death);
        match &self.measure.bytes {
            Some(bytes) => {
                let end = self.window.end(heap, bytes, row, self.length);
                end < heap.allocations.len() && heap.allocations.birth(end) < death
            }
            None => {
                let birth = heap.allocations.birth(row);
                match self.measure.measured {
                    Measured::Time => self.horizon.is_before(birth, death, &mut self.times),
                    _ => death.get().saturating_sub(birth.get()) > self.length,
                }
            }
        }
    }
}

/// The rows behind one that do not ask for more bytes than a length, as many as there are in a row.
#[derive(Default)]
struct Window {
    start: usize,
    end: usize,
    bytes: u128,
}

impl Window {
    /// The end of the rows behind `row`.
    fn end(&mut self, heap: &Heap, sums: &BytesBefore, row: usize, length: u64) -> usize {
        let size = |row: usize| u128::from(heap.allocations.size(row).get());
        let (start, length) = (row + 1, u128::from(length));
        if start < self.start || start - self.start > STEP {
            let before = sums.before(heap, start);
            self.end = sums.reach(before + length).clamp(start, heap.allocations.len());
            self.bytes = sums.before(heap, self.end).saturating_sub(before);
        } else if start <= self.end {
            // Never less than nothing, whatever becomes of an index file meanwhile.
            self.bytes = self.bytes.saturating_sub(sum(heap, self.start..start));
        } else {
            (self.end, self.bytes) = (start, 0);
        }
        self.start = start;
        while self.end < heap.allocations.len() && self.bytes + size(self.end) <= length {
            self.bytes += size(self.end);
            self.end += 1;
        }
        self.end
    }
}

/// Tells of rows whether their lives are as wanted.
struct Gauge<'a> {
    /// To be outlived.
    least: Option<Limit<'a>>,
    /// Not to be outlived.
    most: Option<Limit<'a>>,
}

impl Gauge<'_> {
    fn holds(&mut self, item: &Item) -> bool {
        self.least.as_mut().is_none_or(|limit| limit.is_outlived_by(item))
            && !self.most.as_mut().is_some_and(|limit| limit.is_outlived_by(item))
    }
}

/// Gauges for all threads of a pool.
pub(crate) struct SharedGauge<'a> {
    gauges: Vec<Mutex<Gauge<'a>>>,
}

impl<'a> SharedGauge<'a> {
    pub(crate) fn new(heap: &'a Heap, lives: &Lives) -> SharedGauge<'a> {
        let measure = Measure::new(heap, lives.measured);
        let gauge = || Gauge {
            least: lives.least.checked_sub(1).map(|below| measure.limit(below)),
            most: lives.most.map(|most| measure.limit(most)),
        };
        // One more, for who asks from outside of the pool.
        let gauges = (0..=rayon::current_num_threads()).map(|_| Mutex::new(gauge()));
        SharedGauge {
            gauges: gauges.collect(),
        }
    }

    pub(crate) fn holds(&self, item: &Item) -> bool {
        let last = self.gauges.len() - 1;
        let own = rayon::current_thread_index().unwrap_or(last).min(last);
        let mut gauge = self.gauges[own].lock().unwrap_or_else(PoisonError::into_inner);
        gauge.holds(item)
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
