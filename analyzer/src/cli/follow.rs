//! `follow`: the live heap of a recording that goes on, in a file or on its way from a device.

use super::args::{FollowArgs, ReadingArgs};
use super::load::resolver_of;
use super::output::print_difference;
use super::receive::listen_on;
use super::stats::{check_question, filter_query, units};
use super::Failure;
use crate::query::{diff, Query};
use crate::receive::{self, News, Shelf};
use crate::report::{text_diff, TextOptions};
use crate::tape::Growing;
use crate::text::escape_message;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::stdio::stdin;
use rustix::termios::{isatty, tcgetattr, tcsetattr, LocalModes, OptionalActions, Termios};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Lines of a report that are no rows.
const FRAME: usize = 6;
/// To the upper left corner, and nothing below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// A terminal that hands over keys as they are pressed, until this is dropped.
struct Keys(Termios);

impl Keys {
    fn new() -> Option<Keys> {
        let before = tcgetattr(stdin()).ok()?;
        let mut now = before.clone();
        // Ctrl-C as a key, too: a signal would leave the terminal like this.
        now.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(stdin(), OptionalActions::Now, &now).ok()?;
        Some(Keys(before))
    }

    /// Waits for a key that ends it, so long at most; whether one came.
    fn wait(&self, time: Duration) -> bool {
        let timeout = Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let mut key = [0; 16];
        match poll(&mut [PollFd::from_borrowed_fd(stdin(), PollFlags::IN)], Some(&timeout)) {
            Ok(1..) => match rustix::io::read(stdin(), &mut key) {
                Ok(count) => count == 0 || key[..count].iter().any(|key| matches!(key, b'q' | b'Q' | 3 | 4)),
                Err(_) => true,
            },
            _ => false,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A terminal that is gone needs no repair.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// A tape that is being received, into a file that goes with this.
struct Received {
    folder: TempDir,
}

impl Received {
    /// Listens, and waits for the first block of a tape.
    fn begin(at: &str) -> Result<Received, Failure> {
        let folder = TempDir::with_prefix("heaptape-")
            .map_err(|error| Failure::Failed(format!("cannot make a folder for what is received: {error}")))?;
        let received = Received { folder };
        let news = receive::listen(listen_on(at)?, Shelf::new(received.file(), false));
        // What comes later is seen in the file; whoever has sent nothing else is no reason to end.
        while !received.file().metadata().is_ok_and(|facts| facts.len() > 0) {
            match news.recv_timeout(Duration::from_millis(50)) {
                Ok(News::Failed(error)) => return Err(Failure::Failed(format!("cannot take connections: {error}"))),
                Ok(News::Broken(peer, Some(error))) => {
                    anstream::eprintln!("heaptape: {peer}: {}", escape_message(&error.to_string()));
                }
                _ => {}
            }
        }
        Ok(received)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("received.tape")
    }
}

pub(super) fn follow(args: &FollowArgs) -> Result<(), Failure> {
    match args.tape.to_str().and_then(|tape| tape.strip_prefix("tcp://")) {
        Some(at) => follow_file(&Received::begin(at)?.file(), args),
        None => follow_file(&args.tape, args),
    }
}

fn follow_file(file: &Path, args: &FollowArgs) -> Result<(), Failure> {
    let query = Query {
        by: args.by.grouping()?,
        rows: 0,
        ..filter_query(&args.filter)
    };
    let is_terminal = isatty(std::io::stdout());
    let keys = if is_terminal && isatty(stdin()) {
        Keys::new()
    } else {
        None
    };
    let resolver = resolver_of(&args.symbols, &ReadingArgs::default())?;
    let options = TextOptions {
        units: units(&args.units),
        most_recent_first: false,
    };
    let mut tape = Growing::open(file)?;
    let mut is_ended = tape.update()?;
    let mut before = tape.heap()?;
    check_question(&query, &before)?;
    loop {
        let now = tape.heap()?;
        let mut report = diff((&before, &before.end()), (&now, &now.end()), &query, &*resolver);
        report
            .rows
            .sort_by(|one, other| (other.size, other.count, &one.key).cmp(&(one.size, one.count, &other.key)));
        let height = terminal_size::terminal_size().map_or(usize::MAX, |(_, height)| usize::from(height.0));
        let most = if args.rows == 0 { usize::MAX } else { args.rows };
        let shown = if is_terminal {
            most.min(height.saturating_sub(FRAME).max(1))
        } else {
            most
        };
        let shown = shown.min(report.rows.len());
        report.omitted_size_diff += report.rows[shown..].iter().map(|row| row.size_diff).sum::<i128>();
        report.omitted_rows += report.rows.len() - shown;
        report.rows.truncate(shown);
        let text = text_diff(&report, options);
        print_difference(&if is_terminal {
            format!("{CLEAR}{text}")
        } else {
            format!("{text}\n")
        })?;
        if is_ended {
            return Ok(());
        }
        before = now;
        match &keys {
            Some(keys) if keys.wait(args.interval) => return Ok(()),
            Some(_) => {}
            None => std::thread::sleep(args.interval),
        }
        is_ended = tape.update()?;
    }
}
