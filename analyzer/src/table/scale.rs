//! Samples to estimates.
//!
//! A recorder that samples (`--sample MEAN`) records a block of `s` bytes with probability `p = 1 - exp(-s / MEAN)`. Each recorded block then stands for `1 / p` blocks
//! of its size (Horvitz and Thompson, 1952). Sums are kept in whole blocks: a block stands for the whole number below or above, drawn by its row so that the mean
//! is right, and the same at its birth and its death.

use super::Level;

/// A row stands for no more blocks than this. So the sums of all rows, of which there are fewer than 2^32, fit into their numbers whatever a tape says.
pub(super) const MOST_BLOCKS: u64 = u32::MAX as u64;

/// How far an estimate may be from the truth: the sum of what each recorded block adds to its variance, in square bytes.
///
/// A block that stands for `k` has `k (k - 1)` times its size squared, which is without bias where it is recorded with probability `1 / k` (Horvitz and Thompson, 1952). So
/// blocks of which everything was recorded add nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread(u128);

impl Spread {
    /// Adds what one recorded block stands for.
    #[inline]
    pub fn add(&mut self, block: Level) {
        if block.count > 1 {
            let more = u128::from(block.count - 1);
            let square = block.size.saturating_mul(block.size / u128::from(block.count));
            self.0 = self.0.saturating_add(square.saturating_mul(more));
        }
    }

    /// Adds another sum.
    pub fn join(&mut self, other: Spread) {
        self.0 = self.0.saturating_add(other.0);
    }

    /// Takes away what both of two estimates have, from the sum of theirs: in their difference it is not.
    pub fn without_both(self, both: Spread) -> Spread {
        Spread(self.0.saturating_sub(both.0.saturating_mul(2)))
    }

    /// The standard error, in bytes.
    pub fn standard_error(self) -> u128 {
        self.0.isqrt()
    }
}

/// What a row counts for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Mean bytes between samples; `None`: everything was recorded.
    mean: Option<f64>,
}

impl Scale {
    /// For a tape with this option.
    pub fn new(sample_bytes: Option<u64>) -> Scale {
        Scale {
            mean: sample_bytes.filter(|&mean| mean > 0).map(|mean| mean as f64),
        }
    }

    /// Whether sums are estimates.
    pub fn is_estimate(self) -> bool {
        self.mean.is_some()
    }

    /// Whether small blocks stand for more blocks than are counted: samples so far apart are none of a real recording.
    pub(super) fn is_cut(self) -> bool {
        self.mean.is_some_and(|mean| mean > MOST_BLOCKS as f64)
    }

    /// The blocks and bytes that the row stands for.
    #[inline]
    pub fn level(self, row: u32, size: u64) -> Level {
        let count = match self.mean {
            None => 1,
            Some(mean) => blocks(mean, row, size),
        };
        Level {
            size: u128::from(size) * u128::from(count),
            count,
        }
    }
}

fn blocks(mean: f64, row: u32, size: u64) -> u64 {
    // As the recorder draws: a block holds the byte at which the next sample falls if that is at most its size, and a block of no bytes never does.
    let probability = -(-(size as f64) / mean).exp_m1();
    if probability <= 0.0 {
        return 1;
    }
    let stands_for = 1.0 / probability;
    let whole = stands_for.floor();
    (whole as u64)
        .saturating_add(u64::from(uniform(row) < stands_for - whole))
        .min(MOST_BLOCKS)
}

/// A number in [0, 1) that looks random (the finalizer of MurmurHash3).
fn uniform(row: u32) -> f64 {
    let mut bits = u64::from(row) + 1;
    bits = (bits ^ bits >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ bits >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (bits ^ bits >> 33) as f64 / 18_446_744_073_709_551_616.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_sampling_a_block_is_a_block() {
        assert_eq!(Scale::new(None).level(5, 100), Level { size: 100, count: 1 });
        assert!(!Scale::new(Some(0)).is_estimate());
    }

    #[test]
    fn all_rows_add_up_whatever_the_tape_says() {
        let scale = Scale::new(Some(u64::MAX));
        assert!(scale.is_cut() && !Scale::new(Some(MOST_BLOCKS)).is_cut());
        let most = scale.level(7, 1);
        assert_eq!(most.count, MOST_BLOCKS);
        let rows = u64::from(u32::MAX);
        assert!(most.count.checked_mul(rows).is_some());
        let largest = u128::from(u64::MAX) * u128::from(MOST_BLOCKS);
        assert!(largest.checked_mul(u128::from(rows)).is_some());
        assert!(scale.level(7, u64::MAX).size <= largest);
    }

    #[test]
    fn the_spread_is_that_of_many_recordings() {
        // Blocks of some sizes, recorded again and again as a recorder draws.
        let scale = Scale::new(Some(4096));
        let sizes: Vec<u64> = (0..400).map(|index| [16, 100, 1000, 5000][index % 4]).collect();
        let truth: f64 = sizes.iter().map(|size| *size as f64).sum();
        let (recordings, mut row, mut squares, mut told) = (4000, 0u32, 0.0, 0.0);
        for _ in 0..recordings {
            let (mut sum, mut spread) = (0.0, Spread::default());
            for size in &sizes {
                row += 1;
                if uniform(row.wrapping_mul(2_654_435_761)) < 1.0 - (-(*size as f64) / 4096.0).exp() {
                    let level = scale.level(row, *size);
                    sum += level.size as f64;
                    spread.add(level);
                }
            }
            squares += (sum - truth).powi(2) / f64::from(recordings);
            told += (spread.standard_error() as f64).powi(2) / f64::from(recordings);
        }
        assert!((told / squares - 1.0).abs() < 0.1, "{told} {squares}");
        let mut nothing = Spread::default();
        nothing.add(Level { size: 100, count: 1 });
        assert_eq!(nothing.standard_error(), 0);
    }

    #[test]
    fn the_mean_of_what_blocks_stand_for_is_right_for_every_size() {
        let scale = Scale::new(Some(4096));
        for size in [1u64, 100, 4096, 10_000, 1 << 30] {
            let rows = 200_000;
            let sum: u64 = (0..rows).map(|row| scale.level(row, size).count).sum();
            let expected = 1.0 / (1.0 - (-(size as f64) / 4096.0).exp());
            let mean = sum as f64 / f64::from(rows);
            assert!((mean - expected).abs() < 0.01 * expected, "{size}: {mean} {expected}");
        }
    }
}
