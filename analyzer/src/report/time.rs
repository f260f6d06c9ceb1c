//! Times: since the start, and as the device's wall clock showed them.

use heaptape_format::record::Header;
use heaptape_format::Micros;

/// Time since the start: `0.250 s`, `1m 05.0s`, `3h 00m 12s`.
pub fn elapsed(time: Micros) -> String {
    let micros = time.get();
    let seconds = micros / 1_000_000;
    // Cut off, not rounded: the wall clock beside it is cut off, too.
    match micros {
        0..10_000_000 => format!("{seconds}.{:03} s", micros / 1000 % 1000),
        10_000_000..60_000_000 => format!("{seconds}.{:02} s", micros / 10_000 % 100),
        60_000_000..3_600_000_000 => format!("{}m {:02}.{}s", seconds / 60, seconds % 60, micros / 100_000 % 10),
        _ => format!("{}h {:02}m {:02}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// The device's wall clock at a time since the start, in its own offset from UTC.
pub fn wall_clock(header: &Header, time: Micros) -> String {
    let nanos = i128::from(header.start_unix_nanos) + i128::from(time.get()) * 1000;
    let offset = jiff::tz::Offset::from_seconds(header.utc_offset_seconds).unwrap_or(jiff::tz::Offset::UTC);
    match jiff::Timestamp::from_nanosecond(nanos) {
        Ok(timestamp) => {
            let local = offset.to_datetime(timestamp);
            let zone = match offset.seconds() {
                0 => "Z".to_owned(),
                seconds => {
                    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs() / 60);
                    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
                }
            };
            let millis = local.subsec_nanosecond() / 1_000_000;
            format!(
                "{} {:02}:{:02}:{:02}.{millis:03}{zone}",
                local.date(),
                local.hour(),
                local.minute(),
                local.second()
            )
        }
        Err(_) => "unknown wall clock".to_owned(),
    }
}

/// Both: `1m 05.0s (2026-11-22 10:00:00.000Z)`.
pub fn instant(header: &Header, time: Micros) -> String {
    format!("{} ({})", elapsed(time), wall_clock(header, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable_at_every_scale() {
        for (micros, expected) in [
            (0, "0.000 s"),
            (1_234_567, "1.234 s"),
            (12_345_678, "12.34 s"),
            (65_000_000, "1m 05.0s"),
            (10_812_000_000, "3h 00m 12s"),
        ] {
            assert_eq!(elapsed(Micros(micros)), expected);
        }
    }

    #[test]
    fn the_wall_clock_is_that_of_the_device_and_says_its_offset() {
        let mut header = Header {
            start_unix_nanos: 1_795_341_600_000_000_000,
            ..Header::default()
        };
        assert_eq!(wall_clock(&header, Micros(1_500_000)), "2026-11-22 10:00:01.500Z");
        header.utc_offset_seconds = -5400;
        assert_eq!(wall_clock(&header, Micros(0)), "2026-11-22 08:30:00.000-01:30");
        header.start_unix_nanos = u64::MAX;
        header.utc_offset_seconds = i32::MAX;
        assert!(!wall_clock(&header, Micros(u64::MAX)).is_empty());
    }
}
