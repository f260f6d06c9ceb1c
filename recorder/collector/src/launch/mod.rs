//! The launcher: makes everything ready, starts the program, waits for it, and ends as it ends.

mod library;
mod program;
mod tape;
mod target;
mod wait;

use crate::bound::{Bound, Folding, Place, Rotation};
use crate::channel::{Channel, Summary, ToCollector, ToLauncher};
use crate::cli::{OnFull, Profile, RecordArgs, Sync};
use crate::collect::{self, plain, Collector};
use crate::control::Listener;
use crate::host::elf;
use crate::host::linux::Linux;
use crate::output::Sink;
use crate::send::Sender;
use crate::summary;
use crate::sys::{memory, process, shared, signal};
use heaptape_format::record::ProcessEnd;
use heaptape_format::WriterOptions;
use heaptape_shm::{Geometry, Options, Segment, State};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tape::Destination;
use target::Program;
use wait::Answer;

/// Exit status for bad usage and for what stands in the way of a recording.
const REFUSED: u8 = 2;

/// Records a program. Returns the exit status for this process; does not return if the program died by a signal, or with `--exec`.
pub fn record(args: &RecordArgs) -> ExitCode {
    match launch(args) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            say(&failure.text);
            ExitCode::from(failure.status)
        }
    }
}

/// Why nothing was recorded.
struct Failure {
    status: u8,
    text: String,
}

impl Failure {
    fn new(text: String) -> Failure {
        Failure { status: REFUSED, text }
    }

    fn system(what: &str, error: &io::Error) -> Failure {
        Failure::new(format!("{what}: {}", plain(error)))
    }
}

/// A message to the user. There is nothing to be done about a closed stderr.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "heaptape: {text}");
}

fn launch(args: &RecordArgs) -> Result<u8, Failure> {
    if let Some(pid) = args.serve {
        return serve(args, pid);
    }
    let Some(command) = args.command.first() else {
        return Err(Failure::new("expected the program to record and its arguments".into()));
    };
    let refused = |refusal: program::Refusal| Failure {
        status: refusal.status(),
        text: refusal.to_string(),
    };
    let file = program::find(command).map_err(refused)?;
    if let Err(refusal) = program::check(&file) {
        if !(args.anyway && refusal.can_be_overruled()) {
            return Err(refused(refusal));
        }
    }
    if let Some(function) = elf::own_allocator(&program::executed(&file)) {
        say(&format!(
            "{} has an allocator of its own linked into it ({function}): what that gives out cannot be seen, only the memory that it gets from the system and what others allocate",
            summary::shown(&file)
        ));
    }
    let program = Program {
        file,
        arguments: args.command.clone(),
        library: library::find().map_err(Failure::new)?,
        output_to_stderr: args.output.as_deref().is_some_and(tape::is_stdout),
    };
    // From here on nothing interrupts: what comes for the program is passed on when it runs.
    let mask = signal::block_all();
    if args.exec {
        return Err(become_program(args, &program, mask));
    }
    let waiting = target::split_off(&program, mask).map_err(|error| Failure::system("cannot fork", &error))?;
    let pid = waiting.pid;
    let tape = tape_of(args, pid);
    let ready = prepare(args, &tape, pid)?;
    if let Err(error) = waiting.go(&ready.segment) {
        ready.undo();
        return Err(not_executed(&program, &error));
    }
    let collector = ready.collector;
    let end = wait::until_end(pid);
    let _ = collector.send(&ToCollector::Ended(end));
    tell(
        args,
        &program,
        &tape,
        wait::for_collector(&collector, ready.collector_pid),
    );
    match end {
        ProcessEnd::Exit(status) => Ok(status as u8),
        ProcessEnd::Signal(number) => {
            signal::die_by(number);
            // Process 1 of a namespace, which that signal does not end.
            Ok(128u8.wrapping_add(number as u8))
        }
        _ => Ok(REFUSED),
    }
}

