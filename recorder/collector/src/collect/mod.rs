//! The collector process: rounds of draining, with as much sleep in between as the traffic allows, until the last recorded process is gone.

mod header;
mod pace;

pub use header::header;

use crate::bound::{Cut, Folding};
use crate::channel::{Channel, Summary, ToCollector, ToLauncher};
use crate::cli::Sync;
use crate::control::{Command, Listener, Reply};
use crate::drain::{Drain, Scribe};
use crate::host::{Host, Identity};
use crate::output::{Output, Sink};
use crate::sys::signal;
use heaptape_format::fold::rehead;
use heaptape_format::record::{End, Header, LossCause, ProcessEnd};
use heaptape_format::{Micros, Writer, WriterOptions};
use heaptape_shm::{Segment, State};
use pace::Pace;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Processes are looked after this often.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// Names and cheap figures are read this often, the costly ones every tenth time.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// The buffer for blocks does not stay larger than this.
const BUFFER_KEPT: usize = 1 << 20;
/// When the launched program has ended, its children get this long to follow before the launcher is let go.
const LEAVE_TAKING: Duration = Duration::from_millis(300);

/// A program has this long from its start to its first allocation, when it is the only one left.
const START_PATIENCE: Duration = Duration::from_millis(500);

/// Makes a sink of a file.
type SinkOf<S> = fn(File) -> S;

/// What a collector works with.
pub struct Collector<H: Host, S: Sink> {
    drain: Drain<H>,
    output: Output<S>,
    /// The line to the launcher, while there is one.
    channel: Option<Channel>,
    listener: Option<Listener>,
    /// Signals with a meaning: the end, the start, the stop.
    orders: Option<OwnedFd>,
    flush: Duration,
    launched: u32,
    launched_identity: Option<Identity>,
    launched_end: Option<ProcessEnd>,
    ended_at: Option<Instant>,
    /// A recorded program had declared the recording dead when the tape was ended.
    deserted: bool,
    /// Since when no recorded process has been running.
    alone_since: Option<Instant>,
    check_stacks: bool,
    /// Folds the tape, and makes a sink of a file.
    folding: Option<(Box<dyn Folding>, SinkOf<S>)>,
    /// Bytes of the files of the recording that were closed.
    closed: u64,
    sync: Sync,
}

impl<H: Host, S: Sink> Collector<H, S> {
    /// A collector that has written the beginning of its tape.
    pub fn new(
        host: H,
        segment: Segment,
        header: &Header,
        sink: S,
        launched: u32,
        flush: Duration,
        options: WriterOptions,
    ) -> Collector<H, S> {
        let mut out = Vec::new();
        let writer = Writer::new(header, options, &mut out);
        let mut drain = Drain::new(segment, Scribe::new(host, writer, out));
        drain.launched = launched;
        if let Some(depth) = header.options.depth {
            drain.scribe.depth = depth as usize;
        }
        let launched_identity = drain.scribe.host.identify(launched);
        let mut collector = Collector {
            drain,
            output: Output::new(sink),
            channel: None,
            listener: None,
            orders: None,
            flush,
            launched,
            launched_identity,
            launched_end: None,
            ended_at: None,
            alone_since: None,
            deserted: false,
            check_stacks: segment.control().options().check_stacks,
            folding: None,
            closed: 0,
            sync: Sync::None,
        };
        collector.write();
        collector
    }

    /// When the disk is waited for.
    pub fn sync(&mut self, when: Sync) {
        self.sync = when;
    }

    /// Folds the tape, which lies in a file.
    pub fn folding(&mut self, folding: Box<dyn Folding>, sink: SinkOf<S>) {
        self.folding = Some((folding, sink));
    }

    /// Lets the world speak to it.
    pub fn connect(&mut self, channel: Option<Channel>, listener: Option<Listener>, orders: Option<OwnedFd>) {
        self.channel = channel;
        self.listener = listener;
        self.orders = orders;
    }

    /// Why the tape could not be begun.
    pub fn output_error(&self) -> Option<&std::io::Error> {
        self.output.error()
    }

