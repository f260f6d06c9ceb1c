//! What the collector costs per event, on one processor, by its parts: `cargo run --release -p heaptape-collector --example drain_cost -- [TAPE...]`.
//!
//! Made-up threads fill the rings between the rounds; only the rounds are measured. The writer alone is measured with the same events, so that the difference is the drain's.
//! With tapes, their allocations, frees and stacks go through the rings again, as the programs had written them (frees, resizes and blocks in the order of the tape).

use heaptape_collector::drain::{Drain, Scribe};
use heaptape_collector::host::linux::Linux;
use heaptape_collector::sys::{shared, stamp};
use heaptape_format::record::Header;
use heaptape_format::{read_events, read_tables, scan, BlockKind, EventColumns, Record};
use heaptape_format::{Address, AllocApi, Bytes, Event, Micros, Op, StackId, ThreadIx, Writer, WriterOptions};
use heaptape_shm::entry::{flag, kind, Head};
use heaptape_shm::ring::Producer;
use heaptape_shm::{Geometry, Segment, NONE};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Entries written between two rounds.
const BATCH: usize = 20_000;
const ROUNDS: usize = 200;
/// Inner frames that change from one event to the next.
const FRESH_FRAMES: usize = 3;

/// CPU time of this thread: other programs on the machine do not count.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }
}

/// The address and size of the next block, drawn like those of a program that reuses a few hundred places.
fn block(dice: &mut Dice) -> (u64, u64) {
    let place = dice.roll(512);
    (0x5555_0000_0000 + place * 1024, 16 + place % 700)
}

fn put(producer: &mut Producer, segment: &Segment, index: u32, words: &[u64]) {
    let slot = &segment.threads()[index as usize];
    let room = producer
        .reserve(segment, slot, index, words.len())
        .expect("a batch fits into the pool");
    for (place, word) in room.iter().zip(words) {
        place.store(*word, Ordering::Relaxed);
    }
    producer.publish(words.len());
}

fn drained(threads: usize, stacks: bool) -> f64 {
    let (_file, segment) = shared::create(Geometry::for_pool(8 << 20)).expect("shared memory");
    let process = segment
        .claim_process(std::process::id(), 0, NONE, stamp::now())
        .expect("a slot");
    let tid = std::process::id();
    let slots: Vec<u32> = (0..threads)
        .map(|level| segment.claim_thread(process, tid, level as u32).expect("a slot"))
        .collect();
    let mut producers = vec![Producer::new(); threads];
    let mut depths = vec![0usize; threads];
    let mut out = Vec::new();
    let writer = Writer::new(&Header::default(), WriterOptions::default(), &mut out);
    let mut drain = Drain::new(segment, Scribe::new(Linux::default(), writer, out));
    let mut dice = Dice(1);
    let mut spent = Duration::ZERO;
    for _ in 0..ROUNDS {
        for step in 0..BATCH {
            let at = step % threads;
            let (address, size) = block(&mut dice);
            let now = stamp::now();
            if step % 2 == 1 {
                let head = Head {
                    kind: kind::FREE,
                    api: 0,
                    push: 0,
                    pop: 0,
                    flags: 0,
                };
                put(&mut producers[at], &segment, slots[at], &[head.pack(), now, address]);
                continue;
            }
            let mut head = Head {
                kind: kind::ALLOC,
                api: 0,
                push: 0,
                pop: 0,
                flags: 0,
            };
            let mut words = vec![head.pack(), now, address, size];
            if stacks {
                let push = if depths[at] == 0 { 20 } else { FRESH_FRAMES };
                (head.pop, head.push) = if depths[at] == 0 {
                    (0, 20)
                } else {
                    (FRESH_FRAMES as u16, FRESH_FRAMES as u16)
                };
                head.flags = if depths[at] == 0 { flag::RESET } else { 0 };
                depths[at] = 20;
                words[0] = head.pack();
                words.extend((0..push).map(|_| 0x7f00_0000_0000 + dice.roll(12) * 64));
            }
            put(&mut producers[at], &segment, slots[at], &words);
        }
        // Past the margin by which the watermark stays behind the clock.
        std::thread::sleep(Duration::from_millis(1));
        let start = cpu();
        let taken = drain.round().taken;
        spent += cpu() - start;
        assert_eq!(taken as usize, BATCH);
        drain.scribe.out.clear();
    }
    spent.as_nanos() as f64 / (BATCH * ROUNDS) as f64
}

fn written() -> f64 {
    let mut out = Vec::new();
    let mut writer = Writer::new(&Header::default(), WriterOptions::default(), &mut out);
    let mut dice = Dice(1);
    let mut spent = Duration::ZERO;
    let mut time = 0;
    for _ in 0..ROUNDS {
        let events: Vec<Event> = (0..BATCH)
            .map(|step| {
                let (address, size) = block(&mut dice);
                time += u64::from(step % 8 == 0);
                let op = if step % 2 == 1 {
                    Op::Free {
                        address: Address(address),
                    }
                } else {
                    let (api, stack) = (AllocApi::Malloc, StackId::ROOT);
                    Op::Alloc {
                        api,
                        address: Address(address),
                        size: Bytes(size),
                        stack,
                    }
                };
                Event {
                    time: Micros(time),
                    thread: ThreadIx(0),
                    op,
                }
            })
            .collect();
        let start = cpu();
        for event in &events {
            writer.event(event, &mut out);
        }
        spent += cpu() - start;
        out.clear();
    }
    spent.as_nanos() as f64 / (BATCH * ROUNDS) as f64
}

