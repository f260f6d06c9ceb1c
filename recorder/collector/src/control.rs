//! Marks and commands from outside: `heaptape mark PID NAME`, `heaptape ctl PID start|stop|status`.
//!
//! The collector listens on an abstract unix socket named after its process id: nothing in the file system, nothing left behind, nothing that another user could put in the way of.
//! Who may speak is decided by the kernel's word on the peer: the same user or root, on both sides. A name found taken by another user is not believed.
//! One request and one reply a connection. A request is a line, `PID COMMAND [ARGUMENT]`; the reply is `ok TEXT` or `error TEXT`.

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    accept_with, bind, connect, listen, recv, send, socket_with, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// What can be asked of a running collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Put a marker with this name.
    Mark(Vec<u8>),
    /// Record again after a pause.
    Start,
    /// Pause.
    Stop,
    /// Tell how things stand.
    Status,
}

/// Names of markers are cut to this.
const LONGEST_NAME: usize = 1024;
/// A request is never longer.
const LONGEST: usize = LONGEST_NAME + 64;
/// Connections that have not yet said anything.
const MOST_WAITING: usize = 16;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a command did not get through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No collector records this process.
    #[error(
        "process {0} is not being recorded: no heaptape collector of this user answers for it (see `heaptape record`)"
    )]
    NotRecorded(u32),
    /// The collector refused.
    #[error("the collector of process {0} refused: {1}")]
    Refused(u32, String),
    /// The line broke.
    #[error("the collector of process {0} could not be asked: {1}")]
    Io(u32, io::Error),
}

fn address(collector: u32) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(
        format!("heaptape/{collector}").as_bytes(),
    )?)
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Whether the process at the other end is of this user or root's.
fn trusted(peer: &OwnedFd) -> bool {
    let own = rustix::process::geteuid();
    socket_peercred(peer).is_ok_and(|peer| peer.uid == own || peer.uid.is_root())
}

/// Sends a command to the collector that records process `pid`, and returns its answer.
///
/// # Errors
/// See [`ControlError`].
pub fn send_command(pid: u32, command: &Command) -> Result<String, ControlError> {
    let request = encode(pid, command);
    let named = collector_named_by(pid);
    let mut silent = None;
    // The one that is named nearly always is the one: the others need not be disturbed.
    let others = listening().into_iter().filter(|other| Some(*other) != named);
    for collectors in [named.into_iter().collect::<Vec<u32>>(), others.collect()] {
        match ask(collectors, &request) {
            Ok(None) => {}
            Ok(Some(reply)) => {
                return match reply.split_once(' ') {
                    Some(("ok", text)) => Ok(text.to_string()),
                    Some((_, text)) => Err(ControlError::Refused(pid, text.to_string())),
                    None => Err(ControlError::Refused(pid, reply)),
                }
            }
            Err(error) => silent = Some(error),
        }
    }
    Err(match silent {
        None => ControlError::NotRecorded(pid),
        Some(error) => ControlError::Io(pid, error),
    })
}

/// Asks several collectors at once: the answer of the one that records the process, if there is one. One that is gone, another user's or no collector at all does not count.
///
/// # Errors
/// When no other has answered, and one could not be asked or did not answer in time.
fn ask(collectors: Vec<u32>, request: &[u8]) -> io::Result<Option<String>> {
    let mut failure = None;
    let mut lines = Vec::new();
    for collector in collectors {
        match begin(collector, request) {
            Ok(line) => lines.push(line),
            Err(error) if is_none_of_ours(&error) => {}
            Err(error) => failure = Some(error),
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while !lines.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut waiting: Vec<PollFd> = lines.iter().map(|line| PollFd::new(line, PollFlags::IN)).collect();
        if poll(&mut waiting, Some(&timeout))? == 0 {
            failure = Some(io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 seconds"));
            break;
        }
        let mut found = None;
        lines.retain(|line| {
            let mut reply = [0; LONGEST];
            match recv(line, &mut reply[..], RecvFlags::empty()) {
                Ok((count @ 1.., _)) => {
                    let reply = String::from_utf8_lossy(&reply[..count]).into_owned();
                    if !reply.starts_with("unknown ") {
                        found = Some(reply);
                    }
                    false
                }
                // Without an answer it has gone.
                other => other.is_err_and(|error| error == rustix::io::Errno::AGAIN),
            }
        });
        if found.is_some() {
            return Ok(found);
        }
    }
    failure.map_or(Ok(None), Err)
}

/// Connects to a collector, and says what is wanted.
fn begin(collector: u32, request: &[u8]) -> io::Result<OwnedFd> {
    let line = new_socket()?;
    connect(&line, &address(collector)?)?;
    if !trusted(&line) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    send(&line, request, SendFlags::NOSIGNAL)?;
    Ok(line)
}

fn is_none_of_ours(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, PermissionDenied};
    matches!(
        error.kind(),
        ConnectionRefused | PermissionDenied | ConnectionReset | BrokenPipe
    )
}

/// The collector that the process's own environment names.
fn collector_named_by(pid: u32) -> Option<u32> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let prefix = b"HEAPTAPE_SEGMENT=/proc/";
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(prefix))?;
    std::str::from_utf8(value).ok()?.split('/').next()?.parse().ok()
}