    /// Works until everything recorded is gone, or it is told to end.
    pub fn run(mut self) {
        let mut pace = Pace::new(self.drain.segment().geometry());
        let mut swept = Instant::now();
        let mut sampled = Instant::now();
        let mut flushed = Instant::now();
        let mut samples = 0u32;
        loop {
            let round = self.drain.round();
            let now = Instant::now();
            self.drain.status_to_come = self.launched_end.is_none() && self.channel.is_some();
            if self.launched_end.is_some() || now - swept >= SWEEP_INTERVAL || self.drain.slots_short() {
                swept = now;
                self.drain.sweep();
                if self.complete() {
                    break;
                }
            }
            self.drain.reclaim();
            if now - sampled >= SAMPLE_INTERVAL {
                sampled = now;
                self.drain.names();
                self.drain.find_absent();
                self.drain.samples(samples.is_multiple_of(10));
                samples += 1;
            }
            let flushes = now - flushed >= self.flush;
            if flushes {
                flushed = now;
                self.drain.scribe.flush();
            }
            self.write();
            if flushes && self.sync == Sync::Interval {
                self.output.sync();
            }
            if self.output.error().is_some() {
                self.give_up();
                return;
            }
            if self.ended_at.is_some_and(|ended| ended.elapsed() > LEAVE_TAKING) {
                self.let_launcher_go();
            }
            if self.wait(pace.next(&round)) {
                break;
            }
        }
        self.finish();
    }

    /// Whether nothing more can come.
    fn complete(&mut self) -> bool {
        let launched_gone = self.launched_end.is_some()
            || (self.channel.is_none()
                && self
                    .launched_identity
                    .is_none_or(|identity| !self.drain.scribe.host.alive(identity)));
        if !launched_gone || self.drain.anybody_alive() {
            self.alone_since = None;
            return false;
        }
        // A forked child that has not run yet is one of ours, however long that takes.
        if !self.drain.scribe.host.holders().is_empty() {
            return false;
        }
        // A program that the last of them has started may not have come as far as its first allocation.
        let alone = self.alone_since.get_or_insert_with(Instant::now).elapsed();
        alone > START_PATIENCE || self.drain.scribe.host.starting(std::process::id()).is_empty()
    }

    fn write(&mut self) {
        self.write_out();
        self.keep_folding();
    }

    fn write_out(&mut self) {
        if self.drain.scribe.out.is_empty() {
            return;
        }
        self.make_room();
        let out = &mut self.drain.scribe.out;
        self.output.write(out);
        out.clear();
        out.shrink_to(BUFFER_KEPT);
        if self.sync == Sync::Always {
            self.output.sync();
        }
    }

    /// Waits for a folded tape if there is no room for what is to be written.
    fn make_room(&mut self) {
        while let Some((folding, _)) = self.folding.as_mut().filter(|_| self.output.error().is_none()) {
            let written = self.output.written();
            if written.saturating_add(self.drain.scribe.out.len() as u64) <= folding.room() {
                return;
            }
            match folding.is_done() {
                Some(true) => self.exchange(),
                Some(false) => {
                    folding.hurry();
                    self.wait_a_little();
                }
                None => match folding.start(written, true) {
                    Err(error) => self.output.fail(error),
                    Ok(()) if folding.is_done().is_some() => {}
                    Ok(()) => self.output.fail(std::io::Error::other(
                        "what is alive does not fit into the size that --max-size allows",
                    )),
                },
            }
        }
    }

    fn wait_a_little(&self) {
        // Whoever waits for room in its ring sees that this is alive.
        self.drain.segment().control().heartbeat.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
    }

    /// Looks after the folding of a tape.
    fn keep_folding(&mut self) {
        let Some((folding, _)) = self.folding.as_mut().filter(|_| self.output.error().is_none()) else {
            return;
        };
        if folding.wants_cut(self.output.written()) {
            self.drain.scribe.begin_generation();
            self.write_out();
        }
        let Some((folding, _)) = &mut self.folding else { return };
        let written = self.output.written();
        if folding.wants_cut(written) && self.output.error().is_none() {
            let writer = &self.drain.scribe.writer;
            folding.cut(Cut {
                offset: written,
                generation: writer.file_generation(),
                sequence: writer.sequence(),
            });
        }
        if let Err(error) = folding.start(written, false) {
            self.output.fail(error);
        }
        while let Some((folding, _)) = &self.folding {
            match folding.is_done() {
                Some(true) => {
                    // A file that is closed ends with what its totals count.
                    self.drain.scribe.flush();
                    self.write_out();
                    return self.exchange();
                }
                Some(false) if folding.is_pressing(written) => {
                    folding.hurry();
                    self.wait_a_little();
                }
                _ => return,
            }
        }
    }

