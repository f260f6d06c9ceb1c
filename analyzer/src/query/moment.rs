//! `FILE@TIME`: names of instants, and what they mean on a given tape.

use crate::table::{Heap, Moment};
use crate::text::Text;
use heaptape_format::{EventNo, Micros};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What can stand behind the `@`, for messages.
pub const GRAMMAR: &str = "\
@start @end @peak         the ends of the recording, and its highest number of live bytes
@90s @10m30s @250ms       time since the recording began (units: us ms s m h d)
@-5m                      time before its end
@50%                      share of its duration
@marker:NAME              a marker; @marker:NAME#3 is its third occurrence
@2026-11-22T10:00:00Z     wall clock, RFC 3339 with Z or an offset such as +01:00
@#123456                  just before event number 123456";

/// The name of an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeSpec {
    /// Before anything happened.
    Start,
    /// After everything happened.
    End,
    /// The first state with the most live bytes.
    Peak,
    /// Time since the start.
    After(Micros),
    /// Time before the end.
    BeforeEnd(Micros),
    /// Millionths of the duration.
    Share(u32),
    /// The n-th marker of a name, from 1.
    Marker(String, usize),
    /// Nanoseconds since the Unix epoch.
    Wall(i128),
    /// Just before this event.
    Event(EventNo),
}

/// The text is not the name of an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotATime {
    /// What was found.
    pub found: String,
}

impl fmt::Display for NotATime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{}\" names no instant; these do:\n{GRAMMAR}",
            Text::new(&self.found)
        )
    }
}

impl std::error::Error for NotATime {}

impl FromStr for TimeSpec {
    type Err = NotATime;

    /// Parses what stands behind the `@`.
    ///
    /// ```
    /// use heaptape::query::TimeSpec;
    /// use heaptape_format::Micros;
    /// assert_eq!("10m30s".parse(), Ok(TimeSpec::After(Micros(630_000_000))));
    /// ```
    fn from_str(text: &str) -> Result<TimeSpec, NotATime> {
        let parsed = match text {
            "start" => Some(TimeSpec::Start),
            "end" => Some(TimeSpec::End),
            "peak" => Some(TimeSpec::Peak),
            _ => None,
        };
        parsed
            .or_else(|| parse_other(text))
            .ok_or_else(|| NotATime { found: text.to_owned() })
    }
}

fn parse_other(text: &str) -> Option<TimeSpec> {
    if let Some(name) = text.strip_prefix("marker:") {
        return parse_marker(name);
    }
    if let Some(number) = text.strip_prefix('#') {
        return digits(number)?
            .parse()
            .ok()
            .map(|number| TimeSpec::Event(EventNo(number)));
    }
    if let Some(percent) = text.strip_suffix('%') {
        let millionths = decimal(percent, 10_000)?;
        return (millionths <= 1_000_000).then_some(TimeSpec::Share(millionths as u32));
    }
    if let Some(before) = text.strip_prefix('-') {
        return duration(before).map(TimeSpec::BeforeEnd);
    }
    if let Some(after) = duration(text) {
        return Some(TimeSpec::After(after));
    }
    let instant: jiff::Timestamp = text.parse().ok()?;
    Some(TimeSpec::Wall(instant.as_nanosecond()))
}

fn parse_marker(name: &str) -> Option<TimeSpec> {
    if let Some((name, number)) = name.rsplit_once('#') {
        if let Some(number) = digits(number).and_then(|number| number.parse().ok()) {
            return (number > 0 && !name.is_empty()).then(|| TimeSpec::Marker(name.to_owned(), number));
        }
    }
    (!name.is_empty()).then(|| TimeSpec::Marker(name.to_owned(), 1))
}

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// A decimal number times `scale`, exactly; digits finer than the scale are not accepted.
fn decimal(text: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if text.ends_with('.') {
        return None;
    }
    let mut value = digits(whole)?.parse::<u64>().ok()?.checked_mul(scale)?;
    let mut place = scale;
    for byte in fraction.bytes() {
        if !byte.is_ascii_digit() || !place.is_multiple_of(10) {
            return None;
        }
        place /= 10;
        value = value.checked_add(u64::from(byte - b'0') * place)?;
    }
    Some(value)
}

/// `1h`, `10m30s`, `1.5s`, `250ms`.
pub(super) fn duration(text: &str) -> Option<Micros> {
    let mut rest = text;
    let mut total: u64 = 0;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let micros = match unit {
            "us" | "µs" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            _ => return None,
        };
        // `30s10m` or `1s1s` is a slip rather than a sum.
        if micros >= last_unit {
            return None;
        }
        last_unit = micros;
        total = total.checked_add(decimal(number, micros)?)?;
        rest = tail;
    }
    (last_unit != u64::MAX).then_some(Micros(total))
}

/// An instant that a tape does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchTime {
    /// What was asked for, what there is, and what to do.
    pub message: String,
}

impl fmt::Display for NoSuchTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for NoSuchTime {}

