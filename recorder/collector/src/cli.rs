//! The options of `record`, the same for `heaptape record` and `heaptape-record`.

use crate::bound::{Turn, LEAST};
use crate::send::{self, Remote};
use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use heaptape_shm::control::StackMode;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What to record, where to, and how.
#[derive(Args, Clone, Debug)]
pub struct RecordArgs {
    /// The tape to write [default: heaptape.PROGRAM.PID.tape in the current folder]; - is standard output, which must lead to a pipe or a file, and the program's own output then goes to standard error
    #[arg(short, long, value_name = "FILE", env = "HEAPTAPE_OUTPUT")]
    pub output: Option<PathBuf>,
    /// Overwrite an existing tape
    #[arg(long, env = "HEAPTAPE_FORCE", value_parser = FalseyValueParser::new())]
    pub force: bool,
    /// What memory the recorder may take: `tiny` for devices where every MiB counts
    #[arg(long, value_name = "WHAT", default_value = "usual", env = "HEAPTAPE_PROFILE")]
    pub profile: Profile,
    /// Memory shared with the program for events on their way, 64 KiB to 64 MiB [default: 8MiB; tiny: 256KiB]
    #[arg(long, value_name = "SIZE", value_parser = bytes, env = "HEAPTAPE_POOL")]
    pub pool: Option<u64>,
    /// How stacks are taken
    #[arg(long, value_name = "HOW", default_value = "dwarf", env = "HEAPTAPE_STACKS")]
    pub stacks: Stacks,
    /// Keep only the N innermost frames of a stack, and compare no more of them at each event, which makes very deep stacks cheap [default: all]
    #[arg(long, value_name = "N", env = "HEAPTAPE_DEPTH")]
    pub depth: Option<u32>,
    /// Do not record blocks smaller than this
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = bytes, env = "HEAPTAPE_MIN_SIZE")]
    pub min_size: u64,
    /// Record a sample only: one block in so many bytes, on average
    #[arg(long, value_name = "SIZE", value_parser = bytes, env = "HEAPTAPE_SAMPLE")]
    pub sample: Option<u64>,
    /// What the program does when the shared memory is full: wait, or drop events and count them
    #[arg(long, value_name = "WHAT", default_value = "block", env = "HEAPTAPE_ON_FULL")]
    pub on_full: OnFull,
    /// Record nothing until `heaptape ctl PID start`
    #[arg(long, env = "HEAPTAPE_PAUSED", value_parser = FalseyValueParser::new())]
    pub paused: bool,
    /// Check every stack against one taken the slow way, and count the differences
    #[arg(long, env = "HEAPTAPE_CHECK_STACKS", value_parser = FalseyValueParser::new())]
    pub check_stacks: bool,
    /// Make the tape readable up to here every so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, env = "HEAPTAPE_FLUSH")]
    pub flush: f64,
    /// When to wait for the disk, so that a power cut loses nothing before: never; every --flush seconds; after every write
    #[arg(long, value_name = "WHEN", default_value = "none", env = "HEAPTAPE_SYNC")]
    pub sync: Sync,
    /// Keep the tape below this size for ever, with all that lies beside it, at least 1M: what is alive stays exact, the history of what was freed long ago becomes totals
    #[arg(long, value_name = "SIZE", value_parser = max_size, env = "HEAPTAPE_MAX_SIZE")]
    pub max_size: Option<u64>,
    /// Cut the recording into files that each can be read alone, when one has this size (at least 1M) or this age (s, min, h, d), or either: 1h,64M; for -o svc.tape they are svc.000001.tape and so on, and svc.tape means all of them
    #[arg(long, value_name = "SIZE|TIME", value_parser = turn, conflicts_with = "max_size", env = "HEAPTAPE_ROTATE")]
    pub rotate: Option<Turn>,
    /// With --rotate: keep the latest N files only, at least 2
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..), requires = "rotate", env = "HEAPTAPE_KEEP")]
    pub keep: Option<u32>,
    /// Send the tape to `heaptape receive` on another machine, over a link that may break, unencrypted; -o then names a file for what could not be sent in the end
    #[arg(long, value_name = "tcp://HOST:PORT", conflicts_with_all = ["max_size", "rotate"], env = "HEAPTAPE_TO")]
    pub to: Option<Remote>,
    /// With --to: memory for what the receiver does not have yet, at least 1M; events that do not fit are dropped and counted [default: 16M; tiny: 1M]
    #[arg(long, value_name = "SIZE", value_parser = spool, requires = "to", env = "HEAPTAPE_SPOOL")]
    pub spool: Option<u64>,
    /// Say nothing when all went well
    #[arg(short, long, env = "HEAPTAPE_QUIET", value_parser = FalseyValueParser::new())]
    pub quiet: bool,
    /// Become the program itself, keeping the process id, and leave the collector in the background
    #[arg(long, env = "HEAPTAPE_EXEC", value_parser = FalseyValueParser::new())]
    pub exec: bool,
    /// Start the program even if it looks as if it could not be recorded
    #[arg(long, env = "HEAPTAPE_ANYWAY", value_parser = FalseyValueParser::new())]
    pub anyway: bool,
    /// Serve a program that runs already and has loaded the library: for the library, which starts the collector so
    #[arg(long, value_name = "PID", hide = true)]
    pub serve: Option<u32>,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROGRAM"
    )]
    pub command: Vec<OsString>,
}

