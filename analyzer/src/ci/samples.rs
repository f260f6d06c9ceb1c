//! One number, measured once in each run.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What was measured in each of some runs, ascending; a single value stands for runs that all gave the same.
///
/// In JSON a bare number, or a list of one number a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples(Vec<u64>);

impl Default for Samples {
    fn default() -> Samples {
        Samples(vec![0])
    }
}

impl From<u64> for Samples {
    fn from(value: u64) -> Samples {
        Samples(vec![value])
    }
}

impl Samples {
    /// Of one value for each run; none counts as zero.
    pub fn new(mut values: Vec<u64>) -> Samples {
        values.sort_unstable();
        if values.first() == values.last() {
            values.truncate(1);
        }
        if values.is_empty() {
            values.push(0);
        }
        Samples(values)
    }

    /// One value for each of `runs` runs.
    pub fn values(&self, runs: usize) -> Vec<u64> {
        match self.0.as_slice() {
            [same] => vec![*same; runs.max(1)],
            values => values.to_vec(),
        }
    }

    /// Whether they fit that many runs.
    pub fn fits(&self, runs: usize) -> bool {
        self.0.len() == 1 || self.0.len() == runs
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        self.0.iter().map(|&value| value as f64).sum::<f64>() / self.0.len() as f64
    }

    /// The middle value; of an even number the lower one of the two.
    pub fn median(&self) -> u64 {
        self.0[(self.0.len() - 1) / 2]
    }

    /// The highest.
    pub fn highest(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }

    /// The sum of the squares of the distances to the mean.
    pub fn scatter(&self) -> f64 {
        let mean = self.mean();
        self.0.iter().map(|&value| (value as f64 - mean).powi(2)).sum()
    }
}

impl Serialize for Samples {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [same] => serializer.serialize_u64(*same),
            values => values.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Samples, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Same(u64),
            Each(Vec<u64>),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Same(value) => Samples::from(value),
            Written::Each(values) => Samples::new(values),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_agree_are_one_number_and_others_a_list() {
        let same = Samples::new(vec![7, 7, 7]);
        assert_eq!(serde_json::to_string(&same).unwrap(), "7");
        assert_eq!(same.values(3), [7, 7, 7]);
        let each = Samples::new(vec![9, 7, 8]);
        assert_eq!(serde_json::to_string(&each).unwrap(), "[7,8,9]");
        assert_eq!(serde_json::from_str::<Samples>("[9,7,8]").unwrap(), each);
        assert_eq!((each.mean(), each.median(), each.highest()), (8.0, 8, 9));
        assert!(each.fits(3) && !each.fits(2) && same.fits(2));
        assert_eq!(serde_json::from_str::<Samples>("[]").unwrap(), Samples::default());
    }
}
