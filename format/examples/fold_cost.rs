//! What folding a whole tape into a keyframe costs: `cargo run --release -p heaptape-format --example fold_cost -- TAPE...`
//!
//! Time is what a clock on the wall shows, memory the most that the process ever had, with the tape itself in it.

use heaptape_format::{scan, Folder, WriterOptions};
use std::time::Instant;

/// A line of `/proc/self/status`, KiB.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn main() {
    for path in std::env::args().skip(1) {
        let tape = match std::fs::read(&path) {
            Ok(tape) => tape,
            Err(error) => {
                eprintln!("{path}: {error}");
                std::process::exit(2);
            }
        };
        let found = match scan(&tape[..]) {
            Ok(found) => found,
            Err(error) => {
                eprintln!("{path}: {error}");
                std::process::exit(2);
            }
        };
        let events: u64 = found.blocks.iter().map(|block| u64::from(block.span())).sum();
        let before = status("VmRSS:");
        let begun = Instant::now();
        let mut folder = Folder::new(&found.header);
        for block in &found.blocks {
            folder.take(&tape[..], block);
        }
        let live = folder.live();
        let read = begun.elapsed();
        let mut length = 0;
        folder.finish(WriterOptions::default(), |bytes| {
            length += bytes.len();
            true
        });
        let all = begun.elapsed();
        println!(
            "{path}: {events} events of {} bytes, {live} blocks alive: keyframe of {length} bytes; {:.1} ns an event, and {:.1} ms to write it; {} KiB beside the tape",
            tape.len(),
            read.as_nanos() as f64 / events.max(1) as f64,
            (all - read).as_secs_f64() * 1e3,
            status("VmHWM:").saturating_sub(before)
        );
    }
}