impl TimeSpec {
    /// Finds the instant on a tape.
    ///
    /// # Errors
    /// When it lies outside the recording or what is known of it, or no such marker was set.
    pub fn resolve(&self, heap: &Heap) -> Result<Moment, NoSuchTime> {
        if let (TimeSpec::Peak, Some(peak)) = (self, heap.folded_peak()) {
            return Err(NoSuchTime {
                message: format!(
                    "{}; the peak, {} bytes, was reached before, at {}",
                    heap.history(),
                    peak.bytes,
                    crate::report::elapsed(peak.time)
                ),
            });
        }
        let moment = self.resolve_birth(heap)?;
        let start = heap.start();
        if *self == TimeSpec::Start || moment.by_time && moment.cut < start.cut && moment.time >= start.time {
            return Ok(Moment {
                cut: moment.cut.max(start.cut),
                time: moment.time.max(start.time),
                ..moment
            });
        }
        if moment.cut < start.cut {
            return Err(NoSuchTime {
                message: format!(
                    "{}; the instant {} that was asked for lies before that, name a later one",
                    heap.history(),
                    crate::report::elapsed(moment.time)
                ),
            });
        }
        Ok(moment)
    }

    /// Finds an instant that only tells when something was born: what lives on is known by its birth, however long ago that was.
    ///
    /// # Errors
    /// When it lies outside the recording, or no such marker was set.
    pub fn resolve_birth(&self, heap: &Heap) -> Result<Moment, NoSuchTime> {
        let duration = heap.duration();
        let at = |time: Micros| Moment {
            cut: heap.clock.cut_at(time),
            time,
            by_time: true,
        };
        let outside = |what: String| {
            Err(NoSuchTime {
                message: format!(
                    "{}: {what}; the recording spans {} from {}",
                    heap.name,
                    crate::report::elapsed(duration),
                    crate::report::wall_clock(&heap.catalog.header, Micros(0))
                ),
            })
        };
        match self {
            TimeSpec::Start => Ok(Moment {
                cut: EventNo(0),
                time: Micros(0),
                by_time: false,
            }),
            TimeSpec::End => Ok(heap.end()),
            TimeSpec::Peak => Ok(heap.peak().map_or_else(|| heap.start(), |(moment, _)| moment)),
            TimeSpec::After(time) if *time > duration => outside(format!(
                "{} after the start is beyond the end",
                crate::report::elapsed(*time)
            )),
            TimeSpec::After(time) => Ok(at(*time)),
            TimeSpec::BeforeEnd(time) if *time > duration => outside(format!(
                "{} before the end is before the start",
                crate::report::elapsed(*time)
            )),
            TimeSpec::BeforeEnd(time) => Ok(at(Micros(duration.get() - time.get()))),
            TimeSpec::Share(1_000_000) => Ok(heap.end()),
            TimeSpec::Share(millionths) => {
                let time = u128::from(duration.get()) * u128::from(*millionths) / 1_000_000;
                Ok(at(Micros(time as u64)))
            }
            TimeSpec::Marker(name, number) => marker(heap, name, *number),
            TimeSpec::Wall(nanos) => {
                let since = nanos - i128::from(heap.catalog.header.start_unix_nanos);
                match u64::try_from(since.div_euclid(1000))
                    .ok()
                    .filter(|&micros| micros <= duration.get())
                {
                    Some(micros) => Ok(at(Micros(micros))),
                    None => outside("this wall-clock time is outside the recording".to_owned()),
                }
            }
            TimeSpec::Event(event) if *event > heap.end().cut => outside(format!(
                "there is no event #{}, the last is #{}",
                event.get(),
                last_event(heap)
            )),
            TimeSpec::Event(event) => {
                let before = EventNo(event.get().saturating_sub(1));
                Ok(Moment {
                    cut: *event,
                    time: heap.clock.time_of(before),
                    by_time: false,
                })
            }
        }
    }
}

fn last_event(heap: &Heap) -> u64 {
    heap.end().cut.get().saturating_sub(1)
}

fn marker(heap: &Heap, name: &str, number: usize) -> Result<Moment, NoSuchTime> {
    let wanted = Text::new(name);
    let found: Vec<_> = heap
        .catalog
        .markers
        .iter()
        .filter(|marker| marker.name == wanted)
        .collect();
    if let Some(marker) = found.get(number - 1) {
        return Ok(Moment {
            cut: marker.at,
            time: marker.time,
            by_time: true,
        });
    }
    let mut names: Vec<&str> = heap.catalog.markers.iter().map(|marker| marker.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let there_is = match names.len() {
        0 => "no marker was set in this recording".to_owned(),
        1..=10 => format!("markers: {}", names.join(", ")),
        n => format!("{n} other names, among them {}", names[..10].join(", ")),
    };
    let message = match found.len() {
        0 => format!("{}: no marker is named \"{wanted}\"; {there_is}", heap.name),
        n => format!(
            "{}: marker \"{wanted}\" was set {n} time(s), there is no #{number}",
            heap.name
        ),
    };
    Err(NoSuchTime { message })
}

/// A tape and an instant of it, as named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapeTime {
    /// The file.
    pub file: PathBuf,
    /// The instant; `None` when none was named.
    pub time: Option<TimeSpec>,
}