    /// The folded tape takes the place of the tape.
    fn exchange(&mut self) {
        self.output.check();
        let Some((folding, sink)) = self.folding.as_mut().filter(|_| self.output.error().is_none()) else {
            return;
        };
        match folding.exchange(self.output.written()) {
            Err(error) => self.output.fail(error),
            Ok(None) => {}
            Ok(Some(exchanged)) => {
                let mut stamp = exchanged.stamp;
                let sink = sink(exchanged.file);
                if exchanged.goes_on {
                    let end = self.end();
                    let mut last = Vec::new();
                    self.drain.scribe.writer.close(&end, &mut last);
                    self.output.write(&last);
                    if self.sync != Sync::None {
                        // The next file has what is alive, and not what happened since the last wait for the disk.
                        self.output.sync();
                    }
                    self.closed += self.output.written();
                }
                self.output.replace(sink, exchanged.length);
                // What waits to be written has been numbered for the old one.
                rehead(&mut self.drain.scribe.out, exchanged.generation, &mut stamp);
                let writer = &mut self.drain.scribe.writer;
                let generation = writer.file_generation() - exchanged.generation + stamp.generation;
                writer.rebase(stamp.sequence, generation);
            }
        }
    }

    /// The totals so far.
    fn end(&self) -> End {
        let totals = self.drain.totals();
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        End {
            events: self.drain.scribe.writer.weight(),
            lost: self.drain.scribe.lost + self.output.dropped(),
            truncated_stacks: totals.truncated,
            failed_calls: totals.failed_calls,
            stack_mismatches: self.check_stacks.then_some(totals.mismatches),
            status: self.launched_end,
            collector_cpu: Micros(cpu.tv_sec as u64 * 1_000_000 + cpu.tv_nsec as u64 / 1000),
        }
    }

