//! How long to sleep between two rounds: as long as the pool can surely take what comes meanwhile.

use crate::drain::Round;
use heaptape_shm::Geometry;
use std::time::Duration;

/// Words of an entry, typically; only for judging how full a round was.
const ITEM_BYTES: u64 = 64;
const SHORTEST: Duration = Duration::from_micros(500);
const LONGEST: Duration = Duration::from_millis(20);
/// The pool for which [`LONGEST`] is right: it takes 400 MB/s to fill it in that time.
const POOL_OF_LONGEST: u64 = 8 << 20;

/// The pace of one collector.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pool: u64,
    chunks: u32,
    longest: Duration,
    sleep: Duration,
}

impl Pace {
    /// The pace for a pool, to begin with.
    pub fn new(geometry: Geometry) -> Pace {
        let pool = u64::from(geometry.chunks) * u64::from(geometry.chunk_bytes);
        let longest = LONGEST
            .mul_f64((pool as f64 / POOL_OF_LONGEST as f64).min(1.0))
            .max(SHORTEST);
        Pace {
            pool,
            chunks: geometry.chunks,
            longest,
            sleep: SHORTEST * 2,
        }
    }

    /// The sleep after a round. Aims at rounds that find about an eighth of the pool in use.
    pub fn next(&mut self, round: &Round) -> Duration {
        let found = round.taken.saturating_mul(ITEM_BYTES);
        if found * 4 > self.pool || round.used_chunks * 4 > self.chunks * 3 {
            self.sleep /= 2;
        } else if found * 16 < self.pool {
            self.sleep *= 2;
        }
        // Looking at a slot costs two cache misses; with very many threads that alone must not keep a processor busy.
        let looking = Duration::from_micros(2 * round.streams as u64);
        self.sleep = self.sleep.clamp(SHORTEST, self.longest).max(looking.min(self.longest));
        if round.soon {
            SHORTEST
        } else {
            self.sleep
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_means_long_sleep_and_traffic_short() {
        let geometry = Geometry::for_pool(8 << 20);
        let mut pace = Pace::new(geometry);
        let idle = Round::default();
        let busy = Round {
            taken: 100_000,
            ..Round::default()
        };
        let mut sleeps: Vec<Duration> = (0..8).map(|_| pace.next(&idle)).collect();
        assert!(sleeps.is_sorted());
        assert_eq!(sleeps.pop(), Some(LONGEST));
        let sleeps: Vec<Duration> = (0..8).map(|_| pace.next(&busy)).collect();
        assert_eq!(sleeps.last(), Some(&SHORTEST));
        let small = Pace::new(Geometry::for_pool(64 << 10));
        assert_eq!(small.longest, SHORTEST, "a small pool is full soon");
    }

    #[test]
    fn ten_thousand_idle_threads_are_not_looked_at_all_the_time() {
        let mut pace = Pace::new(Geometry::for_pool(8 << 20));
        let round = Round {
            taken: 100_000,
            streams: 10_000,
            ..Round::default()
        };
        assert!((0..8)
            .map(|_| pace.next(&round))
            .all(|sleep| sleep >= Duration::from_millis(10)));
    }
}
