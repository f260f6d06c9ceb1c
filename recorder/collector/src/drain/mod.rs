//! Draining the rings of all threads into one globally ordered stream.
//!
//! Stamps order all events; the only question is up to which stamp everything is known. In a round, after reading the clock (`now`), each slot gives a bound on what it may still
//! publish (`Stream::look`): an idle thread nothing earlier than `now`, one inside an event nothing earlier than that event's stamp or than its last one.
//! Everything below the least bound, the *watermark*, is merged and written; the rest stays in the rings until a later round.
//!
//! The watermark stays [`MARGIN_NANOS`] behind `now`: a thread's mark "inside an event" and its stamp pass through a store buffer and an out-of-order processor, so that the stamp can
//! be read a little earlier than the mark is seen. That takes well under a microsecond; the margin is generous since it costs nothing but as much delay.
//!
//! A thread that stays inside an event (stopped by a debugger, in a long `mremap`) holds everybody up. When the pool runs full meanwhile, the others pass it; what it publishes
//! afterwards is counted as [`LossCause::Late`].

mod merge;
mod pool;
mod scribe;
pub mod stacks;
mod stream;
mod sweep;

#[cfg(test)]
mod tests;

pub use scribe::Scribe;

use crate::clock::Anchor;
use crate::host::Host;
use crate::processes::{Ancestry, Image, ImageId};
use heaptape_format::record::{LossCause, ProcessEnd};
use heaptape_shm::slot::{life, IDLE};
use heaptape_shm::{Segment, State, NONE};
use std::sync::atomic::Ordering;
use stream::Stream;

/// How far the watermark stays behind the clock.
pub const MARGIN_NANOS: u64 = 200_000;
/// A thread may hold the others up for this long while the pool is nearly full.
const PATIENCE_NANOS: u64 = 200_000_000;
/// A forked child must register within this time to be placed exactly.
const FORK_PATIENCE_NANOS: u64 = 100_000_000;

/// What a round found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Items written.
    pub taken: u64,
    /// Chunks in use after it.
    pub used_chunks: u32,
    /// Streams looked at.
    pub streams: usize,
    /// Something is waited for that will come very soon.
    pub soon: bool,
}

/// Something that is to be done when the order reaches its stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Due {
    Fork(ImageId),
    Mark(ImageId, Vec<u8>),
    Resumed,
}

/// Drains a segment into a tape.
pub struct Drain<H> {
    segment: Segment,
    /// The writing half.
    pub scribe: Scribe<H>,
    streams: Vec<Stream>,
    /// Slots that have a stream.
    known_threads: Vec<bool>,
    thread_claims: Option<u32>,
    process_claims: Option<u32>,
    /// By stamp.
    due: Vec<(u64, Due)>,
    /// Forks whose children have been told, by stamp: their notes need not wait.
    told_forks: Vec<u64>,
    /// The fork that the order waits at, and since when.
    waiting_fork: Option<(u64, u64)>,
    heap: merge::Heap,
    /// The latest watermark.
    watermark: u64,
    /// The clock at the last round.
    now: Anchor,
    /// The pool has been nearly full since.
    pressed_since: Option<u64>,
    totals: Totals,
    lost_no_slot: u64,
    lost_processes: u32,
    /// Pauses that the tape tells of.
    pauses: u32,
    /// Process id of the launched program, which is of this namespace whatever it looks like.
    pub launched: u32,
    /// The launcher is yet to say how that program ended: until then nobody else judges it.
    pub status_to_come: bool,
    /// Index from which the next sweep of threads goes on.
    sweep_from: usize,
}

/// Counters of processes, for the end of the tape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Allocation calls that failed.
    pub failed_calls: u64,
    /// Stacks cut short.
    pub truncated: u64,
    /// Mismatches found by checking.
    pub mismatches: u64,
    /// Processes that found no slot.
    pub lost_processes: u64,
}

impl<H: Host> Drain<H> {
    /// Begins to drain a segment.
    pub fn new(segment: Segment, scribe: Scribe<H>) -> Drain<H> {
        let now = scribe.host.now();
        Drain {
            segment,
            scribe,
            streams: Vec::new(),
            known_threads: vec![false; segment.threads().len()],
            thread_claims: None,
            process_claims: None,
            due: Vec::new(),
            told_forks: Vec::new(),
            waiting_fork: None,
            heap: merge::Heap::default(),
            watermark: 0,
            now,
            pressed_since: None,
            totals: Totals::default(),
            lost_no_slot: 0,
            lost_processes: 0,
            pauses: 0,
            launched: 0,
            status_to_come: false,
            sweep_from: 0,
        }
    }

