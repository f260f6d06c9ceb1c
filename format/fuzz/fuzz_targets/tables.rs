//! The content of a block of records or stacks, behind checksums that hold. The first byte chooses the kind, the next three what its header counts.
#![no_main]

#[path = "../../tests/common/forge.rs"]
#[allow(dead_code)]
mod forge;

use forge::Forged;
use heaptape_format::{read_tables, scan, Header, Record, Writer, WriterOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[kind, records, frames, stacks], raw)) = data.split_first_chunk() else {
        return;
    };
    let mut tape = Vec::new();
    drop(Writer::new(&Header::default(), WriterOptions::tiny(), &mut tape));
    let place = Forged::like(&tape);
    let block = Forged {
        kind: 2 + kind % 2,
        sequence: 2,
        records: u32::from(records),
        frames: u32::from(frames),
        stacks: u32::from(stacks),
        ..place
    };
    tape.extend(block.block(raw));
    let Ok(found) = scan(tape.as_slice()) else { return };
    for block in &found.blocks {
        for placed in read_tables(&tape, block).into_iter().flatten() {
            if let Record::Stacks(new) = placed.record {
                let own = new.first_stack.get()..;
                assert!(own.zip(&new.parents).all(|(own, parent)| parent.get() < own));
                assert!(new.frame_ids.iter().all(|frame| frame.get() < u32::from(frames)));
            }
        }
    }
});
