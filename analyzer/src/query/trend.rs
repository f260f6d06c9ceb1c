//! The course of a level over a run: how fast it rises, how steadily, and what kind of growth that is.
//!
//! The slope is that of Theil and Sen (P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", 1968): the median of the slopes between all
//! pairs of points, which a peak or two do not move. Steadiness is Kendall's tau of level and time (H. B. Mann, "Nonparametric tests against trend", 1945):
//! the share of pairs that rise less the share that fall. Both are taken over the second half of the run, since every program grows while it starts.

use serde::Serialize;

/// What kind of growth a course is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// It rises to the end, and blocks of all times are still there: what a leak looks like, and a cache that is not yet full.
    Steady,
    /// It rises to the end, but what was allocated earlier is gone: the working set follows a rising load.
    Load,
    /// It rises ever more slowly: a cache that fills.
    Slowing,
    /// It rose in one step of the second half.
    Step,
    /// It rose in the first half and not since: warm-up, or a cache that is full.
    Warmup,
    /// It does not rise on the whole.
    Level,
}

impl Shape {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Shape::Steady => "steady growth",
            Shape::Load => "growth, but of blocks that come and go",
            Shape::Slowing => "growth that slows down",
            Shape::Step => "one step",
            Shape::Warmup => "warm-up, then level",
            Shape::Level => "level",
        }
    }
}

/// A course in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trend {
    /// Kind of growth.
    pub shape: Shape,
    /// Bytes per second in the second half.
    pub slope: f64,
    /// From -1, falls with every step, to 1, rises with every step; of the second half.
    pub monotonicity: f64,
    /// Last level less first one.
    pub growth: i128,
}

/// A rise is one if it is more than this share of the highest level.
const NOTABLE: f64 = 0.05;
/// Steadily rising is what rises with nearly every step.
const STEADILY: f64 = 0.5;
/// A second half that rose by less than this share of the whole rise is level.
const LITTLE: f64 = 0.1;
/// One that rose by less than this share slows down: of a straight line it is half.
const SLOWED: f64 = 0.3;
/// One step that is more than this share of the rise of the second half is all there is to it.
const ONE_STEP: f64 = 0.5;
/// Of a leak, blocks of the first three quarters hold as much of the final level as they held then, or nearly; if less than this share is theirs, all is new.
const OLD: f64 = 0.25;

/// The trend of a course. `levels` are at evenly spaced instants, `step_seconds` apart; `survivors` are the bytes of the final level by the time of their birth, in
/// evenly long parts of the run.
pub fn trend(levels: &[u128], step_seconds: f64, survivors: &[u128]) -> Trend {
    let half = &levels[levels.len() / 2..];
    let (slope, monotonicity) = theil_sen(half, step_seconds);
    let first = levels.first().copied().unwrap_or(0);
    let last = levels.last().copied().unwrap_or(0);
    Trend {
        shape: shape(levels, slope, monotonicity, survivors),
        slope,
        monotonicity,
        growth: last as i128 - first as i128,
    }
}

/// Slope per second, and Kendall's tau.
fn theil_sen(levels: &[u128], step_seconds: f64) -> (f64, f64) {
    let pairs = levels.len() * levels.len().saturating_sub(1) / 2;
    if pairs == 0 || step_seconds <= 0.0 {
        return (0.0, 0.0);
    }
    let mut slopes = Vec::with_capacity(pairs);
    let mut score = 0i64;
    for (from, &before) in levels.iter().enumerate() {
        for (to, &after) in levels.iter().enumerate().skip(from + 1) {
            let rise = after as f64 - before as f64;
            slopes.push(rise / ((to - from) as f64 * step_seconds));
            score += (after > before) as i64 - (after < before) as i64;
        }
    }
    slopes.sort_unstable_by(f64::total_cmp);
    let slope = (slopes[(pairs - 1) / 2] + slopes[pairs / 2]) / 2.0;
    (slope, score as f64 / pairs as f64)
}

/// The median of some levels.
fn median(levels: &[u128]) -> f64 {
    let mut sorted = levels.to_vec();
    sorted.sort_unstable();
    match sorted.len() {
        0 => 0.0,
        n => (sorted[(n - 1) / 2] as f64 + sorted[n / 2] as f64) / 2.0,
    }
}

