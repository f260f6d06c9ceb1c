//! Sending the tape to a workstation while it is recorded.
//!
//! ```text
//!   collector --push--> spool <--take, acknowledge-- thread <--tcp--> heaptape receive
//! ```
//! The collector only ever puts blocks into memory: no state of the link, of the receiver or of the network makes it wait, and so none makes the program wait. What is said over the link is in
//! [`heaptape_format::link`].

mod link;
mod spool;

pub use link::Remote;

use crate::bound::Place;
use crate::output::Sink;
use link::Link;
use rustix::event::{eventfd, EventfdFlags};
use spool::Spool;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The least spool that makes sense: some blocks of events.
pub const LEAST: u64 = 1 << 20;
/// When the recording has ended and the link is down or does not move, it is given so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What collector and thread share.
struct Shared {
    spool: Mutex<Spool>,
    /// The receiver has acknowledged something, or refused.
    news: Condvar,
    /// There are new blocks.
    wake: OwnedFd,
}

impl Shared {
    fn spool(&self) -> MutexGuard<'_, Spool> {
        // Nothing that holds it can panic half way.
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sink that sends what it is given.
pub struct Sender {
    shared: Arc<Shared>,
    to: Remote,
    /// For what could not be sent, and where that lies.
    rest: File,
    place: Place,
}

impl Sender {
    /// Begins to send to a place; what cannot be sent within `limit` bytes of memory is dropped, what is left at the end goes to a file.
    ///
    /// # Errors
    /// When the system has no thread or descriptor for it.
    pub fn new(to: Remote, limit: u64, rest: File, place: Place) -> io::Result<Sender> {
        let shared = Arc::new(Shared {
            spool: Mutex::new(Spool::new(limit)),
            news: Condvar::new(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let link = Link::new(to.clone(), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("send".into());
        thread.spawn(move || link.run())?;
        Ok(Sender {
            shared,
            to,
            rest,
            place,
        })
    }
}

impl Sink for Sender {
    fn write(&mut self, blocks: &[u8]) -> io::Result<usize> {
        let pushed = self.shared.spool().push(blocks);
        // A counter that is full wakes as well.
        let _ = rustix::io::write(&self.shared.wake, &1u64.to_ne_bytes());
        pushed
            .map(|()| blocks.len())
            .map_err(|_| io::Error::other("the spool is full, and nobody takes the tape"))
    }

    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn wait(&mut self) {}

    fn dropped(&self) -> u64 {
        self.shared.spool().dropped()
    }

    fn finish(&mut self) -> Option<String> {
        let mut spool = self.shared.spool();
        let mut since = Instant::now();
        let mut left = spool.bytes();
        while spool.bytes() > 0 && since.elapsed() < PATIENCE {
            let waited = self
                .shared
                .news
                .wait_timeout(spool, PATIENCE.saturating_sub(since.elapsed()));
            spool = waited.unwrap_or_else(PoisonError::into_inner).0;
            if spool.bytes() < left {
                left = spool.bytes();
                since = Instant::now();
            }
        }
        if spool.bytes() == 0 {
            self.place.remove_own();
            return None;
        }
        let written = spool
            .waiting()
            .try_for_each(|block| self.rest.write_all(block))
            .and_then(|()| self.rest.sync_data());
        Some(match written {
            Ok(()) => format!(
                "{} cannot be reached: the last {} bytes are in the file that -o names, for heaptape receive --add",
                self.to,
                spool.bytes()
            ),
            Err(error) => format!(
                "{} cannot be reached, and the last {} bytes cannot be written to the file that -o names: {}",
                self.to,
                spool.bytes(),
                crate::collect::plain(&error)
            ),
        })
    }
}
