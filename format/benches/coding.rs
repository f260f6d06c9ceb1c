//! What the coding costs, in bytes and in time, on one core:
//!
//!     cargo bench -p heaptape-format -- [TAPE...]
//!
//! Without arguments on made-up programs; with tapes, on their events, coded anew.

#[path = "../tests/common/program.rs"]
#[allow(dead_code)]
mod program;

use heaptape_format::record::{Process, Thread};
use heaptape_format::*;
use program::Program;
use std::time::Instant;

/// Processor time of this thread so far, seconds: other programs on the machine hardly disturb it. Wall time where the system does not tell.
fn seconds(start: Instant) -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|told| told.split(' ').next()?.parse::<f64>().ok());
    nanos.map_or_else(|| start.elapsed().as_secs_f64(), |nanos| nanos / 1e9)
}

/// How often each measurement is taken; the best counts.
const ROUNDS: usize = 7;

fn writer(out: &mut Vec<u8>) -> Writer {
    let mut writer = Writer::new(&Header::default(), WriterOptions::default(), out);
    writer.record(Micros(0), Record::Process(Process::default()));
    writer
}

fn measure(name: &str, threads: u32, prepare: impl Fn(&mut Writer) -> Vec<Event>) {
    let begin = Instant::now();
    let mut encode = f64::MAX;
    let mut tape = Vec::new();
    let mut count = 0;
    for _ in 0..ROUNDS {
        tape.clear();
        let mut writer = writer(&mut tape);
        for tid in 0..threads {
            let thread = Thread {
                process: ProcessIx(0),
                tid,
                name: Vec::new(),
            };
            writer.record(Micros(0), Record::Thread(thread));
        }
        let events = prepare(&mut writer);
        count = events.len();
        let start = seconds(begin);
        for event in &events {
            writer.event(event, &mut tape);
        }
        writer.flush(&mut tape);
        encode = encode.min(seconds(begin) - start);
        writer.finish(&End::default(), &mut tape);
    }
    let scan = scan(&tape).expect("it is a tape");
    let mut columns = EventColumns::default();
    let mut decode = f64::MAX;
    for _ in 0..ROUNDS {
        let start = seconds(begin);
        for block in scan.blocks.iter().filter(|block| block.kind == BlockKind::Events) {
            read_events(&tape, block, &mut columns).expect("it is whole");
        }
        decode = decode.min(seconds(begin) - start);
    }
    let bytes = |kind| -> u64 {
        scan.blocks
            .iter()
            .filter(|block| block.kind == kind)
            .map(|block| block.length)
            .sum()
    };
    let nodes = scan.blocks.last().map_or(0, |block| block.stacks);
    let per_event = |bytes: u64| bytes as f64 / count as f64;
    let nanos = |seconds: f64| seconds * 1e9 / count as f64;
    println!(
        "{name:<24} {count:>9} events  {:5.3} B/event (stacks {:5.3}, {nodes} nodes)  encode {:5.1} ns/event  decode {:5.1} ns/event",
        per_event(tape.len() as u64),
        per_event(bytes(BlockKind::Stacks)),
        nanos(encode),
        nanos(decode),
    );
}

/// Reads a tape and brings its stacks and events to a new writer.
fn reencode(path: &str) {
    let tape = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let old = scan(&tape).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut events = Vec::new();
    let mut records = Vec::new();
    let mut threads = 0;
    let mut columns = EventColumns::default();
    for block in old.blocks.iter().filter(|block| block.generation == 0) {
        match read_tables(&tape, block) {
            Ok(found) => records.extend(found),
            Err(damage) => println!("{path}: {damage}"),
        }
        if block.kind == BlockKind::Events {
            match read_events(&tape, block, &mut columns) {
                Ok(()) => events.extend(columns.iter()),
                Err(damage) => println!("{path}: {damage}"),
            }
        }
    }
    for placed in &records {
        threads += u32::from(matches!(placed.record, Record::Thread(_)));
    }
    measure(path.rsplit('/').next().unwrap_or(path), threads, |writer| {
        for placed in &records {
            if let Record::Stacks(stacks) = &placed.record {
                for &frame in &stacks.frames {
                    writer.frame(frame);
                }
                for (&parent, &frame) in stacks.parents.iter().zip(&stacks.frame_ids) {
                    writer.stack(parent, frame);
                }
            }
        }
        events.clone()
    });
}

fn main() {
    let tapes: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    for tape in &tapes {
        reencode(tape);
    }
    if tapes.is_empty() {
        for threads in [1, 4] {
            measure(&format!("made up, threads: {threads}"), threads as u32, |writer| {
                Program::new(1, threads).events(writer, 2_000_000)
            });
        }
        measure("objects with types", 1, |writer| {
            Program::of_objects(1, 1).events(writer, 2_000_000)
        });
    }
}