/// All collectors that listen.
fn listening() -> Vec<u32> {
    let Ok(sockets) = std::fs::read_to_string("/proc/net/unix") else {
        return Vec::new();
    };
    let named = |line: &str| line.rsplit(' ').next()?.strip_prefix("@heaptape/")?.parse().ok();
    let mut collectors: Vec<u32> = sockets.lines().filter_map(named).collect();
    // Connections bear the name, too.
    collectors.sort_unstable();
    collectors.dedup();
    collectors
}

fn encode(pid: u32, command: &Command) -> Vec<u8> {
    let mut request = match command {
        Command::Mark(_) => format!("{pid} mark "),
        Command::Start => format!("{pid} start"),
        Command::Stop => format!("{pid} stop"),
        Command::Status => format!("{pid} status"),
    }
    .into_bytes();
    if let Command::Mark(name) = command {
        request.extend_from_slice(&name[..name.len().min(LONGEST_NAME)]);
    }
    request
}

fn decode(request: &[u8]) -> Option<(u32, Command)> {
    let mut parts = request.splitn(3, |byte| *byte == b' ');
    let pid = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let command = match (parts.next()?, parts.next()) {
        (b"mark", Some(name)) if !name.is_empty() && name.len() <= LONGEST_NAME => Command::Mark(name.to_vec()),
        (b"start", None) => Command::Start,
        (b"stop", None) => Command::Stop,
        (b"status", None) => Command::Status,
        _ => return None,
    };
    Some((pid, command))
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done; with this text.
    Ok(String),
    /// Not done, because of this.
    Error(String),
    /// This collector does not record that process.
    Unknown,
}

/// The listening end.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    waiting: Vec<OwnedFd>,
}

impl Listener {
    /// Listens under this process's id.
    ///
    /// # Errors
    /// As the system gives them; recording goes on without.
    pub fn new() -> io::Result<Listener> {
        let socket = new_socket()?;
        bind(&socket, &address(std::process::id())?)?;
        listen(&socket, 16)?;
        Ok(Listener {
            socket,
            waiting: Vec::new(),
        })
    }

    /// Descriptors that become readable when there is something to do.
    pub fn fds(&self) -> impl Iterator<Item = &OwnedFd> {
        std::iter::once(&self.socket).chain(&self.waiting)
    }

    /// Answers what has been asked. Never waits.
    pub fn serve(&mut self, mut answer: impl FnMut(u32, Command) -> Reply) {
        while let Ok(peer) = accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            if !trusted(&peer) {
                continue;
            }
            if self.waiting.len() >= MOST_WAITING {
                self.waiting.remove(0);
            }
            self.waiting.push(peer);
        }
        self.waiting.retain(|peer| {
            let mut request = [0; LONGEST];
            let count = match recv(peer, &mut request[..], RecvFlags::empty()) {
                Ok((count, _)) => count,
                Err(error) => return error == rustix::io::Errno::AGAIN,
            };
            let reply = match decode(&request[..count]).map(|(pid, command)| answer(pid, command)) {
                Some(Reply::Ok(text)) => format!("ok {text}"),
                Some(Reply::Error(text)) => format!("error {text}"),
                Some(Reply::Unknown) => "unknown process".into(),
                None => "error expected: PID mark NAME | start | stop | status".into(),
            };
            // Who does not wait for the answer goes without.
            let _ = send(peer, reply.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_trip_and_nonsense_is_refused() {
        for command in [
            Command::Mark(b"a b\xff".to_vec()),
            Command::Start,
            Command::Stop,
            Command::Status,
        ] {
            assert_eq!(decode(&encode(42, &command)), Some((42, command)));
        }
        for request in [
            "",
            "42",
            "mark x",
            "42 mark",
            "42 mark ",
            "42 start now",
            "-1 stop",
            "42 explode",
        ] {
            assert_eq!(decode(request.as_bytes()), None, "{request}");
        }
    }

    #[test]
    fn a_command_is_answered_by_the_collector_that_records_the_process() {
        let mut listener = Listener::new().unwrap();
        // A collector that was stopped: it never answers, and is no reason not to ask the others.
        let stopped = new_socket().unwrap();
        bind(&stopped, &address(u32::MAX - std::process::id()).unwrap()).unwrap();
        listen(&stopped, 16).unwrap();
        let asking = std::thread::spawn(|| {
            (
                send_command(77, &Command::Mark(b"ready".to_vec())),
                send_command(78, &Command::Status),
                send_command(77, &Command::Stop),
            )
        });
        let mut seen = Vec::new();
        while !asking.is_finished() {
            let fds: Vec<PollFd> = listener.fds().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            let mut fds = fds;
            let _ = poll(
                &mut fds,
                Some(&Timespec {
                    tv_sec: 0,
                    tv_nsec: 10_000_000,
                }),
            );
            listener.serve(|pid, command| {
                seen.push(command.clone());
                match (pid, command) {
                    (77, Command::Stop) => Reply::Error("already stopped".into()),
                    (77, _) => Reply::Ok("done".into()),
                    _ => Reply::Unknown,
                }
            });
        }
        let (mark, unknown, stop) = asking.join().unwrap();
        assert_eq!(mark.unwrap(), "done");
        assert!(matches!(unknown, Err(ControlError::Io(78, error)) if error.kind() == io::ErrorKind::TimedOut));
        drop(stopped);
        assert_eq!(
            stop.unwrap_err().to_string(),
            "the collector of process 77 refused: already stopped"
        );
        assert_eq!(seen[0], Command::Mark(b"ready".to_vec()));
    }
}
