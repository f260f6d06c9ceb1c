//! Sizes as tracemalloc prints them.

/// How sizes are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Units {
    /// As tracemalloc does: `576 B`, `12.3 KiB`, `4096 MiB`.
    #[default]
    Binary,
    /// Every byte: `12600 B`.
    Bytes,
}

/// `12.3 KiB`.
///
/// ```
/// use heaptape::report::{format_size, Units};
/// assert_eq!(format_size(576, Units::Binary), "576 B");
/// assert_eq!(format_size(20_000, Units::Binary), "19.5 KiB");
/// assert_eq!(format_size(20_000, Units::Bytes), "20000 B");
/// ```
pub fn format_size(size: u128, units: Units) -> String {
    match units {
        Units::Binary => binary(size as f64, false),
        Units::Bytes => format!("{size} B"),
    }
}

/// `+12.3 KiB`, `-1 B`, `+0 B`.
pub fn format_diff(size: i128, units: Units) -> String {
    match units {
        Units::Binary => binary(size as f64, true),
        Units::Bytes => format!("{size:+} B"),
    }
}

/// The size of the average block.
pub fn format_average(size: u128, count: u64, units: Units) -> String {
    let average = size as f64 / count as f64;
    match units {
        Units::Binary => binary(average, false),
        Units::Bytes => format!("{average:.1} B"),
    }
}

/// The rule: below 100 of a unit other than B one decimal, below 10 Ki of a unit none, else the next unit.
fn binary(mut size: f64, sign: bool) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    for unit in UNITS {
        let decimals = usize::from(size.abs() < 100.0 && unit != "B");
        if decimals == 1 || size.abs() < 10.0 * 1024.0 || unit == "TiB" {
            return if sign {
                format!("{size:+.decimals$} {unit}")
            } else {
                format!("{size:.decimals$} {unit}")
            };
        }
        size /= 1024.0;
    }
    unreachable!("the last unit takes any size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_tracemalloc_prints_them() {
        // Printed by tracemalloc._format_size of CPython 3.11.
        let table: &[(u128, &str)] = &[
            (0, "0 B"),
            (1, "1 B"),
            (99, "99 B"),
            (10_239, "10239 B"),
            (10_240, "10.0 KiB"),
            (102_399, "100.0 KiB"),
            (102_400, "100 KiB"),
            (10_485_759, "10240 KiB"),
            (10_485_760, "10.0 MiB"),
            (1_099_511_627_776, "1024 GiB"),
            (109_951_162_777_600, "100 TiB"),
            (u64::MAX as u128, "16777216 TiB"),
        ];
        for (size, expected) in table {
            assert_eq!(format_size(*size, Units::Binary), *expected, "{size}");
        }
        assert_eq!(format_diff(112, Units::Binary), "+112 B");
        assert_eq!(format_diff(-20_000, Units::Binary), "-19.5 KiB");
        assert_eq!(format_diff(0, Units::Binary), "+0 B");
    }
}
