//! How far two sides may lie apart by noise alone.

use super::Samples;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// How likely one check of a program that did not change is to fail by noise, all its limits together.
const FALSE_ALARMS: f64 = 0.001;

/// Runs on both sides, and how many limits are judged by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// Runs of the older side.
    pub old_runs: usize,
    /// Runs of the newer side.
    pub new_runs: usize,
    /// Limits that are judged together: with more of them each has to be surer.
    pub limits: usize,
}

impl Band {
    /// The distance of the two means that noise explains; 0 when no run differs from its like, and when there is one run on either side.
    ///
    /// The spread is that of both sides together, by Student's distribution: with few runs the band is wide.
    pub fn width(&self, old: &Samples, new: &Samples) -> f64 {
        let (n, m) = (self.old_runs.max(1) as f64, self.new_runs.max(1) as f64);
        let freedom = n + m - 2.0;
        let scatter = old.scatter() + new.scatter();
        if freedom < 1.0 || scatter <= 0.0 {
            return 0.0;
        }
        let deviation = (scatter / freedom * (1.0 / n + 1.0 / m)).sqrt();
        let sure = 1.0 - FALSE_ALARMS / self.limits.max(1) as f64;
        StudentsT::new(0.0, 1.0, freedom).map_or(0.0, |student| student.inverse_cdf(sure) * deviation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_varies_has_no_band() {
        let band = Band {
            old_runs: 5,
            new_runs: 5,
            limits: 4,
        };
        assert_eq!(band.width(&Samples::from(10), &Samples::from(12)), 0.0);
    }

    #[test]
    fn the_band_is_students_and_narrows_with_more_runs() {
        let spread = Samples::new(vec![98, 99, 100, 101, 102]);
        let band = |runs, limits| Band {
            old_runs: runs,
            new_runs: runs,
            limits,
        };
        // t at 0.999 with 8 degrees of freedom is 4.5008; the pooled deviation is the root of 20 / 8, times that of 2 / 5.
        let width = band(5, 1).width(&spread, &spread);
        assert!((width - 4.500_79).abs() < 1e-3, "{width}");
        assert!(band(5, 10).width(&spread, &spread) > width);
        let twice = Samples::new(vec![98, 98, 99, 99, 100, 100, 101, 101, 102, 102]);
        assert!(band(10, 1).width(&twice, &twice) < width);
    }
}
