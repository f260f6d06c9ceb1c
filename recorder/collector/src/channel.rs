//! What launcher and collector tell each other, one message a packet.

use heaptape_format::record::ProcessEnd;
use rustix::net::{recv, send, socketpair, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;

/// A message to the collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToCollector {
    /// The launched program has ended.
    Ended(ProcessEnd),
    /// It could not be started: there is nothing to record.
    Abandon,
}

/// A message to the launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToLauncher {
    /// Ready to record; the collector's process id.
    Ready(u32),
    /// The tape is complete, or will not become so.
    Finished(Summary),
    /// Recorded processes still run: the collector goes on without the launcher.
    GoesOn(Summary, u32),
}

/// What has been recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Events.
    pub events: u64,
    /// Bytes of the tape.
    pub bytes: u64,
    /// Events known to be lost.
    pub lost: u64,
    /// Processes that could not be recorded.
    pub lost_processes: u64,
    /// Process images that were recorded.
    pub images: u32,
    /// Frames of the deepest stack of which all were compared at every event.
    pub deepest: u64,
    /// Mismatches found by `--check-stacks`.
    pub mismatches: Option<u64>,
    /// Why the tape is not complete.
    pub error: Option<String>,
    /// What the user must know of where it is.
    pub note: Option<String>,
}

/// One end of the line.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// Messages are far shorter.
const LONGEST: usize = 4096;

impl Channel {
    /// Both ends.
    ///
    /// # Errors
    /// When no descriptors can be had.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Channel(one), Channel(other)))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn send<M: Serialize>(&self, message: &M) -> io::Result<()> {
        let bytes = postcard::to_allocvec(message).map_err(io::Error::other)?;
        send(&self.0, &bytes, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for a message. `None`: the other end is gone.
    pub fn receive<M: DeserializeOwned>(&self) -> Option<M> {
        let mut bytes = [0; LONGEST];
        loop {
            match recv(&self.0, &mut bytes[..], RecvFlags::empty()) {
                Ok((count, _)) => {
                    return postcard::from_bytes(bytes.get(..count).filter(|part| !part.is_empty())?).ok()
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// The process that has made the pair: the launcher.
    pub fn maker(&self) -> Option<u32> {
        let maker = rustix::net::sockopt::socket_peercred(&self.0).ok()?;
        Some(maker.pid.as_raw_nonzero().get() as u32)
    }

    /// The descriptor, to wait on.
    pub fn fd(&self) -> &OwnedFd {
        &self.0
    }
}