    /// One round: see what is new, write what is certain.
    pub fn round(&mut self) -> Round {
        let now = self.scribe.host.now();
        self.now = now;
        self.scribe.clock.anchor(now);
        // Before any slot is looked at: a thread that is not seen now has claimed its slot later than `now`.
        std::sync::atomic::fence(Ordering::SeqCst);
        self.discover();
        self.notice_pauses();
        let settled = now.stamp.saturating_sub(self.scribe.clock.stamps(MARGIN_NANOS));
        let watermark = self.bounds(settled);
        let taken = self.merge(watermark);
        for stream in &mut self.streams {
            stream.pause();
        }
        self.scribe.tell_late(self.watermark);
        self.segment.control().heartbeat.fetch_add(1, Ordering::Relaxed);
        self.wake_waiters();
        let geometry = self.segment.geometry();
        Round {
            taken,
            used_chunks: geometry.chunks - self.segment.control().free_chunks().min(geometry.chunks),
            streams: self.streams.len(),
            soon: self.waiting_fork.is_some() || self.segment.control().waiters.load(Ordering::Relaxed) != 0,
        }
    }

    /// Writes everything that has been published, whatever its threads are doing. For the end: nothing more is expected.
    pub fn drain_all(&mut self) {
        self.round();
        for stream in &mut self.streams {
            stream.dead = true;
        }
        self.waiting_fork = None;
        self.told_forks.clear();
        if self.segment.control().pauses.load(Ordering::Acquire) != self.pauses {
            self.resumed();
        }
        let now = self.scribe.host.now();
        self.now = now;
        self.bounds(u64::MAX - 1);
        loop {
            self.merge(u64::MAX - 1);
            // A fork whose child never came ends a merge early.
            if self.waiting_fork.take().is_none() {
                break;
            }
        }
        for stream in &mut self.streams {
            stream.pause();
        }
        self.watermark = self.watermark.min(now.stamp).max(1);
        self.scribe.tell_late(now.stamp);
    }

    /// The stamp up to which everything has been written.
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    /// The clock at the last round.
    pub fn now(&self) -> Anchor {
        self.now
    }

    /// The segment.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Counters of all processes so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// A mark from outside, now.
    pub fn mark(&mut self, image: ImageId, name: Vec<u8>) {
        let stamp = self.scribe.host.now().stamp;
        self.due.push((stamp, Due::Mark(image, name)));
    }

    /// Looks whether recording has been paused since the last look, whoever did it: the tape says where it goes on.
    fn notice_pauses(&mut self) {
        let control = self.segment.control();
        let pauses = control.pauses.load(Ordering::Acquire);
        if pauses != self.pauses && control.state() == State::Recording {
            self.pauses = pauses;
            self.resumed();
        }
    }

    /// Recording goes on after a pause, now, or ends in one.
    fn resumed(&mut self) {
        let stamp = self.scribe.host.now().stamp;
        self.due.push((stamp, Due::Resumed));
    }

    /// The least bound of all streams; at most `settled`.
    fn bounds(&mut self, settled: u64) -> u64 {
        let free = self.segment.control().free_chunks();
        let pressed = free * 4 < self.segment.geometry().chunks;
        let since = if pressed {
            *self.pressed_since.get_or_insert(self.now.stamp)
        } else {
            self.now.stamp
        };
        if !pressed {
            self.pressed_since = None;
        }
        let patience = self.scribe.clock.stamps(PATIENCE_NANOS);
        let impatient = self.now.stamp.saturating_sub(since) > patience;
        let mut watermark = settled;
        for stream in &mut self.streams {
            let Some(slot) = self.segment.threads().get(stream.index as usize) else {
                continue;
            };
            match stream.look(&self.segment, slot, self.now.stamp, settled) {
                Ok(bound) => {
                    let stuck = impatient
                        && stream.inflight != IDLE
                        && self.now.stamp.saturating_sub(stream.inflight_since) > patience;
                    if !stuck {
                        watermark = watermark.min(bound);
                    }
                }
                Err(stream::Overwritten) => merge::overwritten(&mut self.scribe, stream, self.now.stamp),
            }
        }
        watermark
    }

    /// Takes in slots that have been claimed since the last round.
    fn discover(&mut self) {
        let control = self.segment.control();
        let threads = control.thread_claims.count.load(Ordering::Acquire);
        let processes = control.process_claims.count.load(Ordering::Acquire);
        if self.thread_claims == Some(threads) && self.process_claims == Some(processes) {
            return;
        }
        // Threads are listed first: the process of every thread in the list is then found among the processes.
        let high = (control.thread_claims.high.load(Ordering::Acquire) as usize).min(self.segment.threads().len());
        let fresh: Vec<u32> = (0..high as u32)
            .filter(|index| {
                self.segment.threads()[*index as usize].life.load(Ordering::Acquire) == life::LIVE
                    && !self.known_threads[*index as usize]
            })
            .collect();
        self.discover_processes();
        let mut all_known = true;
        let old = self.streams.len();
        for index in fresh {
            let slot = &self.segment.threads()[index as usize];
            let Some(image) = self.scribe.images.in_slot(slot.process.load(Ordering::Relaxed)) else {
                all_known = false;
                continue;
            };
            self.known_threads[index as usize] = true;
            if let Some(image) = self.scribe.images.get_mut(image) {
                image.streams += 1;
            }
            let tid = slot.tid.load(Ordering::Relaxed);
            let level = slot.level.load(Ordering::Relaxed);
            if level == 0 {
                // The system gives an id again only when its thread is gone.
                for other in &mut self.streams[..old] {
                    if other.image == image && other.tid == tid {
                        other.dead = true;
                    }
                }
            }
            self.streams.push(Stream::new(index, image, tid, level, self.watermark));
        }
        self.thread_claims = all_known.then_some(threads);
        self.process_claims = Some(processes);
    }

