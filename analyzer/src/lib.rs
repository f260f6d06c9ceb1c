//! heaptape, the analyzer: puts the heap of a recorded program back together at any instant and compares any two instants.
//!
//! The data's way through the modules:
//!
//! | module | from | to |
//! |---|---|---|
//! | [`tape`] | a file | its blocks, processes, threads, modules, stacks, markers |
//! | [`replay`] | the events | rows of the allocation table, frees matched to allocations |
//! | [`table`] | | what every question is asked of: columns, levels, gaps |
//! | [`symbols`] | addresses | functions, files, lines |
//! | [`query`] | table and names | reports: plain data |
//! | [`report`] | reports | text, JSON, CSV, folded stacks, SVG |
//! | [`ci`] | table and names | what a run came to, and whether it is worse than another |
//! | [`perform`] | the events | calls of an allocator, and what they take |
//! | [`cli`] | the command line | all of the above |
//!
//! The engine knows nothing of the terminal. Results depend on the tape and the question alone, never on the number of threads.
//! A tape is hostile input: nothing in it makes the engine panic or hang, and its text is escaped where it comes in ([`text::Text`]).
//!
//! # Asking a tape
//!
//! Opening a tape finds its blocks, and what is damaged. Its heap is replayed, or comes from an index that was made earlier; what is asked of it does not depend on which.
//!
//! ```
//! use heaptape::index::{open_within, IndexPlace};
//! use heaptape::query::{diff, leaks, snapshot, Group, LeakQuery, Query, TimeSpec};
//! use heaptape::replay::default_memory;
//! use heaptape::symbols::NoSymbols;
//! use heaptape::tape::Tape;
//!
//! # let folder = std::env::temp_dir().join(format!("heaptape-crate-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/golden/v1.tape");
//! let tape = Tape::open(path.as_ref())?;
//! assert!(tape.ended_cleanly() && tape.damage().is_empty());
//!
//! // The first time the tape is replayed and the index written; the second time the index is mapped.
//! let place = IndexPlace::Folder(folder.clone());
//! for is_there in [false, true] {
//!     let heap = open_within(&tape, path, &place, default_memory(), &|_, _| ())?;
//!     assert_eq!(heap.index_path().is_some(), is_there);
//!
//!     // Instants are named as on the command line.
//!     let at = |time: &str| Ok::<_, Box<dyn std::error::Error>>(time.parse::<TimeSpec>()?.resolve(&heap)?);
//!     let query = Query { by: Group::Line.into(), rows: 5, ..Query::default() };
//!
//!     // What lived at the first marker, by line: plain data.
//!     let then = snapshot(&heap, &at("marker:half")?, &query, &NoSymbols);
//!     assert_eq!(then.at.event, 20);
//!     let line = then.rows.iter().find(|row| row.key.to_string().ends_with("service.py:42"));
//!     assert_eq!(line.map(|row| row.count), Some(2));
//!
//!     // What more there is at the end, and what was never freed.
//!     let grown = diff((&heap, &at("marker:half")?), (&heap, &at("end")?), &query, &NoSymbols);
//!     assert!(grown.rows.len() <= 5);
//!     let left = leaks(&heap, &LeakQuery::default(), &query, &NoSymbols);
//!     assert_eq!(left.total.count, 6);
//!
//!     // What is missing from a tape, or was wrong in its index, is never hidden.
//!     assert!(heap.notes().is_empty() && !heap.index_is_bad());
//! }
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The table itself is open to questions that are not among [`query`]'s:
//!
//! ```
//! use heaptape::table::{AllocIx, Flags, NEVER};
//! use heaptape::{replay::replay, tape::Tape};
//!
//! let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/golden/v1.tape");
//! let tape = Tape::open(path.as_ref())?;
//! let heap = replay(&tape, path, &|_, _| ());
//! let rows = (0..heap.allocations.len() as u32).map(|row| heap.allocations.get(AllocIx(row)));
//! let (freed, kept): (Vec<_>, Vec<_>) = rows.partition(|row| row.death != NEVER);
//! assert_eq!((freed.len(), kept.len()), (10, 6));
//! // Of those that ended, these were replaced by another block, so that a free must have been missed.
//! assert_eq!(freed.iter().filter(|row| row.flags.has(Flags::LOST_FREE)).count(), 6);
//! # Ok::<(), heaptape::tape::OpenError>(())
//! ```

pub mod ci;
pub mod cli;
pub mod index;
pub mod perform;
pub mod query;
pub mod receive;
pub mod replay;
pub mod report;
pub mod symbols;
pub mod table;
pub mod tape;
pub mod text;

/// Held by tests that measure the memory of their whole process, or change it by much.
#[cfg(test)]
pub(crate) static MEMORY: std::sync::Mutex<()> = std::sync::Mutex::new(());