fn tape_of(args: &RecordArgs, pid: u32) -> PathBuf {
    args.output
        .clone()
        .unwrap_or_else(|| tape::default_name(args.command.first().map_or("program".as_ref(), |name| name), pid))
}

/// What is ready before the program starts.
struct Ready {
    collector: Channel,
    collector_pid: u32,
    /// The path of the shared memory.
    segment: String,
    /// The tape, if it was not there before.
    fresh_tape: Option<PathBuf>,
}

impl Ready {
    /// Nothing came of it: what was made is taken away.
    fn undo(self) {
        let _ = self.collector.send(&ToCollector::Abandon);
        discard(self.fresh_tape);
    }
}

fn discard(fresh_tape: Option<PathBuf>) {
    if let Some(tape) = fresh_tape {
        let _ = std::fs::remove_file(tape);
    }
}

/// Tape, shared memory and collector for the program that is to be process `pid`.
fn prepare(args: &RecordArgs, tape: &Path, pid: u32) -> Result<Ready, Failure> {
    let first = match args.rotate {
        Some(_) => tape::first_file(tape, args.force).map_err(Failure::new)?,
        None => tape.to_path_buf(),
    };
    let opened = tape::open(&first, args.force).map_err(Failure::new)?;
    let fresh_tape = opened.fresh.then(|| first.clone());
    if opened.fresh && args.sync != Sync::None {
        // What is waited for later is to have a name by then.
        let _ = Place::of(&first).map(|place| place.sync_folder());
    }
    let recording = tape.file_name().unwrap_or_default();
    let started = foldable(args, &first, &opened.to)
        .and_then(|place| Ok((place, segment(args)?)))
        .and_then(|(place, (fd, segment))| {
            let place = place.map(|place| (place, recording.to_owned()));
            start_collector(args, (opened.to, place), fd, segment, pid)
        });
    match started {
        Ok((collector, collector_pid, segment)) => Ok(Ready {
            collector,
            collector_pid,
            segment,
            fresh_tape,
        }),
        Err(failure) => {
            discard(fresh_tape);
            Err(failure)
        }
    }
}

/// Where the tape lies that is to be folded, if it is to.
fn foldable(args: &RecordArgs, tape: &Path, opened: &Destination) -> Result<Option<Place>, Failure> {
    let option = match (args.max_size, args.rotate, &args.to) {
        (None, None, None) => return Ok(None),
        (Some(_), ..) => "--max-size",
        (None, Some(_), _) => "--rotate",
        (None, None, Some(_)) => "--to",
    };
    let place = match opened {
        Destination::File(_) => Place::of(tape).map_err(|error| plain(&error)),
        Destination::Stream(_) => Err("what has gone to standard output cannot be taken back".into()),
    };
    place.map(Some).map_err(|why| {
        Failure::new(format!(
            "{}: {option} needs a file that can be written anew: {why}",
            summary::shown(tape)
        ))
    })
}

fn segment(args: &RecordArgs) -> Result<(OwnedFd, Segment), Failure> {
    let (fd, segment) = shared::create(Geometry::for_pool(args.pool_bytes()))
        .map_err(|error| Failure::system("cannot get shared memory", &error))?;
    let control = segment.control();
    control.set_options(&Options {
        stack_mode: args.stacks.mode(),
        on_full_drop: args.on_full == OnFull::Drop,
        check_stacks: args.check_stacks,
        depth: args.depth.unwrap_or(0),
        min_size: args.min_size,
        sample_bytes: args.sample.unwrap_or(0),
        ..Options::default()
    });
    control.set_state(if args.paused { State::Paused } else { State::Recording });
    Ok((fd, segment))
}