    /// Sleeps, unless somebody has something to say. `true`: it is time to end.
    fn wait(&mut self, time: Duration) -> bool {
        let timeout = Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let channel = self.channel.iter().map(|channel| channel.fd().as_fd());
        let orders = self.orders.iter().map(|fd| fd.as_fd());
        let listener = self
            .listener
            .iter()
            .flat_map(|listener| listener.fds().map(|fd| fd.as_fd()));
        let mut fds: Vec<PollFd> = channel
            .chain(orders)
            .chain(listener)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        // An interrupted sleep is a short one.
        if poll(&mut fds, Some(&timeout)).unwrap_or(0) == 0 {
            return false;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        if self.channel.is_some() && ready.next() == Some(true) {
            self.hear_launcher();
        }
        if self.orders.is_some() && ready.next() == Some(true) && self.obey() {
            return true;
        }
        if ready.any(|ready| ready) {
            self.serve();
        }
        false
    }

    /// Does what signals say. `true`: it is time to end.
    fn obey(&mut self) -> bool {
        while let Some(signal) = self.orders.as_ref().and_then(signal::next_order) {
            match signal {
                libc::SIGUSR1 => self.start(),
                libc::SIGUSR2 => self.stop(),
                _ => return true,
            }
        }
        false
    }

    fn start(&self) {
        let control = self.drain.segment().control();
        if control.state() == State::Paused {
            control.set_state(State::Recording);
        }
    }

    fn stop(&self) {
        let control = self.drain.segment().control();
        if control.state() == State::Recording {
            control.set_state(State::Paused);
        }
    }

    fn hear_launcher(&mut self) {
        let Some(channel) = &self.channel else { return };
        match channel.receive::<ToCollector>() {
            Some(ToCollector::Ended(end)) => {
                // What the program did until its end is seen first, so that the end finds its image.
                self.drain.round();
                if let Some(image) = self.drain.scribe.images.living(self.launched) {
                    self.drain.end_image(image, end);
                }
                self.launched_end = Some(end);
                self.ended_at = Some(Instant::now());
            }
            Some(ToCollector::Abandon) => std::process::exit(0),
            // The launcher was killed; the program lives on, perhaps.
            None => self.channel = None,
        }
    }

    /// Lets the launcher go when others run on. When nobody does, what is waited for takes no time that matters: a fork whose child never came, a program that never began.
    fn let_launcher_go(&mut self) {
        let running = self
            .drain
            .scribe
            .images
            .iter()
            .filter(|(_, image)| image.end.is_none())
            .count();
        let running = running.max(self.drain.scribe.host.holders().len()) as u32;
        if running == 0 {
            return;
        }
        self.ended_at = None;
        let summary = self.summary();
        if let Some(channel) = self.channel.take() {
            // A launcher that is gone needs no telling.
            let _ = channel.send(&ToLauncher::GoesOn(summary, running));
        }
    }

    fn serve(&mut self) {
        let Some(mut listener) = self.listener.take() else {
            return;
        };
        listener.serve(|pid, command| self.answer(pid, command));
        self.listener = Some(listener);
    }

    fn answer(&mut self, pid: u32, command: Command) -> Reply {
        // Whoever has started `heaptape record` knows the launcher best.
        let launcher = self.channel.as_ref().and_then(Channel::maker);
        let own = [std::process::id(), self.launched].contains(&pid) || launcher == Some(pid);
        let image = self.drain.scribe.images.living(pid);
        let Some(image) = image.or_else(|| self.drain.scribe.images.living(self.launched).filter(|_| own)) else {
            return if own {
                Reply::Error("the program has not attached yet".into())
            } else {
                Reply::Unknown
            };
        };
        let control = self.drain.segment().control();
        match (command, control.state()) {
            (_, State::Dead) => Reply::Error("the recording has ended".into()),
            (Command::Mark(name), _) => {
                self.drain.mark(image, name);
                Reply::Ok("marked".into())
            }
            (Command::Start, State::Recording) => Reply::Ok("already recording".into()),
            (Command::Start, State::Paused) => {
                self.start();
                Reply::Ok("recording".into())
            }
            (Command::Stop, State::Paused) => Reply::Ok("already paused".into()),
            (Command::Stop, State::Recording) => {
                self.stop();
                Reply::Ok("paused".into())
            }
            (Command::Status, state) => {
                let summary = self.summary();
                let state = if state == State::Paused { "paused" } else { "recording" };
                Reply::Ok(format!(
                    "{state}; {} events, {} bytes, {} lost, {} processes; collector {}",
                    summary.events,
                    summary.bytes,
                    summary.lost,
                    summary.images,
                    std::process::id()
                ))
            }
        }
    }

    /// Why the tape is not all that it should be.
    fn error(&self) -> Option<String> {
        let deserted = "a recorded program waited too long for the collector, and went on unrecorded";
        self.output
            .error()
            .map(plain)
            .or_else(|| self.deserted.then(|| deserted.into()))
    }

    fn summary(&self) -> Summary {
        let totals = self.drain.totals();
        Summary {
            events: self.drain.scribe.writer.weight(),
            bytes: self.closed + self.output.written(),
            lost: self.drain.scribe.lost + self.output.dropped(),
            lost_processes: totals.lost_processes,
            images: self.drain.scribe.images.seen(),
            deepest: self.drain.scribe.deepest() as u64,
            mismatches: self.check_stacks.then_some(totals.mismatches),
            error: self.error(),
            note: None,
        }
    }

    /// The output has failed for good: the programs live on unrecorded, and whoever started them hears of it.
    fn give_up(&mut self) {
        self.drain.segment().control().set_state(State::Dead);
        self.end_folding();
        while self.launched_end.is_none() && self.channel.is_some() {
            if self.wait(Duration::from_secs(3600)) {
                break;
            }
        }
        let mut summary = self.summary();
        summary.note = self.output.finish();
        if let Some(channel) = &self.channel {
            let _ = channel.send(&ToLauncher::Finished(summary));
        }
    }

    fn end_folding(&mut self) {
        if let Some((folding, _)) = &mut self.folding {
            folding.end();
        }
    }

    /// Everything that was published is written, and the tape ended.
    fn finish(mut self) {
        let segment = *self.drain.segment();
        self.deserted = segment.control().state() == State::Dead;
        segment.control().set_state(State::Dead);
        self.drain.drain_all();
        self.drain.tell_losses();
        let stamp = self.drain.watermark();
        if self.deserted {
            // What has happened since, nobody has counted.
            self.drain.scribe.loss(None, 0, LossCause::PoolFull, stamp);
        }
        for id in self.drain.scribe.images.ids() {
            let end = self.drain.scribe.images.get(id).and_then(|image| image.end);
            self.drain
                .scribe
                .tell_end(id, end.unwrap_or(ProcessEnd::Running), stamp);
        }
        self.drain.scribe.flush();
        self.write();
        self.end_folding();
        let mut summary = self.summary();
        let end = self.end();
        let mut last = Vec::new();
        self.drain.scribe.writer.finish(&end, &mut last);
        self.output.write(&last);
        if self.sync != Sync::None {
            self.output.sync();
        }
        self.output.check();
        summary.bytes = self.closed + self.output.written();
        summary.error = self.output.error().map(plain).or(summary.error);
        summary.lost = self.drain.scribe.lost + self.output.dropped();
        summary.note = self.output.finish();
        if let Some(channel) = &self.channel {
            let _ = channel.send(&ToLauncher::Finished(summary));
        }
    }
}

/// An error as a person says it, without the number.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_string(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bound::Exchanged;
    use crate::output::testing::Faulty;
    use crate::testing::{process, segment, tape::Tape, FakeHost, Player};
    use heaptape_format::fold::Restamp;
    use heaptape_format::{scan, Ending};
    use std::cell::RefCell;
    use std::rc::Rc;

