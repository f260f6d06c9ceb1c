//! The recorded threads, as threads. One of them is at work at a time.

use super::allocator::{Blocks, Done};
use super::call::{Call, Packed};
use std::io;
use std::ops::Range;
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// More threads than this are performed by as many, in turn.
pub(super) const MOST_THREADS: u32 = 256;

/// Bytes of a performing thread's stack.
const STACK: usize = 64 << 10;

/// Some calls out of a shared list.
type Work = (Arc<Vec<Packed>>, Range<usize>);

/// A thread that waits for work.
struct Performer {
    work: SyncSender<Work>,
    thread: JoinHandle<()>,
}

/// All of them.
pub(super) struct Performers {
    performers: Vec<Performer>,
    done: Receiver<(Done, Duration)>,
}

impl Performers {
    /// Starts them.
    pub(super) fn new(count: u32, blocks: &Arc<Blocks>) -> io::Result<Performers> {
        let (tell, done) = sync_channel(1);
        let start = |_| {
            let (work, take) = sync_channel::<Work>(1);
            let (blocks, tell) = (Arc::clone(blocks), tell.clone());
            let thread = Builder::new().stack_size(STACK).spawn(move || {
                while let Ok((calls, range)) = take.recv() {
                    let begun = Instant::now();
                    let done = blocks.perform(&calls[range]);
                    let took = begun.elapsed();
                    // The list is let go before the word goes out, so that whoever waits has it alone.
                    drop(calls);
                    if tell.send((done, took)).is_err() {
                        return;
                    }
                }
            })?;
            Ok(Performer { work, thread })
        };
        let performers = (0..count.clamp(1, MOST_THREADS))
            .map(start)
            .collect::<io::Result<_>>()?;
        Ok(Performers { performers, done })
    }

    /// Has calls performed, each by its thread, in their order; the time that the calls took.
    pub(super) fn perform(&self, calls: &Arc<Vec<Packed>>) -> io::Result<(Done, Duration)> {
        let gone = || io::Error::other("a performing thread is gone");
        let (mut all, mut time) = (Done::default(), Duration::ZERO);
        let mut from = 0;
        while from < calls.len() {
            let number = |call: &Packed| Call::unpack(*call).thread as usize % self.performers.len();
            let thread = number(&calls[from]);
            let length = calls[from..].iter().take_while(|call| number(call) == thread).count();
            let performer = &self.performers[thread];
            let work = (Arc::clone(calls), from..from + length);
            performer.work.send(work).map_err(|_| gone())?;
            let (done, took) = self.done.recv().map_err(|_| gone())?;
            all.add(done);
            time += took;
            from += length;
        }
        Ok((all, time))
    }

    /// Ends them.
    pub(super) fn finish(self) {
        for Performer { work, thread } in self.performers {
            drop(work);
            // One that panicked has been missed before.
            let _ = thread.join();
        }
    }
}