/// Splits the collector off, twice, so that it is nobody's child and nothing waits for it.
fn start_collector(
    args: &RecordArgs,
    tape: (Destination, Kept),
    fd: OwnedFd,
    segment: Segment,
    pid: u32,
) -> Result<(Channel, u32, String), Failure> {
    let (ours, theirs) = Channel::pair().map_err(|error| Failure::system("cannot get a socket", &error))?;
    let launcher = std::process::id();
    let cannot_fork = |error: io::Error| Failure::system("cannot fork", &error);
    match process::fork().map_err(cannot_fork)? {
        process::Side::Child => {
            // Out of reach of the terminal's keys.
            let _ = rustix::process::setsid();
            match process::fork() {
                Ok(process::Side::Child) => collector_main(args, tape, &fd, segment, pid, launcher, theirs),
                Ok(process::Side::Parent(_)) => process::exit_now(0),
                Err(_) => process::exit_now(1),
            }
        }
        process::Side::Parent(between) => {
            drop(theirs);
            if let Some(between) = rustix::process::Pid::from_raw(between as i32) {
                let _ = rustix::process::waitpid(Some(between), rustix::process::WaitOptions::empty());
            }
            match ours.receive() {
                Some(ToLauncher::Ready(collector)) => {
                    Ok((ours, collector, target::segment_path(collector, fd.as_raw_fd())))
                }
                Some(ToLauncher::Finished(summary)) => Err(Failure::new(format!(
                    "the tape cannot be written: {}",
                    summary.error.unwrap_or_default()
                ))),
                _ => Err(Failure::new("the collector could not be started".into())),
            }
        }
    }
}

/// Where the tape is kept that is to be folded: the folder, and the name of the recording.
type Kept = Option<(Place, OsString)>;

/// What the collector writes to, and what is left to fold.
fn sink_of(args: &RecordArgs, tape: Destination, place: Kept) -> io::Result<(Box<dyn Sink>, Kept)> {
    match (&args.to, tape, place) {
        (Some(to), Destination::File(rest), Some((place, _))) => {
            let sender = Sender::new(to.clone(), args.spool_bytes(), rest, place)?;
            Ok((Box::new(sender), None))
        }
        (_, tape, place) => Ok((tape.sink(), place)),
    }
}

/// The collector process from its first to its last instruction.
fn collector_main(
    args: &RecordArgs,
    (tape, place): (Destination, Kept),
    fd: &OwnedFd,
    segment: Segment,
    pid: u32,
    launcher: u32,
    channel: Channel,
) -> ! {
    let mut keep = vec![tape.fd(), fd.as_raw_fd(), channel.fd().as_raw_fd()];
    keep.extend(place.as_ref().map(|(place, _)| place.fd()));
    process::keep_only(&keep);
    memory::keep_little();
    // So that a file system can be unmounted under a long recording.
    let _ = rustix::process::chdir("/");
    segment
        .control()
        .collector_pid
        .store(std::process::id(), std::sync::atomic::Ordering::Relaxed);
    let header = collect::header(args);
    let (sink, place) = match sink_of(args, tape, place) {
        Ok(ready) => ready,
        Err(error) => {
            let summary = Summary {
                error: Some(plain(&error)),
                ..Summary::default()
            };
            let _ = channel.send(&ToLauncher::Finished(summary));
            process::exit_now(1)
        }
    };
    let mut collector = Collector::new(
        Linux::new(fd, launcher, pid),
        segment,
        &header,
        sink,
        pid,
        Duration::from_secs_f64(args.flush.min(1e9)),
        match args.profile {
            Profile::Usual => WriterOptions::default(),
            Profile::Tiny => WriterOptions::tiny(),
        },
    );
    collector.sync(args.sync);
    if let Some((place, recording)) = place {
        let folding: Box<dyn Folding> = match (args.max_size, args.rotate) {
            (Some(limit), _) => Box::new(Bound::new(place, limit)),
            (None, turn) => Box::new(Rotation::new(place, recording, turn.unwrap_or_default(), args.keep)),
        };
        collector.folding(folding, |file| Box::new(file));
    }
    let first = match collector.output_error() {
        Some(error) => ToLauncher::Finished(Summary {
            error: Some(plain(error)),
            ..Summary::default()
        }),
        None => ToLauncher::Ready(std::process::id()),
    };
    let ready = matches!(first, ToLauncher::Ready(_));
    if channel.send(&first).is_err() || !ready {
        process::exit_now(1);
    }
    // Both are amenities: a recording goes on without them.
    let listener = Listener::new().ok();
    let orders = signal::orders_fd().ok();
    let channel = (!args.exec).then_some(channel);
    collector.connect(channel, listener, orders);
    collector.run();
    process::exit_now(0)
}