impl RecordArgs {
    /// Bytes of memory for what is to be sent.
    pub fn spool_bytes(&self) -> u64 {
        self.spool.unwrap_or(match self.profile {
            Profile::Usual => 16 << 20,
            Profile::Tiny => send::LEAST,
        })
    }

    /// Bytes of shared memory.
    pub fn pool_bytes(&self) -> u64 {
        self.pool.unwrap_or(match self.profile {
            Profile::Usual => 8 << 20,
            Profile::Tiny => 256 << 10,
        })
    }
}

/// What memory the recorder may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Some 16 MiB
    Usual,
    /// Less than 4 MiB for a program of some thousand different stacks; the tape is a tenth or two larger
    Tiny,
}

/// How stacks are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stacks {
    /// By the unwind tables of each module
    Dwarf,
    /// By frame pointers
    Fp,
    /// Not at all
    None,
}

impl Stacks {
    /// As the shared memory says it.
    pub fn mode(self) -> StackMode {
        match self {
            Stacks::Dwarf => StackMode::Dwarf,
            Stacks::Fp => StackMode::FramePointers,
            Stacks::None => StackMode::None,
        }
    }
}

/// When the tape is made safe from a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sync {
    /// When the system sees fit
    #[default]
    None,
    /// Each time the tape is made readable
    Interval,
    /// After every write
    Always,
}

/// What to do when the shared memory is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnFull {
    /// Wait for the collector
    Block,
    /// Drop the event and count it
    Drop,
}

/// A number of bytes: `4096`, `64k`, `8MiB`, `1G`. All units are powers of 1024.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err("expected a size such as 4096, 64k, 8MiB or 1G".into()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a size such as 4096, 64k, 8MiB or 1G".to_string())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "this is more than can be counted".into())
}

/// A size that a tape can be kept below.
fn max_size(text: &str) -> Result<u64, String> {
    let size = bytes(text)?;
    if size < LEAST {
        return Err("expected at least 1M: a tape holds little in less".into());
    }
    Ok(size)
}

/// Memory for what is to be sent.
fn spool(text: &str) -> Result<u64, String> {
    let size = bytes(text)?;
    if size < send::LEAST {
        return Err("expected at least 1M: a block of events may take a good part of that".into());
    }
    Ok(size)
}

