//! A limit: what is measured, and how much of it is allowed.

use super::Samples;
use crate::report::{format_size, Units};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Bytes alive at the program's peak; of a span, the most that was alive in it of what was born in it.
    Peak,
    /// Bytes alive at the end.
    End,
    /// Bytes never freed.
    Leaked,
    /// Blocks never freed.
    LeakedBlocks,
    /// Blocks ever allocated.
    Allocations,
    /// Bytes ever allocated.
    Allocated,
    /// Blocks freed before their thread allocated again.
    Temporary,
    /// Bytes resident at most.
    Rss,
    /// Bytes that a span leaves behind.
    Left,
    /// Blocks that a span leaves behind.
    LeftBlocks,
    /// Bytes that any one site leaves behind in a span.
    LeftPerSite,
    /// Bytes that each span leaves behind for good.
    Growth,
    /// Blocks that each span leaves behind for good.
    GrowthBlocks,
}

impl Metric {
    /// What it is called in a budget.
    pub const fn name(self) -> &'static str {
        match self {
            Metric::Peak => "peak",
            Metric::End => "end",
            Metric::Leaked => "leaked",
            Metric::LeakedBlocks => "leaked_blocks",
            Metric::Allocations => "allocations",
            Metric::Allocated => "allocated",
            Metric::Temporary => "temporary",
            Metric::Rss => "rss",
            Metric::Left => "left",
            Metric::LeftBlocks => "left_blocks",
            Metric::LeftPerSite => "left_per_site",
            Metric::Growth => "growth",
            Metric::GrowthBlocks => "growth_blocks",
        }
    }

    /// Whether it counts blocks, not bytes.
    pub const fn is_count(self) -> bool {
        matches!(
            self,
            Metric::LeakedBlocks | Metric::Allocations | Metric::Temporary | Metric::LeftBlocks | Metric::GrowthBlocks
        )
    }

    /// A value of it in words.
    pub fn format(self, value: u64) -> String {
        match self.is_count() {
            true => format!("{value} block(s)"),
            false => format_size(u128::from(value), Units::Binary),
        }
    }
}

/// How much is allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// So much.
    Absolute(u64),
    /// So many percent more than the baseline.
    Percent(f64),
    /// So much more than the baseline.
    Above(u64),
}

impl Bound {
    /// Whether it needs a baseline.
    pub fn is_relative(self) -> bool {
        !matches!(self, Bound::Absolute(_))
    }

    /// What is allowed, given the baseline.
    pub fn allowed(self, baseline: &Samples) -> f64 {
        match self {
            Bound::Absolute(most) => most as f64,
            Bound::Percent(percent) => baseline.mean() * (1.0 + percent / 100.0),
            Bound::Above(more) => baseline.mean() + more as f64,
        }
    }
}

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// On what.
    pub metric: Metric,
    /// How much.
    pub bound: Bound,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric.name();
        match self.bound {
            Bound::Absolute(most) => write!(f, "{name} at most {}", self.metric.format(most)),
            Bound::Percent(0.0) | Bound::Above(0) => write!(f, "{name} no more than the baseline"),
            Bound::Percent(percent) => write!(f, "{name} at most {percent} % above the baseline"),
            Bound::Above(more) => write!(f, "{name} at most {} above the baseline", self.metric.format(more)),
        }
    }
}

/// A bound as it is written, with whether it has a unit of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct WrittenBound {
    pub bound: Bound,
    pub has_unit: bool,
}

/// One bound or several on one metric.
#[derive(Clone, Debug, Default)]
pub(super) struct WrittenBounds(pub Vec<WrittenBound>);

const EXPECTED: &str = "a number, \"24 MB\", \"+5 %\", \"+64 KiB\", or a list of these";

fn parse(text: &str) -> Option<WrittenBound> {
    let text = text.trim();
    let (is_relative, rest) = match text.strip_prefix('+') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text),
    };
    if let Some(percent) = rest.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().ok()?;
        let is_sound = is_relative && percent.is_finite() && percent >= 0.0;
        return is_sound.then_some(WrittenBound {
            bound: Bound::Percent(percent),
            has_unit: false,
        });
    }
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(rest.len());
    let (number, unit) = rest.split_at(end);
    let number: f64 = number.replace('_', "").parse().ok()?;
    let unit = unit.trim().to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let value = (number * f64::from(2u32).powi(shift)).round() as u64;
    Some(WrittenBound {
        bound: if is_relative {
            Bound::Above(value)
        } else {
            Bound::Absolute(value)
        },
        has_unit: !unit.is_empty(),
    })
}

impl<'de> Deserialize<'de> for WrittenBounds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WrittenBounds, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = WrittenBounds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<WrittenBounds, E> {
                Ok(WrittenBounds(vec![WrittenBound {
                    bound: Bound::Absolute(value),
                    has_unit: false,
                }]))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<WrittenBounds, E> {
                match u64::try_from(value) {
                    Ok(value) => self.visit_u64(value),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(value), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<WrittenBounds, E> {
                let bound = parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))?;
                Ok(WrittenBounds(vec![bound]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<WrittenBounds, A::Error> {
                let mut all = Vec::new();
                while let Some(WrittenBounds(bounds)) = list.next_element()? {
                    all.extend(bounds);
                }
                Ok(WrittenBounds(all))
            }
        }
        deserializer.deserialize_any(Reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_size_or_a_step_above_the_baseline() {
        for (text, bound) in [
            ("24 MB", Bound::Absolute(24 << 20)),
            ("1.5KiB", Bound::Absolute(1536)),
            ("100_000", Bound::Absolute(100_000)),
            ("+5 %", Bound::Percent(5.0)),
            ("+0", Bound::Above(0)),
            ("+64 KiB", Bound::Above(65_536)),
        ] {
            assert_eq!(parse(text).map(|written| written.bound), Some(bound), "{text}");
        }
        for text in ["", "5 %", "-1", "+", "MB", "+x %", "1 parsec", "+inf %", "1..2"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_relative_bound_counts_from_the_mean_of_the_baseline() {
        let baseline = Samples::new(vec![90, 110]);
        assert_eq!(Bound::Percent(5.0).allowed(&baseline), 105.0);
        assert_eq!(Bound::Above(7).allowed(&baseline), 107.0);
        assert_eq!(Bound::Absolute(7).allowed(&baseline), 7.0);
    }
}
