//! Starting a program and recording it: the launcher, and the collector process that drains its rings into a tape.
//!
//! ```text
//!   launcher --fork--> program (waits) ......... exec: the program, with the preload library
//!      |    \--fork, fork--> collector: rounds of draining the shared memory into the tape
//!      waits, passes signals on, ends as the program ends
//! ```
//! Entry points: [`record`] for a command line, [`control::send_command`] for a running collector, [`drain::Drain`] for the heart of it.
//!
//! Never: a signal, a file descriptor, an environment variable beyond the two, or an exit status that the program would not have without us.

mod bound;
mod channel;
pub mod cli;
pub mod clock;
mod collect;
pub mod control;
pub mod drain;
pub mod host;
mod launch;
pub mod modules;
pub mod output;
pub mod processes;
mod python;
mod send;
mod summary;
pub mod sys;
#[cfg(test)]
mod testing;

pub use cli::RecordArgs;
pub use launch::record;
