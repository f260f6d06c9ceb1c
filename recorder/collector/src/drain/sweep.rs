//! Looking after processes and threads: who is gone, what they are called, what memory they use. Ten times a second at most, and never between two items.

use super::Drain;
use crate::host::Host;
use crate::processes::Image;
use heaptape_format::record::{LossCause, MemorySample, ProcessEnd};
use heaptape_shm::slot::life;
use std::sync::atomic::Ordering;

/// Threads asked about in one sweep, unless slots are short.
const THREADS_PER_SWEEP: usize = 256;
/// Names read at a time.
const NAMES_PER_SECOND: usize = 1000;
/// Processes sampled at a time.
const SAMPLES_PER_SECOND: usize = 256;
/// A slot stays taken this long after its process is gone: a child that it forked may still name it.
const QUARANTINE_NANOS: u64 = 1_000_000_000;

impl<H: Host> Drain<H> {
    /// Finds the dead, and lets go of what was theirs once all of it is written.
    pub fn sweep(&mut self) {
        self.find_dead_processes();
        self.find_dead_threads();
        self.tell_losses();
        self.retire_streams();
        self.retire_images();
    }

    /// Whether some recorded process still runs, or a forked one is expected.
    pub fn anybody_alive(&self) -> bool {
        self.waiting_fork.is_some() || self.scribe.images.iter().any(|(_, image)| image.end.is_none())
    }

    /// Whether thread slots run short, so that those of dead threads are wanted at once.
    pub fn slots_short(&self) -> bool {
        self.streams.len() * 4 > self.segment.threads().len() * 3
    }

    fn find_dead_processes(&mut self) {
        let mut native_alive = false;
        for id in self.scribe.images.ids() {
            let Some(image) = self.scribe.images.get(id).filter(|image| image.end.is_none()) else {
                continue;
            };
            let alive = match image.identity {
                Some(identity) => self.scribe.host.alive(identity),
                // Without an identity it was gone before it could be looked at, unless its id is of another namespace.
                None => image.foreign,
            };
            let alive = alive || (self.status_to_come && image.pid == self.launched);
            native_alive |= alive && !image.foreign;
            if !alive {
                self.end_image(id, ProcessEnd::Gone);
            }
        }
        let foreign = |image: &Image| image.foreign && image.end.is_none();
        if !native_alive
            && self.scribe.images.iter().any(|(_, image)| foreign(image))
            && self.scribe.host.holders().is_empty()
        {
            // Nobody is left who could be one of the others.
            for id in self.scribe.images.ids() {
                self.end_image(id, ProcessEnd::Gone);
            }
        }
    }

    fn find_dead_threads(&mut self) {
        let count = self.streams.len();
        let short = count * 2 > self.segment.threads().len();
        let most = if short { count } else { THREADS_PER_SWEEP.min(count) };
        for step in 0..most {
            let at = (self.sweep_from + step) % count;
            let stream = &mut self.streams[at];
            if std::mem::take(&mut stream.active) || stream.dead {
                continue;
            }
            let pid = self
                .scribe
                .images
                .get(stream.image)
                .and_then(|image| image.identity)
                .map(|identity| identity.pid);
            stream.dead = pid.is_some_and(|pid| !self.scribe.host.thread_alive(pid, stream.tid));
        }
        self.sweep_from = self.sweep_from.wrapping_add(most);
    }

    /// Puts what the slots have counted on the tape.
    pub fn tell_losses(&mut self) {
        let stamp = self.watermark;
        for stream in &mut self.streams {
            let Some(slot) = self.segment.threads().get(stream.index as usize) else {
                continue;
            };
            let full = slot.lost_full.load(Ordering::Relaxed);
            let nested = slot.lost_nested.load(Ordering::Relaxed);
            let more_full = full.saturating_sub(stream.lost_full);
            let more_nested = nested.saturating_sub(stream.lost_nested);
            (stream.lost_full, stream.lost_nested) = (full, nested);
            if more_full > 0 {
                self.scribe.loss(stream.thread, more_full, LossCause::PoolFull, stamp);
            }
            if more_nested > 0 {
                self.scribe.loss(stream.thread, more_nested, LossCause::Nested, stamp);
            }
        }
        let no_slot = self.segment.control().lost_no_slot.load(Ordering::Relaxed);
        let more = no_slot.saturating_sub(self.lost_no_slot);
        self.lost_no_slot = no_slot;
        let processes = self.segment.control().lost_processes.load(Ordering::Relaxed);
        let unseen = processes.saturating_sub(self.lost_processes);
        self.lost_processes = processes;
        self.totals.lost_processes += u64::from(unseen);
        if more > 0 || unseen > 0 {
            self.scribe.loss(None, more, LossCause::NoSlot, stamp);
        }
        for id in self.scribe.images.ids() {
            let Some(image) = self
                .scribe
                .images
                .get_mut(id)
                .filter(|image| image.drained_at.is_none())
            else {
                continue;
            };
            let Some(slot) = self.segment.processes().get(image.slot as usize) else {
                continue;
            };
            let totals = &mut self.totals;
            for (word, seen, total) in [
                (&slot.failed_calls, &mut image.failed_calls, &mut totals.failed_calls),
                (&slot.truncated, &mut image.truncated, &mut totals.truncated),
                (&slot.mismatches, &mut image.mismatches, &mut totals.mismatches),
            ] {
                let now = word.load(Ordering::Relaxed);
                *total += now.saturating_sub(*seen);
                *seen = now;
            }
        }
    }

