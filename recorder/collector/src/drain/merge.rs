//! The merge: always the stream whose next item is the earliest, and from it as many items as precede all others'.

use super::scribe::{Scribe, Taken};
use super::stream::{Overwritten, Stream, NOTHING};
use super::{Drain, FORK_PATIENCE_NANOS};
use crate::host::Host;
use heaptape_format::record::LossCause;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Streams by the stamp of their next item.
pub type Heap = BinaryHeap<Reverse<(u64, u32)>>;

impl<H: Host> Drain<H> {
    /// Writes all items up to the watermark, in order; how many.
    pub(super) fn merge(&mut self, mut watermark: u64) -> u64 {
        if self.still_waiting_for_fork() {
            return 0;
        }
        self.heap.clear();
        for (index, stream) in self.streams.iter().enumerate() {
            if stream.next <= watermark {
                self.heap.push(Reverse((stream.next, index as u32)));
            }
        }
        let mut taken = 0;
        let mut due = self.next_due();
        while let Some(Reverse((stamp, index))) = self.heap.pop() {
            if stamp > watermark {
                break;
            }
            if due <= stamp {
                self.settle_due(stamp);
                due = self.next_due();
            }
            // Without others in the way, a stream runs on to the watermark.
            let other = self.heap.peek().map_or(NOTHING, |Reverse((stamp, _))| *stamp);
            let limit = other.min(watermark).min(due);
            let stream = &mut self.streams[index as usize];
            taken += run(&mut self.scribe, stream, &self.segment, limit.max(stamp));
            if stream.next == NOTHING {
                // What it may publish next is no earlier than what it has published.
                watermark = watermark.min(stream.exhausted_bound());
            } else {
                self.heap.push(Reverse((stream.next, index)));
            }
            if let Some(fork) = self.scribe.fork_begun.take() {
                if self.must_wait_for(fork) {
                    self.waiting_fork = Some((fork, self.now.stamp));
                    return taken;
                }
                due = self.next_due();
            }
        }
        if due <= watermark {
            self.settle_due(watermark);
        }
        self.watermark = self.watermark.max(watermark);
        taken
    }

    /// Whether the order still waits at a fork for the child to register.
    fn still_waiting_for_fork(&mut self) -> bool {
        let Some((fork, since)) = self.waiting_fork else {
            return false;
        };
        let pressed = self.segment.control().free_chunks() * 2 < self.segment.geometry().chunks;
        let waited = self.now.stamp.saturating_sub(since);
        // The fork may have failed, or the child died before it could register.
        if pressed || waited > self.scribe.clock.stamps(FORK_PATIENCE_NANOS) || !self.must_wait_for(fork) {
            self.waiting_fork = None;
        }
        self.waiting_fork.is_some()
    }
}

/// Takes items from one stream up to a stamp.
fn run<H: Host>(scribe: &mut Scribe<H>, stream: &mut Stream, segment: &heaptape_shm::Segment, limit: u64) -> u64 {
    let Some(slot) = segment.threads().get(stream.index as usize) else {
        stream.next = NOTHING;
        return 0;
    };
    stream.active = true;
    stream.busy = true;
    let mut taken = 0;
    while stream.next <= limit {
        let stamp = stream.next;
        let step = scribe.take(stream).and_then(|done| match done {
            Taken::Half => Ok(true),
            Taken::Whole => stream.load(segment, slot),
        });
        taken += 1;
        match step {
            Ok(true) => {}
            Ok(false) => break,
            Err(Overwritten) => {
                overwritten(scribe, stream, stamp);
                break;
            }
        }
        if scribe.fork_begun.is_some() {
            break;
        }
    }
    taken
}

/// Gives up what a program has written over, and says so on the tape.
pub(super) fn overwritten<H: Host>(scribe: &mut Scribe<H>, stream: &mut Stream, stamp: u64) {
    stream.skip();
    scribe.loss(stream.thread, 0, LossCause::Overwritten, stamp);
}
