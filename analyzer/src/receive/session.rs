//! One connection of a sender, who may be anybody.

use super::shelf::{lock, Shelf};
use super::store::StoreError;
use heaptape_format::link::{Answer, BlockHead, Hello};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

/// A sender has so long for its hello, and for each piece of a block that it has begun.
const PATIENCE: Duration = Duration::from_secs(20);
/// And so long between two blocks: a program may have nothing to say.
const IDLE: Duration = Duration::from_secs(3600);

/// Why a connection was ended by this side.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// The tape has no place here.
    Refused(StoreError),
    /// It is no sender, or has sent what no block is.
    NotATape(&'static str),
    /// The link broke, or the disk is full.
    Io(io::Error),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Refused(error) => error.fmt(f),
            SessionError::NotATape(what) => f.write_str(what),
            SessionError::Io(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> SessionError {
        SessionError::Io(error)
    }
}

/// Receives what comes. The file of the tape, if it is complete now; `None` when the sender has gone before.
///
/// Memory: one block, which grows as it comes and has at most nine megabytes.
///
/// # Errors
/// When the connection is of no use. What had come until then is stored.
pub fn receive(mut stream: &TcpStream, shelf: &Shelf) -> Result<Option<PathBuf>, SessionError> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut hello = [0; Hello::LENGTH];
    stream.read_exact(&mut hello)?;
    let hello = Hello::from_bytes(&hello).ok_or(SessionError::NotATape("this is no sender of a tape"))?;
    let refuse = |error| {
        // Whether it hears that or not.
        let _ = (&mut &*stream).write_all(&Answer::Refused.to_bytes());
        SessionError::Refused(error)
    };
    let store = shelf.find(hello.tape).map_err(refuse)?;
    let next = lock(&store).next();
    if hello.oldest > next {
        let path = lock(&store).path().to_owned();
        shelf.put_back(hello.tape);
        return Err(refuse(StoreError::NoBeginning(path)));
    }
    stream.write_all(&Answer::Wants(next).to_bytes())?;
    let received = blocks(stream, &store);
    shelf.put_back(hello.tape);
    received
}

fn blocks(mut stream: &TcpStream, store: &super::shelf::Shared) -> Result<Option<PathBuf>, SessionError> {
    let mut block = Vec::new();
    loop {
        if lock(store).is_ended() {
            // The sender closes when it has heard so; a close before that could cost it the last word.
            let _ = stream.read(&mut [0]);
            return Ok(Some(lock(store).path().to_owned()));
        }
        stream.set_read_timeout(Some(IDLE))?;
        let mut header = [0; BlockHead::LENGTH];
        match stream.read(&mut header[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        }
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut header[1..])?;
        let head =
            BlockHead::from_bytes(&header).ok_or(SessionError::NotATape("what has come is no block of a tape"))?;
        block.clear();
        block.extend_from_slice(&header);
        let length = head.payload_length() as u64;
        if stream.take(length).read_to_end(&mut block)? as u64 != length {
            return Ok(None);
        }
        if !head.has_payload(&block[BlockHead::LENGTH..]) {
            return Err(SessionError::NotATape("a block was damaged on its way"));
        }
        let next = {
            let mut store = lock(store);
            store.take(&head, &block)?;
            store.next()
        };
        stream.write_all(&next.to_le_bytes())?;
    }
}
