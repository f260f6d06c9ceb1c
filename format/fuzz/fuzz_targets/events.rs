//! The columns of an events block, behind checksums that hold. The input: ten lengths of two bytes, then the columns.
#![no_main]

#[path = "../../tests/common/forge.rs"]
#[allow(dead_code)]
mod forge;

use forge::Forged;
use heaptape_format::{read_events, scan, EventColumns, Header, Writer, WriterOptions, NO_BIRTH};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((lengths, mut rest)) = data.split_at_checked(20) else {
        return;
    };
    let mut columns = Vec::new();
    for length in lengths.chunks(2) {
        let length = usize::from(u16::from_le_bytes([length[0], length[1]])).min(rest.len());
        let (column, after) = rest.split_at(length);
        columns.push(column.to_vec());
        rest = after;
    }
    let events = columns[0].len() as u32;
    let weight = forge::weight(&columns[0]);
    let mut tape = Vec::new();
    drop(Writer::new(&Header::default(), WriterOptions::tiny(), &mut tape));
    let place = Forged::like(&tape);
    // The time at the end is not known before: both bounds the same fits when there is no step.
    let block = Forged {
        kind: 4,
        sequence: 2,
        events,
        weight,
        stacks: 1000,
        ..place
    };
    tape.extend(block.block(&forge::joined(&columns)));
    let Ok(found) = scan(tape.as_slice()) else { return };
    let mut columns = EventColumns::default();
    for block in &found.blocks {
        if read_events(&tape, block, &mut columns).is_ok() {
            for (index, &birth) in columns.birth.iter().enumerate() {
                assert!(birth == NO_BIRTH || ((birth as usize) < index && columns.op[birth as usize].is_birth()));
            }
            assert!(columns.stack.iter().all(|stack| stack.get() <= 1000));
            assert_eq!(columns.iter().count(), columns.len());
        }
    }
});
