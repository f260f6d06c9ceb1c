//! Folding tapes in memory, and tapes worth folding.

use super::program::{Program, Random};
use heaptape_format::fold::rehead;
use heaptape_format::record::{Process, ProcessEnd, ProcessOrigin, Thread};
use heaptape_format::*;

/// Folds everything before the block that begins at `cut`.
pub fn fold(tape: &[u8], cut: u64) -> Vec<u8> {
    let found = scan(tape).expect("it is a tape");
    let mut folder = Folder::new(&found.header);
    for block in found.blocks.iter().filter(|block| block.offset < cut) {
        folder.take(tape, block);
    }
    let mut out = Vec::new();
    let options = WriterOptions {
        block_events: 500,
        ..WriterOptions::default()
    };
    let stamp = folder.finish(options, |bytes| {
        out.extend_from_slice(bytes);
        true
    });
    let mut stamp = stamp.expect("nothing has stopped it");
    let first = found
        .blocks
        .iter()
        .find(|block| block.offset == cut)
        .expect("a block begins there");
    let mut rest = tape[cut as usize..].to_vec();
    assert_eq!(rehead(&mut rest, first.generation, &mut stamp), rest.len());
    out.extend_from_slice(&rest);
    out
}

/// Where generations begin.
pub fn cuts(tape: &[u8]) -> Vec<(u64, u64)> {
    let blocks = scan(tape).expect("it is a tape").blocks;
    let begins = blocks.windows(2).filter(|pair| pair[1].generation > pair[0].generation);
    begins.map(|pair| (pair[1].offset, pair[1].first_event.get())).collect()
}

pub fn record_process(writer: &mut Writer, pid: u32, origin: ProcessOrigin, threads: u32) {
    let process = Process {
        pid,
        origin,
        ..Process::default()
    };
    writer.record(Micros(0), Record::Process(process));
    for tid in 0..threads {
        let thread = Thread {
            process: ProcessIx(pid),
            tid,
            name: Vec::new(),
        };
        writer.record(Micros(0), Record::Thread(thread));
    }
}

/// The made-up program in several generations of stacks.
pub fn program_tape(seed: u64, of_objects: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = super::writer(700, &mut out);
    record_process(&mut writer, 0, ProcessOrigin::Exec, 3);
    let mut program = if of_objects {
        Program::of_objects(seed, 3)
    } else {
        Program::new(seed, 3)
    };
    for _ in 0..6 {
        for event in program.events(&mut writer, 5_000) {
            writer.event(&event, &mut out);
        }
        writer.new_generation(&mut out);
        program.forget_stacks();
    }
    writer.finish(&End::default(), &mut out);
    out
}

/// Processes that fork, with few addresses, so that everything happens to each of them; frees that were not seen, mappings that are cut.
pub fn family_tape(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut out = Vec::new();
    let mut writer = super::writer(61, &mut out);
    record_process(&mut writer, 0, ProcessOrigin::Exec, 1);
    let mut alive = vec![0];
    let mut heaps: Vec<Vec<u64>> = vec![Vec::new()];
    for number in 0..6000u64 {
        if number % 1000 == 999 {
            writer.new_generation(&mut out);
        }
        let frame = Frame::Raw {
            process: ProcessIx(0),
            address: Address(random.below(40)),
        };
        let frame = writer.frame(frame);
        let stack = writer.stack(StackId::ROOT, frame);
        let process = alive[random.below(alive.len() as u64) as usize];
        let children = heaps.len() as u32;
        let heap = &mut heaps[process as usize];
        let address = Address(0x1000 + random.below(50) * 16);
        let size = Bytes(1 + random.below(500));
        let api = AllocApi::Malloc;
        let time = Micros(number * 2);
        let page = Address((0x100 + random.below(30)) * 4096);
        let length = Bytes((1 + random.below(6)) * 4096);
        let is_live = heap.contains(&address.get());
        let op = match random.below(100) {
            0 if alive.len() < 6 => {
                let copy = heap.clone();
                heaps.push(copy);
                alive.push(children);
                record_process(&mut writer, children, ProcessOrigin::Fork(ProcessIx(process)), 1);
                continue;
            }
            1 if alive.len() > 1 => {
                alive.retain(|&other| other != process);
                let end = Record::ProcessEnd {
                    process: ProcessIx(process),
                    end: ProcessEnd::Gone,
                };
                writer.record(time, end);
                continue;
            }
            2..5 => Op::Map {
                api: MapApi::Anonymous,
                address: page,
                length,
                stack,
            },
            5..8 => Op::Unmap { address: page, length },
            8..11 => {
                heap.push(address.get());
                Op::Alloc {
                    api,
                    address,
                    size,
                    stack,
                }
            }
            11..20 if is_live => Op::Resize {
                api: AllocApi::Realloc,
                address,
                size,
                stack,
            },
            _ if is_live => {
                heap.retain(|&other| other != address.get());
                Op::Free { address }
            }
            _ => {
                heap.push(address.get());
                Op::Alloc {
                    api,
                    address,
                    size,
                    stack,
                }
            }
        };
        let thread = ThreadIx(process);
        writer.event(&Event { time, thread, op }, &mut out);
    }
    writer.finish(&End::default(), &mut out);
    out
}