/// With `--exec`: this process becomes the program. Returns only when that failed.
fn become_program(args: &RecordArgs, program: &Program, mask: signal::Mask) -> Failure {
    let tape = tape_of(args, std::process::id());
    match prepare(args, &tape, std::process::id()) {
        Ok(ready) => {
            let error = program.become_it(&ready.segment, mask);
            discard(ready.fresh_tape);
            not_executed(program, &error)
        }
        Err(failure) => failure,
    }
}

/// Makes everything ready for a program that waits for it, and leaves the collector: prints where the shared memory is.
fn serve(args: &RecordArgs, pid: u32) -> Result<u8, Failure> {
    // The collector goes on without a word to anybody, as for a program that this process has become.
    let args = RecordArgs {
        exec: true,
        ..args.clone()
    };
    let tape = tape_of(&args, pid);
    if tape::is_stdout(&tape) {
        return Err(Failure::new(
            "HEAPTAPE_OUTPUT: expected a file for the tape, found -: a program that loads the library by itself has its standard output for itself".into(),
        ));
    }
    signal::block_all();
    let ready = prepare(&args, &tape, pid)?;
    if writeln!(io::stdout(), "{}", ready.segment).is_err() {
        ready.undo();
        return Err(Failure::new("the program that asked for a collector is gone".into()));
    }
    Ok(0)
}

/// The program was there, but the system would not have it.
fn not_executed(program: &Program, error: &io::Error) -> Failure {
    Failure {
        status: if error.kind() == io::ErrorKind::NotFound {
            127
        } else {
            126
        },
        text: format!(
            "{}: cannot be executed: {}",
            summary::shown(&program.file),
            plain(error)
        ),
    }
}

/// Says how it went.
fn tell(args: &RecordArgs, program: &Program, tape: &Path, answer: Answer) {
    let (summary, still_running) = match answer {
        Answer::Told(ToLauncher::Finished(summary)) => (summary, 0),
        Answer::Told(ToLauncher::GoesOn(summary, running)) => (summary, running),
        Answer::Stopped(collector) => {
            say(&format!(
                "the collector (process {collector}) is stopped, and does not end the tape; what it had written is readable{}",
                summary::next(": heaptape info", tape)
            ));
            return;
        }
        Answer::Told(ToLauncher::Ready(_)) | Answer::Gone => {
            say(&format!(
                "the collector ended before the program did; what it had written is readable{}",
                summary::next(": heaptape info", tape)
            ));
            return;
        }
    };
    if summary.images == 0 && summary.error.is_none() {
        say(&format!(
            "{} was never seen, nothing was recorded: either it allocated nothing, or the recording library was not loaded into it (its environment was cleared, or its loader ignored LD_PRELOAD)",
            summary::shown(&program.file)
        ));
    }
    if still_running > 0 {
        say(&format!(
            "{still_running} recorded process{} still running; the recording goes on in the background until the last has ended",
            if still_running == 1 { " is" } else { "es are" }
        ));
    }
    // Where the tape is that was sent, nobody here knows.
    let tape = if args.to.is_some() { Path::new("-") } else { tape };
    let something_wrong =
        summary.error.is_some() || summary.note.is_some() || summary.lost > 0 || summary.lost_processes > 0;
    if !args.quiet || something_wrong {
        let _ = writeln!(io::stderr(), "{}", summary::line(&summary, tape));
    }
}
