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
//! | [`cli`] | the command line | all of the above |
//!
//! The engine knows nothing of the terminal. Results depend on the tape and the question alone, never on the number of threads.
//! A tape is hostile input: nothing in it makes the engine panic or hang, and its text is escaped where it comes in ([`text::Text`]).

pub mod ci;
pub mod cli;
pub mod index;
pub mod query;
pub mod replay;
pub mod report;
pub mod symbols;
pub mod table;
pub mod tape;
pub mod text;