    fn retire_streams(&mut self) {
        let stamp = self.watermark;
        let mut freed = false;
        let mut at = 0;
        while at < self.streams.len() {
            if !self.streams[at].drained {
                at += 1;
                continue;
            }
            let stream = self.streams.swap_remove(at);
            self.scribe.end_thread(&stream, stamp);
            self.free_chunks_of(stream.index);
            if let Some(slot) = self.segment.threads().get(stream.index as usize) {
                slot.life.store(life::FREE, Ordering::Release);
                self.segment.control().thread_claims.freed(stream.index);
                freed = true;
            }
            self.known_threads[stream.index as usize] = false;
            if let Some(image) = self.scribe.images.get_mut(stream.image) {
                image.streams = image.streams.saturating_sub(1);
            }
        }
        if freed {
            self.wake_waiters();
        }
    }

    fn retire_images(&mut self) {
        let stamp = self.watermark;
        let quarantine = self.scribe.clock.stamps(QUARANTINE_NANOS);
        let short = self.scribe.images.len() * 4 > self.segment.processes().len() * 3;
        for id in self.scribe.images.ids() {
            let Some(image) = self.scribe.images.get(id).filter(|image| image.streams == 0) else {
                continue;
            };
            let Some(end) = image.end else { continue };
            match image.drained_at {
                None => {
                    // Its thread slots may have been claimed only just before the end, and not be seen yet.
                    if self.thread_claims == Some(self.segment.control().thread_claims.count.load(Ordering::Acquire)) {
                        self.scribe.tell_end(id, end, stamp);
                        if let Some(image) = self.scribe.images.get_mut(id) {
                            image.drained_at = Some(self.now.stamp);
                        }
                    }
                }
                Some(since) if short || self.now.stamp.saturating_sub(since) > quarantine => {
                    if let Some(image) = self.scribe.images.remove(id) {
                        if let Some(slot) = self.segment.processes().get(image.slot as usize) {
                            slot.life.store(life::FREE, Ordering::Release);
                            self.segment.control().process_claims.freed(image.slot);
                        }
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// Reads the names of threads that have been busy.
    pub fn names(&mut self) {
        let stamp = self.watermark;
        let busy = self
            .streams
            .iter_mut()
            .filter(|stream| stream.busy && stream.level == 0 && !stream.dead);
        for stream in busy.take(NAMES_PER_SECOND) {
            stream.busy = false;
            let pid = self
                .scribe
                .images
                .get(stream.image)
                .and_then(|image| image.identity)
                .map(|identity| identity.pid);
            if let Some(name) = pid.and_then(|pid| self.scribe.host.thread_name(pid, stream.tid)) {
                self.scribe.name_thread(stream, name, stamp);
            }
        }
    }

    /// Finds processes that have gone on to a program which does not record: one without a dynamic loader, or of another user. Between a program's start and its
    /// first step into the recorder it looks just so, too; hence the second look, a second later.
    pub fn find_absent(&mut self) {
        for id in self.scribe.images.ids().into_iter().take(SAMPLES_PER_SECOND) {
            let Some(image) = self.scribe.images.get(id).filter(|image| image.end.is_none()) else {
                continue;
            };
            let Some(identity) = image
                .identity
                .filter(|_| !image.facts.exe.is_empty() && image.absent < 2)
            else {
                continue;
            };
            let absent = match self.scribe.host.has_left(identity, &image.facts.exe) {
                true => image.absent + 1,
                false => 0,
            };
            if absent == 2 {
                self.totals.lost_processes += 1;
                self.mark(id, b"heaptape: goes on with a program that is not recorded".to_vec());
            }
            if let Some(image) = self.scribe.images.get_mut(id) {
                image.absent = absent;
            }
        }
    }

    /// Samples the memory of the living; `thorough`: the costly figures too.
    pub fn samples(&mut self, thorough: bool) {
        let stamp = self.watermark;
        for id in self.scribe.images.ids().into_iter().take(SAMPLES_PER_SECOND) {
            let Some(image) = self.scribe.images.get(id).filter(|image| image.end.is_none()) else {
                continue;
            };
            let (Some(process), Some(identity)) = (image.told, image.identity) else {
                continue;
            };
            let mut shares = image.shares;
            let Some(memory) = self.scribe.host.memory(identity.pid) else {
                continue;
            };
            if thorough {
                shares = self.scribe.host.shares(identity.pid).unwrap_or_default();
                if let Some(image) = self.scribe.images.get_mut(id) {
                    image.shares = shares;
                }
            }
            let sample = MemorySample {
                process,
                rss: memory.rss,
                pss: shares.pss,
                swap: shares.swap,
                cgroup: memory.cgroup,
            };
            self.scribe.sample(sample, stamp);
        }
    }
}