impl TapeTime {
    /// Takes `FILE@TIME` apart. Both file names and marker names may contain `@`: the last one whose rest is an instant and
    /// in front of which a file exists is taken; else the whole name, if that is a file; else the last one whose rest is an instant.
    ///
    /// # Errors
    /// When there is an `@`, nothing behind one is an instant, and the whole is no file.
    pub fn parse(text: &str, is_file: impl Fn(&Path) -> bool) -> Result<TapeTime, NotATime> {
        let splits: Vec<TapeTime> = text
            .rmatch_indices('@')
            .filter(|&(at, _)| at > 0)
            .filter_map(|(at, _)| {
                let time = text[at + 1..].parse().ok()?;
                Some(TapeTime {
                    file: PathBuf::from(&text[..at]),
                    time: Some(time),
                })
            })
            .collect();
        if let Some(found) = splits.iter().find(|split| is_file(&split.file)) {
            return Ok(found.clone());
        }
        let whole = TapeTime {
            file: PathBuf::from(text),
            time: None,
        };
        match (text.rsplit_once('@'), splits.into_iter().next()) {
            (None, _) => Ok(whole),
            _ if is_file(&whole.file) => Ok(whole),
            (_, Some(split)) => Ok(split),
            (Some((_, tail)), None) => Err(NotATime { found: tail.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_grammar_is_read() {
        let table: &[(&str, TimeSpec)] = &[
            ("start", TimeSpec::Start),
            ("peak", TimeSpec::Peak),
            ("end", TimeSpec::End),
            ("90s", TimeSpec::After(Micros(90_000_000))),
            ("10m30s", TimeSpec::After(Micros(630_000_000))),
            ("1h", TimeSpec::After(Micros(3_600_000_000))),
            ("1d2h3m4s5ms6us", TimeSpec::After(Micros(93_784_005_006))),
            ("1.5s", TimeSpec::After(Micros(1_500_000))),
            ("250ms", TimeSpec::After(Micros(250_000))),
            ("0s", TimeSpec::After(Micros(0))),
            ("50%", TimeSpec::Share(500_000)),
            ("33.3333%", TimeSpec::Share(333_333)),
            ("100%", TimeSpec::Share(1_000_000)),
            ("marker:ready", TimeSpec::Marker("ready".into(), 1)),
            ("marker:request#3", TimeSpec::Marker("request".into(), 3)),
            ("marker:a#b", TimeSpec::Marker("a#b".into(), 1)),
            ("-5m", TimeSpec::BeforeEnd(Micros(300_000_000))),
            ("2026-11-22T10:00:00Z", TimeSpec::Wall(1_795_341_600_000_000_000)),
            ("2026-11-22T11:00:00+01:00", TimeSpec::Wall(1_795_341_600_000_000_000)),
            ("2026-11-22T10:00:00.5Z", TimeSpec::Wall(1_795_341_600_500_000_000)),
            ("#123456", TimeSpec::Event(EventNo(123_456))),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<TimeSpec>().as_ref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_instant_is_refused_with_the_grammar() {
        for text in [
            "",
            "5",
            "s",
            "1x",
            "1s1s",
            "30s1m",
            "1.s",
            "1.2.3s",
            "101%",
            "-",
            "--5s",
            "#",
            "#1x",
            "#-1",
            "marker:",
            "marker:x#0",
            "yesterday",
            "2026-11-22",
            "2026-11-22T10:00:00",
            "0.0000001s",
            "99999999999999999999s",
            "Peak",
        ] {
            let refused = text.parse::<TimeSpec>().expect_err(text);
            assert!(refused.to_string().contains("@marker:NAME"), "{text}");
        }
    }

    #[test]
    fn names_with_an_at_sign_are_files_and_markers_all_the_same() {
        let files = ["me@home.tape", "svc@end", "svc.tape"];
        let parse = |text: &str| TapeTime::parse(text, |path| files.iter().any(|f| Path::new(f) == path));
        let expect = |file: &str, time: Option<&str>| {
            Ok(TapeTime {
                file: file.into(),
                time: time.map(|time| time.parse().unwrap()),
            })
        };
        assert_eq!(parse("svc.tape"), expect("svc.tape", None));
        assert_eq!(parse("svc.tape@peak"), expect("svc.tape", Some("peak")));
        assert_eq!(parse("me@home.tape"), expect("me@home.tape", None));
        assert_eq!(parse("me@home.tape@-5s"), expect("me@home.tape", Some("-5s")));
        assert_eq!(parse("svc@end"), expect("svc@end", None));
        assert_eq!(parse("svc@end@end"), expect("svc@end", Some("end")));
        assert_eq!(parse("svc.tape@marker:a@end"), expect("svc.tape", Some("marker:a@end")));
        assert_eq!(parse("missing@peak"), expect("missing", Some("peak")));
        assert!(parse("svc.tape@pek").is_err());
    }
}
