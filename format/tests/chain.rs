//! The files that a recording was cut into, read as one tape, are the tape that was not cut.

mod common;

use common::fold::{cuts, family_tape, program_tape};
use common::program::Random;
use common::Reading;
use heaptape_format::fold::rehead;
use heaptape_format::*;

/// Cuts a tape into files where its generations begin, as the recorder does: of each file the blocks from the cut on are written anew behind a keyframe of all that is before it. The file goes on for `more`
/// blocks that the next one has, too.
fn cut_up(tape: &[u8], more: usize) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    let mut rest = tape.to_vec();
    for number in 2.. {
        let found = scan(&rest).expect("it is a tape");
        let Some(cut) = (1..found.blocks.len()).find(|&at| {
            let (before, block) = (&found.blocks[at - 1], &found.blocks[at]);
            // Where the keyframe of this file ends, it was cut already.
            block.generation > before.generation && before.kind != BlockKind::Folded
        }) else {
            break;
        };
        let first = found.blocks[cut];
        let mut folder = Folder::new(&found.header);
        found.blocks[..cut].iter().for_each(|block| folder.take(&rest, block));
        folder.begins(Part {
            number,
            continues: first.sequence,
        });
        let mut next = Vec::new();
        let stamp = folder.finish(WriterOptions::default(), |bytes| {
            next.extend_from_slice(bytes);
            true
        });
        let mut moved = rest.split_off(first.offset as usize);
        rest.extend_from_slice(
            &moved[..found
                .blocks
                .get(cut + more)
                .map_or(0, |block| block.offset - first.offset) as usize],
        );
        files.push(rest);
        rehead(
            &mut moved,
            first.generation,
            &mut stamp.expect("nothing has stopped it"),
        );
        next.extend_from_slice(&moved);
        rest = next;
    }
    files.push(rest);
    files
}

fn joined(files: &[Vec<u8>], first: u32) -> Result<Chain<Vec<u8>>, NotAChain> {
    let files = files
        .iter()
        .map(|file| (file.clone(), scan(file).expect("it is a tape")));
    Chain::new(files.collect(), first)
}

fn bytes(chain: &Chain<Vec<u8>>) -> Vec<u8> {
    let mut bytes = vec![0; chain.len() as usize];
    chain.read_at(0, &mut bytes).expect("they are there");
    bytes
}

#[test]
fn the_files_of_a_recording_together_are_byte_for_byte_the_tape_that_was_not_cut() {
    for tape in [program_tape(3, false), program_tape(4, true), family_tape(5)] {
        for more in [0, 1, 3] {
            let files = cut_up(&tape, more);
            assert!(files.len() > 4);
            for file in &files {
                assert_eq!(Reading::of(file).unwrap().damage, []);
            }
            assert!(bytes(&joined(&files, 1).unwrap()) == tape, "{more} blocks twice");
        }
    }
}

#[test]
fn any_piece_of_the_whole_reads_as_the_whole_does() {
    let tape = family_tape(6);
    let chain = joined(&cut_up(&tape, 2), 1).unwrap();
    let mut random = Random::new(7);
    for _ in 0..2000 {
        let from = random.below(tape.len() as u64) as usize;
        let until = from + random.below(400.min(tape.len() - from + 1) as u64) as usize;
        let mut piece = vec![0; until - from];
        chain.read_at(from as u64, &mut piece).unwrap();
        assert_eq!(piece, tape[from..until], "{from} to {until}");
    }
    assert!(chain.read_at(tape.len() as u64, &mut [0]).is_err());
    assert!(chain.read_at(u64::MAX, &mut [0, 0]).is_err());
}

#[test]
fn without_its_first_files_a_recording_begins_with_a_keyframe_and_goes_on_the_same() {
    let tape = program_tape(8, false);
    let files = cut_up(&tape, 1);
    let whole = Reading::of(&tape).unwrap();
    for first in 1..files.len() {
        let rest = bytes(&joined(&files[first..], first as u32 + 1).unwrap());
        let reading = Reading::of(&rest).unwrap();
        assert_eq!(reading.damage, []);
        assert_eq!(reading.ending, whole.ending);
        let from = whole.events.len() - reading.events.len();
        assert_eq!(from as u64, cuts(&tape)[first - 1].1);
        for (one, other) in reading.events.iter().zip(&whole.events[from..]) {
            let what = |(number, event): &(EventNo, Event)| (*number, event.time, event.thread);
            assert_eq!(what(one), what(other));
        }
    }
}

#[test]
fn files_that_are_missing_strange_or_in_disorder_are_refused() {
    let files = cut_up(&program_tape(9, false), 1);
    let without = [files[..2].to_vec(), files[3..].to_vec()].concat();
    let refusal = joined(&without, 1).err();
    assert_eq!(
        refusal,
        Some(NotAChain::OtherPart {
            file: 2,
            expected: 3,
            found: 4
        })
    );
    let turned = [files[1].clone(), files[0].clone()];
    assert!(matches!(joined(&turned, 1), Err(NotAChain::OtherPart { file: 0, .. })));
    let mut other = Vec::new();
    let header = Header {
        host: "another".into(),
        ..Header::default()
    };
    Writer::new(&header, WriterOptions::default(), &mut other).finish(&End::default(), &mut other);
    assert_eq!(
        joined(&[files[0].clone(), other], 1).err(),
        Some(NotAChain::OtherRecording { file: 1 })
    );
}

#[test]
fn a_file_that_has_lost_its_end_is_damage_of_the_whole_whose_events_are_counted() {
    let tape = program_tape(10, false);
    let mut files = cut_up(&tape, 0);
    let found = scan(&files[1][..]).unwrap();
    let events: Vec<_> = found.blocks.iter().filter(|block| block.events > 0).collect();
    let lost = events[events.len() - 2..]
        .iter()
        .map(|block| u64::from(block.events))
        .sum::<u64>();
    files[1].truncate(events[events.len() - 2].offset as usize + 50);
    let reading = Reading::of(&bytes(&joined(&files, 1).unwrap())).unwrap();
    assert_eq!(reading.lost(), Some(lost));
    assert!(!reading.damage.is_empty());
}

#[test]
fn no_damage_makes_the_whole_panic_or_larger_than_its_files() {
    let files = cut_up(&family_tape(11), 1);
    let mut random = Random::new(12);
    for _ in 0..300 {
        let mut files = files.clone();
        for _ in 0..1 + random.below(6) {
            let at = random.below(files.len() as u64) as usize;
            let file = &mut files[at];
            let place = random.below(file.len() as u64) as usize;
            match random.below(3) {
                0 => file.truncate(place.max(1000)),
                1 => drop(file.drain(place..(place + 500).min(file.len()))),
                _ => file[place] ^= 1 << random.below(8),
            }
        }
        let most: usize = files.iter().map(Vec::len).sum();
        let scanned: Option<Vec<_>> = files
            .into_iter()
            .map(|file| scan(&file).ok().map(|scan| (file, scan)))
            .collect();
        let Some(scanned) = scanned else { continue };
        if let Ok(chain) = Chain::new(scanned, 1) {
            let whole = bytes(&chain);
            assert!(whole.len() <= most);
            let _ = Reading::of(&whole);
        }
    }
}