/// The events and the trie of a tape's first generation. A frame is the number of its kind, as an address.
struct Recorded {
    events: Vec<Event>,
    parents: Vec<u32>,
    frames: Vec<u64>,
}

fn recorded(path: &str) -> Recorded {
    let tape = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut found = Recorded {
        events: Vec::new(),
        parents: vec![0],
        frames: vec![0],
    };
    let mut columns = EventColumns::default();
    let blocks = scan(&tape).unwrap_or_else(|error| panic!("{path}: {error}")).blocks;
    for block in blocks.iter().filter(|block| block.generation == 0) {
        for placed in read_tables(&tape, block).unwrap_or_default() {
            if let Record::Stacks(stacks) = placed.record {
                found.parents.extend(stacks.parents.iter().map(|parent| parent.get()));
                let addresses = stacks
                    .frame_ids
                    .iter()
                    .map(|frame| 0x7f00_0000_0000 + u64::from(frame.get()) * 20);
                found.frames.extend(addresses);
            }
        }
        if block.kind == BlockKind::Events && read_events(&tape, block, &mut columns).is_ok() {
            found.events.extend(columns.iter());
        }
    }
    found
}

/// Frames to pop and to push, outermost first, that lead from one stack to another.
fn difference(recorded: &Recorded, mut from: u32, mut to: u32, push: &mut Vec<u64>) -> u16 {
    let parent = |node: u32| recorded.parents[node as usize];
    push.clear();
    let mut pop = 0;
    // A parent has a lower number than its children.
    while from != to {
        if from > to {
            from = parent(from);
            pop += 1;
        } else {
            push.push(recorded.frames[to as usize]);
            to = parent(to);
        }
    }
    push.reverse();
    pop
}

/// Nanoseconds per event of the drain, events drained, and bytes written.
fn replayed(recorded: &Recorded) -> (f64, usize, usize) {
    let (_file, segment) = shared::create(Geometry::for_pool(8 << 20)).expect("shared memory");
    let process = segment
        .claim_process(std::process::id(), 0, NONE, stamp::now())
        .expect("a slot");
    let threads = recorded
        .events
        .iter()
        .map(|event| event.thread.get())
        .max()
        .unwrap_or(0) as usize
        + 1;
    let slots: Vec<u32> = (0..threads)
        .map(|level| {
            segment
                .claim_thread(process, std::process::id(), level as u32)
                .expect("a slot")
        })
        .collect();
    let mut producers = vec![Producer::new(); threads];
    let mut stacks = vec![None; threads];
    let mut out = Vec::new();
    let writer = Writer::new(&Header::default(), WriterOptions::default(), &mut out);
    let mut drain = Drain::new(segment, Scribe::new(Linux::default(), writer, out));
    let (mut spent, mut count, mut bytes) = (Duration::ZERO, 0, 0);
    let mut push = Vec::new();
    for batch in recorded.events.chunks(BATCH) {
        for event in batch {
            let at = event.thread.get() as usize;
            let mut head = Head {
                kind: kind::FREE,
                api: 0,
                push: 0,
                pop: 0,
                flags: 0,
            };
            let now = stamp::now();
            match event.op {
                Op::Alloc {
                    api,
                    address,
                    size,
                    stack,
                }
                | Op::MoveIn {
                    api,
                    address,
                    size,
                    stack,
                } => {
                    let from = stacks[at].replace(stack.get());
                    head.pop = difference(recorded, from.unwrap_or(0), stack.get(), &mut push);
                    head.flags = u16::from(from.is_none()) * flag::RESET;
                    (head.kind, head.api, head.push) = (kind::ALLOC, api as u8, push.len() as u16);
                    let mut words = vec![head.pack(), now, address.get(), size.get()];
                    words.extend(&push);
                    put(&mut producers[at], &segment, slots[at], &words);
                }
                Op::Free { address } | Op::MoveOut { address } => {
                    put(
                        &mut producers[at],
                        &segment,
                        slots[at],
                        &[head.pack(), now, address.get()],
                    );
                }
                _ => {}
            }
        }
        std::thread::sleep(Duration::from_millis(1));
        let start = cpu();
        count += drain.round().taken as usize;
        spent += cpu() - start;
        bytes += drain.scribe.out.len();
        drain.scribe.out.clear();
    }
    (spent.as_nanos() as f64 / count as f64, count, bytes)
}

/// The best of so many rounds counts.
const REPLAYS: usize = 5;

fn main() {
    let tapes: Vec<String> = std::env::args().skip(1).collect();
    for path in &tapes {
        let recorded = recorded(path);
        let rounds: Vec<_> = (0..REPLAYS).map(|_| replayed(&recorded)).collect();
        let best = rounds.iter().map(|round| round.0).fold(f64::MAX, f64::min);
        let (_, count, bytes) = rounds[0];
        println!(
            "{path}: {count} events, {best:.1} ns per event, {:.3} bytes per event",
            bytes as f64 / count as f64
        );
    }
    if !tapes.is_empty() {
        return;
    }
    let encode = written();
    let merge_one = drained(1, false) - encode;
    let merge_four = drained(4, false) - encode;
    let stacks = drained(1, true) - encode - merge_one;
    println!("ns per event: encode and compress {encode:.1}, merge {merge_one:.1} (1 thread), {merge_four:.1} (4 threads in turns), stacks {stacks:.1} more");
}