    fn discover_processes(&mut self) {
        let control = self.segment.control();
        let high = (control.process_claims.high.load(Ordering::Acquire) as usize).min(self.segment.processes().len());
        for index in 0..high as u32 {
            let slot = &self.segment.processes()[index as usize];
            if slot.life.load(Ordering::Acquire) != life::LIVE || self.scribe.images.in_slot(index).is_some() {
                continue;
            }
            let pid = slot.pid.load(Ordering::Relaxed);
            let parent_pid = slot.parent_pid.load(Ordering::Relaxed);
            let forked_from = slot.forked_from.load(Ordering::Relaxed);
            let stamp = slot.stamp.load(Ordering::Relaxed);
            let before = self.scribe.images.living(pid);
            let forked = forked_from != NONE;
            let ancestry = match (forked, before) {
                (true, _) => self
                    .scribe
                    .images
                    .in_slot(forked_from)
                    .map_or(Ancestry::Loaded, Ancestry::Forked),
                (false, Some(old)) => Ancestry::Replaces(old),
                (false, None) => Ancestry::Loaded,
            };
            if let Some(old) = before {
                // After a fork the id is one that the system has given again.
                self.end_image(old, if forked { ProcessEnd::Gone } else { ProcessEnd::Replaced });
            }
            let foreign = self.foreign(pid, parent_pid, forked_from);
            let image = Image {
                slot: index,
                pid,
                parent_pid,
                ancestry,
                stamp,
                identity: if foreign { None } else { self.scribe.host.identify(pid) },
                told: None,
                facts: Default::default(),
                space: self.scribe.empty_space(),
                numbers: Default::default(),
                runs_made_code: false,
                maps_read: None,
                absent: 0,
                foreign,
                end: None,
                exit_status: None,
                end_told: false,
                streams: 0,
                drained_at: None,
                failed_calls: 0,
                truncated: 0,
                mismatches: 0,
                shares: Default::default(),
            };
            let id = self.scribe.images.add(image);
            if matches!(ancestry, Ancestry::Forked(_)) {
                self.due.push((stamp, Due::Fork(id)));
            }
        }
    }

    /// Whether a process counts its ids in another namespace than the collector: the first process of one is number 1 and has no parent there.
    fn foreign(&self, pid: u32, parent_pid: u32, forked_from: u32) -> bool {
        let of_foreign = |id: ImageId| self.scribe.images.get(id).is_some_and(|image| image.foreign);
        let first_of_one = pid == 1 || parent_pid == 0;
        (first_of_one && pid != self.launched)
            || self.scribe.images.in_slot(forked_from).is_some_and(of_foreign)
            || self.scribe.images.living(parent_pid).is_some_and(of_foreign)
    }

    /// An image has ended: its threads publish nothing more.
    pub fn end_image(&mut self, id: ImageId, end: ProcessEnd) {
        if let Some(image) = self.scribe.images.get_mut(id) {
            image.end.get_or_insert(end);
        }
        for stream in self.streams.iter_mut().filter(|stream| stream.image == id) {
            stream.dead = true;
        }
    }

    /// Does what is due up to a stamp.
    fn settle_due(&mut self, upto: u64) {
        self.due.sort_by_key(|(stamp, _)| *stamp);
        let later = self.due.partition_point(|(stamp, _)| *stamp <= upto);
        for (stamp, due) in self.due.drain(..later).collect::<Vec<_>>() {
            match due {
                Due::Fork(image) => {
                    self.scribe.tell_image(image, stamp);
                    self.told_forks.push(stamp);
                    if self.told_forks.len() > 64 {
                        self.told_forks.remove(0);
                    }
                }
                Due::Mark(image, name) => self.scribe.mark(image, name, stamp),
                Due::Resumed => self.scribe.loss(None, 0, LossCause::Paused, stamp),
            }
        }
    }

    /// Stamp of the first thing that is due.
    fn next_due(&self) -> u64 {
        self.due.iter().map(|(stamp, _)| *stamp).min().unwrap_or(u64::MAX)
    }

    /// A fork's note has come by: whether the order must wait here for the child.
    fn must_wait_for(&mut self, fork: u64) -> bool {
        let come = self
            .due
            .iter()
            .any(|(stamp, due)| *stamp == fork && matches!(due, Due::Fork(_)));
        if come {
            self.settle_due(fork);
        }
        !self.told_forks.contains(&fork)
    }
}