fn shape(levels: &[u128], slope: f64, monotonicity: f64, survivors: &[u128]) -> Shape {
    let n = levels.len();
    let part = (n / 8).max(1);
    if n < 2 * part {
        return Shape::Level;
    }
    let highest = levels.iter().max().map_or(0.0, |&most| most as f64);
    let begin = levels[0] as f64;
    let middle = median(&levels[n / 2 - part / 2..(n / 2 - part / 2 + part).min(n)]);
    let end = median(&levels[n - part..]);
    let (first, second) = (middle - begin, end - middle);
    let whole = end - begin;
    if whole <= highest * NOTABLE {
        return Shape::Level;
    }
    if second <= whole * LITTLE || slope <= 0.0 && monotonicity <= 0.0 {
        // What goes up and down comes back to where it began.
        let lowest = levels[n / 2..].iter().min().map_or(0.0, |&least| least as f64);
        return if first > highest * NOTABLE && begin < lowest {
            Shape::Warmup
        } else {
            Shape::Level
        };
    }
    let largest_step = levels[n / 2..]
        .windows(2)
        .map(|pair| pair[1] as f64 - pair[0] as f64)
        .fold(0.0, f64::max);
    if largest_step > second * ONE_STEP {
        return Shape::Step;
    }
    if monotonicity < STEADILY {
        // It goes up and down, and higher at the end only by chance or as the load does.
        return Shape::Level;
    }
    if second < whole * SLOWED {
        return Shape::Slowing;
    }
    let all: u128 = survivors.iter().sum();
    let old: u128 = survivors[..survivors.len() * 3 / 4].iter().sum();
    if (old as f64) < all as f64 * OLD {
        Shape::Load
    } else {
        Shape::Steady
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(level: impl Fn(f64) -> f64, survivors: &[u128]) -> Trend {
        let levels: Vec<u128> = (1..=64).map(|point| level(f64::from(point) / 64.0) as u128).collect();
        trend(&levels, 1.0, survivors)
    }

    const OF_ALL_TIMES: [u128; 8] = [1000; 8];
    const NEW: [u128; 8] = [0, 0, 0, 0, 0, 0, 10, 8000];

    #[test]
    fn every_shape_is_told_from_the_others() {
        let million = 1e6;
        for (name, level, survivors, expected) in [
            ("a leak", (|t| t * 1e6) as fn(f64) -> f64, &OF_ALL_TIMES, Shape::Steady),
            (
                "a leak beside much else",
                |t| 5e6 + t * 1e6,
                &OF_ALL_TIMES,
                Shape::Steady,
            ),
            ("a rising load", |t| t * 1e6, &NEW, Shape::Load),
            (
                "a cache that fills",
                |t| 1e6 * (1.0 - (-3.0 * t).exp()),
                &OF_ALL_TIMES,
                Shape::Slowing,
            ),
            (
                "a cache that is full",
                |t| 1e6 * (t * 4.0).min(1.0),
                &NEW,
                Shape::Warmup,
            ),
            (
                "a step",
                |t| if t < 0.7 { 1e6 } else { 3e6 },
                &OF_ALL_TIMES,
                Shape::Step,
            ),
            ("requests", |t| 1e6 + 1e5 * (t * 400.0).sin(), &NEW, Shape::Level),
            ("nothing", |_| 0.0, &[0; 8], Shape::Level),
            ("what shrinks", |t| 2e6 - t * 1e6, &OF_ALL_TIMES, Shape::Level),
        ] {
            assert_eq!(of(level, survivors).shape, expected, "{name}");
        }
        let leak = of(|t| t * million * 64.0, &OF_ALL_TIMES);
        assert!((leak.slope - million).abs() < 1.0, "{}", leak.slope);
        assert_eq!(leak.monotonicity, 1.0);
    }

    #[test]
    fn a_peak_does_not_move_the_slope() {
        let levels: Vec<u128> = (0..64).map(|t| t * 100 + if t == 50 { 1_000_000 } else { 0 }).collect();
        let (slope, monotonicity) = theil_sen(&levels[32..], 1.0);
        assert!((slope - 100.0).abs() < 1.0 && monotonicity > 0.9);
        assert_eq!(theil_sen(&[], 1.0), (0.0, 0.0));
    }
}