/// When a recording is cut: a size, a time, or both.
fn turn(text: &str) -> Result<Turn, String> {
    let mut turn = Turn::default();
    for part in text.split(',') {
        let digits = part.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let seconds = match digits {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            "m" => return Err(format!("{part} may be minutes or MiB: expected 10min or 10M")),
            _ => 0,
        };
        let wrong =
            || "expected a size such as 64M, a time such as 90s, 15min, 1h or 1d, or one of each: 1h,64M".to_string();
        let is_first = if seconds > 0 {
            let number = part[..part.len() - digits.len()].parse::<u64>().ok();
            let time = number
                .and_then(|number| number.checked_mul(seconds))
                .filter(|time| *time > 0);
            turn.time
                .replace(Duration::from_secs(time.ok_or_else(wrong)?))
                .is_none()
        } else {
            let size = bytes(part).map_err(|_| wrong())?;
            if size < LEAST {
                return Err("expected at least 1M: a file holds little in less".into());
            }
            turn.size.replace(size).is_none()
        };
        if !is_first {
            return Err(wrong());
        }
    }
    Ok(turn)
}

/// A span of seconds: a positive number.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_string())?;
    if seconds.is_finite() && seconds > 0.0 {
        Ok(seconds)
    } else {
        Err("expected a positive number of seconds".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        record: RecordArgs,
    }

    fn parse(arguments: &[&str]) -> Result<RecordArgs, clap::Error> {
        Program::try_parse_from([&["record"], arguments].concat()).map(|program| program.record)
    }

    #[test]
    fn the_options_of_the_program_are_the_program_s() {
        let args = parse(&["-o", "x.tape", "ls", "-o", "--force", "--", "-q"]).unwrap();
        assert_eq!(args.command, ["ls", "-o", "--force", "--", "-q"]);
        assert_eq!(args.output, Some("x.tape".into()));
        assert!(!args.force && !args.quiet);
        let args = parse(&["--force", "--", "ls", "-l"]).unwrap();
        assert_eq!(args.command, ["ls", "-l"]);
        assert!(args.force);
    }

    #[test]
    fn a_recording_is_cut_by_size_by_time_or_by_both() {
        let hour = Some(Duration::from_secs(3600));
        let size = Some(64 << 20);
        for (text, turn) in [
            ("64M", Turn { size, time: None }),
            ("60min", Turn { size: None, time: hour }),
            ("1h", Turn { size: None, time: hour }),
            ("3600s,64MiB", Turn { size, time: hour }),
            ("64M,1h", Turn { size, time: hour }),
        ] {
            assert_eq!(parse(&["--rotate", text, "ls"]).unwrap().rotate, Some(turn), "{text}");
        }
        let doubtful = parse(&["--rotate", "64m", "ls"]).unwrap_err().to_string();
        assert!(doubtful.contains("minutes or MiB"), "{doubtful}");
        for text in [
            "",
            "h",
            "0s",
            "1h,2h",
            "1M,2M",
            "1h,",
            "1000",
            "1w",
            "99999999999999999999h",
            "999999999999999999d",
        ] {
            assert!(parse(&["--rotate", text, "ls"]).is_err(), "{text}");
        }
        assert!(parse(&["--rotate", "1h", "--keep", "1", "ls"]).is_err());
        assert!(parse(&["--keep", "5", "ls"]).is_err(), "there is nothing to keep");
        assert!(parse(&["--rotate", "1h", "--max-size", "64M", "ls"]).is_err());
    }

    #[test]
    fn sizes_have_units_and_nonsense_is_refused() {
        for (text, value) in [
            ("0", 0),
            ("4096", 4096),
            ("64k", 65536),
            ("8MiB", 8 << 20),
            ("1 g", 1 << 30),
        ] {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        for text in [
            "",
            "k",
            "-1",
            "1.5M",
            "12 parsecs",
            "99999999999999999999",
            "20000000000G",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert!(parse(&["--flush", "0", "ls"]).is_err());
        assert!(parse(&["--flush", "NaN", "ls"]).is_err());
        assert!(parse(&["--pool", "lots", "ls"]).is_err());
        assert!(parse(&[]).is_err(), "a program must be named");
    }
}
