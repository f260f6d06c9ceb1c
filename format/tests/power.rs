//! The power fails: of what was written last, a disk holds some pages and not others, in no order, and a length that need not fit. Whatever is found then,
//! nothing panics, no event is read that was not written, and what is missing is named.

mod common;

use common::Reading;
use heaptape_format::*;

const PAGE: usize = 4096;

/// A generator of numbers: the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// A tape of many pages, whose blocks are larger and smaller than one.
fn long_tape(seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    let mut tape = Vec::new();
    let header = Header {
        writer: format!("test {seed}"),
        ..Header::default()
    };
    let options = WriterOptions {
        block_events: 2000,
        ..WriterOptions::default()
    };
    let mut writer = Writer::new(&header, options, &mut tape);
    for number in 0..20_000u64 {
        let frame = writer.frame(Frame::Raw {
            process: ProcessIx(0),
            address: Address(dice.below(1 << 40)),
        });
        let stack = writer.stack(StackId::ROOT, frame);
        let op = Op::Alloc {
            api: AllocApi::Malloc,
            address: Address(dice.below(1 << 45)),
            size: Bytes(dice.below(100_000)),
            stack,
        };
        let event = Event {
            time: Micros(number * 3),
            thread: ThreadIx(0),
            op,
        };
        writer.event(&event, &mut tape);
        if dice.below(1500) == 0 {
            writer.flush(&mut tape);
        }
    }
    writer.finish(
        &End {
            events: 20_000,
            ..End::default()
        },
        &mut tape,
    );
    tape
}

/// What a disk may hold of a tape when the power has failed: all up to `synced`, of the pages behind it those that had come to the disk. In the place of the others
/// there are zeros, or what lay there before.
fn image(tape: &[u8], before: &[u8], synced: usize, dice: &mut Dice) -> Vec<u8> {
    let length = synced + dice.below((tape.len() - synced) as u64 + 1) as usize;
    let mut image = tape[..length].to_vec();
    let often = dice.below(4) + 1;
    let first = synced.div_ceil(PAGE);
    for start in (first..length.div_ceil(PAGE)).map(|page| page * PAGE) {
        let end = (start + PAGE).min(length);
        match dice.below(often + 2) {
            0 => image[start..end].fill(0),
            1 => image[start..end].copy_from_slice(&before[start..end]),
            _ => {}
        }
    }
    image
}

#[test]
fn at_every_sync_point_what_was_synced_is_read_whatever_became_of_the_rest() {
    let tape = long_tape(3);
    let whole = Reading::of(&tape).expect("it is a tape");
    let zeros = vec![0; tape.len()];
    let mut other = long_tape(4);
    other.resize(tape.len(), 0);
    let mut dice = Dice(362_436_069);
    let blocks = scan(&tape).expect("it is a tape").blocks;
    let mut safe = 0;
    for block in &blocks[1..] {
        let synced = (block.offset + block.length) as usize;
        safe += block.events as usize;
        for before in [&zeros, &other] {
            for _ in 0..8 {
                let image = image(&tape, before, synced, &mut dice);
                let reading = Reading::of(&image).expect("its first blocks are there");
                assert_eq!(
                    reading.events[..safe],
                    whole.events[..safe],
                    "synced up to byte {synced}"
                );
                // Of the rest nothing is made up.
                let as_written =
                    |(number, event): &(EventNo, Event)| whole.events[number.get() as usize] == (*number, *event);
                assert!(reading.events[safe..].iter().all(as_written));
            }
        }
    }
    assert_eq!(safe, whole.events.len());
}

#[test]
fn whatever_pages_of_a_tape_reached_the_disk_nothing_is_made_up_and_what_is_missing_is_named() {
    let tape = long_tape(1);
    // What was there before is zeros, or the worst that it could be: another tape.
    let zeros = vec![0; tape.len()];
    let mut other = long_tape(2);
    other.resize(tape.len(), 0);
    assert!(tape.len() > 40 * PAGE);
    let whole = Reading::of(&tape).expect("it is a tape");
    let blocks = scan(&tape).expect("it is a tape").blocks;
    let mut dice = Dice(88_172_645_463_325_252);
    let (mut torn, mut gone) = (0, 0);
    for round in 0..400 {
        let synced = [0, dice.below(tape.len() as u64) as usize][round % 2];
        let before = [&zeros, &other][round / 2 % 2];
        let image = image(&tape, before, synced, &mut dice);
        // Of the blocks that are there byte for byte, every event is read.
        let is_there = |block: &&Block| {
            let range = block.offset as usize..(block.offset + block.length) as usize;
            image.get(range.clone()) == Some(&tape[range])
        };
        let there: Vec<&Block> = blocks.iter().filter(is_there).collect();
        let Ok(reading) = Reading::of(&image) else {
            assert!(!there.iter().any(|block| block.offset == 0), "round {round}");
            gone += 1;
            continue;
        };
        // What begins with a block of the other tape is read as that.
        if before == &other && !there.iter().any(|block| block.offset == 0) {
            continue;
        }
        let events: u64 = there.iter().map(|block| u64::from(block.events)).sum();
        assert_eq!(reading.events.len() as u64, events, "round {round}");
        let as_written = |(number, event): &(EventNo, Event)| whole.events[number.get() as usize] == (*number, *event);
        assert!(reading.events.iter().all(as_written), "round {round}");
        if there.len() < blocks.len() {
            torn += 1;
            let unclean = matches!(reading.ending, Ending::Unclean { .. });
            assert!(unclean || !reading.damage.is_empty(), "round {round}");
        }
        if reading.is_clean() {
            assert_eq!(
                reading.lost(),
                Some(whole.events.len() as u64 - events),
                "round {round}"
            );
        }
    }
    assert!(torn > 200 && gone > 0, "{torn} torn, {gone} gone");
}
