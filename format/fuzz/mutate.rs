//! Changes tapes as tapes: what a block holds, what its header says, which blocks there are. Lengths and checksums hold afterwards, so that readers look further than those.

use crate::forge::{self, Forged};
use heaptape_format::scan;
use libfuzzer_sys::fuzzer_mutate;

/// Most bytes of a block's content.
const MOST_CONTENT: usize = 1 << 20;
/// Bytes of a block's header.
const HEADER: usize = 96;
/// Kind of a block of events.
const EVENTS: u8 = 4;

/// Changes the tape that the first `size` bytes are into another of at most `most` bytes; returns its size. One time in eight, or when they are no tape, bytes are changed as they lie.
pub fn tape(data: &mut [u8], size: usize, most: usize, seed: u32) -> usize {
    let mut dice = Dice(u64::from(seed));
    if dice.roll(8) != 0 {
        let changed = changed(&data[..size], &mut dice).filter(|tape| tape.len() <= most);
        if let Some(tape) = changed {
            data[..tape.len()].copy_from_slice(&tape);
            return tape.len();
        }
    }
    fuzzer_mutate(data, size, most)
}

fn changed(tape: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let found = scan(tape).ok()?;
    let mut blocks: Vec<Vec<u8>> = found
        .blocks
        .iter()
        // The last one may be cut.
        .filter_map(|block| tape.get(block.offset as usize..(block.offset + block.length) as usize))
        .map(<[u8]>::to_vec)
        .collect();
    if blocks.is_empty() {
        return None;
    }
    let at = dice.roll(blocks.len());
    match dice.roll(10) {
        0 => drop(blocks.remove(at)),
        1 => {
            let copy = blocks[dice.roll(blocks.len())].clone();
            blocks.insert(at, copy);
        }
        2 => {
            let other = dice.roll(blocks.len());
            blocks.swap(at, other);
        }
        3 => blocks[at] = header_changed(&blocks[at], dice),
        _ => blocks[at] = content_changed(&blocks[at], dice)?,
    }
    if dice.roll(4) != 0 {
        renumber(&mut blocks);
    }
    Some(blocks.concat())
}

/// Gives blocks numbers that follow each other.
fn renumber(blocks: &mut [Vec<u8>]) {
    let mut event = 0u64;
    for (number, block) in blocks.iter_mut().enumerate() {
        let forged = Forged::like(block);
        let sound = Forged {
            sequence: number as u64,
            first_event: event.max(forged.first_event),
            raw_length: Some(raw_length(block)),
            ..forged
        };
        event = sound.first_event.saturating_add(u64::from(sound.events));
        *block = sound.stored(&block[HEADER..]);
    }
}

fn header_changed(block: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut forged = Forged::like(block);
    forged.raw_length = Some(raw_length(block));
    match dice.roll(12) {
        0 => forged.kind = dice.roll(11) as u8,
        1 => forged.flags ^= 1 << dice.roll(16),
        2 => forged.sequence = dice.number(forged.sequence),
        3 => forged.first_event = dice.number(forged.first_event),
        4 => forged.first_time = dice.number(forged.first_time),
        5 => forged.last_time = dice.number(forged.last_time),
        6 => forged.weight = dice.number(forged.weight.into()) as u32,
        7 => forged.records = dice.number(forged.records.into()) as u32,
        8 => forged.generation = dice.number(forged.generation.into()) as u32,
        9 => forged.frames = dice.number(forged.frames.into()) as u32,
        10 => forged.stacks = dice.number(forged.stacks.into()) as u32,
        _ => forged.raw_length = Some(dice.number(raw_length(block).into()) as u32),
    }
    forged.stored(&block[HEADER..])
}

fn content_changed(block: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let forged = Forged::like(block);
    let raw = zstd::bulk::decompress(&block[HEADER..], MOST_CONTENT).ok()?;
    let split = Some(&raw).filter(|_| forged.kind == EVENTS);
    let Some(mut columns) = split.and_then(|raw| columns(raw)) else {
        return Some(forged.block(&mutated(&raw)));
    };
    let column = dice.roll(columns.len());
    columns[column] = mutated(&columns[column]);
    let counted = Forged {
        events: columns[0].len() as u32,
        weight: forge::weight(&columns[0]),
        ..forged
    };
    Some(counted.block(&forge::joined(&columns)))
}

/// As libFuzzer changes bytes.
fn mutated(bytes: &[u8]) -> Vec<u8> {
    let mut room = bytes.to_vec();
    room.resize(bytes.len() + 64, 0);
    let length = fuzzer_mutate(&mut room, bytes.len(), bytes.len() + 64);
    room.truncate(length);
    room
}

/// The columns of events, if that is what these bytes are.
fn columns(raw: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = raw;
    let mut lengths = [0; 10];
    for length in &mut lengths {
        let digits = 1 + rest.iter().take(4).position(|byte| byte & 128 == 0)?;
        let (number, after) = rest.split_at(digits);
        *length = number
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 7 | usize::from(byte & 127));
        rest = after;
    }
    let mut columns = Vec::new();
    for length in lengths {
        let (column, after) = rest.split_at_checked(length)?;
        columns.push(column.to_vec());
        rest = after;
    }
    Some(columns)
}

/// What a header says of the length of its content.
fn raw_length(block: &[u8]) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|at| block[16 + at]))
}

/// Numbers from the seed of one change (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// Below `sides`, of which there is one at least.
    fn roll(&mut self, sides: usize) -> usize {
        (self.next() % sides.max(1) as u64) as usize
    }

    /// A number near another, or far away.
    fn number(&mut self, old: u64) -> u64 {
        match self.roll(6) {
            0 => old.wrapping_add(1),
            1 => old.wrapping_sub(1),
            2 => old ^ 1 << self.roll(64),
            3 => 0,
            4 => u64::MAX,
            _ => self.next(),
        }
    }
}
