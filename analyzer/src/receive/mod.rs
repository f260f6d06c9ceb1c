//! Receiving tapes that a recorder sends (`record --to`). What is said over the link is in [`heaptape_format::link`].
//!
//! Whoever can connect can send: the bytes are checked as a tape's, stored under names of this side, and never executed or shown raw. Nothing is encrypted.

mod session;
mod shelf;
mod store;

pub use session::{receive, SessionError};
pub use shelf::Shelf;
pub use store::{Store, StoreError};

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc};

/// Connections at a time; others are closed at once.
const MOST_CONNECTIONS: usize = 16;

/// What has happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum News {
    /// Somebody has connected.
    Connected(SocketAddr),
    /// A connection has ended before its tape did; why, if it was not the sender who ended it.
    Broken(SocketAddr, Option<SessionError>),
    /// A tape is complete.
    Complete(PathBuf),
    /// No further connection can be taken.
    Failed(io::Error),
}

/// Receives on a socket, until the process ends. What happens is told.
pub fn listen(listener: TcpListener, shelf: Shelf) -> mpsc::Receiver<News> {
    let (tell, news) = mpsc::channel();
    let (shelf, connections) = (Arc::new(shelf), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || loop {
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if is_passing(&error) => continue,
            Err(error) => {
                // Whoever listens has gone, or hears it.
                let _ = tell.send(News::Failed(error));
                return;
            }
        };
        if connections.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
            connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (tell, shelf, own) = (tell.clone(), Arc::clone(&shelf), Arc::clone(&connections));
        std::thread::spawn(move || {
            let _ = tell.send(News::Connected(peer));
            let news = match session::receive(&stream, &shelf) {
                Ok(Some(path)) => News::Complete(path),
                Ok(None) => News::Broken(peer, None),
                Err(error) => News::Broken(peer, Some(error)),
            };
            own.fetch_sub(1, Ordering::Relaxed);
            let _ = tell.send(news);
        });
    });
    news
}

/// Whether an error is one of a connection that was gone before it was taken.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
