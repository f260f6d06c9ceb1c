//! The thread that speaks to the receiver, and finds it again.

use super::Shared;
use heaptape_format::link::{Answer, Hello};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a connection may take to come about, and to say its first word.
const CONNECT: Duration = Duration::from_secs(5);
/// A link on which nothing moves for so long although something waits is given up for a new one.
const STALL: Duration = Duration::from_secs(15);
/// After a failure it is tried again, at first so soon, then ever later.
const RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(3);

/// Where to send to: `tcp://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote(String);

impl FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Remote, String> {
        let address = text.strip_prefix("tcp://").filter(|address| {
            let parts = address.rsplit_once(':');
            parts.is_some_and(|(host, port)| {
                let is_plain = host.chars().all(|letter| !letter.is_control() && letter != '/');
                !host.is_empty() && is_plain && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        });
        address
            .map(|address| Remote(address.to_owned()))
            .ok_or_else(|| "expected tcp://HOST:PORT, for example tcp://192.168.1.10:7357".into())
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}", self.0)
    }
}

pub(super) struct Link {
    to: Remote,
    shared: Arc<Shared>,
}

/// A connection at work.
struct Connection<'a> {
    stream: TcpStream,
    shared: &'a Shared,
    /// The next block to send.
    next: u64,
    /// The block at hand, and how much of it was sent.
    block: Option<(Arc<[u8]>, usize)>,
    /// The beginning of an acknowledgement.
    partial: Vec<u8>,
    moved: Instant,
}

impl Link {
    pub(super) fn new(to: Remote, shared: Arc<Shared>) -> Link {
        Link { to, shared }
    }

    /// Works until the process ends, or the receiver has the whole tape.
    pub(super) fn run(self) {
        let mut retry = RETRY;
        loop {
            let begun = Instant::now();
            let before = self.shared.spool().oldest();
            // Whatever went wrong with one connection, the next may go better.
            let _ = self.connect().and_then(Connection::run);
            if self.shared.spool().is_done() {
                return;
            }
            let is_progress = self.shared.spool().oldest() > before;
            retry = if is_progress {
                RETRY
            } else {
                (retry * 2).min(LONGEST_RETRY)
            };
            std::thread::sleep(retry.saturating_sub(begun.elapsed()).max(RETRY));
        }
    }

    fn connect(&self) -> io::Result<Connection<'_>> {
        let tape = self.shared.spool().tape();
        let tape = tape.ok_or(ErrorKind::WouldBlock)?;
        let mut stream = Err(io::Error::from(ErrorKind::NotFound));
        for address in self.to.0.to_socket_addrs()? {
            stream = TcpStream::connect_timeout(&address, CONNECT);
            if stream.is_ok() {
                break;
            }
        }
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CONNECT))?;
        stream.set_write_timeout(Some(CONNECT))?;
        let oldest = self.shared.spool().oldest();
        stream.write_all(&Hello { tape, oldest }.to_bytes())?;
        let mut answer = [0; Answer::LENGTH];
        stream.read_exact(&mut answer)?;
        let Some(Answer::Wants(next)) = Answer::from_bytes(&answer) else {
            return Err(ErrorKind::ConnectionRefused.into());
        };
        stream.set_nonblocking(true)?;
        self.shared.acknowledge(next)?;
        Ok(Connection {
            stream,
            shared: &self.shared,
            next,
            block: None,
            partial: Vec::new(),
            moved: Instant::now(),
        })
    }
}

impl Shared {
    fn acknowledge(&self, next: u64) -> io::Result<()> {
        let is_sound = self.spool().acknowledge(next);
        self.news.notify_all();
        is_sound.then_some(()).ok_or_else(|| ErrorKind::InvalidData.into())
    }
}

impl Connection<'_> {
    fn run(mut self) -> io::Result<()> {
        loop {
            // Emptied before the spool is looked at, so that what comes after wakes it.
            let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
            self.take_block();
            if self.shared.spool().is_done() {
                return Ok(());
            }
            let waits = self.block.is_some() || self.shared.spool().bytes() > 0;
            if !waits {
                self.moved = Instant::now();
            }
            let patience = STALL.saturating_sub(self.moved.elapsed());
            if patience.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            let mut wanted = PollFlags::IN;
            wanted.set(PollFlags::OUT, self.block.is_some());
            let timeout = Timespec {
                tv_sec: patience.as_secs() as i64,
                tv_nsec: i64::from(patience.subsec_nanos()),
            };
            let mut fds = [
                PollFd::new(&self.stream, wanted),
                PollFd::new(&self.shared.wake, PollFlags::IN),
            ];
            match poll(&mut fds, waits.then_some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let happened = fds[0].revents();
            if happened.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                self.hear()?;
            }
            if happened.contains(PollFlags::OUT) {
                self.send()?;
            }
        }
    }

    fn take_block(&mut self) {
        if self.block.is_none() {
            if let Some((sequence, block)) = self.shared.spool().from(self.next) {
                self.next = sequence + 1;
                self.block = Some((block, 0));
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        while let Some((block, sent)) = &mut self.block {
            match self.stream.write(&block[*sent..]) {
                Ok(count) => {
                    *sent += count;
                    self.moved = Instant::now();
                    if *sent >= block.len() {
                        self.block = None;
                        self.take_block();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes acknowledgements.
    fn hear(&mut self) -> io::Result<()> {
        let mut bytes = [0; 256];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.partial.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let whole = self.partial.len() / 8 * 8;
            let (numbers, _) = self.partial[..whole].as_chunks::<8>();
            for number in numbers {
                self.shared.acknowledge(u64::from_le_bytes(*number))?;
                self.moved = Instant::now();
            }
            self.partial.drain(..whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_others_refused() {
        for good in ["tcp://host:1", "tcp://192.168.1.10:7357", "tcp://[::1]:65535"] {
            assert_eq!(good.parse::<Remote>().unwrap().to_string(), good);
        }
        for bad in [
            "host:1",
            "tcp://host",
            "tcp://:7357",
            "tcp://h:0",
            "tcp://h:65536",
            "udp://h:1",
            "tcp://h/x:1",
            "tcp://h\u{1b}:1",
            "",
        ] {
            assert!(bad.parse::<Remote>().is_err(), "{bad}");
        }
    }
}