    /// A sink that can still be looked at when the collector is gone.
    #[derive(Clone)]
    struct Shared(Rc<RefCell<Faulty>>);

    impl Sink for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn truncate(&mut self, length: u64) -> std::io::Result<()> {
            self.0.borrow_mut().truncate(length)
        }
        fn wait(&mut self) {}
        fn sync(&mut self) -> std::io::Result<()> {
            self.0.borrow_mut().sync()
        }
    }

    /// Records 200 events of a program that then ends, into a sink that fails in the given way.
    fn record(faults: Faulty) -> (Faulty, Summary, State) {
        record_on(&FakeHost::default(), faults)
    }

    fn record_on(host: &FakeHost, faults: Faulty) -> (Faulty, Summary, State) {
        record_with(host, faults, Sync::None)
    }

    fn record_with(host: &FakeHost, faults: Faulty, sync: Sync) -> (Faulty, Summary, State) {
        record_into(host, faults, sync, None)
    }

    fn record_into(
        host: &FakeHost,
        faults: Faulty,
        sync: Sync,
        next: Option<Box<dyn Folding>>,
    ) -> (Faulty, Summary, State) {
        let segment = segment(4, 4, 16);
        segment.control().set_state(State::Recording);
        host.0.now.set(1_000_000);
        let sink = Shared(Rc::new(RefCell::new(faults)));
        let (launcher, channel) = Channel::pair().unwrap();
        let mut collector = Collector::new(
            host.clone(),
            segment,
            &Header::default(),
            sink.clone(),
            41,
            Duration::from_nanos(1),
            WriterOptions::default(),
        );
        collector.connect(Some(channel), None, None);
        collector.sync(sync);
        if let Some(next) = next {
            collector.folding(next, |_| Shared(Rc::default()));
        }
        let owner = process(&segment, 41, None, 0);
        let mut thread = Player::new(&segment, owner, 41);
        for step in 0..200 {
            thread.alloc(2_000_000 + step, step, 1);
        }
        host.0.now.set(10_000_000);
        // What is asked about once a second.
        collector.drain.round();
        collector.drain.names();
        collector.drain.find_absent();
        collector.drain.samples(true);
        launcher.send(&ToCollector::Ended(ProcessEnd::Exit(0))).unwrap();
        collector.run();
        let Some(ToLauncher::Finished(summary)) = launcher.receive() else {
            panic!("the launcher is told in every case")
        };
        let sink = sink.0.borrow().clone();
        (sink, summary, segment.control().state())
    }

    #[test]
    fn whichever_write_fails_the_tape_is_whole_blocks_and_the_launcher_is_told() {
        let (sink, summary, _) = record(Faulty::default());
        assert_eq!((summary.events, summary.error), (200, None));
        assert_eq!(summary.bytes, sink.bytes.len() as u64);
        let all = sink.calls;
        assert!(all > 2);
        for at in 1..=all {
            let (sink, summary, state) = record(Faulty {
                fail_at: Some((at, libc::ENOSPC)),
                ..Faulty::default()
            });
            assert_eq!(summary.error.as_deref(), Some("No space left on device"), "write {at}");
            assert_eq!(summary.bytes, sink.bytes.len() as u64);
            assert_eq!(state, State::Dead);
            if at > 1 {
                let tape = Tape::read(&sink.bytes);
                assert!(tape.events.len() <= 200);
            }
        }
    }

    #[test]
    fn however_many_bytes_fit_the_tape_is_whole_blocks_and_the_launcher_is_told() {
        let (whole, ..) = record(Faulty::default());
        for capacity in (0..whole.bytes.len()).step_by(29) {
            let (sink, summary, state) = record(Faulty {
                capacity: Some(capacity),
                ..Faulty::default()
            });
            assert_eq!(
                summary.error.as_deref(),
                Some("No space left on device"),
                "{capacity} bytes"
            );
            assert_eq!(summary.bytes, sink.bytes.len() as u64);
            assert_eq!(state, State::Dead);
            if !sink.bytes.is_empty() {
                assert!(Tape::read(&sink.bytes).events.len() <= 200);
            }
        }
    }

    #[test]
    fn the_disk_is_waited_for_as_often_as_was_asked_for_and_a_disk_that_fails_ends_the_recording() {
        let host = FakeHost::default();
        let (sink, ..) = record_with(&host, Faulty::default(), Sync::None);
        assert_eq!(sink.synced, []);
        for sync in [Sync::Interval, Sync::Always] {
            let (sink, summary, _) = record_with(&host, Faulty::default(), sync);
            assert_eq!(sink.synced.last(), Some(&sink.bytes.len()), "{sync:?}");
            assert_eq!(summary.error, None);
            let all = sink.synced.len();
            assert!(all > 1);
            if sync == Sync::Always {
                // But for the block that the collector begins with, which nobody relies on yet.
                assert_eq!(all as u32, sink.calls - 1);
            }
            for at in 1..=all {
                let faults = Faulty {
                    sync_fails_at: Some(at),
                    ..Faulty::default()
                };
                let (sink, summary, state) = record_with(&host, faults, sync);
                assert_eq!(summary.error.as_deref(), Some("Input/output error"), "{sync:?} {at}");
                assert_eq!(state, State::Dead);
                assert_eq!(sink.synced.len(), at);
                assert!(Tape::read(&sink.bytes).events.len() <= 200);
            }
        }
    }

    /// One more file of the recording.
    #[derive(Default)]
    struct Next(Option<Cut>, bool);

    impl Folding for Next {
        fn wants_cut(&self, _: u64) -> bool {
            self.0.is_none() && !self.1
        }

        fn cut(&mut self, cut: Cut) {
            self.0 = Some(cut);
        }

        fn start(&mut self, _: u64, _: bool) -> std::io::Result<()> {
            Ok(())
        }

        fn is_done(&self) -> Option<bool> {
            self.0.map(|_| true)
        }

        fn hurry(&self) {}

        fn exchange(&mut self, _: u64) -> std::io::Result<Option<Exchanged>> {
            self.1 = true;
            let made = |cut: Cut| Exchanged {
                file: File::open("/dev/null").expect("it is there"),
                length: 0,
                stamp: Restamp {
                    sequence: 1,
                    generation: 1,
                },
                generation: cut.generation,
                goes_on: true,
            };
            Ok(self.0.take().map(made))
        }

        fn end(&mut self) {}
    }

    #[test]
    fn the_disk_is_waited_for_once_more_when_a_file_of_a_recording_is_closed() {
        let host = FakeHost::default();
        for sync in [Sync::None, Sync::Interval, Sync::Always] {
            let (closed, summary, _) = record_into(&host, Faulty::default(), sync, Some(Box::<Next>::default()));
            assert_eq!((summary.events, summary.error), (200, None));
            assert!(summary.bytes > closed.bytes.len() as u64);
            assert!(matches!(
                scan(&closed.bytes[..]).map(|found| found.ending),
                Ok(Ending::Clean(_))
            ));
            match sync {
                Sync::None => assert_eq!(closed.synced, []),
                _ => assert_eq!(closed.synced.last(), Some(&closed.bytes.len()), "{sync:?}"),
            }
        }
    }

    #[test]
    fn whichever_question_to_the_system_stays_without_an_answer_nothing_is_lost() {
        let host = FakeHost::default();
        record_on(&host, Faulty::default());
        let questions = host.0.questions.get();
        assert!(questions > 4, "{questions} questions");
        for at in 1..=questions {
            let host = FakeHost::default();
            host.0.unanswered.set(at);
            let (sink, summary, _) = record_on(&host, Faulty::default());
            assert_eq!(
                (summary.events, summary.lost, summary.error),
                (200, 0, None),
                "question {at}"
            );
            assert_eq!(Tape::read(&sink.bytes).events.len(), 200, "question {at}");
        }
    }

    #[test]
    fn a_forked_child_that_has_not_come_to_its_first_call_is_waited_for() {
        let segment = segment(4, 4, 16);
        let host = FakeHost::default();
        let collector = Collector::new(
            host.clone(),
            segment,
            &Header::default(),
            Shared(Rc::default()),
            41,
            Duration::from_secs(1),
            WriterOptions::default(),
        );
        let mut collector = collector;
        collector.launched_end = Some(ProcessEnd::Exit(0));
        host.0.holders.replace(vec![42]);
        assert!(!collector.complete());
        host.0.holders.replace(Vec::new());
        assert!(collector.complete());
    }
}
