//! The options of `record`, the same for `heaptape record` and `heaptape-record`.

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use heaptape_shm::control::StackMode;
use std::ffi::OsString;
use std::path::PathBuf;

/// What to record, where to, and how.
#[derive(Args, Clone, Debug)]
pub struct RecordArgs {
    /// The tape to write [default: heaptape.PROGRAM.PID.tape in the current folder]
    #[arg(short, long, value_name = "FILE", env = "HEAPTAPE_OUTPUT")]
    pub output: Option<PathBuf>,
    /// Overwrite an existing tape
    #[arg(long, env = "HEAPTAPE_FORCE", value_parser = FalseyValueParser::new())]
    pub force: bool,
    /// Memory shared with the program for events on their way, 64 KiB to 64 MiB
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = bytes, env = "HEAPTAPE_POOL")]
    pub pool: u64,
    /// How stacks are taken
    #[arg(long, value_name = "HOW", default_value = "dwarf", env = "HEAPTAPE_STACKS")]
    pub stacks: Stacks,
    /// Keep only the N innermost frames of a stack [default: all]
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
    /// Say nothing when all went well
    #[arg(short, long, env = "HEAPTAPE_QUIET", value_parser = FalseyValueParser::new())]
    pub quiet: bool,
    /// Become the program itself, keeping the process id, and leave the collector in the background
    #[arg(long, env = "HEAPTAPE_EXEC", value_parser = FalseyValueParser::new())]
    pub exec: bool,
    /// Start the program even if it looks as if it could not be recorded
    #[arg(long, env = "HEAPTAPE_ANYWAY", value_parser = FalseyValueParser::new())]
    pub anyway: bool,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROGRAM"
    )]
    pub command: Vec<OsString>,
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
